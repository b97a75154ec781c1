"""Probabilities from any classifier: a softmax of its decision values, with a temperature learned on inner folds.

Temperature scaling (Guo et al., "On calibration of modern neural networks", ICML 2017) has one parameter, so a few
rows suffice to learn it, and it leaves the order of the classes alone: the class with the highest decision value stays
the likeliest. Compared with a sigmoid for each class on letters, glyphnet's held-out script, it has the lower log-loss
from 3 to 40 rows a class, and the sigmoids name fewer letters right.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from heads.splitting.groups import encode_groups, fit_params

# Added to probabilities before their logarithm is taken: k neighbours tell nothing of shares far below 1 / k.
SHARE = 1e-2
# Decision values of support vectors lie at -1 and 1; sigmoid(2) is 0.88. On letters log-loss is flat between 1 and 4.
SLOPE = 2.0


class TemperatureScaled(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """A classifier with the probabilities ``softmax(decision values / temperature)``.

    Where it has no decision values, the logarithms of its probabilities take their place. Those of a support vector
    machine with more than two classes come from its pairs of classes: the sum over the other classes of the
    log-probability to be chosen from the pair, which keeps how sure the machine is; the votes of the pairs, which
    scikit-learn gives by default, do not.

    Parameters
    ----------
    estimator : classifier
        With `decision_function` or `predict_proba`.
    folds : int
        Inner folds whose held-out rows the temperature is learned on. They are blocks of rows within each class, or of
        groups of rows; the only row, or group, of a class is never held out. With 0 folds, or where no class has two,
        the temperature is 1, and an estimator's own probabilities are left as they are.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    estimator_ : classifier
        Fitted on all rows.
    inverse_temperature_ : float or None
        None for the estimator's own probabilities.
    """

    def __init__(self, estimator: Any, folds: int = 3) -> None:
        self.estimator = estimator
        self.folds = folds

    def fit(self, X: Any, y: np.ndarray, groups: np.ndarray | None = None) -> Self:
        """Fit to features of shape (n, d) and labels of shape (n,).

        Parameters
        ----------
        groups : ndarray of shape (n,), optional
            Equal for rows that are held out together, or not at all. An estimator whose `fit` takes groups is given
            them as well.
        """
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64])
        check_classification_targets(y)
        self.classes_, target = np.unique(y, return_inverse=True)
        groups = encode_groups(groups, y)
        self.estimator_ = _fitted(self.estimator, X, y, self.classes_, groups)
        own = not self.folds and hasattr(self.estimator_, "predict_proba")
        self.inverse_temperature_ = None if own else self._learned(X, y, target, groups)
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
            return _own_probabilities(self.estimator_, X, len(self.classes_))
        return softmax(self.inverse_temperature_ * _logits(self.estimator_, X, len(self.classes_)), axis=1)

    def _learned(self, X: np.ndarray, y: np.ndarray, target: np.ndarray, groups: np.ndarray | None) -> float:
        fold = _folds(target, self.folds) if groups is None else _folds_of_groups(target, self.folds, groups)
        held_out = np.flatnonzero(fold >= 0)
        if self.folds < 2 or not len(held_out):
            return 1.0
        logits = np.empty((len(y), len(self.classes_)))
        try:
            for number in np.unique(fold[held_out]):
                inside, outside = fold != number, fold == number
                together = None if groups is None else groups[inside]
                inner = _fitted(self.estimator, X[inside], y[inside], self.classes_, together)
                logits[outside] = _logits(inner, X[outside], len(self.classes_))
        except ValueError:  # all rows sufficed, which `fit` has shown, and these do not
            return 1.0
        return inverse_temperature(logits[held_out], target[held_out])


def inverse_temperature(logits: np.ndarray, target: np.ndarray) -> float:
    """The factor of logits with the lowest log-loss.

    The truth counts as (n + 1) / (n + 2) sure (the targets of Platt, "Probabilistic outputs for support vector
    machines", 1999): a few rows that are all right do not make for certainty.

    Parameters
    ----------
    logits : ndarray of shape (n, n_classes)
    target : ndarray of shape (n,), int
        The column of each row's class.
    """
    n, k = logits.shape
    logits = logits - logits.mean(1, keepdims=True)
    unit = float(np.sqrt(np.mean(logits**2)))
    if unit == 0 or not np.isfinite(unit):
        return 1.0
    doubt = 1 / (n + 2)
    true = logits[np.arange(n), target]
    wanted = (1 - doubt) * true - doubt / (k - 1) * true  # a row's logits sum to 0

    def loss(log_factor: float) -> float:
        factor = np.exp(log_factor) / unit
        return float(np.mean(logsumexp(factor * logits, axis=1) - factor * wanted))

    return float(np.exp(minimize_scalar(loss, bounds=(-10, 10), method="bounded").x) / unit)


def gives_probabilities(estimator: Any) -> bool:
    """Whether `TemperatureScaled` can use it."""
    return hasattr(estimator, "predict_proba") or hasattr(estimator, "decision_function")


def copy_for(estimator: Any, rows: int) -> Any:
    """A clone to be fitted to so many rows: what depends on their number is bounded by it."""
    new = clone(estimator, safe=False)
    params = new.get_params(deep=False) if hasattr(new, "get_params") else {}
    if type(params.get("n_neighbors")) is int:
        new.set_params(n_neighbors=min(params["n_neighbors"], rows))
    if params.get("algorithm") == "auto":  # a tree of neighbours cannot be kept, and in many dimensions does not help
        new.set_params(algorithm="brute")
    if "decision_function_shape" in params:
        new.set_params(decision_function_shape="ovo")
    return new


def _fitted(estimator: Any, X: np.ndarray, y: np.ndarray, classes: np.ndarray, groups: np.ndarray | None) -> Any:
    new = copy_for(estimator, len(X))
    new.fit(X, y, **fit_params(new, groups))
    if not np.array_equal(getattr(new, "classes_", classes), classes):
        raise ValueError(f"{type(new).__name__} has the classes {new.classes_}; those of the labels are {classes}")
    return new


def _folds(target: np.ndarray, folds: int) -> np.ndarray:
    """The number of each row's fold, -1 for the only row of a class; shape (n,).

    Blocks start at another fold for each class. So a fold does not take a row of every class, and where there are two
    of each, some classes keep both.
    """
    counts = np.bincount(target)
    order = np.argsort(target, kind="stable")
    rank = np.empty(len(target), np.int64)
    rank[order] = np.arange(len(target)) - np.repeat(np.cumsum(counts) - counts, counts)
    fold = (rank * folds // counts[target] + target) % max(folds, 1)
    return np.where(counts[target] > 1, fold, -1)


def _folds_of_groups(target: np.ndarray, folds: int, groups: np.ndarray) -> np.ndarray:
    """The same where rows of a group stay together; -1 for the only group of a class, too.

    A group of several classes counts for the one that has the fewest groups. What would take all rows of a class into
    one fold is not held out.

    Parameters
    ----------
    groups : ndarray of shape (n,)
        As `heads.splitting.groups.encode_groups` gives them.
    """
    group, label = np.unique(np.stack([groups, target]), axis=1)  # every class of every group
    order = np.lexsort((np.bincount(label)[label], group))
    rarest = label[order][np.unique(group[order], return_index=True)[1]]
    fold = _folds(rarest, folds)[groups]
    for number in range(folds):
        missing = ~np.isin(target, target[fold != number])
        fold[np.isin(groups, groups[missing])] = -1
    return fold


def _logits(estimator: Any, X: np.ndarray, k: int) -> np.ndarray:
    """Values of shape (n, k) whose softmax are probabilities, but for the temperature."""
    if not hasattr(estimator, "decision_function"):
        return np.log(_own_probabilities(estimator, X, k) + SHARE)
    values = np.asarray(estimator.decision_function(X), np.float64)
    if k == 2:
        values = values.reshape(-1, 1) if values.ndim == 1 else values
        values = np.hstack([np.zeros_like(values), values]) if values.shape[1] == 1 else values
    elif getattr(estimator, "decision_function_shape", None) == "ovo":
        values = _of_pairs(values, k)
    if values.shape != (len(X), k) or not np.isfinite(values).all():
        raise ValueError(
            f"decision_function of {type(estimator).__name__} should return {len(X)} rows of {k} finite values; "
            f"it returned {_outline(values)}"
        )
    return values


def _of_pairs(values: np.ndarray, k: int) -> np.ndarray:
    """For each class the sum, over its pairs (0-1, 0-2, ..., 1-2, ...), of the log-probability to be chosen."""
    logits = np.zeros((len(values), k))
    for column, (first, second) in enumerate(zip(*np.triu_indices(k, 1), strict=True)):
        logits[:, first] -= np.logaddexp(0, -SLOPE * values[:, column])
        logits[:, second] -= np.logaddexp(0, SLOPE * values[:, column])
    return log_softmax(logits, axis=1)


def _own_probabilities(estimator: Any, X: np.ndarray, k: int) -> np.ndarray:
    found = np.asarray(estimator.predict_proba(X))
    right = found.shape == (len(X), k) and found.dtype.kind == "f" and np.isfinite(found).all()
    if not right or (found < 0).any() or np.abs(found.sum(1) - 1).max(initial=0) > 1e-3:
        raise ValueError(
            f"predict_proba of {type(estimator).__name__} should return {len(X)} rows of {k} probabilities that sum to "
            f"1; it returned {_outline(found)}"
        )
    return found


def _outline(values: np.ndarray) -> str:
    first = f", the first of them {values.flat[0]}" if values.size else ""
    return f"{values.dtype} of shape {values.shape}{first}"
