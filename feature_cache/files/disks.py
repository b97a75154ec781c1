"""Whether a full or read-only disk is behind an error: libraries raise many types for that."""

from __future__ import annotations

import contextlib
import re
import uuid
from pathlib import Path

_REASONS = ("No space left on device", "Disk quota exceeded", "File too large", "Read-only file system")
_NUMBERS = {"28": _REASONS[0], "122": _REASONS[1], "27": _REASONS[2], "30": _REASONS[3]}  # of Linux, as HDF5 gives them


def disk_failure(error: BaseException | None, folder: Path) -> str | None:
    """Why a disk did not take what was written into `folder`, if that is what led to `error`; else None.

    Where no error says it, a megabyte is written there, and removed again.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        text = str(error)
        for reason in _REASONS:
            if reason.lower() in text.lower():
                return reason
        if (number := re.search(r"errno = (\d+)", text)) and number[1] in _NUMBERS:
            return _NUMBERS[number[1]]
        error = error.__cause__ or error.__context__
    probe = folder / f".room-{uuid.uuid4().hex}"
    try:
        probe.write_bytes(bytes(2**20))
    except OSError as failed:
        return failed.strerror
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return None
