"""`RidgeRegressor`: ridge regression to numbers, its strength chosen by leave-one-out in closed form."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin

from feature_cache.errors import BadData
from heads.ridge.base import RidgeBase
from heads.ridge.chunks import RowChunks
from heads.ridge.path import solve
from heads.splitting.groups import encode_groups
from heads.validation import as_targets, standardised


class RidgeRegressor(RegressorMixin, RidgeBase):
    """Least squares with an L2 penalty, to one target or several.

    All strengths are solved exactly, and the one with the smallest mean squared leave-one-out error is kept (see
    `heads.ridge.path`). Targets are brought to unit variance before and coefficients back after, so that each counts
    the same in the choice, whatever it is measured in; it is that of scikit-learn's ``RidgeCV`` on such targets.

    `Features` from a cache are never in memory as a whole: see `heads.ridge.classifier`.

    Parameters
    ----------
    alphas : float or sequence of float, optional
        Strengths of the penalty, 1e-30 to 1e30. By default 20 from 1e-5 to 1e3 times the mean eigenvalue of the scatter
        matrix of the features (of the kernel of the rows, where these are fewer), evenly in the logarithm.
    scale : bool
        Divide features by their standard deviation, as a ``StandardScaler`` before it would.

    Attributes
    ----------
    n_features_in_ : int
    coef_ : ndarray of shape (n_features,) for targets of shape (n,), (k, n_features) for those of shape (n, k)
        For features, and targets, as they come.
    intercept_ : float or ndarray of shape (k,)
    alphas_, loo_errors_ : ndarray of shape (n_alphas,)
        Strengths and their mean squared leave-one-out errors, as shares of the variance of the targets: 1 less an error
        is the share that is explained of rows left out, on average over the targets.
    alpha_ : float
        The strength with the smallest error.
    """

    DIMENSIONS = {"coef": (1, 2), "intercept": (0, 1), "alphas": (1,), "loo_errors": (1,), "alpha": (0,)}

    def fit(self, X: Any, y: Any, groups: np.ndarray | None = None) -> Self:
        """Fit to features of shape (n, ...) and targets of shape (n,) or (n, k).

        Parameters
        ----------
        groups : ndarray of shape (n,), optional
            Equal for rows that are left out together (see `heads.splitting.groups`).

        Raises
        ------
        BadData
            When a target is not a finite number, or there is a single row.
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
    def _check_kept(cls, arrays: dict[str, np.ndarray]) -> None:
        super()._check_kept(arrays)
        coef, intercept = arrays["coef"], arrays["intercept"]
        if coef.size == 0 or coef.shape[:-1] != intercept.shape:
            raise ValueError("its coefficients do not fit its intercepts")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
