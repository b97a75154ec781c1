"""Rows that belong together, as copies of an image do, stay together in the splits that heads make inside `fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC
from toy_data import cached

from heads import make_head
from heads.evaluation.protocol import Protocol
from heads.evaluation.training import train
from heads.evaluation.views import Views
from heads.registry import Head
from heads.ridge import chunks
from heads.ridge import path as ridge_path
from heads.ridge.classifier import RidgeHead
from heads.ridge.regressor import RidgeRegressor
from heads.splitting.fit_groups import encode_groups, inner_split
from heads.wrappers.calibration import TemperatureScaled, _folds, _folds_of_groups
from heads.wrappers.classifiers import EstimatorHead
from heads.wrappers.regressors import RegressorHead

WITH_CHOICES: dict[str, dict[str, Any]] = {
    "auto": {},
    "ridge": {},
    "linear": {},
    "logistic": {"calibrate": True},
    "linear-svm": {},
    "lda": {},
    "knn": {},
}
COPIES = 4


def noisy(n: int = 120, d: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of four classes that overlap, and their labels."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 4
    X = 0.12 * rng.standard_normal((4, d))[y] + rng.standard_normal((n, d))
    return X, np.array(list("abcd"))[y]


# Numbers of groups.


def test_groups_are_numbered_as_they_come() -> None:
    targets = np.zeros(5)
    assert encode_groups(None, targets) is None
    assert encode_groups(["e", "d", "c", "b", "a"], targets) is None
    np.testing.assert_array_equal(encode_groups(["z", "a", "z", "k", "a"], targets), [0, 1, 0, 2, 1])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        encode_groups([1, 1], targets)


@pytest.mark.parametrize("name", ["ridge", "linear", "lda", "logistic"])
def test_groups_of_one_row_change_no_bit(name: str) -> None:
    X, y = noisy()
    params = WITH_CHOICES[name]
    groups = np.random.default_rng(0).permutation(len(y))
    plain = make_head(name, params).fit(X, y).predict_proba(X)
    head: Any = make_head(name, params)
    np.testing.assert_array_equal(head.fit(X, y, groups=groups).predict_proba(X), plain)


@pytest.mark.parametrize("name", ["auto", "ridge", "linear", "lda", "logistic"])
def test_names_of_groups_do_not_matter(name: str) -> None:
    X, y = noisy(60, 20)
    groups = np.arange(60) % 4 + 4 * (np.arange(60) // 8)
    head, other = (make_head(name, WITH_CHOICES[name]) for _ in range(2))
    head.fit(X, y, groups=groups)  # type: ignore[call-arg]
    names = np.array([f"{number * 7919 % 101:x}" for number in range(100)])
    other.fit(X, y, groups=names[groups])  # type: ignore[call-arg]
    np.testing.assert_array_equal(head.predict_proba(X), other.predict_proba(X))


# Ridge: errors without a group in closed form.

GROUPS = {
    "pairs": np.arange(60) % 30,
    "mixed": np.repeat(np.arange(20), [1] * 5 + [2] * 5 + [3] * 5 + [6] * 5),
    "one large": np.concatenate([np.zeros(35, np.int64), np.arange(1, 26)]),
    "two": np.arange(60) % 2,
}


@pytest.mark.parametrize("scale", [False, True], ids=["as they are", "scaled"])
@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("width", [3, 20, 80])
@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("chunk", [None, 7])
def test_a_group_left_out_is_predicted_by_a_fit_without_it(
    monkeypatch: pytest.MonkeyPatch, groups: np.ndarray, width: int, targets: int, scale: bool, chunk: int | None
) -> None:
    if chunk:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", 8 * chunk * max(width, chunks.NARROWEST))
    rng = np.random.default_rng(0)
    groups = rng.permutation(groups)
    X = rng.standard_normal((60, width)) @ np.diag(np.logspace(-1, 1, width)) + 3
    X += rng.standard_normal((60, width))[groups]
    y = X[:, :targets] + rng.standard_normal((60, targets))
    alphas = np.array([1e-3, 1.0, 100.0])
    errors = []
    for alpha in alphas:
        rows = chunks.RowChunks(X, encode_groups(groups, y))
        path = ridge_path.solve(rows, y, np.array([alpha]), scale=scale)
        Z = X / X.std(0) if scale else X
        expected = np.empty_like(y)
        for group in np.unique(groups):
            inside = groups == group
            fitted = Ridge(alpha, solver="svd").fit(Z[~inside], y[~inside])
            expected[inside] = fitted.predict(Z[inside]).reshape(-1, targets)
        np.testing.assert_allclose(path.loo_predictions, expected, atol=1e-6, rtol=1e-6)
        np.testing.assert_allclose(path.errors, np.mean((expected - y) ** 2), rtol=1e-6)
        errors.append(path.errors[0])
    together = ridge_path.solve(chunks.RowChunks(X, encode_groups(groups, y)), y, alphas, scale=scale)
    np.testing.assert_allclose(together.errors, errors, rtol=1e-6)


@pytest.mark.parametrize("width", [20, 200])
def test_groups_do_not_change_the_coefficients_of_a_strength(width: int) -> None:
    X, y = noisy(60, width)
    plain, head = RidgeHead(10.0).fit(X, y), RidgeHead(10.0).fit(X, y, groups=np.arange(60) // 3)
    np.testing.assert_allclose(head.coef_, plain.coef_, atol=1e-10)
    np.testing.assert_allclose(head.intercept_, plain.intercept_, atol=1e-10)
    assert head.loo_errors_ != plain.loo_errors_


@pytest.mark.parametrize("shape", [(90, 20), (60, 200)], ids=["tall", "wide"])
def test_rows_of_a_cache_make_the_same_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    X, y = noisy(*shape)
    X, groups = X.astype(np.float32), np.arange(shape[0]) % 25
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 8 * 7 * max(shape[1], chunks.NARROWEST))
    head = RidgeHead().fit(X, y, groups=groups)
    lazy = RidgeHead().fit(cached(tmp_path, X), y, groups=groups)
    for name in ("coef_", "loo_errors_", "temperature_"):
        np.testing.assert_array_equal(getattr(lazy, name), getattr(head, name))
    monkeypatch.undo()
    whole = RidgeHead().fit(X, y, groups=groups)
    np.testing.assert_allclose(whole.loo_errors_, head.loo_errors_, rtol=1e-6)
    np.testing.assert_allclose(whole.predict_proba(X), head.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 4, 7, 100])
def test_no_chunk_ends_within_a_group(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    groups = np.random.default_rng(0).permutation(GROUPS["mixed"])
    rows = chunks.RowChunks(np.arange(60.0)[:, None], groups)
    monkeypatch.setattr(rows, "chunk", chunk)
    seen: list[float] = []
    for part, values in rows:
        assert part.start == len(seen)
        inside = values[:, 0].astype(int)
        assert len(inside) == part.stop - part.start
        assert len(inside) <= chunk or len(set(groups[inside])) == 1
        assert np.isin(np.flatnonzero(np.isin(groups, groups[inside])), inside).all()
        seen.extend(inside)
        for run, size in rows.runs(part):
            of_run = groups[inside[run]].reshape(-1, size)
            assert (of_run == of_run[:, :1]).all()
            assert (np.bincount(groups)[of_run] == size).all()
    assert sorted(seen) == list(range(60))


@pytest.mark.parametrize("width", [3, 200])
@pytest.mark.parametrize("alpha", [1e-30, 1e-8, 1e8])
def test_strengths_that_leave_nothing_free_stay_finite(width: int, alpha: float) -> None:
    X, y = noisy(24, width)
    X, y, groups = np.tile(X, (3, 1)), np.tile(y, 3), np.tile(np.arange(24), 3)
    head = RidgeHead((alpha, 2 * alpha)).fit(X, y, groups=groups)
    assert np.isfinite(head.loo_errors_).all()
    assert np.isfinite(head.predict_proba(X)).all()


def test_rows_that_are_all_one_group_are_left_out_one_by_one() -> None:
    X, y = noisy(40, 10)
    head, plain = RidgeHead().fit(X, y, groups=np.zeros(40)), RidgeHead().fit(X, y)
    np.testing.assert_array_equal(head.predict_proba(X), plain.predict_proba(X))
    numbers = X[:, 0]
    one, other = RidgeRegressor().fit(X, numbers, groups=np.zeros(40)), RidgeRegressor().fit(X, numbers)
    np.testing.assert_array_equal(one.loo_errors_, other.loo_errors_)


# The same choice with copies as without them.


@pytest.mark.parametrize("shape", [(60, 400), (600, 20)], ids=["wide", "tall"])
def test_ridge_chooses_with_copies_as_without(shape: tuple[int, int]) -> None:
    X, y = noisy(*shape)
    alphas = np.logspace(-2, 5, 15)
    once = RidgeHead(alphas).fit(X, y)
    many = RidgeHead(COPIES * alphas).fit(*copied(X, y), groups=np.tile(np.arange(len(y)), COPIES))
    np.testing.assert_allclose(many.loo_errors_, once.loo_errors_, rtol=1e-6)
    assert many.alpha_ == COPIES * once.alpha_
    np.testing.assert_allclose(many.temperature_, once.temperature_, rtol=0.05)
    target = X[:, 0] + np.random.default_rng(0).standard_normal(len(y))
    one = RidgeRegressor(alphas).fit(X, target)
    other = RidgeRegressor(COPIES * alphas).fit(*copied(X, target), groups=np.tile(np.arange(len(y)), COPIES))
    np.testing.assert_allclose(other.loo_errors_, one.loo_errors_, rtol=1e-6)
    assert RidgeHead(COPIES * alphas).fit(*copied(X, y)).alpha_ < once.alpha_ or shape[0] > 100


def test_linear_chooses_with_copies_as_without() -> None:
    X, y = noisy()
    strengths = np.array([64.0, 4.0, 0.25, 0.015, 0.001])
    groups = np.tile(np.arange(len(y)), COPIES)
    once: Any = make_head("linear", {"strengths": strengths.tolist()}).fit(X, y)
    many: Any = make_head("linear", {"strengths": (COPIES * strengths).tolist()})
    many.fit(*copied(X, y), groups=groups)
    assert many.chosen_["strength"] == COPIES * once.chosen_["strength"]
    for some, other in zip(many.scores_, once.scores_, strict=True):
        assert some["accuracy"] == pytest.approx(other["accuracy"], abs=0.1)
        assert some["log_loss"] == pytest.approx(other["log_loss"], rel=0.1)
    leaking: Any = make_head("linear", {"strengths": (COPIES * strengths).tolist()}).fit(*copied(X, y))
    assert max(score["accuracy"] for score in leaking.scores_) > 0.9


DISCRIMINANT = "sklearn.discriminant_analysis:LinearDiscriminantAnalysis"


@pytest.mark.parametrize("name", ["logistic", "linear-svm", DISCRIMINANT, "knn", "prototypes"])
def test_temperatures_with_copies_are_those_without(name: str) -> None:
    X, y = noisy(d=60)
    groups = np.tile(np.arange(len(y)), COPIES)
    shrunk: dict[str, Any] = {DISCRIMINANT: {"solver": "lsqr", "shrinkage": 0.3}}
    fewer = {"logistic": {"calibrate": True, "C": 0.1}, "linear-svm": {"C": 0.01}, "knn": {"n_neighbors": 10}}
    more = {"logistic": {"calibrate": True, "C": 0.025}, "linear-svm": {"C": 0.0025}, "knn": {"n_neighbors": 40}}
    once, many, leaking = (make_head(name, {**shrunk, **params}.get(name, {})) for params in (fewer, more, more))
    once.fit(X, y)
    many.fit(*copied(X, y), groups=groups)  # type: ignore[call-arg]
    assert slope(many) == pytest.approx(slope(once), rel=0.1)
    if name != "prototypes":  # which learn nothing by heart
        rng = np.random.default_rng(0).permutation(len(groups))  # blocks of rows would keep copies together
        leaking.fit(*(part[rng] for part in copied(X, y)))
        assert slope(leaking) > 1.5 * slope(many)


def copied(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.tile(X, (COPIES, 1)), np.tile(y, COPIES)


def slope(head: Any) -> float:
    return float(head.pipeline_[-1].inverse_temperature_)


@pytest.mark.slow
def test_a_keras_head_stops_where_it_stops_without_copies() -> None:
    X, y = noisy(d=60)
    test_X, test_y = noisy(1200, 60)
    groups = np.tile(np.arange(len(y)), COPIES)
    losses = {}
    for name, fit in (("once", (X, y, None)), ("many", (*copied(X, y), groups)), ("leaking", (*copied(X, y), None))):
        head: Any = make_head("mlp", {"hidden": 64, "learning_rate": 0.01, "epochs": 25})  # enough to learn by heart
        said = head.fit(*fit).predict_proba(test_X)
        losses[name] = -np.log(said[np.arange(1200), np.searchsorted(head.classes_, test_y)] + 1e-12).mean()
    assert losses["many"] < 1.15 * losses["once"]
    assert losses["leaking"] > 1.3 * losses["many"]


# From end to end.


@pytest.mark.parametrize("name", WITH_CHOICES)
def test_copies_cost_no_log_loss(name: str) -> None:
    X, y = noisy()
    again = np.random.default_rng(0).permutation(len(y))[: 2 * len(y) // 3]
    contents = np.random.default_rng(1).permutation(np.concatenate([np.arange(len(y)), np.repeat(again, COPIES - 1)]))
    once, many = (
        train({"x": X[rows]}, y[rows], rows, Protocol(cv=4), name, WITH_CHOICES[name]).evaluation.summary()["valid"]
        for rows in (np.arange(len(y)), contents)
    )
    assert loss_of(many) < 1.1 * loss_of(once)


def loss_of(summary: dict[str, dict[str, float | None]]) -> float:
    found = summary["nll"]["mean"]
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["ridge", "lda", "linear"])
def test_rows_of_one_group_teach_no_certainty(name: str) -> None:
    """Images of a patient who has a look of his own: groups that are no copies."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(24), 6)
    y = np.array(["ill", "well"])[group % 2]
    X = rng.standard_normal((24, 50))[group] + 0.1 * rng.standard_normal((144, 50))
    said = train({"x": X}, y, group, Protocol(cv=4), name).evaluation.summary()["valid"]
    assert loss_of(said) < 1.0  # chance has 0.69
    alone = train({"x": X}, y, np.arange(144), Protocol(cv=4), name).evaluation.summary()["valid"]
    assert loss_of(alone) < 0.2


class Recorder:
    """A head that notes its groups."""

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> Recorder:
        self.groups = groups
        return self


def test_views_of_an_image_and_copies_are_one_group() -> None:
    head: Any = Recorder()
    X, y = np.zeros((12, 2)), np.array(list("abab"))
    assert Views(3).fit(head, X, y).groups.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3  # type: ignore
    Views(3).fit(head, X, y, np.array([3, 0, 2]), np.array([7, 1, 7, 7]))
    assert head.groups.tolist() == [0] * 9
    Views().fit(head, X[:4], y, np.array([3, 0, 1]), np.array(["x", "y", "z", "x"]))
    assert head.groups.tolist() == [0, 0, 1]
    Views().fit(head, X[:4], y, np.array([0, 1, 2]), np.array(["x", "y", "z", "x"]))
    assert head.groups is None


@pytest.mark.parametrize("count", [1, 3])
def test_every_fit_of_training_is_told_of_groups(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    X, y = noisy(48, 5)
    contents = np.arange(48) % 24  # of one class each
    fits: list[tuple[int, int]] = []
    plain = RidgeHead.fit

    def fit(self: RidgeHead, X: Any, y: Any, groups: np.ndarray | None = None) -> RidgeHead:
        assert groups is not None
        np.testing.assert_array_equal(np.unique(groups, return_counts=True)[1], 2 * count)
        fits.append((len(groups), len(set(groups))))
        return plain(self, X, y, groups)

    monkeypatch.setattr(RidgeHead, "fit", fit)
    candidates = {"x": np.repeat(X, count, axis=0), "z": np.repeat(X[:, ::-1], count, axis=0)}
    train(candidates, y, contents, Protocol(cv=3), "ridge", views=Views(count))
    assert len(fits) == 3 * (2 * 3 + 1) + 2 * 3 + 1  # inner folds for two candidates, and the fit on all their rows


# Too few groups, and groups of several classes.


def test_inner_splits_keep_groups_together() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        groups = np.asarray(encode_groups(rng.integers(0, 40, 150), np.zeros(150)))
        target = rng.integers(0, 3, 150) if rng.random() < 0.5 else groups % 3
        split = inner_split(target, 0.25, 0, groups)
        assert split is not None
        first, rest = split
        assert sorted([*first, *rest]) == list(range(150))
        assert not set(groups[first]) & set(groups[rest])
        assert set(target[first]) == set(target) == set(target[rest])
        assert 0.1 < len(rest) / 150 < 0.45


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_inner_splits_of_too_few_groups_are_none(share: float) -> None:
    target, groups = np.array([0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 1, 2, 3])
    assert inner_split(target, share, 0, groups) is None
    assert inner_split(target, share, 0, np.zeros(6, np.int64)) is None


@pytest.mark.parametrize("folds", [2, 3])
def test_folds_keep_groups_together_and_leave_every_class(folds: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        groups = np.asarray(encode_groups(rng.integers(0, rng.integers(1, 30), 60), np.zeros(60)))
        target = rng.integers(0, 3, 60) if rng.random() < 0.5 else groups % 3
        target = np.unique(target, return_inverse=True)[1]
        fold = _folds_of_groups(target, folds, groups)
        assert all(len(set(fold[groups == group])) == 1 for group in groups)
        for number in range(folds):
            assert set(target[fold != number]) == set(target)
        alone = [label for label in set(target) if len(set(groups[target == label])) == 1]
        assert (fold[np.isin(groups, groups[np.isin(target, alone)])] == -1).all()
    target = np.arange(60) % 3
    np.testing.assert_array_equal(_folds_of_groups(target, folds, np.arange(60)), _folds(target, folds))


@pytest.mark.parametrize("name", ["ridge", "linear", "logistic", "lda", "linear-svm", "knn"])
def test_a_class_of_one_group_is_fitted_as_one_of_one_row(name: str) -> None:
    X, y = noisy(24, 10)
    groups = np.where(y == "a", 100, np.arange(24) // 2)
    head: Any = make_head(name, WITH_CHOICES[name])
    said = head.fit(X, y, groups=groups).predict_proba(X)
    assert np.isfinite(said).all()
    assert list(head.classes_) == list("abcd")
    if name == "linear":
        assert head.scores_  # the other classes decide
    for few in (np.zeros(24), (y == "a").astype(int), np.unique(y, return_inverse=True)[1]):
        head = make_head(name, WITH_CHOICES[name])
        assert np.isfinite(head.fit(X, y, groups=few).predict_proba(X)).all()
        if name not in ("auto", "ridge", "linear"):
            assert slope(head) == 1


# Heads that are made of others.


def test_several_labels_hand_groups_to_their_heads() -> None:
    X, _ = noisy(60, 100)
    rng = np.random.default_rng(0)
    y = X[:, :2] + 2 * rng.standard_normal((60, 2)) > 0
    groups = np.tile(np.arange(60), COPIES)
    for name, params in (("ridge", {"alphas": [1.0, 100.0, 1e4]}), ("linear-svm", {"C": 0.01})):
        once, many, leaking = (make_head(name, params, "multilabel") for _ in range(3))
        once.fit(X, y)
        order = rng.permutation(len(groups))
        shuffled = X[groups][order], y[groups][order]
        many.fit(*shuffled, groups=groups[order])  # type: ignore[call-arg]
        leaking.fit(*shuffled)
        assert sure(many) < 1.6 * sure(once)
        assert sure(leaking) > 1.3 * sure(many)


def sure(head: Any) -> float:
    """How far from a half the probabilities are of rows that were not fitted."""
    X, _ = noisy(400, 100, seed=1)
    return float(np.abs(head.predict_proba(X) - 0.5).mean())


class Own(ClassifierMixin, BaseEstimator):
    """Of the user's, with splits of its own."""

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> Self:
        self.classes_ = np.unique(y)
        self.groups_ = groups
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


class OwnRegressor(RegressorMixin, BaseEstimator):
    """The same for numbers."""

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> Self:
        self.groups_ = groups
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.zeros(len(X))


def test_an_estimator_of_the_users_is_given_groups_where_it_takes_them() -> None:
    X, y = noisy(12, 3)
    groups = np.arange(12) % 8
    for calibrate in (False, True):
        head = EstimatorHead(Own(), calibrate=calibrate).fit(X, y, groups=groups)
        np.testing.assert_array_equal(head.pipeline_[-1].estimator_.groups_, groups)
    regressor = RegressorHead(OwnRegressor()).fit(X, X[:, 0], groups=groups)
    np.testing.assert_array_equal(regressor.pipeline_[-1].estimator_.groups_, groups)
    assert EstimatorHead(Own()).fit(X, y).pipeline_[-1].estimator_.groups_ is None
    TemperatureScaled(LinearSVC()).fit(X, y, groups=groups)


@pytest.mark.parametrize("name", ["random-forest", "hist-gradient-boosting", "prototypes", "knn"])
def test_heads_without_choices_are_the_same_with_groups(name: str) -> None:
    X, y = noisy(48, 5)
    params = {} if name == "hist-gradient-boosting" else {"calibrate": False}
    params |= {"n_estimators": 5} if name == "random-forest" else {}
    head, plain = make_head(name, params), make_head(name, params)
    said = Views().fit(head, X, y, groups=np.arange(48) % 24).predict_proba(X)
    np.testing.assert_allclose(said, plain.fit(X, y).predict_proba(X), atol=1e-9)


def test_regressors_that_take_no_groups_get_none() -> None:
    X, _ = noisy(48, 5)
    head: Head = make_head("knn", task="regression")
    assert len(Views().fit(head, X, X[:, 0], groups=np.arange(48) % 24).predict(X)) == 48
