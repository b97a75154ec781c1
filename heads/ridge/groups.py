"""Errors of ridge regression on groups of rows that are left out together, in closed form.

The errors of a group g by a fit without it are (I - H_gg)^-1 r_g, where r_g are its residuals by the fit with it, and
H_gg = Z_g (L + aI)^-1 Z_g' + 1/n is its block of the hat matrix (see `heads.ridge.path`). For a group of one row this
is the formula of `heads.ridge.path`.

References: R. D. Cook, S. Weisberg, "Residuals and influence in regression", 1982; T. Pahikkala, J. Boberg,
T. Salakoski, "Fast n-fold cross-validation for regularized least-squares", SCAI 2006.
"""

from __future__ import annotations

import numpy as np


class PrimalGroups:
    """Groups of the same size, whose rows are rotated to the eigenvectors of the features.

    A group with more rows than features, s > d, is solved by its d x d Gram matrix: with D = (L + aI)^-1,
    V = [Z_g D^1/2, 1/sqrt(n)] and H_gg = VV', the inverse is (I - VV')^-1 = I + V (I - V'V)^-1 V'.

    Parameters
    ----------
    rotated : ndarray of shape (p, d)
        The rows, group after group.
    size : int
        The number of rows of each group.
    count : int
        The number of all rows of the fit, n.
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

    def errors(self, residuals: np.ndarray, shrinkage: np.ndarray, least: float) -> np.ndarray:
        """The errors of rows by fits without their group, from their residuals by the fit with all rows.

        Parameters
        ----------
        residuals : ndarray of shape (p, k)
        shrinkage : ndarray of shape (d,)
            1 / (L + a).
        least : float
            A lower bound of the eigenvalues of I - H_gg.

        Returns
        -------
        ndarray of shape (p, k)
        """
        right_side = residuals.reshape(*self._shape[:2], -1)
        if self._tall:
            root = np.sqrt(np.append(shrinkage, 1))
            blocks = np.eye(len(root)) - root[:, None] * self._gram * root
            inner = _solve(blocks, root[:, None] * (self._rows.mT @ right_side), least)
            errors = right_side + self._rows @ (root[:, None] * inner)
        else:
            blocks = -self._share - (self._rows * shrinkage) @ self._rows.mT
            np.einsum("gii->gi", blocks)[...] += 1
            errors = _solve(blocks, right_side, least)
        return errors.reshape(residuals.shape)


class DualGroups:
    """Groups of the same size, whose rows are those of the eigenvectors of the kernel.

    I - H_gg is a (U_g (L + aI)^-1 U_g'), in which nothing cancels. Residuals are divided by the strength a, and so are
    the eigenvalues that `least` bounds.

    Parameters
    ----------
    eigvecs : ndarray of shape (p, n - 1)
        The rows, group after group, of all eigenvectors but the constant one.
    size : int
        The number of rows of each group.
    """

    def __init__(self, eigvecs: np.ndarray, size: int) -> None:
        self._eigvecs = eigvecs.reshape(-1, size, eigvecs.shape[1])

    def errors(self, residuals: np.ndarray, shrinkage: np.ndarray, least: float) -> np.ndarray:
        """The errors of rows by fits without their group (see `PrimalGroups.errors`)."""
        blocks = (self._eigvecs * shrinkage) @ self._eigvecs.mT
        return _solve(blocks, residuals.reshape(*blocks.shape[:2], -1), least).reshape(residuals.shape)


def _solve(blocks: np.ndarray, right_sides: np.ndarray, least: float) -> np.ndarray:
    """The solutions of linear systems with positive definite matrices.

    Parameters
    ----------
    blocks : ndarray of shape (g, s, s)
        The matrices. Their eigenvalues are at least `least`, apart from rounding.
    right_sides : ndarray of shape (g, s, k)
    """
    try:
        np.linalg.cholesky(blocks)
        return np.linalg.solve(blocks, right_sides)
    except np.linalg.LinAlgError:
        eigvals, eigvecs = np.linalg.eigh(blocks)
        return eigvecs @ (eigvecs.mT @ right_sides / np.maximum(eigvals, least)[..., None])
