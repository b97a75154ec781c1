"""Files that appear whole or not at all: written aside, synced, renamed."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from feature_cache.errors import LayertapError, StorageFailure
from feature_cache.layout import PAGE, TEMPORARY

ABANDONED_SECONDS = 24 * 3600


@contextlib.contextmanager
def new_file(path: Path, what: str = "features", *, sync: bool = True) -> Iterator[KeptFile]:
    """A file to fill, which becomes `path` when the block ends well and vanishes when it does not.

    File and folder are synced, so that what has appeared survives a loss of power; `sync` spares that
    for what can be made again.

    Raises
    ------
    StorageFailure
        When the folder or the disk does not take it; nothing is left behind then.
    """
    aside = path.with_name(f".{path.stem[:60]}.{uuid.uuid4().hex}.tmp")
    try:
        with KeptFile(aside, "w+") as raw:
            yield raw
            raw.check()
            if sync:
                os.fsync(raw.fileno())
        aside.rename(path)
        if sync:
            _sync_folder(path.parent)
    except LayertapError:
        raise
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise StorageFailure(
            f"cannot write {what} to {path.parent}: {reason}. What was written before is intact; "
            "make room or choose another folder, then run the same command again."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()  # gone already where all went well


@contextlib.contextmanager
def new_hdf5(path: Path, what: str = "features", *, sync: bool = True, align: bool = True) -> Iterator[h5py.File]:
    """An HDF5 file to fill, as `new_file`.

    Parameters
    ----------
    align : bool
        Start data on pages of their own, for memory maps; chunks are better packed.
    """
    pages = {"alignment_threshold": PAGE, "alignment_interval": PAGE} if align else {}
    with new_file(path, what, sync=sync) as raw, h5py.File(raw, "w", libver="v110", **pages) as file:
        yield file


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file to read, without HDF5's locks.

    Immutable files need none, shared and read-only folders may not have them, and HDF5 refuses a file that the
    same process has open with other settings of them.
    """
    with path.open("rb") as raw, h5py.File(raw, "r") as file:
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

    def check(self) -> None:
        """Raise the OSError of the first write that failed."""
        if self.failure:
            raise self.failure

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        start = self.tell()
        done = 0
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
