"""Probabilities from any classifier: a softmax of its decision values, with a temperature that inner folds choose.

Temperature scaling (Guo et al., "On calibration of modern neural networks", ICML 2017) has one parameter, so a few
rows suffice to learn it, and it keeps the order of the classes: the class with the highest decision value stays the
likeliest. On letters, glyphnet's held-out script, its log-loss is lower than that of a sigmoid for each class, with 3
to 40 rows of a class, and the sigmoids predict fewer letters right.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from heads.splitting.fit_groups import encode_groups, fit_params
from heads.temperature import inverse_temperature

# Added to probabilities before their logarithm is taken: k neighbours cannot measure probabilities far below 1 / k.
SMALLEST_SHARE = 1e-2
# The slope of the sigmoid of a pair of classes: support vectors have decision values of -1 and 1, and sigmoid(2) is
# 0.88. On letters the log-loss is about the same for slopes from 1 to 4.
SLOPE = 2.0


class TemperatureScaled(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """A classifier with the probabilities ``softmax(decision values / temperature)``.

    Where a classifier has no decision values, the logarithms of its probabilities take their place. For a support
    vector machine with more than two classes, the value of a class is the sum, over the other classes, of the
    log-probability that the class wins against the other one. These values keep how certain the machine is; the votes
    of the pairs, which scikit-learn gives by default, do not.

    Parameters
    ----------
    estimator : classifier
        An object with `decision_function` or `predict_proba`.
    folds : int
        The number of inner folds, on whose held-out rows the temperature is learned. A fold consists of blocks of rows
        of each class, or of groups of rows; the only row, or group, of a class is never held out. With 0 folds the
        estimator's own probabilities are used, where it has them. With 0 folds, or where no class has two rows, the
        temperature is 1 otherwise.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    estimator_ : classifier
        The classifier, fitted to all rows.
    inverse_temperature_ : float or None
        None where the estimator's own probabilities are used.
    """

    def __init__(self, estimator: Any, folds: int = 3) -> None:
        self.estimator = estimator
        self.folds = folds

    def fit(self, X: Any, y: np.ndarray, groups: np.ndarray | None = None) -> Self:
        """Fit to features of shape (n, d) and labels of shape (n,).

        Parameters
        ----------
        groups : ndarray of shape (n,), optional
            Equal for rows that stay together in the inner folds. They are passed on to an estimator whose `fit` takes
            groups.
        """
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64])
        check_classification_targets(y)
        self.classes_, target = np.unique(y, return_inverse=True)
        groups = encode_groups(groups, y)
        self.estimator_ = _fitted(self.estimator, X, y, self.classes_, groups)
        native = not self.folds and hasattr(self.estimator_, "predict_proba")
        self.inverse_temperature_ = None if native else self._learn_temperature(X, y, target, groups)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row."""
        probabilities = self.predict_proba(X)
        return self.classes_[np.argmax(probabilities, axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (n, n_classes)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float32, np.float64])
        if self.inverse_temperature_ is None:
            return _native_probabilities(self.estimator_, X, len(self.classes_))
        return softmax(self.inverse_temperature_ * _logits(self.estimator_, X, len(self.classes_)), axis=1)

    def _learn_temperature(self, X: np.ndarray, y: np.ndarray, target: np.ndarray, groups: np.ndarray | None) -> float:
        """The inverse temperature that suits the held-out rows of the inner folds."""
        fold = _folds(target, self.folds) if groups is None else _folds_of_groups(target, self.folds, groups)
        held_out = np.flatnonzero(fold >= 0)
        if self.folds < 2 or not len(held_out):
            return 1.0
        logits = np.empty((len(y), len(self.classes_)))
        try:
            for number in np.unique(fold[held_out]):
                inside, outside = fold != number, fold == number
                inner_groups = None if groups is None else groups[inside]
                inner = _fitted(self.estimator, X[inside], y[inside], self.classes_, inner_groups)
                logits[outside] = _logits(inner, X[outside], len(self.classes_))
        except ValueError:  # the estimator could be fitted to all rows, but not to the rows of a fold
            return 1.0
        return inverse_temperature(logits[held_out], target[held_out])


def gives_probabilities(estimator: Any) -> bool:
    """Whether `TemperatureScaled` can give the probabilities of `estimator`."""
    return hasattr(estimator, "predict_proba") or hasattr(estimator, "decision_function")


def copy_for(estimator: Any, rows: int) -> Any:
    """A clone of `estimator` that can be fitted to this number of rows: it has at most as many neighbours."""
    new = clone(estimator, safe=False)
    params = new.get_params(deep=False) if hasattr(new, "get_params") else {}
    if type(params.get("n_neighbors")) is int:
        new.set_params(n_neighbors=min(params["n_neighbors"], rows))
    if params.get("algorithm") == "auto":  # a tree of neighbours cannot be saved, and saves no time in many dimensions
        new.set_params(algorithm="brute")
    if "decision_function_shape" in params:
        new.set_params(decision_function_shape="ovo")
    return new


def _fitted(estimator: Any, X: np.ndarray, y: np.ndarray, classes: np.ndarray, groups: np.ndarray | None) -> Any:
    """A clone of `estimator` that has been fitted, and has these `classes`."""
    new = copy_for(estimator, len(X))
    new.fit(X, y, **fit_params(new, groups))
    if not np.array_equal(getattr(new, "classes_", classes), classes):
        raise ValueError(f"{type(new).__name__} has the classes {new.classes_}; those of the labels are {classes}")
    return new


def _folds(target: np.ndarray, folds: int) -> np.ndarray:
    """The number of each row's fold, of shape (n,): -1 for the only row of a class, which is never held out.

    The blocks of each class start at another fold. So a fold does not hold out a row of every class, and where classes
    have two rows, some of them keep both.
    """
    counts = np.bincount(target)
    order = np.argsort(target, kind="stable")
    rank = np.empty(len(target), np.int64)
    rank[order] = np.arange(len(target)) - np.repeat(np.cumsum(counts) - counts, counts)
    fold = (rank * folds // counts[target] + target) % max(folds, 1)
    return np.where(counts[target] > 1, fold, -1)


def _folds_of_groups(target: np.ndarray, folds: int, groups: np.ndarray) -> np.ndarray:
    """The number of each row's fold where groups stay together: -1 for the only group of a class as well.

    A group of several classes counts for the class that has the fewest groups. A group is not held out if all rows of a
    class would be in one fold otherwise.

    Parameters
    ----------
    groups : ndarray of shape (n,)
        As `heads.splitting.fit_groups.encode_groups` gives them.
    """
    group, label = np.unique(np.stack([groups, target]), axis=1)  # each pair of a group and a class in it
    order = np.lexsort((np.bincount(label)[label], group))
    rarest = label[order][np.unique(group[order], return_index=True)[1]]
    fold = _folds(rarest, folds)[groups]
    for number in range(folds):
        missing = ~np.isin(target, target[fold != number])
        fold[np.isin(groups, groups[missing])] = -1
    return fold


def _logits(estimator: Any, X: np.ndarray, k: int) -> np.ndarray:
    """Values of shape (n, k) whose softmax, at the right temperature, are the probabilities."""
    if not hasattr(estimator, "decision_function"):
        return np.log(_native_probabilities(estimator, X, k) + SMALLEST_SHARE)
    values = np.asarray(estimator.decision_function(X), np.float64)
    if k == 2:
        values = values.reshape(-1, 1) if values.ndim == 1 else values
        values = np.hstack([np.zeros_like(values), values]) if values.shape[1] == 1 else values
    elif getattr(estimator, "decision_function_shape", None) == "ovo":
        values = _logits_of_pairs(values, k)
    if values.shape != (len(X), k) or not np.isfinite(values).all():
        raise ValueError(
            f"decision_function of {type(estimator).__name__} should return {len(X)} rows of {k} finite values; "
            f"it returned {_outline(values)}"
        )
    return values


def _logits_of_pairs(values: np.ndarray, k: int) -> np.ndarray:
    """For each class the sum of its log-probabilities to win, over its pairs (0-1, 0-2, ..., 1-2, ...)."""
    logits = np.zeros((len(values), k))
    for column, (first, second) in enumerate(zip(*np.triu_indices(k, 1), strict=True)):
        logits[:, first] -= np.logaddexp(0, -SLOPE * values[:, column])
        logits[:, second] -= np.logaddexp(0, SLOPE * values[:, column])
    return log_softmax(logits, axis=1)


def _native_probabilities(estimator: Any, X: np.ndarray, k: int) -> np.ndarray:
    """The estimator's own probabilities of shape (n, k), once they have been checked."""
    values = np.asarray(estimator.predict_proba(X))
    numbers = values.shape == (len(X), k) and values.dtype.kind == "f" and np.isfinite(values).all()
    if not numbers or (values < 0).any() or np.abs(values.sum(1) - 1).max(initial=0) > 1e-3:
        raise ValueError(
            f"predict_proba of {type(estimator).__name__} should return {len(X)} rows of {k} probabilities that sum to "
            f"1; it returned {_outline(values)}"
        )
    return values


def _outline(values: np.ndarray) -> str:
    """The dtype, the shape and the first value, for error messages."""
    first = f", the first of them {values.flat[0]}" if values.size else ""
    return f"{values.dtype} of shape {values.shape}{first}"
