"""`RidgeHead`: ridge regression to the classes, its strength and temperature chosen by leave-one-out in closed form."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from feature_cache.errors import BadData
from heads.ridge.base import RidgeBase
from heads.ridge.chunks import RowChunks
from heads.ridge.path import solve
from heads.splitting.groups import encode_groups

TEMPERATURES = 1e-3, 1e3  # decision values are about -1 to 1


class RidgeHead(ClassifierMixin, RidgeBase):
    """Least squares with an L2 penalty, from features to a column of -1 and 1 for each class (one for two classes).

    The coefficients are those of scikit-learn's ``RidgeClassifierCV``: all strengths are solved exactly and the one
    with the smallest mean squared leave-one-out error is kept (see `heads.ridge.path`). Probabilities are the softmax
    of the decision values divided by one temperature, which minimises the log-loss of the leave-one-out decision
    values at that strength (temperature scaling: Guo et al., "On calibration of modern neural networks", 2017), so
    that no row has to be held out for it. Rows of one group are left out together, for both (see `heads.ridge.groups`).
    With a single row of each class, which takes its class along when it is left
    out, nothing is known of held-out rows, and all probabilities are nearly the same.

    `Features` from a cache are never in memory as a whole: `fit` reads them three times in chunks (four where there
    are fewer rows than features), and needs a few matrices of shape (d, d), or (n, n) if that is smaller, and of
    shape (n, n_classes) besides.

    Parameters
    ----------
    alphas : float or sequence of float, optional
        Strengths of the penalty, 1e-30 to 1e30. By default 20 from 1e-5 to 1e3 times the mean eigenvalue of the scatter
        matrix of the features (of the kernel of the rows, where these are fewer), evenly in the logarithm.
    scale : bool
        Divide features by their standard deviation, as a ``StandardScaler`` before it would. On letters, glyphnet's
        held-out script, with 3 labels or more per class, it lowered accuracies by up to 0.02 and raised none by more
        than 0.002.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    coef_, intercept_ : ndarray of shape (k, n_features) and (k,)
        For features as they come; k is n_classes, or 1 of two classes, for the second of them.
    alphas_, loo_errors_ : ndarray of shape (n_alphas,)
        Strengths and their mean squared leave-one-out errors.
    alpha_ : float
        The strength with the smallest error.
    temperature_ : float
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
            Equal for rows that are left out together (see `heads.splitting.groups`).
        """
        alphas, scale = self._settings()
        X, y = self._checked(X, y)
        check_classification_targets(y)
        self.classes_, member = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise BadData("a ridge head needs rows of at least 2 classes; received 1 class.")
        targets = np.where(member[:, None] == np.arange(len(self.classes_)), 1.0, -1.0)
        if len(self.classes_) == 2:
            targets = targets[:, 1:]
        path = solve(RowChunks(X, encode_groups(groups, y)), targets, alphas, scale=scale)
        self.coef_, self.intercept_ = path.coef, path.intercept
        self.alphas_, self.loo_errors_ = path.alphas, path.errors
        self.alpha_ = float(path.alphas[path.best])
        self.temperature_ = _temperature(_logits(path.loo_predictions), member)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Values of shape (n, n_classes), or (n,) for two classes: above 0 for the second."""
        values = self._values(X)
        return values[:, 0] if len(self.classes_) == 2 else values

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row."""
        probabilities = self.predict_proba(X)
        return self.classes_[np.argmax(probabilities, axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (n, n_classes)."""
        values = self.decision_function(X)
        return softmax(_logits(values.reshape(len(values), -1)) / self.temperature_, axis=1)

    def _kept(self) -> dict[str, Any]:
        classes = np.array(self.classes_.tolist()) if self.classes_.dtype == object else self.classes_
        return super()._kept() | {"classes": classes}

    @classmethod
    def _check_kept(cls, arrays: dict[str, np.ndarray]) -> None:
        super()._check_kept(arrays)
        classes, coef = arrays["classes"], arrays["coef"]
        if classes.dtype.kind not in "biufSU" or not np.array_equal(np.unique(classes), classes):
            raise ValueError("its classes are not sorted labels")
        outputs = 1 if len(classes) == 2 else len(classes)
        if len(classes) < 2 or coef.shape[0] != outputs or coef.shape[1] < 1 or arrays["intercept"].shape != (outputs,):
            raise ValueError("its outputs are not its classes")
        if not arrays["temperature"] > 0:
            raise ValueError("its temperature is not above 0")


def _logits(values: np.ndarray) -> np.ndarray:
    """Decision values (n, k) with a column for each class: of two classes, the first has 0 and the second the value."""
    return np.hstack([np.zeros_like(values), values]) if values.shape[1] == 1 else values


def _temperature(logits: np.ndarray, member: np.ndarray) -> float:
    """The temperature with the least log-loss of ``softmax(logits / temperature)``.

    By Laplace's rule of succession a mistake in 1 of n + 2 is expected even where none was made; without it, rows
    that are all told apart would make any head as certain as numbers allow.

    Parameters
    ----------
    logits : ndarray of shape (n, n_classes)
    member : ndarray of shape (n,)
        Column of the true class.
    """
    below = logits - logits.max(1, keepdims=True)
    doubt = 1 / (len(below) + 2)
    of_truth = (1 - doubt) * below[np.arange(len(below)), member].mean() + doubt * below.mean()

    def log_loss(logarithm: float) -> float:
        # The exponentials are of numbers up to 0, with a 0 in each row: nothing overflows, no logarithm is of 0.
        slope = np.exp(-logarithm)
        return float(np.log(np.exp(below * slope).sum(1)).mean() - slope * of_truth)

    found = minimize_scalar(log_loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))
