"""From the bytes of a file to a `Picture`: recognising the format and choosing the reader."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from functools import cache
from typing import IO, Any

from PIL import Image, features

from feature_cache.errors import BadImage
from transfer.data.images.cost import MAX_PIXELS
from transfer.data.images.decoder_warnings import silence_libtiff
from transfer.data.images.picture import Picture, PillowPicture
from transfer.data.images.tiff import REDUCED, SUBFILE_TYPE, TiffPicture, no_page, page_numbers
from transfer.data.images.truncation import other_process
from transfer.file_signatures import AVIF_BRANDS, HEIF_BRANDS, kind_by_signature, media_brand

# Formats for which Pillow would start another program, or only looks for a reader elsewhere.
_REFUSED_FORMATS = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "FITS"}
_CONVERT = "convert it to PNG, TIFF or JPEG"
_CONVERT_FLOATS = "save it as TIFF of floating point, which is read by a window (`window='LOW,HIGH'`)"
# Formats that are not read, by their signature, as the end of a sentence on such a file.
_FOREIGN = {
    "JPEG XL": f"a JPEG XL file; {_CONVERT}",
    "JPEG XR": f"a JPEG XR file; {_CONVERT}",
    "OpenEXR": f"an OpenEXR file; {_CONVERT_FLOATS}",
    "Radiance HDR": f"a Radiance HDR file; {_CONVERT_FLOATS}",
    "PFM": f"a PFM file of colours; {_CONVERT_FLOATS}",
    "PAM": f"a PAM file of a kind that is not read; {_CONVERT}",
    "Photoshop": f"a Photoshop file of a kind that is not read, such as of 16 bits; {_CONVERT}",
    "PDF": "a PDF file",
    "PostScript": "a PostScript file",
    "EPS": "an EPS file",
    "SVG": "an SVG drawing",
    "FITS": "a FITS file",
    "HDF5": "an HDF5 file",
    "ZIP": "a zip archive",
    "gzip": "a gzip file",
    "NumPy array": "an array of NumPy",
    "RAR": "a rar archive",
    "7z": "a 7z archive",
    "Matroska": "a Matroska or WebM video",
    "HTML": "a web page",
    "Git LFS pointer": "a pointer of Git LFS, in place of the file itself (git lfs pull fetches it)",
}


def open_picture(encoded: bytes, *, page: int | None = None, max_pixels: int = MAX_PIXELS) -> Picture:
    """The image that the bytes of a file hold; only its header is decoded.

    Parameters
    ----------
    encoded : bytes
        The content of the file.
    page : int, optional
        The page that is meant, of a file that holds several.
    max_pixels : int
        The most pixels that are decoded (see `transfer.data.images.cost`).

    Raises
    ------
    Exception
        BadImage, whose reason does not name the file, or whatever Pillow raises for a damaged one.
    """
    if max_pixels > MAX_PIXELS and Image.MAX_IMAGE_PIXELS is not None:
        # Pillow refuses larger images by itself, and so its own limit has to rise as well.
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, max_pixels)
    try:
        image = _opened(encoded)
    except BadImage:
        raise
    except Exception:
        if kind_by_signature(encoded[:64]) == "TIFF":
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
        picture.recipe = max(picture.recipe, 2)  # an older version read the smaller copy
        picture.remarks.append(f"its first page is a smaller copy of another one, and page {number} is read")
        return picture
    if image.format == "TIFF" and (_has_planes(image) or image.info.get("compression") == "webp"):
        return _by_tifffile(encoded, page, max_pixels)
    return PillowPicture(image, encoded, page=page, max_pixels=max_pixels)


def _first_in_full(image: Image.Image, encoded: bytes) -> int:
    """The first page of a TIFF that is no smaller copy of another page; 0 if there is none, or damage hides it."""
    if image.tag_v2.get(SUBFILE_TYPE) != REDUCED:  # type: ignore[attr-defined]
        return 0
    try:
        count = image.n_frames  # type: ignore[attr-defined]
        image.seek(0)
    except Exception:
        return 0
    return page_numbers(encoded, count)[0]


def _has_planes(image: Image.Image) -> bool:
    """Whether the bands of a TIFF are stored one after another, in a way that Pillow opens but cannot decode."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    bits = tags.get(258, (1,))
    return tags.get(284) == 2 and len(bits) > 1 and (set(bits) != {8} or len(bits) == 2)


def _by_tifffile(encoded: bytes, page: int | None, max_pixels: int) -> Picture:
    try:
        return TiffPicture(io.BytesIO(encoded), page=page, max_pixels=max_pixels)
    except BadImage:
        raise
    except Exception as error:  # a damaged file may make tifffile raise any error
        reason = "is a damaged TIFF file"
        raise BadImage(reason, reason) from error


def _opened(encoded: bytes) -> Image.Image:
    if media_brand(encoded) in HEIF_BRANDS:
        reader = _heif_reader()
        if reader is None:
            reason = "is a HEIC photograph; reading it needs pillow-heif: pip install 'layertap[heif]'"
            raise BadImage(reason, reason)
        return reader(io.BytesIO(encoded))
    try:
        return Image.open(io.BytesIO(encoded), formats=_formats())
    except Image.DecompressionBombError:
        # Pillow's own limit counts stored pixels. Ours counts decoded ones, and is checked when they are decoded.
        for name in _formats():
            factory, accept = Image.OPEN[name]
            if accept is not None and accept(encoded[:16]) is True:
                return factory(io.BytesIO(encoded), "")
        raise


def _foreign(encoded: bytes) -> str | None:
    """The end of a sentence on the kind of a file that is not read; None where its first bytes do not show it."""
    brand = media_brand(encoded)
    if brand in AVIF_BRANDS:
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
    kind = _FOREIGN.get(kind_by_signature(encoded[:64]) or "")
    return kind and f"is {kind}"


@cache
def _formats() -> list[str]:
    Image.init()
    silence_libtiff()
    return [name for name in Image.OPEN if name not in _REFUSED_FORMATS]


@cache
def _heif_reader() -> Callable[[IO[bytes]], Image.Image] | None:
    """The reader of HEIC files, if the package pillow-heif is installed; None otherwise.

    It is not added to Pillow's own formats: other code of this process must not read more or fewer formats because
    Layertap has read an image before.
    """
    if importlib.util.find_spec("pillow_heif") is None:
        return None
    import pillow_heif  # an optional package

    pillow_heif.options.THUMBNAILS = False
    return pillow_heif.HeifImageFile
