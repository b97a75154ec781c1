"""The data set of the images in arrays."""

from __future__ import annotations

from pathlib import Path

from transfer.data.arrays import loading
from transfer.data.arrays.images import StoredImage
from transfer.data.dataset import Dataset


def arrays_dataset(path: Path, arrays: loading.Arrays) -> Dataset:
    """The images of `arrays`; their ids are their numbers, all of one length."""
    digits = len(str(len(arrays.images) - 1))
    ids = tuple(f"{number:0{digits}d}" for number in range(len(arrays.images)))
    sources = tuple(StoredImage(arrays.images, number, f"image {name} of {path}") for number, name in enumerate(ids))
    return Dataset(str(path), ids, sources, arrays.labels, notes=arrays.notes)
