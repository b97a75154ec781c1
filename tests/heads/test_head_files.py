"""The files of heads made of scikit-learn: nothing in them is run, and what was altered is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree._tree import Tree
from toy_data import blobs

from feature_cache.errors import DamagedFile, InvalidChoice, UnsafeFile
from heads import make_head
from heads.wrappers.calibration import TemperatureScaled
from heads.wrappers.classifiers import EstimatorHead


def load(head: Any, folder: Path) -> Any:
    return type(head).load(folder, head.get_params(deep=False))


@pytest.fixture
def head() -> Any:
    return make_head("linear-svm").fit(*blobs())


class Gadget:
    """Makes a file when it is unpacked."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __setstate__(self, state: dict) -> None:
        Path(state["marker"]).touch()


@pytest.mark.parametrize("place", ["pipeline", "step", "wrapped", "array"])
def test_foreign_class_is_refused_wherever_it_is_and_not_run(tmp_path: Path, head: Any, place: str) -> None:
    marker = tmp_path / "code was run"
    pipeline = head.pipeline_
    holder = {
        "pipeline": pipeline,
        "step": pipeline[0],
        "wrapped": pipeline[-1].estimator_,
        "array": pipeline[-1].estimator_,
    }[place]
    gadget = Gadget(str(marker))
    holder.gadget = np.array([gadget, None], dtype=object) if place == "array" else gadget
    file = tmp_path / "head.skops"
    skops.io.dump(pipeline, file)
    with pytest.raises(UnsafeFile, match=f"holds types that may run code \\({Gadget.__module__}.Gadget\\)"):
        load(head, tmp_path)
    skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
    assert marker.exists(), "the file is harmless: this test shows nothing"


@pytest.mark.parametrize("call", [os.system, eval, np.load, np.fromfile], ids=lambda call: call.__name__)
def test_step_that_would_call_a_function_is_refused(tmp_path: Path, head: Any, call: Callable) -> None:
    skops.io.dump(make_pipeline(FunctionTransformer(call), head.pipeline_[-1]), tmp_path / "head.skops")
    with pytest.raises(UnsafeFile, match="holds types that may run code"):
        load(head, tmp_path)


def _rows() -> tuple[np.ndarray, np.ndarray]:
    X, y = blobs()
    return X.reshape(len(X), -1), y


OTHERS = {
    "no pipeline": lambda: TemperatureScaled(LinearSVC()).fit(*_rows()),
    "another step": lambda: make_pipeline(MinMaxScaler(), TemperatureScaled(LinearSVC())).fit(*_rows()),
    "another step by the name of the right one": lambda: Pipeline(
        [("standardscaler", MinMaxScaler()), ("temperaturescaled", TemperatureScaled(LinearSVC()))]
    ).fit(*_rows()),
    "another name": lambda: Pipeline(
        [("scaler", StandardScaler()), ("temperaturescaled", TemperatureScaled(LinearSVC()))]
    ).fit(*_rows()),
    "a step more": lambda: make_pipeline(StandardScaler(), PCA(3), TemperatureScaled(LinearSVC())).fit(*_rows()),
    "a step less": lambda: make_pipeline(TemperatureScaled(LinearSVC())).fit(*_rows()),
    "another classifier": lambda: make_pipeline(StandardScaler(), TemperatureScaled(LogisticRegression())).fit(
        *_rows()
    ),
    "not wrapped": lambda: make_pipeline(StandardScaler(), LinearSVC()).fit(*_rows()),
    "never fitted": lambda: make_pipeline(StandardScaler(), TemperatureScaled(LinearSVC())),
    "a function that is harmless": lambda: make_pipeline(
        FunctionTransformer(np.sqrt), TemperatureScaled(LinearSVC())
    ).fit(np.abs(_rows()[0]), _rows()[1]),
}


@pytest.mark.parametrize("what", OTHERS)
def test_file_that_holds_another_thing_is_a_damaged_file(tmp_path: Path, head: Any, what: str) -> None:
    skops.io.dump(OTHERS[what](), tmp_path / "head.skops")
    with pytest.raises(DamagedFile, match="is not a fitted linear-svm head; train it again"):
        load(head, tmp_path)


@pytest.mark.parametrize("name", ["prototypes", "knn", "random-forest"])
@pytest.mark.parametrize("share", [0, 0.5, 0.98])
def test_truncated_file_is_a_damaged_file(tmp_path: Path, name: str, share: float) -> None:
    head: Any = make_head(name, {"n_estimators": 5} if name == "random-forest" else {}).fit(*blobs())
    head.save(tmp_path)
    content = (tmp_path / "head.skops").read_bytes()
    (tmp_path / "head.skops").write_bytes(content[: int(share * len(content))])
    with pytest.raises(DamagedFile, match="head.skops cannot be read"):
        load(head, tmp_path)


# Trees: scikit-learn follows the numbers in their nodes wherever they lead.


def _altered(tree: Tree, field: str, value: int) -> Tree:
    state = tree.__getstate__()
    nodes = state["nodes"].copy()
    inner = np.flatnonzero(nodes["left_child"] != -1)
    nodes[field][inner[-1]] = value
    changed = Tree(tree.n_features, np.array([tree.max_n_classes]), 1)
    changed.__setstate__({**state, "nodes": nodes})
    return changed


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("left_child", 10**9),
        ("right_child", 10**9),
        ("left_child", 0),
        ("left_child", -7),
        ("feature", 12),
        ("feature", -3),
        ("feature", 10**12),
    ],
)
@pytest.mark.parametrize(
    "name", ["sklearn.tree:DecisionTreeClassifier", "random-forest", "sklearn.ensemble:BaggingClassifier"]
)
def test_tree_that_leads_outside_itself_is_a_damaged_file(tmp_path: Path, name: str, field: str, value: int) -> None:
    head: Any = make_head(name, {} if "Tree" in name else {"n_estimators": 3}).fit(*blobs())
    classifier = head.pipeline_[-1].estimator_
    owner = classifier if name.endswith("TreeClassifier") else classifier.estimators_[1]
    owner.tree_ = _altered(owner.tree_, field, value)
    head.save(tmp_path)
    with pytest.raises(DamagedFile, match="it holds a tree whose nodes lead outside it"):
        load(head, tmp_path)


@pytest.mark.parametrize(
    ("field", "value"), [("left", 10**6), ("right", 0), ("feature_idx", 12), ("is_categorical", 1)]
)
def test_boosted_tree_that_leads_outside_itself_is_a_damaged_file(tmp_path: Path, field: str, value: int) -> None:
    head: Any = make_head("hist-gradient-boosting", {"max_iter": 3}).fit(*blobs())
    nodes = head.pipeline_[-1].estimator_._predictors[1][2].nodes
    inner = np.flatnonzero(nodes["is_leaf"] == 0)
    nodes[field][inner[0]] = value
    head.save(tmp_path)
    with pytest.raises(DamagedFile, match="it holds a tree whose nodes lead outside it"):
        load(head, tmp_path)


def test_trees_of_more_features_than_gradient_boosting_gives_them_are_a_damaged_file(tmp_path: Path) -> None:
    X, y = blobs(row_shape=(12,))
    head: Any = make_head("sklearn.ensemble:GradientBoostingClassifier", {"n_estimators": 2, "calibrate": False})
    head.fit(X, y)
    wide = make_head("sklearn.ensemble:GradientBoostingClassifier", {"n_estimators": 2, "calibrate": False})
    wide.fit(np.tile(X, 4), y)
    head.pipeline_[-1].estimator_.estimators_ = wide.pipeline_[-1].estimator_.estimators_  # type: ignore[attr-defined]
    head.save(tmp_path)
    with pytest.raises(DamagedFile, match="it holds a tree whose nodes lead outside it"):
        load(head, tmp_path)


# What cannot be kept is said when it is to be kept.


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    head = make_head("sklearn.neighbors:KNeighborsClassifier", {"algorithm": "kd_tree"}).fit(*blobs())
    with pytest.raises(InvalidChoice, match="this head cannot be kept: it holds .*KDTree, and only plain parts"):
        head.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_skops_cannot_take_apart_is_one_line(tmp_path: Path) -> None:
    forest = RandomForestClassifier(2)
    head = EstimatorHead(forest).fit(*blobs())
    head.pipeline_[-1].estimator_.note = (line for line in "ab")
    with pytest.raises(InvalidChoice, match="this head cannot be kept without pickle: ") as caught:
        head.save(tmp_path)
    assert "\n" not in str(caught.value)
