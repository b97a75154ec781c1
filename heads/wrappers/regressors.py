"""The heads that are regressors of scikit-learn: `LinearSVMRegressor`, and `RegressorHead` for any other."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin
from sklearn.multioutput import MultiOutputRegressor
from sklearn.svm import SVR, LinearSVR
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from heads.splitting.fit_groups import fit_params
from heads.validation import as_rows, as_targets, require, standardised
from heads.wrappers.base import EstimatorMixin, Steps
from heads.wrappers.calibration import copy_for

STRENGTH = 1.0  # the default C, times the mean squared length of a row


class StandardTargets(RegressorMixin, MetaEstimatorMixin, BaseEstimator):
    """A regressor that is fitted to targets of zero mean and unit variance, one or several.

    It differs from scikit-learn's `TransformedTargetRegressor` with a `StandardScaler` in the estimators that it takes:
    one for a single target is fitted once for each of several (`MultiOutputRegressor`), and one of the user's own code
    need not have `get_params`.

    Parameters
    ----------
    estimator : regressor
        It is cloned. If it has more neighbours than there are rows, all rows are neighbours.
    scale : bool
        Whether targets are scaled; otherwise they are passed on as they are.

    Attributes
    ----------
    estimator_ : regressor
    mean_, spread_ : ndarray of shape () for targets of shape (n,), of shape (k,) for targets of shape (n, k)
        The means and the standard deviations of the targets.
    """

    def __init__(self, estimator: Any, scale: bool = True) -> None:
        self.estimator = estimator
        self.scale = scale

    def fit(self, X: Any, y: Any, groups: np.ndarray | None = None) -> Self:
        """Fit to features of shape (n, d) and targets of shape (n,) or (n, k).

        Parameters
        ----------
        groups : ndarray of shape (n,), optional
            Passed to an estimator whose `fit` takes groups (see `heads.splitting.fit_groups`).
        """
        X, y = _checked(self, X, y)
        self.mean_, self.spread_ = np.zeros(y.shape[1:]), np.ones(y.shape[1:])
        if self.scale:
            y, self.mean_, self.spread_ = standardised(y)
        estimator = copy_for(self.estimator, len(X))
        several = self.mean_.size > 1
        options = fit_params(estimator, groups)
        if several and not _takes_several(estimator):
            estimator = MultiOutputRegressor(estimator)
        self.estimator_ = estimator.fit(X, y if several else y.ravel(), **options)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Targets of shape (n,) or (n, k), as those of `fit`, float64."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float32, np.float64])
        predictions = np.asarray(self.estimator_.predict(X), np.float64)
        right_size = predictions.size == len(X) * self.mean_.size and len(predictions) == len(X)
        if not right_size or not np.isfinite(predictions).all():
            raise ValueError(
                f"predict of {type(self.estimator).__name__} should return {len(X)} rows of {self.mean_.size} finite "
                f"numbers; it returned an array of shape {predictions.shape}"
            )
        return predictions.reshape(len(X), *self.mean_.shape) * self.spread_ + self.mean_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class _RegressorSteps(RegressorMixin, Steps):
    """A pipeline that scales features, takes principal components, and predicts scaled targets.

    A subclass stores the parameters of `Steps` and implements `_regressor`.
    """

    scale_targets = True

    def fit(self, X: Any, y: Any, groups: np.ndarray | None = None) -> Self:
        """Fit to features of shape (n, ...) and targets of shape (n,) or (n, k).

        Parameters
        ----------
        groups : ndarray of shape (n,), optional
            Passed to a regressor of the user's own code whose `fit` takes groups (see `heads.splitting.fit_groups`).

        Raises
        ------
        BadData
            When a target is not a finite number.
        InvalidChoice
            When the regressor refuses the targets, or a parameter is out of range.
        """
        X, y = _checked(self, as_rows(X), y)
        self._check()
        self._fit_steps(X, y, groups)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Targets of shape (n,) or (n, k), as those of `fit`, float64."""
        return self._call("predict", X)

    def _last_step(self, X: np.ndarray) -> Any:
        return StandardTargets(self._regressor(X), self.scale_targets)

    def _regressor(self, X: np.ndarray) -> Any:
        """The regressor of a pipeline that will be fitted to `X`."""
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class RegressorHead(EstimatorMixin, _RegressorSteps):
    """A head of any regressor of one or several targets, after scaling and principal components.

    Parameters
    ----------
    estimator : regressor
        An object with `fit` and `predict`. It is cloned; if it takes one target, a copy is fitted for each of several.
        If it has more neighbours than there are rows, all rows are neighbours.
    scale : bool
        Whether features are scaled to zero mean and unit variance.
    pca : int or float, optional
        The principal components to keep, as a number or as a share of the variance.
    scale_targets : bool
        Whether the regressor is fitted to targets of zero mean and unit variance, so that its parameters mean the same
        for targets in any unit. Regressors that take only positive targets (Poisson, gamma) need them unscaled.

    Attributes
    ----------
    n_features_in_ : int
    """

    def __init__(
        self, estimator: Any, scale: bool = True, pca: int | float | None = None, scale_targets: bool = True
    ) -> None:
        self.estimator = estimator
        self.scale = scale
        self.pca = pca
        self.scale_targets = scale_targets

    def _regressor(self, X: np.ndarray) -> Any:
        return self.estimator


class LinearSVMRegressor(_RegressorSteps):
    """Linear support vector regression, on features and targets scaled to zero mean and unit variance.

    The regressor is scikit-learn's `LinearSVR`.

    Parameters
    ----------
    C : float, optional
        The inverse strength of the regularisation. By default 1 / n_features, the same strength for narrow and for wide
        features. For angles by which digits were rotated, 0.3 / n_features explains up to 0.17 less of the variance,
        and 3 / n_features up to 0.01 more in up to three times the time.
    epsilon : float
        The error, in standard deviations of the target, up to which the loss is 0.
    max_iter : int
        The largest number of iterations of the solver, LIBLINEAR.
    scale : bool
        Whether features are scaled. Without scaling, the default of C is 1 / their total variance.
    pca : int or float, optional
        The principal components to keep, as a number or as a share of the variance.

    Attributes
    ----------
    n_features_in_ : int
    """

    def __init__(
        self,
        C: float | None = None,
        epsilon: float = 0.1,
        max_iter: int = 1000,
        scale: bool = True,
        pca: int | float | None = None,
    ) -> None:
        self.C = C
        self.epsilon = epsilon
        self.max_iter = max_iter
        self.scale = scale
        self.pca = pca

    def _check(self) -> None:
        super()._check()
        require(self.C is None or self.C > 0, "C", self.C, "above 0")
        require(self.epsilon >= 0, "epsilon", self.epsilon, "at least 0")
        require(self.max_iter >= 1, "max_iter", self.max_iter, "at least 1")

    def _regressor(self, X: np.ndarray) -> Any:
        C = STRENGTH / self._mean_square(X) if self.C is None else self.C
        return LinearSVR(C=C, epsilon=self.epsilon, max_iter=self.max_iter, random_state=0)

    def _is_rotation_invariant(self) -> bool:
        return True

    def _description(self) -> str:
        return "a fitted linear-svm head for numbers"


# The settings below were compared on features by glyphnet of scikit-learn's digits, each rotated by a random angle: by
# how much of the variance of the angles they explain after training on 60 to 1,200 images. A function imports its
# estimator itself where that loads a large part of scikit-learn.


def svm_rbf() -> RegressorHead:
    """A head of support vector regression with the kernel exp(-gamma d^2)."""
    return RegressorHead(SVR())


def knn() -> RegressorHead:
    """A head of the 10 nearest neighbours by the angle between features, of which nearer ones count more."""
    from sklearn.neighbors import KNeighborsRegressor  # slow to load

    nearest = KNeighborsRegressor(n_neighbors=10, weights="distance", metric="cosine", algorithm="brute")
    return RegressorHead(nearest, scale=False)


def random_forest() -> RegressorHead:
    """A head of a random forest of 300 trees, in which each split chooses among a tenth of the features.

    With a third of the features, up to 0.04 more of the variance is explained in three times the time.
    """
    from sklearn.ensemble import RandomForestRegressor  # slow to load

    return RegressorHead(RandomForestRegressor(300, max_features=0.1, random_state=0, n_jobs=-1), scale=False)


def hist_gradient_boosting() -> RegressorHead:
    """A head of boosted trees with few leaves, in which each split chooses among a tenth of the features."""
    from sklearn.ensemble import HistGradientBoostingRegressor  # slow to load

    boosted = HistGradientBoostingRegressor(
        learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=5, max_features=0.1, early_stopping=False, random_state=0
    )
    return RegressorHead(boosted, scale=False)


def _checked(estimator: Any, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Features and targets, once scikit-learn and we have checked them."""
    y = y if y is None else as_targets(y)  # scikit-learn raises an error where there are no targets
    return validate_data(estimator, X, y, dtype=[np.float32, np.float64], multi_output=True)


def _takes_several(estimator: Any) -> bool:
    """Whether `estimator` is fitted to several targets at once; one that is not of scikit-learn has to be."""
    return not isinstance(estimator, BaseEstimator) or get_tags(estimator).target_tags.multi_output
