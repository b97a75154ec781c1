"""Files and folders that appear whole or not at all: written under a temporary name beside, synced, renamed.

`replacement` is the mechanism, for whatever can be written to a path. `new_file` and `whole_folder` add to it
what a cache and a run need: syncing, failures that say what to do, and folders that are not replaced by accident.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from feature_cache.errors import InvalidChoice, LayertapError, StorageFailure, first_line
from feature_cache.files.checked import real_path
from feature_cache.segments.layout import TEMPORARY

OTHER = "choose another folder with `out`"
ABANDONED_SECONDS = 24 * 3600
NAME_CHARACTERS = 40  # of a name that are repeated in a temporary one: file systems take 255 bytes


def temporary_path(path: Path) -> Path:
    """A path in the folder of `path` that nothing else has, for what is being written."""
    return path.with_name(f".{path.name[:NAME_CHARACTERS]}.{uuid.uuid4().hex}.tmp")


@contextlib.contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """A path to write a file or a folder to, which takes the place of `path` when the block ends without an error.

    What is at `path` stays there until then. When the block ends with an error, what was written is removed.

    Yields
    ------
    Path
        In the same folder, which must exist or be made by the block; nothing is there yet.

    Raises
    ------
    OSError
        When what was written cannot be moved into place; what was there is then there again.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacement(folder / "notes.txt") as temporary:
    ...     _ = temporary.write_text("complete")
    >>> [file.name for file in folder.iterdir()]
    ['notes.txt']
    """
    temporary = temporary_path(path)
    try:
        yield temporary
        move_into_place(temporary, path)
    finally:
        remove(temporary)


def move_into_place(temporary: Path, path: Path) -> None:
    """Rename a file or a folder to `path`, where another one of its kind may be.

    Raises
    ------
    OSError
        When the system refuses it; what was at `path` is then there again.
    """
    if not temporary.is_dir() or not os.path.lexists(path):
        temporary.rename(path)
        return
    old = temporary.with_suffix(".old")
    path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        with contextlib.suppress(OSError):  # another process may have put its own there
            old.rename(path)
        raise
    remove(old)


def remove(path: Path) -> None:
    """Remove a file or a folder as far as the system lets us; it need not exist."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


class NewFile:
    """A file to fill, which becomes `path` by `commit`, or leaves nothing behind by `discard`.

    Parameters
    ----------
    path : Path
    what : str
        What the file holds, for messages.
    sync : bool
        Sync file and folder, so that what has appeared survives a loss of power. This is not needed for what can be
        computed again.

    Attributes
    ----------
    stream : NewStream
        Where the content is written.

    Raises
    ------
    StorageFailure
        Here and in all methods: when the folder or the disk does not take it. Nothing is left behind then.
    """

    def __init__(self, path: Path, what: str = "features", *, sync: bool = True) -> None:
        self._path, self._what, self._sync = path, what, sync
        self._temporary = temporary_path(path)
        with self.failures_explained():
            self.stream = NewStream(self._temporary, "w+")

    @contextlib.contextmanager
    def failures_explained(self) -> Iterator[None]:
        """Discard the file and raise a StorageFailure where this block fails to write to it."""
        try:
            yield
        except LayertapError:
            raise
        except OSError as error:
            self.discard()
            raise StorageFailure(
                f"cannot write {self._what} to {self._path.parent}: {error.strerror or first_line(error)}. What was "
                "written before is intact; make room or choose another folder, then run the same command again."
            ) from error

    def commit(self) -> None:
        """Let the file appear under its path."""
        with self.failures_explained():
            self.stream.raise_failure()
            if self._sync:
                os.fsync(self.stream.fileno())
            self.stream.close()
            move_into_place(self._temporary, self._path)
            if self._sync:
                sync_folder(self._path.parent)

    def discard(self) -> None:
        """Leave nothing behind of a file that has not been committed."""
        with contextlib.suppress(OSError, AttributeError):  # it may not have been opened
            self.stream.close()
        remove(self._temporary)


@contextlib.contextmanager
def new_file(path: Path, what: str = "features", *, sync: bool = True) -> Iterator[NewStream]:
    """The stream of a `NewFile`, which is committed when the block ends without an error and discarded otherwise.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with new_file(folder / "notes.txt", "the notes") as stream:
    ...     _ = stream.write(b"complete")
    >>> (folder / "notes.txt").read_bytes()
    b'complete'
    """
    new = NewFile(path, what, sync=sync)
    try:
        with new.failures_explained():
            yield new.stream
            new.commit()
    finally:
        new.discard()


@contextlib.contextmanager
def whole_folder(
    folder: Path, what: str, is_ours: Callable[[Path], bool], *, overwrite: bool, other: str = OTHER
) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` when the block ends without an error, and is removed otherwise.

    Parameters
    ----------
    folder : Path
    what : str
        What it is, for messages: ``run``.
    is_ours : callable
        Whether a folder that exists is one of these, and may be replaced.
    overwrite : bool
        Whether it is replaced.
    other : str
        What to do to choose another folder, for messages.

    Raises
    ------
    InvalidChoice
        When `folder` exists, unless it is ours and `overwrite` is set.
    StorageFailure
        When the folder cannot be written.
    """
    folder = real_path(folder)
    check_free(folder, what, is_ours, overwrite=overwrite, other=other)
    for old in abandoned_folders(folder):
        shutil.rmtree(old, ignore_errors=True)
    try:
        with replacement(folder) as temporary:
            temporary.mkdir(parents=True)
            yield temporary
            check_free(folder, what, is_ours, overwrite=overwrite, other=other)  # again: filling may take hours
    except (LayertapError, BrokenPipeError):  # a pipe belongs to whoever reads the output
        raise
    except OSError as error:
        raise StorageFailure(f"cannot write the {what} {folder}: {error.strerror or error}.") from error


def check_free(
    folder: Path, what: str, is_ours: Callable[[Path], bool], *, overwrite: bool, other: str = OTHER
) -> None:
    """Raise InvalidChoice when a `whole_folder` with these parameters cannot be written."""
    if real_path(folder).is_symlink():
        raise InvalidChoice(f"{folder} is a link that leads in a circle; {other}.")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not is_ours(folder):
        raise InvalidChoice(f"{folder} exists and is not a {what}; {other}.")
    if not overwrite:
        raise InvalidChoice(f"the {what} {folder} exists; {other}, or replace it with `overwrite=True`.")


def new_folder(folder: Path) -> None:
    """Make `folder` and those above it, and sync the folders that they appear in."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to the disk, where its file system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some shared folders cannot be synced
            raise
    finally:
        os.close(handle)


def abandoned_folders(folder: Path) -> list[Path]:
    """The folders that killed writers of a `whole_folder` left behind more than a day ago."""
    pattern = re.compile(rf"\.{re.escape(folder.name[:NAME_CHARACTERS])}\.[0-9a-f]{{32}}\.(tmp|old)")
    parent = folder.parent
    found = [path for path in parent.iterdir() if pattern.fullmatch(path.name)] if parent.is_dir() else []
    return [path for path in found if time.time() - path.stat().st_mtime > ABANDONED_SECONDS]


def abandoned(folder: Path, age: float = ABANDONED_SECONDS) -> list[Path]:
    """Temporary files in `folder` that nothing has written to for `age` seconds: their writers were killed."""
    found = []
    for temporary in folder.glob(TEMPORARY):
        with contextlib.suppress(OSError):
            status = temporary.lstat()
            if not stat.S_ISDIR(status.st_mode) and time.time() - status.st_mtime > age:
                found.append(temporary)
    return found


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of writers that were killed more than a day ago."""
    for temporary in abandoned(folder):
        remove(temporary)


class NewStream(io.FileIO):
    """A file whose first failed write is remembered, and raised when HDF5 has let go of the file.

    HDF5 cannot close a file after a failed write, and takes the process down with it at exit.
    """

    failure: OSError | None = None
    seems_empty = False  # whether the file looks empty until the next write

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return super().seek(0) if self.seems_empty and whence == os.SEEK_END else super().seek(offset, whence)

    def raise_failure(self) -> None:
        """Raise the OSError of the first write that failed, if any."""
        if self.failure:
            raise self.failure

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        start = self.tell()
        done = 0
        self.seems_empty = False
        while done < len(view) and self.failure is None:
            try:
                done += os.pwrite(self.fileno(), view[done:], start + done)
            except OSError as error:
                self.failure = error
        self.seek(start + len(view))
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        if self.failure is None:
            try:
                super().truncate(size)
            except OSError as error:
                self.failure = error
        return size
