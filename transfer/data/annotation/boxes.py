"""Boxes in images: from numbers of an annotation file to whole pixels, and from stored images to upright ones."""

from __future__ import annotations

import numpy as np

from transfer.data.images.orientation import SIDEWAYS

Box = tuple[int, int, int, int]  # left, top, width and height, in pixels


def to_pixels(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Boxes in whole pixels: their edges at the nearest borders of pixels, and within their images.

    Parameters
    ----------
    boxes : ndarray of shape (n, 4), float64
        Left, top, width and height, in pixels; finite.
    sizes : ndarray of shape (n, 2), int64
        Width and height of the image of each box.

    Returns
    -------
    ndarray of shape (n, 4), int64
        The width or height is 0 where nothing is left.

    Examples
    --------
    >>> to_pixels(np.array([[1.4, -3, 2.2, 5], [30, 0, 5, 5]]), np.array([[20, 10], [20, 10]])).tolist()
    [[1, 0, 3, 2], [20, 0, 0, 5]]
    """
    first, last = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    corners = [np.clip(np.floor(corner + 0.5), 0, sizes).astype(np.int64) for corner in (first, last)]
    return np.concatenate([corners[0], np.maximum(corners[1] - corners[0], 0)], axis=1)


def upright(box: Box, orientation: int, size: tuple[int, int]) -> Box:
    """A box of the image as it is stored, in the image as it is turned upright.

    Parameters
    ----------
    box : (left, top, width, height)
    orientation : int
        The EXIF orientation of the image, 1 to 8.
    size : (width, height)
        Of the stored image.

    Examples
    --------
    >>> upright((0, 0, 3, 2), 6, (30, 20))  # its first row becomes the last column
    (18, 0, 2, 3)
    """
    left, top, width, height = box
    right, bottom = size[0] - left - width, size[1] - top - height  # what is beyond the box
    across = right if orientation in (2, 3, 7, 8) else left
    down = bottom if orientation in (3, 4, 6, 7) else top
    return (down, across, height, width) if orientation in SIDEWAYS else (across, down, width, height)
