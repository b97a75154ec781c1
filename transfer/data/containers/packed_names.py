"""`PackedNames`: a sequence of names that are one text in memory: a million strings would take 70 MB, these take 15."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np


class PackedNames(Sequence[str]):
    """Names that are decoded when they are asked for. It equals any sequence of the same names.

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
        self._text = bytearray()
        self._ends = array("Q")
        self.extend(names)

    def append(self, name: str) -> None:
        """Add a name at the end."""
        self._text += name.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._text))

    def extend(self, names: Iterable[str]) -> None:
        """Add names at the end."""
        for name in names:
            self.append(name)

    def select(self, positions: Iterable[int]) -> PackedNames:
        """The names at these positions."""
        return PackedNames(self._at(int(position)) for position in positions)

    def __len__(self) -> int:
        return len(self._ends)

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
        if isinstance(other, PackedNames):
            return self._ends == other._ends and self._text == other._text
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(own == name for own, name in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment] # like a list

    def __repr__(self) -> str:
        if len(self) <= 10:
            return f"PackedNames({list(self)!r})"
        return f"<PackedNames: {len(self):,} names from {self[0]!r} to {self[-1]!r}>"

    def _at(self, position: int) -> str:
        start = self._ends[position - 1] if position else 0
        return self._text[start : self._ends[position]].decode("utf-8", "surrogatepass")


def select_names(names: Sequence[str], positions: np.ndarray) -> Sequence[str]:
    """The names at these positions: packed where `names` are."""
    if isinstance(names, PackedNames):
        return names.select(positions.tolist())
    return tuple(names[position] for position in positions)
