"""The main memory that is available, errors before an allocation that would not fit into it, and what saves it."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from feature_cache.errors import BadData

LARGE = 2**28  # bytes that are taken without a look
SMALL = 2**16  # bytes that are not set aside


def require_room(size: int, what: str) -> None:
    """Raise BadData when `size` bytes of memory are not available; `what` names their use in the message."""
    if size <= LARGE:
        return
    free = host_memory()
    if free is not None and size > free:
        raise BadData(
            f"{what} take {size / 1e9:,.1f} GB of memory, and {free / 1e9:,.1f} GB are free; take fewer images, or "
            "features of a smaller layer or with `pool='avg'`."
        )


def compact(numbers: Sequence[int] | np.ndarray) -> np.ndarray:
    """Numbers that are not negative, in the smallest type that holds them.

    Examples
    --------
    >>> compact([3, 70_000])
    array([    3, 70000], dtype=uint32)
    """
    found = np.asarray(numbers, np.int64)
    return found.astype(np.min_scalar_type(int(found.max(initial=0))))


def set_aside(array: np.ndarray) -> np.ndarray:
    """The same array, read-only, in a file without a name: it takes memory again as far as it is read.

    Where no such file can be written, the array stays in memory.
    """
    if array.nbytes < SMALL:
        return array
    try:
        with tempfile.TemporaryFile() as file:
            file.write(np.ascontiguousarray(array).data)
            file.flush()
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), array.dtype).reshape(array.shape)
    except OSError:
        return array


def host_memory() -> int | None:
    """Bytes of the main memory that are free or easily freed, or None where that is not known."""
    bounds = [_free(), _container(), _process()]
    known = [bound for bound in bounds if bound is not None]
    return min(known) if known else None


def _free() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return None


def _container() -> int | None:
    try:
        most, used = (int(Path("/sys/fs/cgroup", name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # "max" where there is no limit
        return None
    return max(0, most - used)


def _process() -> int | None:
    try:
        import resource  # Unix alone has it

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):
        return None
    return None if limit == resource.RLIM_INFINITY else max(0, limit - pages * os.sysconf("SC_PAGE_SIZE"))
