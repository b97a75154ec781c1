"""From the ``X`` that scikit-learn passes to an estimator to a data set: paths of images, or images as arrays.

Input that could be meant in two ways is refused. Neither scikit-learn nor Keras is imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from feature_cache.errors import BadData
from feature_cache.keys import digest_array
from transfer.data.arrays.images import as_uint8
from transfer.data.dataset import Dataset
from transfer.data.images import ArraySource, ImageSource, Picture
from transfer.data.remote.places import at, source_at

_ALLOWED = "give paths of images, or images as arrays of shape (height, width), or (height, width, 1, 3 or 4)"


@dataclass(frozen=True, eq=False)
class _Pixels(ArraySource):
    """An image whose pixels do not change while it is in use, so that its digest is computed only once."""

    @cached_property
    def _digest(self) -> bytes:
        return digest_array(self.pixels)

    def load(self) -> tuple[bytes, Picture]:
        return self._digest, super().load()[1]


def as_dataset(X: Any) -> Dataset:
    """The images of `X` as a data set without labels, in order; the ids are the positions. No file is opened.

    Parameters
    ----------
    X : Dataset, or array-like of length n
        Paths, image sources or images as arrays, which may be of different sizes; or one array of images, of shape
        (n, height, width), or (n, height, width, channels) with 1, 3 (RGB) or 4 (RGBA) channels. A column of paths
        may be of shape (n, 1). Images are uint8 from 0 (black) to 255, or floats from 0 to 1.

    Raises
    ------
    BadData
        When `X` is anything else, or holds no image.

    Examples
    --------
    >>> as_dataset(np.zeros((2, 8, 8), np.uint8))
    Dataset('X', 2 images, no labels)
    """
    sources = X.sources if isinstance(X, Dataset) else tuple(_sources(X))
    if not sources:
        raise BadData(f"X holds 0 images, and at least 1 is required; {_ALLOWED}.")
    return Dataset("X", tuple(map(str, range(len(sources)))), sources, None)


def _sources(X: Any) -> Iterable[ImageSource]:
    if isinstance(X, str | bytes | os.PathLike):
        raise BadData(f"X is {X!r} alone; put the path in a list, or load a data set with layertap.load_dataset.")
    if isinstance(X, list | tuple):
        return (_source(item, number) for number, item in enumerate(X))
    if hasattr(X, "toarray"):
        raise BadData(f"X is sparse ({type(X).__name__}), and images are dense; {_ALLOWED}.")
    array = np.asarray(X)
    if array.ndim == 2 and array.shape[1] == 1 and array.dtype.kind not in "biufc":
        array = array[:, 0]
    if array.ndim == 2:
        raise BadData(f"X is a table of {array.shape[0]} rows and {array.shape[1]} columns; {_ALLOWED}.")
    if array.ndim == 3 and array.shape[2] in (1, 3, 4):
        raise BadData(f"X of shape {array.shape} looks like a single image; put it in a list.")
    if array.ndim == 0:
        raise BadData(f"X is a {type(X).__name__}; {_ALLOWED}.")
    return (_source(item, number) for number, item in enumerate(array))


def _source(item: Any, number: int) -> ImageSource:
    """The source of the image at position `number` of X."""
    if isinstance(item, list | tuple | np.ndarray) and len(item) == 1 and not np.ndim(item[0]):
        item = item[0]  # a row of a table of one column
    if isinstance(item, str | os.PathLike) and "\0" not in str(item):
        return source_at(at(item))
    if isinstance(item, np.ndarray):
        return _Pixels(_checked_image(item, f"image {number} of X"), f"image {number} of X")
    if hasattr(item, "load") and hasattr(item, "stamp"):
        source: ImageSource = item
        return source
    raise BadData(f"item {number} of X is {repr(item)[:60]}; {_ALLOWED}.")


def _checked_image(image: np.ndarray, name: str) -> np.ndarray:
    """An image as uint8 of shape (height, width), (height, width, 3) or (height, width, 4)."""
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,), (4,)) or not image.size:
        raise BadData(f"{name} has the shape {image.shape}; {_ALLOWED}.")
    return as_uint8(image, name)
