"""One HDF5 file that shows all segments of a space as one dataset, for any HDF5 tool. It holds no rows itself."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np

from feature_cache.errors import InvalidChoice, MissingFeatures
from feature_cache.files.checked import real_path
from feature_cache.files.hdf5 import new_hdf5
from feature_cache.remote import storage
from feature_cache.segments.layout import CODING, DIGEST, FEATURES, VIEW
from feature_cache.space import Space


def write_view(space: Space, file: Path) -> int:
    """Write a file with virtual datasets `features`, `digest` and `view` over the segments of `space`.

    The segments are named relative to `file`, so that both can be moved together; the view shows the segments that
    there are now, and rows that two of them hold twice. Compressed ones need the reader's Zstandard filter.

    Returns
    -------
    int
        The number of rows.

    Raises
    ------
    MissingFeatures
        When the space has no rows.
    InvalidChoice
        When it is in a bucket, where HDF5 reads no segments.
    StorageFailure
        When the file cannot be written.
    """
    if storage.is_remote(space.folder):
        raise InvalidChoice(
            f"a view shows segments on disk, and {storage.shown(space.folder)} is elsewhere; write its rows with: "
            "layertap cache export, or take the cache over with: layertap cache merge."
        )
    segments = [part for part in space.segments if len(part)]
    if not segments:
        raise MissingFeatures(f"{storage.shown(space.folder)} has no rows to show.")
    rows = sum(map(len, segments))
    first = segments[0]
    columns = {
        FEATURES: (first.row_shape, first.dtype),
        DIGEST: (first.digests.shape[1:], np.dtype(np.uint8)),
        VIEW: ((), np.dtype(np.uint32)),
    }
    with new_hdf5(file, "the view", sync=False) as view:
        for name, (shape, dtype) in columns.items():
            layout = h5py.VirtualLayout((rows, *shape), dtype)
            start = 0
            for part in segments:
                # A % would stand for a number that HDF5 counts up.
                where = os.path.relpath(real_path(part.path), real_path(file).parent).replace("%", "%%")
                layout[start : start + len(part)] = h5py.VirtualSource(where, name, (len(part), *shape), dtype)
                start += len(part)
            view.create_virtual_dataset(name, layout)
        for name, array in first.coding.items():
            view.create_dataset(f"{CODING}/{name}", data=array)
        view.attrs["spec"] = space.spec.to_json()
    return rows
