"""`Features`: rows of a space, in the order asked for, read from memory-mapped segments on use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from feature_cache.segment import Segment


class Features:
    """A lazy, read-only array of shape (n, *row_shape).

    It has `len`, `shape`, `dtype`, `ndim`, and NumPy's indexing: an integer gives a row; a slice, an
    integer array or a boolean array gives rows as an ndarray; further indices apply to the rows.
    ``np.asarray`` reads everything.

    Parameters
    ----------
    segments : list of Segment
    places : ndarray of shape (n, 2), int64
        Segment number and row number of each row.
    dtype : numpy.dtype
        Of an empty array; otherwise the segments' own.
    """

    def __init__(self, segments: list[Segment], places: np.ndarray, dtype: np.dtype) -> None:
        self._segments = segments
        self._places = places
        self.dtype = segments[0].dtype if segments else dtype
        self.shape: tuple[int, ...] = (len(places), *(segments[0].row_shape if segments else ()))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        first, rest = (index[0], index[1:]) if isinstance(index, tuple) and index else (index, ())
        if first is Ellipsis or first is None:
            return np.asarray(self)[index]
        if np.ndim(first) > 1 and np.asarray(first).dtype == bool:
            return np.asarray(self)[index]  # single elements, from anywhere
        chosen = np.arange(len(self))[_as_index(first)]
        rows = self._gather(self._places[chosen.reshape(-1)])
        # Only now does NumPy see the index whole: its rules for several arrays are not those of one after another.
        inside = slice(None) if isinstance(first, slice) else np.arange(chosen.size).reshape(chosen.shape)[()]
        return rows[(inside, *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("features are on disk: an array of them is always a copy.")
        rows = self._gather(self._places)
        return rows if dtype is None else rows.astype(dtype, copy=False)

    def batches(self, size: int, *, shuffle: bool = False, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches of rows and their positions, each row once.

        Parameters
        ----------
        size : int
            Rows a batch; the last may be smaller.
        shuffle : bool
            In random order, the same for the same `seed`.

        Yields
        ------
        rows : ndarray of shape (m, *row_shape)
        positions : ndarray of shape (m,), int64
        """
        if size < 1:
            raise ValueError(f"a batch has at least 1 row; received {size}.")
        order = np.random.default_rng(seed).permutation(len(self)) if shuffle else np.arange(len(self))
        for start in range(0, len(order), size):
            positions = order[start : start + size]
            yield self[positions], positions

    def _gather(self, places: np.ndarray) -> np.ndarray:
        out = np.empty((len(places), *self.shape[1:]), self.dtype)
        for number in np.unique(places[:, 0]):
            here = np.flatnonzero(places[:, 0] == number)
            out[here] = self._segments[number].rows[places[here, 1]]
        return out


def _as_index(index: Any) -> Any:
    """`index` such that an empty list selects nothing, as in NumPy's own lists of integers."""
    return np.asarray(index, dtype=np.intp) if isinstance(index, list) and not index else index
