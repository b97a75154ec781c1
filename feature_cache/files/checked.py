"""Reading files of unknown origin: only regular files, of a bounded size, and without waiting for a pipe."""

from __future__ import annotations

import io
import json
import os
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import one_line

# Bytes of a file of text that is read whole, far more than any that Layertap writes.
LARGEST_TEXT = 64 * 2**20
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class UnusableFile(OSError):
    """A path that leads to something other than a regular file, or to a file that is too large."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.strerror = message


def real_path(path: Path) -> Path:
    """`path` with its links followed; links in a circle are left as they are (`Path.resolve` raises for them)."""
    return Path(os.path.realpath(path))


def open_regular(path: Path, limit: int | None = None) -> io.BufferedReader:
    """Open a regular file to read its bytes.

    Parameters
    ----------
    limit : int, optional
        The most bytes that it may have.

    Raises
    ------
    UnusableFile
        When it is a pipe, a device, a socket or a folder, or larger than `limit`. A pipe is not waited for.
    OSError
        When it cannot be opened.
    """
    _check(Path(path).stat(), limit)  # first: opening a device may set something going
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _check(os.fstat(handle), limit)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def require_regular(path: Path, limit: int | None = None) -> None:
    """Raise as `open_regular` does, for a file that another library opens by its path."""
    open_regular(path, limit).close()


def read_bytes(path: Path, limit: int = LARGEST_TEXT) -> bytes:
    """The bytes of a regular file of at most `limit` bytes.

    Raises
    ------
    OSError
        As for `open_regular`.
    """
    with open_regular(path, limit) as stream:
        size = os.fstat(stream.fileno()).st_size
        content = stream.read(min(size, limit) + 1)  # Python allocates the whole size that is requested at once
    if len(content) > size:  # it is growing
        raise UnusableFile("it grew while it was read")
    return content


def read_text(path: Path, limit: int = LARGEST_TEXT) -> str:
    """The text of a regular file in UTF-8.

    Raises
    ------
    OSError
        As for `open_regular`.
    UnicodeError
        When it is not UTF-8.
    """
    return read_bytes(path, limit).decode("utf-8")


def read_json(path: Path, limit: int = LARGEST_TEXT) -> Any:
    """The content of a regular file of JSON.

    Raises
    ------
    OSError
        As for `open_regular`.
    ValueError
        When it is not JSON, or nested too deep.
    """
    text = read_text(path, limit)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def require_bounded(archive: zipfile.ZipFile, most: int) -> None:
    """Raise ValueError where the parts of an archive would take more than `most` bytes, once they are unpacked."""
    if sum(entry.file_size for entry in archive.infolist()) > most:
        raise ValueError("it unpacks to far more than it holds")


def read_arrays(path: Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Arrays of a file that `numpy.savez` wrote: regular, not compressed, without pickled objects.

    Parameters
    ----------
    names : iterable of str, optional
        The names of the arrays to read; by default all.

    Raises
    ------
    OSError
        As for `open_regular`.
    ValueError
        When the file is of another kind, or lacks an array. No more is read than the file holds.
    """
    with open_regular(path) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise ValueError("it is compressed")
                require_bounded(archive, os.fstat(stream.fileno()).st_size)
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in (arrays.files if names is None else names)}
        except (OSError, ValueError):
            raise
        except Exception as error:  # a damaged archive makes NumPy raise many types
            raise ValueError(one_line(error, with_type=True)) from error


def _check(status: os.stat_result, limit: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for test, name in _KINDS if test(status.st_mode)), "no file")
        raise UnusableFile(f"it is {kind}, not a regular file")
    if limit is not None and status.st_size > limit:
        raise UnusableFile(f"it has {status.st_size:,} bytes, more than the {limit:,} that it may have")
