"""Turning, converting and resizing large images a strip at a time, so that no needless copy of one is in memory.

Pillow resizes in two passes, along the rows and along the columns, and rounds to 8 bits after each. A pass along the
rows can be done for some rows at a time. Where Pillow would take the columns first, which depends on the shapes, single
values differ by 1, or by more where bicubic and lanczos overshoot: this is for images of which a turned or converted
copy would not fit into the memory allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from transfer.data.images.cost import bytes_in_memory

# What brings an image of each EXIF orientation upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)
# Orientations whose first upright row is the last stored row, or column.
_FROM_THE_END = (3, 4, 7, 8)
AT_ONCE = 2**24  # an image of no more pixels is turned and resized at once
STRIP_PIXELS = 2**22  # of a larger one

_WHOLE_BYTES = 950_000_000  # that an image may take together with its turned and converted copy

Box = tuple[float, float, float, float]


def transposed(image: Image.Image, orientation: int) -> Image.Image:
    """An image of this EXIF orientation, upright."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def upright(
    image: Image.Image, orientation: int, convert: Callable[[Image.Image], Image.Image]
) -> Image.Image | Strips:
    """An image in gray or colour of 8 bits, turned by its orientation: in one piece unless it is too large for that.

    Parameters
    ----------
    image : PIL.Image.Image
        As it is stored, decoded; not deeper than 8 bits.
    orientation : int
        By EXIF.
    convert : callable
        From a part of the stored image to gray or colour of 8 bits.
    """
    if image.width * image.height <= AT_ONCE:
        return transposed(convert(image), orientation)
    if image.mode in ("L", "RGB") and "transparency" not in image.info and orientation not in _UPRIGHT:
        return image
    strips = Strips(image, orientation, convert)
    bytes_of_pixel = bytes_in_memory(image.mode) + bytes_in_memory(strips.mode)
    return strips.whole() if image.width * image.height * bytes_of_pixel <= _WHOLE_BYTES else strips


class Strips:
    """A large image, upright: it has of Pillow's images what resizing needs.

    Parameters
    ----------
    image : PIL.Image.Image
        As it is stored, decoded.
    orientation : int
        By EXIF.
    convert : callable
        From a part of the stored image to gray or colour of 8 bits.
    """

    def __init__(self, image: Image.Image, orientation: int, convert: Callable[[Image.Image], Image.Image]) -> None:
        self._image = image
        self._orientation = orientation
        self._convert = convert
        self.size = image.size[::-1] if orientation in SIDEWAYS else image.size
        self.width, self.height = self.size
        self.mode = convert(image.crop((0, 0, 1, 1))).mode

    def resize(
        self, size: tuple[int, int], resample: Image.Resampling | None = None, box: Box | None = None
    ) -> Image.Image:
        """What `PIL.Image.Image.resize` gives of the whole upright image."""
        resample = Image.Resampling.BICUBIC if resample is None else resample
        left, top, right, bottom = box or (0, 0, *self.size)
        rows = Image.new(self.mode, (size[0], self.height))
        for start, strip in self._strips():
            part = strip.resize((size[0], strip.height), resample, (left, 0, right, strip.height))
            rows.paste(part, (0, start))
        return rows.resize(size, resample, (0, top, size[0], bottom))

    def whole(self) -> Image.Image:
        """The upright image in one piece."""
        whole = Image.new(self.mode, self.size)
        for start, strip in self._strips():
            whole.paste(strip, (0, start))
        return whole

    def _strips(self) -> Iterator[tuple[int, Image.Image]]:
        """Some rows of the upright image after others, each with the number of its first one."""
        stored_width, stored_height = self._image.size
        rows = max(1, STRIP_PIXELS // self.width)
        for start in range(0, self.height, rows):
            stop = min(start + rows, self.height)
            first, last = (start, stop)
            if self._orientation in _FROM_THE_END:
                first, last = self.height - stop, self.height - start
            sideways = self._orientation in SIDEWAYS
            box = (first, 0, last, stored_height) if sideways else (0, first, stored_width, last)
            yield start, transposed(self._convert(self._image.crop(box)), self._orientation)


def as_array(image: Image.Image) -> np.ndarray:
    """The pixels of an image: (height, width, 1 or 3), uint8."""
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels
