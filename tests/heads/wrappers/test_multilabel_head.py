"""A copy of a head for each label: what it learns, how it is kept, and labels that are none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_multilabel_classification
from sklearn.exceptions import NotFittedError
from sklearn.multiclass import OneVsRestClassifier
from toy_data import cached

from feature_cache import FeatureSpec
from feature_cache.errors import DamagedFile, InvalidChoice, UnsafeFile
from heads.parameters import parameters, plain_parameters
from heads.registry import make_head, new_head, record, seeded
from heads.wrappers.classifiers import LogisticHead
from heads.wrappers.multilabel import MultiLabelHead
from layertap import runs
from layertap.run_config import RunConfig

SPEC = FeatureSpec(net="test", weights="none", layer="a", size=(8, 8), pooling="none")
FASTER: dict[str, dict[str, Any]] = {
    "random-forest": {"n_estimators": 30, "n_jobs": 1},
    "hist-gradient-boosting": {"max_iter": 30, "learning_rate": 0.3},
    "linear": {"epochs": 10},
    "mlp": {"hidden": 16, "epochs": 10, "learning_rate": 0.05},
}
QUICK = ("logistic", "ridge", "linear-svm", "svm-rbf", "lda", "prototypes", "knn", "random-forest")
NAMES = [*QUICK, "hist-gradient-boosting", "linear", pytest.param("mlp", marks=pytest.mark.slow)]


def new(name: str, **params: Any) -> Any:
    return make_head(name, {**FASTER.get(name, {}), **params}, "multilabel")


def tagged(n: int = 120, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 2, 2, 3) of images that have any of `k` labels, each with a direction of its own."""
    rng = np.random.default_rng(seed)
    y = rng.random((n, k)) < 0.4
    directions = 3 * np.random.default_rng(99).standard_normal((k, 12))
    X = y @ directions + rng.standard_normal((n, 12))
    return X.reshape(n, 2, 2, 3).astype(np.float32), y


def kept(folder: Path, name: str, head: Any) -> runs.Run:
    """`head` after a run has been written and read."""
    task = {"name": "multilabel", "labels": [f"label {number}" for number in head.classes_]}
    config = {"spec": json.loads(SPEC.to_json()), "head": record(name, head), "task": task}
    with runs.new_run(folder) as inside:
        runs.write(inside, head, RunConfig.from_json(config), {})
    return runs.load_run(folder)


def load(folder: Path, head: Any) -> Any:
    return type(head).load(folder, head.get_params(deep=False))


# What it learns.


@pytest.mark.parametrize("name", NAMES)
def test_every_label_is_learned_and_kept(tmp_path: Path, name: str) -> None:
    X, y = tagged()
    new_X, new_y = tagged(200, seed=1)
    head = new(name)
    with pytest.raises(NotFittedError):
        head.predict(X)
    with pytest.raises(NotFittedError):
        head.save(tmp_path)
    assert head.fit(X, y) is head
    said = head.predict_proba(new_X)
    assert said.shape == new_y.shape
    assert ((said >= 0) & (said <= 1)).all()
    np.testing.assert_array_equal(head.predict(new_X), said > 0.5)
    assert head.predict(new_X).dtype == bool
    assert ((said > 0.5) == new_y).mean(0).min() > 0.8
    assert head.n_features_in_ == 12
    np.testing.assert_array_equal(head.classes_, [0, 1, 2])

    back = kept(tmp_path / "run", name, head).head
    np.testing.assert_array_equal(back.predict_proba(new_X), said)
    np.testing.assert_array_equal(back.predict(new_X), head.predict(new_X))
    assert back.n_features_in_ == 12
    assert repr(parameters(back)) == repr(parameters(head))
    with pytest.raises(NotFittedError):
        clone(back).predict(X)


@pytest.mark.parametrize("name", ["logistic", "ridge", "knn"])
def test_each_copy_is_the_head_of_its_label_alone(name: str) -> None:
    X, y = tagged()
    said = new(name).fit(X, y).predict_proba(X)
    for label in range(y.shape[1]):
        alone = make_head(name, FASTER.get(name, {})).fit(X, y[:, label])
        # The temperature of neighbours is learned on other folds.
        np.testing.assert_allclose(said[:, label], alone.predict_proba(X)[:, 1], atol=0.1 if name == "knn" else 1e-5)


@pytest.mark.parametrize("name", ["logistic", "ridge", "linear-svm", "knn", "svm-rbf"])
@pytest.mark.parametrize("k", [3, 8])
@pytest.mark.parametrize("views", [1, 4])
def test_sorted_rows_make_the_head_that_mixed_rows_make(name: str, k: int, views: int) -> None:
    X, y = tagged(150, k)
    X, y = (np.repeat(values, views, axis=0) for values in (X, y))
    X += 0.3 * np.random.default_rng(5).standard_normal(X.shape).astype(np.float32)
    new_X, new_y = tagged(300, k, seed=1)
    order = np.lexsort(y.T)
    mixed, in_order = (new(name).fit(X[rows], y[rows]).predict_proba(new_X) for rows in (slice(None), order))
    losses = [-np.log(np.clip(np.where(new_y, said, 1 - said), 1e-9, 1)).mean() for said in (mixed, in_order)]
    assert losses[1] < 1.3 * losses[0]
    assert np.abs(mixed - in_order).mean() < 0.04
    assert ((mixed > 0.5) == (in_order > 0.5)).mean() > 0.99


def test_it_is_scikit_learns_one_versus_the_rest() -> None:
    X, y = make_multilabel_classification(random_state=0)
    expected = OneVsRestClassifier(LogisticHead()).fit(X, y)
    head = MultiLabelHead(LogisticHead()).fit(X, y)
    np.testing.assert_allclose(head.predict_proba(X), expected.predict_proba(X))
    assert head.score(X, y) == expected.score(X, y)


@pytest.mark.parametrize("name", QUICK)
def test_labels_that_all_or_no_rows_have_are_certain(tmp_path: Path, name: str) -> None:
    X, y = tagged()
    wide = np.column_stack([np.ones(len(y), bool), y[:, 0], np.zeros(len(y), bool), y[:, 1]])
    head = new(name).fit(X, wide)
    said = head.predict_proba(X)
    assert (said[:, 0] == 1).all()
    assert (said[:, 2] == 0).all()
    np.testing.assert_array_equal(said[:, [1, 3]], new(name).fit(X, y[:, :2]).predict_proba(X))
    head.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["label-001", "label-003", "labels.json"]
    np.testing.assert_array_equal(load(tmp_path, head).predict_proba(X), said)


def test_there_may_be_nothing_to_tell(tmp_path: Path) -> None:
    X, y = tagged()
    head = new("logistic").fit(X, np.zeros((len(y), 1), bool))
    head.save(tmp_path)
    back = load(tmp_path, head)
    assert (back.predict_proba(X) == 0).all()
    assert back.predict(X).dtype == bool
    with pytest.raises(ValueError, match="11 features.*expecting 12 features"):
        back.predict(X.reshape(len(X), -1)[:, :11])


@pytest.mark.parametrize("name", [name for name in QUICK if name != "lda"])
def test_one_image_with_a_label_is_enough(name: str) -> None:
    X, y = tagged(40)
    y = np.arange(40)[:, None] == [3, 30]
    assert np.isfinite(new(name).fit(X, y).predict_proba(X)).all()


@pytest.mark.parametrize("dtype", [bool, np.int64, np.uint8, np.float64])
def test_predictions_are_of_the_type_of_the_labels(tmp_path: Path, dtype: type) -> None:
    X, y = tagged()
    head = new("ridge").fit(X, y.astype(dtype))
    assert head.predict(X).dtype == dtype
    np.testing.assert_array_equal(head.predict_proba(X), new("ridge").fit(X, y).predict_proba(X))
    head.save(tmp_path)
    assert load(tmp_path, head).predict(X).dtype == dtype


# Rows.


@pytest.mark.parametrize("name", ["logistic", "ridge", "linear"])
def test_features_from_a_cache_make_the_same_head(tmp_path: Path, name: str) -> None:
    X, y = tagged()
    head = new(name).fit(X, y)
    assert head.reads_batches == (name != "logistic")
    features = cached(tmp_path, X)
    again = new(name).fit(features, y)
    np.testing.assert_allclose(again.predict_proba(features), head.predict_proba(X), atol=1e-6)
    np.testing.assert_array_equal(again.predict_proba(features), again.predict_proba(X))


def test_features_are_checked() -> None:
    X, y = tagged()
    head = new("logistic").fit(X, y)
    with pytest.raises(ValueError, match="11 features.*expecting 12 features"):
        head.predict_proba(X.reshape(len(X), -1)[:, :11])
    with pytest.raises(ValueError, match="NaN"):
        head.predict(np.full_like(X, np.nan))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        head.fit(X, y[:-1])


def test_maps_stay_maps_for_heads_that_look_at_them() -> None:
    class Maps(LogisticHead):
        seen: list = []

        def fit(self, X: Any, y: np.ndarray) -> Maps:
            self.seen.append(X.shape)
            return super().fit(X, y)

    X, y = tagged()
    MultiLabelHead(Maps()).fit(X, y).predict(X)
    assert set(Maps.seen) == {(120, 2, 2, 3)}


# Labels that are none, and heads that are none.


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            lambda y: y[:, 0],
            "Only binary classification is supported, of each label: y should be of shape (n, k), true where a row has "
            "the label; received (120,). For classes, of which each row has one, use the head as it is.",
        ),
        (lambda y: y + 1, "each label is true or false, 1 or 0; received other values."),
        (lambda y: np.where(y, "yes", "no"), "each label is true or false, 1 or 0; received other values."),
        (lambda y: np.where(y, 0.5, 0.0), "Unknown label type: continuous"),
        (lambda y: np.where(y, np.nan, 0.0), "Input y contains NaN"),
    ],
    ids=["classes", "numbers", "text", "shares", "nan"],
)
def test_labels_that_are_none_are_refused(labels: Callable, message: str) -> None:
    X, y = tagged()
    with pytest.raises(ValueError) as caught:
        new("logistic").fit(X, labels(y))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_parameters_are_those_of_the_head_that_is_copied() -> None:
    head = make_head("logistic", {"C": "0.5"}, "multilabel")
    assert isinstance(head, MultiLabelHead)
    assert head.head.C == 0.5
    assert plain_parameters(head) == plain_parameters(make_head("logistic", {"C": 0.5}))
    assert record("logistic", head)["params"]["C"] == 0.5
    assert make_head("svm-rbf", {"gamma": "0.1"}, "multilabel").head.estimator.gamma == 0.1  # type: ignore[attr-defined]
    assert seeded("random-forest", {}, 7, "multilabel") == {"random_state": 7}
    assert repr(parameters(new_head("knn", "multilabel"))) == repr(parameters(new_head("knn")))
    for name, params, message in (
        ("logistic", {"head__C": 1}, "the head 'logistic' has no parameter 'head__C'"),
        ("logistic", {"C": 0}, "C should be above 0; received 0.0."),
        ("logstic", {}, "there is no head 'logstic'; did you mean 'logistic'?"),
        ("sklearn.svm:SVR", {}, "SVR of sklearn.svm is not a classifier."),
    ):
        with pytest.raises(InvalidChoice) as caught:
            make_head(name, params, "multilabel")
        assert str(caught.value).startswith(message)


# Files.


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Any]:
    """A folder with a fitted head of four labels, the third of which no row has; and the head."""
    X, y = tagged()
    head = new("ridge").fit(X, np.insert(y, 2, False, axis=1))
    head.save(tmp_path)
    return tmp_path, head


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": 3}, "its shares are not those of its labels"),
        ({"labels": -1}, "its shares are not those of its labels"),
        ({"labels": 10**9}, "its shares are not those of its labels"),
        ({"labels": "many"}, "invalid literal"),
        ({"shares": [0.5, 0.5, 0.0, 2.0]}, "its shares are not those of its labels"),
        ({"shares": [0.5, 0.5, 0.0, None]}, "its shares are not those of its labels"),
        ({"constant": {}}, "its constant labels are not those that all rows have, or none"),
        ({"constant": {"2": True}}, "its constant labels are not those that all rows have, or none"),
        ({"constant": []}, "AttributeError"),
        ({"features": 0}, "it has no features, or other labels than 0 and 1"),
        ({"features": 13}, "label-000 is not of a label of"),
        ({"type": "U3"}, "it has no features, or other labels than 0 and 1"),
        ({"type": "O"}, "it has no features, or other labels than 0 and 1"),
        ({"type": "nothing"}, "TypeError"),
    ],
    ids=str,
)
def test_a_file_that_says_another_thing_is_damaged(saved: tuple[Path, Any], change: dict, message: str) -> None:
    folder, head = saved
    file = folder / "labels.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(DamagedFile, match=message) as caught:
        load(folder, head)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", '{"labels": 4}'])
def test_a_file_that_says_nothing_is_damaged(saved: tuple[Path, Any], content: str) -> None:
    folder, head = saved
    (folder / "labels.json").write_text(content)
    with pytest.raises(DamagedFile, match="labels.json cannot be read"):
        load(folder, head)
    (folder / "labels.json").unlink()
    with pytest.raises(DamagedFile, match="labels.json cannot be read"):
        load(folder, head)


def test_a_label_without_its_head_or_with_another_is_damaged(saved: tuple[Path, Any]) -> None:
    folder, head = saved
    make_head("ridge").fit(*_three_classes()).save(folder / "label-003")
    with pytest.raises(DamagedFile, match="label-003 is not of a label of"):
        load(folder, head)
    shutil.rmtree(folder / "label-003")
    with pytest.raises(DamagedFile, match="cannot be read"):
        load(folder, head)


def _three_classes() -> tuple[np.ndarray, np.ndarray]:
    X, _ = tagged()
    return X, np.arange(len(X)) % 3


def test_nothing_that_a_file_holds_is_run(tmp_path: Path) -> None:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from skops.io import dump

    X, y = tagged()
    head = new("logistic").fit(X, y)
    head.save(tmp_path)
    evil = make_pipeline(FunctionTransformer(eval), head.heads_[0].pipeline_[-1])
    dump(evil, tmp_path / "label-001" / "head.skops")
    with pytest.raises(UnsafeFile, match="holds types that may run code"):
        load(tmp_path, head)
