"""`RemotePath`: a file or folder elsewhere, with the part of `pathlib.Path` that reading data sets needs."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from feature_cache.errors import BadData
from feature_cache.files.urls import scheme, shown
from feature_cache.remote.access import CONNECTIONS, attempt, file_system, version_of

SHORT_TRIES = 3  # where the connection was cut, and fewer bytes came


class RemotePath:
    """A file or folder elsewhere, which is asked about only once.

    Its text is its URL without user, password and query; these are kept for reading alone.

    Examples
    --------
    >>> path = RemotePath.of("memory://bucket/photos/a.tar")
    >>> path.name, str(path.parent), path.is_file()
    ('a.tar', 'memory://bucket/photos', False)
    """

    def __init__(self, file_system: Any, path: str, text: str) -> None:
        self.file_system, self.path = file_system, path
        self._text = text if text.endswith("://") else text.rstrip("/")

    @classmethod
    def of(cls, url: str) -> RemotePath:
        """The file or folder that a URL names; for errors see `feature_cache.remote.access.file_system`."""
        found, path = file_system(url)
        return cls(found, path, shown(url))

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"RemotePath({self._text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and (self.path, self._text) == (other.path, other._text)

    def __hash__(self) -> int:
        return hash((self.path, self._text))

    def __lt__(self, other: RemotePath) -> bool:
        return self._text < other._text

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self.file_system, _below(self.path, name), _below(self._text, name))

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self._text)

    @property
    def suffix(self) -> str:
        """The end of the name from its last dot on."""
        return PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> RemotePath:
        """The folder that it is in."""
        path = self.path.partition("?")[0] if self.lists_nothing else self.path
        return RemotePath(self.file_system, posixpath.dirname(path), posixpath.dirname(self._text))

    @property
    def parents(self) -> Iterator[RemotePath]:
        """The folders above it, the nearest first."""
        above = self
        while "://" in str(above.parent):
            above = above.parent
            yield above

    def as_posix(self) -> str:
        """The text."""
        return self._text

    def absolute(self) -> RemotePath:
        """The same: a URL is never relative."""
        return self

    @property
    def lists_nothing(self) -> bool:
        """Whether it is on a web server, which does not say what is in a folder."""
        return scheme(self._text) in ("http", "https")

    def exists(self) -> bool:
        """Whether there is such a file or folder."""
        return self.info is not None

    def is_file(self) -> bool:
        """Whether there is such a file."""
        return self.info is not None and self.info.get("type") != "directory"

    def is_dir(self) -> bool:
        """Whether there is such a folder."""
        return self.info is not None and self.info.get("type") == "directory"

    @property
    def size(self) -> int:
        """The number of bytes; 0 where there is no such file, and -1 where the server does not say it."""
        size = self.info.get("size") if self.info else 0
        return -1 if size is None else int(size)

    @property
    def version(self) -> str:
        """What changes whenever the content does; empty where the server says nothing of the kind."""
        return version_of(self.info or {})

    @cached_property
    def info(self) -> dict[str, Any] | None:
        """What the server says of it; None where there is nothing.

        Raises
        ------
        BadData
            When it must not be read.
        Unreachable
            When the server does not answer.
        """
        try:
            found: dict[str, Any] = attempt(lambda: self.file_system.info(self.path), self._text)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error
        return found

    def below(self) -> Iterator[tuple[str, int, str]]:
        """The path below it, the size and the version of every file in this folder.

        Raises
        ------
        BadData
            When the folder must not be listed.
        """
        if self.lists_nothing:
            raise BadData(
                f"{self} is on a web server, which does not list folders; give a file such as .zip, .tar, .parquet or "
                ".csv, or several as {000..009}."
            )
        start = self.path.strip("/") + "/" if self.path.strip("/") else ""
        for path, info in self._listed(lambda: self.file_system.find(self.path, detail=True)):
            name = path.lstrip("/")
            if name.startswith(start) and name != start:
                yield name[len(start) :], int(info.get("size") or 0), version_of(info)

    def glob(self) -> list[RemotePath]:
        """The files that match it as a pattern, sorted."""
        if self.lists_nothing:
            raise BadData(f"{self} is on a web server, which does not list files; name them, as in {{000..009}}.")
        found = self._listed(lambda: self.file_system.glob(self.path, detail=True))
        paths = []
        for path, info in sorted(found):
            one = RemotePath(self.file_system, path, shown(self.file_system.unstrip_protocol(path)))
            one.info = dict(info)
            paths.append(one)
        return paths

    def rglob(self, pattern: str) -> list[RemotePath]:
        """The files below it whose names end as a pattern ``*END`` does."""
        return [self / name for name, _, _ in self.below() if name.endswith(pattern.removeprefix("*"))]

    def open(self, mode: str = "rb") -> BinaryIO:
        """The file as a stream, for a small one: it is read now."""
        return io.BytesIO(self.content())

    def content(self) -> bytes:
        """All bytes of the file; for errors see `part`."""
        return self.part(0, max(self.size, 0))

    def part(self, start: int, end: int) -> bytes:
        """The bytes of the file from `start` up to `end`, which is no further than its end.

        Raises
        ------
        FileNotFoundError, PermissionError, OSError
            What the server says of the file, in its `strerror`.
        Unreachable
            When the server does not answer.
        """
        for _ in range(SHORT_TRIES):
            content = attempt(lambda: self._fetched(start, end), self._text)
            if len(content) == end - start:
                return content
        raise OSError(0, f"{len(content):,} of {end - start:,} bytes came; if it has changed, run the command again")

    def _fetched(self, start: int, end: int) -> bytes:
        if not self.lists_nothing:  # both ends are named for a whole file, too: else s3fs would ask for its size first
            content: bytes = self.file_system.cat_file(self.path, start=start, end=end)
            return content
        with self.file_system.open(self.path, "rb", end - start, cache_type="none", size=self.size) as stream:
            stream.seek(start)
            try:
                content = stream.read(end - start)
            except ValueError:  # more bytes come, of which no more than that are read
                raise BadData(f"{self}: its server gives no parts of files; fetch it, and give its path.") from None
        return content

    def _listed(self, call: Any) -> Iterable[tuple[str, dict[str, Any]]]:
        try:
            found: dict[str, dict[str, Any]] = attempt(call, self._text)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise self._unusable(error) from error
        return ((path, info) for path, info in found.items() if info.get("type") != "directory")

    def _unusable(self, error: OSError) -> BadData:
        return BadData(f"cannot read {self}: {error.strerror or error}.")


AnyPath = Path | RemotePath


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and not folder.endswith("/") else folder + name


def ask_together(paths: Sequence[object]) -> None:
    """Ask servers about those of the paths that are elsewhere, several at a time: each knows its answer afterwards."""
    remote = [path for path in paths if isinstance(path, RemotePath)]
    if len(remote) > 1:
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="layertap-ask") as pool:
            list(pool.map(RemotePath.exists, remote))
