"""`RemoteFile`: a file elsewhere that several threads read at any place, as `LocalFile` is on disk."""

from __future__ import annotations

import io
from typing import Any

from feature_cache.errors import BadData
from transfer.data.remote.path import RemotePath
from transfer.data.remote.pieces import PIECES, unversioned

BLOCK = 2**22  # bytes that are fetched at a time where a file is read in its order
AHEAD = 6  # blocks that are on their way while one is read


class RemoteFile:
    """A file elsewhere.

    Where places are read one after another, blocks are fetched, and the next ones ahead; a place that is far from the
    last one is fetched alone.

    Raises
    ------
    BadData
        When the server does not say how large the file is.

    Examples
    --------
    >>> path = RemotePath.of("memory://five")
    >>> path.file_system.pipe(path.path, b"01234")
    >>> RemoteFile(path).read(1, 3)
    b'123'
    """

    def __init__(self, path: RemotePath) -> None:
        self._path = path
        self._size = path.size
        if self._size < 0:
            raise BadData(
                f"cannot read {path}: the server does not say its size; fetch it to a disk, and give its path."
            )
        self._key = (str(path), path.version or unversioned(), self._size)
        self._read_up_to = self._announced_up_to = 0

    def __str__(self) -> str:
        return str(self._path)

    def __getstate__(self) -> dict[str, Any]:
        """The path alone: another process fetches for itself."""
        return {"path": self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def size(self) -> int:
        """The number of bytes."""
        return self._size

    def stamp_of(self, name: str) -> tuple[str, int] | None:
        """The name of a member with the version of the file; None where the server says no version."""
        return (f"{name}!{self._size}-{self._path.version}", 0) if self._path.version else None

    def open(self) -> io.BufferedReader:
        """The file as a stream."""
        return io.BufferedReader(_Stream(self), 2**16)

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset` on; fewer at the end of the file.

        Raises
        ------
        OSError
            When the file cannot be read.
        Unreachable
            When the server does not answer.
        """
        count = min(count, self._size - offset)
        if count <= 0:
            return b""
        in_order = _is_near(offset, self._read_up_to) or self._size <= BLOCK
        self._read_up_to = offset + count
        if self._is_started(offset, count):
            return self._piece(offset, count)
        first, last = offset // BLOCK, (offset + count - 1) // BLOCK
        if in_order:
            for number in range(first, last + 1 + AHEAD):
                self._start(*self._block(number))
        elif not all(self._is_started(*self._block(number)) for number in range(first, last + 1)):
            return self._piece(offset, count)
        parts = []
        for number in range(first, last + 1):
            start, size = self._block(number)
            parts.append(self._piece(start, size)[max(offset - start, 0) : offset + count - start])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def announce(self, offset: int, count: int) -> int:
        """Begin to fetch what will be read; the number of bytes."""
        count = min(count, self._size - offset)
        if count <= 0:
            return 0
        in_order = _is_near(offset, self._announced_up_to) or self._size <= BLOCK
        self._announced_up_to = offset + count
        if in_order:
            for number in range(offset // BLOCK, (offset + count - 1) // BLOCK + 2):
                self._start(*self._block(number))
        else:
            self._start(offset, count)
        return count

    def _block(self, number: int) -> tuple[int, int]:
        """The offset and the size of a block, which is empty after the end of the file."""
        return number * BLOCK, min(BLOCK, self._size - number * BLOCK)

    def _is_started(self, offset: int, count: int) -> bool:
        return (self._key, offset, count) in PIECES

    def _start(self, offset: int, count: int) -> None:
        if count > 0:
            PIECES.start((self._key, offset, count), count, lambda: self._path.part(offset, offset + count))

    def _piece(self, offset: int, count: int) -> bytes:
        return PIECES.read((self._key, offset, count), count, lambda: self._path.part(offset, offset + count))


class _Stream(io.RawIOBase):
    """A file elsewhere as a stream, for libraries that read one."""

    def __init__(self, file: RemoteFile) -> None:
        self._file, self._place = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._file.size()}[whence]
        if start + offset < 0:
            raise ValueError(f"{start + offset} is before the beginning of the file")
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        content = self._file.read(self._place, len(buffer))
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


def _is_near(offset: int, last: int) -> bool:
    """Whether a place is read in order after `last`, give or take what several threads read at the same time."""
    return -BLOCK <= offset - last < BLOCK
