"""`LazyRows`: what all arrays have in common whose rows are read from disk on use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np


@runtime_checkable
class LazyRows(Protocol):
    """A read-only array of shape (n, ...) whose rows are read from disk when they are indexed.

    `feature_cache.features.Features` and `feature_cache.joined.Joined` are such arrays; a NumPy array is not.

    Examples
    --------
    >>> isinstance(np.zeros((2, 3)), LazyRows)
    False
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows, and the shape of a row."""

    @property
    def dtype(self) -> np.dtype:
        """The type of the values of a row."""

    @property
    def nbytes(self) -> int:
        """The bytes of all rows, were they in memory."""

    def __len__(self) -> int:
        """The number of rows."""

    def __getitem__(self, index: Any) -> np.ndarray:
        """The rows at a slice, or at an array of integers or booleans, read from disk."""

    def take(self, positions: np.ndarray) -> Self:
        """The rows at `positions`, in that order, as an array of the same kind; nothing is read."""

    def batches(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All rows in batches of at most `size`, each with the positions of its rows."""
