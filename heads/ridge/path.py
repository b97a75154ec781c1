"""Ridge regression along a path of strengths, with leave-one-out errors in closed form, on rows in memory or on disk.

For centred features X (n, d), divided by their standard deviations if asked for, and centred targets Y (n, k), the
coefficients at strength a are W = (X'X + aI)^-1 X'Y. With X = U S V' and L = S^2, where n > d, everything is computed
from the rotated rows Z = XV, for which only X'X = V L V' has to be decomposed; where n <= d, from U of XX' = U L U'.

The error of row i by a fit without it is r_i / (1 - 1/n - h_i), where r = Y - XW is the residual of the fit with it and
h_i = sum_j z_ij^2 / (L_j + a) its leverage, the diagonal of the hat matrix; 1/n is the part of the intercept. Rows of a
group are left out together (see `heads.ridge.groups`).

References: R. Rifkin, R. Lippert, "Notes on regularized least squares", MIT-CSAIL-TR-2007-025, 2007; G. Golub,
M. Heath, G. Wahba, "Generalized cross-validation as a method for choosing a good ridge parameter", Technometrics 21,
1979; T. Chan, G. Golub, R. LeVeque, "Algorithms for computing the sample variance", The American Statistician 37, 1983.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import blas, eigh

from feature_cache.errors import BadData
from heads.ridge.chunks import Centring, RowChunks, in_threads
from heads.ridge.groups import DualGroups, PrimalGroups
from heads.threads import blas_threads, limited

# The default strengths, as multiples of the mean eigenvalue of X'X (of XX' where n <= d). On letters, glyphnet's
# held-out script, ratios from 0.05 to 10 were the best, for 3 to 110 rows of each of 23 classes and for widths from 128
# to 4,096.
RATIOS = np.logspace(-5, 3, 20)
# With fewer multiplications than this (0.2 s of one core), the threads of BLAS gain nothing: where other processes use
# the cores as well, they wait for each other more than they work.
WORTH_THREADS = 2**33
COLUMNS = 256  # the width of a product for several strengths at once; BLAS is slow with narrower ones
# In the coordinates of the eigenvectors little cancels in sums over features, however badly conditioned these are: in
# float32 a prediction errs by about 1e-7, and a leave-one-out error by that divided by 1 - 1/n - h. If a row has a
# smaller divisor than this, float64 is used, as for all results but the mean errors.
SMALLEST_DIVISOR = 0.2
EPS = np.finfo(np.float64).eps


@dataclass(frozen=True)
class RidgePath:
    """The result of ridge regression along the path.

    Attributes
    ----------
    alphas, errors : ndarray of shape (m,)
        The strengths, and the mean squared leave-one-out error of each.
    best : int
        The position of the smallest error, the first among equals.
    coef, intercept : ndarray of shape (k, d) and (k,)
        The model at the best strength, for features that are neither centred nor scaled.
    loo_predictions : ndarray of shape (n, k)
        The prediction of each row, at the best strength, by a fit without it, or without its group. Such a fit has the
        means of its own rows, and the standard deviations of all rows.
    """

    alphas: np.ndarray
    errors: np.ndarray
    best: int
    coef: np.ndarray
    intercept: np.ndarray
    loo_predictions: np.ndarray


def solve(rows: RowChunks, targets: np.ndarray, alphas: np.ndarray | None, *, scale: bool) -> RidgePath:
    """Fit the whole path, and choose the strength with the smallest mean squared leave-one-out error.

    Parameters
    ----------
    rows : RowChunks
    targets : ndarray of shape (n, k), float64
    alphas : ndarray of shape (m,), optional
        Strengths above 0; by default `RATIOS` times the mean eigenvalue.
    scale : bool
        Whether features are divided by their standard deviation, unless they are constant.

    Raises
    ------
    BadData
        When a feature is not finite, or has squares beyond float64.

    Notes
    -----
    The rows are read three times: for the Gram matrix, for leverages and residuals at all strengths, and for residuals
    at the best one. For n <= d the second and the third of four passes compute the n x n kernel and the coefficients;
    the kernel takes more passes only where chunks of n^2 numbers do not hold all rows.

    Memory holds some chunks, a few matrices of shape (d, d), or (n, n) if that is smaller, and some of shape (n, k).
    """
    ridge = _DualRidge if rows.count <= rows.width else _PrimalRidge
    threads, work = blas_threads(), rows.count * rows.width * min(rows.count, rows.width)
    with limited(1 if work < WORTH_THREADS else None):
        if rows.order is None:
            return ridge(rows, targets, scale).path(alphas, threads)
        path = ridge(rows, targets[rows.order], scale).path(alphas, threads)
        return replace(path, loo_predictions=path.loo_predictions[np.argsort(rows.order)])


class _PrimalRidge:
    """The solution for n > d, from the Gram matrix of the features, of shape (d, d)."""

    def __init__(self, rows: RowChunks, targets: np.ndarray, scale: bool) -> None:
        self.rows, self.y_offset = rows, targets.mean(0)
        self.targets = targets - self.y_offset
        gram, Xy = self._products()
        width, count = rows.width, rows.count
        self.X_scale = _standard_deviations(gram.diagonal(), self.X_offset, count) if scale else np.ones(width)
        gram /= self.X_scale
        gram /= self.X_scale[:, None]
        # In units in which the mean eigenvalue is 1, float32 suits rotated rows whatever the scale of the features.
        self.mean_eigval = _mean_eigval(gram) or 1.0
        gram /= self.mean_eigval
        self.X_scale *= np.sqrt(self.mean_eigval)
        self.eigvals, eigvecs = eigh(gram, overwrite_a=True, check_finite=False, driver="evd")
        self.eigvals = np.maximum(self.eigvals, 0)
        self.rotation = eigvecs / self.X_scale[:, None]  # (d, d): from centred rows to Z
        self.rotated_Xy = self.rotation.T @ Xy

    def _products(self) -> tuple[np.ndarray, np.ndarray]:
        """X'X, whose lower triangle alone is filled, and X'Y, from one pass over the rows."""
        width, outputs = self.rows.width, self.targets.shape[1]
        centre, centre_targets = Centring(width), Centring(outputs)
        gram, Xy = np.zeros((width, width), order="F"), np.zeros((width, outputs))
        for part, chunk in self.rows:
            centred = centre(chunk)
            # BLAS adds the lower triangle of centred.T @ centred in place, which is half the work of the product.
            gram = blas.dsyrk(1.0, centred.T, beta=1.0, c=gram, lower=1, overwrite_c=1)
            Xy += centred.T @ centre_targets(self.targets[part])
        self.X_offset = centre.mean
        return gram, Xy

    def path(self, alphas: np.ndarray | None, threads: int) -> RidgePath:
        """The whole path, from two passes over the rows; the first of them uses this many threads."""
        alphas = _strengths(alphas, self.mean_eigval)
        shrinkage = 1 / (self.eigvals[:, None] + alphas / self.mean_eigval)  # (d, m)
        # 1 - 1/n - h is smallest for a row that alone has the direction of the largest eigenvalue.
        least = (1 - 1 / self.rows.count) * alphas / self.mean_eigval * shrinkage[-1]
        errors, divisors = np.zeros(len(alphas)), np.empty((self.rows.count, len(alphas)))
        with limited(1):
            scored = in_threads(lambda *at: self._score(at[0], at[1], shrinkage, least), self.rows, threads)
            for part, errors_of_part, divisors_of_part in scored:
                errors += errors_of_part
                divisors[part] = divisors_of_part
        best = int(np.argmin(errors))
        coef = (self.rotation @ (shrinkage[:, best, None] * self.rotated_Xy)).T
        loo_predictions = self.targets + self.y_offset
        for part, chunk in self.rows:
            chunk -= self.X_offset
            residuals = self.targets[part] - chunk @ coef.T
            for run, size in self.rows.runs(part):
                if size == 1:
                    residuals[run] /= divisors[part][run, best, None]
                else:
                    groups = PrimalGroups(chunk[run] @ self.rotation, size, self.rows.count)
                    residuals[run] = groups.errors(residuals[run], shrinkage[:, best], self._least(least, size)[best])
            loo_predictions[part] -= residuals
        intercept = self.y_offset - coef @ self.X_offset
        return RidgePath(alphas, errors / self.targets.size, best, coef, intercept, loo_predictions)

    def _score(
        self, part: slice, chunk: np.ndarray, shrinkage: np.ndarray, least: np.ndarray
    ) -> tuple[slice, np.ndarray, np.ndarray]:
        """The sums of the squared leave-one-out errors of a chunk, (m,), and 1 - 1/n - h of its rows, (p, m)."""
        chunk -= self.X_offset
        rotated = chunk @ self.rotation
        divisors = np.maximum(1 - 1 / self.rows.count - np.square(rotated, out=chunk) @ shrinkage, least)
        errors = np.zeros(len(least))
        for run, size in self.rows.runs(part):
            targets = self.targets[part][run]
            if size == 1:
                errors += self._errors(rotated[run], targets, shrinkage, divisors[run])
            else:
                errors += self._errors_of_groups(rotated[run], targets, shrinkage, self._least(least, size), size)
        return part, errors, divisors

    def _errors(
        self, rotated: np.ndarray, targets: np.ndarray, shrinkage: np.ndarray, divisors: np.ndarray
    ) -> np.ndarray:
        """The sums of the squared errors of rows that are left out one by one: shape (m,)."""
        rotated32, errors = rotated.astype(np.float32), np.zeros(divisors.shape[1])
        for block in _blocks(len(errors), self.rotated_Xy.shape[1]):
            exact = divisors[:, block].min() < SMALLEST_DIVISOR
            product = _product(rotated if exact else rotated32, self.rotated_Xy, shrinkage[:, block])
            product -= targets[:, None]
            errors[block] = (np.einsum("nmk,nmk->nm", product, product) / divisors[:, block] ** 2).sum(0)
        return errors

    def _errors_of_groups(
        self, rotated: np.ndarray, targets: np.ndarray, shrinkage: np.ndarray, least: np.ndarray, size: int
    ) -> np.ndarray:
        """The sums of the squared errors of groups of `size` rows, each left out as a whole: shape (m,)."""
        groups, errors = PrimalGroups(rotated, size, self.rows.count), np.zeros(len(least))
        for number, (alone, bound) in enumerate(zip(shrinkage.T, least, strict=True)):
            residuals = targets - rotated @ (alone[:, None] * self.rotated_Xy)
            errors[number] = np.square(groups.errors(residuals, alone, bound)).sum()
        return errors

    def _least(self, least: np.ndarray, size: int) -> np.ndarray:
        """The lower bounds of the eigenvalues of I - H_gg for groups of `size` rows, from those for single rows."""
        return least * (self.rows.count - size) / (self.rows.count - 1)


class _DualRidge:
    """The solution for n <= d, from the kernel of the rows, of shape (n, n)."""

    def __init__(self, rows: RowChunks, targets: np.ndarray, scale: bool) -> None:
        self.rows, self.y_offset = rows, targets.mean(0)
        self.targets = targets - self.y_offset
        centre, squares = Centring(rows.width), np.zeros(rows.width)
        for _, chunk in rows:
            centred = centre(chunk)
            squares += np.einsum("nd,nd->d", centred, centred)
        self.X_offset = centre.mean
        self.X_scale = _standard_deviations(squares, self.X_offset, rows.count) if scale else np.ones(rows.width)
        kernel = self._kernel()
        self.mean_eigval = _mean_eigval(kernel)
        # Centred rows and targets have no part in the constant vector. It is made the last eigenvector, with the
        # largest eigenvalue, and left out; the leave-one-out errors are then quotients in which nothing cancels.
        kernel += 2 * (self.mean_eigval or 1.0)
        eigvals, eigvecs = eigh(kernel, overwrite_a=True, check_finite=False, driver="evd")
        self.eigvals, self.eigvecs = np.maximum(eigvals[:-1], 0), eigvecs[:, :-1]
        self.rotated_y = self.eigvecs.T @ self.targets

    def path(self, alphas: np.ndarray | None, threads: int) -> RidgePath:
        """The whole path, from one pass over the rows."""
        alphas = _strengths(alphas, self.mean_eigval)
        shrinkage = 1 / (self.eigvals[:, None] + alphas)  # (n - 1, m)
        divisors = np.square(self.eigvecs) @ shrinkage  # (n, m): (1 - 1/n - h) / a, as the residuals are divided by a
        errors = self._errors(shrinkage, divisors)
        best = int(np.argmin(errors))
        dual_coef = self.eigvecs @ (shrinkage[:, best, None] * self.rotated_y)  # (n, k)
        coef = np.zeros((self.targets.shape[1], self.rows.width))
        for part, chunk in self.rows:
            coef += dual_coef[part].T @ self._standardised(chunk)
        coef /= self.X_scale
        loo_residuals = dual_coef / divisors[:, best, None]
        for run, size in self.rows.pieces():
            if size > 1:
                loo_residuals[run] = self._residuals_of_groups(run, size, shrinkage[:, best])
        loo_predictions = self.targets + self.y_offset - loo_residuals
        intercept = self.y_offset - coef @ self.X_offset
        return RidgePath(alphas, errors / self.targets.size, best, coef, intercept, loo_predictions)

    def _errors(self, shrinkage: np.ndarray, divisors: np.ndarray) -> np.ndarray:
        """The sums of the squared leave-one-out errors of all rows: shape (m,)."""
        errors = np.zeros(divisors.shape[1])
        for run, size in self.rows.pieces():
            if size > 1:
                errors += [np.square(self._residuals_of_groups(run, size, alone)).sum() for alone in shrinkage.T]
                continue
            for block in _blocks(len(errors), self.rotated_y.shape[1]):
                product = _product(self.eigvecs[run], self.rotated_y, shrinkage[:, block])
                errors[block] += (np.einsum("nmk,nmk->nm", product, product) / divisors[run, block] ** 2).sum(0)
        return errors

    def _residuals_of_groups(self, run: slice, size: int, shrinkage: np.ndarray) -> np.ndarray:
        """The residuals of consecutive groups of `size` rows, each by a fit without the group."""
        residuals = self.eigvecs[run] @ (shrinkage[:, None] * self.rotated_y)
        least = (1 - size / self.rows.count) * shrinkage[-1]
        return DualGroups(self.eigvecs[run], size).errors(residuals, shrinkage, least)

    def _kernel(self) -> np.ndarray:
        """The inner products of all rows, (n, n), of which only the lower triangle is filled.

        Each block of rows that fits into memory is multiplied with every later chunk.
        """
        count = self.rows.count
        kernel = np.zeros((count, count), order="F")
        size = max(self.rows.chunk, count * count // self.rows.width)
        for first in range(0, count, size):
            here = slice(first, min(first + size, count))
            block = np.empty((here.stop - first, self.rows.width))
            for part, chunk in self.rows.between(first, here.stop):
                block[part.start - first : part.stop - first] = self._standardised(chunk)
            kernel[here, here] = block @ block.T
            for part, chunk in self.rows.between(here.stop, count):
                kernel[part, here] = self._standardised(chunk) @ block.T
        return kernel

    def _standardised(self, chunk: np.ndarray) -> np.ndarray:
        """The chunk, centred and scaled in place."""
        chunk -= self.X_offset
        chunk /= self.X_scale
        return chunk


def _standard_deviations(squares: np.ndarray, mean: np.ndarray, count: int) -> np.ndarray:
    """Standard deviations from sums of squares; 1 for features that are constant apart from rounding."""
    variance = squares / count
    constant = variance <= count * EPS * variance + (count * EPS * mean) ** 2
    return np.where(constant, 1, np.sqrt(variance))


def _mean_eigval(matrix: np.ndarray) -> float:
    """The mean eigenvalue of a Gram matrix."""
    mean = float(np.mean(matrix.diagonal()))
    if not np.isfinite(mean):
        raise BadData("Input X contains numbers too large for their squares.")
    return mean


def _strengths(alphas: np.ndarray | None, mean_eigval: float) -> np.ndarray:
    """The strengths of the path: `alphas`, or by default multiples of the mean eigenvalue."""
    return RATIOS * (mean_eigval or 1.0) if alphas is None else alphas


def _blocks(count: int, outputs: int) -> Iterator[slice]:
    """The strengths that are solved with one product, for each product."""
    size = max(1, COLUMNS // outputs)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _product(rows: np.ndarray, cross: np.ndarray, shrinkage: np.ndarray) -> np.ndarray:
    """``rows @ (shrinkage[:, m, None] * cross)`` for each m, of shape (n, m, k), in the precision of the rows."""
    weights = (shrinkage[:, :, None] * cross[:, None]).reshape(len(cross), -1).astype(rows.dtype, copy=False)
    return (rows @ weights).reshape(len(rows), -1, cross.shape[1])
