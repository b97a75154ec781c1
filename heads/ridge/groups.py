"""Errors of ridge regression on groups of rows that are left out together, in closed form.

The rows of a group g that are left out are predicted with the errors (I - H_gg)^-1 r_g, where r_g are their residuals
with the group and H_gg = Z_g (L + aI)^-1 Z_g' + 1/n is their block of the hat matrix (see `heads.ridge.path`): the
residuals of a fit without the group. For a group of one row it is the formula of `heads.ridge.path`.

References: R. D. Cook, S. Weisberg, "Residuals and influence in regression", 1982; T. Pahikkala, J. Boberg,
T. Salakoski, "Fast n-fold cross-validation for regularized least-squares", SCAI 2006.
"""

from __future__ import annotations

import numpy as np


class PrimalGroups:
    """Groups of as many rows each, rotated to the eigenvectors of the features.

    A group of more rows than features, s > d, is solved by its d x d Gram matrix: with V = [Z_g D^1/2, 1/sqrt(n)] and
    H_gg = VV', it is (I - VV')^-1 = I + V (I - V'V)^-1 V'.

    Parameters
    ----------
    rotated : ndarray of shape (p, d)
        Group after group.
    size : int
        Rows of each group.
    count : int
        Rows of all groups, n.
    """

    def __init__(self, rotated: np.ndarray, size: int, count: int) -> None:
        groups = rotated.reshape(-1, size, rotated.shape[1])
        self._share = 1 / count
        self._shape = groups.shape
        self._rows = groups
        self._tall = size > groups.shape[2]
        if self._tall:
            self._rows = np.concatenate([groups, np.full((len(groups), size, 1), np.sqrt(self._share))], axis=2)
            self._gram = self._rows.mT @ self._rows

    def errors(self, residuals: np.ndarray, shrink: np.ndarray, least: float) -> np.ndarray:
        """The residuals (p, k) of rows in the fit as those of fits without their group.

        Parameters
        ----------
        shrink : ndarray of shape (d,)
            1 / (L + a).
        least : float
            That no eigenvalue of I - H_gg is below.
        """
        given = residuals.reshape(*self._shape[:2], -1)
        if self._tall:
            root = np.sqrt(np.append(shrink, 1))
            blocks = np.eye(len(root)) - root[:, None] * self._gram * root
            found = given + self._rows @ (
                root[:, None] * _solved(blocks, root[:, None] * (self._rows.mT @ given), least)
            )
        else:
            blocks = -self._share - (self._rows * shrink) @ self._rows.mT
            np.einsum("gii->gi", blocks)[...] += 1
            found = _solved(blocks, given, least)
        return found.reshape(residuals.shape)


class DualGroups:
    """The same by eigenvectors of the kernel, of which I - H_gg is a (U_g (L + aI)^-1 U_g'): nothing cancels.

    Residuals are divided by the strength a, and so are the eigenvalues that `least` bounds.

    Parameters
    ----------
    vectors : ndarray of shape (p, n - 1)
        Of all but the constant one, for rows group after group.
    """

    def __init__(self, vectors: np.ndarray, size: int) -> None:
        self._vectors = vectors.reshape(-1, size, vectors.shape[1])

    def errors(self, residuals: np.ndarray, shrink: np.ndarray, least: float) -> np.ndarray:
        """See `PrimalGroups.errors`."""
        blocks = (self._vectors * shrink) @ self._vectors.mT
        return _solved(blocks, residuals.reshape(*blocks.shape[:2], -1), least).reshape(residuals.shape)


def _solved(blocks: np.ndarray, given: np.ndarray, least: float) -> np.ndarray:
    """The inverse of each block (g, s, s), whose eigenvalues are at least `least` but for rounding, times (g, s, k)."""
    try:
        np.linalg.cholesky(blocks)
        return np.linalg.solve(blocks, given)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(blocks)
        return vectors @ (vectors.mT @ given / np.maximum(values, least)[..., None])
