"""`RidgeRegressor`: ridge regression whose strength is chosen by exact leave-one-out predictions."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin

from feature_cache.errors import BadData
from heads.ridge.base import RidgeBase
from heads.ridge.chunks import RowChunks
from heads.ridge.path import solve
from heads.splitting.fit_groups import encode_groups
from heads.validation import as_targets, standardised


class RidgeRegressor(RegressorMixin, RidgeBase):
    """Ridge regression to one target or several.

    All strengths are solved exactly, and the one with the smallest mean squared leave-one-out error is chosen (see
    `heads.ridge.path`). Targets are scaled to unit variance for the fit, so that each of them counts the same in the
    choice, whatever its unit; the result is that of scikit-learn's ``RidgeCV`` on such targets.

    Features from a cache are never in memory as a whole (see `heads.ridge.classifier`).

    Parameters
    ----------
    alphas : float or sequence of float, optional
        The strengths of the penalty, from 1e-30 to 1e30. By default 20 strengths, evenly spaced in the logarithm, from
        1e-5 to 1e3 times the mean eigenvalue of the scatter matrix of the features (of the kernel of the rows, where
        these are fewer).
    scale : bool
        Whether features are divided by their standard deviation.

    Attributes
    ----------
    n_features_in_ : int
    coef_ : ndarray of shape (n_features,) for targets of shape (n,), (k, n_features) for those of shape (n, k)
        For features that are neither centred nor scaled, and targets in their own units.
    intercept_ : float or ndarray of shape (k,)
    alphas_, loo_errors_ : ndarray of shape (n_alphas,)
        The strengths, and their mean squared leave-one-out errors as shares of the variance of the targets: 1 less an
        error is the share of the variance of left-out rows that is explained, averaged over the targets.
    alpha_ : float
        The strength with the smallest error.

    Examples
    --------
    >>> X = np.arange(6.0)[:, None]
    >>> round(float(RidgeRegressor().fit(X, 2 * X[:, 0] + 1).predict(np.array([[10.0]]))[0]), 2)
    21.0
    """

    DIMENSIONS = {"coef": (1, 2), "intercept": (0, 1), "alphas": (1,), "loo_errors": (1,), "alpha": (0,)}

    def fit(self, X: Any, y: Any, groups: np.ndarray | None = None) -> Self:
        """Fit to features of shape (n, ...) and targets of shape (n,) or (n, k).

        Parameters
        ----------
        groups : ndarray of shape (n,), optional
            Equal for rows that are left out together (see `heads.splitting.fit_groups`).

        Raises
        ------
        BadData
            When a target or a feature is not finite, or there is a single row.
        """
        alphas, scale = self._settings()
        X, y = self._checked(X, y if y is None else as_targets(y), several=True)
        if len(y) < 2:
            raise BadData("ridge regression needs at least 2 rows; received 1 sample.")
        targets, mean, spread = standardised(y)
        path = solve(RowChunks(X, encode_groups(groups, y)), targets.reshape(len(targets), -1), alphas, scale=scale)
        self.coef_ = path.coef.reshape(*spread.shape, -1) * spread[..., None]
        intercept = path.intercept.reshape(spread.shape) * spread + mean
        self.intercept_ = intercept if intercept.ndim else float(intercept)
        self.alphas_, self.loo_errors_ = path.alphas, path.errors
        self.alpha_ = float(path.alphas[path.best])
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Targets of shape (n,) or (n, k), as those of `fit`, float64."""
        values = self._values(X)
        return values[:, 0] if self.coef_.ndim == 1 else values

    @classmethod
    def _check_arrays(cls, arrays: dict[str, np.ndarray]) -> None:
        super()._check_arrays(arrays)
        coef, intercept = arrays["coef"], arrays["intercept"]
        if coef.size == 0 or coef.shape[:-1] != intercept.shape:
            raise ValueError("its coefficients do not fit its intercepts")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
