"""Files that hold images as arrays: ``.npz``, and the IDX files of MNIST.

**.npz.** The images are the array ``X``, ``images`` or ``x_train``, the first of these that there is, of shape
(n, height, width), or (n, height, width, channels) with 1 (gray), 3 (RGB) or 4 (RGBA) channels. They are uint8 from 0
(black) to 255; uint16, of which the full range from 0 to 65535 is scaled to 0 to 255; bool, which are 0 and 255; or
floats from 0 to 1. The labels are ``y``, ``labels`` or ``y_train``, if one of these is there, of shape (n,) or (n, 1):
whole numbers, booleans or texts. Nothing pickled is read.

**IDX.** A file named like ``train-images-idx3-ubyte``, compressed with gzip or not, of uint8 images of shape
(n, height, width). The labels are those of the file beside it with ``labels-idx1`` in place of ``images-idx3``, if it
is there.

Either is held in memory.
"""

from __future__ import annotations

import gzip
import math
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feature_cache.errors import BadData
from transfer.images import EIGHT_BIT

IMAGES, LABELS = ("X", "images", "x_train"), ("y", "labels", "y_train")
SHADES = "shades are uint8 from 0 to 255, or floats from 0 to 1"
_IDX = re.compile(r"idx\d-ubyte(\.gz)?$", re.IGNORECASE)
_IDX_IMAGES = re.compile(r"images([-.])idx3(-ubyte)", re.IGNORECASE)


@dataclass(frozen=True)
class Arrays:
    """Images, each uint8 of shape (height, width), (height, width, 3) or (height, width, 4), and their labels."""

    images: Sequence[np.ndarray]
    labels: np.ndarray | None


def is_known(file: Path) -> bool:
    """Whether `file` is named like one that can be read here."""
    return file.suffix.lower() == ".npz" or _is_idx(file)


def read(file: Path) -> Arrays:
    """The images and labels of a file.

    Raises
    ------
    BadData
        When it is damaged, or does not hold what is described above.
    """
    found = _read_idx(file) if _is_idx(file) else _read_npz(file)
    if not len(found.images):
        raise BadData(f"{file} holds 0 images; there must be at least 1.")
    return found


def eight_bit(image: np.ndarray, name: str) -> np.ndarray:
    """An image of uint8, or of floats from 0 to 1, as uint8.

    Raises
    ------
    BadData
        For other numbers. The message calls the image `name`.
    """
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind != "f":
        raise BadData(f"{name} holds {image.dtype}; {SHADES}: convert it first.")
    lowest, highest = image.min(), image.max()
    if not np.isfinite([lowest, highest]).all():
        raise BadData(f"{name} holds NaN or infinity; {SHADES}.")
    if lowest < 0 or highest > 1:
        # The range of one image does not say what its floats mean: a dark one of 0 to 255 may well end at 1.
        raise BadData(f"{name} holds floats from {lowest:g} to {highest:g}; {SHADES}: convert it first.")
    return np.rint(image.astype(np.float32) * 255).astype(np.uint8)


def _is_idx(file: Path) -> bool:
    return _IDX.search(file.name) is not None


def _read_npz(file: Path) -> Arrays:
    try:
        if not zipfile.is_zipfile(file):  # NumPy would take it for a pickle
            raise ValueError("it is no whole zip archive")
        with np.load(file, allow_pickle=False) as stored:
            image_key = next((name for name in IMAGES if name in stored), None)
            label_key = next((name for name in LABELS if name in stored), None)
            names = list(stored)
            values = stored[image_key] if image_key else None
            labels = stored[label_key] if label_key else None
    except Exception as error:  # a damaged file may lead the decoder to any
        raise BadData(f"cannot read {file} as an .npz file without pickled objects: {_reason(error)}.") from error
    if values is None:
        held = ", ".join(names[:5]) or "nothing"
        raise BadData(f"{file} holds {held}, and no images; save them as one of {', '.join(IMAGES)}.")
    return Arrays(_npz_images(values, f"{image_key} of {file}"), _npz_labels(labels, values, f"{label_key} of {file}"))


def _npz_images(values: np.ndarray, name: str) -> list[np.ndarray]:
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    shaped = values.ndim in (3, 4) and values.shape[3:] in ((), (3,), (4,)) and all(values.shape[1:])
    if not shaped or (values.ndim == 3 and values.shape[2] in (1, 3, 4)):  # the latter looks like a single image
        raise BadData(
            f"{name} has the shape {values.shape}; images are of shape (n, height, width), or (n, height, width, "
            "channels) with 1, 3 or 4 channels."
        )
    if values.dtype == bool:
        return list(values.astype(np.uint8) * np.uint8(255))
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return list(EIGHT_BIT[values])
    return [eight_bit(image, f"image {number} in {name}") for number, image in enumerate(values)]


def _npz_labels(labels: np.ndarray | None, images: np.ndarray, name: str) -> np.ndarray | None:
    if labels is None:
        return None
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != images.shape[:1]:
        raise BadData(
            f"{name} has the shape {labels.shape}, and there are {len(images)} images; save one label for each, "
            "not probabilities or columns of 0 and 1."
        )
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "backslashreplace")
    elif labels.dtype.kind == "f" and (labels == np.rint(labels)).all() and (np.abs(labels) < 2**53).all():
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "biuU":
        raise BadData(f"{name} holds {labels.dtype} that are no whole numbers; labels are whole numbers or texts.")
    texts = labels.astype(str)
    if (texts == "").any():
        raise BadData(f"{name} is empty for image {int(np.argmax(texts == ''))}; give every image a label.")
    return texts


def _read_idx(file: Path) -> Arrays:
    if not _IDX_IMAGES.search(file.name):
        raise BadData(f"{file} is not named as images; name the file of the images, such as train-images-idx3-ubyte.")
    images = _idx(file, 3)
    if not all(images.shape[1:]):
        raise BadData(f"{file} holds images of {images.shape[1]} x {images.shape[2]} pixels; they must have some.")
    beside = _IDX_IMAGES.sub(r"labels\1idx1\2", file.name)
    plain = re.sub(r"\.gz$", "", beside, flags=re.IGNORECASE)
    for name in (beside, plain, f"{plain}.gz"):
        if file.with_name(name).is_file():
            labels = _idx(file.with_name(name), 1)
            if len(labels) != len(images):
                raise BadData(f"{file} holds {len(images)} images, and {name} beside it {len(labels)} labels.")
            return Arrays(list(images), labels.astype(str))
    return Arrays(list(images), None)


def _idx(file: Path, ndim: int) -> np.ndarray:
    """The array of an IDX file: a magic number, the lengths of the axes as big-endian uint32, and uint8 values."""
    try:
        with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as stream:
            head = stream.read(4 + 4 * ndim)
            if head[:4] != bytes((0, 0, 8, ndim)):
                raise ValueError(f"it does not begin as an IDX file of {ndim} axes of unsigned bytes does")
            shape = tuple(np.frombuffer(head[4:], ">u4").astype(object))
            content = stream.read(math.prod(shape) + 1)
            if len(shape) != ndim or len(content) != math.prod(shape):
                raise ValueError("its length is not what its first bytes say")
    except Exception as error:  # as above
        raise BadData(f"cannot read {file} as an IDX file: {_reason(error)}.") from error
    return np.frombuffer(content, np.uint8).reshape(shape)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
