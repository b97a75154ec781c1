"""`layertap.load_dataset`: a data set by its name, its path, or the paths of its images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from feature_cache.errors import BadData, InvalidChoice, unknown
from feature_cache.files.neighbours import suggestion
from feature_cache.files.urls import shown
from transfer.data import datasets, tables
from transfer.data.corrections import correct, read_corrections
from transfer.data.datasets import Dataset
from transfer.data.pages import expand_pages, with_max_pixels
from transfer.data.remote.path import AnyPath, RemotePath, ask_together
from transfer.data.remote.places import at

PAGES = ("first", "all")
DEFAULTS = {"class_column": "class", "id_column": "id", "pages": "first", "crops": False}
Paths = Sequence[str | os.PathLike[str]]
Arrays = np.ndarray | Sequence[np.ndarray]
Source = Dataset | str | os.PathLike[str] | Paths | Arrays | tuple[Arrays, Any]


def load_dataset(
    source: Source,
    *,
    images: str | os.PathLike[str] | None = None,
    class_column: str = "class",
    id_column: str = "id",
    split: str | None = None,
    value_range: tuple[float, float] | None = None,
    pages: str = "first",
    max_pixels: int | None = None,
    crops: bool = False,
    corrections: str | os.PathLike[str] | None = None,
) -> Dataset:
    """The data set that `source` names; no image is decoded yet.

    Parameters
    ----------
    source : str, path, sequence of paths, arrays, or Dataset
        ``"digits"``; a folder with a subfolder for each class, or a flat one; a CSV file with the columns ``id`` and
        ``class``; a ``.zip``, ``.tar`` or ``.tar.gz`` archive, or several by a pattern such as ``train-{00..09}.tar``;
        ``.parquet`` files with the bytes of images; the ``.json`` file of COCO or the ``data.yaml`` of YOLO;
        an ``.npz``, ``.npy`` or IDX file of arrays, or a folder of these; the folder of a RAMP kit, which
        stands for its training set; one image; or a list of image files, of archives or of ``.parquet`` files. Images
        in memory are an array of shape (n, height, width[, channels]) or a list of arrays, alone or as a pair
        ``(X, y)`` with their labels. A `Dataset` is taken as it is.
    images : path, optional
        The folder that holds the images of a CSV or annotation file, or an archive, or a folder in one
        (``photos.zip/train``); by default ``imgs`` beside the file if there is one, or the folder of the file.
    class_column, id_column : str
        The columns of a CSV file that hold the classes and the names of the image files. A file without the class
        column has no labels.
    split : str, optional
        The part of a data set that comes divided, such as ``"train"``, ``"val"`` or ``"test"``.
    value_range : (float, float), optional
        The numbers that are black and white in arrays whose dtype does not say it.
    pages : {'first', 'all'}
        Whether a file of several pages is its first page, or one image for each page, with the id ``FILE#PAGE``.
        (Pages as the channels of one image are a choice of `layertap.extract`.)
    max_pixels : int, optional
        The most pixels of an image that are decoded; by default 178,956,970. A larger image is an error when it is
        read.
    crops : bool
        Whether each box of COCO or YOLO is an image of its own, with the id ``FILE#LEFT,TOP,WIDTH,HEIGHT`` in pixels
        and the class of the box. Otherwise the images are whole, and have a class where all show one category.
    corrections : path, optional
        A table of images that are dropped or get another label, as `layertap.review` writes it (see
        `transfer.data.corrections`).

    Returns
    -------
    Dataset
        Its `notes` list what was guessed or skipped.

    Raises
    ------
    InvalidChoice
        When nothing has that name, or an option does not suit the data set.
    BadData
        When the data set holds no image, is damaged, mixes layouts, lacks some labels, or leads out of its folder; or
        when it is none; or when the corrections are of other images.

    Examples
    --------
    >>> import layertap as lt
    >>> lt.load_dataset("digits")
    Dataset('digits', 1,797 images, 10 classes)
    >>> lt.load_dataset((np.zeros((3, 8, 8), np.uint8), [0, 1, 1]))
    Dataset('arrays', 3 images, 2 classes)
    """
    if pages not in PAGES:
        raise unknown("there is no way to read `pages`", pages, PAGES)
    if crops and not isinstance(source, str | os.PathLike):
        raise InvalidChoice("`crops` goes with the annotation file of a data set that is loaded; leave it out.")
    named: str | list[str] | None = None  # what names the data set in its options
    if isinstance(source, Dataset):
        dataset = source
    elif isinstance(source, str | os.PathLike):
        named = shown(os.fspath(source))
        dataset = _load(os.fspath(source), images, class_column, id_column, split, value_range, crops)
    elif (arrays := arrays_of(source)) is not None:
        for option, value in (("images", images), ("split", split)):
            if value is not None:
                raise InvalidChoice(f"arrays in memory have no `{option}`; leave it out.")
        dataset = datasets.from_arrays(*arrays, value_range)
    elif datasets.are_containers(paths := paths_of(source)):
        if images is not None:
            raise InvalidChoice("`images` goes with a CSV file, and not with a list of archives; leave it out.")
        named = [str(path) for path in paths]
        dataset = datasets.from_containers(paths, class_column=class_column, split=split, value_range=value_range)
    else:
        dataset = datasets.from_files(paths)
    if max_pixels is not None:
        dataset = with_max_pixels(dataset, max_pixels)
    if pages == "all":
        dataset = expand_pages(dataset)
    if corrections is not None:
        dataset = correct(dataset, read_corrections(corrections))
    if named is None:
        return dataset
    given: dict[str, Any] = {
        "images": images,
        "class_column": class_column,
        "id_column": id_column,
        "split": split,
        "pages": pages,
        "value_range": value_range,
        "max_pixels": max_pixels,
        "crops": crops,
        "corrections": corrections,
    }
    changed = {name: _plain(value) for name, value in given.items() if value != DEFAULTS.get(name)}
    return replace(dataset, options={"source": named, **changed})


def load_again(options: Any) -> Dataset | None:
    """The data set that `load_dataset` loaded, by the options that it recorded; None where they are none of these.

    Parameters
    ----------
    options : object
        The ``options`` of a data set, perhaps read from a file.

    Examples
    --------
    >>> load_again({"source": "digits"}), load_again(None)
    (Dataset('digits', 1,797 images, 10 classes), None)
    """
    source = options.get("source") if isinstance(options, dict) else None
    if not isinstance(source, str) and not _are_texts(source):
        return None
    known = {"source", "images", "class_column", "id_column", "split", "pages", "max_pixels", "crops", "corrections"}
    given = {name: value for name, value in options.items() if name in known}
    ranged = options.get("value_range")
    if isinstance(ranged, list) and len(ranged) == 2:
        given["value_range"] = (float(ranged[0]), float(ranged[1]))
    return load_dataset(**given)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _plain(value: Any) -> Any:
    """An option as JSON holds it, without what is secret in a URL."""
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    return shown(value) if isinstance(value, str) else value


def image_dataset(images: Source) -> Dataset:
    """A data set of `images`, which may be one already, or name one, or be image files.

    Raises
    ------
    InvalidChoice
        When one of the files does not exist.
    """
    if isinstance(images, Dataset) or arrays_of(images) is not None:
        return load_dataset(images)
    names: Any = [images] if isinstance(images, str | os.PathLike) else list(images)
    paths = paths_of(names)
    if names_dataset(paths):
        return load_dataset(names[0])
    if datasets.are_containers(paths):
        return load_dataset(names)
    ask_together(paths)
    for path in paths:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            near = "" if path.is_dir() else suggestion(str(path))
            raise InvalidChoice(f"the image {str(path)!r} {what}{near or '; give image files, or one data set.'}")
    return datasets.from_files(paths)


def names_dataset(paths: Sequence[str | os.PathLike[str] | RemotePath]) -> bool:
    """Whether `paths` name a single data set, and not image files."""
    if len(paths) != 1:
        return False
    path = at(paths[0])
    return path.is_dir() or str(paths[0]) in datasets.BUILT_IN or datasets.is_dataset(path)


def arrays_of(source: Any) -> tuple[Any, Any] | None:
    """The images and the labels, or None, of a source that is arrays in memory; None for any other.

    Examples
    --------
    >>> arrays_of(["a.png", "b.png"]) is None
    True
    """
    if isinstance(source, tuple) and len(source) == 2 and _is_images(source[0]) and np.ndim(source[1]) < 3:
        return source
    return (source, None) if _is_images(source) else None


def _is_images(value: Any) -> bool:
    """Whether a value is an array of images, or a list of arrays; texts in an array are paths."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind not in "USO" or value.ndim > 2
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, np.ndarray) for one in value)


def paths_of(source: Any) -> list[AnyPath]:
    """The paths of image files.

    Raises
    ------
    BadData
        When `source` is no sequence of paths.
    """
    found = [source] if not isinstance(source, Iterable) else list(source)
    for path in found:
        if not isinstance(path, str | os.PathLike | RemotePath):
            raise BadData(
                f"{repr(path)[:60]} is neither a data set nor the path of an image; give a name or a path, a list of "
                "image files, an array of images, or a pair (X, y) of images and labels."
            )
    return [at(path) for path in found]


def _load(
    name: str,
    images: str | os.PathLike[str] | None,
    class_column: str,
    id_column: str,
    split: str | None,
    value_range: tuple[float, float] | None,
    crops: bool,
) -> Dataset:
    if images is not None and not shown(name).lower().endswith(tables.SUFFIXES) and not datasets.has_boxes(at(name)):
        raise InvalidChoice(f"`images` goes with a CSV file; {shown(name)!r} is none.")
    return datasets.load(
        name,
        images=None if images is None else os.fspath(images),
        class_column=class_column,
        id_column=id_column,
        split=split,
        value_range=value_range,
        crops=crops,
    )
