"""From names to files and folders, on disk or elsewhere: the only module that asks which of both a name means."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from feature_cache.files.urls import is_url, local_path, scheme
from feature_cache.process.read_ahead import map_ahead
from transfer.data.containers.archive_folder import ArchiveFolder
from transfer.data.containers.container import MemberSource, StoredFile
from transfer.data.containers.local_file import LocalFile
from transfer.data.folders.places import LocalFolder
from transfer.data.images import FileSource
from transfer.data.images.sources import EncodedSource
from transfer.data.remote.file import RemoteFile
from transfer.data.remote.objects import RemoteObjects
from transfer.data.remote.path import AnyPath, RemotePath

Result = TypeVar("Result")

OPENED_AHEAD = 4  # files that are opened together, since each of them reads ahead by itself


def at(name: str | os.PathLike[str] | RemotePath) -> AnyPath:
    """The file or folder that a path or a URL names; nothing is asked of a server yet.

    Raises
    ------
    MissingDependency
        When a package is not installed that the URL needs.
    InvalidChoice
        When there is no such scheme.

    Examples
    --------
    >>> at("file:///data/photos"), at("memory://photos")
    (PosixPath('/data/photos'), RemotePath('memory://photos'))
    """
    if isinstance(name, RemotePath):
        return name
    text = os.fspath(name)
    if not is_url(text):
        return Path(text)
    return local_path(text) if scheme(text) == "file" else RemotePath.of(text)


def file_at(path: AnyPath) -> StoredFile:
    """A file that is read at any place; for errors see `RemoteFile`."""
    return LocalFile(path) if isinstance(path, Path) else RemoteFile(path)


def folder_at(path: AnyPath) -> LocalFolder | ArchiveFolder:
    """A folder whose layout is read; one elsewhere is listed now (see `RemotePath.below`)."""
    return LocalFolder(path) if isinstance(path, Path) else remote_folder(path)


def remote_folder(path: RemotePath) -> ArchiveFolder:
    """A folder elsewhere, whose files are read as those of an archive are."""
    return ArchiveFolder(RemoteObjects.below(path))


def each(function: Callable[[AnyPath], Result], paths: Sequence[AnyPath]) -> list[Result]:
    """``function(path)`` for each path in order, for several at a time where they are elsewhere."""
    if all(isinstance(path, Path) for path in paths):
        return [function(path) for path in paths]
    return list(map_ahead(function, paths, depth=OPENED_AHEAD, threads=OPENED_AHEAD))


def source_at(path: AnyPath) -> EncodedSource:
    """The image in a file."""
    return FileSource(path) if isinstance(path, Path) else MemberSource(RemoteObjects.single(path), 0)


def head(path: AnyPath, count: int) -> bytes:
    """The first bytes of a file, `count` at most.

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    if isinstance(path, Path):
        with path.open("rb") as stream:
            return stream.read(count)
    return path.part(0, min(count, max(path.size, 0))) if path.exists() else b""
