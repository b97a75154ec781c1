"""`Place`: a folder as the reading of layouts sees it, on disk or inside an archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from transfer.data.folders.file_names import IMAGE_SUFFIXES, suffix
from transfer.data.folders.walk import Tree, folders_in, walk
from transfer.data.images import FileSource, ImageSource


class Place(Protocol):
    """A folder; its text is its path in messages."""

    @property
    def name(self) -> str:
        """The last part of the path."""

    def __truediv__(self, path: str) -> Place: ...

    def folders(self) -> list[str]:
        """The names of the folders directly in it, sorted, without litter."""

    def tree(self) -> Tree:
        """All files below it."""

    def source(self, path: str) -> ImageSource:
        """The image with this path below the folder."""

    def sources(self, paths: Sequence[str]) -> Sequence[ImageSource]:
        """The images with these paths below the folder."""

    def broken_link(self, path: str) -> Path | None:
        """What a file that has not the name of an image links to, where that is not there; None otherwise."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was passed over when its files were listed, a sentence each."""

    @property
    def opens_files(self) -> bool:
        """Whether a file in it can be opened by its path, as none in an archive can."""


@dataclass(frozen=True)
class LocalFolder:
    """A folder on disk.

    Examples
    --------
    >>> str(LocalFolder(Path("data")) / "train")
    'data/train'
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.name

    def __truediv__(self, path: str) -> LocalFolder:
        return LocalFolder(self.path / path)

    def folders(self) -> list[str]:
        """The names of the folders directly in it, sorted, without litter."""
        return folders_in(self.path)

    def tree(self) -> Tree:
        """All files below it."""
        return walk(self.path)

    def source(self, path: str) -> FileSource:
        """The image with this path below the folder."""
        return FileSource(self.path / path)

    def sources(self, paths: Sequence[str]) -> tuple[FileSource, ...]:
        """The images with these paths below the folder."""
        return tuple(map(self.source, paths))

    def broken_link(self, path: str) -> Path | None:
        """What a file that has not the name of an image links to, where that is not there; None otherwise."""
        file = self.path / path
        if file.is_symlink() and not file.exists() and suffix(path) not in IMAGE_SUFFIXES:
            return file.readlink()
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing: the tree says what was passed over."""
        return ()

    @property
    def opens_files(self) -> bool:
        """True: a file on disk can be opened by its path."""
        return True
