"""`RidgeBase`, the base of the ridge heads: their parameters, the checks of rows, and the file of a head."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from feature_cache.lazy_rows import LazyRows
from heads.ridge.chunks import RowChunks
from heads.storage.npz import FILE, read_arrays
from heads.validation import as_rows, require

STRENGTHS = 1e-30, 1e30  # with others, the squares of numbers that are divided by a strength overflow
DTYPES = [np.float32, np.float64]


class RidgeBase(BaseEstimator):
    """A head that is a linear function of the features, fitted by `heads.ridge.path`.

    Attributes
    ----------
    n_features_in_ : int
    coef_, intercept_ : ndarray
        The linear function of features that are neither centred nor scaled.
    """

    reads_batches = True
    # The attributes of a fitted head that its file holds, with the numbers of axes that they may have.
    DIMENSIONS: ClassVar[dict[str, tuple[int, ...]]]

    coef_: np.ndarray
    intercept_: Any

    def __init__(self, alphas: Any = None, scale: bool = False) -> None:
        self.alphas = alphas
        self.scale = scale

    def save(self, folder: Path) -> None:
        """Write ``head.npz`` into `folder`."""
        check_is_fitted(self)
        np.savez(folder / FILE, **self._arrays())

    @classmethod
    def load(cls, folder: Path, params: dict[str, Any]) -> Self:
        """The head that `save` wrote into `folder`.

        Raises
        ------
        DamagedFile
            When the file cannot be read, or holds something else.
        """
        arrays = read_arrays(folder, cls.DIMENSIONS, cls._check_arrays)
        head = cls(**params)
        for name, value in arrays.items():
            setattr(head, f"{name}_", value if value.ndim else float(value))
        head.n_features_in_ = head.coef_.shape[-1]
        return head

    def _settings(self) -> tuple[np.ndarray | None, bool]:
        """The strengths as an array of shape (m,), None for the default; and whether features are scaled."""
        alphas = _strengths(self.alphas)
        require(isinstance(self.scale, bool | np.bool_), "scale", self.scale, "true or false")
        return alphas, bool(self.scale)

    def _checked(self, X: Any, y: Any, *, several: bool = False) -> tuple[Any, np.ndarray]:
        """Features and targets that have been checked: lazy rows as they are, others of shape (n, d)."""
        if not isinstance(X, LazyRows):
            return validate_data(self, as_rows(X), y, dtype=DTYPES, multi_output=several)
        validate_data(self, as_rows(X[:1]), dtype=DTYPES)
        y = y if several else column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        return X, y

    def _values(self, X: Any) -> np.ndarray:
        """The linear function of the features: shape (n, k), float64."""
        check_is_fitted(self)
        lazy = isinstance(X, LazyRows)
        X = X if lazy else validate_data(self, as_rows(X), reset=False, dtype=DTYPES)
        coef = np.atleast_2d(self.coef_)
        values = np.empty((len(X), len(coef)))
        for part, chunk in RowChunks(X):
            rows = validate_data(self, chunk, reset=False) if lazy else chunk
            values[part] = rows @ coef.T + self.intercept_
        return values

    def _arrays(self) -> dict[str, Any]:
        """The arrays that the file of the head holds, by name."""
        return {name: getattr(self, f"{name}_") for name in self.DIMENSIONS}

    @classmethod
    def _check_arrays(cls, arrays: dict[str, np.ndarray]) -> None:
        """Raise ValueError unless each array may belong to a fitted head; a subclass checks that they match."""
        for name, value in arrays.items():
            axes = cls.DIMENSIONS[name]
            if value.ndim not in axes:
                raise ValueError(f"{name} has {value.ndim} axes and not {' or '.join(map(str, axes))}")
            if name != "classes" and (value.dtype != np.float64 or not np.isfinite(value).all()):
                raise ValueError(f"{name} is not made of finite float64 numbers")
        if arrays["alphas"].shape != arrays["loo_errors"].shape or arrays["alpha"] not in arrays["alphas"]:
            raise ValueError("its strengths do not fit each other")


def _strengths(alphas: Any) -> np.ndarray | None:
    """The strengths as an array of shape (m,), in the order of `alphas`; None for the default."""
    if alphas is None:
        return None
    try:
        values = np.atleast_1d(alphas)
    except ValueError:  # lists of several lengths
        values = np.empty(0, object)
    numbers = values.ndim == 1 and values.size > 0 and values.dtype.kind in "iuf"
    least, most = STRENGTHS
    right = numbers and bool(np.all((values >= least) & (values <= most)))
    require(right, "alphas", alphas, f"numbers from {least:g} to {most:g}")
    return values.astype(np.float64)
