"""From an image, in whatever form it comes, to the uint8 pixels that a net is given.

`feature_cache.spec.PIXEL_RECIPE` is the version of what happens here: raise it with any change that
can alter a pixel.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps

from feature_cache.errors import BadImage
from feature_cache.keys import FileStamp, digest_array, digest_bytes

_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
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
_SIDEWAYS = (5, 6, 7, 8)
# Pillow's readers that start another program, or only know how to hand a file on.
_REFUSED_FORMATS = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "FITS"}
EIGHT_BIT = ((np.arange(65536) * 255 + 32767) // 65535).astype(np.uint8)  # of each 16-bit value
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")


class ImageSource(Protocol):
    """Something that an image can be read from."""

    def load(self) -> tuple[bytes, Image.Image]:
        """The digest of the content, and the image, of which perhaps only the header has been decoded."""

    def stamp(self) -> FileStamp | None:
        """Path, size and time of a file; None for what is not a file."""


@dataclass(frozen=True)
class FileSource:
    """An image file, recognised by its content, whatever its name."""

    path: Path

    def load(self) -> tuple[bytes, Image.Image]:
        try:
            encoded = self.path.read_bytes()
        except OSError as error:
            raise BadImage(f"cannot read the image {self.path}: {error.strerror}.", str(error.strerror)) from error
        if not encoded:
            raise BadImage(f"the image {self.path} is empty (0 bytes).", "empty (0 bytes)")
        try:
            return digest_bytes(encoded), Image.open(io.BytesIO(encoded), formats=_formats())
        except Exception as error:  # decoders raise whatever a damaged file leads them to
            reason = f"not an image that can be read ({reason_of(error)})"
            raise BadImage(f"{self.path} is {reason}.", reason) from error

    def stamp(self) -> FileStamp | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        # A file that is moved over another keeps its modification time; its status changes.
        return str(self.path.absolute()), status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, eq=False)
class ArraySource:
    """An image in memory: uint8, of shape (height, width) or (height, width, 3)."""

    pixels: np.ndarray
    name: str

    def load(self) -> tuple[bytes, Image.Image]:
        return digest_array(self.pixels), Image.fromarray(self.pixels)

    def stamp(self) -> FileStamp | None:
        return None

    def __str__(self) -> str:
        return self.name


def to_pixels(
    image: Image.Image,
    size: tuple[int, int],
    fit: str = "stretch",
    interpolation: str = "bilinear",
    name: str = "image",
) -> np.ndarray:
    """Decode `image` and bring it to `size`.

    EXIF orientation is applied. 16-bit gray is scaled to 8 bits, transparency is laid over white,
    palettes and CMYK become RGB; gray images stay gray. JPEGs much larger than `size` are decoded at
    a half, a quarter or an eighth of their size.

    Parameters
    ----------
    image : PIL.Image.Image
    size : (height, width)
    fit : {'stretch', 'crop', 'pad'}
        Change the proportions, cut the longer side about the centre, or fill with black.
    interpolation : {'bilinear', 'bicubic', 'lanczos', 'nearest'}
    name : str
        What error messages call the image.

    Returns
    -------
    ndarray of shape (height, width, 1) or (height, width, 3), uint8

    Raises
    ------
    BadImage
        When the image is truncated, or of a mode that has no fixed range of values.
    """
    height, width = size
    resampling = _RESAMPLING[interpolation]
    try:
        orientation = _orientation(image)
        if image.format == "JPEG":
            wanted = (height, width) if orientation in _SIDEWAYS else (width, height)
            if fit == "crop":  # the shorter side decides
                wanted = (max(wanted), max(wanted))
            image.draft(None, wanted)  # None: keep the mode
        image = _to_gray_or_rgb(image, name)
        if orientation in _UPRIGHT:
            image = image.transpose(_UPRIGHT[orientation])
    except BadImage:
        raise
    except Exception as error:  # as above
        reason = f"cannot be decoded ({reason_of(error)})"
        raise BadImage(f"{name} {reason}.", reason) from error

    if fit == "crop":
        image = ImageOps.fit(image, (width, height), resampling)
    elif fit == "pad":
        image = ImageOps.pad(image, (width, height), resampling)
    elif image.size != (width, height):
        image = image.resize((width, height), resampling)
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def upright_shape(image: Image.Image) -> tuple[int, int]:
    """Height and width of `image` once its EXIF orientation is applied; before it is decoded, those that are stored."""
    width, height = image.size
    return (width, height) if _orientation(image) in _SIDEWAYS else (height, width)


@cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in Image.OPEN if name not in _REFUSED_FORMATS]


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none that makes sense."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # damaged metadata does not matter, damaged pixels do
        return 1
    return value if isinstance(value, int) else 1


def _to_gray_or_rgb(image: Image.Image, name: str) -> Image.Image:
    image.load()
    if image.mode == "1":
        transparent = image.info.get("transparency")
        image = image.convert("L")
        if isinstance(transparent, int):  # 0 or 1, an index
            image.info["transparency"] = 255 * transparent
    if image.mode in ("L", "RGB"):
        if "transparency" not in image.info:
            return image
        image = image.convert("RGBA" if image.mode == "RGB" else "LA")
    if image.mode in _SIXTEEN_BIT or image.mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            reason = "holds integers outside 0 to 65535; save it as 8- or 16-bit gray"
            raise BadImage(f"{name} {reason}.", reason)
        return Image.fromarray(EIGHT_BIT[values])
    if image.mode == "F":
        reason = "holds floating-point values of no fixed range; save it as 8- or 16-bit gray"
        raise BadImage(f"{name} {reason}.", reason)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        gray = image.mode in ("LA", "La")
        straight = image.convert("LA" if gray else "RGBA")
        white = Image.new(straight.mode, straight.size, (255,) * len(straight.getbands()))
        white.paste(straight, mask=straight.getchannel("A"))
        return white.convert("L" if gray else "RGB")
    return image.convert("RGB")


def reason_of(error: Exception) -> str:
    """Why a file could not be decoded, in a line that does not name it."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return "not a known image format" if text.startswith("cannot identify image file") else text
