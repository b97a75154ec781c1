"""`Bucket`: the objects of a cache under a URL, by their names below it; every call is repeated where it fails."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from feature_cache.errors import InvalidChoice, StorageFailure, Unreachable, printable
from feature_cache.files.urls import scheme, shown
from feature_cache.remote.access import attempt, file_system, version_of

Result = TypeVar("Result")

# Where an object is there whole or not at all. Elsewhere it is put under another name, and renamed.
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "memory")
_READ_ONLY = ("http", "https", "hf", "github", "data", "zip", "tar")
_MODIFIED = ("LastModified", "last_modified", "updated", "mtime", "created")  # as file systems call it
_OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


class Listed(NamedTuple):
    """What the listing says of an object.

    Attributes
    ----------
    size : int
        Bytes.
    stamp : int
        Tells versions of an object of this name apart, as the time of the last change does for files: nanoseconds.
    modified : float
        When it was written, in seconds since the epoch; 0 where the store does not say it.
    """

    size: int
    stamp: int
    modified: float


class Bucket:
    """A folder in an object store, or on another server that fsspec writes to.

    Parameters
    ----------
    url : str

    Raises
    ------
    MissingDependency, InvalidChoice, BadData
        When the URL cannot be used (see `feature_cache.remote.access.file_system`).
    """

    def __init__(self, url: str) -> None:
        if shown(url) != url:
            raise InvalidChoice(f"a cache is a folder, and {shown(url)} has more to its URL; leave that out.")
        if scheme(url) in _READ_ONLY:
            raise InvalidChoice(f"a cache is written to, and {scheme(url)}:// is only read; give s3://BUCKET/FOLDER.")
        if not url.partition("://")[2].strip("/"):
            raise InvalidChoice(f"{url!r} names no place for a cache; give {scheme(url)}://BUCKET/FOLDER.")
        self.url = url.rstrip("/")
        self._connect()

    def _connect(self) -> None:
        system, path = file_system(self.url)
        self._connection: tuple[int, Any] = os.getpid(), system
        self._path = path.rstrip("/")

    @property
    def _system(self) -> Any:
        if self._connection[0] != os.getpid():  # a connection is not for forked processes
            self._connect()
        return self._connection[1]

    @property
    def endpoint(self) -> str:
        """The address of the server; empty where the scheme alone names it."""
        try:
            address = str(self._system.s3.meta.endpoint_url)
        except Exception:  # another file system, or credentials that the first request will tell of
            return ""
        return "" if address.endswith(".amazonaws.com") else address

    def listing(self, folder: str = "") -> dict[str, Listed]:
        """All objects below a folder of the cache, by their names below the cache.

        Raises
        ------
        InvalidChoice
            When there is no such bucket, or it must not be read.
        StorageFailure
            When the server refuses it for another reason.
        Unreachable
            When the server does not answer.
        """
        start = self._path.strip("/") + "/" if self._path.strip("/") else ""
        below = f"{self._path}/{folder}" if folder else self._path
        try:
            found = self._attempt(lambda: self._system.find(below, detail=True), "read")
        except FileNotFoundError:
            if self._has_place():
                return {}
            raise self._nowhere() from None
        listed = {path.lstrip("/"): info for path, info in found.items() if info.get("type") != "directory"}
        return {path[len(start) :]: _listed(info) for path, info in listed.items() if path.startswith(start)}

    def _has_place(self) -> bool:
        """Whether there is what the first part of the path names: a bucket, or a folder."""
        if scheme(self.url) == "memory":
            return True
        first = self._path.strip("/").partition("/")[0]
        try:
            return bool(self._attempt(lambda: self._system.exists(first), "read"))
        except FileNotFoundError:
            return False

    def _nowhere(self) -> InvalidChoice:
        bucket = printable(self._path.strip("/").partition("/")[0])
        return InvalidChoice(
            f"cannot keep a cache in {self.url}: there is no {bucket!r}; make it, or name another with `cache`."
        )

    def look(self, name: str) -> Listed:
        """What the server says of an object.

        Raises
        ------
        FileNotFoundError
            When there is none of this name.
        """
        return _listed(self._attempt(lambda: self._system.info(self._at(name)), "read"))

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes of an object, or of a part of it.

        Raises
        ------
        FileNotFoundError
            When there is none of this name.
        """
        content: bytes = self._attempt(lambda: self._system.cat_file(self._at(name), start=start, end=end), "read")
        return content

    def fetch(self, name: str, path: Path) -> None:
        """Write an object to a path on disk.

        Raises
        ------
        FileNotFoundError
            When there is none of this name.
        StorageFailure
            When the disk does not take it.
        """

        def get() -> None:
            try:
                self._system.get_file(self._at(name), os.fspath(path))
            except OSError as error:
                if error.errno in _OF_DISK and getattr(error, "status", None) is None:
                    raise StorageFailure(
                        f"cannot keep a copy of {self.url}/{name} in {path.parent}: {error.strerror}; make room, or "
                        "set $XDG_CACHE_HOME to another folder."
                    ) from error
                raise

        self._attempt(get, "read")

    def put(self, name: str, path: Path, *, replace: bool = False) -> Listed:
        """Put a file as one object, which is there whole or not at all; what the server then says of it.

        Parameters
        ----------
        replace : bool
            Whether an object of this name is replaced. Otherwise it is left, where the store can tell.

        Raises
        ------
        InvalidChoice
            When there is no such bucket, or it must not be written.
        StorageFailure
            When the server refuses it for another reason, or has another object of this name.
        Unreachable
            When the server does not answer.
        """
        size = path.stat().st_size
        for _ in range(2):
            try:
                self._attempt(lambda: self._put(name, path, replace), "write")
                listed = self.look(name)
                break
            except FileNotFoundError:  # also where another machine has removed it meanwhile
                if not self._has_place():
                    raise self._nowhere() from None
        else:
            raise StorageFailure(f"cannot write {self.url}/{name}: others remove it; run the same command again.")
        if listed.size != size and not replace:
            raise StorageFailure(
                f"cannot write {self.url}/{name}: there is another object of that name, of {listed.size:,} bytes."
            )
        return listed

    def _put(self, name: str, path: Path, replace: bool) -> None:
        source, target = os.fspath(path), self._at(name)
        if scheme(self.url) not in _OBJECT_STORES:
            self._system.makedirs(target.rpartition("/")[0], exist_ok=True)
            temporary = f"{target.rpartition('/')[0]}/.{uuid.uuid4().hex}.tmp"
            self._system.put_file(source, temporary)
            self._system.mv(temporary, target)
            return
        if not replace:
            try:
                self._system.put_file(source, target, mode="create")
                return
            except FileExistsError:  # an earlier try, or another process, has put it
                return
            except (TypeError, ValueError, NotImplementedError):  # no conditional puts in this file system
                pass
            except OSError as error:
                if "not implemented" not in str(error).lower():  # as a store says of the header
                    raise
        self._system.put_file(source, target)

    def remove(self, name: str) -> None:
        """Remove an object, which need not be there.

        Raises
        ------
        InvalidChoice, StorageFailure, Unreachable
            As for `put`.
        """
        with contextlib.suppress(FileNotFoundError):
            self._attempt(lambda: self._system.rm_file(self._at(name)), "remove")

    def rename(self, name: str, new: str) -> None:
        """Give an object another name.

        Raises
        ------
        FileNotFoundError
            When there is none of this name.
        """
        self._attempt(lambda: self._system.mv(self._at(name), self._at(new)), "write")

    def touch(self, name: str, path: Path) -> None:
        """Put a file, once and if the server takes it: for what is only a hint."""
        with contextlib.suppress(OSError, Unreachable):
            attempt(lambda: self._system.put_file(os.fspath(path), self._at(name)), self.url, "write", tries=1)

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _attempt(self, call: Callable[[], Result], verb: str) -> Result:
        with self._explained(verb):
            return attempt(call, self.url, verb)

    @contextlib.contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        """Say what the server refuses, but for objects that are not there."""
        try:
            yield
        except (FileNotFoundError, StorageFailure):
            raise
        except PermissionError as error:
            raise InvalidChoice(f"cannot {verb} the cache {self.url}: {error.strerror}.") from None
        except OSError as error:
            raise StorageFailure(f"cannot {verb} the cache {self.url}: {error.strerror or error}.") from None


def _listed(info: dict[str, Any]) -> Listed:
    time = next((info[name] for name in _MODIFIED if info.get(name) is not None), 0.0)
    modified = time.timestamp() if isinstance(time, datetime) else time if isinstance(time, int | float) else 0.0
    version = version_of(info) or str(time)
    # Whole seconds, of up to 34 years after 1970: every file system keeps these.
    stamp = zlib.crc32(version.encode()) % 2**30 * 10**9
    return Listed(int(info.get("size") or 0), stamp, modified)
