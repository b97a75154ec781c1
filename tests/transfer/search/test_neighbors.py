"""The nearest rows, against distances that SciPy computes in float64 of all rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from feature_cache.errors import BadData, InvalidChoice
from transfer.search import neighbors
from transfer.search.neighbors import Metric, nearest


def rows_with_copies(scale: float = 1.0, offset: float = 0.0) -> np.ndarray:
    """9,000 rows, more than two blocks; every third is the same, and one is zero."""
    rows = (np.random.default_rng(0).standard_normal((9000, 40)) * scale + offset).astype(np.float32)
    rows[::3] = rows[0]
    rows[5] = 0
    return rows


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1, 100), (1e-20, 0), (1e20, 0)])
def test_the_nearest_rows_are_those_of_float64_and_ties_are_by_row(metric: Metric, scale: float, offset: float) -> None:
    rows = rows_with_copies(scale, offset)
    queries = np.concatenate([rows[:4], rows[7:8] * np.float32(1.01)])
    found = nearest(rows, queries, 12, metric=metric)
    all_distances = np.nan_to_num(cdist(queries / scale, rows / scale, metric), nan=1.0)  # of a vector of zeros
    rounded = np.round(all_distances, 11)
    expected = [np.lexsort((np.arange(len(rows)), line))[:12].tolist() for line in rounded]
    assert found.rows.tolist() == expected
    of_found = np.take_along_axis(all_distances, found.rows, 1) * (scale if metric == "euclidean" else 1)
    np.testing.assert_allclose(found.distances, of_found, rtol=1e-6, atol=1e-12 * (scale if scale > 1 else 1))


def test_the_source_of_the_rows_and_the_number_of_queries_do_not_matter(tmp_path: Path) -> None:
    rows = rows_with_copies().astype(np.float16)
    stored = np.memmap(tmp_path / "rows", np.float16, "w+", shape=rows.shape)
    stored[:] = rows
    together = nearest(stored, rows[:30], 3)
    for number in (0, 7, 29):
        alone = nearest(rows.astype(np.float64).reshape(-1, 4, 10), rows[number : number + 1].reshape(-1, 4, 10), 3)
        assert alone.rows.tolist() == together.rows[number : number + 1].tolist()
        assert alone.distances.tolist() == together.distances[number : number + 1].tolist()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_candidates_beyond_the_memory_for_them_change_nothing(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.round(rows_with_copies())  # many are alike
    expected = nearest(rows, rows[:20], 9, metric=metric)
    monkeypatch.setattr(neighbors, "SPARE_CANDIDATES", 0)
    monkeypatch.setattr(neighbors, "BLOCK_BYTES", 2**14)
    found = nearest(rows, rows[:20], 9, metric=metric)
    assert found.rows.tolist() == expected.rows.tolist()
    assert found.distances.tolist() == expected.distances.tolist()


def test_of_fewer_rows_than_asked_for_all_are_found() -> None:
    found = nearest(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[1:2], 10)
    assert found.rows.tolist() == [[1, 0, 2]]
    assert nearest(np.empty((0, 3), np.float32), np.eye(3), 10).rows.shape == (3, 0)


def test_rows_and_queries_that_cannot_be_compared_are_refused() -> None:
    rows = rows_with_copies()
    with pytest.raises(BadData, match="the queries are of 39 numbers and the rows of 40 numbers"):
        nearest(rows, rows[:2, :39], 1)
    rows[4321, 3] = np.nan
    with pytest.raises(BadData, match="the features of row 4321 are infinite or not numbers"):
        nearest(rows, rows[:1], 1)
    with pytest.raises(BadData, match="the features of query 1 are infinite or not numbers"):
        nearest(rows[:9], rows[4320:4322], 1)
    with pytest.raises(InvalidChoice, match="at least 1; received 0"):
        nearest(rows, rows[:1], 0)
