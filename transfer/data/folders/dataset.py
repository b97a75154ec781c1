"""The data set of the images in a folder, on disk or inside an archive."""

from __future__ import annotations

from transfer.data.arrays import loading
from transfer.data.arrays.dataset import arrays_dataset
from transfer.data.dataset import Dataset
from transfer.data.folders import listing
from transfer.data.folders.places import LocalFolder
from transfer.data.unused_options import require_unused


def folder_dataset(folder: listing.Folder, value_range: tuple[float, float] | None) -> Dataset:
    """The images of a folder, or of the arrays in it."""
    if folder.holds_arrays and isinstance(folder.path, LocalFolder):
        return arrays_dataset(folder.path.path, loading.read(folder.path.path, folder.split, value_range))
    require_unused(f"{folder.path} is a folder of images", None, value_range)
    return Dataset(
        str(folder.path),
        folder.ids,
        folder.path.sources(folder.ids),
        folder.labels,
        empty_classes=folder.empty_classes,
        notes=(*folder.path.notes, *folder.notes),
    )
