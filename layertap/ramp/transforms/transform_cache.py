"""`TransformCache`: the transformed images of one transform, in the cache, and in memory until they are written."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import DamagedFile, StorageFailure
from feature_cache.space import Space
from feature_cache.spec import DTYPES, IMAGE_DTYPES, TRANSFORM, FeatureSpec
from feature_cache.writer import SpaceWriter
from layertap.ramp.transforms.identity import Transform
from transfer.hardware import host_memory

FRESH_BYTES = 2**26  # the most that is held in memory before it is written
MEMORY_SHARE = 8  # the divisor of the free memory that may hold images which cannot be written

Kind = tuple[str, tuple[int, ...]]  # dtype and shape of an image; each kind has a space


class TransformCache:
    """The transformed images of one transform, by the content of their originals. Only one thread may use it at a time.

    Parameters
    ----------
    transform : Transform
        A transform with a file.
    cache : FeatureCache
    """

    def __init__(self, transform: Transform, cache: FeatureCache) -> None:
        self._transform = transform
        self._cache = cache
        self._spaces: dict[Kind, Space] = {}
        for name in cache.spaces():
            if name.startswith(f"{TRANSFORM}-"):
                try:
                    space = cache.open(name)
                    shape = space.row_shape
                except DamagedFile:
                    continue
                if space.spec.transform == transform.digest and shape is not None:
                    self._spaces[space.spec.dtype, shape] = space
        self._writers: dict[Kind, SpaceWriter] = {}
        self._fresh: dict[bytes, np.ndarray] = {}
        self._fresh_bytes = 0
        self._room = (host_memory() or 0) // MEMORY_SHARE
        self._writable = True

    def __bool__(self) -> bool:
        """Whether the cache holds any images of this transform."""
        return bool(self._spaces)

    def find(self, keys: Sequence[bytes]) -> np.ndarray | dict[int, np.ndarray]:
        """The transformed images of these originals: all as one array, or those that are stored, by position."""
        digests = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1)
        images = {number: self._fresh[key] for number, key in enumerate(keys) if key in self._fresh}
        for space in self._spaces.values():
            stored = np.flatnonzero(space.has(digests))
            if not len(stored):
                continue
            rows = space.rows(digests[stored])[:]
            if len(stored) == len(keys):
                return rows
            images.update(zip(stored.tolist(), rows, strict=True))
        return images

    def add(self, keys: Sequence[bytes], images: Sequence[np.ndarray]) -> None:
        """Store transformed images, in memory alone if they cannot be written."""
        groups: dict[Kind, list[int]] = {}
        for number, image in enumerate(images):
            groups.setdefault((image.dtype.name, image.shape), []).append(number)
        for kind, numbers in groups.items():
            written = self._writable and self._write(
                kind, [keys[n] for n in numbers], np.stack([images[n] for n in numbers])
            )
            size = len(numbers) * images[numbers[0]].nbytes
            if written or self._fresh_bytes + size <= self._room:
                self._fresh.update({keys[n]: images[n] for n in numbers})
                self._fresh_bytes += size
        if self._writers and self._fresh_bytes > FRESH_BYTES:
            self.commit()

    def commit(self) -> None:
        """Write the images that are held in memory."""
        writers, self._writers = self._writers, {}
        for kind, writer in writers.items():
            try:
                with writer:
                    pass
            except StorageFailure as error:
                self._go_on(error)
            else:
                self._spaces[kind] = self._cache[self._spec(kind)]
        if writers and self._writable:
            unwritten = {key: image for key, image in self._fresh.items() if not _is_stored(_kind(image))}
            self._fresh, self._fresh_bytes = unwritten, sum(image.nbytes for image in unwritten.values())

    def _write(self, kind: Kind, keys: list[bytes], images: np.ndarray) -> bool:
        if not _is_stored(kind):
            return False
        try:
            if kind not in self._writers:
                space = self._cache[self._spec(kind)]
                self._writers[kind] = space.writer({"transform": str(self._transform.file)})
            self._writers[kind].append(np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1), images)
        except StorageFailure as error:
            self._go_on(error)
            return False
        return True

    def _spec(self, kind: Kind) -> FeatureSpec:
        dtype, shape = kind
        return FeatureSpec(
            net=TRANSFORM,
            weights="none",
            layer="image." + "x".join(map(str, shape)),
            size=(shape[0], shape[1]),
            pooling="none",
            transform=self._transform.digest,
            dtype=dtype,
        )

    def _go_on(self, error: StorageFailure) -> None:
        """Continue without writing: training does not depend on the cache."""
        warnings.warn(f"transformed images are kept in memory only: {error}", stacklevel=4)
        self._writable, self._writers = False, {}


def _kind(image: np.ndarray) -> Kind:
    return image.dtype.name, image.shape


def _is_stored(kind: Kind) -> bool:
    """Whether the cache stores such images; int8 means codes there."""
    dtype, shape = kind
    return dtype in (*DTYPES, *IMAGE_DTYPES) and dtype != "int8" and len(shape) >= 2 and 0 not in shape
