"""The standard streams where they are closed or full: what is lost on stdout is an error, and stderr never raises."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import Any

STDIN, STDOUT, STDERR = range(3)


class _Closed(io.RawIOBase):
    """Stdout that was closed: it takes nothing."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return STDOUT

    def write(self, data: Any, /) -> int:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard output")


class Lossy(io.FileIO):
    """Stderr, which notes that it does not take what is written: there is nowhere left to say so."""

    lost = False

    def __init__(self, *, closed: bool) -> None:
        super().__init__(STDERR, "w", closefd=False)
        self._closed = closed

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        with contextlib.suppress(OSError):
            if not self._closed:
                return super().write(view) or 0
        self.lost = True
        return len(view)


def prepare() -> Lossy | None:
    """Put something in place of streams that are closed, so that no file that is opened gets their numbers.

    Returns
    -------
    Lossy or None
        What stderr writes to; None where somebody has put another in its place.
    """
    closed = [number for number in (STDIN, STDOUT, STDERR) if _is_closed(number)]
    for number in closed:
        handle = os.open(os.devnull, os.O_RDWR)
        if handle != number:
            os.dup2(handle, number)
            os.close(handle)
        os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = open(STDIN, closefd=False)  # noqa: SIM115, PTH123
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(_Closed()), "utf-8", "backslashreplace")
    if sys.stderr is not sys.__stderr__:
        return None
    raw = Lossy(closed=STDERR in closed)
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=True, write_through=True
    )
    return raw


def abandon_stdout() -> None:
    """Send what stdout still holds nowhere, where it does not take it, so that Python does not complain at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        if isinstance(getattr(getattr(sys.stdout, "buffer", None), "raw", None), _Closed):
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False
