"""Thresholds are those that can be counted by hand, and curves have few points."""

from __future__ import annotations

import numpy as np
import pytest

from layertap.report.pages.charts import Axis, Line, chart
from layertap.report.tabs import confidence

CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def predictions() -> tuple[np.ndarray, np.ndarray]:
    """True classes, and probabilities with equal ones among them."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 200)
    logits = np.eye(3)[truth] * 1.5 + rng.normal(size=(200, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return np.array(CLASSES)[truth], probabilities.round(2)


def test_a_threshold_counts_answers_and_right_ones(predictions: tuple[np.ndarray, np.ndarray]) -> None:
    truth, outputs = predictions
    view, numbers = confidence.of_classes(CLASSES, truth, outputs)
    sure, right = outputs.max(1), np.array(CLASSES)[outputs.argmax(1)] == truth
    for step in range(101):
        answered = sure >= step / 100
        assert (numbers["answered"][step], numbers["right"][step]) == (answered.sum(), (answered & right).sum())
    rows = view["thresholds"]["rows"]
    assert rows[0][1] == "0.00" and rows[0][4] == str(200 - right.sum())
    for aim, threshold, *_ in rows[1:]:
        answered = sure >= float(threshold)
        assert right[answered].mean() >= float(aim.split(" ")[0]) / 100
        below = sure >= float(threshold) - 0.01
        assert right[below].mean() < float(aim.split(" ")[0]) / 100


def test_curves_are_thinned_to_a_few_points(predictions: tuple[np.ndarray, np.ndarray]) -> None:
    truth, outputs = predictions
    _, numbers = confidence.of_classes(CLASSES, truth, outputs)
    for line in numbers["curves"]:
        assert line["hits"][0] == line["alarms"][0] == 0
        assert line["hits"][-1] + line["alarms"][-1] == 200
        assert len(line["hits"]) <= 2 * confidence.MOST_POINTS + 3


def test_a_class_without_others_or_without_images_has_no_curve() -> None:
    outputs = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0]])
    view, numbers = confidence.of_classes(CLASSES, np.array(["a", "a"]), outputs)
    assert view["curves"] is None and numbers["curves"] == []
    assert view["thresholds"]["rows"][0][3] == ("100.00 %", "1.000")


def test_of_many_labels_those_have_curves_that_are_recalled_least() -> None:
    names = [f"label {number}" for number in range(confidence.MOST_CURVES + 20)]
    truth = np.eye(len(names), dtype=bool)
    view, numbers = confidence.of_labels(names, truth, truth[:, ::-1].astype(float))
    assert len(numbers["curves"]) == confidence.MOST_CURVES
    assert view["curves"]["note"] == "The 100 of 120 with the lowest recall have curves."


def test_a_chart_has_its_points_inside_its_frame() -> None:
    drawn = chart("c", Axis("x"), Axis("y", 0.9, 1.0), [Line([(0, 0.9), (1, 1.0)], dots=True)])
    left, top, right, bottom = drawn["frame"]
    assert drawn["lines"][0]["points"] == f"{left},{bottom} {right},{top}"
    assert [text for _, text in drawn["up"]["numbers"]] == ["0.9", "0.92", "0.94", "0.96", "0.98", "1"]
