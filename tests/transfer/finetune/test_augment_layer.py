"""Views that are made where a net is trained: those of `Augmentation`."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from transfer.data.augment import Augmentation

VIEWS = range(6)
EVERYTHING = "flip,vflip,rotate=30,shift=0.1,zoom=0.2,brightness=0.3,contrast=0.4"


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (57, 31)], ids=str)
@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("flip,vflip", 0),
        ("brightness=0.4,contrast=0.5", 0),
        ("rotate=180", 1),
        ("shift=0.4", 1),
        ("zoom=0.5", 1),
        (EVERYTHING, 2),  # a level that brightness and contrast enlarge
    ],
)
def test_the_layer_makes_the_views_of_the_augmentation(
    text: str, most: int, size: tuple[int, int], rng: np.random.Generator
) -> None:
    from transfer.finetune.augment_layer import Augment

    noise = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
    augmentation = Augmentation.parse(text)
    for image in (noise, noise.filter(ImageFilter.GaussianBlur(2))):
        pixels = np.asarray(image)
        expected = np.stack([augmentation(pixels, b"digest", view) for view in VIEWS])
        numbers = np.stack([augmentation.numbers(b"digest", view, *size) for view in VIEWS])
        made = Augment()(np.stack([pixels] * len(VIEWS)), numbers)
        assert made.dtype in ("uint8", np.uint8)
        apart = np.abs(np.asarray(made).astype(int) - expected)
        assert not apart[0].any()
        assert (apart > 0).mean() <= 0.005
        assert apart.max() <= most
