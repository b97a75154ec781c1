"""`train-head` with a grid, a test split, layers side by side and learning curves; and `sweep`."""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cli
from layertap.commands.arguments import shared

LAYERS = ("--layer", "block1_pool", "--layer", "block2_pool")


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images of three shades that overlap, their features extracted."""
    folder = tmp_path_factory.mktemp("shades")
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("gray", 40), ("bright", 80)):
        (folder / "data" / name).mkdir(parents=True)
        for number in range(14):
            pixels = rng.integers(low, low + 120, (12, 12)).astype(np.uint8) // (1 + number % 2)
            Image.fromarray(pixels).save(folder / "data" / name / f"{number}.png")
    with contextlib.chdir(folder):
        for pool in ("avg", "max"):
            assert cli.main(["extract", "data", *LAYERS, "--pool", pool]) == 0
    return folder


@pytest.fixture
def here(shades: Path, main: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Run a command in the folder `shades`."""
    monkeypatch.chdir(shades)
    return main


@pytest.fixture
def run(here: Callable) -> Callable[..., dict]:
    def run(*arguments: str) -> dict:
        done = here(*arguments, "--json")
        assert done.status == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_grid_is_chosen_from_by_inner_folds_and_the_test_part_is_scored_once(run: Callable, shades: Path) -> None:
    report = run(
        "train-head", "data", "--layer", "block2_pool", "--pool", "avg", "--head", "logistic", "--grid", "C=1e-9,1",
        "--cv", "3", "--test", "0.2", "--calibrate", "--out", "grid"
    )  # fmt: skip
    assert {fold["params"]["C"] for fold in report["folds"]} <= {"1e-9", "1"}
    assert report["test"]["n"] == 8
    assert sum(fold["valid"]["n"] for fold in report["folds"]) == 34
    config = json.loads((shades / "grid" / "config.json").read_text())
    assert config["head"]["params"]["C"] in (1e-9, 1)
    assert config["grid"] == [{"C": "1e-9"}, {"C": "1"}]
    assert config["head"]["params"]["calibrate"] is True
    assert config["protocol"] == {"cv": 3, "test": 0.2, "seed": 0, "draws": 20}


@pytest.mark.slow
def test_layers_side_by_side_are_read_so_by_later_commands(run: Callable, shades: Path, here: Callable) -> None:
    spaces = [info["space"] for info in run("cache", "list")["spaces"] if "block1_pool-max" in info["space"]]
    report = run(
        "train-head", "data", *LAYERS, "--pool", "avg", "--join", "--beside", spaces[0], "--cv", "3", "--out", "joined"
    )  # fmt: skip
    assert {fold["features"] for fold in report["folds"]} == {f"block1_pool+block2_pool+{spaces[0]}"}
    config = json.loads((shades / "joined" / "config.json").read_text())
    assert [part["spec"]["layer"] for part in config["joined"]] == ["block1_pool", "block2_pool", "block1_pool"]
    assert [part["spec"]["pooling"] for part in config["joined"]] == ["avg", "avg", "max"]
    assert run("evaluate", "joined", "data")["test"]["accuracy"] > 0.7
    image = next((shades / "data" / "dark").iterdir())
    new = shades / "new.png"
    Image.fromarray(np.asarray(Image.open(image)) + 1).save(new)  # not in the cache yet
    assert run("predict", "joined", str(new))["predictions"][0]["probabilities"].keys() == {"dark", "gray", "bright"}
    done = here("train-head", "data", "--layer", "block1_pool", "--join", "--out", "one")
    assert (done.status, done.stderr.count("\n")) == (2, 1)
    assert "--join puts several layers side by side" in done.stderr


def test_a_learning_curve_rises(run: Callable, shades: Path) -> None:
    report = run(
        "train-head", "data", "--layer", "block2_pool", "--pool", "avg", "--curve", "1,8", "--draws", "5",
        "--out", "curve"
    )  # fmt: skip
    assert [point["per_class"] for point in report["curve"]] == [1, 8]
    few, many = (point["accuracy"]["mean"] for point in report["curve"])
    assert few < many
    assert (shades / "curve" / "curve.png").is_file()


@pytest.mark.slow
def test_a_sweep_ranks_pairs_and_keeps_them(run: Callable, shades: Path, here: Callable) -> None:
    command = (
        "sweep", "data", *LAYERS, "--pool", "avg", "--pool", "max", "--join", "block1_pool+block2_pool",
        "--head", "prototypes", "--head", "ridge", "--grid", "prototypes.scale=true,false", "--cv", "3",
        "--out", "sweep"
    )  # fmt: skip
    report = run(*command, "--jobs", "2")
    pairs = report["pairs"]
    assert len(pairs) == 2 * 3 * 3
    assert {pair["features"] for pair in pairs} == {
        f"{layers} {pool}"
        for layers in ("block1_pool", "block2_pool", "block1_pool+block2_pool")
        for pool in ("avg", "max")
    }
    accuracies = [pair["accuracy"] for pair in pairs]
    assert accuracies == sorted(accuracies, reverse=True)
    assert report["best"]["low"] <= report["best"]["accuracy"] <= report["best"]["high"]
    best = {pair["features"]: pair["gflops"] for pair in pairs}
    assert best["block1_pool avg"] < best["block2_pool avg"] == best["block1_pool+block2_pool avg"]
    front = [pair for pair in pairs if pair["front"]]
    assert pairs[0]["accuracy"] in [pair["accuracy"] for pair in front]
    with (shades / "sweep" / "sweep.csv").open(newline="") as stream:
        assert [float(row["accuracy"]) for row in csv.DictReader(stream)] == accuracies
    assert Image.open(shades / "sweep" / "sweep.png").size[0] > 300
    kept = {file: file.stat().st_mtime_ns for file in (shades / "sweep" / "results").iterdir()}
    assert len(kept) == len(pairs)
    assert run(*command) == report
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    table = here(*command).stdout
    assert "looks better than it is" in table


def test_no_net_is_chosen_where_the_cache_has_features_by_another_one_than_the_default(
    data: Path, main: Callable, mistake: Callable, features_of: Callable, tmp_path: Path
) -> None:
    features_of("resnet50", tmp_path / "features")
    command = ("sweep", data, "--head", "prototypes", "--cv", "3", "--json")
    said = mistake(*command)
    assert "and no net is named. Choose one with --net (the cache has features by resnet50), or" in said
    assert said.endswith("compute these with --extract")
    done = main(*command, "--extract")
    assert json.loads(done.stdout)["pairs"][0]["error"] == "", done.stderr


@pytest.mark.parametrize("command", ["train-head", "sweep"])
def test_the_default_net_computes_features_where_no_other_one_can_be_meant(
    data: Path, main: Callable, command: str
) -> None:
    done = main(command, data, "--head", "prototypes", "--cv", "2")
    assert done.status == 0, done.stderr
    assert "Extracting the features of 12 images by glyphnet (block4_pool), the default net.\n" in done.stderr
    again = main(command, data, "--head", "prototypes", "--cv", "2", "--out", "again")
    assert (again.status, again.stderr) == (0, "")


@pytest.mark.parametrize("command", ["train-head", "sweep"])
def test_what_a_named_net_lacks_in_the_cache_is_extracted_and_nothing_else(
    data: Path, main: Callable, command: str
) -> None:
    assert main("extract", data / "dark", "--layer", "block1_pool").status == 0
    arguments = (command, data, "--layer", "block1_pool", "--head", "prototypes", "--cv", "2")
    done = main(*arguments, "--out", "first")
    assert done.status == 0, done.stderr
    assert "Extracting the features of 6 images of 12 by glyphnet (block1_pool).\n" in done.stderr
    again = main(*arguments, "--out", "second")
    assert (again.status, again.stderr) == (0, "")
    plan = json.loads(main("extract", data, "--layer", "block1_pool", "--plan", "--json").stdout)
    assert plan["images_missing"] == 0


def test_what_is_written_has_a_name_where_none_is_given(
    data: Path, main: Callable, mistake: Callable, tmp_path: Path
) -> None:
    arguments = (data, "--layer", "block1_pool", "--head", "prototypes", "--cv", "2")
    for name in ("run", "run-2"):
        trained = main("train-head", *arguments)
        assert trained.status == 0, trained.stderr
        assert f"layertap predict {name} " in trained.stdout
        assert (tmp_path / name / "config.json").is_file()
    assert "out: run-2-again\n" in (tmp_path / "run-2" / "plan.yaml").read_text()
    said = "--overwrite replaces the run that --out names; name it."
    assert mistake("train-head", *arguments, "--overwrite") == said
    assert mistake("fine-tune", data, "--overwrite") == said
    assert "50 folds need at least 50" in mistake("train-head", *arguments[:-1], "50")
    assert not (tmp_path / "run-3").exists()
    assert main("sweep", *arguments).status == 0
    other = tmp_path / "other"
    shutil.copytree(data, other)
    for source, folder in ((data, "sweep"), (other, "sweep-2"), (data, "sweep")):
        assert main("sweep", source, *arguments[1:]).status == 0
        assert json.loads((tmp_path / folder / "sweep.json").read_text())["data"] == str(source)
    assert not (tmp_path / "sweep-3").exists()


def test_a_name_is_one_commands_until_it_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = (argparse.Namespace(out=None, overwrite=False) for _ in range(2))
    with shared.named_run(first), shared.named_run(second):
        assert (first.out, second.out) == ("run", "run-2")
        (tmp_path / "run" / "config.json").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--head", "ridg"), "did you mean 'ridge'"),
        (("--head", "ridge", "--grid", "alpha=1,2"), "give it as HEAD.NAME=V1,V2, of one of ridge"),
        (("--join", "block1_pool+nowhere"), "--join block1_pool+nowhere: give two or more of"),
        (("--net", "glyphnet", "--net", "vgg16"), "--layer block1_pool: of several nets, name one as NET:LAYER"),
        (("--cv", "50"), "50 folds need at least 50 distinct images"),
    ],
)
def test_mistakes_are_told_in_a_line(shades: Path, here: Callable, arguments: tuple[str, ...], said: str) -> None:
    done = here("sweep", "data", "--layer", "block1_pool", "--pool", "avg", *arguments, "--out", "bad")
    assert (done.status, done.stderr.count("\n")) == (2, 1), done.stderr
    assert said in done.stderr
    assert not (shades / "bad" / "sweep.csv").exists()


@pytest.mark.slow
def test_a_sweep_prints_the_command_of_its_winner_which_runs(data: Path, main: Callable) -> None:
    features = (
        "--layer",
        "block1_pool",
        "--layer",
        "block2_pool",
        "--pool",
        "max",
        "--fit",
        "crop",
        "--weights",
        "none",
    )
    heads = ("--head", "knn", "--grid", "knn.n_neighbors=3", "--cv", "2", "--seed", "5")
    swept = main("sweep", data, *features, "--join", "block1_pool+block2_pool", *heads, "--extract", "--out", "ranks")
    assert swept.status == 0, swept.stderr
    best, command = (re.search(f"^{word}: (.*)$", swept.stdout, re.MULTILINE)[1] for word in ("Best", "Next"))
    program, *words = shlex.split(command)
    assert (program, words[0]) == ("layertap", "train-head")
    assert ("--join" in words) == ("+" in best)
    trained = main(*words, "--json")
    assert trained.status == 0, trained.stderr
    run = json.loads(trained.stdout)
    assert (run["spec"]["fit"], run["spec"]["pooling"]) == ("crop", "max")
    config = json.loads(Path("run/config.json").read_text())
    assert (config["head"]["name"], config["head"]["params"]["n_neighbors"]) == ("knn", 3)
    ranked = json.loads(Path("ranks/sweep.json").read_text())
    assert run["summary"]["valid"]["accuracy"]["mean"] == pytest.approx(ranked["pairs"][0]["accuracy"])


@pytest.fixture
def two_nets(tmp_path: Path) -> Path:
    """Images of four colours, and nets of which one sees their red and the other their blue."""
    import keras  # slow to load, and other tests do not need it

    rng = np.random.default_rng(0)
    for number, name in enumerate(("black", "blue", "red", "purple")):
        (tmp_path / "colours" / name).mkdir(parents=True)
        for image in range(6):
            pixels = rng.integers(0, 60, (8, 8, 3)) + np.array([number // 2 * 190, 0, number % 2 * 190])
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "colours" / name / f"{image}.png")
    for name, channel in (("red", 0), ("blue", 2)):
        convolution = keras.layers.Conv2D(1, 1, use_bias=False, name="conv")
        net = keras.Sequential([keras.Input((8, 8, 3)), convolution, keras.layers.AveragePooling2D(4, name="pool")])
        convolution.set_weights([np.eye(3)[:, [channel]].reshape(1, 1, 3, 1)])
        net.save(tmp_path / f"{name}.keras")
    return tmp_path


@pytest.mark.slow
def test_the_command_of_a_winner_of_several_nets_runs(two_nets: Path, main: Callable) -> None:
    nets = ("--net", "red.keras", "--net", "blue.keras", "--layer", "red.keras:pool", "--layer", "blue.keras:pool")
    options = (
        "--preprocessing",
        "blue.keras=unit",
        "--preprocessing",
        "red.keras=unit",
        "--head",
        "prototypes",
        "--cv",
        "2",
    )
    joined = "red.keras:pool+blue.keras:pool"
    swept = main("sweep", "colours", *nets, "--join", joined, *options, "--repeats", "2", "--out", "run")
    assert f"Best: {joined} with prototypes" in swept.stdout, swept.stderr
    command = re.search("^Next: (.*)$", swept.stdout, re.MULTILINE)[1]
    assert "--beside" in command
    assert command.endswith("--cv 2 --repeats 2 --out run-2")  # a folder named run is there
    trained = main(*shlex.split(command)[1:])
    assert trained.status == 0, trained.stderr
    metrics = json.loads(Path("run-2/metrics.json").read_text())
    ranked = json.loads(Path("run/sweep.json").read_text())
    assert metrics["summary"]["valid"]["accuracy"]["mean"] == ranked["pairs"][0]["accuracy"] == 1
    assert len(metrics["folds"]) == 4
    evaluate = re.search("^Next: .*, or (layertap evaluate .*) DATA$", trained.stdout, re.MULTILINE)[1]
    assert "1.0000" in main(*shlex.split(evaluate)[1:], "colours").stdout


@pytest.mark.slow
def test_sweep_takes_the_options_of_features_and_some_of_them_for_each_net(data: Path, main: Callable) -> None:
    """What it judges are the spaces that `extract` fills by the same options."""
    extracted = ("--net", "glyphnet", "--fit", "crop", "--dtype", "float16", "--layer", "block1_pool", "--size", "16")
    assert main("extract", data, *extracted, "--preprocessing", "unit").status == 0
    assert main("extract", data, *extracted, "--weights", "none", "--seed", "3").status == 0
    sweep = ("sweep", data, *extracted, "--head", "ridge", "--valid", "0.5", "--seed", "3", "--json")
    random, scaled = ("--weights", "none"), ("--preprocessing", "unit")
    for options in (random, ("--weights", "glyphnet=none"), scaled):
        outcome = main(*sweep, *options, "--out", "-".join(options).strip("-"))
        assert (outcome.status, "Extracting" in outcome.stderr) == (0, False), outcome.stderr
    outcome = main(*sweep, "--out", "missing")
    assert (outcome.status, "Extracting" in outcome.stderr) == (0, True), outcome.stderr
    outcome = main(*sweep, "--preprocessing", "vgg", "--out", "wrong")
    assert outcome.status == 2
    assert "--preprocessing vgg: give one of none, unit, tf, torch, caffe, or NET=P" in outcome.stderr
