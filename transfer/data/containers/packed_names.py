"""`PackedNames`: names that are compressed in memory: a million strings would take 70 MB, these take 4."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np

BLOCK = 64  # names that are compressed together, and unpacked for one of them: 20 microseconds
SELECTED = 2**16  # names that are selected at a time


class PackedNames(Sequence[str]):
    """Names that are unpacked when they are asked for, a block at a time. It equals any sequence of the same names.

    Parameters
    ----------
    names : iterable of str

    Examples
    --------
    >>> names = PackedNames(["cat/1.png", "cat/2.png", "été.png"])
    >>> names[2], names[:2], names == ("cat/1.png", "cat/2.png", "été.png")
    ('été.png', PackedNames(['cat/1.png', 'cat/2.png']), True)
    >>> names.append("dog/1.png")
    >>> names.select([3, 0])
    PackedNames(['dog/1.png', 'cat/1.png'])
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._blocks: list[bytes] = []  # of `BLOCK` names each, packed
        self._rest: list[str] = []  # the names after those
        self._last: tuple[int, list[str]] = (-1, [])  # the block that was read last, and its names
        self.extend(names)

    def append(self, name: str) -> None:
        """Add a name at the end."""
        self._rest.append(name)
        if len(self._rest) == BLOCK:
            text = json.dumps(self._rest, ensure_ascii=False).encode("utf-8", "surrogatepass")
            self._blocks.append(zlib.compress(text, 1))
            self._rest = []

    def extend(self, names: Iterable[str]) -> None:
        """Add names at the end."""
        for name in names:
            self.append(name)

    def select(self, positions: Sequence[int] | np.ndarray) -> PackedNames:
        """The names at these positions, in any order."""
        chosen = PackedNames()
        for start in range(0, len(positions), SELECTED):  # so that each block is unpacked once for many names
            some = np.asarray(positions[start : start + SELECTED], np.int64)
            names = np.empty(len(some), object)
            for place in np.argsort(some, kind="stable").tolist():
                names[place] = self._at(int(some[place]))
            chosen.extend(names.tolist())
        return chosen

    def __len__(self) -> int:
        return len(self._blocks) * BLOCK + len(self._rest)

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> PackedNames: ...
    def __getitem__(self, position: int | slice) -> str | PackedNames:
        if isinstance(position, slice):
            return self.select(range(len(self))[position])
        return self._at(range(len(self))[position])  # a range knows negative positions, and which there are none of

    def __iter__(self) -> Iterator[str]:
        return map(self._at, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(own == name for own, name in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment] # like a list

    def __repr__(self) -> str:
        if len(self) <= 10:
            return f"PackedNames({list(self)!r})"
        return f"<PackedNames: {len(self):,} names from {self[0]!r} to {self[-1]!r}>"

    def _at(self, position: int) -> str:
        number, place = divmod(position, BLOCK)
        if number == len(self._blocks):
            return self._rest[place]
        last, names = self._last  # together, since other threads read, too
        if last != number:
            names = json.loads(zlib.decompress(self._blocks[number]).decode("utf-8", "surrogatepass"))
            self._last = number, names
        return names[place]


def select_names(names: Sequence[str], positions: np.ndarray) -> Sequence[str]:
    """The names at these positions: packed where `names` are."""
    if isinstance(names, PackedNames):
        return names.select(positions)
    return tuple(names[position] for position in positions)
