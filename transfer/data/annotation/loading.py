"""Which files and folders are annotated data sets, and the data sets that they are."""

from __future__ import annotations

import re
from pathlib import Path

from feature_cache.files.checked import read_text
from transfer.data.annotation import annotated, coco, yolo
from transfer.data.containers import parts
from transfer.data.dataset import Dataset
from transfer.data.split_names import BESIDE_IMAGES
from transfer.data.unused_options import require_unused

COCO = (".json",)
YOLO = (".yaml", ".yml")
YOLO_FILES = ("data.yaml", "data.yml")
COCO_FILE = "_annotations.coco.json"  # beside the images of a split, as Roboflow exports them, in one of these folders
SPLIT_FOLDERS = ("train", "valid", "val", "test")


def is_known(file: Path) -> bool:
    """Whether a file has the name of an annotation file.

    Examples
    --------
    >>> is_known(Path("annotations/instances_train2017.json")), is_known(Path("a.csv"))
    (True, False)
    """
    return file.suffix.lower() in COCO + YOLO


def folder_file(folder: Path, split: str | None) -> tuple[Path, str | None] | None:
    """The annotation file of a folder, and the split that is still to be chosen; None where it has none.

    Raises
    ------
    BadData
        When it has one for each of several splits, and none is named.
    InvalidChoice
        When there is no such split.
    """
    for name in YOLO_FILES:
        if _names_classes(folder / name):
            return folder / name, split
    if (folder / COCO_FILE).is_file():
        return folder / COCO_FILE, split
    splits: dict[Path, str | None] = {
        folder / name / COCO_FILE: name for name in SPLIT_FOLDERS if (folder / name / COCO_FILE).is_file()
    }
    place = folder if folder.name.lower() in BESIDE_IMAGES else folder / "annotations"
    if not splits and place.is_dir():
        splits = {path: path.stem.removeprefix("instances_") for path in sorted(place.glob("instances_*.json"))}
    if not splits:
        return None
    if split is None and len(splits) == 1:
        return next(iter(splits)), None
    parts.require_named(str(folder), splits, split)
    return parts.choose(str(folder), splits, split)[0], None


def _names_classes(file: Path) -> bool:
    """Whether a YAML file is one of YOLO: it has a line for the names of classes."""
    try:
        return bool(re.search(r"^names\s*:", read_text(file, yolo.MOST_YAML), re.MULTILINE))
    except (OSError, UnicodeError):
        return False


def annotated_dataset(
    file: Path,
    *,
    images: str | None = None,
    split: str | None = None,
    value_range: tuple[float, float] | None = None,
    crops: bool = False,
) -> Dataset:
    """The images of an annotation file, or the boxes in them.

    Parameters
    ----------
    images : str, optional
        The folder of the images.
    split : str, optional
        The part of a YOLO data set.
    crops : bool
        Whether each box is an image.

    Raises
    ------
    BadData, InvalidChoice, MissingDependency
        See `transfer.data.annotation.coco` and `yolo`.
    """
    if file.suffix.lower() in YOLO:
        require_unused(f"{file} is a data set of YOLO", None, value_range)
        found = yolo.read(file, images, split)
    else:
        require_unused(f"{file} is a file of COCO", split, value_range)
        found = coco.read(file, images)
    return annotated.crops(found) if crops else annotated.whole_images(found)
