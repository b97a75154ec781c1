"""Arrays in files: ``.npz``, ``.npy`` and IDX. Declared sizes are checked before anything is read into memory.

No pickled content is read. The objects here can be sent to other processes, since they only say where an array is.
"""

from __future__ import annotations

import gzip
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from feature_cache.errors import BadData, first_line
from transfer.hardware import host_memory

MOST_SHRUNK = 100  # times the size of a large compressed file that its content may have
_LARGE = 2**28  # bytes
_DEFLATE = 1032  # the most bytes that a byte of a zip or gzip file can unpack to
_CHUNK = 2**24  # bytes unpacked at a time
_HEADINGS = ("label", "labels", "class", "target", "y")


class StoredArray(Protocol):
    """An array in a file, of which only the shape and the dtype have been read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def read(self) -> np.ndarray:
        """The array; raises BadData where it is damaged, pickled, or does not fit into memory."""


@dataclass(frozen=True)
class NpzMember:
    """An array of an ``.npz`` file."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self) -> np.ndarray:
        if self.dtype.hasobject:
            raise BadData(
                f"{self.name.removesuffix('.npy')} of {self.file} holds pickled Python objects, which are never read; "
                "save texts with .astype(str), and images as one array of numbers."
            )
        _require_room(self.file, math.prod(self.shape) * self.dtype.itemsize)
        with _reading(self.file, "an .npz file without pickled objects"):
            with zipfile.ZipFile(self.file) as archive, archive.open(self.name) as stream:
                values: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
                if stream.read(1):  # at the end the checksum is compared
                    raise ValueError("an array is longer than it says")
            return values


@dataclass(frozen=True)
class NpyFile:
    """The array of an ``.npy`` file, which is mapped into memory: its parts are read when they are used."""

    file: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    fortran: bool

    def read(self) -> np.ndarray:
        if not math.prod(self.shape):
            return np.empty(self.shape, self.dtype)
        order = "F" if self.fortran else "C"
        with _reading(self.file, "an .npy file without pickled objects"):
            return np.memmap(self.file, self.dtype, "r", self.offset, self.shape, order)  # type: ignore[call-overload]


@dataclass(frozen=True)
class IdxFile:
    """An IDX file: a magic number, the lengths of the axes as big-endian uint32, and uint8 values."""

    file: Path
    shape: tuple[int, ...]
    dtype: np.dtype = np.dtype(np.uint8)

    def read(self) -> np.ndarray:
        size = math.prod(self.shape)
        packed = self.file.stat().st_size
        if size > packed * (_DEFLATE if _is_gzip(self.file) else 1):
            raise BadData(f"cannot read {self.file} as an IDX file: its length is not what its first bytes say.")
        _require_room(self.file, size)
        values = np.empty(size, np.uint8)
        with _reading(self.file, "an IDX file"), _open(self.file) as stream:
            stream.read(4 + 4 * len(self.shape))
            filled = 0
            while chunk := stream.read(min(_CHUNK, size - filled)):
                values[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
                filled += len(chunk)
            if filled != size or stream.read(1):
                raise ValueError("its length is not what its first bytes say")
        return values.reshape(self.shape)


@dataclass(frozen=True)
class TextFile:
    """A text file with one label in each line, perhaps below a heading."""

    file: Path
    shape: tuple[int, ...]
    dtype: np.dtype = np.dtype(str)

    def read(self) -> np.ndarray:
        return np.array(_lines(self.file))


def npz(file: Path) -> dict[str, StoredArray]:
    """The arrays of an ``.npz`` file by name.

    Raises
    ------
    BadData
        When the file is damaged, or an array is not as long as it declares.
    """
    arrays: dict[str, StoredArray] = {}
    with _reading(file, "an .npz file without pickled objects"):
        if not zipfile.is_zipfile(file):  # NumPy would take it for a pickle
            raise ValueError("it is no whole zip archive")
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if name == info.filename:
                    continue
                with archive.open(info) as stream:
                    shape, _, dtype = _header(stream)
                    start = stream.tell()
                if not dtype.hasobject and start + math.prod(shape) * dtype.itemsize != info.file_size:
                    raise ValueError(f"{name} is not as long as its shape {shape} says")
                arrays[name] = NpzMember(file, info.filename, shape, dtype)
    return arrays


def npy(file: Path) -> NpyFile:
    """The array of an ``.npy`` file.

    Raises
    ------
    BadData
        When the file is damaged, is not as long as it declares, or holds Python objects.
    """
    with _reading(file, "an .npy file without pickled objects"), file.open("rb") as stream:
        shape, fortran, dtype = _header(stream)
        start = stream.tell()
        if dtype.hasobject:
            raise ValueError(
                "it holds pickled Python objects, which are never read; save one array of numbers or texts"
            )
        if start + math.prod(shape) * dtype.itemsize != file.stat().st_size:
            raise ValueError(f"it is not as long as its shape {shape} says")
    return NpyFile(file, shape, dtype, start, fortran)


def idx(file: Path, ndim: int) -> IdxFile:
    """The array of an IDX file of `ndim` axes.

    Raises
    ------
    BadData
        When the file does not begin as an IDX file does.
    """
    with _reading(file, "an IDX file"), _open(file) as stream:
        head = stream.read(4 + 4 * ndim)
        if head[:4] != bytes((0, 0, 8, ndim)):
            raise ValueError(f"it does not begin as an IDX file of {ndim} axes of unsigned bytes does")
        shape = tuple(np.frombuffer(head[4 : len(head) // 4 * 4], ">u4").tolist())
        if len(shape) != ndim:
            raise ValueError("its length is not what its first bytes say")
    return IdxFile(file, shape)


def text(file: Path) -> TextFile:
    """The lines of a text file.

    Raises
    ------
    BadData
        When the file is no text in UTF-8, or has several columns.
    """
    return TextFile(file, (len(_lines(file)),))


def _lines(file: Path) -> list[str]:
    with _reading(file, "a file of one label a line"):
        if file.stat().st_size > _LARGE:
            raise ValueError("it is too large for that")
        lines = file.read_text("utf-8-sig").splitlines()
        while lines and not lines[-1].strip():
            lines.pop()
        if file.suffix.lower() == ".csv" and any("," in line or ";" in line or "\t" in line for line in lines):
            raise ValueError("it has several columns")
        cells = [line.strip().strip('"') for line in lines]
        return cells[1:] if cells and cells[0].lower() in _HEADINGS else cells


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(stream)
    except ValueError as error:
        raise ValueError("it does not begin as one does") from error
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"it is of version {version[0]}.{version[1]} of the format, for columns with names")
    shape, fortran, dtype = readers[version](stream)
    return shape, fortran, dtype


def _require_room(file: Path, size: int) -> None:
    """Raise BadData where an array needs more memory than is free, or a small file would unpack to a huge one."""
    packed = file.stat().st_size
    if size > _LARGE and size > MOST_SHRUNK * packed:
        raise BadData(
            f"{file} declares {_gigabytes(size)} in {packed:,} bytes, more than {MOST_SHRUNK} times its own size, "
            "which is refused; if it is right, save the arrays as .npy files, which are not held in memory."
        )
    free = host_memory()
    if free is not None and size > free:
        raise BadData(
            f"{file} needs {_gigabytes(size)} of memory, and {_gigabytes(free)} are free; save the arrays as .npy "
            "files, which are not held in memory."
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"


def _is_gzip(file: Path) -> bool:
    return file.suffix.lower() == ".gz"


def _open(file: Path) -> IO[bytes]:
    return gzip.open(file) if _is_gzip(file) else file.open("rb")  # type: ignore[return-value]


@contextmanager
def _reading(file: Path, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a damaged file may make a reader raise any error
        reason = first_line(error).rstrip(".")
        raise BadData(f"cannot read {file} as {what}: {reason}.") from error
