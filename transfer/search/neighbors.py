"""The rows of features that are nearest to queries, exactly: one pass over the rows for all queries.

Blocks of rows are multiplied with all queries in float32. The products give a range for each distance; rows whose range
begins beyond the end of the k-th nearest one cannot be neighbors. Those that are left after the last block, little more
than k, are compared in float64. A product of float32 vectors of d numbers is off by at most
``2 u min(d, 10 sqrt(d))`` times the product of their norms (u = 2**-24; the second is the bound that holds with a
probability of 1 - 1e-20, Higham and Mary 2019, doi:10.1137/18M1226312), so the result is that of float64.

Several threads take a block each, with one thread of BLAS: the norms and the selection are shared too.
"""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from threadpoolctl import ThreadpoolController

from feature_cache.errors import BadData, InvalidChoice, unknown
from feature_cache.lazy_rows import LazyRows

Metric = Literal["cosine", "euclidean"]
METRICS: tuple[Metric, ...] = get_args(Metric)
BLOCK_BYTES = 2**24  # of float32 rows, so that Python takes little of the time
PIECE_BYTES, PIECE_ROWS = 2**20, 512  # of a block: large enough for BLAS, small enough for a processor's cache
# OpenBLAS copies no matrices for products of up to so many multiplications, which is faster for few queries, unless
# there are too few rows.
SMALL_PRODUCT, FEWEST_ROWS = 10**6, 64
PRODUCT_BYTES = 2**24  # of the products of a block with the queries
MOST_ROWS = 2**14  # of a block
MOST_QUERIES = 1024  # of one pass
QUERY_BYTES = 2**27  # of the queries of one pass, in float64
SPARE_CANDIDATES = 2**16  # beyond twice those that all queries need, before they are compared in float64
PAIR_BYTES = 2**25  # of the rows whose distances are computed in float64 together
UNIT_ROUNDOFF = 2.0**-24  # of float32
SAFE_SQUARES = (1e-25, 1e30)  # squared norms that float32 computes without underflow or overflow; 0 aside


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The rows nearest to each query, the nearest first.

    Attributes
    ----------
    rows : ndarray of shape (queries, k), int64
        Positions of rows. Of equally distant ones, the first comes first.
    distances : ndarray of shape (queries, k), float64
        ``1 - cosine similarity``, or Euclidean distances.
    """

    rows: np.ndarray
    distances: np.ndarray


def nearest(rows: np.ndarray | LazyRows, queries: np.ndarray, k: int, *, metric: Metric = "cosine") -> Neighbors:
    """The `k` rows nearest to each query, among all rows; exact, and in one pass for up to 1,024 queries.

    Parameters
    ----------
    rows : ndarray or LazyRows of shape (n, ...)
        Features in memory, in a memory map or in a cache, of any float dtype. What follows the first axis is one
        vector.
    queries : ndarray of shape (m, ...)
        Vectors like the rows.
    k : int
        The number of neighbors; of fewer rows, all are returned.
    metric : {'cosine', 'euclidean'}
        The cosine similarity with a vector of zeros is 0.

    Returns
    -------
    Neighbors
        ``min(k, n)`` of each query. A query that is among the rows finds itself.

    Raises
    ------
    InvalidChoice
        When `k` is not positive, or there is no such metric.
    BadData
        When queries are of another shape than rows, or one of either is infinite or not a number.

    Examples
    --------
    >>> rows = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 0.1], [1.0, 0.0]], np.float32)
    >>> found = nearest(rows, rows[1:2], k=3)
    >>> found.rows.tolist(), found.distances.round(4).tolist()
    ([[1, 3, 2]], [[0.0, 0.0, 0.0012]])
    """
    if metric not in METRICS:
        raise unknown("there is no metric", metric, METRICS)
    if k < 1:
        raise InvalidChoice(f"the number of neighbors `k` is at least 1; received {k}.")
    if np.ndim(queries) < 1 or tuple(queries.shape[1:]) != tuple(rows.shape[1:]):
        raise BadData(
            f"the queries are of {_lengths(queries)} and the rows of {_lengths(rows)}: features of different spaces; "
            "compute both by the same net, layer and pooling."
        )
    k, width = min(k, len(rows)), flat_width(rows.shape)
    found = Neighbors(np.empty((len(queries), k), np.int64), np.empty((len(queries), k)))
    size = max(1, min(MOST_QUERIES, QUERY_BYTES // (8 * max(width, 1))))
    for start in range(0, len(queries) if k else 0, size):
        part = slice(start, start + size)
        vectors = np.asarray(queries[part], np.float64).reshape(-1, width)
        bad = np.flatnonzero(~np.isfinite(vectors).all(1))
        if len(bad):
            raise BadData(f"the features of query {start + int(bad[0])} are infinite or not numbers.")
        search = _Search(rows, vectors, k, metric)
        for_blocks(search.compare, len(rows), block_rows(width, len(vectors)))
        search.finish()
        found.rows[part], found.distances[part] = search.rows, search.distances
    return found


def distances(rows: np.ndarray, query: np.ndarray, *, metric: Metric) -> np.ndarray:
    """The distances of some rows to a query, in float64; equal rows have equal distances, and equal vectors 0.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
    query : ndarray of shape (d,)
    metric : {'cosine', 'euclidean'}

    Returns
    -------
    ndarray of shape (n,), float64

    Examples
    --------
    >>> distances(np.array([[3.0, 4.0], [0.0, 0.0]]), np.zeros(2), metric="euclidean").tolist()
    [5.0, 0.0]
    """
    exact, target = np.asarray(rows, np.float64), np.asarray(query, np.float64)[None]
    if metric == "cosine":
        exact, target = _unit(exact), _unit(target)
    return _distances(exact, target, metric)


def _distances(rows: np.ndarray, targets: np.ndarray, metric: Metric) -> np.ndarray:
    """Distances of rows to vectors, which for cosines are of length 1 both: shape (n,), float64."""
    squares = np.square(rows - targets).sum(1)
    if metric == "euclidean":
        return np.asarray(np.sqrt(squares))
    # Half the squared distance of unit vectors: unlike 1 - product, it loses no digits of small distances.
    return np.asarray(np.where(rows.any(1) & targets.any(1), squares / 2, 1.0))


def flat_width(shape: tuple[int, ...]) -> int:
    """The numbers of a row of features of this shape."""
    return math.prod(shape[1:])


class _Search:
    """One pass over the rows, which threads share: the candidates so far, and the nearest of those that were settled.

    Parameters
    ----------
    all_rows : ndarray or LazyRows of shape (n, ...)
    queries : ndarray of shape (m, d), float64
    k : int
        At most n.
    metric : {'cosine', 'euclidean'}
    """

    def __init__(self, all_rows: np.ndarray | LazyRows, queries: np.ndarray, k: int, metric: Metric) -> None:
        self._all_rows, self._metric = all_rows, metric
        self._targets = _unit(queries) if metric == "cosine" else queries
        width = queries.shape[1]
        self._margin = 2 * UNIT_ROUNDOFF * min(width + 4, 10 * math.sqrt(width + 4))
        self._squares = np.square(self._targets).sum(1)
        self._in_range = bool((self._squares < SAFE_SQUARES[1]).all())
        with np.errstate(over="ignore"):
            self._factors = self._targets.astype(np.float32)
        self.rows = np.full((len(queries), k), np.iinfo(np.int64).max)
        self.distances = np.full((len(queries), k), np.inf)
        self._candidates = _Candidates(len(queries), k)
        self._lock = threading.Lock()

    def compare(self, start: int, stop: int) -> None:
        """Compare the rows from `start` to `stop` with all queries."""
        stored = np.asarray(self._all_rows[start:stop]).reshape(stop - start, -1)
        with np.errstate(over="ignore", invalid="ignore"):
            block = stored.astype(np.float32, copy=False)
            products, squares = self._products(block)
        low, high = SAFE_SQUARES
        small = squares < high  # false for NaN, too
        if not small.all():
            refuse_not_finite(stored, start)
        if self._in_range and small.all() and not stored[squares <= low].any():
            self._collect(self._scores(products, squares), squares, start)
        else:  # float32 is not enough for these
            queries, rows = np.divmod(np.arange(len(self.rows) * len(stored)), len(stored))
            self._add(queries, rows, stored, np.arange(start, stop))

    def finish(self) -> None:
        """Settle the candidates that are left, once all rows have been compared."""
        self._settle(self._candidates.take())

    def _products(self, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The products of rows with the queries, of shape (queries, rows), and their squared norms, both in float32."""
        products, squares = np.empty((len(self.rows), len(block)), np.float32), np.empty(len(block), np.float32)
        step = piece_rows(block.shape[1], len(products))
        for first in range(0, len(block), step):  # so that a row is read from memory once for both
            piece = block[first : first + step]
            np.vecdot(piece, piece, out=squares[first : first + step])  # einsum takes longer
            # BLAS takes up to twice as long for the product of the queries with the columns.
            products[:, first : first + step] = np.matmul(piece, self._factors.T).T
        return products, squares

    def _scores(self, products: np.ndarray, squares: np.ndarray) -> np.ndarray:
        """Numbers of shape (queries, rows), float32, that are the larger, the nearer a row may be."""
        scores = products
        if self._metric == "cosine":
            scores *= 1 / np.sqrt(np.where(squares > 0, squares, np.float32(1)))
        else:  # |q|^2 - |q - x|^2, and what it may be too small by
            scores *= 2
            scores -= squares * np.float32(1 - 4 * self._margin)
        return scores

    def _slack(self, queries: np.ndarray, squares: np.ndarray | float) -> np.ndarray:
        """What a score is taken down by: no row that scores less can be as near as this one."""
        if self._metric == "cosine":
            return np.full(len(queries), 4 * self._margin)
        return self._margin * np.asarray(8 * squares + 6 * self._squares[queries])

    def _collect(self, scores: np.ndarray, squares: np.ndarray, start: int) -> None:
        """Add those rows of a block that may be among the nearest of a query to its candidates."""
        k = self.rows.shape[1]
        hits = scores >= self._candidates.bounds
        many = np.flatnonzero(np.count_nonzero(hits, axis=1) > 4 * k)
        if len(many):  # the k best of this block are a bound, too
            best = np.partition(scores[many], -k, axis=1)[:, -k] - self._slack(many, float(squares.max()))
            hits[many] &= scores[many] >= _below(best)[:, None]
        queries, rows = np.divmod(np.flatnonzero(hits), len(squares))
        if not len(queries):
            return
        chosen = scores[queries, rows]
        least = chosen - self._slack(queries, squares[rows].astype(np.float64))
        with self._lock:
            self._candidates.add(queries, rows + start, chosen, least)
            taken = self._candidates.take() if self._candidates.are_many else None
        if taken:
            self._settle(taken)

    def _settle(self, taken: tuple[np.ndarray, np.ndarray]) -> None:
        """Compute the distances of candidates: queries, and the numbers of their rows."""
        step = max(1, PAIR_BYTES // (8 * max(self._targets.shape[1], 1)))
        for first in range(0, len(taken[0]), step):
            queries, rows = (part[first : first + step] for part in taken)
            numbers, places = np.unique(rows, return_inverse=True)
            self._add(queries, places, np.asarray(self._all_rows[numbers]).reshape(len(numbers), -1), numbers)

    def _add(self, queries: np.ndarray, rows: np.ndarray, stored: np.ndarray, numbers: np.ndarray) -> None:
        """Compute the distances of pairs of a query and one of some rows with their numbers, and keep the best."""
        step = max(1, PAIR_BYTES // (8 * max(stored.shape[1], 1)))
        for first in range(0, len(queries), step):
            queries_here, rows_here = queries[first : first + step], rows[first : first + step]
            exact = stored[rows_here].astype(np.float64)
            exact = _unit(exact) if self._metric == "cosine" else exact
            found = _distances(exact, self._targets[queries_here], self._metric)
            with self._lock:
                self._merge(queries_here, numbers[rows_here], found)

    def _merge(self, queries: np.ndarray, rows: np.ndarray, found: np.ndarray) -> None:
        """Keep the best of the rows that were kept and these."""
        changed, groups = np.unique(queries, return_inverse=True)
        k = self.rows.shape[1]
        groups = np.concatenate([np.repeat(np.arange(len(changed)), k), groups])
        rows = np.concatenate([self.rows[changed].ravel(), rows])
        found = np.concatenate([self.distances[changed].ravel(), found])
        order = np.lexsort((rows, found, groups))
        firsts = np.searchsorted(groups[order], np.arange(len(changed)))
        kept = order[firsts[:, None] + np.arange(k)]  # each group has at least the k that were kept
        self.rows[changed], self.distances[changed] = rows[kept], found[kept]
        self._candidates.raise_bounds(changed, self._bound(changed, found[kept[:, -1]]))

    def _bound(self, queries: np.ndarray, farthest: np.ndarray) -> np.ndarray:
        """The scores below which no row is as near as `farthest`: shape (m,), float32."""
        if self._metric == "cosine":
            return _below(1 - farthest - 2 * self._margin)
        return _below(self._squares[queries] * (1 - 4 * self._margin) - farthest**2)


class _Candidates:
    """Rows that may be among the `k` nearest of their query, by scores that rounding makes uncertain.

    Attributes
    ----------
    bounds : ndarray of shape (queries, 1), float32
        Rows with scores below these are none.
    """

    def __init__(self, queries: int, k: int) -> None:
        self.bounds = np.full((queries, 1), -np.inf, np.float32)
        self._k = k
        self._most = 2 * queries * k + SPARE_CANDIDATES
        self._reset()

    def _reset(self) -> None:
        self._sorted_out = 0  # candidates that were left when they were last sorted out
        self._count = 0
        none = np.empty(0, np.int64)
        self._parts = [(none, none, np.empty(0, np.float32), np.empty(0))]

    @property
    def are_many(self) -> bool:
        """Whether there are so many that they take too much memory: many rows are alike."""
        return self._sorted_out > self._most

    def add(self, queries: np.ndarray, rows: np.ndarray, scores: np.ndarray, least: np.ndarray) -> None:
        """Add pairs of a query and a row. Rows whose scores are below `least` are not as near as this one."""
        self._parts.append((queries, rows, scores, least))
        self._count += len(queries)
        if self._count > 2 * max(self._sorted_out, len(self.bounds) * self._k):  # seldom, as sorting takes time
            self._sort_out()

    def take(self) -> tuple[np.ndarray, np.ndarray]:
        """All candidates, as queries and rows, which are forgotten here."""
        self._sort_out()
        [(queries, rows, _, _)] = self._parts
        self._reset()
        return queries, rows

    def raise_bounds(self, queries: np.ndarray, bounds: np.ndarray) -> None:
        """Let no rows in that score below `bounds`, of shape (queries,)."""
        self.bounds[queries, 0] = np.maximum(self.bounds[queries, 0], bounds)

    def _sort_out(self) -> None:
        """Raise the bounds to what the k-th best candidates are at least worth, and drop those below."""
        queries, rows, scores, least = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        order = np.lexsort((-least, queries))
        ends = np.searchsorted(queries[order], np.arange(len(self.bounds) + 1))
        enough = np.flatnonzero(np.diff(ends) >= self._k)
        self.raise_bounds(enough, _below(least[order[ends[enough] + self._k - 1]]))
        kept = scores >= self.bounds[queries, 0]
        self._parts = [(queries[kept], rows[kept], scores[kept], least[kept])]
        self._count = self._sorted_out = int(np.count_nonzero(kept))


def _below(bounds: np.ndarray) -> np.ndarray:
    """The next smaller numbers in float32, so that a bound is not rounded up."""
    with np.errstate(over="ignore"):  # everything is above minus infinity
        return np.nextafter(bounds.astype(np.float32), np.float32(-np.inf))


def block_rows(width: int, queries: int = 1) -> int:
    """The number of rows in a block, for rows of `width` numbers that are compared with so many queries."""
    return max(16, min(MOST_ROWS, BLOCK_BYTES // (4 * max(width, 1)), PRODUCT_BYTES // (4 * max(queries, 1))))


def piece_rows(width: int, queries: int) -> int:
    """The number of rows in a piece of a block, whose products with so many queries are computed together."""
    small = SMALL_PRODUCT // max(width * queries, 1)
    return min(small, PIECE_ROWS) if small >= FEWEST_ROWS else max(16, min(PIECE_ROWS, PIECE_BYTES // (4 * width)))


def for_blocks(work: Callable[[int, int], None], count: int, size: int) -> None:
    """Call ``work(start, stop)`` for all blocks of `count` rows, in threads that have one thread of BLAS each.

    Raises
    ------
    Exception
        The first that `work` raises.
    """
    threads = min(_cores(), max(1, math.ceil(count / size)))
    starts = iter(range(0, count, size))
    taking, failed = threading.Lock(), threading.Event()

    def take() -> None:
        while not failed.is_set():
            with taking:
                start = next(starts, None)
            if start is None:
                return
            try:
                work(start, min(start + size, count))
            except BaseException:
                failed.set()
                raise

    with _libraries().limit(limits=1, user_api="blas"), ThreadPoolExecutor(threads, "layertap-search") as pool:
        for done in [pool.submit(take) for _ in range(threads)]:
            done.result()


def refuse_not_finite(block: np.ndarray, start: int) -> None:
    """Raise BadData where rows of a block, which begins at row `start`, are infinite or not numbers."""
    bad = np.flatnonzero(~np.isfinite(block).all(1))
    if len(bad):
        raise BadData(
            f"the features of row {start + int(bad[0])} are infinite or not numbers: nothing is near to them; read an "
            "earlier layer with `layers`, or give the net the pixels that it expects with `preprocessing`."
        )


@functools.cache
def _libraries() -> ThreadpoolController:
    """The libraries that are loaded when rows are first searched; looking for them takes a while."""
    return ThreadpoolController()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _lengths(vectors: np.ndarray | LazyRows) -> str:
    return " x ".join(map(str, vectors.shape[1:])) + " numbers" if len(vectors.shape) > 1 else "no axis"


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows divided by their norms; rows of zeros stay."""
    largest = np.abs(rows).max(1, keepdims=True, initial=0)  # divided first, so that no square overflows
    rows = rows / np.where(largest > 0, largest, 1)
    norms = np.sqrt(np.square(rows).sum(1, keepdims=True))
    return np.asarray(rows / np.where(norms > 0, norms, 1))
