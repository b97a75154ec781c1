"""One segment: an immutable HDF5 file with some rows of one space (made by `feature_cache.segments.segment_writer`).

    /features   rows x feature shape: contiguous, or in chunks of a block of rows compressed with Zstandard
    /digest     rows x 16, uint8: the digest of each image's content
    /view       rows, uint32: the number of the view of that image
    /check      blocks, uint64: XXH3-64 of each block of rows as its bytes are in the file
    /coding     parameters of the codes, where features are stored as such (see `feature_cache.segments.encoding`)

with attributes `layertap_format`, `spec`, `provenance`, and a `checksum` of everything but the features.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash

from feature_cache.errors import DamagedFile, DamagedSegment, LayertapError, one_line
from feature_cache.files.hdf5 import own_dataset, own_group, require_whole, text_attribute
from feature_cache.keys import DIGEST_BYTES
from feature_cache.remote import storage
from feature_cache.segments import compression
from feature_cache.segments.encoding import Parameters, fits
from feature_cache.segments.layout import (
    CHECK,
    CODING,
    DIGEST,
    FEATURES,
    FORMAT,
    LARGEST_BLOCK,
    LARGEST_ROW,
    LARGEST_SEGMENT_ROWS,
    VIEW,
)
from feature_cache.spec import FeatureSpec


@dataclass(frozen=True)
class Segment:
    """An opened segment: what it holds and where; the rows themselves stay on disk.

    Attributes
    ----------
    digests : ndarray of shape (n, 16), uint8
    views : ndarray of shape (n,), uint32
    check : ndarray of shape (blocks,), uint64
        XXH3-64 of the bytes in the file of each block of `block_rows` rows; the last may be shorter.
    offset : int
        Where contiguous features start in the file.
    chunks : ndarray of shape (blocks, 2), int64, or None
        Where in the file each compressed block starts, and its bytes.
    stamp : (int, int)
        Size of the file and time of its last change in nanoseconds.
    """

    path: Path
    digests: np.ndarray
    views: np.ndarray
    row_shape: tuple[int, ...]
    dtype: np.dtype
    provenance: dict[str, Any]
    coding: Parameters
    check: np.ndarray
    block_rows: int
    offset: int
    chunks: np.ndarray | None
    stamp: tuple[int, int]

    def __len__(self) -> int:
        return len(self.views)

    @cached_property
    def row_bytes(self) -> int:
        """The bytes of a stored row before compression."""
        return int(np.prod(self.row_shape, dtype=np.int64)) * self.dtype.itemsize


def read(path: Path, spec: FeatureSpec) -> Segment:
    """Open the segment at `path`, which must hold rows of `spec`.

    Raises
    ------
    FileNotFoundError
        When it is gone.
    DamagedFile
        When the file is truncated, altered, foreign, of another format, or of another spec. Nothing
        outside the file itself is ever followed (external links, external storage, virtual data).
    """
    try:
        with storage.looked_into(path) as (stream, stamp), h5py.File(stream, "r") as file:
            version = int(file.attrs["layertap_format"])
            if version != FORMAT:
                name = storage.shown(path)
                raise DamagedFile(f"{name} has format {version} and this Layertap reads {FORMAT}; {_advice(version)}")
            return _read(path, stamp, file, spec)
    except (LayertapError, FileNotFoundError):
        raise
    except (
        OSError,
        KeyError,
        ValueError,
        TypeError,
        RuntimeError,
        RecursionError,
        OverflowError,
        MemoryError,
    ) as error:
        raise damaged(path, one_line(error)) from error


def _read(path: Path, stamp: tuple[int, int], file: h5py.File, spec: FeatureSpec) -> Segment:
    texts = {name: text_attribute(file, name) for name in ("spec", "provenance")}
    if texts["spec"] != spec.to_json():
        raise ValueError("its feature spec is not its folder's")
    features, digest, view, check = (own_dataset(file, name) for name in (FEATURES, DIGEST, VIEW, CHECK))
    coding = {name: own_dataset(file, f"{CODING}/{name}") for name in own_group(file, CODING)}
    if not features.shape:
        raise ValueError("features has no rows")
    block_rows = int(check.attrs["rows_per_block"])
    _require_consistent(spec, features, digest, view, check, block_rows)
    if sum(dataset.nbytes for dataset in coding.values()) > LARGEST_ROW:
        raise ValueError("its codes are too large")
    for column in (digest, view, check, *coding.values()):
        require_whole(column)
    chunks, offset = None, 0
    if features.chunks:
        chunks = compression.find_chunks(features, block_rows)
        end = int(chunks.sum(1).max(initial=0))
    else:
        require_whole(features)
        offset = (features.id.get_offset() or 0) if features.size else 0
        end = offset + features.nbytes
    if end > stamp[0]:
        raise ValueError("its features are cut short")
    columns = digest[...], view[...], check[...]
    parameters = {name: dataset[...] for name, dataset in coding.items()}
    if text_attribute(file, "checksum") != checksum(texts, features.shape, features.dtype, *columns, parameters):
        raise ValueError("its checksum does not agree")
    if not fits(spec, parameters):
        raise ValueError("it holds codes of another kind")
    return Segment(
        path=path,
        digests=columns[0],
        views=columns[1],
        row_shape=features.shape[1:],
        dtype=features.dtype,
        provenance=_provenance(texts["provenance"]),
        coding=parameters,
        check=columns[2],
        block_rows=block_rows,
        offset=offset,
        chunks=chunks,
        stamp=stamp,
    )


def _require_consistent(
    spec: FeatureSpec,
    features: h5py.Dataset,
    digest: h5py.Dataset,
    view: h5py.Dataset,
    check: h5py.Dataset,
    block_rows: int,
) -> None:
    """Raise ValueError unless the shapes and dtypes of a segment fit together, before any of it is read."""
    n, row_bytes = features.shape[0], math.prod(features.shape[1:]) * features.dtype.itemsize
    if n > LARGEST_SEGMENT_ROWS or row_bytes > LARGEST_ROW:
        raise ValueError(f"it declares {n:,} rows of {row_bytes:,} bytes")
    if digest.shape != (n, DIGEST_BYTES) or digest.dtype != np.uint8 or view.shape != (n,) or view.dtype != np.uint32:
        raise ValueError("its columns do not fit together")
    if block_rows * row_bytes > max(LARGEST_BLOCK, row_bytes):
        raise ValueError(f"it declares blocks of {block_rows:,} rows")
    if block_rows < 1 or check.shape != (-(-n // block_rows),) or check.dtype != np.uint64:
        raise ValueError("its checks do not fit its rows")
    if features.dtype != np.dtype(spec.dtype):
        raise ValueError(f"its features are {features.dtype}")


def _provenance(text: str) -> dict[str, Any]:
    """The provenance of a segment, without entries of other types than are written; it affects no row."""
    provenance = json.loads(text)
    if not isinstance(provenance, dict):
        raise ValueError("its provenance is not an object")
    return {key: value for key, value in provenance.items() if _is_as_written(key, value)}


def _is_as_written(key: str, value: Any) -> bool:
    if key in ("engine", "finished"):
        return isinstance(value, str)
    if key == "seconds":
        return _is_number(value)
    if key == "rounding":
        return isinstance(value, dict) and all(_is_number(value.get(name)) for name in ("largest", "relative_rms"))
    return key != "net" or value is None or isinstance(value, dict)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 1e300


def file_stamp(path: Path) -> tuple[int, int]:
    """The size of a file and the time of its last change, by which it differs from another of the same name."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def damaged(path: Path, reason: str) -> DamagedSegment:
    """The error for a segment that cannot be used."""
    return DamagedSegment(storage.shown(path), storage.shown(path.parent.parent), reason)


def _advice(version: int) -> str:
    if version > FORMAT:
        return "upgrade layertap, or choose another folder with `cache`."
    return "it was written before the first release: remove it, and extract again."


def checksum(
    texts: dict[str, str],
    shape: tuple[int, ...],
    dtype: np.dtype,
    digests: np.ndarray,
    views: np.ndarray,
    check: np.ndarray,
    coding: Parameters,
) -> str:
    """Hexadecimal XXH3-128 of everything in a segment except the features, which `check` covers."""
    state = xxhash.xxh3_128()
    state.update(json.dumps([texts["spec"], texts["provenance"], [int(side) for side in shape], dtype.str]).encode())
    for column in (digests, views, check, *(coding[name] for name in sorted(coding))):
        state.update(np.ascontiguousarray(column).reshape(-1).view(np.uint8).data)
    return state.hexdigest()
