"""`RangeReader`: an object as a stream of which only the parts come that are read."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from feature_cache.errors import Unreachable

BLOCK = 2**20  # bytes that come at a time, where less is read
SHARE = 64  # of an object comes at once from its end, where a plain segment has its keys


class RangeReader(io.RawIOBase):
    """A stream over an object.

    Parameters
    ----------
    read : callable
        The bytes of the object from one place to another.
    size : int
        The bytes of the object.
    stamp : int
        See `feature_cache.remote.bucket.Listed`.

    Attributes
    ----------
    failure : Exception or None
        Why bytes could not be had: a library that reads the stream may tell of something else.

    Examples
    --------
    >>> content = bytes(range(256)) * 2**15
    >>> reader = RangeReader(lambda start, end: content[start:end], len(content), 0)
    >>> _ = reader.seek(2**20 + 3)
    >>> reader.read(4)
    b'\\x03\\x04\\x05\\x06'
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int, stamp: int) -> None:
        self._read, self._size, self.stamp = read, size, stamp
        self._place = 0
        self._blocks: dict[int, bytes] = {}
        self.failure: Exception | None = None
        self._end_at = max(size - max(size // SHARE, BLOCK), 0)
        self._end = read(self._end_at, size)

    @property
    def size(self) -> int:
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence] + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        start, end = self._place, min(self._place + len(buffer), self._size)
        try:
            content = self._part(start, end) if start < end else b""
        except (OSError, Unreachable) as error:
            self.failure = error
            raise OSError(str(error)) from error
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)

    def _part(self, start: int, end: int) -> bytes:
        if start >= self._end_at:
            return self._end[start - self._end_at : end - self._end_at]
        if end - start >= BLOCK:
            return self._read(start, end)
        parts = []
        for number in range(start // BLOCK, (end - 1) // BLOCK + 1):
            if number not in self._blocks:
                self._blocks[number] = self._read(number * BLOCK, min((number + 1) * BLOCK, self._size))
            parts.append(self._blocks[number][max(start - number * BLOCK, 0) : end - number * BLOCK])
        return b"".join(parts)
