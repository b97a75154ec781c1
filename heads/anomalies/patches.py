"""Patch features: maps of several layers, averaged over small neighbourhoods and laid on one grid.

These are the "locally aware patch features" of Roth et al., "Towards total recall in industrial anomaly detection"
(CVPR 2022), section 3.1. The features of a patch are the means over its neighbourhood (p x p positions, equations 1 and
2), and the maps of deeper layers are interpolated bilinearly to the grid of the shallowest one. The paper also averages
groups of channels, so that a patch has 1,024 features at most; here all channels are kept, as anomalib keeps them.
Beyond the border of a map features are 0, and divide the sum like all others, as in the code of the authors and in
anomalib. A mean over the positions that exist would be over fewer at the border, so it would vary more, and border
patches would be the furthest ones of nearly every image.

A mean over neighbours followed by an interpolation is linear along each axis, so each layer takes two matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

Shape = tuple[int, int, int]  # height, width and channels of a map


def patch_features(rows: np.ndarray, shapes: Sequence[Shape], neighbourhood: int = 3) -> np.ndarray:
    """The features of all patches.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        The flattened maps of each image, one layer after another.
    shapes : sequence of (height, width, channels)
        The shape of the map of each layer.
    neighbourhood : int
        The odd side p of the square over which features are averaged.

    Returns
    -------
    ndarray of shape (n, height, width, channels)
        On the grid of the largest map, with the channels of all layers; of the dtype of the rows.

    Examples
    --------
    >>> rows = np.array([[0.0, 3.0, 6.0, 1.0]])  # a map of three positions, and one of a single position
    >>> patch_features(rows, [(1, 3, 1), (1, 1, 1)])[0, 0].tolist()
    [[1.0, 1.0], [3.0, 1.0], [3.0, 1.0]]
    """
    height, width = grid_of(shapes)
    layers, start = [], 0
    for map_height, map_width, channels in shapes:
        end = start + map_height * map_width * channels
        down = _resampling(map_height, height, neighbourhood).astype(rows.dtype)
        across = _resampling(map_width, width, neighbourhood).astype(rows.dtype)
        maps = rows[:, start:end].reshape(len(rows), map_height, map_width * channels)
        tall = (down @ maps).reshape(len(rows), height, map_width, channels)
        layers.append(across @ tall)
        start = end
    return np.concatenate(layers, axis=-1)


def grid_of(shapes: Sequence[Shape]) -> tuple[int, int]:
    """The height and the width of the grid on which the maps are laid."""
    return max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)


def resize(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Maps of shape (n, height, width), interpolated bilinearly to another size: (n, *size), float64."""
    down, across = (_resampling(old, new, 1) for old, new in zip(maps.shape[1:], size, strict=True))
    resized: np.ndarray = down @ maps @ across.T
    return resized


@cache
def _resampling(size: int, new_size: int, neighbourhood: int) -> np.ndarray:
    """The matrix of shape (new_size, size) that averages over neighbours and then interpolates linearly."""
    positions = np.arange(size)
    near = np.abs(positions[:, None] - positions) <= neighbourhood // 2
    means = near / min(neighbourhood, size)  # a map that is smaller than the neighbourhood has no border to speak of
    # Pixels have areas: the centre of pixel i is at i + 1/2, and what is beyond the outer centres takes their values.
    places = np.clip((np.arange(new_size) + 0.5) * size / new_size - 0.5, 0, size - 1)
    weights = np.maximum(0.0, 1.0 - np.abs(places[:, None] - positions))
    resampling: np.ndarray = weights @ means
    return resampling
