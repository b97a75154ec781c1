"""`upright`, which turns and converts any image, and does so a strip at a time where a second copy would be too large.

Pillow resizes in two passes, along the rows and along the columns, and rounds to 8 bits after each. A pass along the
rows can be done for some rows at a time. Where Pillow would take the columns first, which depends on the shapes, single
values differ by 1, or by more where bicubic and lanczos overshoot. That is why strips are used only for images of which
a transposed or converted copy would exceed the memory that is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from transfer.data.images.cost import bytes_in_memory
from transfer.data.images.orientation import FROM_THE_END, SIDEWAYS, UPRIGHT, transposed

AT_ONCE = 2**24  # an image of at most so many pixels is transposed and resized in one piece
STRIP_PIXELS = 2**22  # pixels of a strip of a larger image

_WHOLE_BYTES = 950_000_000  # the most that an image and its transposed and converted copy may take together

Box = tuple[float, float, float, float]


def upright(
    image: Image.Image, orientation: int, convert: Callable[[Image.Image], Image.Image]
) -> Image.Image | Strips:
    """The upright version of an image in gray or colour of 8 bits: in one piece unless it is too large for that.

    Parameters
    ----------
    image : PIL.Image.Image
        The decoded image as it is stored, of at most 8 bits.
    orientation : int
        The EXIF orientation.
    convert : callable
        A function from a part of the stored image to gray or colour of 8 bits.
    """
    if image.width * image.height <= AT_ONCE:
        return transposed(convert(image), orientation)
    if image.mode in ("L", "RGB") and "transparency" not in image.info and orientation not in UPRIGHT:
        return image
    strips = Strips(image, orientation, convert)
    bytes_of_pixel = bytes_in_memory(image.mode) + bytes_in_memory(strips.mode)
    return strips.whole() if image.width * image.height * bytes_of_pixel <= _WHOLE_BYTES else strips


class Strips:
    """A large upright image, with those methods of Pillow's images that resizing needs.

    Parameters
    ----------
    image : PIL.Image.Image
        The decoded image as it is stored.
    orientation : int
        The EXIF orientation.
    convert : callable
        A function from a part of the stored image to gray or colour of 8 bits.
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
        """The whole upright image, resized as `PIL.Image.Image.resize` does it."""
        resample = Image.Resampling.BICUBIC if resample is None else resample
        left, top, right, bottom = box or (0, 0, *self.size)
        rows = Image.new(self.mode, (size[0], self.height))
        for start, strip in self._strips():
            part = strip.resize((size[0], strip.height), resample, (left, 0, right, strip.height))
            rows.paste(part, (0, start))
        return rows.resize(size, resample, (0, top, size[0], bottom))

    def crop(self, box: tuple[int, int, int, int]) -> Image.Image:
        """The part of the upright image within left, top, right and bottom."""
        left, top, right, bottom = box
        part = Image.new(self.mode, (right - left, bottom - top))
        for start, strip in self._strips():
            first, last = max(top, start), min(bottom, start + strip.height)
            if first < last:
                part.paste(strip.crop((left, first - start, right, last - start)), (0, first - top))
        return part

    def whole(self) -> Image.Image:
        """The upright image in one piece."""
        whole = Image.new(self.mode, self.size)
        for start, strip in self._strips():
            whole.paste(strip, (0, start))
        return whole

    def _strips(self) -> Iterator[tuple[int, Image.Image]]:
        """The strips of the upright image from the top, each with the number of its first row."""
        stored_width, stored_height = self._image.size
        rows = max(1, STRIP_PIXELS // self.width)
        for start in range(0, self.height, rows):
            stop = min(start + rows, self.height)
            first, last = (start, stop)
            if self._orientation in FROM_THE_END:
                first, last = self.height - stop, self.height - start
            sideways = self._orientation in SIDEWAYS
            box = (first, 0, last, stored_height) if sideways else (0, first, stored_width, last)
            yield start, transposed(self._convert(self._image.crop(box)), self._orientation)


def as_array(image: Image.Image) -> np.ndarray:
    """The pixels of an image: (height, width, 1 or 3), uint8."""
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels
