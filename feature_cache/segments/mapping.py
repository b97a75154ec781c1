"""Memory maps of segments, and one window over many of them."""

from __future__ import annotations

import math
import mmap
import weakref
from pathlib import Path

import numpy as np

from feature_cache.remote import storage

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# A map keeps a file open. This many may be, of all that the process can open.
SHARE_OF_FILES = 2
# Where the address space is limited, most of what is left is needed for other things.
SHARE_OF_MEMORY = 4

_maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def map_file(path: Path, size: int) -> np.ndarray | None:
    """The first `size` bytes of a file as a read-only array of uint8, or None when the system has no room for it."""
    live = list(_maps)
    mapped = sum(map(len, live))
    files, left = _limits()
    if len(live) >= files or mapped + size > (mapped + left) / SHARE_OF_MEMORY:
        return None
    with storage.opened(path) as file:
        try:
            contents = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        except (OSError, ValueError, MemoryError):
            return None
    _maps.add(contents)
    return np.frombuffer(contents, np.uint8)


class Window:
    """Rows of several memory maps as one strided array, so that a single fancy index gathers from all of them.

    The array begins at the lowest address of any row and steps by a divisor of all distances between rows,
    so each row is an item of it, and most of its items are never looked at. Gathering segment by
    segment copies every row twice, or costs a call per segment: measured on 60,000 x 4,096 float32, 0.75 of
    the rate of a single map in 4 segments, and 0.4 in 100; this way 1.0 and 1.0.

    Parameters
    ----------
    rows : list of ndarray of shape (n, row_bytes), uint8
        Views of memory maps, C-contiguous, n at least 1.
    """

    def __init__(self, rows: list[np.ndarray]) -> None:
        self.rows = rows
        self._row_bytes = rows[0].shape[1]
        self.addresses = np.array([part.ctypes.data for part in rows], np.int64)
        self._base = int(self.addresses.min())
        end = max(part.ctypes.data + part.nbytes for part in rows)
        self._step = math.gcd(self._row_bytes, *(int(place) - self._base for place in self.addresses))
        count = (end - self._base - self._row_bytes) // self._step + 1
        self._items = np.asarray(_Strided(self._base, count, self._step, self._row_bytes))

    @staticmethod
    def spans(rows: list[np.ndarray]) -> bool:
        """Whether NumPy can describe a window over these rows: it takes no array of 2**63 bytes or more."""
        places = [part.ctypes.data for part in rows]
        step = math.gcd(rows[0].shape[1], *(place - places[0] for place in places))
        return (max(places) - min(places) + max(part.nbytes for part in rows)) // step * rows[0].shape[1] < 2**62

    def places(self, parts: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """The places of rows ``numbers[i]`` of maps ``parts[i]``, for `gather`: shape (n,), int64."""
        return (self.addresses[parts] + numbers * self._row_bytes - self._base) // self._step

    def gather(self, places: np.ndarray) -> np.ndarray:
        """Copies of the rows at these places: shape (n, row_bytes), uint8."""
        return self._items[places].view(np.uint8).reshape(len(places), self._row_bytes)


class _Strided:
    """An array interface that describes overlapping items in memory to NumPy."""

    def __init__(self, base: int, count: int, step: int, item_bytes: int) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (base, True),
            "shape": (count,),
            "strides": (step,),
            "typestr": f"|V{item_bytes}",
        }


def _limits() -> tuple[float, float]:
    """The number of maps that may be open, and the bytes of address space that are left."""
    if resource is None:
        return 256, math.inf
    files, memory = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS))
    most = math.inf if files == resource.RLIM_INFINITY else files // SHARE_OF_FILES
    if memory == resource.RLIM_INFINITY:
        return most, math.inf
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):  # not on this system
        used = memory // 2
    return most, max(0, memory - used)
