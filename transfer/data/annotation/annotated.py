"""`Annotated`: images and the boxes in them, whichever tool has drawn them, and the data sets that are made of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from feature_cache.errors import BadData, BadImage, printable
from transfer.data.annotation.boxes import to_pixels
from transfer.data.annotation.crop_source import CropSource, box_text
from transfer.data.dataset import Dataset
from transfer.data.images import ImageSource
from transfer.hardware import cores

CATEGORIES = "categories"  # the column that lists the categories of each image
Size = tuple[int, int]  # width and height


@dataclass
class Annotated:
    """Images, and the objects that are annotated in them.

    Attributes
    ----------
    name : str
        The annotation file.
    ids : list of str
    sources : sequence of ImageSource
    sizes : list of (width, height) or None
        The size that the file says of each image; None where it says none.
    names : list of str
        Of the categories.
    images, categories : ndarray of shape (m,), int64
        The image and the category of each object, by their places in `ids` and `names`.
    boxes : ndarray of shape (m, 4), float64
        Left, top, width and height; NaN where an object has no box that is four finite numbers.
    crowds : ndarray of shape (m,), bool
        Whether the box is of many objects together.
    are_shares : bool
        Whether boxes are shares of the width and the height of their images, and not pixels.
    notes : list of str
    left_out : Counter
        How many annotations were left out already, by what they are.
    """

    name: str
    ids: list[str]
    sources: Sequence[ImageSource]
    sizes: list[Size | None]
    names: list[str]
    images: np.ndarray
    categories: np.ndarray
    boxes: np.ndarray
    crowds: np.ndarray
    are_shares: bool = False
    notes: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def whole_images(annotated: Annotated) -> Dataset:
    """The images as they are, each with the category of its objects where all images show one category.

    Otherwise there are no labels, but a column that lists the categories of each image.
    """
    name, notes = annotated.name, [*annotated.notes, *_left_out(annotated.name, annotated.left_out)]
    ids, sources = tuple(annotated.ids), tuple(annotated.sources)
    if not len(annotated.images):
        return Dataset(name, ids, sources, None, notes=(*notes, f"{name} has no annotations, and so no labels."))
    pairs = np.unique(np.stack([annotated.images, annotated.categories]), axis=1)
    counts = np.bincount(pairs[0], minlength=len(ids))
    if (counts > 1).any():
        shown: list[list[str]] = [[] for _ in ids]
        for image, category in pairs.T.tolist():
            shown[image].append(annotated.names[category])
        first = int(np.argmax(counts > 1))
        notes.append(
            f"{(counts > 1).sum():,} of {len(ids):,} images of {name} show several categories, the first is "
            f"{printable(ids[first])} ({printable(', '.join(shown[first][:3]))}), so that images have no class: make "
            f"each box an image by `crops=True`, or learn several labels by `multilabel={CATEGORIES!r}`."
        )
        column = np.array([json.dumps(sorted(names), ensure_ascii=False) for names in shown], object)
        return Dataset(name, ids, sources, None, {CATEGORIES: column}, notes=tuple(notes))
    kept = np.flatnonzero(counts)
    if left := len(ids) - len(kept):
        notes.append(f"{left:,} of {len(ids):,} images of {name} have no annotations, and are left out.")
    labels = np.array(annotated.names)[pairs[1]]  # pairs are in the order of the images
    return Dataset(
        name, tuple(ids[place] for place in kept), tuple(sources[place] for place in kept), labels, notes=tuple(notes)
    )


def crops(annotated: Annotated) -> Dataset:
    """Each box as an image of its own, with the id ``FILE#LEFT,TOP,WIDTH,HEIGHT`` and the category of its object.

    An image whose size is needed and that cannot be read stays one image, so that it is reported when it is read.

    Raises
    ------
    BadData
        When no box can be used.
    """
    left_out = Counter(annotated.left_out)

    chosen = np.arange(len(annotated.images))

    def keep(wanted: np.ndarray, others: str) -> None:
        nonlocal chosen
        left_out[others] += int((~wanted).sum())
        chosen = chosen[wanted]

    keep(~annotated.crowds[chosen], "boxes of crowds")
    keep(np.isfinite(annotated.boxes[chosen]).all(1), "objects without a box of four numbers")
    keep(np.all(annotated.boxes[chosen, 2:] > 0, axis=1), "boxes of no area")
    sizes = _sizes(annotated, np.unique(annotated.images[chosen]))
    unknown = np.isin(annotated.images[chosen], [place for place, size in sizes.items() if size is None])
    unreadable, chosen = chosen[unknown], chosen[~unknown]
    of_images = np.array([sizes[place] for place in annotated.images[chosen].tolist()], np.int64).reshape(-1, 2)
    boxes = annotated.boxes[chosen]
    if annotated.are_shares:
        boxes = boxes * np.tile(of_images, 2)
    inside = ((boxes[:, :2] < of_images) & (boxes[:, :2] + boxes[:, 2:] > 0)).all(1)
    pixels = to_pixels(boxes, of_images)
    beyond = ((boxes[:, :2] < -1) | (boxes[:, :2] + boxes[:, 2:] > of_images + 1)).any(1)
    keep(inside, "boxes outside their images")
    pixels, beyond = pixels[inside], beyond[inside]
    some = (pixels[:, 2:] > 0).all(1)
    keep(some, "boxes of less than a pixel")
    pixels, beyond = pixels[some], beyond[some]

    notes = list(annotated.notes)
    rows = _distinct(annotated, chosen, pixels, left_out)
    entries = sorted([*rows, *_as_they_are(annotated, unreadable)], key=lambda row: row[0])
    if not entries:
        raise BadData(f"{annotated.name} has no box that can be an image{_in_brackets(left_out)}.")
    if cut := int(beyond.sum()):
        notes.append(f"boxes of {annotated.name} that reach beyond their images are cut at the border ({cut:,}).")
    notes += _left_out(annotated.name, left_out)
    labels = np.array([annotated.names[category] for _, _, _, category in entries])
    ids, sources = tuple(name for _, name, _, _ in entries), tuple(source for _, _, source, _ in entries)
    return Dataset(annotated.name, ids, sources, labels, notes=tuple(notes))


_Row = tuple[tuple[int, int], str, ImageSource, int]  # where it stands, its id, and its category


def _distinct(annotated: Annotated, chosen: np.ndarray, pixels: np.ndarray, left_out: Counter[str]) -> list[_Row]:
    """A row for each box, those that are listed twice but once; what is left out is added to `left_out`."""
    rows: dict[str, _Row] = {}
    doubtful: set[str] = set()
    for number, box in zip(chosen.tolist(), pixels.tolist(), strict=True):
        image, category = int(annotated.images[number]), int(annotated.categories[number])
        name = f"{annotated.ids[image]}#{box_text(tuple(box))}"
        if name in rows:
            left_out["boxes that are listed twice"] += 1
            if rows[name][3] != category:
                doubtful.add(name)
            continue
        size = annotated.sizes[image]
        assert size is not None
        rows[name] = (image, number), name, CropSource(annotated.sources[image], tuple(box), size), category
    if doubtful:
        left_out["boxes that are listed in two categories"] += len(doubtful)
    return [row for name, row in rows.items() if name not in doubtful]


def _as_they_are(annotated: Annotated, objects: np.ndarray) -> list[_Row]:
    """A row for each image of these objects, which cannot be read."""
    rows: dict[int, _Row] = {}
    for number in objects.tolist():
        image = int(annotated.images[number])
        row = (image, number), annotated.ids[image], annotated.sources[image], int(annotated.categories[number])
        rows.setdefault(image, row)
    return list(rows.values())


def _sizes(annotated: Annotated, images: np.ndarray) -> dict[int, Size | None]:
    """The size of each of these images; those that the file does not say are read, in threads, and noted in it."""
    unknown = [place for place in images.tolist() if annotated.sizes[place] is None]
    if unknown:
        with ThreadPoolExecutor(len(cores()), thread_name_prefix="layertap-sizes") as pool:
            found = pool.map(_size, (annotated.sources[place] for place in unknown))
            for place, size in zip(unknown, found, strict=True):
                annotated.sizes[place] = size
    return {place: annotated.sizes[place] for place in images.tolist()}


def _size(source: ImageSource) -> Size | None:
    try:
        height, width = source.load()[1].shape
    except BadImage:  # it is reported when the image is read
        return None
    return width, height


def _left_out(name: str, counts: Counter[str]) -> list[str]:
    """A note on what was left out of an annotation file; none where nothing was."""
    text = _counted(counts)
    return [f"left out of {name}: {text}."] if text else []


def _in_brackets(counts: Counter[str]) -> str:
    text = _counted(counts)
    return f" (left out: {text})" if text else ""


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{what} ({count:,})" for what, count in _positive(counts.items()))


def _positive(items: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return [(what, count) for what, count in items if count > 0]
