"""Tar archives, plain or packed by gzip."""

from __future__ import annotations

import copy
from typing import Self

import numpy as np

from feature_cache.errors import BadData
from feature_cache.process.memory import compact
from transfer.data.containers.archive_names import require_inside, require_once
from transfer.data.containers.container import StoredFile
from transfer.data.containers.tar.gzip_file import GzipFile
from transfer.data.containers.tar.index import TarIndex, read_index

AHEAD = 2**18  # bytes that are read at a time while headers are looked for


class TarArchive:
    """The files of a tar archive. The headers are read once, in order; then files are read at random.

    Attributes
    ----------
    names : PackedNames
        The paths of the files, with slashes.
    notes : tuple of str
        What was not read, a sentence each.

    Raises
    ------
    BadData
        When the file is no tar archive, or holds two files of one name or a path that leads out of it.
    """

    def __init__(self, file: StoredFile) -> None:
        self._file = GzipFile(file) if file.read(0, 2) == b"\x1f\x8b" else file
        index = _index(self._file)
        if index.problem and not index.names:
            raise BadData(f"{file} cannot be read: {index.problem}; fetch it again.")
        require_inside(str(file), index.names)
        require_once(str(file), index.names)
        self.names = index.names
        self._offsets, self._sizes = compact(index.offsets), compact(index.sizes)
        self.notes = tuple(_notes(str(file), index))

    def __str__(self) -> str:
        return str(self._file)

    def name(self, position: int) -> str:
        """The path of the archive and of the file inside."""
        return f"{self._file}/{self.names[position]}"

    def size(self, position: int) -> int:
        """The number of bytes of a file."""
        return int(self._sizes[position])

    def only(self, positions: np.ndarray) -> Self:
        """The archive with some of its files alone: it takes the memory of these."""
        part = copy.copy(self)
        part.names = self.names.select(positions)
        part._offsets, part._sizes = compact(self._offsets[positions]), compact(self._sizes[positions])
        return part

    def stamp(self, position: int) -> tuple[str, int] | None:
        """By what an unchanged member is recognised; see `transfer.data.containers.container.Container`."""
        return self._file.stamp_of(self.name(position))

    def read(self, position: int) -> bytes:
        """The bytes of a file; see `transfer.data.containers.container.Container`."""
        offset, size = int(self._offsets[position]), int(self._sizes[position])
        content = self._file.read(offset, size)
        if len(content) < size:
            raise ValueError("the archive is cut off there")
        return content

    def announce(self, position: int) -> int:
        """Say that a file will be read soon; the number of bytes that are fetched for it."""
        return self._file.announce(int(self._offsets[position]), int(self._sizes[position]))


def _index(file: StoredFile | GzipFile) -> TarIndex:
    if isinstance(file, GzipFile):
        return read_index(file.read, None)
    return read_index(_Ahead(file).read, file.size())


class _Ahead:
    """Reads a file in larger pieces, since the headers of small files are near each other."""

    def __init__(self, file: StoredFile) -> None:
        self._file, self._start, self._piece = file, 0, b""

    def read(self, offset: int, count: int) -> bytes:
        start = offset - self._start
        if start < 0 or start + count > len(self._piece):
            self._start, self._piece = offset, self._file.read(offset, max(count, AHEAD))
            start = 0
        return self._piece[start : start + count]


def _notes(archive: str, index: TarIndex) -> list[str]:
    notes = []
    if index.problem:
        notes.append(
            f"{archive} is read in part: {index.problem}; the {len(index.names):,} files before that are used."
        )
    if index.links:
        notes.append(f"passed over in {archive}: {index.links:,} links.")
    return notes
