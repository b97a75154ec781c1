"""Features of batches of pixels: those that are in the cache are read, and the others computed and stored.

Keras is loaded only where something has to be computed.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadData, LayertapError
from feature_cache.features import Features
from feature_cache.joined import Joined
from feature_cache.keys import DIGEST_BYTES
from feature_cache.segments import segment_writer
from layertap.ramp.images import as_pixels, digests_of
from transfer.engines.batch import Batch, default_batch_size
from transfer.engines.runner import BatchRunner
from transfer.engines.selection import choose
from transfer.extraction import loop
from transfer.extraction.writing import FeatureWriter
from transfer.hardware import cores
from transfer.request import FeatureRequest, SharedNet

# The most rows, and bytes of rows, that are collected during predictions before they are written.
HELD_ROWS = 1000
HELD_BYTES = 64 * 2**20


class BatchRows:
    """The features of one request in one cache, shared by all classifiers of this process that need them.

    Parameters
    ----------
    request : FeatureRequest
        It is of images without augmentation, stored as float32.
    cache : FeatureCache
    """

    def __init__(self, request: FeatureRequest, cache: FeatureCache) -> None:
        self._request = request
        self._net = SharedNet(request)
        self._spaces = [cache[spec] for spec in request.specs]
        self._size = request.specs[0].size
        self._engines: BatchRunner | None = None  # for batches of predictions, of at most so many images
        self._most = 0
        self._held: dict[bytes, list[np.ndarray]] = {}  # by digest, a row for each space
        self._held_seconds = 0.0
        self._writing: tuple[Future[None], list[bytes]] | None = None  # those of them that a thread writes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="layertap-writer")

    def of_epoch(
        self, batches: Iterable[tuple[Any, Any]], count: int
    ) -> tuple[Features | Joined, np.ndarray, np.ndarray]:
        """The features of all images of an epoch, and their targets; missing features are computed in one pass.

        Parameters
        ----------
        batches : iterable of (X, y)
            Images, as `as_pixels` takes them, and targets; no more batches are drawn than make up the epoch.
        count : int
            The number of images of an epoch.

        Returns
        -------
        features : Features or Joined, of shape (count, ...), float32
            Rows are read from disk when they are used; those of several layers are flattened and joined.
        targets : ndarray of shape (count, ...)
        groups : ndarray of shape (count,), int
            Equal for images of the same pixels.

        Raises
        ------
        BadData
            When the images are not as the net takes them, or there are none.
        LayertapError
            When the net is not to be had, or the cache cannot be written.
        """
        if count < 1:
            raise BadData(f"there is no image to train on: an epoch has {count}.")
        self.write()
        self._look()
        digests: list[np.ndarray] = []
        targets: list[np.ndarray] = []
        self._compute(self._missing(batches, count, digests, targets), count)
        every = np.concatenate(digests)
        groups = np.unique(every, axis=0, return_inverse=True)[1].reshape(-1)
        return self.features(every), np.concatenate(targets), groups

    def of_batch(self, X: Any) -> np.ndarray:
        """The features of a batch; features that are computed for it are written later, with those of other batches.

        Parameters
        ----------
        X : array of shape (n, ...)
            Images, as `as_pixels` takes them.

        Returns
        -------
        ndarray of shape (n, ...), float32
            As in `of_epoch`.

        Raises
        ------
        BadData, LayertapError
            As in `of_epoch`.
        """
        pixels = as_pixels(X, self._size)
        digests = digests_of(pixels)
        stored = self._is_stored(digests)
        names = [digest.tobytes() for digest in digests]
        missing = {name: place for place, name in enumerate(names) if not stored[place] and name not in self._held}
        if missing:
            places = list(missing.values())
            self._hold(digests[places], pixels[places], len(pixels))
        parts = []
        for number, space in enumerate(self._spaces):
            if stored.all():
                parts.append(space.rows(digests)[:])
                continue
            held = np.stack([self._held[name][number] for name, known in zip(names, stored, strict=True) if not known])
            rows = held if not stored.any() else np.empty((len(pixels), *held.shape[1:]), np.float32)
            if stored.any():
                rows[~stored], rows[stored] = held, space.rows(digests[stored])[:]
            parts.append(rows)
        if missing:
            self._write_if_due()
        return parts[0] if len(parts) == 1 else np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)

    def complete(self, stored: Features | Joined, layers: tuple[str, ...]) -> None:
        """Compute missing features from the complete outputs `stored` of some layers for the same images.

        Raises
        ------
        LayertapError
            As in `of_epoch`.
        """
        digests, views = stored.keys()
        first = np.unique(digests, axis=0, return_index=True)[1]
        lacking = first[~self._is_stored(digests[first])]
        size = self._batch_size()
        parts = (lacking[start : start + size] for start in range(0, len(lacking), size))
        self._compute((Batch(digests[part], views[part], stored[part]) for part in parts), len(lacking), layers)

    def features(self, digests: np.ndarray) -> Features | Joined:
        """The features of images that are all in the cache.

        Raises
        ------
        MissingFeatures
            When some are missing.
        """
        parts = [space.rows(digests) for space in self._spaces]
        return parts[0] if len(parts) == 1 else Joined(parts)

    def write(self) -> None:
        """Write the rows that are held in memory.

        Raises
        ------
        StorageFailure
            When the disk does not take it.
        """
        self._settle()
        if self._held:
            self._store(list(self._held), self._held_seconds)
            self._held, self._held_seconds = {}, 0.0
            self._look()

    def _write_if_due(self) -> None:
        """Let the thread write the rows that are held, once there are enough of them."""
        new = len(self._held) - (len(self._writing[1]) if self._writing else 0)
        row_bytes = sum(row.nbytes for row in next(iter(self._held.values())))
        if new >= min(HELD_ROWS, HELD_BYTES // max(1, row_bytes)):
            self._settle()
            names = list(self._held)
            self._writing = self._thread.submit(self._store, names, self._held_seconds), names
            self._held_seconds = 0.0

    def _settle(self) -> None:
        """Wait until the thread has written its rows, which are in the cache then."""
        writing, self._writing = self._writing, None
        if writing:
            writing[0].result()
            for name in writing[1]:
                del self._held[name]
            self._look()

    def _store(self, names: list[bytes], seconds: float) -> None:
        """Write a segment of these rows into each space.

        Not by a writer, whose thread cannot be started when the process is about to end.
        """
        assert self._engines is not None  # they have computed them
        provenance = {**self._engines.provenance, "finished": segment_writer.timestamp(), "seconds": round(seconds, 3)}
        digests = np.frombuffer(b"".join(names), np.uint8).reshape(-1, DIGEST_BYTES)
        for number, space in enumerate(self._spaces):
            space.create()
            rows = np.stack([self._held[name][number] for name in names])
            segment_writer.write(space.folder, space.spec, rows, digests, np.zeros(len(rows), np.uint32), provenance)

    def _look(self) -> None:
        self._spaces = [space.again() for space in self._spaces]

    def _is_stored(self, digests: np.ndarray) -> np.ndarray:
        """Whether each image has a row in all spaces."""
        return np.all([space.has(digests) for space in self._spaces], axis=0)

    def _batch_size(self) -> int:
        return default_batch_size(choose("auto", self._request.precision), self._size)

    def _missing(
        self, batches: Iterable[tuple[Any, Any]], count: int, digests: list[np.ndarray], targets: list[np.ndarray]
    ) -> Iterator[Batch]:
        """Batches of the images of an epoch that have no row, each once; `digests` and `targets` are filled."""
        size, seen = self._batch_size(), set()
        waiting: dict[tuple[int, ...], list[tuple[np.ndarray, np.ndarray]]] = {}  # by the shape of the image
        for X, y in batches:
            pixels = as_pixels(X, self._size)
            digests.append(digests_of(pixels))
            targets.append(np.asarray(y))
            count -= len(pixels)
            for place in np.flatnonzero(~self._is_stored(digests[-1])):
                if (name := digests[-1][place].tobytes()) not in seen:
                    seen.add(name)
                    waiting.setdefault(pixels.shape[1:], []).append((digests[-1][place], pixels[place]))
            for images in waiting.values():
                while len(images) >= size:
                    yield _batch(images[:size])
                    del images[:size]
            if count <= 0:
                break
        yield from (_batch(images) for images in waiting.values() if images)

    def _compute(self, batches: Iterator[Batch], most: int, start: tuple[str, ...] = ()) -> None:
        """Compute and write the rows of these batches."""
        first = next(batches, None)
        if first is None:  # nothing is missing: no net is loaded
            return
        runner = BatchRunner(self._request, most=most, start=start, net=self._net)
        loop.run(itertools.chain([first], batches), runner, FeatureWriter(runner, lambda: self._spaces))
        self._look()

    def _hold(self, digests: np.ndarray, pixels: np.ndarray, most: int) -> None:
        """Compute the rows of some images of a batch of `most`, and hold them."""
        if self._engines is None or most > self._most:
            # OpenVINO computes a batch on one core: each gets a share. Others share a batch among all cores.
            among = len(cores()) if choose("auto", self._request.precision) == "openvino" else 1
            self._engines, self._most = BatchRunner(self._request, most=-(-most // among), net=self._net), most
        begun, size = time.monotonic(), self._engines.batch_size
        starts = range(0, len(pixels), size)
        views = np.zeros(size, np.uint32)
        pieces = (Batch(digests[n : n + size], views, pixels[n : n + size]) for n in starts)
        for batch, features in self._engines.run(pieces):
            for digest, *rows in zip(batch.digests, *features, strict=True):
                self._held[digest.tobytes()] = rows
        self._held_seconds += time.monotonic() - begun


_shared: dict[tuple[Any, ...], BatchRows] = {}


def rows_for(request: FeatureRequest, root: Path) -> BatchRows:
    """The rows of a request in the cache folder `root`; one object for the whole process."""
    key = (root.resolve(), *(spec.to_json() for spec in request.specs))
    if key not in _shared:
        rows = _shared[key] = BatchRows(request, FeatureCache(root))
        atexit.register(_write_at_exit, rows)
    return _shared[key]


def _write_at_exit(rows: BatchRows) -> None:
    with contextlib.suppress(LayertapError):  # what is lost can be computed again
        rows.write()


def _batch(images: list[tuple[np.ndarray, np.ndarray]]) -> Batch:
    digests, pixels = zip(*images, strict=True)
    return Batch(np.stack(digests), np.zeros(len(images), np.uint32), np.stack(pixels))
