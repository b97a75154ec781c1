"""From the bytes of a file to a `Picture`: which format they are, and who reads it."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from functools import cache
from typing import IO, Any

from PIL import Image, features

from feature_cache.errors import BadImage
from transfer.data.images import cost
from transfer.data.images.decoder_warnings import silence_libtiff
from transfer.data.images.picture import Picture, PillowPicture
from transfer.data.images.tiff import REDUCED, SUBFILE_TYPE, TiffPicture, no_page, page_numbers
from transfer.data.images.truncation import other_process

# Pillow's readers that start another program, or only know how to hand a file on.
_REFUSED_FORMATS = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "FITS"}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF = (b"avif", b"avis")
_CONVERT = "convert it to PNG, TIFF or JPEG"
_CONVERT_FLOATS = "save it as TIFF of floating point, which is read by a window (`window='LOW,HIGH'`)"
# Formats that have to be named where they are not read, by how they begin (see `_brand` for those of one container).
_FOREIGN = (
    (b"\xff\x0a", f"a JPEG XL file; {_CONVERT}"),
    (b"\0\0\0\x0cJXL ", f"a JPEG XL file; {_CONVERT}"),
    (b"II\xbc\x01", f"a JPEG XR file; {_CONVERT}"),
    (b"v/1\x01", f"an OpenEXR file; {_CONVERT_FLOATS}"),
    (
        b"#?RADIANCE",
        f"a Radiance HDR file; {_CONVERT_FLOATS}",
    ),
    (
        b"PF\n",
        f"a PFM file of colours; {_CONVERT_FLOATS}",
    ),
    (b"P7\n", f"a PAM file of a kind that is not read; {_CONVERT}"),
    (b"8BPS", f"a Photoshop file of a kind that is not read, such as of 16 bits; {_CONVERT}"),
    (b"%PDF", "a PDF file"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "an EPS file"),
    (b"<svg", "an SVG drawing"),
    (b"SIMPLE  =", "a FITS file"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x93NUMPY", "an array of NumPy"),
    (b"Rar!", "a rar archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"<!DOCTYPE html", "a web page"),
    (b"<html", "a web page"),
    (b"version https://git-lfs", "a pointer of Git LFS, in place of the file itself (git lfs pull fetches it)"),
)


def open_picture(encoded: bytes, *, page: int | None = None, max_pixels: int = cost.MAX_PIXELS) -> Picture:
    """The image that these bytes of a file hold; no more than its header is decoded.

    Parameters
    ----------
    page : int, optional
        Of a file that holds several.
    max_pixels : int
        The most that are decoded (see `transfer.data.images.cost`).

    Raises
    ------
    Exception
        BadImage, whose reason does not name the file, or whatever Pillow raises for a damaged one.
    """
    if max_pixels > cost.MAX_PIXELS and Image.MAX_IMAGE_PIXELS is not None:
        # Whoever asks for more than Pillow allows has to have its own limit raised as well.
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels)
    try:
        image = _opened(encoded)
    except BadImage:
        raise
    except Exception:
        if encoded[:4] in _TIFF:
            return _by_tifffile(encoded, page, max_pixels)
        if foreign := _foreign(encoded):
            raise BadImage(foreign, foreign) from None
        raise
    if page is not None:
        try:
            image.seek(page)
        except EOFError:
            raise no_page(page, getattr(_opened(encoded), "n_frames", 1)) from None
    elif image.format == "TIFF" and (number := _first_in_full(image, encoded)):
        picture = open_picture(encoded, page=number, max_pixels=max_pixels)
        picture.recipe = max(picture.recipe, 2)  # once it was the smaller copy
        picture.remarks.append(f"its first page is a smaller copy of another one, and page {number} is read")
        return picture
    if image.format == "TIFF" and (_has_planes(image) or image.info.get("compression") == "webp"):
        return _by_tifffile(encoded, page, max_pixels)
    return PillowPicture(image, encoded, page=page, max_pixels=max_pixels)


def _first_in_full(image: Image.Image, encoded: bytes) -> int:
    """The first page of a TIFF that is no smaller copy of another one; 0 where there is none, or damage hides it."""
    if image.tag_v2.get(SUBFILE_TYPE) != REDUCED:  # type: ignore[attr-defined]
        return 0
    try:
        count = image.n_frames  # type: ignore[attr-defined]
        image.seek(0)
    except Exception:
        return 0
    return page_numbers(encoded, count)[0]


def _has_planes(image: Image.Image) -> bool:
    """Whether the bands of a TIFF lie one after another in a way that Pillow opens and cannot decode."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    bits = tags.get(258, (1,))
    return tags.get(284) == 2 and len(bits) > 1 and (set(bits) != {8} or len(bits) == 2)


def _by_tifffile(encoded: bytes, page: int | None, max_pixels: int) -> Picture:
    try:
        return TiffPicture(io.BytesIO(encoded), page=page, max_pixels=max_pixels)
    except BadImage:
        raise
    except Exception as error:  # whatever a damaged file leads it to
        reason = "is a damaged TIFF file"
        raise BadImage(reason, reason) from error


def _opened(encoded: bytes) -> Image.Image:
    if _brand(encoded) in _HEIF:
        reader = _heif_reader()
        if reader is None:
            reason = "is a HEIC photograph; reading it needs pillow-heif: pip install 'layertap[heif]'"
            raise BadImage(reason, reason)
        return reader(io.BytesIO(encoded))
    try:
        return Image.open(io.BytesIO(encoded), formats=_formats())
    except Image.DecompressionBombError:
        # Pillow's own limit counts what is stored. Ours counts what will be decoded, and is checked then.
        for name in _formats():
            factory, accept = Image.OPEN[name]
            if accept is not None and accept(encoded[:16]) is True:
                return factory(io.BytesIO(encoded), "")
        raise


def _brand(encoded: bytes) -> bytes:
    """The brand of a file in the container of MPEG-4, which HEIC and AVIF share with videos."""
    return encoded[8:12] if encoded[4:8] == b"ftyp" else b""


def _foreign(encoded: bytes) -> str | None:
    """The end of a sentence on what a file is that is not read; None where its first bytes do not show it."""
    brand, begins = _brand(encoded), encoded[:64].lstrip(b"\xef\xbb\xbf \r\n\t")
    if brand in _AVIF:
        if features.check("avif"):
            return "is a damaged AVIF image"
        return "is an AVIF image, which this installation of Pillow cannot read; install Pillow from a wheel"
    if brand == b"crx ":
        return "is a raw file of a camera; convert it to TIFF or JPEG"
    if brand:
        return "is a video or another file in the container of MPEG-4"
    if encoded[128:132] == b"DICM":
        return "is a DICOM file; convert it to PNG or TIFF of 16 bits"
    if process := other_process(encoded):
        return f"is {process}, which is not read; {_CONVERT}"
    for prefix, what in _FOREIGN:
        if begins.lower().startswith(prefix.lower()):
            return f"is {what}"
    return None


@cache
def _formats() -> list[str]:
    Image.init()
    silence_libtiff()
    return [name for name in Image.OPEN if name not in _REFUSED_FORMATS]


@cache
def _heif_reader() -> Callable[[IO[bytes]], Image.Image] | None:
    """What reads HEIC, where the package for that is there.

    It is not added to Pillow's formats, so that what other code of this process reads does not depend on what has been
    read before.
    """
    if importlib.util.find_spec("pillow_heif") is None:
        return None
    import pillow_heif

    pillow_heif.options.THUMBNAILS = False
    return pillow_heif.HeifImageFile
