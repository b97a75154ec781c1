"""An approximate index beside a space, for millions of rows: Hierarchical Navigable Small World graphs by usearch.

The method is that of Malkov and Yashunin (2018, arXiv:1603.09320). The index knows rows by their keys, so it serves
every data set whose images have features in the space: rows that it lacks are added when they are first searched, and
those of other images are passed over. What it proposes is compared exactly. It is two files, both of which can be
removed: the graph, and the keys of its rows with the checksum of the graph. Where one does not go with the other, or
with the space, the index is built anew.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xxhash

from feature_cache.errors import MissingDependency, StorageFailure
from feature_cache.features import Features
from feature_cache.files.atomic import new_file, replacement
from feature_cache.files.checked import UnusableFile, open_regular, read_bytes
from feature_cache.segments.layout import GRAPH_FILE, GRAPH_KEYS_FILE
from transfer.search.neighbors import Metric, Neighbors, block_rows, distances, flat_width, nearest, refuse_not_finite

if TYPE_CHECKING:
    from usearch.index import Index

MAGIC = b"layertap graph 1"
KEY = np.dtype("V20")  # the digest of an image, and the number of its view
METRICS = {"cosine": "cos", "euclidean": "l2sq"}
SPARE = 32  # proposals beyond twice the number of neighbors, which are compared exactly
MOST_PROPOSALS = 10_000  # of a query; an exact search takes less time than more of them
PIECE = 2**24  # bytes that a checksum reads at a time


class _Files(NamedTuple):
    """The two files of an index."""

    graph: Path
    keys: Path


def nearest_by_index(rows: Features, queries: np.ndarray, k: int, *, metric: Metric = "cosine") -> Neighbors:
    """The `k` rows nearest to each query, among those that an approximate index proposes.

    Rows that the index lacks are added to it first. Where too few of the rows of the index are among `rows`, the search
    is exact.

    Parameters
    ----------
    rows, queries, k, metric
        See `transfer.search.neighbors.nearest`.

    Returns
    -------
    Neighbors
        The distances are exact; a near row may be missing.

    Raises
    ------
    MissingDependency
        When usearch is not installed.
    StorageFailure
        When the index cannot be written.
    BadData
        As for `nearest`.
    """
    keys = _keys(rows)
    unique, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    graph, known = _updated(rows, unique, first, metric)
    count = math.ceil((2 * k + SPARE) * len(known) / max(1, len(unique)))
    if tuple(queries.shape[1:]) != tuple(rows.shape[1:]) or min(count, len(known)) > MOST_PROPOSALS or k < 1:
        return nearest(rows, queries, k, metric=metric)
    by_key = np.argsort(inverse, kind="stable")
    bounds = np.searchsorted(inverse[by_key], np.arange(len(unique) + 1))
    vectors = np.asarray(queries, np.float32).reshape(len(queries), -1)
    k, found = min(k, len(rows)), []
    for number, vector in enumerate(vectors):
        proposed = np.asarray(graph.search(vector, min(count, len(known))).keys, np.int64)
        places = np.searchsorted(unique, known[proposed])
        places = places[unique[np.minimum(places, len(unique) - 1)] == known[proposed]]
        positions = np.sort(np.concatenate([by_key[bounds[one] : bounds[one + 1]] for one in places] or [by_key[:0]]))
        if len(positions) < k:
            return nearest(rows, queries, k, metric=metric)
        query = np.asarray(queries[number], np.float64).reshape(-1)
        exact = distances(rows[positions].reshape(len(positions), -1), query, metric=metric)
        order = np.lexsort((positions, exact))[:k]
        found.append((positions[order], exact[order]))
    return Neighbors(
        np.array([one for one, _ in found]).reshape(-1, k), np.array([one for _, one in found]).reshape(-1, k)
    )


def _keys(rows: Features) -> np.ndarray:
    """The keys of rows, shape (n,), as `KEY`."""
    digests, views = rows.keys()
    whole = np.concatenate([digests, np.ascontiguousarray(views, "<u4")[:, None].view(np.uint8)], axis=1)
    return np.ascontiguousarray(whole).view(KEY).reshape(-1)


def _updated(rows: Features, unique: np.ndarray, first: np.ndarray, metric: Metric) -> tuple[Index, np.ndarray]:
    """The graph with all rows, and the keys of its rows; what it lacks is added and written."""
    files = _Files(*(rows.space.folder / name.format(metric=metric) for name in (GRAPH_FILE, GRAPH_KEYS_FILE)))
    spec = rows.space.spec.to_json().encode()
    width = flat_width(rows.shape)
    graph, known = _load(files, spec, width, metric, view=True)
    lacking = np.sort(first[~np.isin(unique, known)])
    if len(lacking):
        graph, known = _load(files, spec, width, metric, view=False)  # what is mapped takes no rows
        lacking = np.sort(first[~np.isin(unique, known)])
        step = block_rows(width)
        for start in range(0, len(lacking), step):
            positions = lacking[start : start + step]
            block = rows[positions].reshape(len(positions), width)
            refuse_not_finite(block, int(positions[0]))
            graph.add(np.arange(len(known) + start, len(known) + start + len(positions)), block.astype(np.float32))
        known = np.concatenate([known, _keys(rows)[lacking]])
        _save(graph, known, files, spec)
    return graph, known


def _new(width: int, metric: Metric) -> Any:
    # First, as usearch 2.26 brings a C++ library of its own with which OpenVINO cannot read nets where it comes first.
    import openvino  # noqa: F401

    try:
        from usearch.index import Index  # optional
    except ImportError as error:
        raise MissingDependency("an index needs the package usearch: pip install 'layertap[index]'") from error
    return Index(ndim=width, metric=METRICS[metric], dtype="f16" if metric == "cosine" else "f32")


def _load(files: _Files, spec: bytes, width: int, metric: Metric, *, view: bool) -> tuple[Index, np.ndarray]:
    """The index that is stored; an empty one where there is none, or none that can be used."""
    index = _new(width, metric)
    try:
        size = files.graph.stat().st_size
        content = read_bytes(files.keys, size)  # there are always fewer bytes of keys than of vectors and their edges
        head = MAGIC + xxhash.xxh3_128_digest(spec)
        stored = np.frombuffer(content, KEY, offset=len(head) + 32)
        sums = content[len(head) : len(head) + 32]
        if content[: len(head)] == head and sums == _checksum(files.graph) + xxhash.xxh3_128_digest(stored.tobytes()):
            (index.view if view else index.load)(str(files.graph))
            if len(index) == len(stored) and index.ndim == width:
                return index, stored
    except (OSError, UnusableFile, ValueError, RuntimeError):
        pass
    return _new(width, metric), np.empty(0, KEY)


def _save(index: Index, known: np.ndarray, files: _Files, spec: bytes) -> None:
    with _explained(files.graph), replacement(files.graph) as temporary:
        index.save(str(temporary))
    with new_file(files.keys, "the index") as file:
        body = known.tobytes()
        head = MAGIC + xxhash.xxh3_128_digest(spec)
        file.write(head + _checksum(files.graph) + xxhash.xxh3_128_digest(body) + body)


@contextlib.contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise StorageFailure(f"cannot write the index {file}: {error}.") from error


def _checksum(file: Path) -> bytes:
    state = xxhash.xxh3_128()
    with open_regular(file) as stream:
        while piece := stream.read(PIECE):
            state.update(piece)
    return state.digest()
