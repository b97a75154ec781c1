"""The comparison of two models: on which images, by which features, and how far they are apart."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadData
from transfer.data.datasets import from_files
from transfer.export.comparison import (
    BATCH_SIZE,
    compute_features,
    evenly_spaced,
    largest_difference,
    predict_in_batches,
    readable_pixels,
)
from transfer.extraction.extract import extract
from transfer.extraction.lookup import stored_features
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest


def test_the_difference_is_the_largest_of_all_and_never_small_by_mistake() -> None:
    one, other = np.array([[0.25, 0.75], [0.5, 0.5]]), np.array([[0.25, 0.75], [0.0, 1.0]])
    assert largest_difference(one, one) == 0
    assert largest_difference(one, other) == largest_difference(other, one) == 0.5
    assert largest_difference(one, other[:1]) == math.inf
    assert not largest_difference(one, np.full((2, 2), np.nan)) <= 1


@pytest.mark.parametrize(("count", "most"), [(1, 32), (5, 32), (32, 32), (33, 32), (1000, 32), (7, 1)])
def test_images_are_spread_over_the_whole_data_set(count: int, most: int) -> None:
    chosen = evenly_spaced(count, most)
    assert len(chosen) == min(count, most)
    assert (np.diff(chosen) > 0).all() and chosen[0] == 0
    assert len(chosen) == 1 or chosen[-1] == count - 1


def test_models_receive_few_images_at_a_time_and_rows_stay_in_order() -> None:
    sizes: list[int] = []

    def predict(images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        return images.reshape(len(images), -1)[:, :1]

    images = np.arange(19, dtype=np.uint8).reshape(19, 1, 1, 1).repeat(3, axis=3)
    np.testing.assert_array_equal(predict_in_batches(predict, images)[:, 0], np.arange(19))
    assert sizes == [BATCH_SIZE, BATCH_SIZE, 19 - 2 * BATCH_SIZE]


def test_features_are_those_of_an_extraction_in_the_order_of_the_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(5):  # gray and colour images in turn
        shape = (20, 24) if number % 2 else (20, 24, 3)
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"none")
    files = sorted(tmp_path.glob("*.png"))
    requests = [FeatureRequest(Net("glyphnet"), (layer,)) for layer in ("block1_pool", "block2_pool")]
    pixels = readable_pixels(from_files(files), requests[0].specs[0])
    assert [image.shape[-1] for image in pixels] == [3, 1, 3, 1, 3]
    cache, readable = FeatureCache(tmp_path / "features"), from_files(files[:5])
    expected = []
    for request in requests:
        extract(readable, request, cache)
        [rows] = stored_features(readable, request, cache).features.values()
        expected.append(rows[:])
    np.testing.assert_allclose(compute_features(pixels, requests), np.concatenate(expected, axis=1), atol=1e-4)
    with pytest.raises(BadData, match="none of 1 images of files can be read"):
        readable_pixels(from_files([tmp_path / "broken.png"]), requests[0].specs[0])
