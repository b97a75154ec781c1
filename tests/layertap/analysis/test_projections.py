"""Rows of features become points of two dimensions, whatever their number and shape."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from feature_cache.errors import BadData, InvalidChoice, MissingDependency
from layertap.analysis import projections
from layertap.analysis.projections import project

sys.path.insert(0, str(Path(__file__).parents[2] / "heads"))  # so that this file can be run alone
from toy_data import blobs, cached


def rows(n: int, d: int = 12, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    member = rng.integers(0, k, n)
    return (4 * rng.standard_normal((k, d))[member] + rng.standard_normal((n, d))).astype(np.float32), member


def test_points_are_the_principal_components():
    features, _ = rows(200)
    found = project(features)
    exact = PCA(2, svd_solver="full").fit(features)
    np.testing.assert_allclose(np.abs(found.points), np.abs(exact.transform(features)), atol=1e-3)
    shares = [
        f"component {i}: {share:.0%} of the variance" for i, share in enumerate(exact.explained_variance_ratio_, 1)
    ]
    assert list(found.axes) == shares
    assert found.rows.tolist() == list(range(200))


def test_of_many_rows_some_are_drawn_by_the_seed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(projections, "MOST_ROWS", 50)
    features, _ = rows(200)
    found, again, other = (
        project(features),
        project(features),
        project(features, seed=1),
    )
    assert len(np.unique(found.rows)) == len(found.points) == 50
    assert (np.diff(found.rows) > 0).all()
    np.testing.assert_array_equal(found.rows, again.rows)
    np.testing.assert_array_equal(found.points, again.points)
    assert not np.array_equal(found.rows, other.rows)


def test_of_several_views_the_plain_ones_are_taken():
    features, _ = rows(60)
    views = np.repeat(features, 3, axis=0)
    views[1::3] = views[2::3] = 1e6
    np.testing.assert_array_equal(project(views, every=3).points, project(features).points)


def test_features_from_a_cache_are_as_those_in_memory(tmp_path: Path):
    features, _ = blobs()
    np.testing.assert_array_equal(project(cached(tmp_path, features)).points, project(features).points)
    np.testing.assert_array_equal(project(features).points, project(features.reshape(48, -1)).points)


@pytest.mark.parametrize("shape", [(1, 5), (2, 5), (3, 1), (4, 2)])
def test_few_rows_and_few_dimensions_have_two_dimensions_too(shape: tuple[int, int]):
    points = project(np.random.default_rng(0).standard_normal(shape)).points
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()


def test_equal_rows_are_one_point():
    found = project(np.ones((5, 4), np.float16))
    assert (found.points == 0).all()
    assert found.axes[0] == "component 1: 0% of the variance"


def test_unknown_method_is_refused():
    with pytest.raises(InvalidChoice) as caught:
        project(np.eye(5), "tsne")
    assert str(caught.value) == "there is no map by 'tsne'; allowed: pca, umap."


def test_missing_umap_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingDependency) as caught:
        project(np.eye(5), "umap")
    assert str(caught.value) == "maps by UMAP need the package umap-learn: pip install 'layertap[umap]'"


class FakeUmap:
    """Takes what UMAP takes."""

    def __init__(self, n_neighbors: int, init: str, random_state: int, n_jobs: int) -> None:
        assert (init, random_state, n_jobs) == ("random" if n_neighbors < 15 else "spectral", 3, 1)
        self.n_neighbors = n_neighbors

    def fit_transform(self, features: np.ndarray) -> np.ndarray:
        assert self.n_neighbors == min(15, len(features) - 1)
        return features[:, :2]


def test_umap_is_given_as_many_neighbours_as_there_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=FakeUmap))
    for n in (5, 10, 100):
        features = rows(n)[0]
        np.testing.assert_array_equal(project(features, "umap", seed=3).points, features[:, :2])
    with pytest.raises(BadData) as caught:
        project(np.eye(4), "umap", seed=3)
    assert str(caught.value) == "a map by UMAP needs at least 5 images; received 4: choose pca."


@pytest.mark.slow
@pytest.mark.skipif(find_spec("umap") is None, reason="umap-learn is not installed")
def test_umap_itself_tells_blobs_apart_quietly_and_always_alike(capfd: pytest.CaptureFixture[str]):
    features, member = rows(150)
    points = project(features, "umap").points
    assert capfd.readouterr().err == ""
    np.testing.assert_array_equal(project(features, "umap").points, points)
    centres = np.array([points[member == k].mean(0) for k in range(3)])
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(1)
    assert (nearest == member).mean() > 0.95


def test_all_rows_have_a_place_by_the_axes_of_some(monkeypatch: pytest.MonkeyPatch):
    features, _ = rows(3000)
    monkeypatch.setattr(projections, "MOST_FITTED", 2000)
    monkeypatch.setattr(projections, "BLOCK", 512)
    found = projections.project_all(features)
    exact = PCA(2, svd_solver="full").fit_transform(features)
    agreement = [abs(np.corrcoef(found.points[:, i], exact[:, i])[0, 1]) for i in range(2)]
    assert min(agreement) > 0.999
    assert found.rows.tolist() == list(range(3000))
    np.testing.assert_array_equal(found.points, projections.project_all(features).points)


def test_clusters_are_those_of_the_blobs():
    features, member = rows(600)
    found = projections.clusters(features, 3)
    assert found.shape == (600,)
    assert {len(set(member[found == k])) for k in range(3)} == {1}
