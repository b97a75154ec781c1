"""The kinds of files that are containers, by the ends of their names, and how each is opened."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from feature_cache.errors import BadData
from transfer.data.containers.archive_folder import Archive, ArchiveFolder
from transfer.data.containers.tar.archive import TarArchive
from transfer.data.containers.zip_archive import ZipArchive
from transfer.data.remote.path import AnyPath
from transfer.data.remote.places import each, file_at

ZIP = (".zip",)
PARQUET = (".parquet",)
TAR = (".tar", ".tar.gz", ".tgz")

ArchiveFile = ZipArchive | TarArchive


def is_archive(name: str) -> bool:
    """Whether a file has the name of an archive that is read.

    Examples
    --------
    >>> is_archive("a.ZIP"), is_archive("a.tar.gz"), is_archive("a.rar")
    (True, True, False)
    """
    return name.lower().endswith(ZIP + TAR)


def is_container(name: str) -> bool:
    """Whether a file has the name of an archive or a table that holds images."""
    return is_archive(name) or is_parquet(name)


def is_parquet(name: str) -> bool:
    """Whether a file has the name of a Parquet table."""
    return name.lower().endswith(PARQUET)


def folder_in(path: AnyPath) -> ArchiveFolder | None:
    """The folder inside an archive that a path names, such as ``photos.zip/train``; None where no part is an archive.

    Raises
    ------
    BadData
        When the archive has no such folder.
    """
    found = archive_in(path)
    if found is None:
        return None
    return folder_of(*found)


def folder_of(archive: Archive, name: str) -> ArchiveFolder:
    """The folder with this path inside an archive; the root for an empty one.

    Raises
    ------
    BadData
        When the archive has no such folder.
    """
    folder = ArchiveFolder(archive, f"{name}/" if name else "")
    if not folder.positions:
        raise BadData(f"{archive} holds no folder {name!r}.")
    return folder


def archive_in(path: AnyPath) -> tuple[Archive, str] | None:
    """The archive that a path names or leads into, and the path inside; None where no part is an archive.

    Raises
    ------
    BadData
        When the archive cannot be read.
    """
    for parent in (path, *path.parents):
        if is_archive(parent.name) and parent.is_file():
            inside = posixpath.relpath(path.as_posix(), parent.as_posix())
            return open_archive(parent), "" if inside == "." else inside
    return None


def open_archive(path: AnyPath) -> ArchiveFile:
    """The archive in a file; for errors see the classes."""
    file = file_at(path)
    return ZipArchive(file) if path.name.lower().endswith(ZIP) else TarArchive(file)


def with_names(paths: Sequence[AnyPath]) -> list[tuple[str, ArchiveFile]]:
    """Archives, each with what comes before the names of its members in the ids: nothing where there is only one."""
    if len(paths) == 1:
        return [("", open_archive(paths[0]))]
    names = [path.absolute().as_posix() for path in paths]
    above = posixpath.commonpath([posixpath.dirname(name) for name in names])
    archives = each(open_archive, paths)
    return [(f"{posixpath.relpath(name, above)}/", archive) for name, archive in zip(names, archives, strict=True)]
