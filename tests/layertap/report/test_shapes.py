"""Plots of a data set's shapes, from one shape to thousands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures import drawn, figures

from layertap.report.explore import shapes as plot


@pytest.mark.parametrize("kinds", [1, 2, plot.MOST_BARS])
def test_few_shapes_are_bars_with_their_numbers(tmp_path: Path, kinds: int):
    counts = [(number + 5, 1000 * number + 3, 4321 // (number + 1)) for number in range(kinds)]
    with figures() as seen:
        plot.shapes(tmp_path / "shapes.png", counts, (224, 224), "shapes")
    drawn(tmp_path / "shapes.png")
    [axes] = seen[0].axes
    assert [bar.get_width() for bar in axes.patches] == [count for *_, count in counts]
    assert [text.get_text() for text in axes.texts] == [f"{count:,}" for *_, count in counts]
    assert [text.get_text() for text in axes.get_yticklabels()] == [f"{h} x {w}" for h, w, _ in counts]


@pytest.mark.parametrize("most", [2, 12_000])
def test_many_shapes_are_points_by_width_and_height(tmp_path: Path, most: int):
    rng = np.random.default_rng(0)
    counts = [(int(h), int(w), int(n)) for h, w, n in rng.integers(1, most, (400, 3))]
    with figures() as seen:
        plot.shapes(tmp_path / "shapes.png", counts, (48, 64), "shapes")
    drawn(tmp_path / "shapes.png")
    [axes] = seen[0].axes
    points, net = (collection.get_offsets() for collection in axes.collections)
    assert np.array_equal(points, [(w, h) for h, w, _ in counts])
    assert np.array_equal(net, [(64, 48)])
    low, high = axes.get_xlim()
    assert low < min(points.min(), 48) and max(points.max(), 64) < high
