"""Maps show points of features, whatever their number and classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures import AWKWARD, drawn, figures

from layertap.analysis.projections import project
from layertap.report import maps


def rows(n: int, d: int = 12, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    member = rng.integers(0, k, n)
    return (4 * rng.standard_normal((k, d))[member] + rng.standard_normal((n, d))).astype(np.float32), member


@pytest.mark.parametrize(("n", "k"), [(1, 1), (30, 1), (60, 20), (1500, 1000)])
def test_map_is_drawn(tmp_path: Path, n: int, k: int):
    features, member = rows(n, k=k)
    labels = [f"a class with quite a long name, number {number}" for number in member]
    with figures() as seen:
        maps.feature_map(tmp_path / "map.png", project(features), labels, "data: net layer")
    drawn(tmp_path / "map.png")
    (legend,) = seen[0].legends
    classes = len(set(labels))
    assert len(legend.texts) == min(classes, 21)
    if classes > 20:
        assert legend.texts[-1].get_text() == f"{classes - 20} other classes"


def test_names_of_classes_are_text(tmp_path: Path):
    features, member = rows(60, k=len(AWKWARD))
    with figures() as seen:
        maps.feature_map(tmp_path / "map.png", project(features), [AWKWARD[number] for number in member], AWKWARD[-1])
    drawn(tmp_path / "map.png")
    assert len(seen[0].legends[0].texts) == len(set(member))


def test_most_frequent_classes_have_colours(tmp_path: Path):
    labels = [f"{number:02d}" for number in range(30) for _ in range(number + 1)]
    with figures() as seen:
        maps.feature_map(tmp_path / "map.png", project(rows(len(labels))[0]), labels, "data")
    names = [text.get_text() for text in seen[0].legends[0].texts]
    assert names == [*(f"{number:02d}" for number in range(10, 30)), "10 other classes"]
