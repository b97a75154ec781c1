"""Turning and resizing, of large images a strip at a time, so that no second whole copy of one is ever in memory.

Pillow resizes in two passes, first along the rows, then along the columns, and rounds to 8 bits after each. The first
can be done for some rows at a time, with the same result to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

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
_FROM_THE_END = (3, 4, 7, 6)
STRIP_PIXELS = 2**24  # an image of no more pixels is turned and resized at once

Box = tuple[float, float, float, float]


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """An image of this EXIF orientation, upright."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


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
            yield start, turned(self._convert(self._image.crop(box)), self._orientation)


def as_array(image: Image.Image) -> np.ndarray:
    """The pixels of an image: (height, width, 1 or 3), uint8."""
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels
