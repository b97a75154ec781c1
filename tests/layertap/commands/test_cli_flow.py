"""The main way through the command line: plan, extract, train, evaluate, predict, look at the cache."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
SCORES = {"accuracy", "balanced_accuracy", "nll", "ece", "roc_auc", "n", "fit_seconds", "predict_seconds"}


NEW = [f"{name}/{number}.png" for name in ("bright", "dark") for number in range(3)] + ["dark/odd.tif"]


def damaged_metadata(file: Path) -> None:
    """A dark image whose description claims to be longer than the file: that is no one's concern."""
    Image.new("L", (8, 8), 7).save(file, description="text that is cut off" * 10)
    whole = file.read_bytes()
    cut = whole.replace(b"\x0e\x01\x02\x00\xc9\x00", b"\x0e\x01\x02\x00\xc9\xff")  # the length of the description
    assert cut != whole
    file.write_bytes(cut)


class Flow:
    """The commands in their order, each in a process of its own; what each of them said."""

    def __init__(self, folder: Path, layertap: Callable, make_classes: Callable) -> None:
        self.folder = folder
        self._layertap = layertap
        make_classes(folder / "data")
        make_classes(folder / "new", per_class=3, seed=1)
        damaged_metadata(folder / "new" / "dark" / "odd.tif")
        layers = ("--layer", "block1_pool", "--layer", "block2_pool")
        self.extract = self.run("extract", "data", *layers, "--quiet", "--json")
        self.again = self.run("extract", "data", *layers, "--quiet", "--json")
        self.train = self.run("train-head", "data", *layers, "--cv", "3", "--out", "run", "--quiet", "--json")
        self.evaluate = self.run("evaluate", "run", "new", "--quiet", "--json")
        images = sorted(str(file.relative_to(folder)) for file in (folder / "new").glob("*/*"))
        self.predict = self.run("predict", "run", *images, "--quiet", "--out", "predictions.csv")
        self.list = self.run("cache", "list", "--json")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = self._layertap(*arguments, cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done

    @staticmethod
    def json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
        """The one object on stdout; nothing else is there, and nothing at all on stderr."""
        assert done.stderr == ""
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory, layertap: Callable, make_classes: Callable) -> Flow:
    return Flow(tmp_path_factory.mktemp("flow"), layertap, make_classes)


def test_extract_reports_what_it_did(flow: Flow) -> None:
    report = flow.json(flow.extract)
    assert (report["rows_total"], report["rows_computed"], report["rows_reused"]) == (24, 24, 0)
    assert report["seconds"] > 0
    assert report["images_per_second"] > 0
    assert len(report["spaces"]) == 2
    assert report["skipped"] == []


def test_extracting_again_computes_nothing(flow: Flow) -> None:
    report = flow.json(flow.again)
    assert (report["rows_total"], report["rows_computed"], report["rows_reused"]) == (24, 0, 24)


def test_training_reports_scores_of_every_fold_and_writes_the_same(flow: Flow) -> None:
    report = flow.json(flow.train)
    assert report["run"] == "run"
    assert len(report["folds"]) == 3
    for fold in report["folds"]:
        assert fold["features"] in ("block1_pool", "block2_pool")
        assert set(fold["train"]) == set(fold["valid"]) == SCORES
        assert (fold["train"]["n"], fold["valid"]["n"]) == (8, 4)
    assert report["summary"]["valid"]["accuracy"]["mean"] == 1.0
    written = json.loads((flow.folder / "run" / "metrics.json").read_text())
    assert written == {name: report[name] for name in ("summary", "folds", "bagged", "extraction_seconds")}
    assert [scores["n"] for scores in report["bagged"]] == [4, 8, 12]
    assert report["bagged"][-1]["accuracy"] == 1.0


def test_a_run_says_how_it_was_made(flow: Flow) -> None:
    config = json.loads((flow.folder / "run" / "config.json").read_text())
    assert config["spec"] == flow.json(flow.train)["spec"]
    assert config["net"]["name"] == "glyphnet"
    assert config["head"]["name"] == "auto"
    assert config["data"]["classes"] == ["bright", "dark"]
    assert config["candidates"] == ["block1_pool", "block2_pool"]
    names = {file.name for file in (flow.folder / "run").iterdir()}
    pictures = {"confusion.png", "map.png", "reliability.png"}  # there is no mistake to show
    files = {"config.json", "metrics.json", "head.npz", "head-images.npy", "held-out.npz", "report.html", "plan.yaml"}
    assert names == files | pictures
    for name in pictures:
        assert Image.open(flow.folder / "run" / name).size[0] > 100
    report = (flow.folder / "run" / "report.html").read_text()
    assert report.count("data:image/png") == 1  # the map; the confusion matrix is a table, and reliability a chart
    assert "glyphnet" in report


def test_evaluation_extracts_what_is_new_and_scores_it(flow: Flow) -> None:
    report = flow.json(flow.evaluate)
    assert set(report["test"]) == SCORES
    assert (report["test"]["n"], report["test"]["accuracy"]) == (7, 1.0)
    of_each = [(one["class"], one["f1"], one["support"]) for one in report["classes"]]
    assert of_each == [("bright", 1.0, 3), ("dark", 1.0, 4)]
    (read,) = [info for info in flow.json(flow.list)["spaces"] if info["rows"] == 19]
    assert json.loads((flow.folder / "run" / "config.json").read_text())["spec"]["layer"] in read["space"]


def test_predictions_have_a_row_for_each_image_and_probabilities_that_sum_to_one(flow: Flow) -> None:
    assert flow.predict.stdout == flow.predict.stderr == ""
    with (flow.folder / "predictions.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert list(table[0]) == ["id", "class", "bright", "dark"]
    assert [row["id"] for row in table] == [f"new/{name}" for name in NEW]
    for row in table:
        assert row["class"] == row["id"].split("/")[1]
        probabilities = {name: float(row[name]) for name in ("bright", "dark")}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)
        assert max(probabilities, key=probabilities.get) == row["class"]


def test_cache_list_and_info_tell_of_every_space(flow: Flow) -> None:
    spaces = flow.json(flow.list)["spaces"]
    assert sorted(info["rows"] for info in spaces) == [12, 19]
    assert sorted(info["row_shape"] for info in spaces) == [[32], [64]]
    for info in spaces:
        found = flow.json(flow.run("cache", "info", info["space"], "--json"))
        assert found["rows"] == info["rows"] == sum(segment["rows"] for segment in found["segments"])
        assert found["spec"]["net"] == "glyphnet"
        assert found["bytes"] == info["bytes"] == sum(segment["bytes"] for segment in found["segments"])


def test_without_json_people_are_told_the_same(flow: Flow, main: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(flow.folder)
    layers = ("--layer", "block1_pool", "--layer", "block2_pool")
    said = main("extract", "data", *layers)
    assert "0 rows computed, 24 reused, 0 skipped" in said.stdout
    assert said.stderr == ""
    assert "Nothing to compute." in main("extract", "data", *layers, "--plan").stdout
    trained = main("train-head", "data", *layers, "--valid", "0.5", "--out", "other").stdout
    assert "split 1: accuracy 1.0000" in trained
    assert "is fitted on all 12 images" in trained
    assert "Pictures and all scores: other/report.html\nNext: layertap predict other IMAGE" in trained
    scores, few, of_each = main("evaluate", "other", "new").stdout.split("\n\n")
    assert "1.0000" in scores
    assert "fit (s)" not in scores
    assert few.startswith("The accuracy was measured on 7 images only: on others it may be from 0.6457 to 1.0000")
    assert [line.split() for line in of_each.splitlines()] == [
        ["class", "precision", "recall", "F1", "images"],
        ["bright", "1.0000", "1.0000", "1.0000", "3"],
        ["dark", "1.0000", "1.0000", "1.0000", "4"],
    ]
    assert "19" in main("cache", "list").stdout
    space = json.loads(main("cache", "list", "--json").stdout)["spaces"][0]["space"]
    assert "glyphnet" in main("cache", "info", space).stdout
    predicted = main("predict", "other", "new/dark/0.png")
    assert predicted.stdout.splitlines()[0] == "id,class,bright,dark"
    assert predicted.stdout.splitlines()[1].startswith("new/dark/0.png,dark,")


def test_predicting_a_folder_gives_the_ids_of_the_data_set(
    flow: Flow, main: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(flow.folder)
    said = json.loads(main("predict", "run", "new", "--json").stdout)
    assert [row["id"] for row in said["predictions"]] == NEW
    for row in said["predictions"]:
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert row["probabilities"][row["class"]] == max(row["probabilities"].values())
    assert said["skipped"] == []


def test_the_same_seed_gives_the_same_scores(flow: Flow, main: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(flow.folder)
    command = ("train-head", "data", "--layer", "block1_pool", "--per-class", "2", "--draws", "3", "--json", "--out")

    def folds(*more: str) -> list:
        found = json.loads(main(*command, *more).stdout)["folds"]
        return [(fold["train"]["nll"], fold["valid"]["nll"]) for fold in found]

    assert folds("seed-a", "--seed", "1") == folds("seed-b", "--seed", "1") != folds("seed-c", "--seed", "2")


def test_plan_then_extract_agree(main: Callable, data: Path) -> None:
    plan = json.loads(main("extract", data, "--plan", "--json").stdout)
    assert [(part["rows_total"], part["rows_missing"]) for part in plan["spaces"]] == [(12, 12)]
    assert "To compute: 12 images" in main("extract", data, "--plan").stdout
    report = json.loads(main("extract", data, "--json").stdout)
    assert report["rows_computed"] == 12
    assert report["spaces"] == [part["space"] for part in plan["spaces"]]


@pytest.mark.parametrize(
    ("number", "status", "line"),
    [
        (signal.SIGINT, 130, "interrupted; what was computed is kept."),
        pytest.param(signal.SIGTERM, 143, "stopped as asked; what was computed is kept.", marks=pytest.mark.slow),
    ],
)
def test_an_extraction_that_is_stopped_keeps_what_was_computed(
    tmp_path: Path, main: Callable, number: signal.Signals, status: int, line: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "extract", "digits", "--engine", "keras", "--batch-size", "1", "--quiet"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which background jobs ignore
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("features/*/*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    assert process.wait(60) == status
    assert process.stderr is not None and process.stderr.read().endswith(f"layertap: {line}\n")
    rest = json.loads(main("extract", "digits", "--json").stdout)
    assert 0 < rest["rows_reused"] < 1797 and rest["rows_computed"] + rest["rows_reused"] == 1797


def test_nets_and_layers_are_listed(main: Callable) -> None:
    nets = json.loads(main("nets", "--json").stdout)["nets"]
    assert {"glyphnet", "vgg16", "nasnetmobile"} <= {net["name"] for net in nets}
    assert "vgg16" in main("nets").stdout
    listed = json.loads(main("layers", "glyphnet", "--json").stdout)
    assert listed["size"] == [32, 32]
    assert [layer["name"] for layer in listed["layers"]][-1] == "block4_pool"
    assert "block4_pool" in main("layers", "glyphnet", "--size", "48x64").stdout


def test_the_caches_place_comes_from_the_option_the_environment_or_the_folder(
    main: Callable, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main("extract", data, "--layer", "block1_pool")
    assert list((tmp_path / "features").glob("glyphnet-block1_pool-avg-*/segment-*.h5"))
    monkeypatch.setenv("LAYERTAP_CACHE", str(tmp_path / "mine"))
    main("extract", data, "--layer", "block1_pool")
    assert list((tmp_path / "mine").glob("glyphnet-block1_pool-avg-*/segment-*.h5"))
    main("extract", data, "--layer", "block1_pool", "--cache", tmp_path / "other")
    assert list((tmp_path / "other").glob("glyphnet-block1_pool-avg-*/segment-*.h5"))


def test_copies_of_an_image_never_part_between_training_and_held_out(main: Callable, data: Path) -> None:
    for number in range(6):
        source = data / "bright" / f"{number}.png"
        (data / "bright" / f"copy {number}.png").write_bytes(source.read_bytes())
    main("extract", data, "--layer", "block1_pool")
    said = main("train-head", data, "--layer", "block1_pool", "--cv", "3", "--out", "run", "--quiet", "--json")
    for fold in json.loads(said.stdout)["folds"]:
        assert (fold["train"]["n"], fold["valid"]["n"]) == (12, 6)


def test_names_that_are_no_text_are_carried_through(main: Callable, tmp_path: Path, data: Path) -> None:
    name = b"caf\xe9.png"
    try:
        (data / "dark" / "0.png").rename(data / "dark" / name.decode("utf-8", "surrogateescape"))
    except OSError:
        pytest.skip("this file system takes only text for names")
    (data / "dark" / b"d\xe9j\xe0.png".decode("utf-8", "surrogateescape")).write_text("no image")
    done = main("extract", data, "--layer", "block1_pool", "--on-error", "skip")
    assert done.status == 0, done.stderr
    listing = (tmp_path / "features" / f"skipped-{data.name}.csv").read_text()
    assert "png" in listing.splitlines()[1]
    train = ("train-head", data, "--layer", "block1_pool", "--on-error", "skip", "--out", "run")
    assert main(*train).status == 0
    done = main("predict", "run", data, "--on-error", "skip", "--out", "predictions.csv")
    assert done.status == 0, done.stderr
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 13
