"""Images to compare an exported model on, and their features by the way that every extraction takes."""

from __future__ import annotations

import numpy as np

from feature_cache.errors import BadData, BadImage
from feature_cache.spec import FeatureSpec
from transfer.data.datasets import Dataset
from transfer.data.images import ArraySource, pixels_for
from transfer.engines.runner import BatchRunner
from transfer.extraction.batches import Batch
from transfer.extraction.request import FeatureRequest


def some_images(dataset: Dataset, most: int) -> Dataset:
    """At most so many images, evenly spaced over the data set."""
    return dataset.select(np.unique(np.linspace(0, len(dataset) - 1, min(most, len(dataset))).astype(np.int64)))


def random_images(count: int, size: tuple[int, int], seed: int = 0) -> Dataset:
    """Colour images of random squares, finer and coarser, of much and of little contrast."""
    rng = np.random.default_rng(seed)
    sources = []
    for number in range(count):
        side = int(rng.integers(1, max(2, min(size) // 2)))
        low, high = np.sort(rng.integers(0, 256, 2))
        squares = rng.integers(low, high + 1, (-(-size[0] // side), -(-size[1] // side), 3), np.uint8)
        pixels = squares.repeat(side, axis=0).repeat(side, axis=1)[: size[0], : size[1]]
        sources.append(ArraySource(np.ascontiguousarray(pixels), f"random image {number}"))
    return Dataset("random images", tuple(map(str, sources)), tuple(sources), None)


def pixels_of(dataset: Dataset, spec: FeatureSpec) -> list[np.ndarray]:
    """The pixels of the images that can be read, as the net is given them.

    Raises
    ------
    BadData
        When none can be.
    """
    pixels = []
    for source in dataset.sources:
        try:
            pixels.append(pixels_for(source.load()[1], spec, str(source)))
        except BadImage:  # a data set may hold some
            continue
    if not pixels:
        raise BadData(f"none of {len(dataset)} images of {dataset.name} can be read.")
    return pixels


def features_of(pixels: list[np.ndarray], request: FeatureRequest) -> np.ndarray:
    """Features of shape (n, d), by the engine that an extraction would choose.

    They are not rounded to what is stored.
    """
    engines = BatchRunner(request, most=len(pixels))
    rows: dict[int, np.ndarray] = {}
    kinds = [[n for n, image in enumerate(pixels) if image.shape[-1] == channels] for channels in (1, 3)]
    chosen = [
        kind[start : start + engines.batch_size] for kind in kinds for start in range(0, len(kind), engines.batch_size)
    ]
    batches = (
        Batch(np.zeros((len(some), 16), np.uint8), np.zeros(len(some), np.uint32), np.stack([pixels[n] for n in some]))
        for some in chosen
    )
    for some, (_, [features]) in zip(chosen, engines.run(batches), strict=True):
        rows.update(zip(some, features.reshape(len(some), -1), strict=True))
    return np.stack([rows[number] for number in range(len(pixels))])


def in_colour(pixels: list[np.ndarray]) -> np.ndarray:
    """Images of shape (n, height, width, 3): gray is replicated."""
    return np.stack([np.broadcast_to(image, (*image.shape[:2], 3)) for image in pixels])
