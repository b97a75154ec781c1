"""Folders in which the ids of a table are looked up as paths: on disk, or inside an archive."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from feature_cache.errors import BadData
from transfer.data.containers.archive_folder import ArchiveFolder
from transfer.data.folders.file_names import litter
from transfer.data.images import FileSource, ImageSource
from transfer.data.remote.path import AnyPath

MOST_FILES = 4_000_000  # that are searched for what an id may mean
_FILE, _LINK, _FOLDER = range(3)
_DOTS = {"", ".", ".."}


class ImageFolder(Protocol):
    """A folder of images; its text is its path in messages. Names are paths below it, and paths are those of files."""

    @property
    def name(self) -> str:
        """The last part of its path."""

    def exact(self, name: str) -> str | None:
        """The path of the file with this name; None where there is no such file.

        Raises
        ------
        BadData
            When the file is a link that leads out of the folder.
        """

    def leads_out(self, name: str) -> bool:
        """Whether an id without an exact match is a path outside the folder."""

    def require_below(self, name: str, path: str) -> None:
        """Raise BadData where the file of an id is outside the folder."""

    def refusal(self, name: str) -> BadData:
        """The error for an id that leads out of the folder."""

    def files(self) -> Iterator[tuple[str, bool]]:
        """The name of every file below the folder, and whether it is a link."""

    def path_of(self, name: str) -> str:
        """The path of the file with this name."""

    def source(self, path: str, page: int | None) -> ImageSource:
        """The image in a file, or on a page of it."""


@dataclass
class LocalImages:
    """A folder on disk. Each of its folders is listed only once."""

    folder: str
    table: AnyPath
    path: str = ""
    listings: dict[str, dict[str, int] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.path = os.path.realpath(self.folder)

    def __str__(self) -> str:
        return self.folder

    @property
    def name(self) -> str:
        """The last part of its real path."""
        return posixpath.basename(self.path)

    def path_of(self, name: str) -> str:
        """The path of the file with this name."""
        return posixpath.join(self.folder, name)

    def source(self, path: str, page: int | None) -> FileSource:
        """The image in a file, or on a page of it."""
        return FileSource(Path(path), page)

    def exact(self, name: str) -> str | None:
        """The path of the file whose path below the folder is `name`; None where there is no such file.

        Raises
        ------
        BadData
            When the file is a link that leads out of the folder.
        """
        path = f"{self.folder}/{name}"
        if not _DOTS.isdisjoint(name.split("/")):  # an absolute path, or one with . or ..
            path = posixpath.join(self.folder, name)
            real = os.path.realpath(path)
            return path if self._is_below(real) and posixpath.isfile(real) else None
        parent, _, last = name.rpartition("/")
        if parent not in self.listings:
            self.listings[parent] = self._listing(parent)
        entries = self.listings[parent]
        if entries is None:
            raise self.refusal(name)
        kind = entries.get(last)
        if kind == _LINK:
            self.require_below(name, path)
            return None if posixpath.isdir(path) else path
        return path if kind == _FILE else None

    def leads_out(self, name: str) -> bool:
        """Whether an id without an exact match is a path outside the folder."""
        if _DOTS.isdisjoint(name.split("/")):  # without . and .. it stays inside
            return False
        return not self._is_below(os.path.realpath(posixpath.join(self.folder, name)))

    def require_below(self, name: str, path: str | None) -> None:
        """Raise BadData where the file of an id is outside the folder."""
        if path is None or not self._is_below(os.path.realpath(path)):
            raise self.refusal(name)

    def refusal(self, name: str) -> BadData:
        """The error for an id that leads out of the folder."""
        return _refusal(self.table, name, self.folder)

    def _is_below(self, real: str) -> bool:
        return real == self.path or real.startswith(self.path.rstrip("/") + "/")

    def _listing(self, parent: str) -> dict[str, int] | None:
        """The entries of a folder and their kinds; None where the folder is outside."""
        path = posixpath.join(self.folder, parent)
        if not self._is_below(os.path.realpath(path)):
            return None
        try:
            with os.scandir(path) as entries:
                return {entry.name: _kind(entry) for entry in entries}
        except OSError:
            return {}

    def files(self) -> Iterator[tuple[str, bool]]:
        """The path of every file below the folder, and whether it is a link; links to folders are not followed."""
        folders, count = [""], 0
        while folders:
            parent = folders.pop()
            try:
                with os.scandir(posixpath.join(self.path, parent)) as listing:
                    entries = sorted((entry.name, _kind(entry)) for entry in listing)
            except OSError:  # the files of a folder that cannot be listed cannot be read either
                continue
            count += len(entries)
            if count > MOST_FILES:
                raise BadData(
                    f"{self.path} holds more than {MOST_FILES} files, too many to look for what the ids of a table "
                    "mean; write the paths of the images below that folder."
                )
            for name, kind in entries:
                path = f"{parent}/{name}" if parent else name
                if kind == _FOLDER:
                    folders.append(path)
                    continue
                yield path, kind == _LINK


@dataclass
class ArchivedImages:
    """A folder inside an archive."""

    folder: ArchiveFolder
    table: AnyPath

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def name(self) -> str:
        """The last part of its path; of the archive, its name without suffixes."""
        return self.folder.name

    def exact(self, name: str) -> str | None:
        """The path of the file with this name, which is the name; None where there is no such file."""
        return name if name in self.folder.positions else None

    def leads_out(self, name: str) -> bool:
        """Whether an id is a path outside the folder."""
        return name.startswith("/") or posixpath.normpath(name).split("/")[0] == ".."

    def require_below(self, name: str, path: str) -> None:
        """Nothing: an archive holds no file outside it."""

    def refusal(self, name: str) -> BadData:
        """The error for an id that leads out of the folder."""
        return _refusal(self.table, name, str(self.folder))

    def files(self) -> Iterator[tuple[str, bool]]:
        """The name of every file below the folder but litter, none of which is a link."""
        return ((name, False) for name in self.folder.positions if not any(map(litter, name.split("/"))))

    def path_of(self, name: str) -> str:
        """The name."""
        return name

    def source(self, path: str, page: int | None) -> ImageSource:
        """The image in a file, or on a page of it."""
        source = self.folder.source(path)
        return source if page is None else replace(source, page=page)


def _kind(entry: os.DirEntry[str]) -> int:
    return _LINK if entry.is_symlink() else _FOLDER if entry.is_dir(follow_symlinks=False) else _FILE


def _refusal(table: AnyPath, name: str, folder: str) -> BadData:
    return BadData(
        f"{table} names {name!r}, which leads out of the image folder {folder}; such a path is refused. Name the "
        "folder that holds the images with `images`."
    )
