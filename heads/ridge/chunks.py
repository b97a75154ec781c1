"""Rows of features in chunks, from memory or from disk: how they are read, centred, and shared among threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

from feature_cache.errors import BadData
from feature_cache.lazy_rows import LazyRows
from feature_cache.process.read_ahead import map_ahead

Result = TypeVar("Result")

CHUNK_BYTES = 2**23  # the bytes of a chunk of rows in float64
NARROWEST = 256  # chunks of narrower rows have no more rows, because the results of a row may be as wide as this
MOST_THREADS = 8  # each thread has a chunk, and some copies of it, in memory


class RowChunks:
    """Features of shape (n, ...) as chunks of flat rows in float64; each iteration reads all rows once.

    Where there are groups, rows have another order: first the groups of a single row, then larger and larger groups,
    whose rows are consecutive. No chunk ends inside a group; a group that is larger than a chunk is one chunk. Where
    all rows are one group, every row counts as a group, because nothing would be left without the group.

    Parameters
    ----------
    features : ndarray or feature_cache.Features of shape (n, ...)
    groups : ndarray of shape (n,), int, optional
        As `heads.splitting.fit_groups.encode_groups` gives them.
    """

    def __init__(self, features: Any, groups: np.ndarray | None = None) -> None:
        self._features = features
        self.count = len(features)
        self.order: np.ndarray | None = None
        self._sizes = np.ones(self.count, np.int64)  # the size of each row's group
        if groups is not None and groups.max() > 0:
            sizes = np.bincount(groups)[groups]
            self.order = np.lexsort((groups, sizes))
            self._sizes = sizes[self.order]
        self.width = int(np.prod(features.shape[1:], dtype=np.int64))
        self.chunk = max(1, CHUNK_BYTES // (8 * max(NARROWEST, self.width)))

    def __iter__(self) -> Iterator[tuple[slice, np.ndarray]]:
        """The positions of each chunk, and its rows, of shape (m, d), float64: a copy that may be changed."""
        if isinstance(self._features, LazyRows) and self.order is None:
            start = 0
            for rows, _ in self._features.batches(self.chunk):
                yield slice(start, start + len(rows)), self._flat(rows)
                start += len(rows)
        else:
            for part in self.parts():
                yield part, self._read(part)

    def between(self, first: int, last: int) -> Iterator[tuple[slice, np.ndarray]]:
        """The positions and the rows of each chunk of the rows from `first` to before `last`."""
        for start in range(first, last, self.chunk):
            part = slice(start, min(start + self.chunk, last))
            yield part, self._read(part)

    def parts(self) -> Iterator[slice]:
        """The positions of each chunk."""
        start = 0
        while start < self.count:
            end = min(start + self.chunk, self.count)
            size = int(self._sizes[end - 1])
            # The chunk ends where a group of this size ends, counted from the start of the first one.
            end -= (end - int(np.searchsorted(self._sizes, size))) % size
            end = end if end > start else start + int(self._sizes[start])
            yield slice(start, end)
            start = end

    def runs(self, part: slice) -> Iterator[tuple[slice, int]]:
        """The rows of a chunk, by their positions in it, in runs of groups of the same size; and that size."""
        sizes = self._sizes[part]
        ends = [*(np.flatnonzero(np.diff(sizes)) + 1).tolist(), len(sizes)]
        for start, end in zip([0, *ends], ends, strict=False):
            yield slice(start, end), int(sizes[start])

    def pieces(self) -> Iterator[tuple[slice, int]]:
        """The runs of all chunks (see `runs`), by their positions among all rows."""
        for part in self.parts():
            for run, size in self.runs(part):
                yield slice(part.start + run.start, part.start + run.stop), size

    def _read(self, part: slice) -> np.ndarray:
        return self._flat(self._features[part if self.order is None else self.order[part]])

    def _flat(self, rows: np.ndarray) -> np.ndarray:
        return np.array(rows.reshape(len(rows), self.width), np.float64, order="C")


class Centring:
    """Centres each chunk by its own mean, so that no large squares cancel, and adds a row that compensates for it.

    The scatter matrix of n rows with mean m and p more rows with mean q is the sum of the scatter matrices of both
    parts and of (np / (n + p)) (q - m)(q - m)' (Chan et al. 1983), which is that of one additional row.

    Attributes
    ----------
    mean : ndarray of shape (d,)
        The mean of all rows so far.
    """

    def __init__(self, width: int) -> None:
        self.mean = np.zeros(width)
        self._count = 0

    def __call__(self, chunk: np.ndarray) -> np.ndarray:
        """The chunk, of shape (p, d), centred and with the additional row: shape (p + 1, d)."""
        rows = np.empty((len(chunk) + 1, chunk.shape[1]))
        mean = chunk.mean(0)
        if not np.isfinite(mean).all():
            raise BadData("Input X contains NaN, infinity or numbers too large to add up.")
        np.subtract(chunk, mean, out=rows[:-1])
        before, self._count = self._count, self._count + len(chunk)
        step = mean - self.mean
        rows[-1] = np.sqrt(before * len(chunk) / self._count) * step
        self.mean += step * (len(chunk) / self._count)
        return rows


def in_threads(work: Callable[..., Result], items: Iterable[tuple[Any, ...]], threads: int) -> Iterator[Result]:
    """``work(*item)`` for each item, in order, a few at a time.

    Each thread has a chunk, and calls BLAS with one thread. So threads do not wait for each other, as the threads of
    one product do, which costs more than it gains where other processes use the cores as well.
    """
    threads = min(threads, MOST_THREADS)
    return map_ahead(lambda item: work(*item), items, depth=threads, threads=threads)
