"""Images of a RAMP workflow: how its files and its batches become the pixels that a net takes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from feature_cache.errors import BadData, BadImage, LayertapError, MissingDependency
from feature_cache.keys import DIGEST_BYTES, digest_array
from transfer.data.images import FileSource, reason_of, to_pixels

PLAIN_FORMATS, PLAIN_MODES = ("PNG", "JPEG", "BMP"), ("L", "RGB", "RGBA")


def fitted(
    x: np.ndarray, size: tuple[int, int], fit: str = "stretch", interpolation: str = "bilinear", fill: str = "gray"
) -> np.ndarray:
    """An image of any size and mode, as ``skimage.io.imread`` reads it, as the pixels that a net is given.

    Parameters
    ----------
    x : ndarray of shape (height, width) or (height, width, 1 to 4)
        Gray, gray with transparency, RGB or RGBA: uint8, int8 from 0, which are the uint8 of the same numbers, int16
        from 0 to 32767, as scikit-image has it, other integers from 0 to 65535, floats from 0 to 1, or booleans.
    size : (height, width)
    fit, interpolation, fill : str
        See `transfer.data.images.to_pixels`; `fill` is what ``pad`` adds.

    Returns
    -------
    ndarray of shape (*size, 3), uint8
        Always of three channels: workflows put images of a batch into one array.

    Raises
    ------
    BadData
        For other shapes and values.

    Examples
    --------
    >>> image = fitted(np.ones((40, 30), bool), (32, 32))
    >>> image.shape, image.max()
    ((32, 32, 3), np.uint8(255))
    """
    x = np.asarray(x)
    if x.ndim == 3 and x.shape[2] == 1:
        x = x[..., 0]
    if x.ndim not in (2, 3) or x.shape[2:] not in ((), (2,), (3,), (4,)) or not x.size:
        raise BadData(f"an image has the shape {x.shape}; it is (height, width), or (height, width, channels).")
    pixels = to_pixels(Image.fromarray(np.ascontiguousarray(_as_uint8(x))), size, fit, interpolation, fill=fill)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def _as_uint8(x: np.ndarray) -> np.ndarray:
    if x.dtype == np.uint8:
        return x
    # Kits of ramp-workflow have written the shades of uint8 as int8.
    most = {"int8": 255, "int16": 32767}.get(x.dtype.name) or {"b": 1, "u": 65535, "i": 65535, "f": 1}.get(x.dtype.kind)
    if most is None or not (x.min() >= 0 and x.max() <= most):
        shades = "" if most is None else f" from {x.min():g} to {x.max():g}"
        raise BadData(
            f"an image holds {x.dtype}{shades}; shades are integers from 0 (int16 to 32767, others to 65535), or "
            "floats from 0 to 1: write the images as uint8."
        )
    return np.rint(x.astype(np.float64) * (255 / most)).astype(np.uint8)


def as_pixels(X: Any, size: tuple[int, int]) -> np.ndarray:
    """The images of a batch as a net takes them.

    Parameters
    ----------
    X : array of shape (n, height, width, 1 or 3), (n, 1, height, width) or (n, height, width)
        Of any numeric dtype, from 0 (black) to 255; fractions are rounded. RAMP workflows put the channel of images of
        shape (height, width) first.
    size : (height, width)
        The size that the images must have.

    Returns
    -------
    ndarray of shape (n, height, width, 1 or 3), uint8

    Raises
    ------
    BadData
        For other shapes and values.
    """
    X = np.asarray(X)
    if X.ndim == 3:
        X = X[..., None]
    elif X.ndim == 4 and X.shape[1] == 1 and X.shape[3] not in (1, 3):
        X = np.moveaxis(X, 1, -1)
    if X.ndim != 4 or X.shape[1:3] != tuple(size) or X.shape[3] not in (1, 3):
        raise BadData(
            f"a batch has the shape {X.shape}, and the net takes gray or colour images of {size[0]} x {size[1]}: "
            "have transform return them so."
        )
    if X.dtype == np.uint8:
        return X
    if X.dtype.kind not in "iuf":
        raise BadData(f"a batch holds {X.dtype}; pixels are numbers from 0 to 255.")
    least, most = (float(X.min()), float(X.max())) if X.size else (0.0, 0.0)
    if not (least >= 0 and most <= 255):
        raise BadData(f"pixels are from 0 to 255; received {least:g} to {most:g}: the net scales them by itself.")
    if 0 < most <= 1 and X.dtype.kind == "f" and (X % 1).any():
        raise BadData(f"pixels are from 0 to 255; received fractions of up to {most:g}: multiply them by 255.")
    return np.rint(X).astype(np.uint8)


def digests_of(pixels: np.ndarray) -> np.ndarray:
    """The digest of each image as an array; gray images have the shape (height, width) there.

    Parameters
    ----------
    pixels : ndarray of shape (n, height, width, 1 or 3), uint8

    Returns
    -------
    ndarray of shape (n, 16), uint8
    """
    images = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    joined = b"".join(digest_array(image) for image in images)
    return np.frombuffer(joined, np.uint8).reshape(-1, DIGEST_BYTES)


def scikit_image() -> Any:
    """The module ``skimage.io``, which only kits need.

    Raises
    ------
    MissingDependency
        When it is not installed.
    """
    try:
        import skimage.io  # optional, and slow to load
    except ModuleNotFoundError as error:
        if error.name != "skimage":
            raise
        raise MissingDependency("RAMP kits need scikit-image: pip install 'layertap[ramp]'") from error
    return skimage.io


def read_image(path: str) -> np.ndarray:
    """The image at `path` as ramp-workflow reads it, by scikit-image.

    Raises
    ------
    BadImage
        When it is missing, or cannot be read.
    """
    try:
        # Scikit-image reads more than Pillow does by itself: HEIC, where the package for that is there.
        with contextlib.suppress(UnidentifiedImageError), Image.open(path) as image:
            # What scikit-image would do by way of imageio, five times as fast.
            if image.format in PLAIN_FORMATS and image.mode in PLAIN_MODES and not getattr(image, "is_animated", False):
                return np.array(image)
        return np.array(scikit_image().imread(path))
    except LayertapError:
        raise
    except FileNotFoundError:
        raise BadImage(f"there is no image {path}.") from None
    except Exception as error:  # readers raise whatever a damaged file leads them to
        FileSource(Path(path)).load()  # raises for what is no image at all
        raise BadImage(f"{path} is not an image that can be read ({reason_of(error)}).") from error
