"""Short fingerprints of images that look alike, by which near-duplicates are found.

The difference hash, dHash (N. Krawetz, "Kind of Like That", The Hacker Factor Blog, 2013,
https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html), says of each of 8 x 8 places whether
it is lighter than the place to its left and, here, also whether it is lighter than the one above it: 128 bits in all.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

HASH_SIDE = 8
HASH_BITS = 2 * HASH_SIDE**2
GRAY_SIDE = 32  # of the small gray image that is kept of each image


def difference_hash(gray: Image.Image) -> np.ndarray:
    """The difference hash of a gray image.

    Parameters
    ----------
    gray : PIL.Image.Image of mode ``L``

    Returns
    -------
    ndarray of shape (128,), bool

    Examples
    --------
    >>> int(difference_hash(Image.linear_gradient("L")).sum())  # each row is lighter than the one above it
    64
    """
    side = HASH_SIDE
    across = np.asarray(gray.resize((side + 1, side), Image.Resampling.BILINEAR))
    down = np.asarray(gray.resize((side, side + 1), Image.Resampling.BILINEAR))
    return np.concatenate([(across[:, 1:] > across[:, :-1]).ravel(), (down[1:] > down[:-1]).ravel()])
