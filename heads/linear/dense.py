"""`DenseClassifier`, the base of heads that are a dense layer and a softmax: their checks, predictions and file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from feature_cache.lazy_rows import LazyRows
from heads.storage.npz import FILE, read_arrays
from heads.validation import as_rows

DTYPES = [np.float32, np.float64]
CHUNK = 2**22  # the values of features that are read at a time for predictions


class DenseClassifier(ClassifierMixin, BaseEstimator):
    """A head with the probabilities ``softmax(X @ coef_.T + intercept_)``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (n_classes, n_features), float64
    intercept_ : ndarray of shape (n_classes,), float64
    n_features_in_ : int
    """

    reads_batches = True

    classes_: np.ndarray
    coef_: np.ndarray
    intercept_: np.ndarray

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row."""
        probabilities = self.predict_proba(X)
        return self.classes_[np.argmax(probabilities, axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (n, n_classes)."""
        check_is_fitted(self)
        lazy = isinstance(X, LazyRows)
        X = X if lazy else validate_data(self, as_rows(X), reset=False, dtype=DTYPES)
        out = np.empty((len(X), len(self.classes_)))
        size = max(1, CHUNK // self.n_features_in_)
        for start in range(0, len(X), size):
            part = X[start : start + size]
            part = validate_data(self, as_rows(part), reset=False, dtype=DTYPES) if lazy else part
            out[start : start + size] = softmax(part @ self.coef_.T + self.intercept_, axis=1)
        return out

    def save(self, folder: Path) -> None:
        """Write ``head.npz`` into `folder`: the classes and the dense layer, without the scores of the grid."""
        check_is_fitted(self)
        classes = np.array(self.classes_.tolist()) if self.classes_.dtype == object else self.classes_
        np.savez(folder / FILE, classes=classes, coef=self.coef_, intercept=self.intercept_)

    @classmethod
    def load(cls, folder: Path, params: dict[str, Any]) -> Self:
        """The head that `save` wrote into `folder`.

        Raises
        ------
        DamagedFile
            When the file cannot be read, or holds something else.
        """
        arrays = read_arrays(folder, ("classes", "coef", "intercept"), lambda arrays: _check(**arrays))
        head = cls(**params)
        for name, value in arrays.items():
            setattr(head, f"{name}_", value)
        head.n_features_in_ = head.coef_.shape[1]
        return head

    def _rows(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        """Features and labels that have been checked: lazy rows as they are, others of shape (n, d)."""
        if not isinstance(X, LazyRows):
            return validate_data(self, as_rows(X), y, dtype=DTYPES)
        validate_data(self, as_rows(X[:1]), dtype=DTYPES)
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        return X, y


def _check(classes: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> None:
    """Raise ValueError unless these are the parts of a fitted head."""
    for name, value, dimensions in (("coef", coef, 2), ("intercept", intercept, 1)):
        if value.ndim != dimensions or value.dtype != np.float64 or not np.isfinite(value).all():
            raise ValueError(f"{name} is not made of finite float64 numbers along {dimensions} axes")
    if classes.ndim != 1 or classes.dtype.kind not in "biufSU" or not np.array_equal(np.unique(classes), classes):
        raise ValueError("its classes are not sorted labels")
    if len(classes) < 2 or coef.shape[0] != len(classes) or coef.shape[1] < 1 or intercept.shape != classes.shape:
        raise ValueError("its outputs are not its classes")
