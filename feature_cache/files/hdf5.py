"""HDF5 files: created as a whole or not at all, read without locks, and trusted only for data in the file itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py

from feature_cache.files.atomic import NewStream, new_file
from feature_cache.files.checked import open_regular
from feature_cache.segments.layout import PAGE


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


def hdf5_around(raw: NewStream) -> h5py.File:
    """An HDF5 file around what has been written to `raw` from its second page on.

    HDF5 does not create a file over what is there, and so must not see it. It then gives the second page to the
    first dataset of at least a page; that one is to be allocated early and never filled.
    """
    raw.seems_empty = True
    return _hdf5(raw, align=True)


def _hdf5(raw: NewStream, align: bool) -> h5py.File:
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
    """A text attribute; ours have a fixed length, since HDF5's checksums cover only these."""
    value = file.attrs[name]
    return value.decode() if isinstance(value, bytes) else str(value)


def is_in_file(group: h5py.Group, name: str) -> bool:
    """Whether the object `name` of a group lies in the file itself: not behind a link, which may lead to another."""
    return isinstance(group.get(name, getlink=True), h5py.HardLink)


def has_own_data(dataset: h5py.Dataset) -> bool:
    """Whether the numbers of a dataset lie in the file itself: it is neither virtual, nor kept in external files."""
    return not dataset.is_virtual and not dataset.external


def own_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """The dataset `name`, which may be in a group.

    Raises
    ------
    ValueError
        When it, or its data, is not in the file itself.
    """
    group, _, last = name.rpartition("/")
    where = file[group] if group else file
    if not is_in_file(where, last):
        raise ValueError(f"{name} is not in the file itself")
    dataset = where[last]
    if not isinstance(dataset, h5py.Dataset) or not has_own_data(dataset):
        raise ValueError(f"{name} is not a dataset of the file itself")
    return dataset


def own_group(file: h5py.File, name: str) -> list[str]:
    """The names in the group `name`; none where there is no such group.

    Raises
    ------
    ValueError
        When it is not in the file itself, or not a group.
    """
    if file.get(name, getlink=True) is None:
        return []
    if not is_in_file(file, name) or not isinstance(file[name], h5py.Group):
        raise ValueError(f"{name} is not in the file itself")
    return list(file[name])


def require_whole(dataset: h5py.Dataset) -> None:
    """Raise ValueError unless the data lie in one piece and are all there: only then can they be read unseen."""
    if dataset.chunks:
        raise ValueError(f"{dataset.name} is not contiguous")
    if dataset.size and (dataset.id.get_offset() is None or dataset.id.get_storage_size() < dataset.nbytes):
        raise ValueError("its features are cut short")
