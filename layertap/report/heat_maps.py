"""Heat maps: where an image is anomalous, laid over the image."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from feature_cache.files import atomic
from feature_cache.spec import FeatureSpec
from transfer.data.datasets import Dataset
from transfer.data.images.pixels import pixels_for

AT_ONCE = 16  # images whose maps are in memory together
LOWEST, HIGHEST = 0.75, 1.25  # heat with no colour, and with the full one; at 1 an image is an anomaly
OPAQUE = 0.7  # of the full colour
OTHER = "choose another `heat_maps`"
YELLOW, RED = np.array([255.0, 220.0, 0.0]), np.array([230.0, 0.0, 0.0])


def write_heat_maps(
    folder: Path, dataset: Dataset, spec: FeatureSpec, maps_of: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Write a PNG file for each image, in the order of the images: ``00000-NAME.png``.

    Parameters
    ----------
    folder : Path
        A new folder, which appears whole or not at all.
    dataset : Dataset
    spec : FeatureSpec
        How images become pixels.
    maps_of : callable
        The heat of the images at some positions, of shape (m, *spec.size).

    Raises
    ------
    InvalidChoice
        When the folder exists.
    StorageFailure
        When it cannot be written.
    """
    with atomic.whole_folder(folder, "heat maps", lambda _: False, overwrite=False, other=OTHER) as unfinished:
        for start in range(0, len(dataset), AT_ONCE):
            positions = np.arange(start, min(start + AT_ONCE, len(dataset)))
            for position, heat in zip(positions, maps_of(positions), strict=True):
                name = dataset.ids[int(position)]
                _, picture = dataset.sources[int(position)].load()
                shown = overlay(pixels_for(picture, spec, name), heat)
                Image.fromarray(shown).save(unfinished / f"{position:05}-{_plain(name)}.png")


def overlay(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """An image under a heat map that goes from clear to yellow and to red.

    Parameters
    ----------
    pixels : ndarray of shape (height, width, 1 or 3), uint8
    heat : ndarray of shape (height, width)

    Returns
    -------
    ndarray of shape (height, width, 3), uint8

    Examples
    --------
    >>> overlay(np.full((1, 2, 1), 100, np.uint8), np.array([[0.2, 1.5]])).tolist()
    [[[100, 100, 100], [191, 30, 30]]]
    """
    share = np.clip((heat - LOWEST) / (HIGHEST - LOWEST), 0, 1)[..., None]
    colour = (1 - share) * YELLOW + share * RED
    mixed = (1 - OPAQUE * share) * pixels + OPAQUE * share * colour
    return mixed.round().astype(np.uint8)


def _plain(name: Any) -> str:
    """The end of the name of an image, as the name of a file that no system refuses."""
    return re.sub(r"[^A-Za-z0-9.-]", "_", str(name))[-80:].removesuffix(".png")
