"""`TransformedImages`: the transformed images of one transform, from the cache or computed once."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage
from feature_cache.files.digest_memo import FileStamp
from feature_cache.keys import digest_bytes
from layertap.ramp.images import read_image
from layertap.ramp.transforms.identity import TRIED, Transform
from layertap.ramp.transforms.transform_cache import MEMORY_SHARE, TransformCache
from layertap.ramp.transforms.workers import TransformWorkers
from transfer.data.images import FileSource
from transfer.hardware import cores, host_memory

SLOW_SECONDS = 3.0  # of transforms that are worth starting processes for; each process loads scikit-image first


class TransformedImages:
    """Images after a transform.

    If the transform draws no random numbers, images are looked up by their content and the transform's source; missing
    ones are transformed once and stored. If it does, only the decoded images are held, and images are transformed one
    after another when they are requested, as in ramp-workflow, so that the same seed gives the same images.

    Parameters
    ----------
    transform : Transform
    cache : FeatureCache
    threads : int
        The number of threads that read files.
    workers : int, optional
        The number of processes that transform images once that is slow; by default one for each core.
    """

    def __init__(self, transform: Transform, cache: FeatureCache, threads: int, workers: int | None = None) -> None:
        self.transform = transform
        self._cache = cache
        self._threads = max(1, threads)
        self._count = len(cores()) if workers is None else workers
        self._pool: ThreadPoolExecutor | None = None
        self._workers: TransformWorkers | None = None
        self._random: bool | None = None
        self._stored: TransformCache | None = None
        self._known: dict[FileStamp, bytes] = {}  # digests of files
        self._decoded: dict[FileStamp, np.ndarray] = {}
        self._room = (host_memory() or 0) // MEMORY_SHARE
        self._each = 0.0  # seconds that a transform takes
        self._closed = self._stopping = False
        # Transforms are written for one thread: the generators of training and of validation take turns.
        self._lock = threading.RLock()

    def is_random(self, paths: Sequence[str]) -> bool:
        """Whether the transform draws random numbers; it is tested on the first of these images if necessary."""
        with self._lock:
            if self._random is None:
                stored = TransformCache(self.transform, self._cache) if self.transform.file else None
                known = bool(stored) and not self.transform.declares_random()  # it was tested before
                self._random = not known and self.transform.is_random(self.decode(paths[:TRIED]))
                self._stored = None if self._random else stored
            return self._random

    def decode(self, paths: Sequence[str]) -> list[np.ndarray]:
        """The images as they are read, by threads; the caller must not change them."""
        return list(self._reading().map(self._decode, paths))

    def images(self, paths: Sequence[str], ahead: int = 0) -> np.ndarray | list[np.ndarray]:
        """The transformed images of the files at `paths`, for a transform that is not random.

        Parameters
        ----------
        ahead : int
            How many more images will be requested, which decides whether processes are worth starting.

        Returns
        -------
        ndarray of shape (n, ...), or list of n arrays
            A list where the images are not of one shape and dtype.

        Raises
        ------
        BadImage, BadSubmission
        """
        with self._lock:
            assert self._stored is not None
            stamps = [FileSource(Path(path)).stamp() for path in paths]
            keys = self._digests(paths, stamps)
            by_position = self._stored.find(keys)
            if isinstance(by_position, np.ndarray):
                return by_position
            missing = [position for position in range(len(paths)) if position not in by_position]
            if missing:
                new = self._transform([paths[position] for position in missing], ahead)
                by_position.update(zip(missing, new, strict=True))
                if not self._closed:
                    # A file that has changed between the two looks may be another than its digest says.
                    same = [n for n in missing if FileSource(Path(paths[n])).stamp() == stamps[n]]
                    self._stored.add([keys[n] for n in same], [by_position[n] for n in same])
        images = [by_position[position] for position in range(len(paths))]
        first = images[0]
        if all(image.shape == first.shape and image.dtype == first.dtype for image in images):
            return np.stack(images)
        return images

    def close(self) -> None:
        """Write new images, and end processes and threads. Later requests are computed, but not stored."""
        self._stopping = True  # a thread may be at work on images that nobody will request
        if self._workers:
            self._workers.stop()
        with self._lock:
            self._closed, self._stopping = True, False
            if self._stored is not None:
                self._stored.commit()
            workers, self._workers = self._workers, None
            pool, self._pool = self._pool, None
        if workers:
            workers.close()
        if pool:
            pool.shutdown(wait=False, cancel_futures=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return TransformedImages, (self.transform, self._cache, self._threads, self._count)

    def _reading(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="layertap-read")
            return self._pool

    def _decode(self, path: str) -> np.ndarray:
        if self._random is False:
            return read_image(path)
        stamp = FileSource(Path(path)).stamp()
        image = self._decoded.get(stamp) if stamp else None
        if image is None:
            image = read_image(path)
            if stamp and image.nbytes <= self._room:
                self._room -= image.nbytes
                self._decoded[stamp] = image
        return image

    def _digests(self, paths: Sequence[str], stamps: list[FileStamp | None]) -> list[bytes]:
        keys = [self._known.get(stamp, b"") if stamp else b"" for stamp in stamps]
        unknown = [number for number, key in enumerate(keys) if not key]
        if unknown:
            seen = time.time_ns()
            recalled = self._cache.memo.recall(stamp for number in unknown if (stamp := stamps[number]))
            for number in unknown:
                stamp = stamps[number]
                keys[number] = recalled.get(stamp[0], b"") if stamp else b""
            fresh = [number for number in unknown if not keys[number]]
            for number, key in zip(fresh, self._reading().map(_digest, [paths[n] for n in fresh]), strict=True):
                keys[number] = key
            self._known.update({stamp: keys[number] for number in unknown if (stamp := stamps[number])})
            self._cache.memo.remember({stamp: keys[n] for n in fresh if (stamp := stamps[n])}, seen)
        return keys

    def _transform(self, paths: list[str], ahead: int) -> list[np.ndarray]:
        slow = self._each * (len(paths) + ahead) > SLOW_SECONDS and self._count > 1
        if slow and self._workers is None and not self._closed:
            self._workers = TransformWorkers(self.transform, self._count)
        if self._workers is not None:
            return self._workers.apply(paths)
        begun = time.monotonic()
        images = []
        for image in self.decode(paths):
            if self._stopping:
                raise RuntimeError("training has ended")
            images.append(np.asarray(self.transform(image)))
        self._each = (time.monotonic() - begun) / len(paths)
        return images


def _digest(path: str) -> bytes:
    try:
        return digest_bytes(Path(path).read_bytes())
    except OSError as error:
        raise BadImage(f"cannot read the image {path}: {error.strerror}.") from error
