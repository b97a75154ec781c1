"""`JoinedArchives`: the files of several archives, as if they were one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from transfer.data.containers.archive_folder import Archive
from transfer.data.containers.packed_names import PackedNames


class JoinedArchives:
    """Several archives, whose folders are put together.

    Parameters
    ----------
    name : str
        The name of all together in messages.
    archives : sequence of Archive
        Archives that hold no file of the same path.
    """

    def __init__(self, name: str, archives: Sequence[Archive]) -> None:
        self._name, self._archives = name, tuple(archives)
        self._ends = np.cumsum([len(archive.names) for archive in archives])
        self.names = PackedNames(name for archive in archives for name in archive.names)
        self.notes = tuple(note for archive in archives for note in archive.notes)

    def __str__(self) -> str:
        return self._name

    def name(self, position: int) -> str:
        """The path of the archive and of the file inside."""
        archive, inner = self._find(position)
        return archive.name(inner)

    def size(self, position: int) -> int:
        """The number of bytes of a file."""
        archive, inner = self._find(position)
        return archive.size(inner)

    def read(self, position: int) -> bytes:
        """The bytes of a file; see `transfer.data.containers.container.Container`."""
        archive, inner = self._find(position)
        return archive.read(inner)

    def stamp(self, position: int) -> tuple[str, int] | None:
        """By what an unchanged member is recognised; see `transfer.data.containers.container.Container`."""
        archive, inner = self._find(position)
        return archive.stamp(inner)

    def announce(self, position: int) -> int:
        """Say that a member will be read soon; the number of bytes that are fetched for it."""
        archive, inner = self._find(position)
        return archive.announce(inner)

    def _find(self, position: int) -> tuple[Archive, int]:
        number = int(np.searchsorted(self._ends, position, "right"))
        return self._archives[number], position - (int(self._ends[number - 1]) if number else 0)
