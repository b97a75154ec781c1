"""The head that is the default: it is as good as its parts, knows how sure it is, and reads rows from a cache."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf
from sklearn.datasets import load_digits
from sklearn.utils.estimator_checks import parametrize_with_checks
from toy_data import blobs, cached

from feature_cache.errors import BadData, InvalidChoice
from heads import auto, make_head
from heads.auto import AutoHead
from heads.evaluation.metrics import score
from heads.ridge.discriminant import shrunk_covariance
from heads.splitting.splits import few_labels


@parametrize_with_checks([AutoHead()])
def test_auto_head_keeps_the_rules_of_scikit_learn(estimator: AutoHead, check: Callable):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def test_auto_head_keeps_the_rules_of_heads(check_head: Callable):
    check_head(AutoHead)


def scores(name: str, per_class: int, seed: int, scale: np.ndarray | float = 1.0) -> dict[str, float]:
    """The scores of a head on digits, with so many of each digit to train on."""
    X, y = load_digits(return_X_y=True)
    train, held_out = few_labels(y, np.arange(len(y)), per_class, seed)
    head = make_head(name).fit(X[train] * scale, y[train])
    return score(head.classes_, y[held_out], head.predict_proba(X[held_out] * scale))


@pytest.mark.parametrize("per_class", [3, 10, 50, 120])
def test_it_is_nearly_as_good_as_the_better_of_its_parts_or_better(per_class: int):
    mean = {
        name: np.mean([scores(name, per_class, seed)["nll"] for seed in range(4)])
        for name in ("auto", "ridge", "linear")
    }
    assert mean["auto"] < 1.05 * min(mean["ridge"], mean["linear"])


def test_a_class_between_others_is_told_apart():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 600)
    X = rng.standard_normal((600, 40))
    X[:, 0] += 4 * y  # five grades on a line
    auto, ridge = (make_head(name).fit(X[:300], y[:300]) for name in ("auto", "ridge"))
    assert auto.chosen_["discriminant"] > auto.chosen_["ridge"]
    assert auto.score(X[300:], y[300:]) > max(0.85, ridge.score(X[300:], y[300:]) + 0.05)


@pytest.mark.parametrize(("rows", "width", "together"), [(300, 20, 1), (300, 256, 1), (1200, 64, 1), (300, 64, 3)])
def test_labels_of_noise_are_not_decoded_from_predictions_without_them(rows: int, width: int, together: int):
    """A prediction without a row has an intercept that tells its label, which must not be learned."""
    rng = np.random.default_rng(1)
    groups = np.arange(rows) // together
    X, y = rng.standard_normal((rows, width))[groups], rng.integers(0, 3, rows)[groups]
    head = AutoHead().fit(X, y, groups=groups)
    others, truth = rng.standard_normal((2000, width)), rng.integers(0, 3, 2000)
    assert score(head.classes_, truth, head.predict_proba(others))["nll"] < np.log(3) + 0.03


@pytest.mark.parametrize("rows", [5, 40, 1000])
def test_the_covariance_is_shrunk_as_by_scikit_learn(rows: int):
    rng = np.random.default_rng(0)
    centred = rng.standard_normal((rows, 6)) * np.arange(1, 7)
    np.testing.assert_allclose(shrunk_covariance(centred), ledoit_wolf(centred, assume_centered=True)[0])


def test_constant_features_tell_how_frequent_classes_are():
    head = AutoHead().fit(np.zeros((300, 4)), np.arange(300) % 3)
    np.testing.assert_allclose(head.predict_proba(np.zeros((1, 4))), 1 / 3)


def test_two_rows_of_a_class_are_too_few_for_a_discriminant():
    mean = {name: np.mean([scores(name, 2, seed)["nll"] for seed in range(5)]) for name in ("auto", "ridge")}
    assert mean["auto"] < 1.05 * mean["ridge"]


def test_copies_of_a_row_of_each_class_are_learned():
    X, y = np.repeat(np.eye(4) + 1, 6, axis=0), np.repeat(np.arange(4), 6)
    head = AutoHead().fit(X, y)
    assert head.score(X, y) == 1
    assert np.isfinite(head.predict_proba(X)).all()


def test_a_rare_class_is_as_rare_as_it_was():
    """Regression on indicators pulls towards 0 what is rare; discriminant analysis knows how frequent classes are."""
    rng = np.random.default_rng(0)
    y = rng.choice(3, 900, p=[0.9, 0.05, 0.05])
    X = rng.standard_normal((900, 20)) + 1.5 * np.eye(20)[y]
    auto = AutoHead().fit(X[:600], y[:600])
    shares = auto.predict_proba(X[600:]).mean(axis=0)
    np.testing.assert_allclose(shares, [0.9, 0.05, 0.05], atol=0.03)


@pytest.mark.parametrize("per_class", [50, 120])
def test_its_probabilities_are_calibrated(per_class: int):
    assert np.mean([scores("auto", per_class, seed)["ece"] for seed in range(3)]) < 0.04


def test_one_image_of_each_class_is_enough():
    mean = np.mean([[scores("auto", 1, seed)[name] for name in ("accuracy", "ece")] for seed in range(5)], axis=0)
    assert mean[0] > 0.5
    assert mean[1] < 0.15


@pytest.mark.parametrize("counts", [(1, 30, 30), (2, 1, 30), (1, 1, 30), (2, 2, 2)], ids=str)
def test_classes_of_one_or_two_rows_are_learned(counts: tuple[int, ...]):
    X, y = load_digits(n_class=3, return_X_y=True)
    rows = np.concatenate([np.flatnonzero(y == label)[:count] for label, count in enumerate(counts)])
    head = AutoHead().fit(X[rows], y[rows])
    assert head.score(X, y) > 0.7


def test_features_that_hardly_vary_are_not_noise_as_large_as_others():
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    noisy = np.hstack([X, 0.1 * rng.standard_normal((len(X), 1000))])
    train, held_out = few_labels(y, np.arange(len(y)), 5, 0)
    auto, linear = (make_head(name).fit(noisy[train], y[train]) for name in ("auto", "linear"))
    assert auto.score(noisy[held_out], y[held_out]) > linear.score(noisy[held_out], y[held_out]) + 0.1


@pytest.mark.parametrize("classes", [2, 5])
def test_rows_from_a_cache_give_the_same_head(tmp_path: Path, classes: int):
    X, y = load_digits(n_class=classes, return_X_y=True)
    X = X.astype(np.float32)
    lazy = cached(tmp_path, X)
    one, other = AutoHead().fit(X, y), AutoHead().fit(lazy, y)
    assert one.chosen_ == other.chosen_
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(lazy), atol=1e-5)


@pytest.mark.parametrize("most", [300, 1200])
@pytest.mark.parametrize("grouped", [False, True])
def test_of_many_rows_some_decide_and_all_are_learned(monkeypatch: pytest.MonkeyPatch, most: int, grouped: bool):
    X, y = load_digits(return_X_y=True)
    train = np.random.default_rng(0).permutation(len(y)) < 1400
    groups = np.arange(1400) // 2 if grouped else None
    whole = AutoHead().fit(X[train], y[train], groups=groups)
    monkeypatch.setattr(auto, "MOST", most)
    head = AutoHead().fit(X[train], y[train], groups=groups)
    one, other = (score(each.classes_, y[~train], each.predict_proba(X[~train])) for each in (whole, head))
    assert head.chosen_ != whole.chosen_
    assert other["accuracy"] > one["accuracy"] - 0.02
    assert other["ece"] < 0.06


def test_mistakes_are_named():
    X, y = blobs(30)
    with pytest.raises(BadData, match="at least 2 classes"):
        AutoHead().fit(X, np.zeros(len(X)))
    with pytest.raises(InvalidChoice, match="seed"):
        AutoHead(seed=-1).fit(X, y)
