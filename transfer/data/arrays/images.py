"""From arrays of images of any shape and dtype to uint8 images, in which 0 is black and 255 is white.

uint8 is taken as it is; uint16 is scaled from its full range, 0 to 65535; bool becomes 0 and 255; floats are from 0 to
1. Other floats and integers do not say what is black and white. They need a range (low, high): low becomes 0, high
becomes 255, and numbers beyond the range are refused, never cut off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from feature_cache.errors import BadData, InvalidChoice
from transfer.data.arrays.files import IdxFile, NpyFile, StoredArray
from transfer.data.images import ArraySource, Picture
from transfer.data.images.levels import row_slices, stretch

_ALLOWED = "shades are uint8 from 0 to 255, or floats from 0 to 1"
CHANNELS = (1, 3, 4)
# Ranges that images are often scaled to: the first that holds all numbers is proposed.
_LIKELY = ((0, 1), (-1, 1), (0, 255), (0, 4095), (0, 65535))

Range = tuple[float, float]


def to_images(
    stored: StoredArray, name: str, value_range: Range | None
) -> tuple[Sequence[np.ndarray], tuple[str, ...]]:
    """The images of an array.

    Parameters
    ----------
    stored : StoredArray
    name : str
        The name of the array in messages.
    value_range : (float, float) or None
        The numbers that are black and white.

    Returns
    -------
    images : sequence of ndarray of shape (height, width), (height, width, 3) or (height, width, 4), uint8
        Images of an ``.npy`` file are read when they are used.
    notes : tuple of str
        What was guessed, a sentence each.

    Raises
    ------
    BadData
        When the shape is not that of images, the numbers have no meaning as levels, or are beyond the range.
    InvalidChoice
        When a range is passed and the dtype has a range of its own.
    """
    if stored.dtype.hasobject:
        stored.read()  # raises BadData
    axes = (0, 1, 2) if isinstance(stored, IdxFile) and all(stored.shape) else _axes(stored.shape, name)
    notes: tuple[str, ...] = ()
    if axes == (0, 2, 3, 1):
        notes = (
            f"{name} has the shape {stored.shape}, which is read as channels first: (n, channels, height, width).",
        )
    if value_range and (stored.dtype.kind == "b" or stored.dtype == np.uint8):
        raise InvalidChoice(f"{name} holds {stored.dtype}, whose range is known; leave out `value_range`.")
    values = stored.read()
    _check_numbers(values, name, value_range)
    if value_range is None and values.dtype.kind == "u" and values.size:
        notes += _dark(values, name)
    if isinstance(stored, NpyFile):
        return _MappedImages(stored, axes, value_range), notes
    values = values.transpose(axes)
    if values.dtype == np.uint8:
        out = np.ascontiguousarray(values)
    else:
        out = np.empty(values.shape, np.uint8)
        for start in row_slices(values):
            out[start] = convert(values[start], value_range)
    return list(out[..., 0] if out.ndim == 4 and out.shape[3] == 1 else out), notes


def convert(values: np.ndarray, value_range: Range | None = None) -> np.ndarray:
    """Checked numbers as levels of uint8.

    Examples
    --------
    >>> convert(np.array([0.0, 0.5, 1.0])).tolist()
    [0, 128, 255]
    >>> convert(np.array([-1.0, 0.0, 1.0]), (-1, 1)).tolist()
    [0, 128, 255]
    """
    if value_range:
        return stretch(values, *value_range, half_to_even=True)
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind == "u":
        return stretch(values, 0, 65535)
    return stretch(values, 0, 1, half_to_even=True, compute_dtype=np.float32)


def as_uint8(image: np.ndarray, name: str) -> np.ndarray:
    """An image of uint8, or of floats from 0 to 1, as uint8.

    Raises
    ------
    BadData
        When the image holds other numbers. The message names the image `name`.

    Examples
    --------
    >>> as_uint8(np.array([[0.0, 1.0]]), "image").tolist()
    [[0, 255]]
    """
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind != "f":
        raise BadData(f"{name} holds {image.dtype}; {_ALLOWED}: convert it first.")
    lowest, highest = image.min(), image.max()
    if not np.isfinite([lowest, highest]).all():
        raise BadData(f"{name} holds NaN or infinity; {_ALLOWED}.")
    if lowest < 0 or highest > 1:
        # The range of one image does not say what its floats mean: a dark image with levels up to 255 may end at 1.
        raise BadData(f"{name} holds floats from {lowest:g} to {highest:g}; {_ALLOWED}: convert it first.")
    return convert(image)


class StoredImage(ArraySource):
    """An image of a sequence, from which it is read whenever it is used."""

    images: Sequence[np.ndarray]
    position: int

    def __init__(self, images: Sequence[np.ndarray], position: int, name: str) -> None:
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "position", position)
        object.__setattr__(self, "name", name)

    @property
    def pixels(self) -> np.ndarray:
        image: np.ndarray = self.images[self.position]
        return image

    def load(self) -> tuple[bytes, Picture]:
        """The digest of the array, and the image, which is read once for both."""
        return ArraySource(self.pixels, self.name).load()


@dataclass(frozen=True)
class _MappedImages(Sequence[np.ndarray]):
    """The images of an ``.npy`` file, each of which is read when it is used."""

    stored: NpyFile
    axes: tuple[int, ...]
    value_range: Range | None

    @cached_property
    def _values(self) -> np.ndarray:
        return self.stored.read().transpose(self.axes)

    def __len__(self) -> int:
        return self.stored.shape[0]

    def __getitem__(self, index: Any) -> Any:
        image = np.ascontiguousarray(convert(self._values[index], self.value_range))
        return image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image

    def __getstate__(self) -> dict[str, Any]:
        """The state without the mapped array, which pickling would copy."""
        return {"stored": self.stored, "axes": self.axes, "value_range": self.value_range}


def _axes(shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """The order of the axes that makes the shape (n, height, width) or (n, height, width, channels)."""
    if all(shape[1:]):
        if len(shape) == 3 and shape[2] not in CHANNELS:  # otherwise it may be a single image
            return (0, 1, 2)
        if len(shape) == 4:
            first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
            if first and last:
                raise BadData(
                    f"{name} has the shape {shape}, which may be (n, height, width, channels) or (n, channels, height, "
                    "width); save the images larger, or as files."
                )
            if first or last:
                return (0, 2, 3, 1) if first else (0, 1, 2, 3)
    raise BadData(
        f"{name} has the shape {shape}; images are of shape (n, height, width), or (n, height, width, channels) or "
        "(n, channels, height, width) with 1, 3 or 4 channels."
    )


def _check_numbers(values: np.ndarray, name: str, value_range: Range | None) -> None:
    dtype = values.dtype
    if dtype.kind not in "biuf":
        raise BadData(f"{name} holds {dtype}, which are no numbers that could be shades; {_ALLOWED}.")
    own = dtype.kind == "b" or (dtype.kind == "u" and dtype.itemsize <= 2)
    if not values.size or (own and not value_range):
        return
    bounds = [(values[start].min(), values[start].max()) for start in row_slices(values)]
    lowest, highest = min(low for low, _ in bounds), max(high for _, high in bounds)
    if dtype.kind == "f" and not np.isfinite(bounds).all():
        raise BadData(f"{name} holds NaN or infinity; {_ALLOWED}, or within a range.")
    if value_range:
        low, high = value_range
        if not math.isfinite(high - low) or not 0 < 255 / (high - low) < math.inf:
            raise InvalidChoice(f"the range {low:g},{high:g} is too small or too large to be divided into 255 shades.")
        if lowest < low or highest > high:
            raise BadData(
                f"{name} holds numbers from {lowest:g} to {highest:g}, beyond `value_range=({low:g}, {high:g})`; they "
                "are never cut off: give a range that holds them all."
            )
    elif dtype.kind != "f" or lowest < 0 or highest > 1:
        kind = "floats" if dtype.kind == "f" else str(dtype)
        ranges = _LIKELY if dtype.kind == "f" else _LIKELY[2:]
        fitting = (f"{low}, {high}" for low, high in ranges if low <= lowest and highest <= high)
        likely = next(fitting, f"{lowest:g}, {highest:g}")
        raise BadData(
            f"{name} holds {kind} from {lowest:g} to {highest:g}, which do not say what is black and what is white; "
            f"name both, for instance `value_range=({likely})`."
        )


def _dark(values: np.ndarray, name: str) -> tuple[str, ...]:
    """A note, where all images are so dark that the largest number of their dtype is hardly their white."""
    white = np.iinfo(values.dtype).max
    highest = max(int(values[start].max()) for start in row_slices(values))
    if highest * 4 > white:
        return ()
    text = f"{name} holds {values.dtype.name} up to {highest}, where {white} is white, and so the images are dark"
    likely = next(high for high in (255, 4095, 16383) if highest <= high)
    hint = (
        f"add `value_range=(0, {likely})` if that is white" if white > 255 else "scale them to 255 if that is too dark"
    )
    return (f"{text}; {hint}.",)
