"""Files of digests: sorted NumPy arrays of shape (n, 16), uint8, that identify images."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import numpy as np

from feature_cache.errors import DamagedFile, one_line
from feature_cache.files.checked import require_regular
from feature_cache.keys import DIGEST_BYTES

COMPARED = 2**20  # digests that are compared at a time


def digest_keys(digests: np.ndarray) -> list[bytes]:
    """Digests, an array of shape (..., 16), uint8, as bytes."""
    return np.ascontiguousarray(digests).view(f"V{DIGEST_BYTES}").ravel().tolist()


def write_digests(file: Path, digests: Set[bytes]) -> None:
    """Write a set of digests; where it is empty, no file is written."""
    if digests:
        rows = np.frombuffer(b"".join(sorted(digests)), np.uint8).reshape(-1, DIGEST_BYTES)
        np.save(file, rows, allow_pickle=False)


def read_digests(file: Path) -> frozenset[bytes]:
    """The digests that `write_digests` wrote; none where there is no such file.

    Raises
    ------
    DamagedFile
        When the file cannot be read.
    """
    try:
        require_regular(file)
        digests = np.load(file, mmap_mode="r", allow_pickle=False)  # which compares the size of the file
        if digests.dtype != np.uint8 or digests.shape[1:] != (DIGEST_BYTES,):
            raise ValueError("it holds no digests")
        _require_sorted(digests)
    except FileNotFoundError:
        return frozenset()
    except Exception as error:  # a damaged header makes NumPy raise many types
        reason = getattr(error, "strerror", None) or one_line(error, with_type=True)
        raise DamagedFile(f"{file} cannot be read ({reason}); train again.") from error
    return frozenset(digest_keys(digests))


def _require_sorted(digests: np.ndarray) -> None:
    """Raise ValueError unless the digests ascend, so that a sparse file is refused before all of it is read."""
    for start in range(0, len(digests), COMPARED):
        part = np.ascontiguousarray(digests[start : start + COMPARED + 1]).view(">u8")
        high, low = part[:, 0], part[:, 1]
        if not ((high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1]))).all():
            raise ValueError("its digests are not in order")
