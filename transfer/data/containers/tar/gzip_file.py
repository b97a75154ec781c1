"""`GzipFile`: the content of a file that gzip has packed, read at any place without unpacking it to disk.

Content is unpacked in order, a block at a time. The latest blocks are kept, since threads read members that are near
each other, and so are copies of the state of the unpacker at some places, from which an earlier place is reached again.
"""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from typing import Any, NamedTuple

from transfer.data.containers.container import StoredFile

BLOCK = 2**20
KEPT_BLOCKS = 32
MOST_STATES = 64  # a state takes about 50 kB
MOST_RATIO, FREE_BYTES = 200, 2**30  # what unpacks to more than both is a bomb


class _State(NamedTuple):
    """The unpacker before a block.

    Attributes
    ----------
    unpacker : zlib decompression object, or None at the end
    offset : int
        The place in the packed file that is read next.
    rest : bytes
        What has been read and not been unpacked.
    """

    unpacker: Any
    offset: int
    rest: bytes


class GzipFile:
    """The content of a gzip file; several threads may read it, one at a time.

    Parameters
    ----------
    packed : StoredFile
    """

    def __init__(self, packed: StoredFile) -> None:
        self._packed = packed
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._spacing = 8  # blocks between two states
        self._next, self._state = 0, _State(zlib.decompressobj(31), 0, b"")
        self._states = {0: _State(zlib.decompressobj(31), 0, b"")}

    def __str__(self) -> str:
        return str(self._packed)

    def __getstate__(self) -> dict[str, Any]:
        """The packed file alone: another process unpacks for itself."""
        return {"packed": self._packed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["packed"])  # type: ignore[misc]

    def stamp_of(self, name: str) -> tuple[str, int] | None:
        """The stamp of a member, by the packed file."""
        return self._packed.stamp_of(name)

    def announce(self, offset: int, count: int) -> int:
        """0: the packed file is read in its order, of which it knows by itself what comes next."""
        return 0

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes of the content from `offset` on; fewer at its end.

        Raises
        ------
        ValueError
            When the file is damaged, cut off, or unpacks to far more than it holds.
        OSError
            When it cannot be read.
        """
        parts = []
        with self._lock:
            while count:
                number, start = divmod(offset, BLOCK)
                part = self._block(number)[start : start + count]
                if not part:
                    break
                parts.append(part)
                offset, count = offset + len(part), count - len(part)
        return b"".join(parts)

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        best = max(place for place in self._states if place <= number)
        if number < self._next or best > self._next:
            kept = self._states[best]
            self._next, self._state = best, kept._replace(unpacker=kept.unpacker and kept.unpacker.copy())
        content = b""
        while self._next <= number:
            content = self._unpack()
        return content

    def _unpack(self) -> bytes:
        """The next block."""
        number, state = self._next, self._state
        if number % self._spacing == 0 and number not in self._states:
            self._states[number] = state._replace(unpacker=state.unpacker and state.unpacker.copy())
            if len(self._states) > MOST_STATES:
                self._spacing *= 2
                self._states = {place: kept for place, kept in self._states.items() if place % self._spacing == 0}
        unpacker, offset, rest = state
        parts, missing = [], BLOCK
        while missing and unpacker is not None:
            if not rest:
                rest = self._packed.read(offset, 2**16)
                offset += len(rest)
                if not rest:
                    raise ValueError(f"it is cut off at byte {offset:,} of the packed file")
            try:
                part = unpacker.decompress(rest, missing)
            except zlib.error as error:
                raise ValueError(f"it is damaged near byte {offset:,} of the packed file") from error
            rest, missing = unpacker.unconsumed_tail, missing - len(part)
            parts.append(part)
            if unpacker.eof:
                rest = unpacker.unused_data or self._packed.read(offset, 2**16)
                offset += len(rest) if not unpacker.unused_data else 0
                unpacker = zlib.decompressobj(31) if rest.startswith(b"\x1f\x8b") else None  # zeros may fill it up
        unpacked = (number + 1) * BLOCK
        if unpacked > FREE_BYTES and unpacked > MOST_RATIO * max(offset, 1):
            raise ValueError("it unpacks to far more than it holds, as a bomb does")
        self._state, self._next = _State(unpacker, offset, rest), number + 1
        content = b"".join(parts)
        self._blocks[number] = content
        if len(self._blocks) > KEPT_BLOCKS:
            self._blocks.popitem(last=False)
        return content
