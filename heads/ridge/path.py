"""Ridge regression along a path of strengths, with leave-one-out errors in closed form, on rows in memory or on disk.

For centred features X (n, d), divided by their standard deviations if asked for, and centred targets Y (n, k), the
coefficients at strength a are W = (X'X + aI)^-1 X'Y. With X = U S V', L = S^2 and n > d everything is in the rotated
rows Z = XV, of which X'X = V L V' is all that has to be decomposed; with n <= d it is in U, from XX' = U L U'.

The row i left out is predicted with the error r_i / (1 - 1/n - h_i), where r = Y - XW is the residual with the row
and h_i = sum_j z_ij^2 / (L_j + a) its leverage; 1/n is the part of the intercept. This equals a fit without the row.
Rows of a group are left out together (see `heads.ridge.groups`).

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

# Default strengths, as multiples of the mean eigenvalue of X'X (of XX' where n <= d). On letters, glyphnet's held-out
# script, ratios from 0.05 to 10 were the best, for 3 to 110 rows of each of 23 classes and widths from 128 to 4,096.
RATIOS = np.logspace(-5, 3, 20)
# Below so many multiplications (0.2 s of one core) the threads of BLAS are not worth it: where other processes want the
# cores as well, they wait for each other more than they work.
WORTH_THREADS = 2**33
COLUMNS = 256  # of a product for several strengths at once; narrower ones leave BLAS idle
# Rotated to the eigenvectors, rows and coefficients make sums without much cancellation, however badly conditioned the
# features: in float32 a prediction errs by some 1e-7, and the error of a row left out by that over 1 - 1/n - h. Where
# this is lower in any row, float64 is used, as it is for all that is kept but the mean errors.
SAFE = 0.2
EPS = np.finfo(np.float64).eps


@dataclass(frozen=True)
class RidgePath:
    """What ridge regression finds along the path.

    Attributes
    ----------
    alphas, errors : ndarray of shape (m,)
        Strengths, and the mean squared leave-one-out error of each.
    best : int
        Position of the smallest error, the first among equals.
    coef, intercept : ndarray of shape (k, d) and (k,)
        At that strength, for features as they came.
    loo_predictions : ndarray of shape (n, k)
        At that strength, the prediction of each row by a fit without it, or without its group. Means are those of the
        other rows, standard deviations those of all rows.
    """

    alphas: np.ndarray
    errors: np.ndarray
    best: int
    coef: np.ndarray
    intercept: np.ndarray
    loo_predictions: np.ndarray


def solve(rows: RowChunks, targets: np.ndarray, alphas: np.ndarray | None, *, scale: bool) -> RidgePath:
    """Fit the whole path and choose by the mean squared leave-one-out error.

    It passes over the rows three times: for the Gram matrix, for leverages and residuals at all strengths, and for
    residuals at the chosen one. For n <= d the second and third of four passes build the n x n kernel (with more of
    them only where chunks of n^2 numbers do not hold all rows) and the coefficients.

    Memory: some chunks, a few matrices of shape (d, d), or (n, n) if that is smaller, and some of shape (n, k).

    Parameters
    ----------
    rows : RowChunks
    targets : ndarray of shape (n, k), float64
    alphas : ndarray of shape (m,), optional
        Strengths above 0; by default `RATIOS` times the mean eigenvalue.
    scale : bool
        Divide features by their standard deviation; those that are constant are left as they are.

    Raises
    ------
    BadData
        When a feature is not finite, or too large for squares.
    """
    side = _Dual if rows.count <= rows.width else _Primal
    threads, work = blas_threads(), rows.count * rows.width * min(rows.count, rows.width)
    with limited(1 if work < WORTH_THREADS else None):
        if rows.order is None:
            return side(rows, targets, scale).path(alphas, threads)
        found = side(rows, targets[rows.order], scale).path(alphas, threads)
        return replace(found, loo_predictions=found.loo_predictions[np.argsort(rows.order)])


class _Primal:
    """n > d: by the Gram matrix of the features, d x d."""

    def __init__(self, rows: RowChunks, targets: np.ndarray, scale: bool) -> None:
        self.rows, self.level = rows, targets.mean(0)
        self.targets = targets - self.level
        centre, centre_targets = Centring(rows.width), Centring(targets.shape[1])
        gram, cross = np.zeros((rows.width, rows.width), order="F"), np.zeros((rows.width, targets.shape[1]))
        for part, chunk in rows:
            centred = centre(chunk)
            # The lower triangle of gram + centred.T @ centred, in its own memory: half the work of a product.
            gram = blas.dsyrk(1.0, centred.T, beta=1.0, c=gram, lower=1, overwrite_c=1)
            cross += centred.T @ centre_targets(self.targets[part])
        self.mean = centre.mean
        self.spread = _spread(gram.diagonal(), self.mean, rows.count) if scale else np.ones(rows.width)
        gram /= self.spread
        gram /= self.spread[:, None]
        # In units in which the mean eigenvalue is 1, rotated rows suit float32 whatever the features are measured in.
        self.unit = _mean_square(gram) or 1.0
        gram /= self.unit
        self.spread *= np.sqrt(self.unit)
        self.values, vectors = eigh(gram, overwrite_a=True, check_finite=False, driver="evd")
        self.values = np.maximum(self.values, 0)
        self.rotation = vectors / self.spread[:, None]  # (d, d): from rows as they came to Z
        self.cross = self.rotation.T @ cross

    def path(self, alphas: np.ndarray | None, threads: int) -> RidgePath:
        """The whole path: two passes over the rows, the first in so many threads."""
        alphas = _strengths(alphas, self.unit)
        shrink = 1 / (self.values[:, None] + alphas / self.unit)  # (d, m)
        # What is free of a row to be predicted is least where it is alone in the direction of the largest eigenvalue.
        least = (1 - 1 / self.rows.count) * alphas / self.unit * shrink[-1]
        errors, free = np.zeros(len(alphas)), np.empty((self.rows.count, len(alphas)))
        with limited(1):
            judged = in_threads(lambda *at: self._judge(at[0], at[1], shrink, least), self.rows, threads)
            for part, errors_of_part, free_of_part in judged:
                errors += errors_of_part
                free[part] = free_of_part
        best = int(np.argmin(errors))
        coef = (self.rotation @ (shrink[:, best, None] * self.cross)).T
        loo_predictions = self.targets + self.level
        for part, chunk in self.rows:
            chunk -= self.mean
            residuals = self.targets[part] - chunk @ coef.T
            for some, size in self.rows.runs(part):
                if size == 1:
                    residuals[some] /= free[part][some, best, None]
                else:
                    groups = PrimalGroups(chunk[some] @ self.rotation, size, self.rows.count)
                    residuals[some] = groups.errors(residuals[some], shrink[:, best], self._least(least, size)[best])
            loo_predictions[part] -= residuals
        intercept = self.level - coef @ self.mean
        return RidgePath(alphas, errors / self.targets.size, best, coef, intercept, loo_predictions)

    def _judge(
        self, part: slice, chunk: np.ndarray, shrink: np.ndarray, least: np.ndarray
    ) -> tuple[slice, np.ndarray, np.ndarray]:
        """Sums of the squared errors of these rows left out, (m,), and 1 - 1/n - h of each, (p, m)."""
        chunk -= self.mean
        rotated = chunk @ self.rotation
        free = np.maximum(1 - 1 / self.rows.count - np.square(rotated, out=chunk) @ shrink, least)
        errors = np.zeros(len(least))
        for some, size in self.rows.runs(part):
            targets = self.targets[part][some]
            if size == 1:
                errors += self._errors(rotated[some], targets, shrink, free[some])
            else:
                errors += self._errors_of_groups(rotated[some], targets, shrink, self._least(least, size), size)
        return part, errors, free

    def _errors(self, rotated: np.ndarray, targets: np.ndarray, shrink: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Sums of the squared errors of rows that are left out one by one."""
        narrow, errors = rotated.astype(np.float32), np.zeros(free.shape[1])
        for some in _at_once(len(errors), self.cross.shape[1]):
            exact = free[:, some].min() < SAFE
            product = _product(rotated if exact else narrow, self.cross, shrink[:, some])
            product -= targets[:, None]
            errors[some] = (np.einsum("nmk,nmk->nm", product, product) / free[:, some] ** 2).sum(0)
        return errors

    def _errors_of_groups(
        self, rotated: np.ndarray, targets: np.ndarray, shrink: np.ndarray, least: np.ndarray, size: int
    ) -> np.ndarray:
        """The same of groups of as many rows each."""
        groups, errors = PrimalGroups(rotated, size, self.rows.count), np.zeros(len(least))
        for number, (alone, bound) in enumerate(zip(shrink.T, least, strict=True)):
            residuals = targets - rotated @ (alone[:, None] * self.cross)
            errors[number] = np.square(groups.errors(residuals, alone, bound)).sum()
        return errors

    def _least(self, least: np.ndarray, size: int) -> np.ndarray:
        """What bounds 1 - 1/n - h from below, for the eigenvalues of I - H_gg of so many rows."""
        return least * (self.rows.count - size) / (self.rows.count - 1)


class _Dual:
    """n <= d: by the kernel of the rows, n x n."""

    def __init__(self, rows: RowChunks, targets: np.ndarray, scale: bool) -> None:
        self.rows, self.level = rows, targets.mean(0)
        self.targets = targets - self.level
        centre, squares = Centring(rows.width), np.zeros(rows.width)
        for _, chunk in rows:
            centred = centre(chunk)
            squares += np.einsum("nd,nd->d", centred, centred)
        self.mean = centre.mean
        self.spread = _spread(squares, self.mean, rows.count) if scale else np.ones(rows.width)
        kernel = self._kernel()
        self.unit = _mean_square(kernel)
        # The constant vector, with which centred rows and targets have nothing to do, becomes the last eigenvector by
        # an eigenvalue that no other reaches; without it, leave-one-out errors are quotients in which nothing cancels.
        kernel += 2 * (self.unit or 1.0)
        values, vectors = eigh(kernel, overwrite_a=True, check_finite=False, driver="evd")
        self.values, self.vectors = np.maximum(values[:-1], 0), vectors[:, :-1]
        self.cross = self.vectors.T @ self.targets

    def path(self, alphas: np.ndarray | None, threads: int) -> RidgePath:
        """The whole path: one pass over the rows."""
        alphas = _strengths(alphas, self.unit)
        shrink = 1 / (self.values[:, None] + alphas)  # (n - 1, m)
        free = np.square(self.vectors) @ shrink  # (n, m): 1 - 1/n - h, divided by the strength as residuals are too
        errors = np.zeros(len(alphas))
        for here, size in self.rows.pieces():
            if size > 1:
                errors += [np.square(self._of_groups(here, size, alone)).sum() for alone in shrink.T]
                continue
            for some in _at_once(len(alphas), self.cross.shape[1]):
                product = _product(self.vectors[here], self.cross, shrink[:, some])
                errors[some] += (np.einsum("nmk,nmk->nm", product, product) / free[here, some] ** 2).sum(0)
        best = int(np.argmin(errors))
        weights = self.vectors @ (shrink[:, best, None] * self.cross)  # (n, k)
        coef = np.zeros((self.targets.shape[1], self.rows.width))
        for part, chunk in self.rows:
            coef += weights[part].T @ self._standard(chunk)
        coef /= self.spread
        without = weights / free[:, best, None]
        for here, size in self.rows.pieces():
            if size > 1:
                without[here] = self._of_groups(here, size, shrink[:, best])
        loo_predictions = self.targets + self.level - without
        intercept = self.level - coef @ self.mean
        return RidgePath(alphas, errors / self.targets.size, best, coef, intercept, loo_predictions)

    def _of_groups(self, here: slice, size: int, shrink: np.ndarray) -> np.ndarray:
        """Errors of rows, which are groups of as many rows each, by fits without their group."""
        residuals = self.vectors[here] @ (shrink[:, None] * self.cross)
        least = (1 - size / self.rows.count) * shrink[-1]
        return DualGroups(self.vectors[here], size).errors(residuals, shrink, least)

    def _kernel(self) -> np.ndarray:
        """Inner products of all rows, (n, n): of a block that stays in memory with each chunk in turn."""
        count = self.rows.count
        kernel = np.zeros((count, count), order="F")
        size = max(self.rows.chunk, count * count // self.rows.width)
        for first in range(0, count, size):
            here = slice(first, min(first + size, count))
            block = np.empty((here.stop - first, self.rows.width))
            for part, chunk in self.rows.between(first, here.stop):
                block[part.start - first : part.stop - first] = self._standard(chunk)
            kernel[here, here] = block @ block.T
            for part, chunk in self.rows.between(here.stop, count):
                kernel[part, here] = self._standard(chunk) @ block.T  # the lower triangle, which is all that is read
        return kernel

    def _standard(self, chunk: np.ndarray) -> np.ndarray:
        chunk -= self.mean
        chunk /= self.spread
        return chunk


def _spread(squares: np.ndarray, mean: np.ndarray, count: int) -> np.ndarray:
    """Standard deviations, 1 for features that are constant but for rounding, as `StandardScaler` has it."""
    variance = squares / count
    constant = variance <= count * EPS * variance + (count * EPS * mean) ** 2
    return np.where(constant, 1, np.sqrt(variance))


def _mean_square(matrix: np.ndarray) -> float:
    """The mean eigenvalue of a Gram matrix."""
    mean = float(np.mean(matrix.diagonal()))
    if not np.isfinite(mean):
        raise BadData("Input X contains numbers too large for their squares.")
    return mean


def _strengths(alphas: np.ndarray | None, unit: float) -> np.ndarray:
    return RATIOS * (unit or 1.0) if alphas is None else alphas


def _at_once(count: int, outputs: int) -> Iterator[slice]:
    """Which of `count` strengths to solve with one product."""
    size = max(1, COLUMNS // outputs)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _product(rows: np.ndarray, cross: np.ndarray, shrink: np.ndarray) -> np.ndarray:
    """``rows @ (shrink[:, m, None] * cross)`` for each m, of shape (n, m, k), in the precision of the rows."""
    weights = (shrink[:, :, None] * cross[:, None]).reshape(len(cross), -1).astype(rows.dtype, copy=False)
    return (rows @ weights).reshape(len(rows), -1, cross.shape[1])
