"""PatchCore: the rules of scikit-learn, the equations of the paper, core-sets, rows from a cache, and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import uniform_filter
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.estimator_checks import parametrize_with_checks

from feature_cache.errors import BadData, DamagedFile, InvalidChoice
from heads.anomalies.core_set import core_set
from heads.anomalies.nearest import MemoryBank
from heads.anomalies.patchcore import PatchCore
from heads.anomalies.patches import patch_features

SHAPES = [(6, 6, 3), (3, 3, 5)]


def rows(count: int, seed: int = 0) -> np.ndarray:
    """Flattened maps of two layers."""
    return np.random.default_rng(seed).normal(size=(count, 6 * 6 * 3 + 3 * 3 * 5)).astype(np.float32)


NOVELTIES = "it remembers its training rows, so that none of them is an outlier"


@parametrize_with_checks([PatchCore()], expected_failed_checks=lambda _: {"check_outliers_train": NOVELTIES})
def test_it_is_an_outlier_detector_by_scikit_learns_rules(estimator: PatchCore, check) -> None:
    check(estimator)


def test_scores_are_those_of_a_plain_computation_by_the_equations() -> None:
    """Another computation: SciPy's filter and distances, scikit-learn's neighbours, one image after another."""
    train, test = rows(12), rows(5, seed=1)
    head = PatchCore(core_set=0.2, n_neighbors=4, maps=SHAPES).fit(train)

    def patches(row: np.ndarray) -> np.ndarray:
        fine, coarse = row[:108].reshape(6, 6, 3), row[108:].reshape(3, 3, 5)
        fine, coarse = (uniform_filter(of.astype(float), (3, 3, 1), mode="constant") for of in (fine, coarse))
        places = (np.arange(6) + 0.5) / 2 - 0.5
        across = np.array([[np.interp(places, range(3), line) for line in of] for of in coarse.transpose(2, 0, 1)])
        both = np.array([[np.interp(places, range(3), line) for line in of.T] for of in across])
        return np.concatenate([fine, both.transpose(2, 1, 0)], axis=2).reshape(36, 8)

    bank = head.memory_bank_.astype(float)
    neighbours = NearestNeighbors(n_neighbors=4).fit(bank)
    for row, score in zip(test, head.score_samples(test), strict=True):
        image = patches(row)
        distances = cdist(image, bank)
        furthest = distances.min(1).argmax()
        nearest = distances[furthest].argmin()
        around = neighbours.kneighbors(bank[nearest][None], return_distance=False)[0]
        exponents = np.exp(distances[furthest, around])
        expected = (1 - np.exp(distances[furthest, nearest]) / exponents.sum()) * distances[furthest, nearest]
        assert -score == pytest.approx(expected, abs=1e-4)


def test_a_core_set_is_that_of_a_greedy_search_without_shortcuts() -> None:
    random = np.random.default_rng(3)
    points = random.normal(size=(400, 6)) + 20 * random.integers(0, 4, size=(400, 1))
    chosen = core_set(points, 60, n_components=8, seed=0).tolist()
    distances = cdist(points, points)
    for number in range(1, 60):
        assert distances[chosen[:number]].min(0).argmax() == chosen[number]


def test_a_core_set_of_equal_points_is_a_single_one() -> None:
    assert len(core_set(np.ones((50, 3), np.float32), 5, n_components=8, seed=0)) == 1


def test_the_nearest_points_are_exact_also_far_from_zero() -> None:
    random = np.random.default_rng(0)
    points = (1000 + random.normal(size=(300, 5))).astype(np.float32)
    queries = (1000 + random.normal(size=(40, 5))).astype(np.float32)
    positions, distances = MemoryBank(points).nearest(queries)
    whole = cdist(queries.astype(float), points.astype(float))
    np.testing.assert_array_equal(positions, whole.argmin(1))
    np.testing.assert_allclose(distances, whole.min(1), rtol=1e-4)


def test_features_beyond_the_border_are_zero() -> None:
    patches = patch_features(np.ones((1, 108 + 45), np.float32), SHAPES)[0]
    np.testing.assert_allclose(patches[1:-1, 1:-1, :3], 1, rtol=1e-6)
    np.testing.assert_allclose(patches[0, 1:-1, :3], 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(patches[0, 0], 4 / 9, rtol=1e-6)


def test_the_border_is_no_more_anomalous_than_the_rest() -> None:
    """Of 8 x 8 patches 28 are at the border, so a detector without a bias finds the furthest one there less often."""
    X = np.random.default_rng(0).normal(size=(120, 8, 8, 4)).astype(np.float32)
    heat = PatchCore().fit(X[:60]).anomaly_maps(X[60:]).reshape(60, -1)
    row, column = np.unravel_index(heat.argmax(1), (8, 8))
    at_border = (np.minimum(row, column) == 0) | (np.maximum(row, column) == 7)
    assert at_border.mean() < 28 / 64


def test_at_most_the_share_of_normal_images_is_above_the_threshold() -> None:
    train, test = rows(60), rows(200, seed=1)
    detector = PatchCore(false_positive_rate=0.2, maps=SHAPES).fit(train)
    assert (detector.predict(train) == 1).all()  # their patches are in the memory
    assert (detector.predict(test) == -1).mean() < 0.3


def test_a_defect_is_found_where_it_is() -> None:
    X = np.random.default_rng(0).normal(size=(20, 8, 8, 4)).astype(np.float32)
    detector = PatchCore().fit(X)
    X[0, 1:4, 4:7] += 5
    assert detector.predict(X[:2]).tolist() == [-1, 1]
    heat = detector.anomaly_maps(X[:1], size=(64, 64))[0]
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 8 <= row < 32
    assert 32 <= column < 56


def test_a_sample_of_the_patches_stands_for_all() -> None:
    detector = PatchCore(max_patches=100, core_set=0.5, maps=SHAPES).fit(rows(10))
    assert len(detector.memory_bank_) == 50


def test_a_small_memory_keeps_a_thousand_patches_by_default() -> None:
    assert len(PatchCore(maps=SHAPES).fit(rows(40)).memory_bank_) == 1000
    assert len(PatchCore(maps=SHAPES).fit(rows(10)).memory_bank_) == 360  # there are no more


def test_a_loaded_head_scores_as_the_saved_one(tmp_path: Path) -> None:
    detector = PatchCore(maps=SHAPES).fit(rows(10))
    detector.save(tmp_path)
    loaded = PatchCore.load(tmp_path, detector.get_params())
    np.testing.assert_array_equal(loaded.anomaly_scores(rows(3, 1)), detector.anomaly_scores(rows(3, 1)))
    np.savez(tmp_path / "head.npz", memory_bank=np.ones((2, 3)), maps=np.array([[1, 1, 4]]), offset=-1.0)
    with pytest.raises(DamagedFile, match="its memory bank is of other maps"):
        PatchCore.load(tmp_path, {})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"core_set": 0.0}, "core_set should be above 0 and up to 1; received 0.0"),
        ({"neighbourhood": 2}, "neighbourhood should be odd; received 2"),
        ({"false_positive_rate": 1.0}, "false_positive_rate should be at least 0 and below 1; received 1.0"),
    ],
)
def test_parameters_out_of_range_are_refused(params: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidChoice, match=message):
        PatchCore(**params).fit(rows(4))


def test_maps_that_do_not_make_up_a_row_are_refused() -> None:
    with pytest.raises(BadData, match="do not make up rows of 153 values"):
        PatchCore(maps=[(6, 6, 3)]).fit(rows(4))
