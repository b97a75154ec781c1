"""Scores are scikit-learn's where it has them, and labels that the head does not know are mistakes."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from sklearn import metrics
from sklearn.calibration import calibration_curve

from heads.evaluation.metrics import (
    NLL_FLOOR,
    bagged,
    confusion,
    most_wrong,
    one_versus_rest,
    per_class,
    reliability,
    roc_auc,
    score,
    score_multilabel,
    score_regression,
    with_columns_of,
)

CLASSES = np.array(["ant", "bee", "cicada", "dragonfly"])
LETTERS = np.array(list("abcdefgh"))


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
        "ece": 0.0,
        "roc_auc": 1.0,
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


# Top 5.


def _letters(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.choice(LETTERS, n), rng.dirichlet(np.ones(8), n).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_top_5_is_that_of_scikit_learn(seed: int):
    labels, probabilities = _letters(60, seed)
    expected = metrics.top_k_accuracy_score(labels, probabilities, k=5, labels=LETTERS)
    assert score(LETTERS, labels, probabilities)["top_5"] == pytest.approx(expected)


def test_of_equal_probabilities_the_first_five_count():
    got = [score(LETTERS, np.array([label]), np.full((1, 8), 1 / 8))["top_5"] for label in "abcdefghz"]
    assert got == [1, 1, 1, 1, 1, 0, 0, 0, 0]


def test_top_5_needs_more_than_5_classes():
    assert "top_5" not in score(LETTERS[:5], LETTERS[:5], np.eye(5))
    assert score(LETTERS[:6], LETTERS[:6], np.eye(6))["top_5"] == 1


# Area under the ROC curve.


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("digits", [1, 8], ids=["ties", "no ties"])
def test_roc_auc_is_that_of_scikit_learn(seed: int, digits: int):
    labels, probabilities = _letters(100, seed)
    probabilities = probabilities.round(digits)
    areas = [metrics.roc_auc_score(labels == label, probabilities[:, i]) for i, label in enumerate(LETTERS)]
    assert roc_auc(LETTERS, labels, probabilities) == pytest.approx(np.mean(areas), abs=1e-12)
    if digits == 8:
        exact = probabilities.astype(float) / probabilities.astype(float).sum(1, keepdims=True)
        expected = metrics.roc_auc_score(labels, exact, multi_class="ovr", average="macro")
        assert roc_auc(LETTERS, labels, exact) == pytest.approx(expected, abs=1e-12)


def test_roc_auc_of_two_classes_is_the_binary_one():
    labels, probabilities = _predictions(50, 0)
    two = probabilities[:, :2] / probabilities[:, :2].sum(1, keepdims=True)
    of_bee = metrics.roc_auc_score(labels == "bee", two[:, 1])
    got = roc_auc(CLASSES[:2], np.where(labels == "bee", "bee", "ant"), two)
    assert got == pytest.approx(of_bee)


def test_roc_auc_takes_only_classes_with_rows_of_both_kinds():
    labels, probabilities = _predictions(80, 1)
    some = np.isin(labels, ["ant", "cicada"])
    labels, probabilities = labels[some], probabilities[some]
    areas = [metrics.roc_auc_score(labels == CLASSES[i], probabilities[:, i]) for i in (0, 2)]
    assert roc_auc(CLASSES, labels, probabilities) == pytest.approx(np.mean(areas))


def test_roc_auc_takes_rows_of_unknown_classes_as_rows_of_none():
    labels, probabilities = _predictions(80, 2)
    strange = np.where(np.arange(80) < 20, "zebra", labels)
    areas = [metrics.roc_auc_score(strange == label, probabilities[:, i]) for i, label in enumerate(CLASSES)]
    assert roc_auc(CLASSES, strange, probabilities) == pytest.approx(np.mean(areas))


@pytest.mark.parametrize("labels", [["bee"], ["bee"] * 3, ["zebra", "yak"]], ids=str)
def test_roc_auc_is_none_where_no_class_has_rows_of_both_kinds(labels: list[str]):
    probabilities = np.full((len(labels), 4), 0.25)
    assert roc_auc(CLASSES, np.array(labels), probabilities) is None
    assert score(CLASSES, np.array(labels), probabilities)["roc_auc"] is None


@pytest.mark.parametrize("order", ["C", "F"])
def test_probabilities_are_left_as_they_are(order: str):
    labels, probabilities = _predictions(50, 3)
    probabilities = np.array(probabilities, order=order)
    before = probabilities.copy()
    score(CLASSES, labels, probabilities)
    np.testing.assert_array_equal(probabilities, before)


# Calibration.


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_reliability_is_that_of_scikit_learn(seed: int, bins: int):
    labels, probabilities = _predictions(300, seed)
    got = reliability(CLASSES, labels, probabilities, bins)
    right = CLASSES[probabilities.argmax(1)] == labels
    accuracy, confidence = calibration_curve(right, probabilities.max(1), n_bins=bins)
    some = got.count > 0
    np.testing.assert_allclose(got.accuracy[some], accuracy)
    np.testing.assert_allclose(got.confidence[some], confidence)
    np.testing.assert_array_equal(got.count, np.histogram(probabilities.max(1), bins, (0, 1))[0])
    assert np.isnan(got.accuracy[~some]).all()
    assert got.edges.tolist() == np.linspace(0, 1, bins + 1).tolist()


def test_calibration_error_by_hand():
    sure = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    labels = np.array(["ant", "ant", "ant", "bee", "bee", "bee"])
    expected = (4 * abs(0.75 - 0.9) + abs(0 - 0.6) + abs(1 - 0.8)) / 6
    assert reliability(CLASSES[:2], labels, sure).ece == pytest.approx(expected)
    assert score(CLASSES[:2], labels, sure)["ece"] == pytest.approx(expected)


def test_confidence_on_an_edge_belongs_to_the_bin_below():
    got = reliability(CLASSES[:2], np.array(["ant", "ant", "ant"]), np.array([[0.5, 0.5], [0.75, 0.25], [1, 0]]), 4)
    assert got.count.tolist() == [0, 1, 1, 1]


def test_confidence_that_rounding_lifts_above_1_is_in_the_last_bin():
    above = np.array([[np.nextafter(np.float32(1), np.float32(2)), 0]], np.float32)
    assert reliability(CLASSES[:2], np.array(["ant"]), above).count[-1] == 1


def test_head_that_is_always_right_and_sure_is_calibrated():
    assert score(CLASSES, CLASSES, np.eye(4))["ece"] == 0


def test_unknown_label_is_a_mistake_of_calibration_too():
    assert score(CLASSES, np.array(["zebra"]), np.eye(4)[:1])["ece"] == 1


# Predictions averaged over splits.


def test_intervals_hold_the_accuracy_and_narrow_with_more_rows():
    labels, probabilities = np.array(["ant"] * 9 + ["bee"]), np.tile([0.95, 0.05, 0, 0], (10, 1))
    few = reliability(CLASSES, labels, probabilities)
    many = reliability(CLASSES, np.tile(labels, 10), np.tile(probabilities, (10, 1)))
    for measured in (few, many):
        low, high = measured.interval
        assert low[14] < measured.accuracy[14] < high[14]
        assert np.isnan(low[0])
    assert np.diff(many.interval, axis=0)[0, 14] < np.diff(few.interval, axis=0)[0, 14]


@pytest.mark.parametrize("decimals", [1, 6])
def test_curves_of_one_class_are_those_of_scikit_learn(decimals: int):
    labels, probabilities = _predictions(200, 0)
    for column, name in enumerate(CLASSES):
        member, scores = labels == name, probabilities[:, column].round(decimals)
        curve = one_versus_rest(member, scores)
        assert curve.average_precision == pytest.approx(metrics.average_precision_score(member, scores))
        assert curve.roc_auc == pytest.approx(metrics.roc_auc_score(member, scores))
        precision, recall, _ = metrics.precision_recall_curve(member, scores)
        np.testing.assert_allclose(curve.hits[:0:-1] / curve.hits[-1], recall[:-1])
        np.testing.assert_allclose((curve.hits[1:] / (curve.hits + curve.false_alarms)[1:])[::-1], precision[:-1])


def test_curves_of_a_class_without_rows_have_no_area():
    curve = one_versus_rest(np.zeros(3, bool), np.array([0.5, 0.2, 0.1]))
    assert (curve.average_precision, curve.roc_auc) == (None, None)


def test_bagged_scores_are_those_of_the_mean_over_the_splits_that_held_a_row_out():
    labels, _ = _predictions(30, 0)
    rng = np.random.default_rng(0)
    folds = [(rows := rng.permutation(30)[:20], rng.dirichlet(np.ones(4), len(rows))) for _ in range(4)]
    got = bagged(labels, folds, partial(score, CLASSES))
    for number in range(1, 5):
        of_row: dict[int, list[np.ndarray]] = {}
        for rows, probabilities in folds[:number]:
            for row, one in zip(rows.tolist(), probabilities, strict=True):
                of_row.setdefault(row, []).append(one)
        done = sorted(of_row)
        expected = score(CLASSES, labels[done], np.array([np.mean(of_row[row], axis=0) for row in done]))
        assert got[number - 1] == pytest.approx(expected)
        assert got[number - 1]["n"] == len(done)


def test_bagging_folds_that_do_not_overlap_gives_the_scores_of_all_rows():
    labels, probabilities = _predictions(30, 1)
    rows = np.split(np.random.default_rng(0).permutation(30), 3)
    got = bagged(labels, [(of_fold, probabilities[of_fold]) for of_fold in rows], partial(score, CLASSES))
    assert [scores["n"] for scores in got] == [10, 20, 30]
    assert got[-1] == pytest.approx(score(CLASSES, labels, probabilities))


def test_bagging_of_numbers_and_of_no_splits():
    truth = np.array([1.0, 2.0, 4.0])
    folds = [(np.array([0, 2]), np.array([1.0, 2.0])), (np.array([2, 1]), np.array([6.0, 2.0]))]
    got = bagged(truth, folds, score_regression)
    assert [scores["n"] for scores in got] == [2, 3]
    assert got[1]["rmse"] == 0
    assert bagged(truth, [], score_regression) == []


def test_probabilities_of_some_classes_as_those_of_all():
    whole = with_columns_of(CLASSES, CLASSES[[1, 3]], np.array([[0.25, 0.75]], np.float32))
    assert whole.tolist() == [[0, 0.25, 0, 0.75]]
    assert whole.dtype == np.float32


# Class by class, and mistakes.


@pytest.mark.parametrize("seed", range(3))
def test_classes_fare_as_in_scikit_learn(seed: int):
    labels, probabilities = _predictions(100, seed)
    predicted = CLASSES[probabilities.argmax(1)]
    report = metrics.classification_report(labels, predicted, labels=CLASSES, output_dict=True, zero_division=0)
    for of_class in per_class(CLASSES, labels, predicted):
        expected = report[of_class["class"]]
        assert of_class["support"] == expected["support"]
        for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert of_class[ours] == pytest.approx(expected[theirs])


def test_shares_of_nothing_are_none_and_all_is_ready_for_json():
    got = per_class(CLASSES, np.array(["ant", "ant", "bee", "zebra"]), np.array(["ant", "cicada", "ant", "ant"]))
    assert got == [
        {"class": "ant", "precision": pytest.approx(1 / 3), "recall": 0.5, "f1": pytest.approx(0.4), "support": 2},
        {"class": "bee", "precision": None, "recall": 0.0, "f1": 0.0, "support": 1},
        {"class": "cicada", "precision": 0.0, "recall": None, "f1": 0.0, "support": 0},
        {"class": "dragonfly", "precision": None, "recall": None, "f1": None, "support": 0},
    ]
    assert {type(value) for of_class in got for value in of_class.values()} == {str, float, int, type(None)}


def test_surest_mistakes_come_first():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2], [0.05, 0.95], [0.2, 0.8]])
    labels = np.array(["ant", "ant", "bee", "ant", "zebra"])
    assert most_wrong(CLASSES[:2], labels, probabilities).tolist() == [3, 2, 4, 1]
    assert most_wrong(CLASSES[:2], labels, probabilities, 2).tolist() == [3, 2]
    assert most_wrong(CLASSES[:2], labels[:1], probabilities[:1]).tolist() == []


# Numbers, and several labels at once.


@pytest.mark.parametrize("shape", [(40,), (40, 1), (40, 3)])
def test_regression_scores_are_those_of_scikit_learn(shape: tuple[int, ...]):
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(shape)
    predicted = truth + rng.standard_normal(shape)
    got = score_regression(truth, predicted)
    error = (truth - predicted).reshape(40, -1)
    assert got == {
        "rmse": pytest.approx(np.sqrt((error**2).mean(0)).mean()),
        "mae": pytest.approx(np.abs(error).mean()),
        "r2": pytest.approx(metrics.r2_score(truth, predicted)),
        "n": 40,
    }
    assert {type(value) for value in got.values()} == {float, int}


def test_explained_variance_of_one_row_is_none_and_of_constant_truth_0_or_1():
    assert score_regression(np.array([1.0]), np.array([3.0])) == {"rmse": 2.0, "mae": 2.0, "r2": None, "n": 1}
    assert score_regression(np.ones(3), np.ones(3))["r2"] == 1
    assert score_regression(np.ones(3), np.zeros(3))["r2"] == 0


def test_truth_and_prediction_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="different number of output"):
        score_regression(np.ones((3, 2)), np.ones(3))


@pytest.mark.parametrize("seed", range(3))
def test_multilabel_scores_are_those_of_scikit_learn(seed: int):
    rng = np.random.default_rng(seed)
    truth, probabilities = rng.random((50, 4)) < 0.3, rng.random((50, 4)).astype(np.float32)
    predicted = probabilities > 0.5
    got = score_multilabel(truth, probabilities)
    assert got == {
        "subset_accuracy": pytest.approx(metrics.accuracy_score(truth, predicted)),
        "f1_micro": pytest.approx(metrics.f1_score(truth, predicted, average="micro")),
        "f1_macro": pytest.approx(metrics.f1_score(truth, predicted, average="macro")),
        "average_precision": pytest.approx(metrics.average_precision_score(truth, probabilities)),
        "nll": pytest.approx(metrics.log_loss(truth.ravel(), probabilities.ravel().astype(float)), abs=1e-6),
        "n": 50,
    }
    assert {type(value) for value in got.values()} == {float, int}


def test_label_that_no_row_has_and_none_is_given_does_not_count():
    truth = np.array([[True, False], [False, False]])
    got = score_multilabel(truth, np.array([[0.9, 0.1], [0.2, 0.3]]))
    assert (got["f1_macro"], got["average_precision"], got["subset_accuracy"]) == (1, 1, 1)
    nothing = score_multilabel(np.zeros((2, 2), bool), np.full((2, 2), 0.5))
    assert (nothing["f1_micro"], nothing["f1_macro"], nothing["average_precision"]) == (None, None, None)
    assert nothing["subset_accuracy"] == 1


def test_certain_multilabel_mistake_is_finite():
    got = score_multilabel(np.array([[True], [False]]), np.array([[0.0], [1.0]]))
    assert got["nll"] == pytest.approx(-np.log(NLL_FLOOR))


def test_single_label_is_scored_as_several_are():
    truth = np.array([[True], [False], [False], [False]])
    got = score_multilabel(truth, np.array([[0.7], [0.2], [0.8], [0.1]]))
    assert got["f1_micro"] == got["f1_macro"] == pytest.approx(2 / 3)
    assert got["average_precision"] == 0.5
    assert got["subset_accuracy"] == 0.75
