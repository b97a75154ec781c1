"""`EstimatorHead`: a head made of any classifier by scikit-learn's rules, and those that have a name of their own.

Heads by import path, and of the user's code, are made here for regressors too (see `heads.wrappers.regressors`).
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.utils import get_tags

from feature_cache.errors import InvalidChoice, unknown
from heads import user_code
from heads.validation import require
from heads.wrappers.base import OfEstimator, PipelineHead
from heads.wrappers.calibration import gives_probabilities
from heads.wrappers.regressors import RegressorHead

# Packages of scikit-learn whose estimators care for each feature on its own, or for counts.
AS_THEY_ARE = ("sklearn.tree", "sklearn.ensemble", "sklearn.naive_bayes", "sklearn.dummy")
LOGISTIC_STRENGTH, SVM_STRENGTH = 4.0, 0.3  # of the default C: the number divided by the squared length of a row


class EstimatorHead(OfEstimator, PipelineHead):
    """Scaling, principal components, and any classifier, with calibrated probabilities.

    Parameters
    ----------
    estimator : classifier
        With `fit`, and `predict_proba` or `decision_function`. It is cloned. A number of neighbours above the number of
        rows is taken for that number.
    scale : bool
        Whether features are scaled to zero mean, unit variance.
    pca : int or float, optional
        Principal components to keep, as a number or as a share of the variance.
    calibrate : bool
        Whether probabilities get a temperature, learned on inner folds, which means three more fits (see
        `heads.wrappers.calibration`). Without it an estimator's own probabilities are left as they are, and decision
        values turned to probabilities by a softmax.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    """

    def __init__(
        self, estimator: Any, scale: bool = True, pca: int | float | None = None, calibrate: bool = True
    ) -> None:
        self.estimator = estimator
        self.scale = scale
        self.pca = pca
        self.calibrate = calibrate

    def _check(self) -> None:
        super()._check()
        if not gives_probabilities(self.estimator):
            raise InvalidChoice(f"{self._name()} has neither predict_proba nor decision_function.")

    def _classifier(self, X: np.ndarray) -> Any:
        return self._calibrated(self.estimator, self.calibrate)

    def _is_turnable(self) -> bool:
        return type(self.estimator).__name__ == "LinearDiscriminantAnalysis" and self.estimator.solver == "lsqr"


class LogisticHead(PipelineHead):
    """L2-regularised multinomial logistic regression on features scaled to zero mean, unit variance.

    Parameters
    ----------
    C : float, optional
        Inverse strength of the regularisation. By default 4 / n_features: a standardised row has a
        squared norm of about n_features, so the strength is then the same for narrow and wide
        features. The 4 was chosen on letters, glyphnet's held-out script.
    max_iter : int
        Of the solver, L-BFGS.
    class_weight : dict or "balanced", optional
        How much rows of each class count; "balanced" makes up for classes of different sizes.
    scale : bool
        Whether features are scaled. Where they are not, the default of C is 4 / their total variance.
    pca : int or float, optional
        Principal components to keep, as a number or as a share of the variance.
    calibrate : bool
        Whether probabilities get a temperature, learned on inner folds (see `heads.wrappers.calibration`).

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    """

    def __init__(
        self,
        C: float | None = None,
        max_iter: int = 1000,
        class_weight: dict | str | None = None,
        scale: bool = True,
        pca: int | float | None = None,
        calibrate: bool = False,
    ) -> None:
        self.C = C
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.scale = scale
        self.pca = pca
        self.calibrate = calibrate

    def _check(self) -> None:
        super()._check()
        require(self.C is None or self.C > 0, "C", self.C, "above 0")
        require(self.max_iter >= 1, "max_iter", self.max_iter, "at least 1")

    def _classifier(self, X: np.ndarray) -> Any:
        C = LOGISTIC_STRENGTH / self._mean_square(X) if self.C is None else self.C
        classifier = LogisticRegression(C=C, max_iter=self.max_iter, class_weight=self.class_weight)
        return self._calibrated(classifier, True) if self.calibrate else classifier

    def _is_turnable(self) -> bool:
        return True

    def _what(self) -> str:
        return "a fitted logistic head"


class LinearSVMHead(PipelineHead):
    """scikit-learn's `LinearSVC` on features scaled to zero mean, unit variance.

    Parameters
    ----------
    C : float, optional
        Inverse strength of the regularisation. By default 0.3 / n_features, the same strength for narrow and wide
        features. On letters, glyphnet's held-out script, 4 / n_features names up to 3 % fewer right and takes up to six
        times as long.
    max_iter : int
        Of the solver, LIBLINEAR.
    class_weight : dict or "balanced", optional
        How much rows of each class count; "balanced" makes up for classes of different sizes.
    scale : bool
        Whether features are scaled. Where they are not, the default of C is 0.3 / their total variance.
    pca : int or float, optional
        Principal components to keep, as a number or as a share of the variance.
    calibrate : bool
        Whether the softmax of the decision values gets a temperature, learned on inner folds (see
        `heads.wrappers.calibration`).

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    """

    def __init__(
        self,
        C: float | None = None,
        max_iter: int = 1000,
        class_weight: dict | str | None = None,
        scale: bool = True,
        pca: int | float | None = None,
        calibrate: bool = True,
    ) -> None:
        self.C = C
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.scale = scale
        self.pca = pca
        self.calibrate = calibrate

    def _check(self) -> None:
        super()._check()
        require(self.C is None or self.C > 0, "C", self.C, "above 0")
        require(self.max_iter >= 1, "max_iter", self.max_iter, "at least 1")

    def _classifier(self, X: np.ndarray) -> Any:
        C = SVM_STRENGTH / self._mean_square(X) if self.C is None else self.C
        classifier = LinearSVC(C=C, max_iter=self.max_iter, class_weight=self.class_weight, random_state=0)
        return self._calibrated(classifier, self.calibrate)

    def _is_turnable(self) -> bool:
        return True

    def _what(self) -> str:
        return "a fitted linear-svm head"


# Settings were compared on letters, glyphnet's held-out script, with 1 to 40 labelled images for each of 23 classes.


def svm_rbf() -> EstimatorHead:
    """A support vector machine with the kernel exp(-gamma d^2)."""
    from sklearn.svm import SVC

    return EstimatorHead(SVC(random_state=0))


def knn() -> EstimatorHead:
    """The 10 nearest by the angle between features, nearer ones counting more.

    Angles name up to 5 % more right than distances do, and are best without scaling.
    """
    from sklearn.neighbors import KNeighborsClassifier

    nearest = KNeighborsClassifier(n_neighbors=10, weights="distance", metric="cosine", algorithm="brute")
    return EstimatorHead(nearest, scale=False)


def lda() -> EstimatorHead:
    """Linear discriminant analysis; covariances are shrunk, so that there may be more features than images.

    By the oracle approximating shrinkage of Chen et al. ("Shrinkage algorithms for MMSE covariance estimation", 2010):
    that of Ledoit and Wolf, ``shrinkage="auto"``, does not shrink at all the covariance of a class with two images,
    and then nearly all predictions are wrong. Where there are more features than images, covariances are those in the
    span of the images (see `heads.wrappers.row_space`).
    """
    from sklearn.covariance import OAS
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    covariance = OAS(store_precision=False)
    return EstimatorHead(LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=covariance))


def prototypes() -> EstimatorHead:
    """The nearest class mean; without scaling it names as many right or more."""
    from heads.wrappers.prototypes import Prototypes

    return EstimatorHead(Prototypes(), scale=False)


def random_forest() -> EstimatorHead:
    """300 trees, which name up to 8 % more right than 100."""
    from sklearn.ensemble import RandomForestClassifier

    return EstimatorHead(RandomForestClassifier(300, random_state=0, n_jobs=-1), scale=False)


def hist_gradient_boosting() -> EstimatorHead:
    """Boosted trees of few leaves, each split choosing among a tenth of the features.

    On wide features that is faster than scikit-learn's defaults, and better. A temperature gains little and would
    take as long again, so it is not learned.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    boosted = HistGradientBoostingClassifier(
        learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=5, max_features=0.1, early_stopping=False, random_state=0
    )
    return EstimatorHead(boosted, scale=False, calibrate=False)


def by_path(path: str, task: str = "classes") -> EstimatorHead | RegressorHead:
    """A classifier or regressor of scikit-learn by its import path, with its defaults and a fixed random state.

    Parameters
    ----------
    task : str
        For ``regression`` it has to be a regressor, otherwise a classifier.

    Raises
    ------
    InvalidChoice
        When `path` is anything else.
    """
    wanted, kind_wanted, example = (
        ("regressor", RegressorMixin, "sklearn.svm:SVR")
        if task == "regression"
        else ("classifier", ClassifierMixin, "sklearn.svm:SVC")
    )
    if not re.fullmatch(r"sklearn(\.\w+)+:\w+", path):
        raise InvalidChoice(
            f"the head {path!r} is not imported; a path is that of a {wanted} of scikit-learn, such as "
            f"{example}. For anything else write a file with a function that returns it: `head='FILE.py:make_head'`."
        )
    package, name = path.split(":")
    try:
        module = importlib.import_module(package)
    except ImportError:
        raise InvalidChoice(f"scikit-learn has no module {package!r}.") from None
    kind = getattr(module, name, None)
    if not (inspect.isclass(kind) and kind.__module__.startswith("sklearn.")):
        raise unknown(f"{package} has no {wanted}", name, _public(module, kind_wanted))
    if not issubclass(kind, kind_wanted):
        if wanted == "regressor" and issubclass(kind, ClassifierMixin):
            raise InvalidChoice(
                f"{name} of {package} is a classifier; for numbers name a regressor, such as {example}."
            )
        raise InvalidChoice(f"{name} of {package} is not a {wanted}. Name one, such as {example}.")
    try:
        estimator: Any = kind()
    except TypeError:
        raise InvalidChoice(
            f"{name} of {package} needs arguments that are no text; write a file with a function that returns it: "
            "`head='FILE.py:make_head'`."
        ) from None
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=0)  # as the heads with names: the same rows give the same head
    scale = not kind.__module__.startswith(AS_THEY_ARE)
    if wanted == "regressor":
        return RegressorHead(estimator, scale, scale_targets=not get_tags(estimator).target_tags.positive_only)
    return EstimatorHead(estimator, scale)


def of_user(name: str, task: str = "classes") -> EstimatorHead | RegressorHead:
    """What the function ``FILE.py:make_head`` returns, with features, and probabilities or targets, as they are."""
    estimator = user_code.call(name)
    shown = f"the class {estimator.__name__}" if inspect.isclass(estimator) else f"{type(estimator).__name__}"
    fits = hasattr(estimator, "fit") and not inspect.isclass(estimator)
    if task == "regression":
        if not fits or not hasattr(estimator, "predict") or _classifies(estimator):
            raise InvalidChoice(f"{name} returned {shown}; for numbers it should return a regressor: fit and predict.")
        return RegressorHead(estimator, scale=False, scale_targets=False)
    if not fits or not gives_probabilities(estimator):
        raise InvalidChoice(
            f"{name} returned {shown}; it should return an estimator with fit, and predict_proba or decision_function."
        )
    return EstimatorHead(estimator, scale=False, calibrate=False)


def _classifies(estimator: Any) -> bool:
    return isinstance(estimator, BaseEstimator) and is_classifier(estimator)


def _public(module: Any, wanted: type) -> list[str]:
    return [
        name
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and issubclass(kind, wanted) and not name.startswith("_")
    ]
