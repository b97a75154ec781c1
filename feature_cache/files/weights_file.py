"""Weights in HDF5 files, alone or inside ``.keras`` archives: checked before Keras reads them.

Keras refuses what lies in other files in some places, and believes what a file says of its own shapes.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import h5py

from feature_cache.errors import UnsafeFile
from feature_cache.files import checked
from feature_cache.files.checked import open_regular
from feature_cache.files.hdf5 import has_own_data, is_in_file

MOST_OBJECTS = 200_000
# Bytes that the content of a net's file may take in any case, and for each byte of the file: more is a trap.
ROOM, EXPANSION = 2**26, 100
WEIGHTS = "model.weights.h5"  # in a ``.keras`` file
_LOCAL_HEADER = 30  # bytes before the name of a part of an archive


def most_bytes(size: int) -> int:
    """How many bytes the content of a net's file of `size` bytes may take in memory."""
    return ROOM + EXPANSION * size


def require_bounded(archive: zipfile.ZipFile, file: Path, size: int) -> None:
    """Raise UnsafeFile where an archive of `size` bytes, which is `file` or a part of it, holds more than nets do."""
    try:
        checked.require_bounded(archive, most_bytes(size))
    except ValueError as error:
        raise UnsafeFile(f"{file} would unpack to far more than the {size:,} bytes that it has.") from error


def check_file(file: Path) -> None:
    """Check all weights in a file: HDF5, or an archive with HDF5 files in it; others are passed over.

    Raises
    ------
    UnsafeFile
        When they refer to other files, or declare far more numbers than they hold.
    OSError, ValueError, RuntimeError, KeyError, TypeError, zipfile.BadZipFile
        When the file is damaged, or no regular file.
    """
    with open_regular(file) as stream:
        with contextlib.suppress(OSError), h5py.File(stream, "r") as store:  # wherever in the file it begins
            check(store, file)
        if zipfile.is_zipfile(stream):
            with zipfile.ZipFile(stream) as archive:
                _check_archive(archive, stream, file, os.fstat(stream.fileno()).st_size)


@contextlib.contextmanager
def open_weights(file: Path) -> Iterator[h5py.File]:
    """The weights of a net in an HDF5 file, or in the archive of a ``.keras`` file, once they are checked.

    Raises
    ------
    UnsafeFile, OSError, ValueError, RuntimeError, KeyError, TypeError, zipfile.BadZipFile
        As `check_file`; KeyError when the archive holds no weights.
    """
    with open_regular(file) as stream, contextlib.ExitStack() as opened:
        inner: IO[bytes] = stream
        size = os.fstat(stream.fileno()).st_size
        if zipfile.is_zipfile(stream):
            archive = opened.enter_context(zipfile.ZipFile(stream))
            require_bounded(archive, file, size)
            part = archive.getinfo(WEIGHTS)
            inner, size = _part(archive, part, stream), part.file_size
        store = opened.enter_context(h5py.File(inner, "r"))
        check(store, file, size)
        yield store


def _check_archive(archive: zipfile.ZipFile, stream: IO[bytes], file: Path, size: int) -> None:
    require_bounded(archive, file, size)
    for part in archive.infolist():
        if part.filename.endswith(".h5"):
            with _part(archive, part, stream) as inner, h5py.File(inner, "r") as store:
                check(store, file, part.file_size)
        elif part.filename.endswith(".npz"):  # of early versions of Keras 3
            with _part(archive, part, stream) as inner, zipfile.ZipFile(inner) as arrays:
                _check_archive(arrays, inner, file, part.file_size)


def check(store: h5py.File, file: Path, size: int | None = None) -> None:
    """Raise UnsafeFile when a file refers to other files, or declares far more numbers than it holds.

    Parameters
    ----------
    size : int, optional
        Bytes of the HDF5 file, where it is a part of `file`.
    """
    size = file.stat().st_size if size is None else size
    waiting: list[h5py.Group] = [store]
    seen: set[Any] = set()
    declared, most = 0, most_bytes(size)
    while waiting:
        group = waiting.pop()
        for name in group:
            if not is_in_file(group, name):
                raise UnsafeFile(f"{file} holds a link to another place ({name}); save the net again with Keras.")
            part = group[name]
            info = h5py.h5o.get_info(part.id)
            if (info.fileno, info.addr) in seen:
                continue
            seen.add((info.fileno, info.addr))
            if len(seen) > MOST_OBJECTS:
                raise UnsafeFile(f"{file} holds more than {MOST_OBJECTS:,} objects, which no net does.")
            if isinstance(part, h5py.Group):
                waiting.append(part)
            elif isinstance(part, h5py.Dataset):
                if not has_own_data(part):
                    raise UnsafeFile(f"{file} takes numbers from another file ({name}); save the net again with Keras.")
                declared += math.prod(part.shape or ()) * part.dtype.itemsize
                if declared > most:
                    raise UnsafeFile(f"{file} declares far more numbers than its {size:,} bytes hold ({name}).")


class _Window(io.RawIOBase):
    """A piece of a file, as a file: the parts of an archive that are not compressed can be read in any order."""

    def __init__(self, stream: IO[bytes], start: int, size: int) -> None:
        self._stream, self._start, self._size, self._at = stream, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._at))
        self._stream.seek(self._start + self._at)
        content = self._stream.read(count)
        view[: len(content)] = content
        self._at += len(content)
        return len(content)


def _part(archive: zipfile.ZipFile, part: zipfile.ZipInfo, stream: IO[bytes]) -> IO[bytes]:
    """A part of an archive: read where it lies, as Keras writes it, or unpacked where it is compressed."""
    with archive.open(part) as whole:  # which compares the headers
        if part.compress_type != zipfile.ZIP_STORED:
            return io.BytesIO(whole.read())
    stream.seek(part.header_offset)
    header = stream.read(_LOCAL_HEADER)
    lengths = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    window = _Window(stream, part.header_offset + _LOCAL_HEADER + sum(lengths), part.file_size)
    return io.BufferedReader(window)
