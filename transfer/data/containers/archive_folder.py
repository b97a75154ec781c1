"""`ArchiveFolder`: a folder inside an archive, of which images and classes are read as of a folder on disk.

A folder elsewhere (`transfer.data.remote`) is read as one inside an archive whose members are its files.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol

from transfer.data.containers.container import Container, MemberSource
from transfer.data.containers.member_sources import MemberSources, in_one
from transfer.data.folders import file_names
from transfer.data.folders.walk import Tree, count_file, is_text, order, top
from transfer.data.remote.objects import RemoteObjects


class Archive(Container, Protocol):
    """A container whose members are files with paths; its text is its path in messages."""

    @property
    def names(self) -> Sequence[str]:
        """The paths of the files, with slashes, each once."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not read, a sentence each."""


@dataclass(frozen=True)
class ArchiveFolder:
    """A folder inside an archive.

    Parameters
    ----------
    archive : Archive
    prefix : str
        The path of the folder with a slash at its end; empty for the root.
    """

    archive: Archive
    prefix: str = ""

    def __str__(self) -> str:
        return f"{self.archive}/{self.prefix}".rstrip("/")

    @property
    def name(self) -> str:
        """The last part of the path; of the archive, its name without suffixes."""
        return posixpath.basename(self.prefix.rstrip("/")) or posixpath.basename(str(self.archive)).split(".")[0]

    def __truediv__(self, path: str) -> ArchiveFolder:
        return ArchiveFolder(self.archive, f"{self.prefix}{path}/" if path else self.prefix)

    def folders(self) -> list[str]:
        """The names of the folders directly in it, sorted, without litter."""
        tops = {top(name) for name in self.positions if "/" in name}
        return sorted(name for name in tops if not file_names.litter(name))

    def tree(self) -> Tree:
        """All files below it."""
        tree = Tree(tops=self.folders())
        for name in self.positions:
            parts = name.split("/")
            if kind := next(filter(None, map(file_names.litter, parts)), None):
                tree.litter[kind] += 1
            else:
                count_file(tree, name, partial(self._is_text, name))
        tree.images.sort(key=order)
        return tree

    def source(self, path: str) -> MemberSource:
        """The image with this path below the folder."""
        return MemberSource(self.archive, self.positions[path])

    def sources(self, paths: Sequence[str]) -> MemberSources:
        """The images with these paths below the folder."""
        return in_one(self.archive, [self.positions[path] for path in paths])

    def broken_link(self, path: str) -> None:
        """None: links in archives are not read."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not read of the archive, a sentence each."""
        return self.archive.notes

    @property
    def opens_files(self) -> bool:
        """Whether it is no archive after all, but a folder elsewhere, whose files can be opened by their paths."""
        return isinstance(self.archive, RemoteObjects)

    @cached_property
    def positions(self) -> dict[str, int]:
        """The positions of the files below the folder, by their paths below it."""
        start = len(self.prefix)
        names = self.archive.names
        return {name[start:]: number for number, name in enumerate(names) if name.startswith(self.prefix)}

    def _is_text(self, path: str) -> bool:
        with contextlib.suppress(OSError, ValueError):
            source = self.source(path)
            return is_text(source.read()[:512], source)
        return False
