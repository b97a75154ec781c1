"""Rows sorted by class make the same head as rows in any order.

Keras holds out the last rows as they come: of sorted ones a whole class, with 0.30 right for 0.997 (its issue 5307).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_data import cached

from heads.evaluation.protocol import Protocol
from heads.evaluation.training import train
from heads.registry import HEADS, make_head

PARAMS: dict[str, dict[str, Any]] = {
    "random-forest": {"n_jobs": 1, "n_estimators": 100},
    "hist-gradient-boosting": {"max_iter": 30},
    "mlp": {"hidden": 64, "epochs": 12, "learning_rate": 0.02},
    "conv": {"epochs": 30, "learning_rate": 0.02},
}
# These draw rows by their number, or batches in some order; of the others all that differs is how sums are rounded.
DRAWING = ("auto", "linear", "random-forest", "mlp", "conv")
SLOW = ("conv",)
CLASSES, WIDTH = 5, 16


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of classes that overlap, and labels sorted by class, of which some are rarer."""
    rng = np.random.default_rng(seed)
    target = np.sort(rng.choice(CLASSES, n, p=[0.3, 0.25, 0.2, 0.15, 0.1]))
    centres = np.random.default_rng(9).standard_normal((CLASSES, WIDTH))
    features = 0.9 * centres[target] + rng.standard_normal((n, WIDTH))
    return features.astype(np.float32), np.array([f"class {number}" for number in target])


SORTED, LABELS = rows(300, 0)
HELD_OUT, TRUTH = rows(600, 1)
# Classes in a random order, the rows of each as they are: temperatures are learnt on blocks of them.
MIXED = np.empty(len(LABELS), int)
MIXED[np.argsort(np.random.default_rng(2).permutation(LABELS), kind="stable")] = np.arange(len(LABELS))
REVERSED = np.arange(len(LABELS))[::-1]


def accuracy(head: Any) -> float:
    return float(np.mean(head.predict(HELD_OUT) == TRUTH))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in HEADS]
)
def test_sorted_rows_make_the_head_that_mixed_rows_make(name: str) -> None:
    in_order, mixed = (
        make_head(name, PARAMS.get(name, {})).fit(SORTED[order], LABELS[order]) for order in (slice(None), MIXED)
    )
    assert accuracy(mixed) > 0.8
    assert abs(accuracy(in_order) - accuracy(mixed)) < 0.04
    if name not in DRAWING:
        np.testing.assert_allclose(in_order.predict_proba(HELD_OUT), mixed.predict_proba(HELD_OUT), atol=2e-3)


@pytest.mark.parametrize("name", [name for name in HEADS if name not in ("mlp", *SLOW)])
def test_which_class_comes_first_makes_no_difference(name: str) -> None:
    head = make_head(name, PARAMS.get(name, {}))
    forth = accuracy(head.fit(SORTED, LABELS))
    assert abs(accuracy(head.fit(SORTED[REVERSED], LABELS[REVERSED])) - forth) < 0.04


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("ridge", {}),
        ("linear", {}),
        ("linear", {"learning_rates": [0.01, 0.1], "batch_size": 16, "epochs": 10}),
    ],
)
def test_rows_that_are_read_from_a_cache_batch_by_batch_may_be_sorted(
    tmp_path: Path, name: str, params: dict[str, Any]
) -> None:
    in_order, mixed = (
        make_head(name, params).fit(cached(tmp_path / folder, SORTED[order]), LABELS[order])
        for folder, order in (("sorted", slice(None)), ("mixed", MIXED))
    )
    assert accuracy(mixed) > 0.8
    assert abs(accuracy(in_order) - accuracy(mixed)) < 0.04


@pytest.mark.parametrize("protocol", [Protocol(cv=3), Protocol(valid=0.3), Protocol(per_class=8, draws=5)])
@pytest.mark.parametrize("name", ["prototypes", "logistic"])
def test_sorted_rows_are_judged_as_mixed_rows_are(name: str, protocol: Protocol) -> None:
    scores = []
    for order in (np.arange(len(LABELS)), MIXED):
        features = {"all": SORTED[order], "half": SORTED[order, : WIDTH // 2]}
        trained = train(features, LABELS[order], np.arange(len(LABELS)), protocol, name)
        assert trained.features == "all"
        truth, predicted = trained.evaluation.held_out()
        scores.append(np.mean(truth == predicted))
    assert min(scores) > 0.7
    assert abs(scores[0] - scores[1]) < 0.08
