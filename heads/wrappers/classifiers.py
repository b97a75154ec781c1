"""The heads that are classifiers of scikit-learn: `LogisticHead`, `LinearSVMHead`, and `EstimatorHead` for any other.

Functions make the heads that have a short name, those that are named by an import path, and those of the user's own
code; for the last two, of regressors as well (see `heads.wrappers.regressors`).
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC, LinearSVC
from sklearn.utils import get_tags

from feature_cache.errors import InvalidChoice, unknown
from heads import user_code
from heads.validation import require
from heads.wrappers.base import EstimatorMixin, PipelineHead
from heads.wrappers.calibration import gives_probabilities
from heads.wrappers.prototypes import Prototypes
from heads.wrappers.regressors import RegressorHead

# Packages of scikit-learn whose estimators need no scaling: they look at each feature by itself, or at counts.
UNSCALED = ("sklearn.tree", "sklearn.ensemble", "sklearn.naive_bayes", "sklearn.dummy")
LOGISTIC_STRENGTH, SVM_STRENGTH = 4.0, 0.3  # the default C, times the mean squared length of a row


class EstimatorHead(EstimatorMixin, PipelineHead):
    """A head of any classifier, after scaling and principal components, with calibrated probabilities.

    Parameters
    ----------
    estimator : classifier
        An object with `fit`, and with `predict_proba` or `decision_function`; it is cloned. If it has more neighbours
        than there are rows, all rows are neighbours.
    scale : bool
        Whether features are scaled to zero mean and unit variance.
    pca : int or float, optional
        The principal components to keep, as a number or as a share of the variance.
    calibrate : bool
        Whether probabilities get a temperature that is learned on inner folds, which means three more fits (see
        `heads.wrappers.calibration`). Otherwise the estimator's own probabilities are used as they are, or the softmax
        of its decision values.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int

    Examples
    --------
    >>> from sklearn.naive_bayes import GaussianNB
    >>> X, y = np.array([[0.0], [1.0], [8.0], [9.0]]), np.array(["a", "a", "b", "b"])
    >>> EstimatorHead(GaussianNB()).fit(X, y).predict(np.array([[0.5]])).tolist()
    ['a']
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

    def _is_rotation_invariant(self) -> bool:
        return type(self.estimator).__name__ == "LinearDiscriminantAnalysis" and self.estimator.solver == "lsqr"


class LogisticHead(PipelineHead):
    """L2-regularised multinomial logistic regression on features scaled to zero mean and unit variance.

    Parameters
    ----------
    C : float, optional
        The inverse strength of the regularisation. By default 4 / n_features: a scaled row has a mean squared length of
        n_features, so the strength is the same for narrow and for wide features. The 4 was chosen on letters,
        glyphnet's held-out script.
    max_iter : int
        The largest number of iterations of the solver, L-BFGS.
    class_weight : dict or "balanced", optional
        The weights of the classes; "balanced" compensates for classes of different sizes.
    scale : bool
        Whether features are scaled. Without scaling, the default of C is 4 / their total variance.
    pca : int or float, optional
        The principal components to keep, as a number or as a share of the variance.
    calibrate : bool
        Whether probabilities get a temperature that is learned on inner folds (see `heads.wrappers.calibration`).

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int

    Examples
    --------
    >>> X, y = np.array([[0.0], [1.0], [8.0], [9.0]]), np.array(["a", "a", "b", "b"])
    >>> LogisticHead().fit(X, y).predict(np.array([[0.5]])).tolist()
    ['a']
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

    def _is_rotation_invariant(self) -> bool:
        return True

    def _description(self) -> str:
        return "a fitted logistic head"


class LinearSVMHead(PipelineHead):
    """A linear support vector machine for each class against the rest, on scaled features, with probabilities.

    The machine is scikit-learn's `LinearSVC`.

    Parameters
    ----------
    C : float, optional
        The inverse strength of the regularisation. By default 0.3 / n_features, the same strength for narrow and for
        wide features. On letters, glyphnet's held-out script, 4 / n_features predicts up to 3 % fewer letters right and
        takes up to six times as long.
    max_iter : int
        The largest number of iterations of the solver, LIBLINEAR.
    class_weight : dict or "balanced", optional
        The weights of the classes; "balanced" compensates for classes of different sizes.
    scale : bool
        Whether features are scaled. Without scaling, the default of C is 0.3 / their total variance.
    pca : int or float, optional
        The principal components to keep, as a number or as a share of the variance.
    calibrate : bool
        Whether the softmax of the decision values has a temperature that is learned on inner folds (see
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

    def _is_rotation_invariant(self) -> bool:
        return True

    def _description(self) -> str:
        return "a fitted linear-svm head"


# The settings below were compared on letters, glyphnet's held-out script, with 1 to 40 labelled images for each of 23
# classes. A function imports its estimator itself where that loads a large part of scikit-learn, so that a head loads
# nothing that it does not need.


def svm_rbf() -> EstimatorHead:
    """A head of a support vector machine with the kernel exp(-gamma d^2)."""
    return EstimatorHead(SVC(random_state=0))


def knn() -> EstimatorHead:
    """A head of the 10 nearest neighbours by the angle between features, of which nearer ones count more.

    Angles predict up to 5 % more letters right than distances do, and are best without scaling.
    """
    from sklearn.neighbors import KNeighborsClassifier  # slow to load

    nearest = KNeighborsClassifier(n_neighbors=10, weights="distance", metric="cosine", algorithm="brute")
    return EstimatorHead(nearest, scale=False)


def lda() -> EstimatorHead:
    """A head of linear discriminant analysis with shrunk covariances, so that there may be more features than images.

    Covariances have the oracle approximating shrinkage of Chen et al. ("Shrinkage algorithms for MMSE covariance
    estimation", 2010). That of Ledoit and Wolf, ``shrinkage="auto"``, does not shrink the covariance of a class with
    two images at all, and then nearly all predictions are wrong. Where there are more features than images, covariances
    are those in the row space (see `heads.wrappers.row_space`).
    """
    from sklearn.covariance import OAS  # slow to load
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # slow to load

    covariance = OAS(store_precision=False)
    return EstimatorHead(LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=covariance))


def prototypes() -> EstimatorHead:
    """A head of the nearest class mean, which predicts as many letters right without scaling, or more."""
    return EstimatorHead(Prototypes(), scale=False)


def random_forest() -> EstimatorHead:
    """A head of a random forest of 300 trees, which predict up to 8 % more letters right than 100."""
    from sklearn.ensemble import RandomForestClassifier  # slow to load

    return EstimatorHead(RandomForestClassifier(300, random_state=0, n_jobs=-1), scale=False)


def hist_gradient_boosting() -> EstimatorHead:
    """A head of boosted trees with few leaves, in which each split chooses among a tenth of the features.

    On wide features that is faster and better than scikit-learn's defaults. A temperature improves little and would
    take as long as the fit, so none is learned.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # slow to load

    boosted = HistGradientBoostingClassifier(
        learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=5, max_features=0.1, early_stopping=False, random_state=0
    )
    return EstimatorHead(boosted, scale=False, calibrate=False)


def by_path(path: str, task: str = "classes") -> EstimatorHead | RegressorHead:
    """A head of an estimator of scikit-learn by its import path, with its defaults and a fixed random state.

    Parameters
    ----------
    path : str
        The module and the class, as ``sklearn.svm:SVC``.
    task : str
        The estimator has to be a regressor for ``regression``, otherwise a classifier.

    Raises
    ------
    InvalidChoice
        When `path` is anything else.
    """
    kind = _estimator_class(path, "regressor" if task == "regression" else "classifier")
    try:
        estimator: Any = kind()
    except TypeError:
        raise InvalidChoice(
            f"{kind.__name__} of {path.split(':')[0]} needs arguments that are no text; write a file with a function "
            "that returns it: `head='FILE.py:make_head'`."
        ) from None
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=0)  # the same rows give the same head, as for the heads with short names
    scale = not kind.__module__.startswith(UNSCALED)
    if task == "regression":
        return RegressorHead(estimator, scale, scale_targets=not get_tags(estimator).target_tags.positive_only)
    return EstimatorHead(estimator, scale)


def _estimator_class(path: str, role: str) -> type:
    """The class of scikit-learn at `path`, which has to be a ``classifier`` or a ``regressor``."""
    mixin, example = (
        (RegressorMixin, "sklearn.svm:SVR") if role == "regressor" else (ClassifierMixin, "sklearn.svm:SVC")
    )
    if not re.fullmatch(r"sklearn(\.\w+)+:\w+", path):
        raise InvalidChoice(
            f"the head {path!r} is not imported; a path is that of a {role} of scikit-learn, such as "
            f"{example}. For anything else write a file with a function that returns it: `head='FILE.py:make_head'`."
        )
    package, name = path.split(":")
    try:
        module = importlib.import_module(package)
    except ImportError:
        raise InvalidChoice(f"scikit-learn has no module {package!r}.") from None
    kind = getattr(module, name, None)
    if not (inspect.isclass(kind) and kind.__module__.startswith("sklearn.")):
        raise unknown(f"{package} has no {role}", name, _public_classes(module, mixin))
    if not issubclass(kind, mixin):
        if role == "regressor" and issubclass(kind, ClassifierMixin):
            raise InvalidChoice(
                f"{name} of {package} is a classifier; for numbers name a regressor, such as {example}."
            )
        raise InvalidChoice(f"{name} of {package} is not a {role}. Name one, such as {example}.")
    return kind


def of_user(name: str, task: str = "classes") -> EstimatorHead | RegressorHead:
    """A head of the estimator that the user's function returns; features and targets are passed to it unscaled.

    Parameters
    ----------
    name : str
        The file and the function, as ``FILE.py:make_head``. The file is run.
    task : str
        The estimator has to be a regressor for ``regression``, otherwise a classifier.

    Raises
    ------
    InvalidChoice
        When the file cannot be run, or the function returns something else.
    """
    estimator = user_code.call(name)
    shown = f"the class {estimator.__name__}" if inspect.isclass(estimator) else type(estimator).__name__
    fits = hasattr(estimator, "fit") and not inspect.isclass(estimator)
    if task == "regression":
        if not fits or not hasattr(estimator, "predict") or _is_classifier(estimator):
            raise InvalidChoice(f"{name} returned {shown}; for numbers it should return a regressor: fit and predict.")
        return RegressorHead(estimator, scale=False, scale_targets=False)
    if not fits or not gives_probabilities(estimator):
        raise InvalidChoice(
            f"{name} returned {shown}; it should return an estimator with fit, and predict_proba or decision_function."
        )
    return EstimatorHead(estimator, scale=False, calibrate=False)


def _is_classifier(estimator: Any) -> bool:
    return isinstance(estimator, BaseEstimator) and is_classifier(estimator)


def _public_classes(module: Any, base: type) -> list[str]:
    """The names of the classes in `module` that derive from `base`."""
    return [
        name
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and issubclass(kind, base) and not name.startswith("_")
    ]
