"""Pictures are drawn for few classes and many, whatever the classes are called."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from pictures import AWKWARD, drawn, figures

from feature_cache.errors import printable
from heads.evaluation.metrics import Reliability, reliability
from layertap.report import plots
from layertap.report.style import fitted, shortened


def counts(k: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 9, (k, k)) + 20 * np.eye(k, dtype=int)


@pytest.mark.parametrize(
    "classes",
    [
        ["cat", "dog"],
        ["only"],
        [f"{number}" for number in range(10)],
        [f"a species with a name that is far too long for a picture, number {number}" for number in range(80)],
    ],
    ids=len,
)
def test_confusion_is_drawn(tmp_path: Path, classes: list[str]):
    plots.confusion(tmp_path / "confusion.png", classes, counts(len(classes)), "data: images held out")
    assert max(drawn(tmp_path / "confusion.png").shape) <= 1050


@pytest.mark.parametrize("k", [25, 40, 41, 1000])
def test_confusion_of_many_classes_is_drawn(tmp_path: Path, k: int):
    names = [f"a species with a name that is too long, number {number}" for number in range(k)]
    with figures() as seen:
        plots.confusion(tmp_path / "confusion.png", names, counts(k), "data")
    drawn(tmp_path / "confusion.png")
    axes = seen[0].axes[0]
    assert bool(axes.texts) == (k <= 25)
    assert any("species" in label.get_text() for label in axes.get_xticklabels()) == (k <= 40)
    assert max(axes.images[0].get_array().shape) <= plots.MOST_CELLS


def test_classes_that_share_a_cell_are_counted_together(tmp_path: Path):
    k = 2 * plots.MOST_CELLS
    values = np.zeros((k, k), int)
    values[[0, 1, 0, 5], [0, 0, 2, 5]] = [3, 1, 4, 2]
    with figures() as seen:
        plots.confusion(tmp_path / "confusion.png", [""] * k, values, "data")
    share = np.asarray(seen[0].axes[0].images[0].get_array())
    assert (share[0, 0], share[0, 1], share[2, 2]) == (0.5, 0.5, 1)
    assert share.sum() == 2


def test_counts_that_do_not_fit_their_cells_give_way_to_a_scale(tmp_path: Path):
    with figures() as seen:
        plots.confusion(tmp_path / "confusion.png", [str(i) for i in range(25)], counts(25) * 10**9, "data")
    assert not seen[0].axes[0].texts
    assert len(seen[0].axes) == 2


def test_class_without_rows_is_drawn(tmp_path: Path):
    plots.confusion(tmp_path / "confusion.png", ["cat", "dog"], np.array([[3, 1], [0, 0]]), "none of the dogs")
    drawn(tmp_path / "confusion.png")


def test_confusion_shows_the_counts(tmp_path: Path):
    for name, values in (("one", [[9, 1], [2, 8]]), ("other", [[8, 2], [1, 9]])):
        plots.confusion(tmp_path / f"{name}.png", ["cat", "dog"], np.array(values), "data")
    assert not np.array_equal(drawn(tmp_path / "one.png"), drawn(tmp_path / "other.png"))


def test_names_are_text_and_not_formulas_and_are_not_cut_off(tmp_path: Path):
    n, longest = len(AWKWARD), max(AWKWARD, key=len)
    curves = {name: [(0.5, 0.1), (0.7, 0.1)] for name in AWKWARD}
    plots.confusion(tmp_path / "confusion.png", AWKWARD, counts(n), longest)
    plots.learning_curves(tmp_path / "curves.png", [1, 5], curves, "".join(AWKWARD))
    plots.tradeoff(tmp_path / "long.png", AWKWARD, range(1, n + 1), range(n), longest, longest, longest)
    plots.tradeoff(tmp_path / "formulas.png", AWKWARD, range(1, n + 1), range(n), "$", r"$\frac$", "a_b^c")
    for file in tmp_path.iterdir():
        drawn(file)


def test_learning_curves_are_drawn(tmp_path: Path):
    curves = {"logistic": [(0.5, 0.1), (0.7, 0.05), (0.9, 0.01)], "mlp": [(0.4, 0.1), (0.6, 0.05), (0.95, 0.0)]}
    plots.learning_curves(tmp_path / "curves.png", [1, 5, 20], curves, "digits")
    drawn(tmp_path / "curves.png")


def test_no_curve_is_left_out(tmp_path: Path):
    curves = {f"layer {number}": [(0.1 * number, 0.01), (0.1 * number + 0.1, 0.01)] for number in range(7)}
    plots.learning_curves(tmp_path / "all.png", [1, 10], curves, "layers")
    plots.learning_curves(tmp_path / "fewer.png", [1, 10], dict(list(curves.items())[:-1]), "layers")
    assert not np.array_equal(drawn(tmp_path / "all.png"), drawn(tmp_path / "fewer.png"))


@pytest.mark.parametrize(("points", "curves"), [(1, 1), (1, 5), (60, 13)])
def test_any_number_of_curves_and_points_is_drawn(tmp_path: Path, points: int, curves: int):
    of_all = {f"$layer_{n}$ of a net with a long name": [(0.5 + n / 50, 0.1)] * points for n in range(curves)}
    with figures() as seen:
        plots.learning_curves(tmp_path / "curves.png", list(range(1, points + 1)), of_all, "layers")
    drawn(tmp_path / "curves.png")
    labels = [label.get_window_extent() for label in seen[0].axes[0].get_xticklabels()]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(labels, 2))
    named = [*seen[0].legends, *([legend] if (legend := seen[0].axes[0].get_legend()) else [])]
    assert [len(legend.texts) for legend in named] == [curves]
    assert len(seen[0].axes[0].lines) == curves


# Reliability.


def measured(n: int, k: int, sure: float) -> Reliability:
    rng = np.random.default_rng(0)
    classes = np.array([f"{i:04d}" for i in range(k)])
    truth = rng.integers(0, k, n)
    values = np.exp(sure * (rng.standard_normal((n, k)) + 2 * np.eye(k)[truth]))
    return reliability(classes, classes[truth], values / values.sum(1, keepdims=True))


@pytest.mark.parametrize(("n", "k"), [(1, 2), (20, 1), (300, 1000)])
def test_reliability_is_drawn(tmp_path: Path, n: int, k: int):
    plots.reliability(tmp_path / "reliability.png", measured(n, k, 1.5), "data: images held out")
    drawn(tmp_path / "reliability.png")


def test_reliability_shows_what_was_measured(tmp_path: Path):
    values = measured(500, 10, 1.5)
    with figures() as seen:
        plots.reliability(tmp_path / "reliability.png", values, "data")
    upper, lower = seen[0].axes
    some = values.count > 0
    np.testing.assert_allclose(upper.lines[1].get_xydata(), np.column_stack([values.confidence, values.accuracy])[some])
    np.testing.assert_allclose([bar.get_height() for bar in lower.patches], values.count[some] / 500)
    assert f"calibration error {values.ece:.3f}" in lower.get_title(loc="left")
    for low, high in (path.vertices[:, 1] for path in upper.collections[0].get_paths()):
        assert 0 <= low < high <= 1


# Quality against cost.


@pytest.mark.parametrize("seed", range(20))
def test_front_holds_the_choices_that_no_other_one_beats(seed: int):
    rng = np.random.default_rng(seed)
    cost, quality = rng.integers(0, 6, (2, rng.integers(1, 25))).astype(float)  # few values, so many ties
    front = plots.pareto(cost, quality)
    beaten = [
        any(
            (c <= cost[i] and q >= quality[i]) and (c < cost[i] or q > quality[i])
            for c, q in zip(cost, quality, strict=True)
        )
        for i in range(len(cost))
    ]
    assert sorted(front.tolist()) == np.flatnonzero(~np.array(beaten)).tolist()
    assert (np.diff(cost[front]) >= 0).all()
    assert (np.diff(quality[front]) >= 0).all()


def test_front_by_hand():
    assert plots.pareto([1, 2, 3, 2], [0.5, 0.7, 0.6, 0.7]).tolist() == [0, 1, 3]
    assert plots.pareto([], []).tolist() == []
    assert plots.pareto([5], [0.1]).tolist() == [0]


def test_choice_without_cost_or_quality_is_on_no_front():
    nan, inf = np.nan, np.inf
    assert plots.pareto([1, nan, 0, inf, 2], [0.5, 1, nan, 0.9, 0.7]).tolist() == [0, 4, 3]
    assert plots.pareto([nan], [nan]).tolist() == []


@pytest.mark.parametrize(("n", "decades"), [(0, 1), (1, 3), (15, 0.3), (15, 3), (200, 3)])
def test_tradeoff_is_drawn_and_no_name_covers_another(tmp_path: Path, n: int, decades: float):
    rng = np.random.default_rng(0)
    cost = 10 ** rng.uniform(0, decades, n)
    quality = 0.5 + 0.1 * np.log10(cost) + 0.03 * rng.standard_normal(n)
    names = [f"net {i} block{i % 7}_expand_activation / logistic" for i in range(n)]
    with figures() as seen:
        plots.tradeoff(tmp_path / "tradeoff.png", names, cost, quality, "data", "seconds for 1,000 images")
    drawn(tmp_path / "tradeoff.png")
    axes = seen[0].axes[0]
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    for x, y in axes.transData.transform(np.column_stack([cost, quality])):
        assert not any(box.contains(x, y) for box in boxes)
    assert min(n, 5) <= len(boxes) <= 30


def test_tradeoff_names_the_front_and_few_others(tmp_path: Path):
    with figures() as seen:
        plots.tradeoff(
            tmp_path / "t.png", ["cheap", "good", "bad", "broken"], [1, 9, 8, np.nan], [0.5, 0.9, 0.4, 1], "data"
        )
    assert [text.get_text() for text in seen[0].axes[0].texts] == ["cheap", "good", "bad"]
    assert seen[0].axes[0].get_xscale() == "linear"


# What pictures share.


def test_settings_of_the_caller_neither_count_nor_change(tmp_path: Path):
    plots.learning_curves(tmp_path / "one.png", [1, 5], {"a": [(0.5, 0.1), (0.7, 0.1)]}, "data")
    hostile = {
        "text.usetex": True,
        "figure.dpi": 17,
        "savefig.bbox": "tight",
        "font.size": 40,
        "figure.facecolor": "red",
    }
    with matplotlib.rc_context(hostile):
        before = dict(matplotlib.rcParams)
        plots.learning_curves(tmp_path / "other.png", [1, 5], {"a": [(0.5, 0.1), (0.7, 0.1)]}, "data")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()


def test_picture_that_fails_is_not_written(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), plots.picture(tmp_path / "picture.png", 3, 3, "data"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_text_in_one_line():
    assert printable("a\nb\0\ud800\u202eé城") == "a\\nb\\x00\\ud800\\u202eé城"
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghij", 5) == "ab…ij"
    assert shortened("abcdefghij", 4) == "ab…j"
    assert shortened("abcdefghij", 4, "start") == "…hij"


@pytest.mark.parametrize("text", ["W" * 60, "i" * 200, "a species with a long name, number 7", "城" * 40])
def test_text_is_made_to_fit(text: str):
    short = fitted(text, 1, 8)
    figure = Figure((4, 1), 100, layout="none")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        width = figure.text(0, 0, short, fontsize=8).get_window_extent().width
    assert 70 < width <= 102
    assert short[0] == text[0]
    assert short[-1] == text[-1]
    assert fitted("cat", 1, 8) == "cat"
