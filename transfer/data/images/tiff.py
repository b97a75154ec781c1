"""TIFF files that Pillow cannot read, or of which it keeps 8 of 16 bits: many bands, deep colours, floating point."""

from __future__ import annotations

import io
import logging
import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from feature_cache.errors import BadImage
from transfer.data.images.channels import MOST_CHANNELS, gray_or_rgb, pages_as_channels
from transfer.data.images.cost import MAX_PIXELS, check_cost
from transfer.data.images.levels import remark_on_range, to_eight_bit
from transfer.data.images.options import BACKGROUND, DEFAULT, Decoding
from transfer.data.images.orientation import ORIENTATION_TAG, SIDEWAYS
from transfer.data.images.strips import Strips, upright

_GRAY = ("MINISBLACK", "MINISWHITE")
_DEFLATE = (8, 32946)
_ASSOCIATED = 1
_ALPHA = (_ASSOCIATED, 2)  # kinds of extra samples: associated and unassociated alpha
SUBFILE_TYPE, NO_DATA = 254, 42113  # numbers of tags; the second is defined by GDAL
REDUCED = 1  # the bit of NewSubfileType that marks a smaller copy of another page
_NO_IMAGE = REDUCED | 4  # with the bit that marks a mask of another page


class TiffPicture:
    """A `transfer.data.images.picture.Picture` that tifffile decodes.

    Raises
    ------
    BadImage
        When the page does not exist. The message does not name the file.
    """

    format = "TIFF"
    recipe = 1

    def __init__(self, stream: io.BytesIO, *, page: int | None = None, max_pixels: int = MAX_PIXELS) -> None:
        import tifffile  # few images need it, and it takes a twentieth of the time that Layertap takes to import

        logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # our own messages say what is wrong with a file
        self._stream = stream
        self._max_pixels = max_pixels
        self._file = tifffile.TiffFile(stream)
        self._one_page = page is not None
        if page is not None and page >= self.pages:
            raise no_page(page, self.pages)
        first: Any = self._file.pages[page or 0]
        self.remarks: list[str] = []
        self.bits = int(first.bitspersample)
        self.bands = int(first.samplesperpixel)
        self._kind = first.photometric.name if hasattr(first.photometric, "name") else "unknown"
        self._page = first
        dtype = "unknown numbers" if self._page.dtype is None else self._page.dtype.name
        self.mode = f"{self.bands} x {dtype}" if self.bands > 1 else dtype
        bands = f"{self.bands} band{'s' * (self.bands > 1)}"
        self.description = f"a TIFF of {bands} of {self.bits} bits ({dtype}, {self._kind})"

    @property
    def pages(self) -> int:
        try:
            return len(self._file.pages)
        except Exception:  # damage after the first page, which may be sound
            return 1

    @property
    def page_numbers(self) -> list[int]:
        return page_numbers(self._stream.getvalue(), self.pages)

    @property
    def shape(self) -> tuple[int, int]:
        height, width = int(self._page.imagelength), int(self._page.imagewidth)
        return (width, height) if self.orientation in SIDEWAYS else (height, width)

    @property
    def orientation(self) -> int:
        tag = self._page.tags.get(ORIENTATION_TAG)
        return int(tag.value) if tag is not None and isinstance(tag.value, int) else 1

    def decode(
        self, decoding: Decoding = DEFAULT, min_size: tuple[int, int] | None = None, name: str = "image"
    ) -> Image.Image | Strips:
        """The upright image in gray or colour of 8 bits; see `transfer.data.images.picture.Picture.decode`."""
        self._check(name)
        if decoding.pages == "channels" and not self._one_page and self.pages > 1:
            values, alpha = self._pages_as_channels(name), None
        else:
            values, alpha = self._colours_and_alpha(self._values(self._page, name), name)
        if values.dtype == np.uint16:
            self._remark(remark_on_range(int(values.max()), self.bits, decoding))
        bits = self.bits if values.dtype.kind == "u" and self.bits != 8 else 16
        pixels = values if values.dtype == np.uint8 else self._eight_bit(values, bits, decoding, name)
        if self._kind == "MINISWHITE":
            pixels = 255 - pixels
        if alpha is not None and decoding.alpha in BACKGROUND:
            share = alpha[..., None].astype(np.float32) / np.iinfo(alpha.dtype).max
            colours = pixels if self._is_premultiplied else pixels * share
            pixels = np.rint(np.minimum(colours + BACKGROUND[decoding.alpha] * (1 - share), 255)).astype(np.uint8)
        image = Image.fromarray(gray_or_rgb(pixels))
        return upright(image, self.orientation, lambda part: part)

    def _eight_bit(self, values: np.ndarray, bits: int, decoding: Decoding, name: str) -> np.ndarray:
        tag = self._page.tags.get(NO_DATA)
        return to_eight_bit(values, bits, decoding, name, no_data=no_data_of(None if tag is None else tag.value))

    @property
    def _is_premultiplied(self) -> bool:
        return [int(kind) for kind in self._page.extrasamples[:1]] == [_ASSOCIATED]

    def _check(self, name: str) -> None:
        """Refuse an image that would cost too much, or whose kind of numbers is not read."""
        page = self._page
        width, height = int(page.imagewidth), int(page.imagelength)
        if page.dtype is None or page.dtype.kind not in "uif" or len(page.shape) not in (2, 3):
            reason = f"is {self.description}, which is not read; save it as 8- or 16-bit gray or RGB"
            raise BadImage(f"{name} {reason}.", reason)
        stored = width * height * self.bands * page.dtype.itemsize
        # The values as stored and a copy of them, parts scaled as float64, and the 8-bit result.
        check_cost(
            width,
            height,
            name=name,
            max_pixels=self._max_pixels,
            mode="L",
            format="TIFF",
            buffers=2 * stored + len(self._stream.getbuffer()) + 8 * width * height * min(self.bands, 3),
        )

    def _values(self, page: Any, name: str) -> np.ndarray:
        """The numbers of a page: (height, width, bands)."""
        if page.compression in _DEFLATE:
            for segment, size in _segments(page, self._stream):
                inflater = zlib.decompressobj()
                if len(inflater.decompress(segment, size + 1)) > size:
                    reason = "is a TIFF whose compressed parts hold more than they should"
                    raise BadImage(f"{name} {reason}.", reason)
        try:
            values = page.asarray(maxworkers=1)
        except Exception as error:
            if "imagecodecs" in str(error):
                reason = (
                    f"is {self.description}, compressed by {page.compression.name}; reading it needs imagecodecs: "
                    "pip install 'layertap[tiff]'"
                )
                raise BadImage(f"{name} {reason}.", reason) from error
            raise
        axes = page.axes
        if values.ndim == 2:
            return values[..., None]
        return np.moveaxis(values, 0, -1) if axes.startswith("S") else values

    def _colours_and_alpha(self, values: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """The bands that are gray or colours, and the band that is marked as transparency, or None."""
        colours = 3 if self._kind == "RGB" else 1
        if self._kind not in (*_GRAY, "RGB"):
            reason = f"is {self.description}, which is not read; save it as 8- or 16-bit gray or RGB"
            raise BadImage(f"{name} {reason}.", reason)
        extra = [int(kind) for kind in self._page.extrasamples]
        alpha = None
        if len(extra) and extra[0] in _ALPHA and values.shape[-1] > colours and values.dtype.kind == "u":
            alpha = values[..., colours]
        elif colours == 1 and self.bands >= 3:  # a satellite or a camera did not mark its bands as colours
            colours = 3
        left = self.bands - colours - (alpha is not None)
        if left or (colours == 3 and self._kind != "RGB"):
            taken = "the first three are taken as red, green and blue" if colours == 3 else "the first one is read"
            self._remark(f"of its {self.bands} bands {taken}")
        return values[..., :colours], alpha

    def _pages_as_channels(self, name: str) -> np.ndarray:
        pages = [self._values(page, name) for page in self._file.pages[:MOST_CHANNELS]]
        values, remark = pages_as_channels(pages, self.pages, name)
        self._remark(remark)
        return values

    def _remark(self, text: str | None) -> None:
        if text:
            self.remarks.append(text)


def no_data_of(text: Any) -> float | None:
    """The value that marks missing data, by the text of GDAL's tag; None where the tag is missing or no number."""
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None


def no_page(page: int, count: int) -> BadImage:
    """The error for a page that a file does not have."""
    reason = f"has no page {page}: it holds {count} image{'s' * (count != 1)}, and the first is page 0"
    return BadImage(reason, reason)


def page_numbers(encoded: bytes, count: int) -> list[int]:
    """The pages of a TIFF without smaller copies and masks of others; all `count` pages if damage hides the marks."""
    import tifffile  # few images need it, and its import is slow

    try:
        with tifffile.TiffFile(io.BytesIO(encoded)) as file:
            kinds = [int(page.subfiletype) for page in file.pages]
    except Exception:  # one page is damaged, which is reported when that page is read
        return list(range(count))
    return [number for number, kind in enumerate(kinds) if not kind & _NO_IMAGE] or [0]


def _segments(page: Any, stream: io.BytesIO) -> Iterator[tuple[bytes, int]]:
    """Each compressed strip or tile, and the most bytes that it may unpack to."""
    size = math.prod(page.chunks) * max(1, page.bitspersample // 8) + 64
    whole = stream.getbuffer()
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        yield bytes(whole[offset : offset + count]), size
