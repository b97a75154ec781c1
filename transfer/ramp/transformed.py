"""`Transformed`: images as one transform leaves them, from the cache, or made once, by several processes if slow."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage, DamagedFile, StorageFailure
from feature_cache.keys import FileStamp, digest_bytes
from feature_cache.space import Space
from feature_cache.spec import FeatureSpec
from feature_cache.writer import SpaceWriter
from transfer.images import FileSource
from transfer.machine import available_memory, cores
from transfer.ramp.preprocessor import TRIED, Transform, read_image
from transfer.ramp.workers import Workers

STORED = ("uint8", "float32", "float64")  # images of other dtypes are made each time
FRESH_BYTES = 2**26  # of rows that are kept in memory before they are written
SLOW_SECONDS = 3.0  # of transforms to come that are worth starting processes for: each loads scikit-image first
MEMORY_SHARE = 8  # one part of the free memory may hold images that would have to be read or made again


class Transformed:
    """What a transform leaves of images.

    Where it draws no random numbers, images are looked up by their content and the transform's source, and what is
    missing is made once and kept. Where it does, nothing is kept but what was read, and images are transformed one
    after another when they are asked for, as ramp-workflow does: so the same seed gives the same images.

    Parameters
    ----------
    transform : Transform
    cache : FeatureCache
    threads : int
        That read files.
    workers : int, optional
        Processes that transform, once that is slow; by default one for each core.
    """

    def __init__(self, transform: Transform, cache: FeatureCache, threads: int, workers: int | None = None) -> None:
        self.transform = transform
        self._cache = cache
        self._count = len(cores()) if workers is None else workers
        self._threads = ThreadPoolExecutor(max(1, threads), thread_name_prefix="layertap-read")
        self._workers: Workers | None = None
        self._random: bool | None = None
        self._space: Space | None = None
        self._writer: SpaceWriter | None = None
        self._fresh: dict[bytes, np.ndarray] = {}
        self._fresh_bytes = 0
        self._known: dict[FileStamp, bytes] = {}
        self._decoded: dict[FileStamp, np.ndarray] = {}
        self._room = (available_memory() or 0) // MEMORY_SHARE
        self._writable = True
        self._each = 0.0  # seconds that a transform takes
        self._lock = threading.RLock()
        self._closed = False

    def is_random(self, paths: Sequence[str]) -> bool:
        """Whether the transform draws random numbers, tried on the first of these images if need be."""
        with self._lock:
            if self._random is None:
                self._space = self._found()
                self._random = self._space is None and self.transform.is_random(self.decode(paths[:TRIED]))
            return self._random

    def decode(self, paths: Sequence[str]) -> list[np.ndarray]:
        """The images as they are read, in threads; the caller does not change them."""
        return list(self._threads.map(self._decode, paths))

    def images(self, paths: Sequence[str], ahead: int = 0) -> np.ndarray | list[np.ndarray]:
        """What is left of the images at `paths`, where the transform is not random.

        Parameters
        ----------
        ahead : int
            How many more images will be asked for, to know whether processes are worth starting.

        Returns
        -------
        ndarray of shape (n, ...), or list of n arrays
            A list where the images are not of one shape and dtype, or not kept.

        Raises
        ------
        BadImage, BadSubmission
        """
        keys = self._digests(paths)
        with self._lock:
            fresh = {n: self._fresh[key] for n, key in enumerate(keys) if key in self._fresh}
            space = self._space
        stored = np.flatnonzero(space.has(_as_array(keys))) if space is not None else np.arange(0)
        rows = space.rows(_as_array(keys)[stored])[:] if space is not None and len(stored) else np.empty(0)
        if len(stored) == len(keys):
            return rows
        found = dict(zip(stored.tolist(), rows, strict=True)) | fresh
        missing = [position for position in range(len(paths)) if position not in found]
        if missing:
            made = self._make([paths[position] for position in missing], ahead)
            self._keep([keys[position] for position in missing], made)
            found.update(zip(missing, made, strict=True))
        images = [found[position] for position in range(len(paths))]
        first = images[0]
        if all(image.shape == first.shape and image.dtype == first.dtype for image in images):
            return np.stack(images)
        return images

    def commit(self) -> None:
        """Write what has been made."""
        with self._lock:
            if self._writer is None or self._space is None:
                return
            writer, self._writer = self._writer, None
            try:
                with writer:
                    pass
            except StorageFailure as error:
                self._go_on(error)
            else:
                self._space, self._fresh, self._fresh_bytes = self._space.again(), {}, 0

    def close(self) -> None:
        """Write what has been made, and end the processes."""
        with self._lock:
            self._closed = True  # a thread may still be making what nobody will ask for
            self.commit()
        if self._workers:
            self._workers.close()
            self._workers = None
        self._threads.shutdown()

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

    def _digests(self, paths: Sequence[str]) -> list[bytes]:
        stamps = [FileSource(Path(path)).stamp() for path in paths]
        keys = [self._known.get(stamp, b"") if stamp else b"" for stamp in stamps]
        unknown = [number for number, key in enumerate(keys) if not key]
        if unknown:
            seen = time.time_ns()
            recalled = self._cache.memo.recall(stamp for number in unknown if (stamp := stamps[number]))
            for number in unknown:
                stamp = stamps[number]
                keys[number] = recalled.get(stamp[0], b"") if stamp else b""
            fresh = [number for number in unknown if not keys[number]]
            for number, key in zip(fresh, self._threads.map(_digest, [paths[number] for number in fresh]), strict=True):
                keys[number] = key
            self._known.update({stamp: keys[number] for number in unknown if (stamp := stamps[number])})
            self._cache.memo.remember({stamp: keys[n] for n in fresh if (stamp := stamps[n])}, seen)
        return keys

    def _found(self) -> Space | None:
        """The space that holds what this transform has left of other images."""
        if self.transform.file is None or self.transform.says():
            return None
        for name in self._cache.spaces():
            if name.startswith("transform-"):
                try:
                    space = self._cache.open(name)
                except DamagedFile:
                    continue
                if space.spec.transform == self.transform.digest:
                    return space
        return None

    def _make(self, paths: list[str], ahead: int) -> list[np.ndarray]:
        begun = time.monotonic()
        slow = self._each * (len(paths) + ahead) > SLOW_SECONDS and self._count > 1
        with self._lock:
            if slow and self._workers is None and not self._closed:
                self._workers = Workers(self.transform, self._count)
        if self._workers is not None:
            return self._workers.apply(paths)
        made = [np.asarray(self.transform(image)) for image in self.decode(paths)]
        self._each = (time.monotonic() - begun) / len(paths)
        return made

    def _keep(self, keys: list[bytes], images: list[np.ndarray]) -> None:
        with self._lock:
            if self._closed:
                return
            if self._space is None:
                spec = self._spec(images[0])
                if spec is None:
                    return
                self._space = self._cache[spec]
            spec, shape = self._space.spec, self._space.row_shape or images[0].shape
            alike = [n for n, image in enumerate(images) if image.shape == shape and image.dtype == spec.dtype]
            if not alike:
                return
            if self._writable:
                try:
                    self._writer = self._writer or self._space.writer({"transform": str(self.transform.file)})
                    self._writer.append(_as_array([keys[n] for n in alike]), np.stack([images[n] for n in alike]))
                except StorageFailure as error:
                    self._go_on(error)
            if self._writable or self._fresh_bytes < self._room:
                self._fresh.update({keys[n]: images[n] for n in alike})
                self._fresh_bytes += len(alike) * images[alike[0]].nbytes
            if self._writable and self._fresh_bytes > FRESH_BYTES:
                self.commit()

    def _spec(self, image: np.ndarray) -> FeatureSpec | None:
        if (
            self.transform.file is None
            or image.dtype.name not in STORED
            or image.ndim not in (2, 3)
            or 0 in image.shape
        ):
            return None
        return FeatureSpec(
            net="transform",
            weights="none",
            layer="image",
            size=(image.shape[0], image.shape[1]),
            pooling="none",
            transform=self.transform.digest,
            dtype=image.dtype.name,
        )

    def _go_on(self, error: StorageFailure) -> None:
        """Keep images in memory only, while there is room: where nothing can be written, one still wants to train."""
        warnings.warn(f"transformed images are kept in memory only: {error}", stacklevel=3)
        self._writable, self._writer = False, None


def _digest(path: str) -> bytes:
    try:
        return digest_bytes(Path(path).read_bytes())
    except OSError as error:
        raise BadImage(f"cannot read the image {path}: {error.strerror}.") from error


def _as_array(keys: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1)
