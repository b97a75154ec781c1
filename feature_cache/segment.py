"""One segment: an immutable HDF5 file with some rows of one space.

    /features   rows x feature shape, contiguous, so that it can be memory-mapped
    /digest     rows x 16, uint8: the digest of each image's content
    /view       rows, uint32: the number of the view of that image

with attributes `layertap_format`, `spec`, `checksum` and `provenance`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from feature_cache.errors import DamagedFile, StorageFailure
from feature_cache.keys import DIGEST_BYTES
from feature_cache.spec import FeatureSpec

FORMAT = 1
PATTERN = "segment-*.h5"
PAGE = 4096
ABANDONED_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Segment:
    """An opened segment: what it holds and where; the rows themselves stay on disk until asked for.

    Attributes
    ----------
    digests : ndarray of shape (n, 16), uint8
    views : ndarray of shape (n,), uint32
    """

    path: Path
    digests: np.ndarray
    views: np.ndarray
    row_shape: tuple[int, ...]
    dtype: np.dtype
    provenance: dict[str, Any]
    offset: int

    def __len__(self) -> int:
        return len(self.views)

    @property
    def rows(self) -> np.ndarray:
        """The features, memory-mapped read-only: shape (n, *row_shape).

        Mapped anew each time: a map keeps a file open, and a space may have more segments than a
        process may have open files.
        """
        return np.memmap(self.path, dtype=self.dtype, mode="r", offset=self.offset, shape=(len(self), *self.row_shape))


def write(
    folder: Path, spec: FeatureSpec, features: np.ndarray, digests: np.ndarray, views: np.ndarray, provenance: dict
) -> Path:
    """Write one segment aside, sync it and rename it: it appears whole or not at all.

    Returns
    -------
    Path
        The new segment.

    Raises
    ------
    StorageFailure
        When the folder or the disk does not take it; nothing is left behind then.
    """
    name = f"segment-{uuid.uuid4().hex}.h5"
    aside = folder / f".{name}.tmp"
    try:
        # Data starts on a page of its own, so that rows are aligned in the memory map.
        with _Kept(aside, "w+") as raw:
            with h5py.File(raw, "w", alignment_threshold=PAGE, alignment_interval=PAGE) as file:
                file.create_dataset("features", data=features)
                file.create_dataset("digest", data=digests)
                file.create_dataset("view", data=views)
                file.attrs["layertap_format"] = FORMAT
                file.attrs["spec"] = spec.to_json()
                file.attrs["checksum"] = checksum(features, digests, views)
                file.attrs["provenance"] = json.dumps(provenance, sort_keys=True)
            if raw.failure:
                raise raw.failure
        _sync(aside)
        aside.rename(folder / name)
        _sync(folder)
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise StorageFailure(
            f"cannot write features to {folder}: {reason}. What was written before is intact; "
            "make room or choose another folder with --cache, then run the same command again."
        ) from error
    finally:
        aside.unlink(missing_ok=True)  # gone already where all went well
    return folder / name


def read(path: Path, spec: FeatureSpec) -> Segment:
    """Open the segment at `path`, which must hold rows of `spec`.

    Raises
    ------
    DamagedFile
        When the file is truncated, foreign, of a newer format, or of another spec. Nothing outside
        the file itself is ever followed (external links, external storage, virtual data).
    """
    try:
        with h5py.File(path, "r") as file:
            version = int(file.attrs["layertap_format"])
            if version > FORMAT:
                raise DamagedFile(
                    f"{path} has format {version} and this Layertap reads up to {FORMAT}; upgrade layertap, "
                    "or choose another folder with --cache."
                )
            if file.attrs["spec"] != spec.to_json():
                raise ValueError("its feature spec is not its folder's")
            features, digest, view = (_plain_dataset(file, name) for name in ("features", "digest", "view"))
            if not features.shape:
                raise ValueError("features has no rows")
            n = features.shape[0]
            if digest.shape != (n, DIGEST_BYTES) or digest.dtype != np.uint8 or view.shape != (n,):
                raise ValueError("its columns do not fit together")
            if features.dtype != np.dtype(spec.dtype):
                raise ValueError(f"its features are {features.dtype}")
            for column in (features, digest, view):
                if column.size and column.id.get_storage_size() < column.nbytes:
                    raise ValueError("its features are cut short")
            offset = features.id.get_offset() if features.size else 0
            if offset is None or offset + features.nbytes > path.stat().st_size:
                raise ValueError("its features are cut short")
            return Segment(
                path=path,
                digests=digest[...],
                views=view[...].astype(np.uint32),
                row_shape=features.shape[1:],
                dtype=features.dtype,
                provenance=dict(json.loads(file.attrs["provenance"])),
                offset=offset,
            )
    except DamagedFile:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).strip("'\"").split()) or type(error).__name__
        raise DamagedFile(
            f"{path} is damaged or not a segment of this cache ({reason}). "
            "Move it away; the next extract computes its rows again."
        ) from error


def remove_abandoned(folder: Path) -> None:
    """Remove what writers that were killed left behind: temporary files older than a day."""
    for aside in folder.glob(f".{PATTERN}.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - aside.stat().st_mtime > ABANDONED_SECONDS:
                aside.unlink()


def checksum(features: np.ndarray, digests: np.ndarray, views: np.ndarray) -> str:
    """Hexadecimal BLAKE2b of the columns of a segment."""
    state = hashlib.blake2b(digest_size=16)
    for column in (features, digests, views):
        state.update(np.ascontiguousarray(column).reshape(-1).view(np.uint8).data)
    return state.hexdigest()


def _plain_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is not in the file itself")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external or dataset.chunks:
        raise ValueError(f"{name} is not a contiguous dataset")
    return dataset


class _Kept(io.FileIO):
    """A file that keeps its first failed write to itself, to be raised when HDF5 has let go of it.

    HDF5 cannot close a file after a failed write, and takes the process down with it at exit.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        start = self.tell()
        done = 0
        while done < len(view) and self.failure is None:
            try:
                done += os.pwrite(self.fileno(), view[done:], start + done)
            except OSError as error:
                self.failure = error
        self.seek(start + len(view))
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        if self.failure is None:
            try:
                super().truncate(size)
            except OSError as error:
                self.failure = error
        return size


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
