"""COCO's annotation files: JSON that lists images, categories, and the objects in the images.

Nothing in such a file is trusted: it is of a limited size, its paths stay within the folder of the images, and numbers
that are none, or absurd, are left out and counted.
"""

from __future__ import annotations

import json
import math
import posixpath
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import BadData, InvalidChoice, one_line
from feature_cache.files.checked import read_bytes
from transfer.data.annotation.annotated import Annotated, Size
from transfer.data.annotation.names import is_name
from transfer.data.containers import loading as containers
from transfer.data.containers.archive_folder import ArchiveFolder
from transfer.data.split_names import BESIDE_IMAGES, IMAGE_FOLDERS
from transfer.data.tables import files

MOST_BYTES = 2**30  # of a file; the largest of COCO itself has 450 MB
LONGEST_SIDE = 2**24  # of an image whose size is believed
FARTHEST = 2.0**26  # of a coordinate that is one
LOOKED_FOR = 1000  # images by which their folder is recognised


def read(file: Path, images: str | None = None) -> Annotated:
    """The images and objects of a COCO file.

    Parameters
    ----------
    file : Path
    images : str, optional
        The folder of the images, or an archive, or a folder in one; by default it is looked for beside the file.

    Raises
    ------
    BadData
        When the file is no COCO file, is damaged or too large, or names images outside the folder, or none that exist.
    InvalidChoice
        When there is no folder `images`.
    """
    content = _content(file)
    left_out: Counter[str] = Counter()
    notes: list[str] = []
    names, places, sizes = _images(file, content["images"], notes)
    categories, of_id = _categories(file, content["categories"])
    folder = _named_folder(file, images) if images else _folder_beside(file, names)
    sources, about_files = files.find(file, names, folder)
    objects = list(_objects(content["annotations"], places, of_id, left_out))
    return Annotated(
        str(file),
        names,
        sources,
        sizes,
        categories,
        np.array([image for image, *_ in objects], np.int64),
        np.array([category for _, category, *_ in objects], np.int64),
        np.array([box for _, _, box, _ in objects], np.float64).reshape(-1, 4),
        np.array([crowd for *_, crowd in objects], bool),
        notes=[*notes, *about_files],
        left_out=left_out,
    )


def _content(file: Path) -> dict[str, list[Any]]:
    """The three lists of a COCO file."""
    try:
        content = json.loads(read_bytes(file, MOST_BYTES), object_hook=_without_shapes)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise BadData(f"{file} is no annotation file of COCO that can be read ({reason}).") from error
    kind = "an object" if isinstance(content, dict) else "a list" if isinstance(content, list) else "a single value"
    lists = {name: content.get(name) for name in ("images", "categories", "annotations")} if kind == "an object" else {}
    lists["annotations"] = lists.get("annotations", []) or []  # of test images there are none
    lacking = [repr(name) for name in ("images", "categories", "annotations") if not isinstance(lists.get(name), list)]
    if lacking:
        raise BadData(
            f"{file} is {kind} in JSON, but no annotation file of COCO, which has lists of images, categories and "
            f"annotations: {' and '.join(lacking)} is no list."
        )
    return lists


def _without_shapes(value: dict[str, Any]) -> dict[str, Any]:
    """An object of JSON without what is not used of it, which is most of a large file."""
    if "image_id" in value:
        value.pop("segmentation", None)
        value.pop("keypoints", None)
    return value


def _images(file: Path, entries: list[Any], notes: list[str]) -> tuple[list[str], dict[Any, int], list[Size | None]]:
    """The name of each image, the place of each id in these, and the sizes."""
    names: dict[str, int] = {}
    places: dict[Any, int] = {}
    sizes: list[Size | None] = []
    twice = 0
    for number, entry in enumerate(entries):
        name, key = _entry(entry, "file_name", "id")
        if not is_name(name) or not _is_key(key):
            raise BadData(f"{file}: entry {number} of its images lacks a 'file_name' that is text, or an 'id'.")
        if places.get(key, names.get(name)) != names.get(name):
            raise BadData(f"{file}: two of its images have the id {str(key)[:40]!r}; mend it.")
        twice += name in names
        if name not in names:
            names[name] = len(names)
            sizes.append(_size(entry.get("width"), entry.get("height")))
        places[key] = names[name]
    if not names:
        raise BadData(f"{file} lists no images.")
    if twice:
        notes.append(f"images that {file} lists twice are read once ({twice:,}).")
    return list(names), places, sizes


def _categories(file: Path, entries: list[Any]) -> tuple[list[str], dict[Any, int]]:
    """The names of the categories, and the place of each id in these."""
    names: dict[str, int] = {}
    places: dict[Any, int] = {}
    for number, entry in enumerate(entries):
        name, key = _entry(entry, "name", "id")
        if not is_name(name) or not _is_key(key):
            raise BadData(f"{file}: entry {number} of its categories lacks a 'name' that is text, or an 'id'.")
        place = names.setdefault(name.strip(), len(names))
        if places.setdefault(key, place) != place:
            raise BadData(f"{file}: two of its categories have the id {str(key)[:40]!r}; mend it.")
    return list(names), places


_Object = tuple[int, int, list[float], bool]  # image, category, box, and whether it is a crowd


def _objects(
    entries: list[Any], images: dict[Any, int], categories: dict[Any, int], left_out: Counter[str]
) -> Iterator[_Object]:
    for entry in entries:
        image, category = _entry(entry, "image_id", "category_id")
        if not _is_key(image) or image not in images:
            left_out["annotations of images that are not listed"] += 1
        elif not _is_key(category) or category not in categories:
            left_out["annotations of categories that are not listed"] += 1
        else:
            is_crowd = entry.get("iscrowd") in (1, "1")  # True is 1, too
            yield images[image], categories[category], _box(entry.get("bbox")), is_crowd


def _entry(entry: Any, *keys: str) -> tuple[Any, ...]:
    """What an entry of a list has for some keys; None where it lacks them, or is none."""
    return tuple(entry.get(key) if isinstance(entry, dict) else None for key in keys)


def _box(value: Any) -> list[float]:
    """Left, top, width and height; NaN where they are no such numbers."""
    if isinstance(value, list) and len(value) == 4 and all(_is_number(one) for one in value):
        return [float(one) for one in value]
    return [math.nan] * 4


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= FARTHEST  # not NaN


def _is_key(value: Any) -> bool:
    return isinstance(value, int | float | str)


def _size(width: Any, height: Any) -> Size | None:
    """The size that an image is said to have; None for what is none."""
    sides = [side for side in (width, height) if _is_number(side) and 1 <= side <= LONGEST_SIDE]
    return (int(sides[0]), int(sides[1])) if len(sides) == 2 else None


def _named_folder(file: Path, images: str) -> Path | ArchiveFolder:
    if inside := containers.folder_in(Path(images)):
        return inside
    if not files.is_folder(Path(images)):
        raise InvalidChoice(f"there is no image folder {images}; name the one of {file.name} with `images`.")
    return Path(images)


def _folder_beside(file: Path, names: list[str]) -> Path:
    """The folder that holds the images: one that COCO's own layout has near the file, or the folder of the file."""
    part = file.stem.partition("_")[2]  # instances_train2017
    places = [file.parent, file.parent.parent] if file.parent.name.lower() in BESIDE_IMAGES else [file.parent]
    for place in places:
        for holder in (place, *(folder for folder in _folders(place) if folder.name.lower() in IMAGE_FOLDERS)):
            for folder in (holder / part, holder):
                if any(_is_below(folder, name) for name in names[:LOOKED_FOR]):
                    return folder
    return file.parent  # in which similar names are searched for


def _is_below(folder: Path, name: str) -> bool:
    return ".." not in name.split("/") and not name.startswith("/") and posixpath.isfile(posixpath.join(folder, name))


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir())
    except OSError:
        return []
