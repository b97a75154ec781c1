"""Submissions of `layertap ramp init`, trained and tested by RAMP's own workflow."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("rampwf")

from rampwf.utils.importing import import_module_from_source
from scipy.special import log_softmax

import cli
from feature_cache.errors import DamagedFile
from layertap.ramp.batch_tuner import BatchTuner
from layertap.ramp.features import BatchFeatures
from layertap.ramp.saving import save_model
from transfer.data.datasets import load
from transfer.finetune.recipe import Recipe

ROOT = Path(__file__).resolve().parents[3]
PATTERNS = {"rows": (1, 0), "columns": (0, 1), "both": (1, 1)}  # weights of the two axes


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kit of three classes of noisy gray stripes, of several sizes, for the workflow of rampwf."""
    rng = np.random.default_rng(0)
    for name, weights in PATTERNS.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(20):
            noise = rng.integers(0, 60, (20 + number % 3, 24), np.uint8)
            stripes = np.tensordot(weights, np.indices(noise.shape), axes=1) // 4 % 2
            Image.fromarray(noise + (160 * stripes).astype(np.uint8)).save(tmp_path / "data" / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAYERTAP_CACHE", str(tmp_path / "features"))
    run("ramp", "kit", "kit", "--data", "data", "--workflow", "rampwf", "--quiet")
    return tmp_path / "kit"


def run(*arguments: object) -> None:
    assert cli.main([str(argument) for argument in arguments]) == 0


def problem_of(kit: Path) -> Any:
    return import_module_from_source(str(kit / "problem.py"), "problem")


def ramp_test(kit: Path, name: str, **environment: str) -> dict[str, dict[str, float]]:
    """What ``ramp-test`` prints of the first fold: for train, valid and test each score, and the time."""
    done = subprocess.run(
        [sys.executable, "-m", "rampwf.utils.cli.testing", "--submission", name],
        cwd=kit,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).splitlines()]
    at = next(number for number, words in enumerate(lines) if words[:2] == ["score", "acc"])
    return {words[0]: dict(zip(lines[at][1:], map(float, words[1:]), strict=True)) for words in lines[at + 1 : at + 4]}


def test_folds_of_a_kit_keep_copies_together(kit: Path):
    for name in PATTERNS:
        folder = kit.parent / "data" / name
        for number in range(8):
            shutil.copy(folder / f"{number}.png", folder / f"{number} again.png")
    for count, folds in ((1, ()), (3, ("--folds", 3))):
        run("ramp", "kit", "kit", "--data", "data", "--workflow", "rampwf", "--overwrite", "--quiet", *folds)
        made = problem_of(kit)
        X, y = made.get_train_data(kit)
        contents = np.array([(Path(X[0]) / name).read_bytes() for name in X[1]])
        assert len(np.unique(contents)) < len(contents)
        splits = list(made.get_cv(X, y))
        assert len(splits) == count
        for train, valid in splits:
            assert not np.intersect1d(contents[train], contents[valid]).size
            assert sorted([*train, *valid]) == list(range(len(y)))
            assert set(y[train]) == set(y[valid]) == {0, 1, 2}


@pytest.mark.slow
def test_ramp_test_runs_what_init_writes(kit: Path) -> None:
    run("ramp", "init", kit, "--name", "mine")
    scores = ramp_test(kit, "mine")
    assert scores["valid"]["acc"] == scores["test"]["acc"] == 1
    assert scores["test"]["nll"] < 0.1


def test_every_class_has_a_column_whether_it_was_there_or_not(kit: Path) -> None:
    run("ramp", "init", kit, "--name", "mine", "--head", "logistic")
    problem = problem_of(kit)
    X, y = problem.get_train_data(str(kit))
    workflow, folder = problem.workflow, str(kit / "submissions" / "mine")
    trained = workflow.train_submission(folder, X, y, np.flatnonzero(y != 1))
    said = workflow.test_submission(trained, X)
    assert said.shape == (len(y), 3)
    assert said.dtype == np.float64
    np.testing.assert_array_equal(said[:, 1], 0)
    np.testing.assert_allclose(said.sum(axis=1), 1, rtol=1e-12)  # scikit-learn's scores warn above 1.5e-8
    assert (said.argmax(axis=1) == y)[y != 1].all()


@pytest.mark.slow
def test_fine_tuning_is_better_than_chance_has_all_columns_and_can_be_saved(kit: Path, tmp_path: Path) -> None:
    run("ramp", "init", kit, "--name", "tuned", "--fine-tune", "--layer", "block4_pool")
    file = kit / "submissions" / "tuned" / "batch_classifier.py"
    text = file.read_text()
    assert "Recipe(epochs=10)" in text
    file.write_text(text.replace("epochs=10", "epochs=2, inner=0"))
    problem = problem_of(kit)
    X, y = problem.get_train_data(str(kit))
    workflow = problem.workflow
    first, second = (
        workflow.train_submission(str(file.parent), X, y, np.flatnonzero(y != left_out)) for left_out in (2, 1)
    )
    said = workflow.test_submission(second, X)
    assert said.shape == (len(y), 3)
    np.testing.assert_array_equal(said[:, 1], 0)
    assert (said.argmax(axis=1) == y)[y != 1].mean() > 0.9
    np.testing.assert_array_equal(workflow.test_submission(first, X)[:, 2], 0)  # each fold has a net of its own

    tuner = second[2].tuner
    probe, split, tuner.probe, tuner.split = tuner.probe, tuner.split, None, None  # cloudpickle's business
    copy = pickle.loads(pickle.dumps(tuner))
    tuner.probe, tuner.split = probe, split
    again = workflow.test_submission((*second[:2], copy), X)
    np.testing.assert_allclose(again, said, atol=1e-5)

    save_model(second, tmp_path / "model")
    other = BatchTuner(tuner.features, probe, split, recipe=tuner.recipe).load(tmp_path / "model" / "tuner")
    np.testing.assert_allclose(workflow.test_submission((*second[:2], other), X), said, atol=1e-5)
    (tmp_path / "model" / "tuner" / "tuned.npz").write_bytes(b"PK damaged")
    with pytest.raises(DamagedFile, match="train them again"):
        other.load(tmp_path / "model" / "tuner")


def test_the_probe_of_fine_tuning_is_not_misled_by_copies(kit: Path) -> None:
    # Features that tell each image apart, of which 3 in 10 are labelled wrong: rows are chosen on copies of others.
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=160)
    features = 0.5 * rng.normal(size=(160, 200)) + 2 * np.eye(3, 200)[truth]
    labels = np.where(rng.random(160) < 0.3, (truth + rng.integers(1, 3, 160)) % 3, truth)
    rows, new = np.repeat(np.arange(100), 3), np.arange(100, 160)

    def log_loss(probe: Any, contents: np.ndarray) -> float:
        kernel, bias = probe(features[rows], labels[rows], contents)
        said = log_softmax(features[new] @ kernel + bias, axis=1)
        return float(-said[np.arange(len(new)), labels[new]].mean())

    for head in ("ridge", "linear"):
        run("ramp", "init", kit, "--name", head, "--fine-tune", "--head", head)
        file = kit / "submissions" / head / "batch_classifier.py"
        probe = import_module_from_source(str(file), "batch_classifier", sanitize=True).BatchClassifier().tuner.probe
        assert log_loss(probe, rows) < 1.1 < 1.5 < log_loss(probe, np.arange(300))


@pytest.mark.parametrize("parameters", [2, 3], ids=["of an earlier version", "with groups"])
def test_fine_tuning_tells_its_probe_which_images_are_copies(tmp_path: Path, parameters: int) -> None:
    rng = np.random.default_rng(0)
    images, order = rng.integers(0, 256, (8, 32, 32, 3), np.uint8), rng.permutation(24) % 8
    received = []

    def probe(features: np.ndarray, labels: np.ndarray, contents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        received.append((features, contents))
        return np.zeros((features.shape[1], 2)), np.zeros(2)

    def earlier(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return probe(features, labels, np.zeros(0))

    features = BatchFeatures("glyphnet", "block4_pool", size=(32, 32), cache=tmp_path)
    recipe = Recipe(epochs=1, inner=0)
    tuner = BatchTuner(features, probe if parameters > 2 else earlier, lambda *_: None, recipe=recipe)
    tuner.fit([(images[order], np.eye(2)[order % 2])], len(order))
    [(rows, contents)] = received
    assert len(rows) == len(order)
    if parameters > 2:
        np.testing.assert_array_equal(contents[:, None] == contents, order[:, None] == order)


@pytest.mark.slow
def test_fine_tuning_is_not_misled_by_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Three copies of each of 300 digits, 3 in 10 of which are labelled wrong: the most to be had is about 0.7.
    digits, rng = load("digits"), np.random.default_rng(7)
    chosen = rng.choice(len(digits), 300, replace=False)
    labels = np.array([int(digits.labels[number]) for number in chosen])
    labels = np.where(rng.random(300) < 0.3, (labels + rng.integers(1, 10, 300)) % 10, labels)
    for number, label in zip(chosen, labels, strict=True):
        (tmp_path / "data" / str(label)).mkdir(parents=True, exist_ok=True)
        for copy in range(3):
            image = Image.fromarray(digits.sources[number].pixels)
            image.save(tmp_path / "data" / str(label) / f"{number}-{copy}.png")
    monkeypatch.chdir(tmp_path)
    run("ramp", "kit", "kit", "--data", "data", "--test", "0.4", "--workflow", "rampwf", "--quiet")
    run("ramp", "init", "kit", "--name", "tuned", "--fine-tune", "--layer", "block4_pool")
    scores = ramp_test(tmp_path / "kit", "tuned", LAYERTAP_CACHE=str(tmp_path / "features"))
    assert scores["test"]["acc"] > 0.6  # 0.47, and a log-loss of 2.9, where copies are on both sides of inner splits
    assert scores["test"]["nll"] < 1.5


@pytest.mark.slow
def test_digits_are_named_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("ramp", "kit", "kit", "--data", "digits", "--workflow", "rampwf", "--quiet")
    own = {"LAYERTAP_CACHE": str(tmp_path / "features"), "XDG_CACHE_HOME": str(tmp_path / "converted")}
    run("ramp", "init", "kit", "--name", "glyphs")
    scores = ramp_test(tmp_path / "kit", "glyphs", **own)
    assert scores["valid"]["acc"] >= 0.99
    assert scores["valid"]["nll"] < 0.03


@pytest.mark.slow
def test_the_starting_kit_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("ramp", "kit", "kit", "--data", "digits", "--workflow", "rampwf", "--quiet")
    assert ramp_test(tmp_path / "kit", "starting_kit")["valid"]["acc"] > 0.9


def test_the_starting_kit_takes_images_of_all_modes(kit: Path, loose: Callable[[str], Any]) -> None:
    transform = loose("image_preprocessor").transform
    for shape in ((9, 7), (9, 7, 3), (9, 7, 4)):
        for dtype in (np.uint8, np.uint16, np.bool_):
            pixels = transform(np.ones(shape, dtype))
            assert (pixels.shape, pixels.dtype) == ((32, 32, 3), np.float32)
    channels_last = loose("batch_classifier").channels_last
    assert channels_last(np.zeros((5, 1, 9, 7))).shape == (5, 9, 7, 1)
    assert channels_last(np.zeros((5, 9, 7, 3))).shape == (5, 9, 7, 3)


def test_the_starting_kit_trains_without_a_warning(loose: Callable[[str], Any]) -> None:
    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        while True:
            yield np.zeros((4, 8, 8, 3), np.float32), np.eye(2)[[0, 1, 0, 1]]

    classifier = loose("batch_classifier").BatchClassifier()
    generators = batches(), batches(), 8, 4
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*shuffle")
        classifier.fit(SimpleNamespace(get_train_valid_generators=lambda batch_size, valid_ratio: generators))
    assert classifier.predict_proba(np.zeros((3, 8, 8, 3), np.float32)).shape == (3, 2)


@pytest.fixture
def loose(kit: Path) -> Callable[[str], Any]:
    """A module of the submission to start from."""
    folder = kit / "submissions" / "starting_kit"
    return lambda name: import_module_from_source(str(folder / f"{name}.py"), name, sanitize=True)
