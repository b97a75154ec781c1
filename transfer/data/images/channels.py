"""Bands and pages of a file as the channels of one image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feature_cache.errors import BadImage

MOST_CHANNELS = 3


def pages_as_channels(pages: Sequence[np.ndarray], count: int, name: str) -> tuple[np.ndarray, str | None]:
    """The first pages of a file as the channels of one image, and a remark where it is not plain which are used.

    Parameters
    ----------
    pages : sequence of ndarray of shape (height, width) or (height, width, 1)
        The first `MOST_CHANNELS` pages, or fewer where the file has fewer.
    count : int
        The number of all pages of the file.
    name : str
        The name of the image in messages.

    Returns
    -------
    channels : ndarray of shape (height, width, k)
    remark : str or None

    Raises
    ------
    BadImage
        When the pages differ in their size or in their numbers, or have several bands.

    Examples
    --------
    >>> pages_as_channels([np.zeros((2, 4)), np.ones((2, 4))], 2, "a.tif")[0].shape
    (2, 4, 2)
    """
    planes = [page[..., 0] if page.ndim == 3 and page.shape[2] == 1 else page for page in pages]
    if len({(plane.shape, plane.dtype) for plane in planes}) > 1 or planes[0].ndim != 2:
        reason = "holds pages of several sizes or of several bands, which cannot be the channels of one image"
        raise BadImage(f"{name} {reason}.", reason)
    used = "the first three" if count > MOST_CHANNELS else "both"
    remark = f"of its {count} pages {used} are taken as colours" if count != MOST_CHANNELS else None
    return np.stack(planes, axis=-1), remark


def gray_or_rgb(pixels: np.ndarray) -> np.ndarray:
    """Gray of shape (height, width) from one channel, colour of shape (height, width, 3) from two or more.

    A missing blue channel is black.

    Examples
    --------
    >>> gray_or_rgb(np.ones((2, 4, 2), np.uint8))[0, 0].tolist()
    [1, 1, 0]
    """
    if pixels.shape[-1] == 1:
        return np.ascontiguousarray(pixels[..., 0])
    if pixels.shape[-1] == 2:
        pixels = np.concatenate([pixels, np.zeros_like(pixels[..., :1])], axis=-1)
    return np.ascontiguousarray(pixels[..., :MOST_CHANNELS])
