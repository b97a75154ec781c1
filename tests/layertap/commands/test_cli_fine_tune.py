"""`layertap fine-tune`: from a head, or from nothing, to a run that other commands take; killed, and resumed."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import cli

# test_fine_tune_workflow.py has the command, too, in the tests that are run often.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
BLOCK = ("--unfreeze-from", "block3_conv1")
SHORT = ("--epochs", "2", "--batch-size", "8", "--learning-rate", "1e-3")


def write_images(folder: Path, per_class: int, seed: int = 0, *, random: bool = False) -> None:
    """Stripes across or along, or, if they are to be random, both in either class."""
    rng = np.random.default_rng(seed)
    for name in ("across", "along"):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            line = (np.arange(16) // int(rng.integers(1, 4)) % 2 * 120 + rng.integers(0, 90)).astype(np.uint8)
            image = np.tile(line, (16, 1)) + rng.integers(0, 40, (16, 16)).astype(np.uint8)
            turned = rng.random() < 0.5 if random else name == "across"
            Image.fromarray(image.T if turned else image).save(folder / name / f"é {number}.png")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, a head on them, and the net tuned from it."""
    folder = tmp_path_factory.mktemp("tuned")
    write_images(folder / "data", 16)
    for command in (
        ("extract", "data", "--layer", "block3_pool"),
        ("train-head", "data", "--layer", "block3_pool", "--head", "ridge", "--out", "head"),
        ("fine-tune", "data", "--from-head", "head", *BLOCK, "--cv", "2", *SHORT, "--out", "run"),
    ):
        said = io.StringIO()
        with contextlib.chdir(folder), contextlib.redirect_stdout(said):
            assert cli.main(command) == 0
    (folder / "output.txt").write_text(said.getvalue())
    return folder


@pytest.fixture
def here(tuned: Path, tmp_path: Path) -> Path:
    shutil.copytree(tuned, tmp_path, dirs_exist_ok=True)
    return tmp_path


def run(main: Callable, *arguments: object) -> dict:
    done = main(*arguments, "--json")
    assert done.status == 0, done.stderr
    return json.loads(done.stdout)


def test_what_is_cut_and_kept_is_told_beforehand(tuned: Path) -> None:
    text = (tuned / "output.txt").read_text()
    assert text.startswith("Training block3_conv1 and later: 2 layers, 0.221 million weights.\n")
    assert "The net is cut at block2_pool (8 x 8 x 64): 16.4 kB an image, 524.3 kB in the cache for 32 images." in text
    # Each split and all images choose a number of epochs, and are trained again: 6 trainings of 2 epochs.
    assert re.search(r"\nTraining takes about .+ at most \(12 epochs x .+\), less where it ends early\.\n", text)
    assert "split 2: accuracy" in text
    assert not (tuned / "run.training").exists()


def test_the_run_is_whole(tuned: Path) -> None:
    files = {file.name for file in (tuned / "run").iterdir()}
    assert {"config.json", "metrics.json", "model.keras", "net.weights.h5", "head.npz", "training.png"} <= files
    config = json.loads((tuned / "run" / "config.json").read_text())
    assert config["fine_tuned"]["cut"] == ["block2_pool"]
    assert config["fine_tuned"]["probe"]["name"] == "ridge"
    assert config["net"]["weights"] == "net.weights.h5"
    metrics = json.loads((tuned / "run" / "metrics.json").read_text())
    assert len(metrics["trainings"]) == 3  # each split, and all images
    assert metrics["summary"]["valid"]["accuracy"]["mean"] > 0.8


def test_other_commands_take_the_run_even_when_it_was_moved(main: Callable, here: Path) -> None:
    (here / "run").rename(here / "moved")
    shutil.rmtree(here / "features")
    scored = run(main, "evaluate", "moved", "data")["test"]
    assert scored["accuracy"] > 0.9
    predicted = run(main, "predict", "moved", "data")["predictions"]
    assert len(predicted) == 32
    import keras

    model = keras.saving.load_model(here / "moved" / "model.keras")
    images = [np.asarray(Image.open(here / "data" / one["id"]).resize((32, 32), Image.BILINEAR)) for one in predicted]
    said = np.asarray(model(np.stack([np.stack([image] * 3, 2) for image in images])))
    expected = [list(one["probabilities"].values()) for one in predicted]
    np.testing.assert_allclose(said, expected, atol=1e-3)
    exported = run(main, "export", "moved", "data", "--to", "keras", "--out", "again.keras")
    assert exported["difference"] < 1e-4


def test_the_tuned_net_is_a_net_for_extract(main: Callable, here: Path) -> None:
    report = run(main, "extract", "data", "--net", "run", "--layer", "block3_pool")
    assert report["rows_reused"] + report["rows_computed"] == 32
    scored = run(main, "train-head", "data", "--net", "run", "--layer", "block3_pool", "--out", "second")
    assert scored["summary"]["valid"]["accuracy"]["mean"] > 0.8
    more = run(main, "fine-tune", "data", "--net", "run", "--layer", "block3_pool", *BLOCK, *SHORT, "--out", "third")
    assert more["cut"] == ["block2_pool"]


HELD_OUT = "warning: the net was trained on {} of the {} images held out: their scores say little."
SEEN = "warning: {} was trained on {} of these {} images: their scores say little."


@pytest.fixture
def warnings(main: Callable) -> Callable[..., list[str]]:
    """The warnings of a command that has to succeed."""

    def of(*arguments: str) -> list[str]:
        done = main(*arguments)
        assert done.status == 0, done.stderr
        return [line for line in done.stderr.splitlines() if line.startswith("warning")]

    return of


def test_images_that_the_net_has_seen_are_told_where_they_are_held_out(warnings: Callable, here: Path) -> None:
    layer = ("--layer", "block3_pool")
    tuning = ("fine-tune", "data", *layer, *BLOCK, *SHORT, "--inner", "0", "--no-refit")
    assert warnings(*tuning, "--out", "half", "--valid", "0.5") == []
    assert warnings(*tuning, "--net", "half", "--out", "other", "--valid", "0.5") == []  # the same split
    assert warnings(*tuning, "--net", "half", "--out", "again", "--cv", "2") == [HELD_OUT.format(16, 32)]
    assert warnings(*tuning, "--net", "again", "--out", "third", "--valid", "0.5") == [HELD_OUT.format(16, 16)]
    assert warnings("extract", "data", "--net", "half", *layer, "--quiet") == []
    training = ("train-head", "data", "--net", "half", *layer)
    assert warnings(*training, "--cv", "4", "--out", "on-half") == [HELD_OUT.format(16, 32)]
    weights = ("--net", "glyphnet", "--weights", "half/net.weights.h5", *layer)
    assert warnings("sweep", "data", *weights, "--head", "knn", "--out", "ranks") == [HELD_OUT.format(16, 32)]
    write_images(here / "new", 4, seed=1)
    assert warnings("evaluate", "half", "new") == []
    assert warnings("evaluate", "half", "data") == [SEEN.format("half", 16, 32)]


def test_images_that_a_run_was_trained_on_are_told(main: Callable, warnings: Callable, here: Path) -> None:
    training = ("train-head", "data", "--net", "run", "--layer", "block3_pool", "--head", "ridge")
    assert warnings(*training, "--cv", "4", "--out", "on-run") == [HELD_OUT.format(32, 32)]
    write_images(here / "new", 4, seed=1)
    assert warnings("evaluate", "run", "new") == []
    for number, known in enumerate(sorted((here / "data").rglob("*.png"))[:3]):
        shutil.copy(known, here / "new" / "along" / f"known {number}.png")
    assert warnings("evaluate", "run", "new") == [SEEN.format("run", 3, 11)]
    assert warnings("evaluate", "head", "data", "--json") == [SEEN.format("head", 32, 32)]
    config = json.loads((here / "head" / "config.json").read_text())
    del config["files"], config["digest"]  # as runs of earlier versions
    (here / "head" / "config.json").write_text(json.dumps(config))
    (here / "head" / "head-images.npy").unlink()
    assert warnings("evaluate", "head", "data") == []
    (here / "run" / "head-images.npy").write_bytes(b"\x93NUMPY")
    assert "run/head-images.npy cannot be read" in main("evaluate", "run", "data").stderr


def test_a_net_that_stayed_as_it_came_has_seen_nothing(
    main: Callable, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transfer.finetune.tuner.exceeds_its_error", lambda values, groups: False)
    more = ("--layer", "block3_pool", "--quiet")
    report = run(main, "fine-tune", "data", *more, *BLOCK, *SHORT, "--out", "same")
    assert report["trainings"][-1]["epochs"] == 0
    said = main("fine-tune", "data", *more, *BLOCK, *SHORT, "--out", "again").stdout.splitlines()
    told = "No epoch was clearly better than the head as it was: again holds the net as it came, and that head, "
    told += "fitted on all images."
    assert told in said and "None" not in said
    run(main, "train-head", "data", *more, "--head", "ridge", "--out", "start")
    start, same = (run(main, "predict", name, "data")["predictions"] for name in ("start", "same"))
    for one, other in zip(start, same, strict=True):
        assert other["probabilities"] == pytest.approx(one["probabilities"], abs=1e-5)
    assert main("extract", "data", "--net", "same", *more).status == 0
    assert main("train-head", "data", "--net", "same", *more, "--out", "second").stderr == ""


def test_features_that_overflow_name_their_layer_and_a_remedy(main: Callable, mistake: Callable, here: Path) -> None:
    import keras

    pixels = keras.Input((16, 16, 3))
    large = keras.layers.Activation("exponential", name="large")(keras.layers.Conv2D(4, 3, name="first")(pixels))
    keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(large)).save(here / "net.keras")
    net = ("--net", "net.keras", "--layer", "large", "--preprocessing", "none")
    assert main("extract", "data", *net, "--quiet").status == 0
    said = "the features of large are infinite or not numbers in "
    for arguments in (("fine-tune", "--unfreeze-from", "first"), ("train-head",), ("train-head", "--head", "ridge")):
        line = mistake(arguments[0], "data", *net, *arguments[1:], "--out", "new", "--quiet")
        assert line.startswith(said)
        assert line.endswith("or give the net the pixels that it expects with --preprocessing.")


def test_a_run_without_a_model_that_is_near_enough_is_complete_and_says_so(
    main: Callable, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from layertap.workflows.fine_tuning import saving

    monkeypatch.setattr(saving, "TOLERANCE", -1.0)
    done = main("fine-tune", "data", "--layer", "block3_pool", *BLOCK, *SHORT, "--out", "runs/near", "--quiet")
    assert (done.status, done.stderr) == (0, "")
    [line] = [line for line in done.stdout.splitlines() if "model.keras" in line]
    assert "from those of runs/near, and may by -1. runs/near itself is complete" in line
    assert "tmp" not in line
    assert not (here / "runs" / "near" / "model.keras").exists()
    assert main("evaluate", "runs/near", "data").status == 0


def test_weights_that_were_altered_are_refused(main: Callable, here: Path) -> None:
    import h5py

    with h5py.File(here / "run" / "net.weights.h5", "r+") as file:
        file["block3_conv1/bias"][0] += 1
    done = main("evaluate", "run", "data")
    assert (done.status, done.stdout) == (1, "")
    assert "net.weights.h5" in done.stderr
    # A run of an earlier version holds no digests of its files; its spec names that of the weights.
    config = json.loads((here / "run" / "config.json").read_text())
    del config["files"], config["digest"]
    (here / "run" / "config.json").write_text(json.dumps(config))
    done = main("evaluate", "run", "data")
    assert (done.status, done.stdout) == (2, "")
    assert "their weights was" in done.stderr


def test_without_keeping_anything_the_result_is_the_same(main: Callable, here: Path) -> None:
    losses = []
    for extra in ((), ("--no-prefix-cache",)):
        name = f"run{len(extra)}"
        report = run(main, "fine-tune", "data", "--from-head", "head", "--inner", "0", *SHORT, *extra, "--out", name)
        losses.append([loss for epoch in report["trainings"][0]["stages"][1] for loss in epoch["steps"]])
    assert len(losses[0]) == 2 * 4
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-3)


def test_views_float16_and_adapters(main: Callable, here: Path) -> None:
    options = ("--views", "3", "--augment", "flip,rotate=5", "--dtype", "float16", "--compress", "--lora", "4")
    report = run(main, "fine-tune", "data", "--layer", "block3_pool", *BLOCK, *options, *SHORT, "--out", "views")
    assert report["summary"]["valid"]["n"]["mean"] == 6
    assert (here / "views" / "model.keras").is_file()
    kept = [info for info in run(main, "cache", "list")["spaces"] if "block2_pool" in info["space"]]
    assert {info["rows"] for info in kept} == {32, 96}


@pytest.fixture
def started(here: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start a long fine-tuning in a process of its own."""
    processes: list[subprocess.Popen] = []

    def start(*out: str) -> subprocess.Popen:
        command = [sys.executable, "-c", SLOW, "fine-tune", "data", "--from-head", "head", *LONG, *out]
        command.append("--quiet")  # no steps are timed before the training
        process = subprocess.Popen(
            command, cwd=here, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


LONG = ("--epochs", "4", "--batch-size", "4", "--learning-rate", "1e-3", "--quiet")
# The command line, with steps that last long enough to be hit, and checkpoints after each second.
SLOW = """
import sys, time
from transfer.finetune import network, tuner
tuner.SAVE_SECONDS = 0.3
step = network.Network.step
def slow(*args):
    open("steps.txt", "a").write("s")
    time.sleep(0.05)
    return step(*args)
network.Network.step = slow
import cli
sys.exit(cli.main(sys.argv[1:]))
"""


def test_killed_in_the_middle_of_an_epoch_it_goes_on_and_ends_as_if_it_had_not_been(
    here: Path, started: Callable
) -> None:
    steps = here / "steps.txt"
    whole = started("--out", "whole")
    assert whole.wait(120) == 0, whole.stderr.read()
    needed = len(steps.read_text())

    steps.unlink()
    runs = set(here.glob("*/metrics.json"))
    for number, at in ((signal.SIGKILL, 9), (signal.SIGTERM, 16)):  # epochs have 6 steps
        stop(started(), number, at, steps)
        assert set(here.glob("*/metrics.json")) == runs
    (here / "run.training" / "another.npz").touch()
    before = len(steps.read_text())
    last = started()
    assert last.wait(120) == 0, last.stderr.read()
    taken = len(steps.read_text())
    assert needed <= taken < needed + 24  # those since the last checkpoint before the kill, again
    assert taken - before < needed
    assert [file.name for file in (here / "run.training").iterdir()] == ["another.npz"]  # of another training
    [new] = set(here.glob("*/metrics.json")) - runs
    assert_same_training(*(json.loads(file.read_text()) for file in (here / "whole" / "metrics.json", new)))


def stop(process: subprocess.Popen, number: signal.Signals, at: int, steps: Path) -> None:
    """Send a process a signal once it, and those before it, have taken so many steps."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not steps.exists() or len(steps.read_text()) < at):
        time.sleep(0.01)
    process.send_signal(number)
    process.wait(60)
    assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGKILL)
    if number == signal.SIGTERM:
        assert "stopped as asked; the same command goes on" in process.stderr.read()


def assert_same_training(metrics: dict, others: dict) -> None:
    """The losses of all steps, and the scores, are the same."""
    for one, other in zip(metrics["trainings"], others["trainings"], strict=True):
        assert one["epochs"] == other["epochs"]
        for stage, same in zip(one["stages"], other["stages"], strict=True):
            losses = [[loss for epoch in each for loss in epoch.get("steps", [])] for each in (stage, same)]
            np.testing.assert_allclose(*losses, atol=1e-4)
    for name in ("accuracy", "nll"):
        means = [each["summary"]["valid"][name]["mean"] for each in (metrics, others)]
        assert means[0] == pytest.approx(means[1], abs=1e-4)


def test_stopped_before_the_first_step_it_says_so_and_keeps_what_was_computed(
    main: Callable, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from layertap.progress.shown import ShownProgress

    command = ("fine-tune", "data", "--cache", "new", "--layer", "block3_pool", *BLOCK, *SHORT, "--out", "run2")
    with monkeypatch.context() as patch:
        patch.setattr(ShownProgress, "__call__", lambda *args: signal.raise_signal(signal.SIGTERM))
        done = main(*command)
    assert done.status == 143
    assert done.stderr == "layertap: stopped as asked; what was computed is kept.\n"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert [space["rows"] for space in run(main, "cache", "list", "--cache", "new")["spaces"]] == [32]
    run(main, *command)


def test_a_hopeless_training_is_ended_and_said(main: Callable, here: Path) -> None:
    write_images(here / "random", 24, random=True)
    hopeless = ("--learning-rate", "1", "--epochs", "20", "--batch-size", "8", "--quiet")
    done = main("fine-tune", "random", "--layer", "block3_pool", *BLOCK, *hopeless, "--out", "hopeless")
    assert done.status == 0, done.stderr
    assert "\nTraining was ended after a tenth of its steps, when the net did no better than guessing" in done.stdout
    metrics = json.loads((here / "hopeless" / "metrics.json").read_text())
    assert [(one["epochs"], one["hopeless"]) for one in metrics["trainings"]] == [(0, True), (0, False)]


def test_with_shuffled_labels_nothing_is_learned(main: Callable, tmp_path: Path) -> None:
    write_images(tmp_path / "random", 40, random=True)
    for file in sorted((tmp_path / "random" / "across").iterdir())[:10]:  # copies, in the other class
        shutil.copy(file, tmp_path / "random" / "along" / f"copy of {file.name}")
    options = ("--views", "2", "--augment", "flip", "--cv", "3", "--test", "0.2", *SHORT)
    report = run(main, "fine-tune", "random", *options, "--out", "run")
    # 72 images that were held out once: three standard deviations of a coin are 0.18.
    assert abs(report["bagged"][-1]["balanced_accuracy"] - 0.5) < 0.2
    assert report["test"]["balanced_accuracy"] < 0.9


def test_mistakes_are_told_before_any_work(mistake: Callable, main: Callable, here: Path) -> None:
    for options, said in (
        (("--unfreeze-from", "block9_conv1"), "has no layer 'block9_conv1'"),
        (("--unfreeze-from", "block4_pool"), "has weights; unfreeze from an earlier one"),
        (("--epochs", "0"), "--epochs is at least 1"),
        (("--learning-rate", "1e9"), "--learning-rate is above 0 and at most 1000; received 1e+09."),
        (("--from-head", "head", "--net", "vgg16"), "says which features; leave out --net"),
        (("--from-head", "nothing"), "is not a run"),
        (("--net", "head"), "holds no net"),
        (("--cv", "40"), "40 folds need"),
        (("--layer", "block4_pool", "--lora", "4000"), "no layer from block3_conv1 on takes adapters"),
    ):
        assert said in mistake("fine-tune", "data", *options, "--out", "new")
    (here / "one" / "only").mkdir(parents=True)
    shutil.copy(next((here / "data" / "along").iterdir()), here / "one" / "only")
    assert "single class" in mistake("fine-tune", "one", "--out", "new")


def test_heads_that_are_no_layers_are_refused(main: Callable, mistake: Callable, here: Path) -> None:
    assert main("train-head", "data", "--layer", "block3_pool", "--head", "knn", "--out", "near").status == 0
    assert "cannot be part of a net" in mistake("fine-tune", "data", "--from-head", "near", "--out", "new")


def test_a_disk_that_is_too_small_is_told(
    main: Callable, here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    done = main("fine-tune", "data", "--cache", "new", *SHORT, "--out", "small")
    assert done.status == 1
    assert "takes 550.5 kB, and" in done.stderr
    assert "has 1.0 kB left: choose another --cache, --dtype float16" in done.stderr
    assert not (here / "small").exists()


def test_a_disk_that_is_full_in_the_end_loses_no_step(
    main: Callable, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from layertap.report import plots
    from transfer.finetune.network import Network

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def step(*args: object) -> float:
        raise AssertionError("all steps were taken")

    command = ("fine-tune", "data", "--layer", "block3_pool", *BLOCK, *SHORT, "--out", "late", "--quiet")
    with monkeypatch.context() as patch:
        patch.setattr(plots, "training_curves", full)
        done = main(*command)
    assert done.status == 1
    assert done.stderr == (
        f"layertap: cannot write the run {here / 'late'}: No space left on device. What was trained is in "
        f"{here / 'late.training'}; make room, and the same command goes on from there.\n"
    )
    monkeypatch.setattr(Network, "step", step)
    assert main(*command).status == 0
    assert not (here / "late.training").exists()


def test_help_says_which_layer_is_read(main: Callable) -> None:
    text = {command: " ".join(main(command, "--help-all").stdout.split()) for command in ("fine-tune", "train-head")}
    assert "of several, the one on which a head is best" in text["fine-tune"]
    assert "name or index of a layer; may be repeated (default" in text["train-head"]


def test_logs_for_tensorboard_name_their_package(
    mistake: Callable, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.event_file_writer", None)
    said = mistake("fine-tune", "data", "--tensorboard", "--out", "new")
    assert "pip install 'layertap[tensorboard]'" in said
