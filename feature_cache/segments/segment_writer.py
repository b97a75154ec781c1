"""Writing a segment: plain rows go to its file as they come, compressed ones when the segment is complete."""

from __future__ import annotations

import json
import os
import time
import uuid
from abc import ABC, abstractmethod
from pathlib import Path

import h5py
import numpy as np

from feature_cache.files.atomic import NewFile
from feature_cache.files.hdf5 import hdf5_around, new_hdf5
from feature_cache.keys import DIGEST_BYTES
from feature_cache.remote import storage
from feature_cache.segments import compression
from feature_cache.segments.encoding import Parameters
from feature_cache.segments.layout import (
    CHECK,
    CODING,
    DIGEST,
    FEATURES,
    FORMAT,
    PAGE,
    VIEW,
    block_check,
    rows_per_block,
)
from feature_cache.segments.segment import checksum
from feature_cache.spec import FeatureSpec


def write(
    folder: Path,
    spec: FeatureSpec,
    features: np.ndarray,
    digests: np.ndarray,
    views: np.ndarray,
    provenance: dict,
    *,
    coding: Parameters | None = None,
    compress: bool = False,
) -> Path:
    """Write one segment, which appears whole or not at all (see `feature_cache.files.atomic`).

    Parameters
    ----------
    features : ndarray of shape (n, *row_shape), of the spec's dtype
    coding : dict of str to ndarray, optional
        Parameters of the codes that `features` are.
    compress : bool
        Store Zstandard chunks of a block each; otherwise contiguous, for memory maps.

    Returns
    -------
    Path
        The new segment.

    Raises
    ------
    StorageFailure
        When the folder or the disk does not take it; nothing is left behind then.
    """
    kind = CompressedSegment if compress else PlainSegment
    new = kind(folder, spec, features, max(len(features), 1), coding)
    try:
        new.take(digests, features, views)
        return storage.publish(new.finish(provenance))
    finally:
        new.discard()


def new_path(folder: Path) -> Path:
    """A path for a new segment, with a name that no other segment has; see `feature_cache.remote.storage.publish`."""
    return storage.new_path(folder / f"segment-{uuid.uuid4().hex}.h5")


def timestamp() -> str:
    """The current time in the form in which provenance records it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class NewSegment(ABC):
    """A segment that takes rows until it is finished, or discarded.

    Parameters
    ----------
    like : ndarray of shape (n, *row_shape)
        An array with the shape and dtype of rows as they are stored.
    room : int
        The most rows that the segment takes.
    """

    def __init__(self, folder: Path, spec: FeatureSpec, like: np.ndarray, room: int, coding: Parameters | None) -> None:
        self.path = new_path(folder)
        self._spec = spec
        self._coding = coding or {}
        self._room = room
        self._row_shape, self._dtype = like.shape[1:], like.dtype
        self._row_bytes = like[:1].nbytes or int(np.prod(self._row_shape, dtype=np.int64)) * like.itemsize
        self._block_rows = rows_per_block(self._row_bytes)
        self._digests = np.empty((room, DIGEST_BYTES), np.uint8)
        self._views = np.empty(room, np.uint32)
        self._used = 0

    @property
    def full(self) -> bool:
        return self._used == self._room

    def take(self, digests: np.ndarray, features: np.ndarray, views: np.ndarray) -> int:
        """Take as many of these rows as there is room for, and return their number.

        Raises
        ------
        StorageFailure
            When the disk does not take them; the segment is discarded then.
        """
        count = min(len(features), self._room - self._used)
        new = slice(self._used, self._used + count)
        self._digests[new], self._views[new] = digests[:count], views[:count]
        self._store(np.ascontiguousarray(features[:count]))
        self._used += count  # only now: what an interruption cuts short does not count
        return count

    @abstractmethod
    def _store(self, features: np.ndarray) -> None:
        """Store these rows after those that the segment has."""

    @abstractmethod
    def finish(self, provenance: dict) -> Path:
        """Complete the segment, which then appears under its path.

        Raises
        ------
        StorageFailure
            When the disk does not take it; nothing is left behind then.
        """

    def discard(self) -> None:  # noqa: B027  # there may be nothing to do
        """Remove what has been written of a segment that is not finished."""

    def _describe(self, file: h5py.File, check: np.ndarray, provenance: dict) -> None:
        """Write everything but the features: keys, checks, codes and attributes."""
        digests, views = self._digests[: self._used], self._views[: self._used]
        file.create_dataset(DIGEST, data=digests)
        file.create_dataset(VIEW, data=views)
        file.create_dataset(CHECK, data=check).attrs["rows_per_block"] = min(self._block_rows, max(self._used, 1))
        for name, array in sorted(self._coding.items()):
            file.create_dataset(f"{CODING}/{name}", data=array)
        texts = {"spec": self._spec.to_json(), "provenance": json.dumps(provenance, sort_keys=True)}
        file.attrs["layertap_format"] = FORMAT
        file.attrs.update({name: np.bytes_(text.encode()) for name, text in texts.items()})
        shape = (self._used, *self._row_shape)
        total = checksum(texts, shape, self._dtype, digests, views, check, self._coding)
        file.attrs["checksum"] = np.bytes_(total.encode())


class PlainSegment(NewSegment):
    """A segment whose rows lie in one piece, for memory maps; they go to the file as they come."""

    def __init__(self, folder: Path, spec: FeatureSpec, like: np.ndarray, room: int, coding: Parameters | None) -> None:
        super().__init__(folder, spec, like, room, coding)
        self._check = np.empty(-(-room // self._block_rows), np.uint64)
        self._file = NewFile(self.path)

    def _store(self, features: np.ndarray) -> None:
        data = features.reshape(-1).view(np.uint8).data
        with self._file.failures_explained():
            self._file.stream.seek(self._place(self._used))
            self._file.stream.write(data)
            self._file.stream.raise_failure()
        first, last = self._used // self._block_rows, (self._used + len(features)) // self._block_rows
        for number in range(first, last):  # while they are in the caches of the processor
            start = (number * self._block_rows - self._used) * self._row_bytes
            stop = start + self._block_rows * self._row_bytes
            self._check[number] = block_check(data[start:stop] if start >= 0 else self._read(number))

    def _place(self, row: int) -> int:
        """The byte of the file at which a row starts."""
        return PAGE + row * self._row_bytes

    def _read(self, block: int, rows: int | None = None) -> bytes:
        """The bytes of a block in the file, or of its first rows."""
        rows = self._block_rows if rows is None else rows
        return os.pread(self._file.stream.fileno(), rows * self._row_bytes, self._place(block * self._block_rows))

    def finish(self, provenance: dict) -> Path:
        try:
            complete, rest = divmod(self._used, self._block_rows)
            if rest:
                self._check[complete] = block_check(self._read(complete, rest))
            small = self._used * self._row_bytes < PAGE  # HDF5 puts these elsewhere
            rows = np.frombuffer(self._read(0, self._used), self._dtype) if small else None
            with self._file.failures_explained(), hdf5_around(self._file.stream) as file:
                self._own_features(file, rows)
                self._describe(file, self._check[: complete + bool(rest)], provenance)
            self._file.commit()
        finally:
            self.discard()
        return self.path

    def _own_features(self, file: h5py.File, rows: np.ndarray | None) -> None:
        """Create the dataset of the rows: around the bytes that are in the file already, or from `rows`."""
        shape = (self._used, *self._row_shape)
        if rows is not None:
            file.create_dataset(FEATURES, data=rows.reshape(shape))
            return
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        kind, space = h5py.h5t.py_create(self._dtype, logical=True), h5py.h5s.create_simple(shape)
        dataset = h5py.h5d.create(file.id, FEATURES.encode(), kind, space, dcpl=plist)
        if dataset.get_offset() != PAGE:
            raise RuntimeError(f"HDF5 put the features at byte {dataset.get_offset()} instead of {PAGE}.")

    def discard(self) -> None:
        self._file.discard()


class CompressedSegment(NewSegment):
    """A segment whose rows are collected in memory, and compressed by threads when it is complete."""

    def __init__(self, folder: Path, spec: FeatureSpec, like: np.ndarray, room: int, coding: Parameters | None) -> None:
        super().__init__(folder, spec, like, room, coding)
        self._features = np.empty((room, *self._row_shape), self._dtype)  # the system gives the memory as it is filled

    def _store(self, features: np.ndarray) -> None:
        self._features[self._used : self._used + len(features)] = features

    def finish(self, provenance: dict) -> Path:
        features = self._features[: self._used]
        with new_hdf5(self.path, align=False) as file:
            if features.size:
                check = compression.write_chunks(file, FEATURES, features, min(self._block_rows, len(features)))
            else:
                file.create_dataset(FEATURES, data=features)
                check = np.array([block_check(b"")] * -(-len(features) // self._block_rows), np.uint64)
            self._describe(file, check, provenance)
        return self.path
