"""Pieces of photographs, as a data set: the class of each piece is the photograph that it was cut from.

Fourteen photographs that scikit-image and scikit-learn bring are made gray, so that colours give nothing away, and cut
into nine pieces each.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_images

import layertap as lt

NAMES = (
    *("astronaut", "brick", "cat", "coffee", "coins", "grass", "gravel"),
    *("hubble_deep_field", "immunohistochemistry", "moon", "retina", "rocket"),
)
ACROSS = 3  # pieces along each side of the largest square in the middle
SIDE = 112  # of a piece, in pixels


def pieces(file: Path) -> lt.Dataset:
    """The pieces, which are written to an ``.npz`` file."""
    photographs = {name: getattr(data, name)() for name in NAMES}
    photographs |= zip(("temple", "flower"), load_sample_images().images, strict=True)
    images = [piece for photograph in photographs.values() for piece in _cut(photograph)]
    np.savez(file, images=np.stack(images), labels=np.repeat(list(photographs), ACROSS**2))
    return lt.load_dataset(file)


def _cut(photograph: np.ndarray) -> list[np.ndarray]:
    image = Image.fromarray(photograph).convert("L")
    side = min(image.size) // ACROSS
    left, upper = ((length - ACROSS * side) // 2 for length in image.size)
    corners = [(left + column * side, upper + row * side) for row in range(ACROSS) for column in range(ACROSS)]
    boxes = [(x, y, x + side, y + side) for x, y in corners]
    return [np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box)) for box in boxes]
