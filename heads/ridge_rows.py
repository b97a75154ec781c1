"""Rows of features chunk by chunk, from memory or from disk; how chunks are centred, and worked on in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import threadpool_info

from feature_cache.errors import BadData

Result = TypeVar("Result")

CHUNK_BYTES = 2**23  # of a chunk of rows in float64
NARROWEST = 256  # narrower rows make no longer chunks: what is computed of a row may be as long as that
MOST_THREADS = 8  # each has a chunk, and some copies of it


class Rows:
    """Features of shape (n, ...) as chunks of flat rows in float64; each iteration passes over them once.

    Parameters
    ----------
    features : ndarray or feature_cache.Features of shape (n, ...)
    """

    def __init__(self, features: Any) -> None:
        self._features = features
        self.count = len(features)
        self.width = int(np.prod(features.shape[1:], dtype=np.int64))
        self.chunk = max(1, CHUNK_BYTES // (8 * max(NARROWEST, self.width)))

    def __iter__(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Positions and rows of shape (m, d), float64, a copy that may be written to."""
        if hasattr(self._features, "batches"):
            start = 0
            for rows, _ in self._features.batches(self.chunk):
                yield slice(start, start + len(rows)), self._flat(rows)
                start += len(rows)
        else:
            yield from self.between(0, self.count)

    def between(self, first: int, last: int) -> Iterator[tuple[slice, np.ndarray]]:
        """The same for the rows from `first` to before `last`."""
        for start in range(first, last, self.chunk):
            part = slice(start, min(start + self.chunk, last))
            yield part, self._flat(self._features[part])

    def _flat(self, rows: np.ndarray) -> np.ndarray:
        return np.array(rows.reshape(len(rows), self.width), np.float64, order="C")


class Centring:
    """Takes from each chunk its own mean, so that no large squares cancel, and gives it a row that makes up for it.

    Of n rows with mean m and p more with mean q, the scatter about the mean of all is that of both parts about their
    own and (np / (n + p)) (q - m)(q - m)' (Chan et al. 1983), which is that of one row more.

    Attributes
    ----------
    mean : ndarray of shape (d,)
        Of all rows so far.
    """

    def __init__(self, width: int) -> None:
        self.mean = np.zeros(width)
        self._count = 0

    def __call__(self, chunk: np.ndarray) -> np.ndarray:
        """The chunk (p, d), centred, and the row: shape (p + 1, d)."""
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


def blas_threads() -> int:
    """How many threads BLAS may use now."""
    return max((found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"), default=1)


def in_threads(work: Callable[..., Result], items: Iterable[tuple[Any, ...]], threads: int) -> Iterator[Result]:
    """``work(*item)`` for each item, in order, a few at a time.

    Threads that have a chunk each, and BLAS for themselves, do not wait for one another as the threads of one product
    do, which costs more than it gains where other processes want the cores as well.
    """
    waiting: deque[Future[Result]] = deque()
    threads = min(threads, MOST_THREADS)
    with ThreadPoolExecutor(threads, thread_name_prefix="layertap-ridge") as pool:
        for item in items:
            waiting.append(pool.submit(work, *item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
