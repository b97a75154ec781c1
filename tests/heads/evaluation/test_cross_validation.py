"""Evaluation: heads are judged on rows that had no part in fitting or choosing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_data import cached

from heads import make_head
from heads.evaluation.cross_validation import Evaluation, choose, evaluate
from heads.evaluation.protocol import Protocol
from heads.evaluation.training import train
from heads.splitting.splits import Split, hold_out, k_fold
from heads.wrappers.classifiers import LogisticHead

N = 60
LABELS = np.array(["ant", "bee"])[np.arange(N) % 2]
CONTENTS = np.arange(N)
TRAIN, HELD_OUT = np.arange(40), np.arange(40, N)
PERFECT = np.where(LABELS == "ant", 5.0, -5.0)[:, None].astype(np.float32)
NOISE = np.random.default_rng(0).standard_normal((N, 3)).astype(np.float32)


def new_head() -> Any:
    return make_head("logistic", {"C": 1.0})


def one_split(candidates: dict, labels: np.ndarray = LABELS) -> Evaluation:
    return evaluate(candidates, labels, CONTENTS, [(TRAIN, HELD_OUT)], new_head)


@pytest.mark.parametrize("order", [("noise", "perfect"), ("perfect", "noise")])
def test_perfect_candidate_is_chosen_wherever_it_stands(order: tuple[str, str]):
    candidates = {name: {"noise": NOISE, "perfect": PERFECT}[name] for name in order}
    evaluation = one_split(candidates)
    assert evaluation.folds[0]["features"] == "perfect"
    assert evaluation.folds[0]["valid"]["accuracy"] == 1
    assert choose(candidates, LABELS, CONTENTS, TRAIN, new_head).features == "perfect"


def test_candidate_that_is_good_only_on_the_rows_held_out_is_not_chosen():
    tempting, honest = NOISE.copy(), PERFECT + 4 * NOISE[:, :1]
    tempting[HELD_OUT] = 100 * PERFECT[HELD_OUT]
    honest[HELD_OUT] = 0
    evaluation = one_split({"tempting": tempting, "honest": honest})
    assert evaluation.folds[0]["features"] == "honest"


def test_labels_of_the_rows_held_out_play_no_part():
    shuffled = LABELS.copy()
    shuffled[HELD_OUT] = np.random.default_rng(1).permutation(shuffled[HELD_OUT])
    candidates = {"noise": NOISE, "weak": PERFECT + 6 * NOISE[:, :1]}
    one, other = one_split(candidates), one_split(candidates, shuffled)
    assert one.folds[0]["features"] == other.folds[0]["features"]
    np.testing.assert_array_equal(one.predicted[0], other.predicted[0])
    for name in ("accuracy", "balanced_accuracy", "nll", "n"):
        assert one.folds[0]["train"][name] == other.folds[0]["train"][name]


def test_copies_of_an_image_do_not_help_a_candidate():
    # Each image twice; "name tag" tells images apart and says nothing of their class.
    labels, groups = np.repeat(LABELS[:20], 2), np.repeat(np.arange(20), 2)
    candidates = {
        "name tag": np.repeat(np.eye(20, dtype=np.float32), 2, axis=0),
        "class": np.repeat(PERFECT[:20], 2, 0),
    }
    candidates["class"] = candidates["class"] + 5 * np.repeat(NOISE[:20, :1], 2, axis=0)
    assert choose(candidates, labels, groups, np.arange(40), new_head).features == "class"


def test_tie_goes_to_the_lower_log_loss():
    faint = PERFECT * np.linspace(0.2, 1.8, N, dtype=np.float32)[:, None]
    for candidates in ({"faint": faint, "perfect": PERFECT}, {"perfect": PERFECT, "faint": faint}):
        assert choose(candidates, LABELS, CONTENTS, TRAIN, new_head).features == "perfect"


def test_single_candidate_needs_no_inner_folds():
    only_one_of_a_class = np.array([0, 1, 2, 4])
    assert choose({"noise": NOISE}, LABELS, CONTENTS, only_one_of_a_class, new_head).features == "noise"


def test_each_split_is_scored_with_a_head_of_its_own_rows():
    splits = list(k_fold(LABELS, CONTENTS, 3, 0))
    done = []
    evaluation = evaluate({"noise": NOISE}, LABELS, CONTENTS, splits, new_head, progress=done.append)
    assert done == [1, 2, 3]
    assert len(evaluation.folds) == 3
    for fold, truth, predicted, (train_rows, held_out) in zip(
        evaluation.folds, evaluation.truth, evaluation.predicted, splits, strict=True
    ):
        head = LogisticHead(C=1.0).fit(NOISE[train_rows], LABELS[train_rows])
        np.testing.assert_array_equal(truth, LABELS[held_out])
        np.testing.assert_array_equal(predicted, head.predict(NOISE[held_out]))
        assert fold["valid"]["accuracy"] == pytest.approx(head.score(NOISE[held_out], LABELS[held_out]))
        assert fold["train"]["accuracy"] == pytest.approx(head.score(NOISE[train_rows], LABELS[train_rows]))
        assert (fold["train"]["n"], fold["valid"]["n"]) == (40, 20)
        for part in ("train", "valid"):
            assert set(fold[part]) == {
                "accuracy", "balanced_accuracy", "nll", "ece", "roc_auc", "n", "fit_seconds", "predict_seconds"
            }  # fmt: skip
            assert 0 < fold[part]["fit_seconds"] < 30
            assert 0 < fold[part]["predict_seconds"] < 30


def test_summary_is_mean_and_deviation_over_the_splits():
    evaluation = evaluate({"noise": NOISE}, LABELS, CONTENTS, k_fold(LABELS, CONTENTS, 3, 0), new_head)
    summary = evaluation.summary()
    assert set(summary) == {"train", "valid"}
    for part, scores in summary.items():
        for name, values in scores.items():
            each = [fold[part][name] for fold in evaluation.folds]
            assert values == {"mean": pytest.approx(np.mean(each)), "std": pytest.approx(np.std(each))}


def test_summary_of_a_score_that_not_all_splits_define_is_that_of_the_others():
    parts = [{"roc_auc": 0.5, "top_5": 1.0, "r2": None}, {"roc_auc": None, "top_5": 0.5, "r2": None}, {"roc_auc": 1.0}]
    summary = Evaluation([{"train": part, "valid": part} for part in parts]).summary()
    quarter, nothing = {"mean": 0.75, "std": 0.25}, {"mean": None, "std": None}
    expected = {"roc_auc": quarter, "top_5": quarter, "r2": nothing}
    assert summary == {"train": expected, "valid": expected}


def test_rows_held_out_follow_one_another_split_by_split():
    splits = list(k_fold(LABELS, CONTENTS, 3, 0))
    truth, predicted = evaluate({"perfect": PERFECT}, LABELS, CONTENTS, splits, new_head).held_out()
    np.testing.assert_array_equal(truth, np.concatenate([LABELS[held_out] for _, held_out in splits]))
    np.testing.assert_array_equal(predicted, truth)


def test_features_from_a_cache_are_judged_as_arrays_are(tmp_path: Path):
    kept = {name: cached(tmp_path / name, rows) for name, rows in (("noise", NOISE), ("perfect", PERFECT))}
    from_cache, in_memory = one_split(kept), one_split({"noise": NOISE, "perfect": PERFECT})
    assert from_cache.folds[0]["features"] == in_memory.folds[0]["features"]
    for name in ("accuracy", "balanced_accuracy", "nll", "n"):
        assert from_cache.folds[0]["valid"][name] == in_memory.folds[0]["valid"][name]


def test_class_that_training_rows_lack_counts_as_mistakes():
    split: Split = (np.arange(40), np.arange(40, N))
    labels = LABELS.copy()
    labels[50:] = "cicada"
    fold = evaluate({"perfect": PERFECT}, labels, CONTENTS, [split], new_head).folds[0]
    assert fold["valid"]["accuracy"] == 0.5
    assert np.isfinite(fold["valid"]["nll"])


# The protocol, and the head that is kept.


def test_protocol_makes_folds_a_share_or_draws():
    assert len(Protocol(cv=4).splits(LABELS, CONTENTS)) == 4
    ((train_rows, held_out),) = Protocol(valid=0.25).splits(LABELS, CONTENTS)
    assert (len(train_rows), len(held_out)) == (45, 15)
    assert len(Protocol().splits(LABELS, CONTENTS)[0][1]) == 12  # a fifth, unless told
    draws = Protocol(per_class=3, draws=4).splits(LABELS, CONTENTS)
    assert [len(train_rows) for train_rows, _ in draws] == [6] * 4
    assert len({tuple(train_rows) for train_rows, _ in draws}) == 4


def test_protocol_as_a_dict_leaves_out_what_does_not_count():
    assert Protocol(cv=4, seed=2).as_dict() == {"cv": 4, "draws": 20, "seed": 2}


def test_head_that_is_kept_is_fitted_on_all_rows_of_the_chosen_candidate(tmp_path: Path):
    candidates = {"noise": cached(tmp_path / "noise", NOISE), "perfect": cached(tmp_path / "perfect", PERFECT)}
    done = []
    trained = train(candidates, LABELS, CONTENTS, Protocol(cv=3), "logistic", {"C": "0.5"}, lambda *of: done.append(of))
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert trained.features == "perfect"
    expected = LogisticHead(C=0.5).fit(PERFECT, LABELS)
    np.testing.assert_array_equal(trained.head.predict_proba(PERFECT), expected.predict_proba(PERFECT))
    assert len(trained.evaluation.folds) == 3
    assert trained.fit_seconds > 0


class Guess:
    """Right where it is told to be, of features that are the class itself."""

    def __init__(self, right: bool) -> None:
        self.right = right

    def fit(self, X: np.ndarray, y: np.ndarray) -> Guess:
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        ant = np.clip(np.asarray(X)[:, :1], 0.1, 0.9)
        return np.hstack([ant, 1 - ant] if self.right else [1 - ant, ant])


@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_parameters_of_a_grid_are_chosen_as_features_are(order: tuple[bool, bool]):
    grid = [{"right": right} for right in order]
    candidates = {"noise": NOISE, "perfect": PERFECT}
    evaluation = evaluate(candidates, LABELS, CONTENTS, [(TRAIN, HELD_OUT)], Guess, grid=grid)
    assert evaluation.folds[0]["params"] == {"right": True}
    assert evaluation.folds[0]["features"] == "perfect"
    assert evaluation.folds[0]["valid"]["accuracy"] == 1
    assert choose(candidates, LABELS, CONTENTS, TRAIN, Guess, grid=grid).params == {"right": True}


@pytest.mark.slow
@pytest.mark.parametrize("head", ["logistic", "ridge", "lda", "knn"])
def test_with_labels_drawn_at_random_nothing_is_found(head: str):
    rng = np.random.default_rng(5)
    labels, features = np.array(["ant", "bee"])[rng.integers(2, size=240)], rng.standard_normal((240, 30))
    candidates = {"all": features, "some": features[:, :7], "maps": features.reshape(240, 5, 6)}
    trained = train(candidates, labels, np.arange(240), Protocol(cv=4, test=0.25), head, grid=[{}, {}])
    assert abs(trained.evaluation.summary()["valid"]["accuracy"]["mean"] - 0.5) < 0.12
    assert trained.test is not None
    assert abs(trained.test["accuracy"] - 0.5) < 0.2


def test_the_test_part_has_no_part_in_anything_else():
    labels = LABELS.copy()
    protocol = Protocol(cv=3, test=0.2)
    first = train({"noise": NOISE}, labels, CONTENTS, protocol, "logistic")
    _, aside = hold_out(labels, CONTENTS, 0.2, 0)
    assert first.test is not None
    assert first.test["n"] == len(aside) == 12
    assert not set(aside) & set(np.concatenate(first.evaluation.rows).tolist())
    spoilt = NOISE.copy()
    spoilt[aside] = 1e6
    again = train({"noise": spoilt}, labels, CONTENTS, protocol, "logistic")
    np.testing.assert_array_equal(np.concatenate(again.evaluation.outputs), np.concatenate(first.evaluation.outputs))
    np.testing.assert_array_equal(again.head.predict_proba(NOISE), first.head.predict_proba(NOISE))
    assert again.test != first.test
