"""Images that Pillow opens: what they store becomes gray or colour of 8 bits here, and nowhere else."""

from __future__ import annotations

import io
import re
from functools import partial
from typing import Any, Protocol

import numpy as np
from PIL import Image

from feature_cache.errors import BadImage
from feature_cache.spec import PERCENTILES
from transfer.data.images.channels import MOST_CHANNELS, gray_or_rgb, pages_as_channels
from transfer.data.images.cost import MAX_PIXELS, check_cost
from transfer.data.images.levels import remark_on_range, to_eight_bit
from transfer.data.images.modes import has_key_of_other_bits, is_invisible, mend_key, to_gray_or_rgb
from transfer.data.images.options import BACKGROUND, DEFAULT, Decoding
from transfer.data.images.orientation import ORIENTATION_TAG, SIDEWAYS, read_orientation, transposed
from transfer.data.images.strips import AT_ONCE, Strips, upright
from transfer.data.images.tiff import NO_DATA, REDUCED, SUBFILE_TYPE, TiffPicture, no_data_of, page_numbers
from transfer.data.images.truncation import share_of

ARRAY = "array"  # the format of an image that does not come from a file
SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
DEEP = (*SIXTEEN_BIT, "I", "F")
_BITS = {"1": 1, "I": 32, "F": 32}  # bits of a channel in these modes of Pillow; 16 or 8 in others
# Where a smaller share of an alpha channel is fully opaque or fully transparent, it may hold something else.
_PLAIN_ALPHA = 0.5
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2


class Picture(Protocol):
    """An image whose header has been read, and whose pixels have perhaps not been decoded yet.

    Attributes
    ----------
    format, mode : str
        Pillow's names; `format` is ``array`` where there is no file.
    bits : int
        The bits of a channel, as stored.
    pages : int
        The number of images that the file holds.
    page_numbers : list of int
        The numbers of the pages, from 0 on, without smaller copies and masks of other pages; 0 alone if none is left.
    shape : (height, width)
        The shape of the upright image.
    orientation : int
        The EXIF orientation by which stored pixels are turned upright, 1 to 8.
    recipe : int
        The version of Layertap's recipe since which the pixels of such a file have been what they are now.
    remarks : list of str
        What decoding has guessed or left out, each as a sentence without a full stop.
    """

    format: str
    mode: str
    bits: int
    recipe: int
    remarks: list[str]

    @property
    def pages(self) -> int: ...
    @property
    def page_numbers(self) -> list[int]: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def orientation(self) -> int: ...

    def decode(
        self, decoding: Decoding = ..., min_size: tuple[int, int] | None = ..., name: str = ...
    ) -> Image.Image | Strips:
        """The upright image in gray or colour of 8 bits.

        Parameters
        ----------
        decoding : Decoding
        min_size : (height, width), optional
            The size that is needed. A JPEG may be decoded at a half, a quarter or an eighth of its size that is no
            smaller. By default the image is decoded at its full size.
        name : str
            The name of the image in messages.

        Raises
        ------
        Exception
            BadImage where the image exceeds the limits, or holds values of no fixed range; whatever the decoder raises
            where the file is damaged.
        """


class PillowPicture:
    """A `Picture` that Pillow decodes.

    Parameters
    ----------
    image : PIL.Image.Image
        The opened image, of which perhaps only the header has been read.
    encoded : bytes or None
        The content of the file.
    page : int or None
        The page that `image` has been set to, where one page is meant and not the file.
    max_pixels : int
        The most pixels that are decoded.
    """

    def __init__(
        self,
        image: Image.Image,
        encoded: bytes | None = None,
        *,
        page: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._image = image
        self._encoded = encoded
        self._page = page
        self._max_pixels = max_pixels
        self.format = image.format or ARRAY
        self.mode = image.mode
        self.bits = _bits(image)
        self.remarks: list[str] = []
        self._tags: Any = getattr(image, "tag_v2", {}) if self.format == "TIFF" else {}
        self._inverted = self.mode in DEEP and self._tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        self._signed = self.mode == "L" and _SIGNED in _as_tuple(self._tags.get(_SAMPLE_FORMAT))
        self._white = _white_of(image)
        self._deep_bits = 12 if _as_tuple(self._tags.get(_BITS_PER_SAMPLE)) == (12,) else 16
        # Read before the image is decoded, because Pillow transposes a TIFF while it loads it.
        self._orientation = read_orientation(image) if self.format in ("JPEG", "TIFF") else None
        transposed_twice = self.format == "TIFF" and self._orientation in range(2, 9)
        key_ignored = self.mode in SIXTEEN_BIT and "transparency" in image.info
        self._mends_key = has_key_of_other_bits(image, self.bits)
        was_wrong = transposed_twice or key_ignored or self._inverted or self._signed or self._deep_bits < 16
        self.recipe = 2 if was_wrong or self._mends_key else 1

    @property
    def pages(self) -> int:
        try:
            return int(getattr(self._image, "n_frames", 1))
        except Exception:  # there is damage after the first page, which may itself be sound
            return 1

    @property
    def page_numbers(self) -> list[int]:
        count = self.pages
        return page_numbers(self._encoded, count) if self.format == "TIFF" and self._encoded else list(range(count))

    @property
    def shape(self) -> tuple[int, int]:
        width, height = self._image.size
        if self.format == "TIFF" and self._tags.get(ORIENTATION_TAG, 1) in SIDEWAYS:
            return height, width  # Pillow reports the size of the upright image here
        return (width, height) if self.orientation in SIDEWAYS else (height, width)

    @property
    def orientation(self) -> int:
        return read_orientation(self._image) if self._orientation is None else self._orientation

    def decode(
        self, decoding: Decoding = DEFAULT, min_size: tuple[int, int] | None = None, name: str = "image"
    ) -> Image.Image | Strips:
        """The upright image in gray or colour of 8 bits; see `Picture.decode`."""
        self._prepare(min_size, name)
        self._remark_on_pages(decoding)
        image = self._image
        if decoding.pages == "channels" and self._page is None and self.pages > 1:
            return transposed(self._pages_as_channels(decoding, name), read_orientation(image))
        if decoding.window is not None and self.bits == 16 and self.mode not in DEEP:
            return self._deep_colour(name).decode(decoding, min_size, name)
        self._load(name)
        if self._mends_key:
            self._mends_key = False
            self._remark(mend_key(image, self.bits))
        orientation = read_orientation(image)
        self._remark_on_bands(decoding)
        if self.mode in DEEP or self._signed:
            image = self._eight_bit(image, decoding, name)
        return upright(image, orientation, partial(to_gray_or_rgb, alpha=decoding.alpha))

    def _load(self, name: str) -> None:
        try:
            self._image.load()
        except OSError as error:
            if self.format not in ("JPEG", "MPO") or "truncated" not in str(error) or self._encoded is None:
                raise
            reason = share_of(self._encoded)
            raise BadImage(f"{name} {reason}.", reason) from error

    def _prepare(self, min_size: tuple[int, int] | None, name: str) -> None:
        """Set the decoder to decode no more than is needed, and refuse an image that would cost too much."""
        image, full = self._image, self._image.size
        if min_size is not None and self.format == "JPEG":
            # None keeps the mode.
            image.draft(None, min_size if self._orientation in SIDEWAYS else min_size[::-1])
        reduced = 1
        if min_size is not None and self.format == "JPEG2000" and full[0] * full[1] > self._max_pixels:
            halvings = max(0, min(full[0] // min_size[1], full[1] // min_size[0]).bit_length() - 1)
            reduced = 2**halvings
            image.reduce = halvings  # type: ignore[method-assign, assignment]
        check_cost(
            image.width // reduced,
            image.height // reduced,
            name=name,
            max_pixels=self._max_pixels,
            mode=self.mode,
            format="PPM plain" if _is_plain_ppm(image) else self.format,
            encoded=len(self._encoded or b""),
            buffers=_coefficients(image, full),
            transposed=self.format == "TIFF" and self._orientation in range(2, 9),
        )

    def _eight_bit(self, image: Image.Image, decoding: Decoding, name: str) -> Image.Image:
        """An image of more than 8 bits as one of mode L."""
        width, height = image.size
        key = image.info.get("transparency")
        levels, largest = np.empty((height, width), np.uint8), 0
        # A strip of rows at a time, except for percentiles, which need all values.
        step = height if decoding.window == PERCENTILES else max(1, AT_ONCE // width)
        for start in range(0, height, step):
            stop = min(start + step, height)
            values = np.asarray(image if stop - start == height else image.crop((0, start, width, stop)))
            if self._white and decoding.window is not None:
                values = np.rint(values * (self._white / 65535)).astype(np.int32)  # the values as stored
            part = self._levels(values, decoding, name)
            if isinstance(key, int) and decoding.alpha in BACKGROUND:
                part[values == key] = BACKGROUND[decoding.alpha]
            levels[start:stop] = part
            largest = max(largest, int(values.max())) if self.mode in SIXTEEN_BIT else 0
        self._remark(remark_on_range(largest, self._deep_bits, decoding))
        return Image.fromarray(levels)

    def _levels(self, values: np.ndarray, decoding: Decoding, name: str) -> np.ndarray:
        """Stored values as levels of gray from 0 to 255."""
        if self._signed:
            values = values.view(np.int8)
        bits = 8 if self._signed else self._deep_bits
        no_data = no_data_of(self._tags.get(NO_DATA))
        return to_eight_bit(values, bits, decoding, name, inverted=self._inverted, no_data=no_data)

    def _pages_as_channels(self, decoding: Decoding, name: str) -> Image.Image:
        """One gray or colour image whose channels are the first pages."""
        channels = []
        count = self.pages
        for page in range(min(count, MOST_CHANNELS)):
            self._image.seek(page)
            self._image.load()
            part = self._image
            if part.mode not in ("1", "L", "P", *DEEP):
                reason = f"holds pages of mode {part.mode}, and pages that are channels are gray"
                raise BadImage(f"{name} {reason}.", reason)
            if part.mode in DEEP or self._signed:
                part = Image.fromarray(self._levels(np.asarray(part), decoding, name))
            channels.append(np.asarray(part.convert("L")))
        pixels, remark = pages_as_channels(channels, count, name)
        self._remark(remark)
        return Image.fromarray(gray_or_rgb(pixels))

    def _deep_colour(self, name: str) -> TiffPicture:
        """The same image, read by tifffile with all its bits: Pillow keeps 8 of them."""
        if self.format != "TIFF" or self._encoded is None:
            reason = f"is a {self.format} of 16-bit colours, of which 8 bits are read: a window needs it as TIFF"
            raise BadImage(f"{name} {reason}.", reason)
        deep = TiffPicture(io.BytesIO(self._encoded), page=self._page, max_pixels=self._max_pixels)
        deep.remarks = self.remarks
        return deep

    def _remark(self, text: str | None) -> None:
        if text:
            self.remarks.append(text)

    def _remark_on_pages(self, decoding: Decoding) -> None:
        if self.format != "TIFF" or self._page is not None or decoding.pages != "first":
            return
        if _as_tuple(self._tags.get(SUBFILE_TYPE)) == (REDUCED,):
            self._remark(
                "its first page is read, and marked as a smaller copy of another image, as in raw files of cameras"
            )
        elif self.pages > 1 and not self._second_is_reduced():
            self._remark(f"of its {self.pages} pages the first alone is read (pages can be all or channels: `pages`)")

    def _second_is_reduced(self) -> bool:
        """Whether the second page is a smaller copy of the first one, which viewers store there."""
        try:
            self._image.seek(1)
            return bool(int(self._image.tag_v2.get(SUBFILE_TYPE, 0)) & REDUCED)  # type: ignore[attr-defined]
        except Exception:  # there is damage after the first page
            return True
        finally:
            self._image.seek(0)

    def _remark_on_bands(self, decoding: Decoding) -> None:
        if decoding.alpha != "ignore" and is_invisible(self._image):
            self._remark(
                f"it is transparent all over, which leaves nothing but {decoding.alpha}; its colours show without its "
                "transparency (`alpha='ignore'`)"
            )
            return
        if self.format != "TIFF":
            return
        bands = len(_as_tuple(self._tags.get(_BITS_PER_SAMPLE)))
        transparent = self._image.mode in ("RGBA", "LA", "PA", "RGBa", "La")
        expected = len(self._image.getbands())
        if bands > expected:
            self._remark(f"of its {bands} bands the first {expected} are read")
        if transparent and decoding.alpha != "ignore":
            counts = self._image.getchannel(len(self._image.getbands()) - 1).histogram()
            if counts[0] + counts[255] < _PLAIN_ALPHA * sum(counts):
                self._remark(
                    f"its last band is marked as transparency and was laid over {decoding.alpha}; if it is another "
                    "band, near infrared for instance, have it ignored (`alpha='ignore'`)"
                )


def _bits(image: Image.Image) -> int:
    """The bits of a channel, as stored: also of 16-bit colours, of which Pillow keeps 8, and of 4-bit palettes."""
    tiles = getattr(image, "tile", None)  # Pillow's description of how the file stores the pixels
    if tiles and image.format in ("PNG", "TIFF"):
        arguments = tiles[0][3]
        match = re.search(r";(\d+)", arguments if isinstance(arguments, str) else str(arguments[0]))
        if match:
            return int(match[1])
    return 16 if image.mode.startswith("I;16") else _BITS.get(image.mode, 8)


def _white_of(image: Image.Image) -> int | None:
    """The value of white in a PGM of more than 8 bits, where Pillow scales the values to 16 bits; None otherwise."""
    tiles = getattr(image, "tile", None)
    if image.format != "PPM" or image.mode != "I" or not tiles or not isinstance(tiles[0][3], tuple):
        return None
    white = tiles[0][3][-1]
    return white if isinstance(white, int) and 255 < white < 65535 else None


def _is_plain_ppm(image: Image.Image) -> bool:
    tiles = getattr(image, "tile", None)
    return bool(image.format == "PPM" and tiles and tiles[0][0] == "ppm_plain")


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else () if value is None else (value,)


def _coefficients(image: Image.Image, size: tuple[int, int]) -> int:
    """The bytes that the decoder of a progressive JPEG of this full size keeps from pass to pass: 2 for each value."""
    layers = getattr(image, "layer", None)  # name, horizontal and vertical sampling, and table of each component
    if not layers or not (image.info.get("progressive") or image.info.get("progression")):
        return 0
    samples = [across * down for _, across, down, _ in layers]
    return 2 * size[0] * size[1] * sum(samples) // max(1, *samples)
