"""`RidgeHead`: ridge classification whose strength and temperature are chosen by exact leave-one-out predictions."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from feature_cache.errors import BadData
from heads.ridge.base import RidgeBase
from heads.ridge.chunks import RowChunks
from heads.ridge.path import solve
from heads.splitting.fit_groups import encode_groups
from heads.temperature import inverse_temperature

# With one row of each class, and five kinds of features of digits and drawings, the mean log-loss was 1.62 for a gap of
# 3, 1.61 for 5, 1.76 for 7 and 2.13 for 10.
GAP = 5.0
FACTORS = 1e-3, 1e3  # the range of inverse temperatures; decision values are between about -1 and 1


class RidgeHead(ClassifierMixin, RidgeBase):
    """Ridge regression from features to a column of -1 and 1 for each class (one column for two classes).

    The coefficients are those of scikit-learn's ``RidgeClassifierCV``: all strengths are solved exactly, and the one
    with the smallest mean squared leave-one-out error is chosen (see `heads.ridge.path`). Probabilities are the softmax
    of the decision values divided by a temperature, which minimises the log-loss of the leave-one-out decision values
    at that strength (temperature scaling: Guo et al., "On calibration of modern neural networks", 2017), so no row has
    to be held out for it. Rows of one group are left out together, for both choices (see `heads.ridge.groups`). A fit
    without the only row of a class does not know the class, so such rows have no part in the choice of the temperature.
    If all rows are of this kind, the logits of the training rows are `GAP` higher for the true class than for others.

    Features from a cache are never in memory as a whole: `fit` reads them three times in chunks (four times where there
    are fewer rows than features). It needs memory for a few matrices of shape (d, d), or (n, n) if that is smaller, and
    of shape (n, n_classes).

    Parameters
    ----------
    alphas : float or sequence of float, optional
        The strengths of the penalty, from 1e-30 to 1e30. By default 20 strengths, evenly spaced in the logarithm, from
        1e-5 to 1e3 times the mean eigenvalue of the scatter matrix of the features (of the kernel of the rows, where
        these are fewer).
    scale : bool
        Whether features are divided by their standard deviation. On letters, glyphnet's held-out script, with 3 labels
        or more per class, scaling lowered accuracies by up to 0.02 and raised none by more than 0.002.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    coef_, intercept_ : ndarray of shape (k, n_features) and (k,)
        For features that are neither centred nor scaled; k is n_classes, or 1 for two classes: the second of them.
    alphas_, loo_errors_ : ndarray of shape (n_alphas,)
        The strengths, and their mean squared leave-one-out errors.
    alpha_ : float
        The strength with the smallest error.
    temperature_ : float
        The temperature of the softmax.

    Examples
    --------
    >>> X, y = np.array([[0.0], [1.0], [8.0], [9.0]]), np.array(["a", "a", "b", "b"])
    >>> RidgeHead().fit(X, y).predict(np.array([[0.5]])).tolist()
    ['a']
    """

    DIMENSIONS = {
        "classes": (1,),
        "coef": (2,),
        "intercept": (1,),
        "alphas": (1,),
        "loo_errors": (1,),
        "alpha": (0,),
        "temperature": (0,),
    }

    def fit(self, X: Any, y: np.ndarray, groups: np.ndarray | None = None) -> Self:
        """Fit to features of shape (n, ...) and labels of shape (n,).

        Parameters
        ----------
        groups : ndarray of shape (n,), optional
            Equal for rows that are left out together (see `heads.splitting.fit_groups`).

        Raises
        ------
        BadData
            When there is only one class, or a feature is not finite.
        InvalidChoice
            When a parameter is out of range.
        """
        alphas, scale = self._settings()
        X, y = self._checked(X, y)
        check_classification_targets(y)
        self.classes_, member = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise BadData("a ridge head needs rows of at least 2 classes; received 1 class.")
        groups = encode_groups(groups, y)
        path = solve(RowChunks(X, groups), signs_of(member), alphas, scale=scale)
        self.coef_, self.intercept_ = path.coef, path.intercept
        self.alphas_, self.loo_errors_ = path.alphas, path.errors
        self.alpha_ = float(path.alphas[path.best])
        judged = several_rows(member, groups)
        if judged.any():
            logits, truth = with_both_columns(path.loo_predictions)[judged], member[judged]
            self.temperature_ = 1 / inverse_temperature(logits, truth, mistakes_among_all=True, bounds=FACTORS)
        else:
            self.temperature_ = mean_gap(with_both_columns(self._values(X)), member) / GAP
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Decision values of shape (n, n_classes), or (n,) for two classes: above 0 for the second class."""
        values = self._values(X)
        return values[:, 0] if len(self.classes_) == 2 else values

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row."""
        probabilities = self.predict_proba(X)
        return self.classes_[np.argmax(probabilities, axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (n, n_classes)."""
        values = self.decision_function(X)
        return softmax(with_both_columns(values.reshape(len(values), -1)) / self.temperature_, axis=1)

    def _arrays(self) -> dict[str, Any]:
        classes = np.array(self.classes_.tolist()) if self.classes_.dtype == object else self.classes_
        return super()._arrays() | {"classes": classes}

    @classmethod
    def _check_arrays(cls, arrays: dict[str, np.ndarray]) -> None:
        super()._check_arrays(arrays)
        classes, coef = arrays["classes"], arrays["coef"]
        if classes.dtype.kind not in "biufSU" or not np.array_equal(np.unique(classes), classes):
            raise ValueError("its classes are not sorted labels")
        outputs = 1 if len(classes) == 2 else len(classes)
        if len(classes) < 2 or coef.shape[0] != outputs or coef.shape[1] < 1 or arrays["intercept"].shape != (outputs,):
            raise ValueError("its outputs are not its classes")
        if not arrays["temperature"] > 0:
            raise ValueError("its temperature is not above 0")


def signs_of(member: np.ndarray) -> np.ndarray:
    """A column of -1 and 1 for each class, from the number of each row's class; of two classes for the second alone."""
    signs = np.where(member[:, None] == np.arange(member.max() + 1), 1.0, -1.0)
    return signs[:, 1:] if signs.shape[1] == 2 else signs


def with_both_columns(values: np.ndarray) -> np.ndarray:
    """Decision values with a column for each class; of two classes the first has 0, the second the decision value."""
    return np.hstack([np.zeros_like(values), values]) if values.shape[1] == 1 else values


def several_rows(member: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Whether the class of each row has further rows, of another group where there are several: shape (n,)."""
    apart = np.arange(len(member)) if groups is None or not groups.any() else groups
    first = np.unique([member, apart], axis=1, return_index=True)[1]
    return np.bincount(member[first])[member] > 1


def mean_gap(logits: np.ndarray, member: np.ndarray) -> float:
    """How much higher the logit of the true class is than the mean of the others, on average; 1 where it is not."""
    classes = logits.shape[1]
    gap = float((logits[np.arange(len(logits)), member] * classes - logits.sum(1)).mean() / (classes - 1))
    return gap if gap > 0 else 1.0
