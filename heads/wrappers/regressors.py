"""`RegressorHead`: a head made of any regressor of scikit-learn, and those that have a name of their own."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin
from sklearn.multioutput import MultiOutputRegressor
from sklearn.svm import LinearSVR
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from heads.splitting.groups import fit_params
from heads.validation import as_rows, as_targets, require, standardised
from heads.wrappers.base import OfEstimator, Steps
from heads.wrappers.calibration import copy_for

STRENGTH = 1.0


class StandardTargets(RegressorMixin, MetaEstimatorMixin, BaseEstimator):
    """A regressor that is given targets of zero mean and unit variance, one or several.

    As scikit-learn's `TransformedTargetRegressor` with a `StandardScaler`, but for what it is given: an estimator that
    takes one target is fitted once for each (`MultiOutputRegressor`), and one of the user's need not have `get_params`.

    Parameters
    ----------
    estimator : regressor
        It is cloned. A number of neighbours above the number of rows is taken for that number.
    scale : bool
        Without it, targets are left as they are.

    Attributes
    ----------
    estimator_ : regressor
    mean_, spread_ : ndarray of shape () or (k,), as the targets are of shape (n,) or (n, k)
    """

    def __init__(self, estimator: Any, scale: bool = True) -> None:
        self.estimator = estimator
        self.scale = scale

    def fit(self, X: Any, y: Any, groups: np.ndarray | None = None) -> Self:
        """Fit to features of shape (n, d) and targets of shape (n,) or (n, k).

        Parameters
        ----------
        groups : ndarray of shape (n,), optional
            For an estimator whose `fit` takes them (see `heads.splitting.groups`).
        """
        X, y = _checked(self, X, y)
        self.mean_, self.spread_ = np.zeros(y.shape[1:]), np.ones(y.shape[1:])
        if self.scale:
            y, self.mean_, self.spread_ = standardised(y)
        estimator = copy_for(self.estimator, len(X))
        several = self.mean_.size > 1
        told = fit_params(estimator, groups)
        if several and not _takes_several(estimator):
            estimator = MultiOutputRegressor(estimator)
        self.estimator_ = estimator.fit(X, y if several else y.ravel(), **told)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Targets of shape (n,) or (n, k), as those of `fit`, float64."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float32, np.float64])
        said = np.asarray(self.estimator_.predict(X), np.float64)
        if said.size != len(X) * self.mean_.size or len(said) != len(X) or not np.isfinite(said).all():
            raise ValueError(
                f"predict of {type(self.estimator).__name__} should return {len(X)} rows of {self.mean_.size} finite "
                f"numbers; it returned an array of shape {said.shape}"
            )
        return said.reshape(len(X), *self.mean_.shape) * self.spread_ + self.mean_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class _RegressorSteps(RegressorMixin, Steps):
    """Features scaled, their principal components, a regressor of standardised targets.

    A subclass has `_regressor`, and the parameters of `Steps`.
    """

    scale_targets = True

    def fit(self, X: Any, y: Any, groups: np.ndarray | None = None) -> Self:
        """Fit to features of shape (n, ...) and targets of shape (n,) or (n, k).

        Parameters
        ----------
        groups : ndarray of shape (n,), optional
            For a regressor of the user's whose `fit` takes them (see `heads.splitting.groups`).

        Raises
        ------
        BadData
            When a target is not a finite number.
        InvalidChoice
            When the regressor refuses them, or a parameter is out of range.
        """
        X, y = _checked(self, as_rows(X), y)
        self._check()
        self._fit_steps(X, y, groups)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Targets of shape (n,) or (n, k), as those of `fit`, float64."""
        return self._said("predict", X)

    def _last_step(self, X: np.ndarray) -> Any:
        return StandardTargets(self._regressor(X), self.scale_targets)

    def _regressor(self, X: np.ndarray) -> Any:
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class RegressorHead(OfEstimator, _RegressorSteps):
    """Scaling, principal components, and any regressor of one or several targets.

    Parameters
    ----------
    estimator : regressor
        With `fit` and `predict`. It is cloned; where it takes one target, a copy is fitted for each of several. A
        number of neighbours above the number of rows is taken for that number.
    scale : bool
        Whether features are scaled to zero mean, unit variance.
    pca : int or float, optional
        Principal components to keep, as a number or as a share of the variance.
    scale_targets : bool
        Whether the regressor is given targets of zero mean, unit variance, so that its parameters mean the same in any
        unit. Those that take positive targets alone (Poisson, gamma) need them as they are.

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
    """scikit-learn's `LinearSVR` on features and targets scaled to zero mean, unit variance.

    Parameters
    ----------
    C : float, optional
        Inverse strength of the regularisation. By default 1 / n_features, the same strength for narrow and wide
        features. Of angles by which digits were turned, 0.3 / n_features explains up to 0.17 less of the variance, and
        3 / n_features up to 0.01 more in up to three times the time.
    epsilon : float
        Errors up to so many standard deviations of the target cost nothing.
    max_iter : int
        Of the solver, LIBLINEAR.
    scale : bool
        Whether features are scaled. Where they are not, the default of C is 1 / their total variance.
    pca : int or float, optional
        Principal components to keep, as a number or as a share of the variance.

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

    def _is_turnable(self) -> bool:
        return True

    def _what(self) -> str:
        return "a fitted linear-svm head for numbers"


# Settings were compared on features by glyphnet of scikit-learn's digits, of which each was turned by a random angle:
# how much of the variance of angles is explained, with 60 to 1,200 images to learn from.


def svm_rbf() -> RegressorHead:
    """Support vector regression with the kernel exp(-gamma d^2)."""
    from sklearn.svm import SVR

    return RegressorHead(SVR())


def knn() -> RegressorHead:
    """The 10 nearest by the angle between features, nearer ones counting more, as for classes."""
    from sklearn.neighbors import KNeighborsRegressor

    nearest = KNeighborsRegressor(n_neighbors=10, weights="distance", metric="cosine", algorithm="brute")
    return RegressorHead(nearest, scale=False)


def random_forest() -> RegressorHead:
    """300 trees, each split choosing among a tenth of the features.

    With a third, the angles below are told up to 0.04 better in three times the time.
    """
    from sklearn.ensemble import RandomForestRegressor

    return RegressorHead(RandomForestRegressor(300, max_features=0.1, random_state=0, n_jobs=-1), scale=False)


def hist_gradient_boosting() -> RegressorHead:
    """Boosted trees of few leaves, each split choosing among a tenth of the features, as for classes."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    boosted = HistGradientBoostingRegressor(
        learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=5, max_features=0.1, early_stopping=False, random_state=0
    )
    return RegressorHead(boosted, scale=False)


def _checked(estimator: Any, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    y = y if y is None else as_targets(y)  # that there are none, scikit-learn says
    return validate_data(estimator, X, y, dtype=[np.float32, np.float64], multi_output=True)


def _takes_several(estimator: Any) -> bool:
    """Whether it is fitted to several targets at once: what the user wrote without scikit-learn has to be."""
    return not isinstance(estimator, BaseEstimator) or get_tags(estimator).target_tags.multi_output
