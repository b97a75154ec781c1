"""The heads for numbers: by name, by import path and of the user's code, one target and several."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler
from toy_data import cached

from feature_cache import FeatureSpec
from feature_cache.errors import BadData, DamagedFile, InvalidChoice, LayertapError
from heads.parameters import parameters, plain_parameters
from heads.registry import REGRESSORS, make_head, new_head, record, seeded
from heads.ridge.regressor import RidgeRegressor
from heads.wrappers.regressors import RegressorHead
from layertap import runs
from layertap.run_config import RunConfig

SPEC = FeatureSpec(net="test", weights="none", layer="a", size=(8, 8), pooling="none")
FEW_TREES = {
    "random-forest": {"n_estimators": 60, "n_jobs": 1},
    "hist-gradient-boosting": {"max_iter": 60, "learning_rate": 0.2, "max_features": 0.5},
}
PATHS = (
    "sklearn.linear_model:Lasso",
    "sklearn.svm:NuSVR",
    "sklearn.linear_model:SGDRegressor",
    "sklearn.neighbors:KNeighborsRegressor",
    "sklearn.tree:DecisionTreeRegressor",
    "sklearn.ensemble:GradientBoostingRegressor",
    "sklearn.neural_network:MLPRegressor",
)
LINEAR = ("ridge", "linear-svm")
NEIGHBOURS = ("knn", "sklearn.neighbors:KNeighborsRegressor")


def new(name: str, **params: Any) -> Any:
    return make_head(name, {**FEW_TREES.get(name, {}), **params}, "regression")


def linear(n: int = 150, d: int = 12, k: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows with a few hidden numbers, and linear targets of them in units that have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    mixed = np.random.default_rng(99)
    hidden = rng.standard_normal((n, 4))
    X = hidden @ mixed.standard_normal((4, d)) + 0.1 * rng.standard_normal((n, d))
    y = hidden @ mixed.standard_normal((4, 2)) + 0.05 * rng.standard_normal((n, 2))
    return X.astype(np.float32), (y * [1e4, 1e-3] + [5e5, 7])[:, :k]


def curved(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, 4))
    return X.astype(np.float32), 1000 + 300 * (np.abs(X[:, 0]) + X[:, 1] ** 2)


def kept(folder: Path, name: str, head: Any, task: Any = None) -> runs.Run:
    """`head` after a run has been written and read."""
    config = {
        "spec": json.loads(SPEC.to_json()),
        "head": record(name, head),
        "task": {"name": "regression"} if task is None else task,
    }
    with runs.new_run(folder) as inside:
        runs.write(inside, head, RunConfig.from_json(config), {})
    return runs.load_run(folder)


def refusal(name: str, params: dict | None = None, task: str = "regression") -> str:
    with pytest.raises(InvalidChoice) as caught:
        make_head(name, params, task)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same(name: str, found: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for rounding: of rows that are their own neighbours distances are near 0, and weights the inverse."""
    scale = expected.std(0) + np.abs(expected).mean(0) * 1e-6
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=1e-4 if name in NEIGHBOURS else 1e-9)


# What they learn.


@pytest.mark.parametrize("name", REGRESSORS)
@pytest.mark.parametrize("k", [None, 1, 2], ids=["one", "a column", "several"])
def test_a_linear_target_is_learned_whatever_its_unit(name: str, k: int | None) -> None:
    X, y = linear(k=k or 1)
    new_X, new_y = linear(100, k=k or 1, seed=1)
    if k is None:
        y, new_y = y[:, 0], new_y[:, 0]
    head = new(name)
    params = {key: repr(value) for key, value in head.get_params().items()}
    assert head.fit(X, y) is head
    assert {key: repr(value) for key, value in head.get_params().items()} == params
    said = head.predict(new_X)
    assert said.shape == new_y.shape
    assert said.dtype == np.float64
    explained = 1 - np.square(said - new_y).sum(0) / np.square(new_y - new_y.mean(0)).sum(0)
    assert (explained > (0.98 if name in LINEAR else 0.6)).all(), explained
    assert head.score(new_X, new_y) == pytest.approx(explained.mean())
    assert head.n_features_in_ == 12


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_target_that_is_not_linear_is_learned_by_those_that_can(name: str) -> None:
    X, y = curved()
    explained = new(name).fit(X, y).score(*curved(200, seed=1))
    assert explained < 0.2 if name in LINEAR else explained > (0.4 if name == "knn" else 0.8), explained


@pytest.mark.parametrize("name", REGRESSORS)
def test_targets_in_another_unit_make_the_same_head(name: str) -> None:
    X, y = linear()
    said = new(name).fit(X, y).predict(X)
    factor, shift = np.array([2.0**20, 2.0**-12]), np.array([3.0, -100.0])
    other = new(name).fit(X, y * factor + shift).predict(X)
    scale = y.std(0)
    # Solvers stop early, and of two splits that are as good, rounding may choose the other.
    atol = {"svm-rbf": 1e-2, "linear-svm": 1e-2, "random-forest": 0.3}.get(name, 1e-4)
    np.testing.assert_allclose((other - shift) / factor / scale, said / scale, rtol=0, atol=atol)


@pytest.mark.parametrize("name", REGRESSORS)
def test_sorted_rows_make_the_head_that_mixed_rows_make(name: str) -> None:
    X, y = linear(200, k=1)
    order = np.argsort(y[:, 0])
    new_X, new_y = linear(200, k=1, seed=1)
    said = [new(name).fit(X[rows], y[rows, 0]).predict(new_X) / y.std() for rows in (slice(None), order)]
    if name == "random-forest":  # draws rows by their number
        truth = new_y[:, 0] / y.std()
        errors = [np.square(one - truth).mean() for one in said]
        assert errors[0] == pytest.approx(errors[1], rel=0.2)
    else:
        # Splits on gradients that are sums in some order may fall to another of two that are as good.
        atol = {"svm-rbf": 1e-2, "linear-svm": 2e-2, "hist-gradient-boosting": 0.2}.get(name, 1e-5)
        np.testing.assert_allclose(*said, rtol=0, atol=atol)


@pytest.mark.parametrize("name", REGRESSORS)
def test_wide_features_may_outnumber_the_images(name: str) -> None:
    X, y = linear(40, d=300)
    new_X, new_y = linear(200, d=300, seed=1)
    head = new(name).fit(X, y)
    assert head.score(new_X, new_y) > (0.9 if name in LINEAR else 0.3)


@pytest.mark.parametrize("name", REGRESSORS)
@pytest.mark.parametrize("value", [0.0, -3.7e8], ids=str)
def test_a_target_that_never_changes_is_predicted_as_it_is(name: str, value: float) -> None:
    X, y = linear(60)
    both = np.column_stack([np.full(len(y), value), y[:, 0]])
    assert new(name).fit(X, both[:, 0]).predict(X) == pytest.approx(value, abs=1e-6)
    said = new(name).fit(X, both).predict(X)
    assert said[:, 0] == pytest.approx(value, abs=1e-6)
    assert np.corrcoef(said[:, 1], y[:, 0])[0, 1] > 0.8


@pytest.mark.parametrize("name", REGRESSORS)
def test_few_images_are_no_hindrance(name: str) -> None:
    X, y = linear(2)
    assert np.isfinite(new(name).fit(X, y).predict(X)).all()


@pytest.mark.parametrize("name", [*REGRESSORS, *PATHS])
def test_features_from_a_cache_make_the_same_head(tmp_path: Path, name: str) -> None:
    X, y = linear(40)
    X = X.reshape(len(X), 2, 2, 3)
    expected = new(name).fit(X, y).predict(X)
    head = new(name).fit(cached(tmp_path, X), y)
    same(name, head.predict(X), expected)
    same(name, head.predict(cached(tmp_path / "again", X)), expected)


# Those that are made of scikit-learn.


def test_any_regressor_is_found_by_its_import_path() -> None:
    X, y = linear()
    head = new("sklearn.linear_model:Lasso", alpha="0.01", pca="3").fit(X, y)
    assert isinstance(head, RegressorHead)
    assert head.pipeline_[-1].estimator_.alpha == 0.01
    assert head.score(X, y) > 0.8
    assert "has no parameter 'alhpa'; did you mean 'alpha'?" in refusal("sklearn.linear_model:Lasso", {"alhpa": 1})
    assert "'C' parameter of SVR must be a float" in refusal("svm-rbf", {"C": "much"})


@pytest.mark.parametrize("name", ["PoissonRegressor", "GammaRegressor"])
def test_regressors_of_positive_targets_are_given_them_as_they_are(name: str) -> None:
    X, y = linear()
    head = new(f"sklearn.linear_model:{name}", alpha=1e-3, max_iter=1000)
    assert not head.scale_targets
    assert head.fit(X, np.exp((y - y.mean(0)) / y.std(0))).score(X, np.exp((y - y.mean(0)) / y.std(0))) > 0.5
    with pytest.raises(InvalidChoice, match=f"{name} cannot be fitted: Some value.s. of y are out of the valid range"):
        head.fit(X, -y)


def test_features_and_targets_of_the_users_own_code_are_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_numbers.py").write_text(
        "import numpy as np\n"
        "from sklearn.linear_model import Ridge, LogisticRegression\n"
        "class Mean:\n"
        "    def fit(self, X, y):\n        self.mean = y.mean(0)\n        return self\n"
        "    def predict(self, X):\n        return np.tile(self.mean, (len(X), 1))\n"
        "class Short(Mean):\n    def predict(self, X):\n        return X[:1, 0]\n"
        "class Broken(Mean):\n    def fit(self, X, y):\n        raise KeyError('oh')\n"
        "def make_head():\n    return Ridge(alpha=0.5)\n"
        "def mean():\n    return Mean()\n"
        "def short():\n    return Short()\n"
        "def broken():\n    return Broken()\n"
        "def classes():\n    return LogisticRegression()\n"
        "def nothing():\n    return None\n"
        "def a_class():\n    return Ridge\n"
    )
    X, y = linear()
    for name in ("my_numbers.py", "my_numbers.py:mean"):
        head = make_head(name, task="regression").fit(X, y)
        assert (head.scale, head.pca, head.scale_targets) == (False, None, False)
        head.save(tmp_path)
        back = type(head).load(tmp_path, head.get_params(deep=False))
        np.testing.assert_array_equal(back.predict(X), head.predict(X))
    assert head.predict(X)[0] == pytest.approx(y.mean(0))
    ending = "for numbers it should return a regressor: fit and predict."
    assert refusal("my_numbers.py:classes") == f"my_numbers.py:classes returned LogisticRegression; {ending}"
    assert refusal("my_numbers.py:nothing") == f"my_numbers.py:nothing returned NoneType; {ending}"
    assert refusal("my_numbers.py:a_class") == f"my_numbers.py:a_class returned the class Ridge; {ending}"
    with pytest.raises(
        InvalidChoice, match="Short cannot predict: predict of Short should return 150 rows of 2 finite"
    ):
        make_head("my_numbers.py:short", task="regression").fit(X, y).predict(X)
    with pytest.raises(InvalidChoice, match="Broken cannot be fitted: KeyError: 'oh'."):
        make_head("my_numbers.py:broken", task="regression").fit(X, y)
    assert "should return an estimator with fit, and predict_proba" in refusal("my_numbers.py", task="classes")


def test_seeds_and_parameters_are_those_of_the_regressor() -> None:
    assert seeded("random-forest", {}, 7, "regression") == {"random_state": 7}
    assert seeded("ridge", {}, 7, "regression") == seeded("svm-rbf", {}, 7, "regression") == {}
    assert new("linear-svm", C="2", epsilon=0).get_params()["C"] == 2.0
    for name in REGRESSORS:
        head = new_head(name, "regression")
        again = make_head(name, plain_parameters(head), "regression")
        assert repr(parameters(again)) == repr(parameters(head))


# What is refused.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "logistic",
            "the head 'logistic' is for classes; for numbers there are ridge, linear-svm, svm-rbf, knn, random-forest, "
            "hist-gradient-boosting. Others are named as sklearn.svm:SVR or FILE.py:make_head.",
        ),
        ("rigde", "there is no head for numbers 'rigde'; did you mean 'ridge'? Others are named as sklearn.svm:SVR"),
        (
            "sklearn.svm:SVC",
            "SVC of sklearn.svm is a classifier; for numbers name a regressor, such as sklearn.svm:SVR.",
        ),
        (
            "sklearn.preprocessing:StandardScaler",
            "StandardScaler of sklearn.preprocessing is not a regressor. Name one, such as sklearn.svm:SVR.",
        ),
        ("sklearn.svm:SVVR", "sklearn.svm has no regressor 'SVVR'; did you mean 'SVR' or 'NuSVR'"),
        ("os:system", "a path is that of a regressor of scikit-learn, such as sklearn.svm:SVR."),
    ],
)
def test_heads_of_another_kind_are_refused(name: str, message: str) -> None:
    assert refusal(name).startswith(message) or message in refusal(name)


def test_a_task_that_is_none_is_refused() -> None:
    assert refusal("ridge", task="numbers").startswith("there is no task 'numbers'")


@pytest.mark.parametrize("name", [*REGRESSORS, *PATHS])
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            lambda y: np.where(np.arange(len(y)) == 3, np.nan, y[:, 0]),
            "targets should be finite; that of row 3 is nan.",
        ),
        (
            lambda y: np.where(np.arange(len(y)) == 5, np.inf, y[:, 0]),
            "targets should be finite; that of row 5 is inf.",
        ),
        (lambda y: np.where(y == y[2], np.nan, y), "targets should be finite; that of row 2 is [nan nan]."),
        (lambda y: np.full(len(y), "many"), "targets of a regression should be numbers; received something else."),
        (lambda y: [[1.0], [1.0, 2.0]], "targets of a regression should be numbers; received something else."),
        (lambda y: y[None], "targets should be of shape (n,) or (n, k), with at least 1 of each; received (1, 30, 2)."),
        (lambda y: y[:, 0] * 1e300, "targets should be smaller: their squares are too large for numbers."),
    ],
    ids=["nan", "infinity", "nan of several", "text", "ragged", "axes", "large"],
)
def test_targets_that_are_no_finite_numbers_are_refused(name: str, targets: Callable, message: str) -> None:
    X, y = linear(30)
    with pytest.raises(BadData) as caught:
        new(name).fit(X, targets(y))
    assert str(caught.value) == message


@pytest.mark.parametrize("name", REGRESSORS)
def test_features_are_checked(name: str, tmp_path: Path) -> None:
    X, y = linear(30)
    with pytest.raises(NotFittedError):
        new(name).predict(X)
    with pytest.raises(NotFittedError):
        new(name).save(tmp_path)
    head = new(name).fit(X, y)
    with pytest.raises(ValueError, match="11 features.*expecting 12 features"):
        head.predict(X[:, :11])
    with pytest.raises(ValueError, match="NaN"):
        head.predict(np.full_like(X, np.nan))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        new(name).fit(X, y[:-1])
    with pytest.raises(NotFittedError):
        clone(head).predict(X)


def test_parameters_out_of_range_are_refused() -> None:
    assert refusal("linear-svm", {"C": -1}) == "C should be above 0; received -1.0."
    assert refusal("linear-svm", {"epsilon": -1}) == "epsilon should be at least 0; received -1.0."
    assert "pca should be a number of components" in refusal("knn", {"pca": 0})
    with pytest.raises(InvalidChoice, match="alphas should be numbers from 1e-30 to 1e.30; received -1"):
        new("ridge", alphas=-1).fit(*linear())


# Files.


@pytest.mark.parametrize("name", [*REGRESSORS, *PATHS])
@pytest.mark.parametrize("k", [0, 1, 2])
def test_a_run_gives_the_same_head_back(tmp_path: Path, name: str, k: int) -> None:
    X, y = linear(60)
    y = y[:, :k] if k else y[:, 0]
    params = {} if name == "ridge" else {"scale": "false", "pca": "3"}
    head = new(name, **params).fit(X, y)
    run = kept(tmp_path / "run", name, head)
    assert run.task.name == "regression"
    assert type(run.head) is type(head)
    said = run.head.predict(X)
    assert said.shape == y.shape
    same(name, said, head.predict(X))
    assert run.head.n_features_in_ == 12
    assert {key: repr(value) for key, value in run.head.get_params().items()} == {
        key: repr(value) for key, value in head.get_params().items()
    }


@pytest.mark.parametrize("task", [{"name": "numbers"}, {"name": None}, {}, [], None, "regression", 3], ids=str)
def test_a_run_of_a_task_that_is_none_is_damaged(tmp_path: Path, task: Any) -> None:
    X, y = linear(30)
    head = new("ridge").fit(X, y)
    kept(tmp_path / "run", "ridge", head)
    file = tmp_path / "run" / "config.json"
    config = {**json.loads(file.read_text()), "task": task}
    del config["files"], config["digest"]
    file.write_text(json.dumps(config))
    with pytest.raises(DamagedFile) as caught:
        runs.load_run(tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_run_of_another_regressor_than_it_says_is_damaged(tmp_path: Path) -> None:
    X, y = linear(30)
    for targets in (y, y[:, 0]):
        new("svm-rbf").fit(X, targets).save(tmp_path)
        other = new("sklearn.svm:NuSVR")
        with pytest.raises(DamagedFile, match="is not a fitted head with NuSVR; train it again"):
            type(other).load(tmp_path, other.get_params(deep=False))
        classes = make_head("sklearn.svm:SVC")
        with pytest.raises(DamagedFile, match="is not a fitted head with SVC; train it again"):
            type(classes).load(tmp_path, classes.get_params(deep=False))


def test_a_forest_of_several_targets_is_checked_when_it_is_read(tmp_path: Path) -> None:
    X, y = linear(30)
    head = new("random-forest").fit(X, y)
    head.pipeline_[-1].estimator_.estimators_[1].n_outputs_ = 1
    head.save(tmp_path)
    with pytest.raises(DamagedFile, match="it holds a tree whose nodes lead outside it"):
        type(head).load(tmp_path, head.get_params(deep=False))


# Ridge.

ALPHAS = (1e-3, 0.1, 10.0, 1000.0)


@pytest.mark.parametrize("shape", [(200, 12), (30, 30), (40, 120)], ids=["tall", "square", "wide"])
@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize("scale", [False, True])
def test_ridge_is_scikit_learns_on_standardised_targets(shape: tuple[int, int], k: int, scale: bool) -> None:
    X, y = linear(*shape)
    y = y[:, :k] if k else y[:, 0]
    head = RidgeRegressor(ALPHAS, scale=scale).fit(X, y)
    scaler = StandardScaler(with_mean=scale, with_std=scale).fit(X.astype(np.float64))
    rows = scaler.transform(X.astype(np.float64))
    targets = (y - y.mean(0)) / y.std(0)
    expected = RidgeCV(ALPHAS, store_cv_results=True).fit(rows, targets)
    said = expected.predict(rows).reshape(y.shape) * y.std(0) + y.mean(0)
    np.testing.assert_allclose(head.predict(X) / y.std(0), said / y.std(0))
    coef = head.coef_ * (scaler.scale_ if scale else 1) / y.std(0)[..., None]
    np.testing.assert_allclose(coef.reshape(expected.coef_.shape), expected.coef_, atol=1e-6)
    errors = expected.cv_results_.reshape(-1, len(ALPHAS)).mean(0)
    np.testing.assert_allclose(head.loo_errors_, errors, rtol=1e-5)
    assert head.alpha_ == expected.alpha_
    assert head.coef_.shape == ((k, shape[1]) if k else (shape[1],))
    assert np.shape(head.intercept_) == ((k,) if k else ())


def test_ridge_is_scikit_learns_in_the_units_of_the_targets() -> None:
    X, y = linear(200)
    head = RidgeRegressor(ALPHAS).fit(X, y[:, 0])
    expected = RidgeCV(ALPHAS).fit(X.astype(np.float64), y[:, 0])
    np.testing.assert_allclose(head.coef_, expected.coef_, rtol=1e-4)
    assert head.intercept_ == pytest.approx(expected.intercept_)
    assert 1 - head.loo_errors_.min() == pytest.approx(1 + expected.best_score_ / y[:, 0].var(), rel=1e-4)


def test_ridge_reads_rows_batch_by_batch() -> None:
    assert RidgeRegressor.reads_batches
    with pytest.raises(BadData, match="at least 2 rows"):
        RidgeRegressor().fit(np.ones((1, 3)), [1.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coef": np.zeros((1, 1, 12))}, "coef has 3 axes and not 1 or 2"),
        ({"coef": np.zeros((3, 12))}, "its coefficients do not fit its intercepts"),
        ({"coef": np.zeros((2, 0))}, "its coefficients do not fit its intercepts"),
        ({"coef": np.full((2, 12), np.nan)}, "coef is not made of finite float64 numbers"),
        ({"intercept": np.array(0.0)}, "its coefficients do not fit its intercepts"),
        ({"alpha": np.array(0.123)}, "its strengths do not fit each other"),
        ({"alphas": None}, "alphas"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_ridge_file_that_holds_another_thing_is_a_damaged_file(tmp_path: Path, change: dict, message: str) -> None:
    RidgeRegressor().fit(*linear(30)).save(tmp_path)
    with np.load(tmp_path / "head.npz") as archive:
        arrays = dict(archive) | change
    np.savez(tmp_path / "head.npz", **{name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(LayertapError, match=message):
        RidgeRegressor.load(tmp_path, {})
