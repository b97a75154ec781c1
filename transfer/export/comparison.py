"""The comparison of two models: the images that they are compared on, and how far their probabilities are apart.

Features are computed here as every extraction computes them, but are not written to a cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from feature_cache.errors import BadData, BadImage
from feature_cache.spec import FeatureSpec
from transfer.data.datasets import Dataset
from transfer.data.images import ArraySource, pixels_for
from transfer.engines.batch import Batch
from transfer.engines.runner import BatchRunner
from transfer.request import FeatureRequest

BATCH_SIZE = 8  # images that a whole model is given at a time


def largest_difference(probabilities: np.ndarray, others: np.ndarray) -> float:
    """The largest absolute difference between the probabilities of two models for the same images.

    Parameters
    ----------
    probabilities, others : ndarray of shape (n, n_classes)

    Returns
    -------
    float
        At least 0: infinite where the shapes differ, and NaN where a probability is NaN.

    Examples
    --------
    >>> largest_difference(np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]]))
    0.25
    >>> largest_difference(np.zeros((1, 2)), np.zeros((1, 3)))
    inf
    """
    return float(np.abs(probabilities - others).max()) if probabilities.shape == others.shape else math.inf


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """Positions of at most `most` of `count` images, evenly spaced and in rising order.

    Examples
    --------
    >>> evenly_spaced(9, 3)
    array([0, 4, 8])
    """
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))


def random_images(count: int, size: tuple[int, int], seed: int = 0) -> Dataset:
    """Colour images of random squares: some fine and some coarse, some of much and some of little contrast.

    Parameters
    ----------
    size : (height, width)

    Returns
    -------
    Dataset
        Without labels; pixels of shape (height, width, 3), uint8.

    Examples
    --------
    >>> images = random_images(2, (4, 6))
    >>> [source.pixels.shape for source in images.sources]
    [(4, 6, 3), (4, 6, 3)]
    """
    rng = np.random.default_rng(seed)
    sources = []
    for number in range(count):
        side = int(rng.integers(1, max(2, min(size) // 2)))
        low, high = np.sort(rng.integers(0, 256, 2))
        squares = rng.integers(low, high + 1, (-(-size[0] // side), -(-size[1] // side), 3), np.uint8)
        pixels = squares.repeat(side, axis=0).repeat(side, axis=1)[: size[0], : size[1]]
        sources.append(ArraySource(np.ascontiguousarray(pixels), f"random image {number}"))
    return Dataset("random images", tuple(map(str, sources)), tuple(sources), None)


def readable_pixels(dataset: Dataset, spec: FeatureSpec) -> list[np.ndarray]:
    """The pixels that the net of `spec` receives, for each image of `dataset` that can be read.

    Returns
    -------
    list of ndarray of shape (height, width, channels), uint8
        With 1 channel for gray images and 3 for colour images.

    Raises
    ------
    BadData
        When no image can be read.
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


def compute_features(pixels: list[np.ndarray], requests: Sequence[FeatureRequest]) -> np.ndarray:
    """The features that several requests give for the same images, side by side.

    They are computed by the engine that an extraction would choose, and are not rounded to the type that a cache
    stores.

    Parameters
    ----------
    pixels : list of ndarray of shape (height, width, channels), uint8
    requests : sequence of FeatureRequest
        Each with one layer.

    Returns
    -------
    ndarray of shape (n, d)
        The features of each request are flattened.
    """
    return np.concatenate([_features(pixels, request) for request in requests], axis=1)


def _features(pixels: list[np.ndarray], request: FeatureRequest) -> np.ndarray:
    """Features of shape (n, d) of one request; gray and colour images are in batches of their own."""
    runner = BatchRunner(request, most=len(pixels))
    size = runner.batch_size
    by_channels = [[n for n, image in enumerate(pixels) if image.shape[-1] == channels] for channels in (1, 3)]
    parts = [same[start : start + size] for same in by_channels for start in range(0, len(same), size)]
    batches = (
        Batch(np.zeros((len(part), 16), np.uint8), np.zeros(len(part), np.uint32), np.stack([pixels[n] for n in part]))
        for part in parts
    )
    rows: dict[int, np.ndarray] = {}
    for part, (_, [features]) in zip(parts, runner.run(batches), strict=True):
        rows.update(zip(part, features.reshape(len(part), -1), strict=True))
    return np.stack([rows[number] for number in range(len(pixels))])


def as_rgb(pixels: list[np.ndarray]) -> np.ndarray:
    """Images of equal size as one array, in which gray is repeated in all three channels.

    Returns
    -------
    ndarray of shape (n, height, width, 3), uint8
    """
    return np.stack([np.broadcast_to(image, (*image.shape[:2], 3)) for image in pixels])


def predict_in_batches(predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """The probabilities that a model gives for images, of which it receives `BATCH_SIZE` at a time.

    Parameters
    ----------
    predict : callable
        From pixels of shape (m, height, width, 3), uint8, to probabilities of shape (m, n_classes).
    images : ndarray of shape (n, height, width, 3), uint8
    """
    return np.concatenate([predict(images[start : start + BATCH_SIZE]) for start in range(0, len(images), BATCH_SIZE)])
