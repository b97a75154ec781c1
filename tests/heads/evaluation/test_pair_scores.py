"""Sweeps: every pair as if it were judged alone, each once, and the best of many not praised too much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toy_data import blobs, cached

from feature_cache import Features
from heads import make_head
from heads.evaluation import pair_scores
from heads.evaluation.cross_validation import evaluate
from heads.evaluation.pair_scores import Pair, Result, unbiased
from heads.evaluation.protocol import Protocol

N = 48
PROTOCOL = Protocol(cv=3, seed=1)
CONTENTS = np.arange(N)
LABELS = blobs(N)[1]
PAIRS = [Pair("clear", "logistic"), Pair("noise", "logistic"), Pair("clear", "logistic", (("C", 1e-4),))]


@pytest.fixture
def features(tmp_path: Path) -> dict[str, Features]:
    noise = np.random.default_rng(2).standard_normal((N, 6)).astype(np.float32)
    return {"clear": cached(tmp_path / "clear", blobs(N)[0]), "noise": cached(tmp_path / "noise", noise, "b")}


def run(
    features: dict, folder: Path, pairs: list[Pair] = PAIRS, labels: np.ndarray = LABELS, **options: object
) -> list:
    return pair_scores.sweep(features, pairs, labels, CONTENTS, PROTOCOL, folder / "results", **options)


def scores(results: list[Result]) -> list:
    return [(result.pair, result.summary["valid"]["accuracy"], result.summary["valid"]["nll"]) for result in results]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_every_pair_is_judged_as_it_would_be_alone(features: dict, tmp_path: Path, jobs: int) -> None:
    told: list[tuple[int, int]] = []
    results = run(features, tmp_path, jobs=jobs, progress=lambda *counts: told.append(counts))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert results[-1].pair == PAIRS[1]
    splits = PROTOCOL.splits(LABELS, CONTENTS)
    for result in results:
        name, params = result.pair.features, dict(result.pair.params)
        alone = evaluate(
            {name: features[name]}, LABELS, CONTENTS, splits, lambda params=params: make_head("logistic", params)
        )
        for score in ("accuracy", "nll", "ece"):
            assert result.summary["valid"][score]["mean"] == pytest.approx(alone.summary()["valid"][score]["mean"])
        truth, predicted = alone.held_out()
        order = np.argsort(np.concatenate(alone.rows))
        np.testing.assert_array_equal(result.right, (truth == predicted)[order])
        assert result.loss.mean() == pytest.approx(alone.summary()["valid"]["nll"]["mean"])
    accuracies = [result.accuracy for result in results]
    assert accuracies == sorted(accuracies, reverse=True)


def test_what_is_known_is_not_judged_again(features: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(features, tmp_path, PAIRS[:2])
    judge, judged = pair_scores._evaluate_pair, []
    monkeypatch.setattr(
        pair_scores, "_evaluate_pair", lambda *arguments: judged.append(arguments[1]) or judge(*arguments)
    )
    again = run(features, tmp_path)
    assert judged == PAIRS[2:]
    assert scores(first) == [row for row in scores(again) if row[0] != PAIRS[2]]
    other = LABELS.copy()
    other[0], other[1] = LABELS[1], LABELS[0]
    run(features, tmp_path, labels=other)
    assert judged == [*PAIRS[2:], *PAIRS]


def test_a_sweep_that_was_interrupted_goes_on(features: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(features, tmp_path, progress=stop)
    assert len(list((tmp_path / "results").glob("*.npz"))) == 2
    assert scores(run(features, tmp_path)) == scores(run(features, tmp_path / "uninterrupted"))


def test_a_head_of_the_users_own_is_judged_again_when_its_file_has_changed(
    features: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "own.py"
    code = "from sklearn.naive_bayes import GaussianNB\n\ndef make_head():\n    return GaussianNB({})\n"
    pair, judge, judged = Pair("clear", f"{file}:make_head"), pair_scores._evaluate_pair, []
    monkeypatch.setattr(pair_scores, "_evaluate_pair", lambda *arguments: judged.append(1) or judge(*arguments))
    for content, times in (("", 1), ("", 1), ("var_smoothing=1e-3", 2)):
        file.write_text(code.replace("{}", content))
        (result,) = run(features, tmp_path, [pair])
        assert result.error == ""
        assert len(judged) == times


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"no result at all"])
def test_a_result_that_cannot_be_read_is_made_again(features: dict, tmp_path: Path, content: bytes) -> None:
    expected = scores(run(features, tmp_path, PAIRS[:1]))
    (file,) = (tmp_path / "results").iterdir()
    file.write_bytes(content)
    assert scores(run(features, tmp_path, PAIRS[:1])) == expected
    assert file.stat().st_size > 100


def test_a_pair_that_fails_comes_last_and_is_tried_again(features: dict, tmp_path: Path) -> None:
    bad = Pair("clear", "logistic", (("max_iter", 0),))
    results = run(features, tmp_path, [bad, PAIRS[1]])
    assert [result.pair for result in results] == [PAIRS[1], bad]
    assert results[-1].error == "max_iter should be at least 1; received 0."
    assert len(list((tmp_path / "results").iterdir())) == 1


def test_the_best_of_many_that_guess_is_expected_to_guess() -> None:
    rng = np.random.default_rng(0)
    right = (rng.random((300, 50)) < 0.5).astype(float)
    results = [Result(Pair("", str(number)), {}, column, column) for number, column in enumerate(right.T)]
    assert right.mean(0).max() > 0.55
    expected = unbiased(results, np.arange(300))
    assert expected["accuracy"] == pytest.approx(0.5, abs=0.03)
    assert expected["low"] < expected["accuracy"] < expected["high"]


def guesses(right: np.ndarray) -> list[Result]:
    """Results of these columns, the best first, as a sweep ranks them."""
    order = np.argsort(-right.mean(0), kind="stable")
    return [Result(Pair("", str(number)), {}, column, 1 - column) for number, column in enumerate(right[:, order].T)]


@pytest.mark.slow
def test_what_is_equal_in_a_sample_is_not_decided_by_the_images_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # 60 results that guess, on 30 images: the first in the order of all images would make it 0.527.
    monkeypatch.setattr(pair_scores, "DRAWS", 100)
    rng, expected = np.random.default_rng(0), []
    for _ in range(150):
        right = (rng.random((30, 60)) < 0.5).astype(float)
        expected += [unbiased(guesses(some), np.arange(30))["accuracy"] for some in (right, 1 - right)]
    assert np.mean(expected) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("loss", "expected"), [(0.1, 0.5), (0.9, 1.0)])
def test_the_choice_in_a_sample_goes_by_log_loss_where_accuracies_are_equal(loss: float, expected: float) -> None:
    # Of two images one is drawn and one left out. On the first both results are right; only the second one is on both.
    right, losses = np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[loss, 3.0], [0.5, 0.5]])
    results = [Result(Pair("", str(n)), {}, right[n], losses[n]) for n in range(2)]
    for some in (results, results[::-1]):
        assert unbiased(some, np.arange(2))["accuracy"] == pytest.approx(expected, abs=0.05)


def test_the_same_seed_expects_the_same_and_images_that_cannot_be_left_out_are_no_trouble() -> None:
    results = guesses((np.random.default_rng(3).random((3, 20)) < 0.5).astype(float))
    assert unbiased(results, np.arange(3), 1) == unbiased(results, np.arange(3), 1)
    assert unbiased(results, np.arange(3), 1) != unbiased(results, np.arange(3), 2)
    assert unbiased(results, np.arange(3)[[0, 0, 0]])["low"] == 0


def test_one_that_is_truly_better_is_expected_to_be() -> None:
    rng = np.random.default_rng(1)
    right = (rng.random((400, 20)) < np.where(np.arange(20) == 7, 0.9, 0.5)).astype(float)
    results = [Result(Pair("", str(number)), {}, column, column) for number, column in enumerate(right.T)]
    assert unbiased(results, np.arange(400))["accuracy"] == pytest.approx(right[:, 7].mean(), abs=0.01)


def test_copies_of_an_image_are_drawn_together() -> None:
    # Each image is there ten times: what is right of one is right of all, and nothing can be learnt of the rest.
    rng = np.random.default_rng(2)
    once = (rng.random((30, 40)) < 0.5).astype(float)
    results = [
        Result(Pair("", str(number)), {}, column, column) for number, column in enumerate(np.repeat(once, 10, 0).T)
    ]
    assert unbiased(results, np.repeat(np.arange(30), 10))["accuracy"] < 0.6
