"""Probabilities: of any classifier, and as sure as they are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC, LinearSVC

from heads import make_head
from heads.evaluation.metrics import score
from heads.temperature import inverse_temperature
from heads.wrappers.calibration import TemperatureScaled, _folds
from heads.wrappers.prototypes import Prototypes

CENTRES = np.random.default_rng(1).normal(0, 1.2, (5, 8))


def overlapping(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of five classes that overlap, their labels, and the true probabilities of the classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(5, size=n)
    X = CENTRES[y] + rng.normal(0, 1.5, (n, 8))
    logits = -np.square(X[:, None] - CENTRES).sum(2) / (2 * 1.5**2)
    return X, y, softmax(logits, axis=1)


def scored(head: Any, n: int = 400) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores of `head`, and those of the true probabilities, on rows that it was not fitted on."""
    X, y, _ = overlapping(n, 0)
    test_X, test_y, truth = overlapping(4000, 1)
    head.fit(X, y)
    return score(head.classes_, test_y, head.predict_proba(test_X)), score(head.classes_, test_y, truth)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("linear-svm", {}),
        ("svm-rbf", {}),
        ("lda", {}),
        ("prototypes", {}),
        ("knn", {"metric": "euclidean"}),
        ("random-forest", {"n_estimators": 60}),
    ],
)
def test_heads_are_as_sure_as_they_are_right(name: str, params: dict) -> None:
    found, best = scored(make_head(name, params))
    assert found["ece"] < 0.05
    assert found["nll"] < best["nll"] + 0.2
    plain, _ = scored(make_head(name, {**params, "calibrate": False}))
    assert found["accuracy"] == plain["accuracy"] or name in ("svm-rbf", "random-forest", "knn")
    assert found["nll"] < plain["nll"] + 0.01


@pytest.mark.parametrize("estimator", [LinearSVC(), RidgeClassifier(), SVC(), GaussianNB()], ids=lambda e: str(e)[:8])
def test_the_likeliest_class_is_the_one_with_the_highest_decision_value(estimator: Any) -> None:
    X, y, _ = overlapping(200, 2)
    scaled = TemperatureScaled(estimator).fit(X, y)
    agree = scaled.predict(X) == estimator.fit(X, y).predict(X)
    assert agree.mean() > (0.97 if isinstance(estimator, SVC) else 0.999)  # votes of pairs may tie


def test_two_classes_have_one_decision_value() -> None:
    X, y, _ = overlapping(300, 3)
    X, y = X[y < 2], np.array(["no", "yes"])[y[y < 2]]
    scaled = TemperatureScaled(LinearSVC()).fit(X, y)
    values = scaled.estimator_.decision_function(X)
    expected = 1 / (1 + np.exp(-scaled.inverse_temperature_ * values))
    np.testing.assert_allclose(scaled.predict_proba(X)[:, 1], expected, atol=1e-9)


def test_temperature_is_that_of_the_lowest_log_loss() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (5000, 4))
    target = np.array([rng.choice(4, p=row) for row in softmax(0.4 * logits, axis=1)])
    assert inverse_temperature(logits, target) == pytest.approx(0.4, rel=0.1)
    assert inverse_temperature(1000 * logits, target) == pytest.approx(0.4e-3, rel=0.1)


def test_few_rows_that_are_all_right_do_not_make_for_certainty() -> None:
    logits = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    sure = softmax(inverse_temperature(logits, np.array([0, 1, 2, 0, 1, 2])) * logits, axis=1).max(1)
    np.testing.assert_allclose(sure, 7 / 8, atol=1e-3)


@pytest.mark.parametrize("logits", [np.zeros((4, 3)), np.full((4, 3), 1e300)])
def test_decision_values_that_tell_nothing_keep_a_temperature_of_one(logits: np.ndarray) -> None:
    assert inverse_temperature(logits, np.array([0, 1, 2, 0])) == 1


@pytest.mark.parametrize("counts", [(1, 1, 1), (2, 2, 2), (2, 1, 5), (3, 3, 3), (50, 2, 7)], ids=str)
def test_every_fold_leaves_rows_of_every_class(counts: tuple[int, ...]) -> None:
    target = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    fold = _folds(target, 3)
    for number in range(3):
        assert set(target[fold != number]) == set(target)
    assert (fold[np.bincount(target)[target] == 1] == -1).all()
    assert ((fold >= 0) == (np.bincount(target)[target] > 1)).all()
    held_out = np.bincount(fold[fold >= 0], minlength=3)
    assert held_out.max() - held_out.min() <= len(counts)


def test_views_of_an_image_seldom_part() -> None:
    images, views = 30, 4
    target = np.repeat(np.arange(images) % 3, views)
    fold = _folds(target, 3).reshape(images, views)
    assert (fold == fold[:, :1]).all(1).mean() > 0.75


def test_neighbours_are_never_more_than_the_rows() -> None:
    X, y, _ = overlapping(12, 4)
    scaled = TemperatureScaled(KNeighborsClassifier(10)).fit(X, y)
    assert scaled.estimator_.n_neighbors == 10
    assert TemperatureScaled(KNeighborsClassifier(100)).fit(X, y).estimator_.n_neighbors == 12


def test_own_probabilities_are_left_as_they_are_without_folds() -> None:
    X, y, _ = overlapping(100, 5)
    scaled = TemperatureScaled(LogisticRegression(), folds=0).fit(X, y)
    np.testing.assert_array_equal(scaled.predict_proba(X), LogisticRegression().fit(X, y).predict_proba(X))
    assert scaled.inverse_temperature_ is None


class Odd(ClassifierMixin, BaseEstimator):
    """Gives what it was told to."""

    def __init__(self, probabilities: Any = None, decisions: Any = None, classes: Any = None) -> None:
        self.probabilities = probabilities
        self.decisions = decisions
        self.classes = classes

    def fit(self, X: np.ndarray, y: np.ndarray) -> Odd:
        self.classes_ = np.unique(y) if self.classes is None else np.array(self.classes)
        return self

    def __getattr__(self, name: str) -> Any:
        values = {"predict_proba": "probabilities", "decision_function": "decisions"}.get(name)
        if values is None or self.__dict__.get(values) is None:
            raise AttributeError(name)
        return lambda X: np.array([self.__dict__[values]] * len(X))


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (Odd(probabilities=[0.5, 0.2, 0.2]), "4 rows of 3 probabilities that sum to 1; it returned float64 of shape"),
        (Odd(probabilities=[0.5, 0.5]), "shape \\(4, 2\\)"),
        (Odd(probabilities=[1.5, -0.5, 0.0]), "it returned float64 of shape \\(4, 3\\), the first of them 1.5"),
        (Odd(probabilities=[np.nan, 0.5, 0.5]), "the first of them nan"),
        (Odd(probabilities=["a", "b", "c"]), "it returned <U1"),
        (Odd(decisions=[1.0, 2.0]), "4 rows of 3 finite values"),
        (Odd(decisions=[1.0, 2.0, np.inf]), "4 rows of 3 finite values"),
        (Odd(decisions=1.0), "shape \\(4,\\)"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_said(odd: Odd, message: str) -> None:
    X, y = np.zeros((9, 2)), np.arange(9) % 3
    scaled = TemperatureScaled(odd, folds=0).fit(X, y)
    with pytest.raises(ValueError, match=message):
        scaled.predict_proba(X[:4])


def test_classes_in_another_order_are_refused() -> None:
    with pytest.raises(ValueError, match="Odd has the classes \\[2 1 0\\]; those of the labels are \\[0 1 2\\]"):
        TemperatureScaled(Odd(probabilities=[1, 0, 0], classes=[2, 1, 0])).fit(np.zeros((9, 2)), np.arange(9) % 3)


# The nearest class mean.


def test_prototypes_are_means_and_probabilities_a_softmax_of_squared_distances() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(5, 1, (9001, 4)).astype(np.float32), np.arange(9001) % 3
    head = Prototypes().fit(X, y)
    means = np.array([X[y == label].mean(0, dtype=np.float64) for label in range(3)])
    np.testing.assert_allclose(head.means_, means, atol=1e-9)
    distances = np.square(X[:, None] - means).sum(2)
    between = [np.square(means[i] - means[j]).sum() for i in range(3) for j in range(3) if i != j]
    assert head.unit_ == pytest.approx(np.mean(between) / 10)
    np.testing.assert_allclose(head.predict_proba(X), softmax(-distances / head.unit_, axis=1), atol=1e-6)
    np.testing.assert_array_equal(head.predict(X), distances.argmin(1))


def test_prototypes_far_from_zero_lose_no_digits() -> None:
    X, y, _ = overlapping(100, 6)
    expected = Prototypes().fit(X, y).predict_proba(X)
    np.testing.assert_allclose(Prototypes().fit(X + 1e6, y).predict_proba(X + 1e6), expected, atol=1e-6)


def test_prototypes_that_are_the_same_tell_nothing() -> None:
    head = Prototypes().fit(np.ones((4, 3)), [0, 1, 0, 1])
    np.testing.assert_allclose(head.predict_proba(np.ones((2, 3))), 0.5)
