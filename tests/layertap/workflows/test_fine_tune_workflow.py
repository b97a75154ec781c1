"""Fine-tuning and export as functions: the results of the commands, without a command line."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cli
from feature_cache.cache import FeatureCache
from feature_cache.errors import InvalidChoice
from layertap.results import Exported
from layertap.runs import Run, load_run
from layertap.workflows.extract import extract
from layertap.workflows.fine_tune import fine_tune
from layertap.workflows.fine_tuning.plan import Settings, make_plan
from layertap.workflows.fine_tuning.start import start_from_features
from layertap.workflows.load_dataset import load_dataset
from layertap.workflows.train_head import train_head
from transfer.export.formats import FORMATS
from transfer.export.model_input import read_for_model
from transfer.finetune.tuner import TrainingStopped
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

RECIPE: dict[str, Any] = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3}
# Scores and times that differ from one call to the next.
TIMES = ("seconds", "fit_seconds", "predict_seconds", "extraction_seconds")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data`, images of stripes in two classes."""
    folder, rng = tmp_path_factory.mktemp("workflow"), np.random.default_rng(0)
    for name in ("across", "along"):
        (folder / "data" / name).mkdir(parents=True)
        for number in range(10):
            line = (np.arange(16) // int(rng.integers(1, 4)) % 2 * 120 + rng.integers(0, 90)).astype(np.uint8)
            image = np.tile(line, (16, 1)) + rng.integers(0, 40, (16, 16)).astype(np.uint8)
            Image.fromarray(image.T if name == "across" else image).save(folder / "data" / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def tuned(folder: Path) -> Run:
    return tune(folder, "tuned")


def tune(folder: Path, out: str, **options: Any) -> Run:
    chosen = {**RECIPE, "unfreeze_from": "block3_conv1", "seed": 3, "valid": 0.4, "progress": False, **options}
    features = extract(folder / "data", layers="block3_pool", seed=3, cache=folder / "features", progress=False)
    return fine_tune(folder / "data", features, out=folder / out, **chosen)


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(one) for key, one in value.items() if key not in TIMES}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def numbers_of(value: Any) -> list[float]:
    """All numbers of nested lists and dicts, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for one in value for number in numbers_of(one)]
    return [value] if isinstance(value, (int, float)) else []


def test_the_run_is_the_one_that_the_command_writes(folder: Path, tuned: Run) -> None:
    command = ["fine-tune", str(folder / "data"), "--layer", "block3_pool", "--unfreeze-from", "block3_conv1"]
    command += ["--epochs", "2", "--batch-size", "8", "--learning-rate", "1e-3", "--seed", "3", "--valid", "0.4"]
    command += ["--cache", str(folder / "features"), "--out", str(folder / "by-command"), "--quiet", "--json"]
    assert cli.main(command) == 0
    files = [{file.name for file in (folder / name).iterdir()} for name in ("tuned", "by-command")]
    files[1].remove("plan.yaml")  # which repeats a command
    assert files[0] == files[1] >= {"config.json", "metrics.json", "model.keras", "net.weights.h5", "report.html"}
    names = ("tuned", "by-command")
    metrics = [without_times(json.loads((folder / name / "metrics.json").read_text())) for name in names]
    assert [training["epochs"] for training in metrics[0]["trainings"]] == [
        training["epochs"] for training in metrics[1]["trainings"]
    ]
    np.testing.assert_allclose(*map(numbers_of, metrics), atol=1e-4)
    configs = [without_times(json.loads((folder / name / "config.json").read_text())) for name in names]
    for config in configs:
        for key in ("files", "digest", "spec", "created"):
            config.pop(key, None)
        config["head"] = without_times(config["head"])
    assert configs[0] == configs[1]


def test_the_report_has_a_map_of_all_images_by_the_tuned_net(folder: Path, tuned: Run) -> None:
    page = (folder / "tuned" / "report.html").read_text()
    assert "20 images, each a point: what lies near is alike to the net." in page
    assert tuned.config.fine_tuned is not None
    assert ("The features are those of the net that is kept" in page) == (tuned.config.fine_tuned["epochs"] > 0)
    names = [column["name"] for column in data_of(page, "map")["columns"]]
    assert names == ["class", "prediction", "result", "confidence", "split"]


def data_of(page: str, name: str) -> Any:
    """What Python has put into a page for its scripts."""
    found = re.search(f'id="data-{name}">(.*?)</script>', page)
    assert found is not None
    return json.loads(found[1])


def test_what_is_returned_is_the_run(folder: Path, tuned: Run, capfd: pytest.CaptureFixture[str]) -> None:
    again = load_run(folder / "tuned")
    assert tuned.config == again.config
    assert tuned.scores == again.scores
    assert tuned.report is not None and tuned.report.images == 20
    assert capfd.readouterr().out == ""


def test_the_exported_model_gives_the_predictions_of_the_run(folder: Path, tuned: Run) -> None:
    exported = tuned.export(folder / "model.keras", data=folder / "data")
    assert isinstance(exported, Exported)
    assert exported.files == (folder / "model.keras", folder / "model.keras.json")
    assert exported.compared.difference <= 1e-4 and exported.compared.images == 20
    images = sorted((folder / "data").rglob("*.png"))
    pixels = np.concatenate([read_for_model(image, exported.description) for image in images])
    expected = tuned.predict(images, cache=folder / "features").probabilities
    np.testing.assert_allclose(FORMATS["keras"].read(exported.model)(pixels), expected, atol=1e-4)
    with pytest.raises(InvalidChoice, match="choose another `out`, or replace it with `overwrite=True`"):
        tuned.export(folder / "model.keras")
    with pytest.raises(InvalidChoice, match="stands for no format; name one by `to`"):
        tuned.export(folder / "model.bin")


@pytest.mark.slow
def test_training_that_was_stopped_goes_on_by_the_same_call(folder: Path, tuned: Run) -> None:
    calls = iter([False, False, True])
    with pytest.raises(TrainingStopped):
        tune(folder, "stopped", stopping=lambda: next(calls, True))
    assert not (folder / "stopped").exists()
    assert list((folder / "stopped.training").glob("*.npz"))
    run = tune(folder, "stopped")
    assert not (folder / "stopped.training").exists()
    assert run.scores["nll"].mean == pytest.approx(tuned.scores["nll"].mean, abs=1e-4)


def test_of_two_layers_the_one_is_read_that_a_head_chooses(folder: Path) -> None:
    choice = {"unfreeze_from": "all", "epochs": 1, "prefix_cache": False}
    layers = ["block3_pool", "block1_conv1"]
    features = extract(folder / "data", layers=layers, seed=3, cache=folder / "features", progress=False)
    options = {"seed": 3, "valid": 0.4, "progress": False}
    head = train_head(folder / "data", features, "ridge", **options)
    run = fine_tune(folder / "data", features, out=folder / "of-two", **RECIPE | choice | options)
    assert run.config.candidates == tuple(layers)
    assert run.spec.layer == head.metrics["folds"][0]["features"] == "block1_conv1"


def test_without_a_layer_an_earlier_one_is_tried_too(folder: Path) -> None:
    request = FeatureRequest(Net("glyphnet"))
    settings = Settings(folder / "planned", FeatureCache(folder / "features"))
    dataset = load_dataset(folder / "data")
    plan = make_plan(dataset, start_from_features(request), settings)
    assert plan.candidates == ("block4_pool", "block3_conv2")
    assert plan.start.request.layers[0] in plan.candidates
    plan = make_plan(dataset, start_from_features(request), replace(settings, unfreeze_from="block4_conv1"))
    assert plan.candidates == plan.start.request.layers == ("block4_pool",)


def test_arguments_that_contradict_each_other_are_refused(folder: Path) -> None:
    for options, message in (
        ({"from_head": folder / "tuned"}, "leave out `features` or `from_head`"),
        ({"views": 2, "augment": "flip"}, "leave out `views` and `augment`"),
        ({"epoch": 3}, "fine_tune has no option 'epoch'; did you mean 'epochs'"),
        ({"epochs": 0}, "`epochs` is at least 1; received 0"),
        ({"valid": None, "repeats": 2}, "`repeats` makes the folds of `cv` several times"),
    ):
        with pytest.raises(InvalidChoice, match=message.replace("`", ".")):
            tune(folder, "never", **options)
    with pytest.raises(InvalidChoice, match="pass `features` or `from_head`"):
        fine_tune(folder / "data", out=folder / "never")
    assert not (folder / "never").exists()
