"""Views: augmented images have rows of their own, the plain image among them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_cache.cache import FeatureCache
from feature_cache.errors import InvalidChoice, MissingFeatures
from transfer.data import datasets
from transfer.data.augment import Augmentation
from transfer.engines.runner import BatchRunner
from transfer.extraction.extract import extract
from transfer.extraction.lookup import stored_features
from transfer.extraction.plan import plan
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest, request_of

PLAIN = FeatureRequest(Net("glyphnet"), ("block2_pool",))
VIEWS = replace(PLAIN, augmentation=Augmentation(rotate=20, shift=0.1).key, views=3)


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


def rows(folder: Path, request: FeatureRequest, cache: FeatureCache) -> np.ndarray:
    """Features by image and view."""
    cached = stored_features(datasets.load(str(folder)), request, cache)
    features = np.asarray(cached.features["block2_pool"])
    return features.reshape(len(cached.dataset), request.views, -1)


def test_each_image_has_its_views_and_the_first_is_plain(class_folder: Path, cache: FeatureCache) -> None:
    dataset = datasets.load(str(class_folder))
    report = extract(dataset, VIEWS, cache)
    assert (report.rows_total, report.rows_computed) == (24, 24)
    extract(dataset, PLAIN, cache)
    found = rows(class_folder, VIEWS, cache)
    np.testing.assert_allclose(found[:, 0], rows(class_folder, PLAIN, cache)[:, 0], atol=1e-5 * np.abs(found).max())
    assert len(np.unique(found.reshape(24, -1), axis=0)) == 24
    assert extract(dataset, VIEWS, cache).rows_computed == 0


def test_views_are_the_features_of_the_augmented_pixels(
    class_folder: Path, cache: FeatureCache, features_of: Callable
) -> None:
    from transfer.data.images import to_pixels

    dataset = datasets.load(str(class_folder))
    extract(dataset, VIEWS, cache, batch_size=5)
    augment, expected = Augmentation(rotate=20, shift=0.1), []
    for source in dataset.sources:
        digest, image = source.load()
        pixels = to_pixels(image, (32, 32))
        expected += [augment(pixels, digest, view) for view in range(3)]
    expected = features_of(VIEWS.build(), np.stack(expected), "block2_pool", pooling="avg")[0]
    found = rows(class_folder, VIEWS, cache).reshape(24, -1)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_plain_rows_that_there_are_become_the_first_view(class_folder: Path, cache: FeatureCache) -> None:
    dataset = datasets.load(str(class_folder))
    extract(dataset, PLAIN, cache)
    report = extract(dataset, VIEWS, cache)
    assert (report.rows_computed, report.rows_reused) == (16, 8)
    np.testing.assert_array_equal(rows(class_folder, VIEWS, cache)[:, 0], rows(class_folder, PLAIN, cache)[:, 0])


def test_more_views_compute_only_those_that_are_new(class_folder: Path, cache: FeatureCache) -> None:
    dataset = datasets.load(str(class_folder))
    extract(dataset, VIEWS, cache)
    before = rows(class_folder, VIEWS, cache)
    more = replace(VIEWS, views=5)
    assert plan(dataset, more, cache).images_missing == 16
    assert extract(dataset, more, cache).rows_computed == 16
    np.testing.assert_array_equal(rows(class_folder, more, cache)[:, :3], before)


@pytest.mark.parametrize("other", [Augmentation(rotate=10, shift=0.1), Augmentation(rotate=20, shift=0.1, seed=1)])
def test_another_augmentation_is_another_space(class_folder: Path, cache: FeatureCache, other: Augmentation) -> None:
    extract(datasets.load(str(class_folder)), VIEWS, cache)
    with pytest.raises(MissingFeatures, match="24 of 24 rows"):
        rows(class_folder, replace(VIEWS, augmentation=other.key), cache)


def test_copies_of_an_image_share_its_views(class_folder: Path, cache: FeatureCache) -> None:
    shutil.copy(class_folder / "a" / "0.png", class_folder / "b" / "copy.png")
    report = extract(datasets.load(str(class_folder)), VIEWS, cache)
    assert (report.rows_total, report.rows_computed, report.rows_reused) == (27, 24, 3)


def test_an_unreadable_image_is_left_out_with_all_its_views(class_folder: Path, cache: FeatureCache) -> None:
    damaged = class_folder / "a" / "2.png"
    damaged.write_bytes(damaged.read_bytes()[:-40])
    report = extract(datasets.load(str(class_folder)), VIEWS, cache, on_error="skip")
    assert (report.rows_total, report.rows_computed, report.rows_skipped) == (24, 21, 3)
    assert [problem.id for problem in report.skipped] == ["a/2.png"]


def test_deeper_layers_start_from_stored_views(class_folder: Path, cache: FeatureCache, tmp_path: Path) -> None:
    dataset, pixels = datasets.load(str(class_folder)), FeatureCache(tmp_path / "from pixels")
    extract(dataset, replace(VIEWS, layers=("block1_pool",), pooling="none"), cache)
    assert extract(dataset, VIEWS, cache).started_from == ["block1_pool"]
    extract(dataset, VIEWS, pixels)
    expected = rows(class_folder, VIEWS, pixels)
    np.testing.assert_allclose(rows(class_folder, VIEWS, cache), expected, atol=1e-5 * np.abs(expected).max())


def test_views_in_fewer_bits(class_folder: Path, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, half = datasets.load(str(class_folder)), replace(VIEWS, dtype="float16")
    extract(dataset, VIEWS, cache)
    monkeypatch.setattr(BatchRunner, "run", lambda *_: pytest.fail("the net was run"))
    assert extract(dataset, half, cache).rows_computed == 0
    exact = rows(class_folder, VIEWS, cache)
    np.testing.assert_allclose(rows(class_folder, half, cache), exact, atol=1e-3 * np.abs(exact).max())


def test_a_space_of_views_gives_its_request_again(class_folder: Path, cache: FeatureCache) -> None:
    extract(datasets.load(str(class_folder)), VIEWS, cache)
    assert request_of(cache[VIEWS.specs[0]], 3).specs == VIEWS.specs


def test_several_views_need_an_augmentation() -> None:
    with pytest.raises(InvalidChoice, match="several need `augmentation`"):
        replace(PLAIN, views=2)
    with pytest.raises(InvalidChoice, match="at least 1"):
        replace(VIEWS, views=0)
