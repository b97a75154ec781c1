"""Drift of digits: none between halves of a data set, some where there is noise, and which mistakes are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

import layertap as lt
from feature_cache.errors import BadData, InvalidChoice


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.rint(load_digits().images[:400] * (255 / 16)).astype(np.uint8)


@pytest.fixture(scope="module")
def features(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> lt.FeatureSet:
    folder = tmp_path_factory.mktemp("features")
    noise = np.random.default_rng(0).integers(0, 256, (30, 8, 8), np.uint8)
    data = lt.load_dataset(np.concatenate([pixels, noise]))
    return lt.extract(data, "glyphnet", layers=["block4_pool"], cache=folder, progress=False)


def test_halves_of_a_data_set_do_not_differ(features: lt.FeatureSet) -> None:
    halves = np.random.default_rng(0).permutation(400).reshape(2, 200)
    old, new = (features.dataset.select(half) for half in halves)
    found = lt.drift(old, new, features, progress=False)
    assert found.test.p_value > 0.05
    assert found.far < 0.05
    old_rows, new_rows = (features["block4_pool"][half] for half in halves)
    distances = np.sort(cdist(new_rows, old_rows))[:, :20].mean(axis=1)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-5)
    assert (np.diff(found.distances[found.order]) <= 0).all()
    assert found.notes == ()


def test_images_of_noise_are_furthest_from_all_others(features: lt.FeatureSet) -> None:
    data = features.dataset
    old, new = data.select(np.arange(200)), data.select(np.arange(190, 430))
    found = lt.drift(old, new, features, progress=False)
    assert found.test.p_value < 0.01
    assert set(found.order[:25].tolist()) <= set(range(210, 240))
    assert found.ranks[found.order[0]] == 1
    assert found.notes == ("10 of the 240 new images are among the old ones, too, which makes them seem more alike.",)
    head, first, *rest = found.rows()
    assert (head[0], first[0], len(rest)) == ("id", new.ids[found.order[0]], 239)


def test_mistakes_are_one_line(features: lt.FeatureSet) -> None:
    data = features.dataset
    several = lt.extract(data, "glyphnet", layers=["block3_pool", "block4_pool"], cache=features.cache, progress=False)
    with pytest.raises(InvalidChoice, match="the features of one layer; choose one of block3_pool, block4_pool"):
        lt.drift(data, data, several, progress=False)
    with pytest.raises(BadData, match=r"at least 2 images on each side; arrays has 1 that can be read"):
        lt.drift(data, data.select(np.arange(1)), features, progress=False)
    with pytest.raises(InvalidChoice, match="these features do not record their net"):
        lt.drift(data, data, replace(features, request=None), progress=False)
