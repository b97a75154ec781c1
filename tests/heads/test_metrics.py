"""Scores are scikit-learn's, and labels that the head does not know are mistakes."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from heads.metrics import NLL_FLOOR, confusion, score

CLASSES = np.array(["ant", "bee", "cicada", "dragonfly"])


def _predictions(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = CLASSES[rng.choice(4, n, p=[0.6, 0.2, 0.15, 0.05])]
    return labels, rng.dirichlet(np.ones(4), n)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [1, 7, 200])
def test_scores_are_those_of_scikit_learn(n: int, seed: int):
    labels, probabilities = _predictions(n, seed)
    predicted = CLASSES[probabilities.argmax(1)]
    present = np.unique(labels)
    got = score(CLASSES, labels, probabilities)
    assert got["n"] == n
    assert got["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert got["nll"] == pytest.approx(metrics.log_loss(labels, probabilities, labels=CLASSES))
    recalls = metrics.recall_score(labels, predicted, labels=present, average=None, zero_division=0)
    assert got["balanced_accuracy"] == pytest.approx(recalls.mean())
    if set(predicted) <= set(present):
        assert got["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))


def test_scores_by_hand():
    probabilities = np.array([[0.5, 0.5, 0, 0], [0.25, 0.5, 0.25, 0], [1, 0, 0, 0], [0, 0, 1, 0]])
    got = score(CLASSES, np.array(["ant", "ant", "ant", "cicada"]), probabilities)
    assert got == {
        "accuracy": 0.75,
        "balanced_accuracy": pytest.approx((2 / 3 + 1) / 2),
        "nll": pytest.approx((np.log(2) + np.log(4)) / 4),
        "n": 4,
    }
    assert {type(value) for value in got.values()} == {float, int}


@pytest.mark.parametrize("strange", ["aardvark", "beetle", "zebra"])
def test_label_that_the_head_does_not_know_is_a_mistake_with_the_floor_for_its_probability(strange: str):
    probabilities = np.eye(4)[[0, 1]]
    got = score(CLASSES, np.array(["ant", strange]), probabilities)
    assert got["accuracy"] == 0.5
    assert got["balanced_accuracy"] == 0.5
    assert got["nll"] == pytest.approx(-np.log(NLL_FLOOR) / 2)


def test_certain_mistake_is_finite_and_certain_success_is_zero():
    certain = np.array([[1.0, 0, 0, 0]])
    assert score(CLASSES, np.array(["bee"]), certain)["nll"] == pytest.approx(-np.log(1e-15))
    assert score(CLASSES, np.array(["ant"]), certain)["nll"] == 0


def test_numbers_as_labels():
    got = score(np.array([2, 10]), np.array([10, 2, 3]), np.array([[0.2, 0.8], [0.3, 0.7], [0.5, 0.5]]))
    assert got["accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_confusion_is_that_of_scikit_learn(seed: int):
    labels, probabilities = _predictions(100, seed)
    predicted = CLASSES[probabilities.argmax(1)]
    counts = confusion(CLASSES, labels, predicted)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, metrics.confusion_matrix(labels, predicted, labels=CLASSES))


def test_confusion_of_no_rows_is_zero():
    assert confusion(CLASSES, CLASSES[:0], CLASSES[:0]).tolist() == [[0] * 4] * 4
