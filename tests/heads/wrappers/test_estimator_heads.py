"""The heads that are classifiers of scikit-learn: by name, by import path, and what their parameters do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from toy_data import blobs

from feature_cache import FeatureSpec
from feature_cache.errors import DamagedFile, InvalidChoice
from heads import make_head
from heads.registry import Head, record
from heads.wrappers.classifiers import EstimatorHead
from layertap import runs
from layertap.run_config import RunConfig

SPEC = FeatureSpec(net="test", weights="none", layer="a", size=(8, 8), pooling="none")
FEW_TREES = {"random-forest": {"n_estimators": 30}, "hist-gradient-boosting": {"max_iter": 30, "learning_rate": 0.3}}
NAMED = ("linear-svm", "svm-rbf", "lda", "prototypes", "knn", "random-forest", "hist-gradient-boosting")
PATHS = (
    "sklearn.svm:SVC",
    "sklearn.linear_model:SGDClassifier",
    "sklearn.neighbors:KNeighborsClassifier",
    "sklearn.tree:DecisionTreeClassifier",
    "sklearn.naive_bayes:GaussianNB",
)


def new(name: str, **params: Any) -> Head:
    return make_head(name, {**FEW_TREES.get(name, {}), **params})


def kept(folder: Path, name: str, head: Head, changes: dict[str, Any] | None = None) -> runs.Run:
    """`head` after a run has been written and read."""
    config = {"spec": json.loads(SPEC.to_json()), "head": {**record(name, head), **(changes or {})}}
    with runs.new_run(folder) as inside:
        runs.write(inside, head, RunConfig.from_json(config), {})
    return runs.load_run(folder)


@pytest.mark.parametrize("name", [*NAMED, *PATHS])
def test_the_rules_of_heads_are_kept(check_head: Callable, name: str) -> None:
    check_head(lambda: new(name))


@pytest.mark.parametrize("name", [*NAMED, *PATHS])
def test_a_run_gives_the_same_head_back(tmp_path: Path, name: str) -> None:
    X, y = blobs()
    params = {"scale": "false", "pca": "3"}
    head = new(name, **params).fit(X, y)
    back = kept(tmp_path / "run", name, head).head
    np.testing.assert_array_equal(back.predict_proba(X), head.predict_proba(X))
    assert type(back) is type(head)
    assert {key: repr(value) for key, value in back.get_params().items()} == {
        key: repr(value) for key, value in head.get_params().items()
    }
    assert repr(clone(back).fit(X, y).predict_proba(X)) == repr(head.predict_proba(X))


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("labels", [np.array([7, -1, 100]), np.array(["10", "9", "1"]), np.array([True, False])])
def test_classes_are_sorted_and_of_the_type_of_the_labels(name: str, labels: np.ndarray) -> None:
    X, _ = blobs()
    of_row = np.arange(len(X)) % 3 % len(labels)
    head = new(name).fit(X, labels[of_row])
    np.testing.assert_array_equal(head.classes_, np.unique(labels))
    assert head.classes_.dtype == head.predict(X).dtype == labels.dtype
    assert (head.predict(X) == labels[of_row]).mean() > (0.9 if len(labels) == 3 else 0.6)


@pytest.mark.parametrize("name", NAMED)
def test_wide_features_may_outnumber_the_images(name: str) -> None:
    X, y = blobs(24, row_shape=(300,))
    new_X, new_y = blobs(240, row_shape=(300,))
    head = new(name).fit(X, y)
    assert (head.predict(new_X) == new_y).mean() > 0.9
    np.testing.assert_allclose(head.predict_proba(new_X).sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("name", NAMED)
def test_one_image_of_each_class_is_enough_but_for_lda(name: str) -> None:
    X, y = blobs(3)
    if name == "lda":
        with pytest.raises(InvalidChoice) as caught:
            new(name).fit(X, y)
        assert str(caught.value) == (
            "LinearDiscriminantAnalysis cannot be fitted: "
            "The number of samples must be more than the number of classes."
        )
        return
    head = new(name).fit(X, y)
    assert head.predict_proba(X).shape == (3, 3)
    if name not in ("random-forest", "hist-gradient-boosting"):
        assert head.predict(X).tolist() == y.tolist()


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("counts", [(2, 2, 2), (9, 1, 2), (1, 1, 2)], ids=str)
def test_few_images_of_a_class_are_no_hindrance(name: str, counts: tuple[int, ...]) -> None:
    X, y = blobs(30)
    rows = np.concatenate(
        [np.flatnonzero(y == label)[:count] for label, count in zip(np.unique(y), counts, strict=True)]
    )
    probabilities = new(name).fit(X[rows], y[rows]).predict_proba(X)
    assert np.isfinite(probabilities).all()


@pytest.mark.parametrize("name", ["random-forest", "hist-gradient-boosting", "linear-svm"])
def test_fits_can_be_repeated(name: str) -> None:
    X, y = blobs()
    np.testing.assert_array_equal(new(name).fit(X, y).predict_proba(X), new(name).fit(X, y).predict_proba(X))


def test_any_classifier_may_be_wrapped_and_is_cloned() -> None:
    X, y = blobs()
    flat = X.reshape(len(X), -1)
    mine = LogisticRegression(C=0.3)
    head = EstimatorHead(mine, calibrate=False).fit(X, y)
    expected = make_pipeline(StandardScaler(), LogisticRegression(C=0.3)).fit(flat, y)
    np.testing.assert_allclose(head.predict_proba(X), expected.predict_proba(flat), atol=1e-7)
    assert not hasattr(mine, "coef_")


def test_a_search_of_scikit_learn_reaches_the_wrapped_classifier() -> None:
    X, y = blobs()
    search = GridSearchCV(EstimatorHead(SVC()), {"estimator__C": [1e-6, 1.0], "pca": [2, None]}, cv=3)
    search.fit(X.reshape(len(X), -1), y)
    assert search.best_score_ > 0.9


def test_linear_svm_is_scikit_learns_of_standardised_features() -> None:
    X, y = blobs()
    flat = X.reshape(len(X), -1)
    expected = make_pipeline(StandardScaler(), LinearSVC(C=0.01, random_state=0)).fit(flat, y)
    head = make_head("linear-svm", {"C": 0.01, "calibrate": False}).fit(X, y)
    probabilities = head.predict_proba(X)
    values = np.exp(expected.decision_function(flat))
    np.testing.assert_allclose(probabilities, values / values.sum(1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("name", ["logistic", "linear-svm"])
def test_the_strength_does_not_depend_on_the_width_or_on_scaling(name: str) -> None:
    X, y = blobs(row_shape=(12,))
    expected = make_head(name).fit(X, y).predict_proba(X)
    wide = np.tile(X, 5)
    np.testing.assert_allclose(make_head(name).fit(wide, y).predict_proba(wide), expected, atol=0.02)
    scaled = ((X - X.mean(0)) / X.std(0)) * 50
    np.testing.assert_allclose(
        make_head(name, {"scale": False}).fit(scaled, y).predict_proba(scaled), expected, atol=0.02
    )


@pytest.mark.parametrize("name", ["logistic", "linear-svm", "svm-rbf"])
def test_scale_and_principal_components_are_steps(name: str) -> None:
    X, y = blobs()
    steps = {
        (True, None): ["standardscaler"],
        (False, None): [],
        (True, 3): ["standardscaler", "pca"],
        (False, 0.9): ["pca"],
    }
    for (scale, pca), expected in steps.items():
        head: Any = make_head(name, {"scale": scale, "pca": pca}).fit(X, y)
        assert [step for step, _ in head.pipeline_.steps[:-1]] == expected
    share = head.pipeline_.named_steps["pca"].explained_variance_ratio_
    assert share.sum() >= 0.9 > share[:-1].sum()


def test_components_are_at_most_the_rows_and_the_features() -> None:
    X, y = blobs(9)
    head: Any = make_head("logistic", {"pca": 64}).fit(X, y)
    assert head.pipeline_.named_steps["pca"].n_components_ == 9
    assert head.get_params()["pca"] == 64


@pytest.mark.parametrize("pca", [0, -1, 1.5, -0.5])
def test_components_out_of_range_are_refused(pca: float) -> None:
    X, y = blobs()
    with pytest.raises(InvalidChoice, match=f"pca should be a number of components, or a share .*; received {pca}"):
        make_head("svm-rbf", {"pca": pca}).fit(X, y)


def test_balanced_classes_pass_to_the_classifier() -> None:
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(0, 1, (95, 2)), rng.normal(1.5, 1, (5, 2))])
    y = np.repeat(["common", "rare"], (95, 5))
    for name in ("logistic", "linear-svm", "svm-rbf", "sklearn.linear_model:LogisticRegression"):
        found = [
            (make_head(name, {"class_weight": weight, "calibrate": "false"}).fit(X, y).predict(X) == "rare").sum()
            for weight in ("null", "balanced")
        ]
        assert found[0] < found[1], name


def test_a_single_class_is_refused() -> None:
    X, y = blobs()
    with pytest.raises(InvalidChoice, match="at least 2 classes"):
        make_head("knn").fit(X, np.full_like(y, "ant"))


def test_what_scikit_learn_refuses_is_one_line() -> None:
    X, y = blobs()
    head = make_head("sklearn.discriminant_analysis:LinearDiscriminantAnalysis", {"shrinkage": "auto"})
    with pytest.raises(InvalidChoice) as caught:
        head.fit(X, y)
    assert str(caught.value) == (
        "LinearDiscriminantAnalysis cannot be fitted: shrinkage not supported with 'svd' solver."
    )


def test_a_run_of_other_steps_than_its_parameters_say_is_damaged(tmp_path: Path) -> None:
    X, y = blobs()
    head = make_head("lda").fit(X, y)
    with pytest.raises(DamagedFile, match="is not a fitted head with LinearDiscriminantAnalysis; train it again"):
        kept(tmp_path / "run", "lda", head, {"params": {"scale": False}})


def test_a_run_of_another_classifier_than_it_says_is_damaged(tmp_path: Path) -> None:
    X, y = blobs()
    head = make_head("sklearn.svm:SVC").fit(X, y)
    with pytest.raises(DamagedFile, match="is not a fitted head with NuSVC; train it again"):
        kept(tmp_path / "run", "sklearn.svm:SVC", head, {"name": "sklearn.svm:NuSVC", "params": {}})


def test_parameters_are_recorded_as_users_give_them(tmp_path: Path) -> None:
    X, y = blobs()
    head = make_head("sklearn.neural_network:MLPClassifier", {"alpha": "0.1", "max_iter": "50"}).fit(X, y)
    run = kept(tmp_path / "run", "sklearn.neural_network:MLPClassifier", head)
    params = run.config.head.params
    assert (params["alpha"], params["scale"], params["hidden_layer_sizes"]) == (0.1, True, [100])
    assert run.head.get_params()["estimator__hidden_layer_sizes"] == (100,)
    np.testing.assert_array_equal(run.head.predict_proba(X), head.predict_proba(X))
