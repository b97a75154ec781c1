"""Decoding an image, turning it upright and bringing it to the size of a net's input."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from feature_cache.errors import BadImage
from feature_cache.spec import FeatureSpec
from transfer.data.images.options import DEFAULT, Decoding, decoding_of
from transfer.data.images.picture import Picture, PillowPicture
from transfer.data.images.sources import ImageSource, reason_of
from transfer.data.images.strips import Strips, as_array
from transfer.data.transforms import transform_of

_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}

LEVELS = {"black": 0, "gray": 127}  # of the bars that `pad` adds


def read_pixels(
    source: ImageSource,
    size: tuple[int, int] | None = None,
    fit: str = "stretch",
    interpolation: str = "bilinear",
    decoding: Decoding = DEFAULT,
    fill: str = "black",
) -> tuple[bytes, np.ndarray]:
    """The digest of an image, and its pixels, upright; by default at the size that it has.

    For the parameters and errors see `to_pixels`.

    Returns
    -------
    digest : bytes
        The digest of the content, 16 bytes.
    pixels : ndarray of shape (height, width, 1) or (height, width, 3), uint8

    Examples
    --------
    >>> import numpy as np
    >>> from transfer.data.images import ArraySource
    >>> _, pixels = read_pixels(ArraySource(np.zeros((8, 6, 3), np.uint8), "black"), (4, 4))
    >>> pixels.shape
    (4, 4, 3)
    """
    digest, picture = source.load()
    return digest, to_pixels(picture, size, fit, interpolation, str(source), decoding, fill)


def thumbnail(source: ImageSource, longest: int, decoding: Decoding = DEFAULT) -> np.ndarray:
    """An image in its proportions, with no side above `longest`: (height, width, 1 or 3), uint8.

    Examples
    --------
    >>> import numpy as np
    >>> from transfer.data.images import ArraySource
    >>> thumbnail(ArraySource(np.zeros((40, 20), np.uint8), "black"), 10).shape
    (10, 5, 1)
    """
    _, picture = source.load()
    height, width = picture.shape
    share = min(1.0, longest / max(height, width))
    size = max(1, round(height * share)), max(1, round(width * share))
    return to_pixels(picture, size, name=str(source), decoding=decoding)


def pixels_for(picture: Picture | Image.Image, spec: FeatureSpec, name: str) -> np.ndarray:
    """The pixels that features of `spec` are computed from; see `to_pixels`.

    The transform of the spec, if it has one, gets the whole image in RGB, before it is fitted.

    Raises
    ------
    BadImage
        As of `to_pixels`, and where the transform fails.
    UnsafeFile
        When the user has not named the transform (see `transfer.data.transforms`).
    """
    decoding, transform = decoding_of(spec), transform_of(spec)
    if transform is not None:
        whole = to_pixels(picture, None, name=name, decoding=decoding)
        changed = transform(np.array(np.broadcast_to(whole, (*whole.shape[:2], 3))), name)
        picture = Image.fromarray(np.ascontiguousarray(changed))
    return to_pixels(picture, spec.size, spec.fit, spec.interpolation, name, decoding, spec.fill)


def to_pixels(
    picture: Picture | Image.Image,
    size: tuple[int, int] | None,
    fit: str = "stretch",
    interpolation: str = "bilinear",
    name: str = "image",
    decoding: Decoding = DEFAULT,
    fill: str = "black",
) -> np.ndarray:
    """Decode an image, turn it upright and bring it to `size`.

    16-bit gray is scaled to 8 bits, transparency is laid over white, palettes and CMYK become RGB, unless `decoding`
    says otherwise; gray images stay gray. JPEGs much larger than `size` are decoded at a half, a quarter or an eighth
    of their size.

    Parameters
    ----------
    picture : Picture or PIL.Image.Image
    size : (height, width), or None
        The size of the result; None keeps the size of the image.
    fit : {'stretch', 'crop', 'pad'}
        How an image of another shape is fitted: by changing its proportions, by cutting its longer side on both
        ends, or by filling the rest.
    interpolation : {'bilinear', 'bicubic', 'lanczos', 'nearest'}
    name : str
        The name of the image in messages.
    decoding : Decoding
    fill : {'black', 'gray'}
        What ``pad`` fills the rest with.

    Returns
    -------
    ndarray of shape (height, width, 1) or (height, width, 3), uint8

    Raises
    ------
    BadImage
        When the image is damaged, exceeds the limits, or holds values of no fixed range.

    Examples
    --------
    >>> to_pixels(Image.new("L", (30, 20), 7), (4, 4)).shape
    (4, 4, 1)
    """
    if isinstance(picture, Image.Image):
        picture = PillowPicture(picture)
    min_size = size
    if size is not None and fit == "crop":  # the longer side is cut, and so the shorter side has to be large enough
        min_size = (max(size), max(size))
    try:
        image = picture.decode(decoding, min_size, name)
        if size is None:
            return as_array(image.whole() if isinstance(image, Strips) else image)
        return as_array(_fitted(image, size, fit, _RESAMPLING[interpolation], LEVELS[fill]))
    except BadImage:
        raise
    except Exception as error:  # a damaged file may make a decoder raise any error
        reason = f"cannot be decoded ({reason_of(error)})"
        raise BadImage(f"{name} {reason}.", reason) from error


def _fitted(
    image: Image.Image | Strips, size: tuple[int, int], fit: str, resampling: Image.Resampling, level: int
) -> Image.Image:
    height, width = size
    if fit == "crop":
        return ImageOps.fit(image, (width, height), resampling)  # type: ignore[arg-type]
    if fit == "pad":
        colour = level if image.mode == "L" else (level,) * 3
        return ImageOps.pad(image, (width, height), resampling, colour)  # type: ignore[arg-type]
    if image.size != (width, height):
        return image.resize((width, height), resampling)
    return image.whole() if isinstance(image, Strips) else image
