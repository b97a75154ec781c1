"""Files that appear whole or not at all: written aside, synced, renamed."""

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

import h5py

from feature_cache.errors import InvalidChoice, LayertapError, StorageFailure
from feature_cache.files.checked import open_regular, real_path
from feature_cache.segments.layout import PAGE, TEMPORARY

OTHER = "choose another folder with --out"
ABANDONED_SECONDS = 24 * 3600


class NewFile:
    """A file to fill, which becomes `path` when it is kept and vanishes when it is discarded.

    Parameters
    ----------
    what : str
        What is in it, for messages.
    sync : bool
        Sync file and folder, so that what has appeared survives a loss of power; not needed for what can be
        made again.

    Raises
    ------
    StorageFailure
        Here and below: when the folder or the disk does not take it; nothing is left behind then.
    """

    def __init__(self, path: Path, what: str = "features", *, sync: bool = True) -> None:
        self._path, self._what, self._sync = path, what, sync
        self._aside = path.with_name(f".{path.stem[:60]}.{uuid.uuid4().hex}.tmp")
        with self.explained():
            self.raw = KeptFile(self._aside, "w+")

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Discard the file and raise a StorageFailure where this block fails to write to it."""
        try:
            yield
        except LayertapError:
            raise
        except OSError as error:
            self.discard()
            reason = error.strerror or str(error).splitlines()[0]
            raise StorageFailure(
                f"cannot write {self._what} to {self._path.parent}: {reason}. What was written before is intact; "
                "make room or choose another folder, then run the same command again."
            ) from error

    def keep(self) -> None:
        """Let it appear under its path."""
        with self.explained():
            self.raw.check()
            if self._sync:
                os.fsync(self.raw.fileno())
            self.raw.close()
            self._aside.rename(self._path)
            if self._sync:
                _sync_folder(self._path.parent)

    def discard(self) -> None:
        """Leave nothing behind, unless it has been kept."""
        with contextlib.suppress(OSError, AttributeError):  # it may not have been opened
            self.raw.close()
        with contextlib.suppress(OSError):
            self._aside.unlink()


@contextlib.contextmanager
def new_file(path: Path, what: str = "features", *, sync: bool = True) -> Iterator[KeptFile]:
    """A `NewFile` that is kept when the block ends well, and discarded when it does not."""
    new = NewFile(path, what, sync=sync)
    try:
        with new.explained():
            yield new.raw
            new.keep()
    finally:
        new.discard()


@contextlib.contextmanager
def new_hdf5(path: Path, what: str = "features", *, sync: bool = True, align: bool = True) -> Iterator[h5py.File]:
    """An HDF5 file to fill, as `new_file`.

    Parameters
    ----------
    align : bool
        Start data on pages of their own, for memory maps; chunks are better packed.
    """
    with new_file(path, what, sync=sync) as raw, _hdf5(raw, align) as file:
        yield file


def hdf5_around(raw: KeptFile) -> h5py.File:
    """An HDF5 file around what has been written to `raw` from its second page on.

    HDF5 does not create a file over what is there, and so must not see it. It then gives the second page to the
    first dataset of at least a page; that one is to be allocated early and never filled.
    """
    raw.unseen = True
    return _hdf5(raw, align=True)


def _hdf5(raw: KeptFile, align: bool) -> h5py.File:
    pages = {"alignment_threshold": PAGE, "alignment_interval": PAGE} if align else {}
    return h5py.File(raw, "w", libver="v110", **pages)


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file to read, without HDF5's locks.

    Immutable files need none, shared and read-only folders may not have them, and HDF5 refuses a file that the
    same process has open with other settings of them.
    """
    with open_regular(path) as raw, h5py.File(raw, "r") as file:
        yield file


def text_attribute(file: h5py.File, name: str) -> str:
    """A text among the attributes: of fixed length where we wrote it, as only that is under HDF5's checksums."""
    value = file.attrs[name]
    return value.decode() if isinstance(value, bytes) else str(value)


def own_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """The dataset `name`, which may be in a group.

    Raises
    ------
    ValueError
        When it, or its data, is not in the file itself.
    """
    group, _, last = name.rpartition("/")
    where = file[group] if group else file
    if not isinstance(where.get(last, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is not in the file itself")
    dataset = where[last]
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise ValueError(f"{name} is not a dataset of the file itself")
    return dataset


def own_group(file: h5py.File, name: str) -> list[str]:
    """The names in the group `name`; none where there is no such group.

    Raises
    ------
    ValueError
        When it is not in the file itself, or not a group.
    """
    link = file.get(name, getlink=True)
    if link is None:
        return []
    if not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Group):
        raise ValueError(f"{name} is not in the file itself")
    return list(file[name])


def require_whole(dataset: h5py.Dataset) -> None:
    """Raise ValueError unless the data lie in one piece and are all there: only then can they be read unseen."""
    if dataset.chunks:
        raise ValueError(f"{dataset.name} is not contiguous")
    if dataset.size and (dataset.id.get_offset() is None or dataset.id.get_storage_size() < dataset.nbytes):
        raise ValueError("its features are cut short")


@contextlib.contextmanager
def whole_folder(
    folder: Path, what: str, is_ours: Callable[[Path], bool], *, overwrite: bool, other: str = OTHER
) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` when the block ends well and vanishes when it does not.

    Parameters
    ----------
    what : str
        What it is, for messages: ``run``.
    is_ours : callable
        Whether a folder that exists is one, and may be replaced.
    other : str
        What to do to have another, for messages.

    Raises
    ------
    InvalidChoice
        When `folder` exists, unless it is ours and `overwrite` is set.
    StorageFailure
        When it cannot be made.
    """
    folder = real_path(folder)
    check_free(folder, what, is_ours, overwrite=overwrite, other=other)
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    for old in abandoned_folders(folder):
        shutil.rmtree(old, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        yield aside
        check_free(folder, what, is_ours, overwrite=overwrite, other=other)  # again: filling it may have taken a while
        if folder.exists():
            old = aside.with_suffix(".old")
            folder.rename(old)
            aside.rename(folder)
            shutil.rmtree(old)
        else:
            aside.rename(folder)
    except (LayertapError, BrokenPipeError):  # a pipe is of whoever reads the output, and no file
        raise
    except OSError as error:
        raise StorageFailure(f"cannot write the {what} {folder}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def abandoned_folders(folder: Path) -> list[Path]:
    """What killed processes have left of a `whole_folder`: not touched for a day."""
    pattern = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{32}}\.(tmp|old)")
    parent = folder.parent
    found = [path for path in parent.iterdir() if pattern.fullmatch(path.name)] if parent.is_dir() else []
    return [path for path in found if time.time() - path.stat().st_mtime > ABANDONED_SECONDS]


def check_free(
    folder: Path, what: str, is_ours: Callable[[Path], bool], *, overwrite: bool, other: str = OTHER
) -> None:
    """Raise InvalidChoice when a `whole_folder` cannot be written."""
    if real_path(folder).is_symlink():
        raise InvalidChoice(f"{folder} is a link that leads in a circle; {other}.")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not is_ours(folder):
        raise InvalidChoice(f"{folder} exists and is not a {what}; {other}.")
    if not overwrite:
        raise InvalidChoice(f"the {what} {folder} exists; {other}, or replace it with --overwrite.")


def new_folder(folder: Path) -> None:
    """Make `folder` and those above it, and sync the folders that they appear in."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        _sync_folder(path.parent)


def abandoned(folder: Path, age: float = ABANDONED_SECONDS) -> list[Path]:
    """Temporary files in `folder` that nothing has written to for `age` seconds: their writers are dead."""
    found = []
    for aside in folder.glob(TEMPORARY):
        with contextlib.suppress(OSError):
            status = aside.lstat()
            if not stat.S_ISDIR(status.st_mode) and time.time() - status.st_mtime > age:
                found.append(aside)
    return found


def remove_abandoned(folder: Path) -> None:
    """Remove what writers that were killed left behind more than a day ago."""
    for aside in abandoned(folder):
        with contextlib.suppress(OSError):
            aside.unlink()


class KeptFile(io.FileIO):
    """A file that keeps its first failed write to itself, to be raised when HDF5 has let go of it.

    HDF5 cannot close a file after a failed write, and takes the process down with it at exit.
    """

    failure: OSError | None = None
    unseen = False  # whether the file is to look empty until the next write

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return super().seek(0) if self.unseen and whence == os.SEEK_END else super().seek(offset, whence)

    def check(self) -> None:
        """Raise the OSError of the first write that failed."""
        if self.failure:
            raise self.failure

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        start = self.tell()
        done = 0
        self.unseen = False
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


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some shared folders cannot be synced
            raise
    finally:
        os.close(handle)
