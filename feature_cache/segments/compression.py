"""Compressed features: HDF5 chunks of one block of rows each, in the registered filter Zstandard.

HDF5 decompresses one chunk after another under a lock of its own. Here chunks are read as they lie in the
file and decompressed by several threads. Plain Zstandard, without shuffling of bytes or bits: zeros
of sparse maps come as whole numbers, and shuffling breaks up the runs that they form.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import ModuleType
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil

from feature_cache.errors import MissingDependency
from feature_cache.segments.layout import ZSTD_FILTER, block_check

LEVEL = 1
# Fewer blocks than this are not worth handing to threads.
THREAD_BLOCKS = 16

_own = threading.local()  # contexts of each thread: making one costs as much as a block


def zstandard() -> ModuleType:
    """The module `zstandard`.

    Raises
    ------
    MissingDependency
        When it is not installed.
    """
    try:
        import zstandard  # optional, and slow to load
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "compressed features need the package zstandard: pip install 'layertap[compression]'"
        ) from error
    return zstandard


def write_chunks(file: h5py.File, name: str, features: np.ndarray, block_rows: int) -> np.ndarray:
    """Create the compressed dataset `name`.

    Returns
    -------
    ndarray of shape (blocks,), uint64
        The check of each chunk as it is stored.
    """
    zstd = zstandard()
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((block_rows, *features.shape[1:]))
    # Optional, so that HDF5 does not ask for the filter to be installed where chunks come already compressed.
    plist.set_filter(ZSTD_FILTER, h5py.h5z.FLAG_OPTIONAL, (LEVEL,))
    space = h5py.h5s.create_simple(features.shape)
    dataset = h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(features.dtype), space, dcpl=plist)

    def compress(start: int) -> bytes:
        block = features[start : start + block_rows]
        if len(block) < block_rows:  # HDF5's last chunk is as large as the others
            block = np.concatenate([block, np.zeros((block_rows - len(block), *block.shape[1:]), block.dtype)])
        if not hasattr(_own, "compressor"):
            _own.compressor = zstd.ZstdCompressor(level=LEVEL)
        return _own.compressor.compress(block)

    starts = range(0, len(features), block_rows)
    check = np.empty(len(starts), np.uint64)
    for number, chunk in enumerate(_in_threads(compress, starts)):
        with phil:  # h5py before 3.16 takes its own lock in all calls but this (h5py pull request 2764)
            dataset.write_direct_chunk((starts[number], *(0 for _ in features.shape[1:])), chunk)
        check[number] = block_check(chunk)
    return check


def find_chunks(dataset: h5py.Dataset, block_rows: int) -> np.ndarray:
    """Where the chunks of a compressed dataset lie: an array of shape (blocks, 2) of offsets and sizes in bytes.

    Raises
    ------
    ValueError
        When they are not as `write_chunks` makes them.
    """
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]
    if dataset.chunks != (block_rows, *dataset.shape[1:]) or filters != [ZSTD_FILTER]:
        raise ValueError("its features are in chunks or filters of another kind")
    found = np.zeros((-(-dataset.shape[0] // block_rows), 2), np.int64)

    def note(info: Any) -> None:
        if not info.filter_mask:
            found[info.chunk_offset[0] // block_rows] = info.byte_offset, info.size

    dataset.id.chunk_iter(note)
    if not found[:, 1].all():
        raise ValueError("some of its chunks are missing")
    return found


def decompress(chunk: bytes, size: int) -> bytes:
    """The `size` bytes that `chunk` holds.

    Raises
    ------
    ValueError
        When it does not.
    """
    zstd = zstandard()
    if not hasattr(_own, "decompressor"):
        _own.decompressor = zstd.ZstdDecompressor()
    try:
        # Memory is allocated for the size that a chunk declares, so that size is compared with its block's first.
        if zstd.frame_content_size(chunk) == size:
            raw: bytes = _own.decompressor.decompress(chunk, max_output_size=size)
            if len(raw) == size:
                return raw
    except (zstd.ZstdError, MemoryError) as error:
        raise ValueError(str(error)) from error
    raise ValueError("a chunk has another size than its block")


def for_all(work: Callable[[int], None], count: int) -> None:
    """Call ``work(number)`` for all numbers below `count`, in threads where that is faster."""
    if count < THREAD_BLOCKS:
        for number in range(count):
            work(number)
        return
    share = -(-count // _threads())

    def part(start: int) -> None:
        for number in range(start, min(start + share, count)):
            work(number)

    list(_pool().map(part, range(0, count, share)))


def _in_threads(work: Callable[[int], bytes], items: range) -> Iterator[bytes]:
    """The results of `work` in order; only some of them are held at a time."""
    at_once = 64 * _threads()
    for start in range(0, len(items), at_once):
        yield from _pool().map(work, items[start : start + at_once])


def _threads() -> int:
    return min(os.cpu_count() or 1, 16)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_threads(), thread_name_prefix="layertap-zstd")


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
