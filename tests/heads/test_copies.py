"""Copies of an image are never on both sides: of a split, a fold, an inner fold or a draw."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from PIL import Image
from toy_data import cached

import cli
from feature_cache.errors import BadData
from heads.evaluation.pair_scores import Pair, sweep
from heads.evaluation.protocol import Protocol
from heads.evaluation.training import learning_curve, train
from heads.evaluation.views import Views
from heads.splitting.splits import Split, few_labels, hold_out, inner_folds, k_fold

PROPERTY = settings(deadline=None, max_examples=60, derandomize=True, database=None)


class Rows(NamedTuple):
    labels: np.ndarray
    groups: np.ndarray
    seed: int


@st.composite
def data_sets(draw: st.DrawFn) -> Rows:
    """A few images of each class; any of them may be there many times, and its copies be labelled otherwise."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    of_class = draw(st.lists(st.integers(8, 20), min_size=2, max_size=5))
    most = draw(st.sampled_from([1, 2, 5, 40]))
    names = draw(st.sampled_from(["numbers", "texts", "far apart"]))
    images = sum(of_class)
    copies = np.where(rng.random(images) < draw(st.floats(0, 1)), rng.integers(1, most + 1, images), 1)
    groups = rng.permutation(np.repeat(np.arange(images), copies))
    labels = np.repeat([f"class {number}" for number in range(len(of_class))], of_class)[groups]
    copied = np.ones(len(groups), bool)
    copied[np.unique(groups, return_index=True)[1]] = False
    wrong = copied & (rng.random(len(groups)) < draw(st.sampled_from([0, 0.3, 1])))
    labels[wrong] = rng.permutation(labels[wrong])
    if names == "texts":
        groups = np.array([f"{content:x}" for content in rng.permutation(images)])[groups]
    elif names == "far apart":
        groups = np.unique(rng.integers(-(2**60), 2**60, images))[groups]
    return Rows(labels, groups, draw(st.integers(0, 1000)))


SPLITTERS: dict[str, Callable[[Rows], list[Split]]] = {
    "k_fold": lambda rows: list(k_fold(rows.labels, rows.groups, 2 + rows.seed % 4, rows.seed)),
    "hold_out": lambda rows: [hold_out(rows.labels, rows.groups, 0.15 + rows.seed / 1500, rows.seed)],
    "few_labels": lambda rows: [few_labels(rows.labels, rows.groups, 1 + rows.seed % 5, rows.seed)],
    "inner_folds": lambda rows: inner_folds(rows.labels, rows.groups, rows.seed, 2 + rows.seed % 4),
    "folds": lambda rows: Protocol(cv=3, seed=rows.seed).splits(rows.labels, rows.groups),
    "draws": lambda rows: Protocol(per_class=3, draws=4, seed=rows.seed).splits(rows.labels, rows.groups),
}


@pytest.mark.parametrize("split", SPLITTERS.values(), ids=SPLITTERS)
@PROPERTY
@given(rows=data_sets())
def test_no_content_is_on_both_sides_of_a_split_or_of_inner_folds_of_its_training_rows(
    split: Callable[[Rows], list[Split]], rows: Rows
) -> None:
    try:
        made = split(rows)
    except BadData:
        reject()
    for train_rows, held_out in made:
        assert sorted([*train_rows, *held_out]) == list(range(len(rows.labels)))
        assert not set(rows.groups[train_rows]) & set(rows.groups[held_out])
        inside = Rows(rows.labels[train_rows], rows.groups[train_rows], rows.seed)
        try:
            folds = inner_folds(*inside)
        except BadData:
            continue
        for inner, rest in folds:
            assert not set(inside.groups[inner]) & set(inside.groups[rest])
            assert not set(inside.groups[inner]) & set(rows.groups[held_out])


NOTING = """
import json
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

class Noting(ClassifierMixin, BaseEstimator):
    def __init__(self, number=0):
        self.number = number

    def fit(self, X, y):
        self.classes_, self.seen_ = np.unique(y), np.unique(X[:, 0]).tolist()
        return self

    def predict_proba(self, X):
        with open({notes!r}, "a") as stream:
            print(json.dumps([self.seen_, np.unique(X[:, 0]).tolist()]), file=stream)
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))

def make_head():
    return Noting()
"""


@pytest.mark.parametrize("views", [1, 3])
def test_no_head_is_asked_about_a_copy_of_an_image_that_it_has_seen(tmp_path: Path, views: int) -> None:
    rng = np.random.default_rng(views)
    groups = rng.permutation(np.repeat(np.arange(48), rng.integers(1, 6, 48)))
    labels = np.array(["ant", "bee", "cicada"])[groups % 3]
    rows = np.repeat(groups, views)[:, None].astype(np.float32)
    features = {layer: cached(tmp_path / layer, rows, layer) for layer in "ab"}
    (tmp_path / "own.py").write_text(NOTING.format(notes=str(tmp_path / "notes")))
    name, grid = f"{tmp_path / 'own.py'}:make_head", [{"number": 1}, {"number": 2}]
    several = Views(views, average=views > 1)
    for protocol in (Protocol(cv=3, test=0.25), Protocol(valid=0.3, test=0.2), Protocol(per_class=4, draws=3)):
        train(features, labels, groups, protocol, name, views=several, grid=grid)
        if protocol.test is None:
            learning_curve(features["a"], labels, groups, [1, 5], protocol, name, {}, several)
        sweep(features, [Pair(layer, name) for layer in "ab"], labels, groups, protocol, tmp_path, views=several)
    notes = [[set(side) for side in json.loads(line)] for line in (tmp_path / "notes").read_text().splitlines()]
    assert any(seen.isdisjoint(asked) for seen, asked in notes)
    for seen, asked in notes:
        assert seen == asked or seen.isdisjoint(asked)  # training rows are scored, too


# The command line, on a folder where names and classes are all that sets copies apart.

IMAGES, CLASSES = 72, 3
CHANCE = 1 / CLASSES
# 4 deviations of a binomial share of as many guesses as there are groups: copies are right or wrong together.
BOUND = 4 * np.sqrt(CHANCE * (1 - CHANCE) / IMAGES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise, put into classes at random; half of all files are copies of others, in their class under other names.

    Half of the copies have other bytes.
    """
    folder = tmp_path_factory.mktemp("copies")
    rng = np.random.default_rng(0)
    for number, label in enumerate(rng.permutation(np.arange(IMAGES) % CLASSES)):
        place = folder / "data" / f"class {label}"
        place.mkdir(parents=True, exist_ok=True)
        names = [f"{name:06}.png" for name in rng.integers(1_000_000, size=2)]
        Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(place / names[0])
        if number % 2:
            shutil.copy(place / names[0], place / names[1])
        else:
            Image.open(place / names[0]).convert("RGB").save(place / names[1], "BMP")
    return folder


LAYERS = ("--layer", "block1_pool", "--layer", "block2_pool", "--pool", "flatten")


def layertap(folder: Path, *arguments: str) -> dict[str, Any]:
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as said:
        assert cli.main([*arguments, "--json"]) == 0
    report: dict[str, Any] = json.loads(said.getvalue())
    return report


@pytest.fixture(scope="module")
def swept(folder: Path) -> dict[str, Any]:
    """What a sweep says that has extracted the features, too."""
    return layertap(
        folder, "sweep", "data", *LAYERS, "--extract", "--head", "knn", "--grid", "knn.n_neighbors=1,10",
        "--head", "prototypes", "--cv", "3", "--jobs", "1", "--out", "sweep"
    )  # fmt: skip


def test_sweep_finds_chance_in_a_folder_of_copies(swept: dict[str, Any]) -> None:
    assert len(swept["pairs"]) == 6
    for pair in swept["pairs"]:
        assert not pair["error"]
        assert abs(pair["accuracy"] - CHANCE) < BOUND
    assert abs(swept["best"]["accuracy"] - CHANCE) < BOUND


@pytest.mark.slow
@pytest.mark.usefixtures("swept")
def test_train_head_finds_chance_in_a_folder_of_copies(folder: Path) -> None:
    report = layertap(
        folder, "train-head", "data", *LAYERS, "--head", "ridge", "--grid", "scale=true,false", "--cv", "4",
        "--test", "0.25", "--curve", "2,10", "--draws", "3", "--out", "run"
    )  # fmt: skip
    assert report["summary"]["train"]["accuracy"]["mean"] > 0.95
    assert abs(report["summary"]["valid"]["accuracy"]["mean"] - CHANCE) < BOUND * np.sqrt(4 / 3)
    assert abs(report["test"]["accuracy"] - CHANCE) < BOUND * 2
    for point in report["curve"]:
        assert abs(point["accuracy"]["mean"] - CHANCE) < BOUND * np.sqrt(2)
