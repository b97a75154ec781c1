"""A cache, runs, a sweep and a RAMP kit that version 0.1.0 wrote: they are read as that version read them.

``written_before/README.md`` says what is there, and ``written_before/make.py`` made it. Commands alone are run here, so
that nothing depends on where a module is.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import runpy
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cli

WRITTEN = Path(__file__).with_name("written_before") / "project"
EXPECTED = json.loads((WRITTEN / "expected.json").read_text(encoding="utf-8"))
FOLDER, HOST = "@FOLDER@", "@HOST@"  # stand in the files for the absolute path of their folder, and for the machine
# What commands print that no two runs of them share: times, and what depends on them, versions, digests of Keras files.
VARIES = {
    *("seconds", "fit_seconds", "predict_seconds", "train_seconds", "test_seconds", "images_per_second", "waited"),
    *("last_used", "pareto", "layertap", "sha256", "difference"),
}
ADDED = {"classes", "differs_in", "conversions"}  # what later versions print beside it
UNORDERED = {"cited_by", "files", "removed", "would_remove", "kept"}
# How far numbers may be apart: those of stored features, those that a net computes anew, and those of a net that is
# trained anew, which adds up its rounding.
STORED, COMPUTED, TRAINED = 1e-6, 1e-4, 1e-3
# The log-losses of a submission that is fine-tuned by the defaults of the version that trains it, then and now.
BY_NEW_DEFAULTS = {0.6982639538278597: 0.5711590216566901, 0.6230670696856039: 0.5085949662085439}
IN_FLOAT32 = {"runs/mlp", "knn"}  # heads that compute in float32, of which the rounding depends on the processor

Command = Callable[..., Any]


def commands(kind: str) -> list[Any]:
    """The entries of `EXPECTED` as parameters of a test; those that take long are marked."""
    return [
        pytest.param(*entry, id=" ".join(entry[0]), marks=pytest.mark.slow if is_slow(kind, entry[0]) else ())
        for entry in EXPECTED[kind]
    ]


def is_slow(kind: str, words: list[str]) -> bool:
    """Whether a command loads ramp-workflow, or builds a net, unless it is the one of its kind that is always run."""
    fast = {"exports": "runs/prototypes", "computes": "runs/tuned"}
    return words[0] == "ramp" or (kind in fast and fast[kind] not in words)


def copy_to(folder: Path) -> Path:
    """A copy of the files, as if they had been written in `folder`, on this machine."""
    shutil.copytree(WRITTEN, folder, dirs_exist_ok=True)
    for file in [*(folder / "features" / ".runs").iterdir(), *(folder / "kit").rglob("*.py")]:
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(FOLDER, str(folder)).replace(HOST, socket.gethostname()), encoding="utf-8")
    return folder


def segments(folder: Path) -> dict[str, str]:
    """The digests of everything in the caches that holds features or says what they are."""
    files = [file for kind in ("segment-*", "spec.json") for file in folder.rglob(kind)]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def spaces(folder: Path) -> list[str]:
    """What is in the folder of the cache."""
    return sorted(path.name for path in (folder / "features").iterdir())


def assert_same(printed: Any, expected: Any, within: float, where: str = "") -> None:
    """Compare what was printed with what the earlier version printed: accuracies exactly, other numbers nearly."""
    if isinstance(expected, dict):
        assert printed.keys() - (ADDED - expected.keys()) == expected.keys(), where
        for key in expected.keys() - VARIES:
            pair = printed[key], expected[key]
            if key in UNORDERED:
                pair = sorted(pair[0], key=str), sorted(pair[1], key=str)
            assert_same(*pair, within, f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(printed) == len(expected), where
        for number, pair in enumerate(zip(printed, expected, strict=True)):
            assert_same(*pair, within, f"{where}[{number}]")
    elif isinstance(expected, float) and not where.endswith("accuracy"):
        expected = BY_NEW_DEFAULTS.get(expected, expected)
        assert printed == pytest.approx(expected, rel=within, abs=within), where
    else:
        assert printed == expected, where


def as_table(text: str) -> list[list[str | float]]:
    """The cells of a CSV file, numbers as such."""

    def cell(word: str) -> str | float:
        try:
            return float(word)
        except ValueError:
            return word

    return [[cell(word) for word in row] for row in csv.reader(io.StringIO(text))]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy for commands that leave features as they are."""
    return copy_to(tmp_path_factory.mktemp("project"))


@pytest.fixture
def layertap(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process, in a folder, where it has to succeed: the object, or the table, that it prints."""
    monkeypatch.delenv("LAYERTAP_CACHE", raising=False)

    def run(folder: Path, *words: str) -> Any:
        monkeypatch.chdir(folder)
        if words[0] == "cache":  # it shows, and removes, nets that other tests have converted
            monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "xdg"))
        capfd.readouterr()
        status = cli.main(list(words))
        printed = capfd.readouterr()
        assert not status, printed.err
        text = printed.out.replace(str(folder), FOLDER)
        return json.loads(text) if "--json" in words else as_table(text)

    return run


@pytest.mark.parametrize("words, expected", commands("reads"))
def test_a_command_prints_the_same_and_computes_nothing(
    shared: Path, layertap: Command, words: list[str], expected: Any
) -> None:
    before = segments(shared)
    printed = layertap(shared, *words)
    within = COMPUTED if IN_FLOAT32 & set(words) else STORED
    assert_same(printed, as_table(expected) if isinstance(expected, str) else expected, within)
    assert segments(shared) == before == segments(WRITTEN)


@pytest.mark.parametrize("words, expected, arrays", commands("rows"))
def test_features_are_the_same_bit_by_bit(
    shared: Path, layertap: Command, words: list[str], expected: Any, arrays: dict[str, list[Any]]
) -> None:
    assert_same(layertap(shared, *words), expected, STORED)
    with np.load(shared / words[-2]) as stored:
        digests = {
            name: [array.dtype.str, [*array.shape], hashlib.sha256(array.tobytes()).hexdigest()]
            for name, array in stored.items()
        }
    assert digests == arrays


@pytest.mark.parametrize("words, expected, remaining", commands("prunes"))
def test_what_runs_cite_is_not_pruned(
    tmp_path: Path, layertap: Command, words: list[str], expected: Any, remaining: list[str]
) -> None:
    assert_same(layertap(copy_to(tmp_path), *words), expected, STORED)
    assert spaces(tmp_path) == remaining


@pytest.mark.parametrize("words, expected, probabilities", commands("exports"))
def test_an_exported_run_is_the_same_model(
    shared: Path, layertap: Command, words: list[str], expected: Any, probabilities: list[list[float]]
) -> None:
    import keras

    printed = layertap(shared, *words, "--overwrite")
    assert_same(printed, expected, COMPUTED)
    assert printed["difference"] <= COMPUTED
    net = keras.saving.load_model(shared / words[-2])
    pixels = np.random.default_rng(0).integers(0, 256, (3, *net.input_shape[1:]), np.uint8)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(net(pixels)), probabilities, atol=COMPUTED)


@pytest.mark.parametrize("words, expected, remaining", commands("computes"))
def test_new_images_and_submissions_get_the_same_scores(
    tmp_path: Path, layertap: Command, words: list[str], expected: Any, remaining: list[str]
) -> None:
    if words[0] == "ramp":
        pytest.importorskip("rampwf")
    assert_same(layertap(copy_to(tmp_path), *words), expected, TRAINED if words[0] == "ramp" else COMPUTED)
    assert spaces(tmp_path) == remaining


@pytest.mark.parametrize("name, shape", [("heads", (32, 32, 3)), ("tuned", (16, 16, 3))])
def test_submissions_find_what_they_import(shared: Path, name: str, shape: tuple[int, ...]) -> None:
    submission = shared / "kit" / "submissions" / name
    for_images = runpy.run_path(str(submission / "image_preprocessor.py"))  # which workflows load first
    assert for_images["transform"](np.zeros((9, 12), np.uint8)).shape == shape
    assert runpy.run_path(str(submission / "batch_classifier.py"))["BatchClassifier"]()
