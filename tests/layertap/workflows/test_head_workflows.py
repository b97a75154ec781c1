"""Training, scoring and predicting from Python: numbers and files as from the command line, and nothing is printed."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from feature_cache.cache import FeatureCache
from feature_cache.errors import InvalidChoice
from layertap.report.tabs import recipe
from layertap.runs import Run, Score, load_run
from layertap.workflows.evaluate import evaluate
from layertap.workflows.load_dataset import load_dataset
from layertap.workflows.predict import predict
from layertap.workflows.train_head import train_head
from transfer.data.datasets import Dataset, digests, load
from transfer.extraction.lookup import stored_features
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

LAYERS = ("block3_pool", "block4_pool")
REQUEST = FeatureRequest(Net("glyphnet"), LAYERS)
OF_THE_CLOCK = ("fit_seconds", "predict_seconds", "extraction_seconds")


def write_images(folder: Path, number: int = 40) -> Path:
    """A table of images with a class, numbers, labels and groups; two images are copies with different classes."""
    rng = np.random.default_rng(0)
    rows = []
    for image in range(number):
        shade = 150 if image % 2 else 0
        pixels = rng.integers(shade, shade + 100, (8, 8), np.uint8) if image != 3 else np.zeros((8, 8), np.uint8)
        pixels = np.zeros((8, 8), np.uint8) if image == 2 else pixels
        Image.fromarray(pixels).save(folder / f"{image}.png")
        mean = float(pixels.mean())
        rows.append([f"{image}.png", ["dark", "light"][image % 2], mean, f"{mean / 7:.3f}".replace(".", ","),
                     ("x", "y", "x;y")[image % 3], image // 4])  # fmt: skip
    with (folder / "table.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["id", "class", "mean", "seventh", "tags", "patient"], *rows])
    return folder / "table.csv"


def fill(cache: FeatureCache, dataset: Dataset, layer: str) -> None:
    """Rows of features for the images of `dataset`, so that no net has to be built."""
    found, _ = digests(dataset, cache.memo)
    found, first = np.unique(found, axis=0, return_index=True)
    rng = np.random.default_rng(len(layer) + int(layer[5]))
    signal = np.array([float(value) for value in dataset.columns["mean"][first]])[:, None] / 50
    with cache[Net("glyphnet").spec(layer)].writer({}) as writer:
        writer.append(found, (signal + rng.standard_normal((len(first), 8))).astype(np.float32))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A folder with a table of images, their features in ``features``, and a run; and that run."""
    folder = tmp_path_factory.mktemp("work")
    with contextlib.chdir(folder):
        dataset = load(write_images(Path()).name)
        for layer in LAYERS:
            fill(FeatureCache(Path("features")), dataset, layer)
        return folder, train_head(dataset, REQUEST, head="ridge", cv=4, out="run", progress=False)


@pytest.fixture
def folder(trained: tuple[Path, Run], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, which is the working folder."""
    monkeypatch.delenv("LAYERTAP_CACHE", raising=False)
    monkeypatch.chdir(trained[0])
    return trained[0]


@pytest.fixture
def data(folder: Path) -> Dataset:
    return load_dataset("table.csv")


@pytest.fixture
def run(trained: tuple[Path, Run], folder: Path) -> Run:
    return trained[1]


def command_line(*words: str) -> None:
    """Run a command in this process."""
    import cli

    layers = [word for layer in LAYERS for word in ("--layer", layer)] if words[0] == "train-head" else []
    assert cli.main([*words, *layers, "--quiet"]) == 0


def without_times(content: Any) -> Any:
    """JSON without what the clock has measured."""
    if isinstance(content, dict):
        return {key: without_times(value) for key, value in content.items() if key not in OF_THE_CLOCK}
    return [without_times(value) for value in content] if isinstance(content, list) else content


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


CASES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "classes": (
        ["--head", "ridge", "--cv", "3", "--test", "0.2", "--seed", "4"],
        {"head": "ridge", "cv": 3, "test": 0.2, "seed": 4},
    ),
    "grid": (
        ["--head", "logistic", "--grid", "C=0.1,10", "--valid", "0.3", "--curve", "1,3", "--join"],
        {"head": "logistic", "grid": {"C": ["0.1", "10"]}, "valid": 0.3, "curve": [1, 3], "join": True},
    ),
    "numbers": (
        ["--regression", "mean,seventh", "--cv", "2", "--groups", "patient"],
        {"regression": ["mean", "seventh"], "cv": 2, "groups": "patient"},
    ),
    "labels": (
        ["--multilabel", "tags", "--cv", "2", "--repeats", "2", "--param", "C=0.5"],
        {"multilabel": ["tags"], "cv": 2, "repeats": 2, "params": {"C": 0.5}},
    ),
}

SLOW = ("grid", "labels")


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] * (case in SLOW)) for case in CASES])
def test_a_run_is_that_of_the_command_line(
    data: Dataset, case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words, options = CASES[case]
    python, command = tmp_path / "python", tmp_path / "command"
    request = replace(REQUEST, net=Net("glyphnet", seed=options.get("seed", 0)))  # --seed is that of the net, too
    run = train_head(data, request, out=python, progress=False, **options)
    assert capfd.readouterr() == ("", "")
    command_line("train-head", "table.csv", *words, "--out", str(command), "--json")
    printed = without_times(json.loads(capfd.readouterr().out))
    config, expected = read(python / "config.json"), read(command / "config.json")
    assert without_times(run.metrics) == without_times(read(command / "metrics.json"))
    assert printed == {"run": str(command), "spec": expected["spec"], **without_times(run.metrics)}
    assert list(config) == list(expected)
    for content in (config, expected):
        del content["digest"], content["files"]
    assert without_times(config) == without_times(expected)
    names = {file.name for file in command.iterdir()} - {"plan.yaml"}  # which repeats a command
    assert {file.name for file in python.iterdir()} == names

    command_line("predict", str(command), "table.csv", "--out", str(tmp_path / "command.csv"))
    predictions = predict(run, data, progress=False)
    predictions.to_csv(tmp_path / "python.csv")
    assert (tmp_path / "python.csv").read_text() == (tmp_path / "command.csv").read_text()
    assert predictions.outputs.shape == (len(data), len(run.targets))

    command_line("evaluate", str(command), "table.csv", "--json")
    printed = without_times(json.loads(capfd.readouterr().out))
    assert without_times(evaluate(run, data, progress=False).scores) == printed["test"]


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] * (case != "numbers")) for case in CASES])
def test_the_recipe_in_the_report_of_a_run_makes_it_again(
    data: Dataset, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cli

    options, out = CASES[case][1], tmp_path / "again"
    request = replace(REQUEST, net=Net("glyphnet", seed=options.get("seed", 0)))
    run = train_head(data, request, progress=False, **options)
    monkeypatch.setattr(recipe, "OUT", str(out))
    view = recipe.recipe_view(run.config, run.metrics)
    exec("\n".join(view["python"]))
    assert without_times(load_run(out).metrics) == without_times(run.metrics)
    assert cli.main([*shlex.split(view["command"])[1:], "--overwrite", "--quiet"]) == 0
    assert without_times(load_run(out).metrics) == without_times(run.metrics)


def test_a_run_that_is_loaded_is_the_one_that_was_trained(data: Dataset, run: Run) -> None:
    loaded = load_run("run")
    assert loaded.config == run.config
    assert loaded.metrics == run.metrics
    assert loaded.classes == run.classes == ("dark", "light")
    assert loaded.report is None
    np.testing.assert_array_equal(
        predict(loaded, data, progress=False).outputs, predict(run, data, progress=False).outputs
    )


def test_the_page_of_an_evaluation_shows_mistakes_beside_images_of_the_training(
    data: Dataset, folder: Path, tmp_path: Path
) -> None:
    train_head(data, REQUEST, head="ridge", cv=2, map=None, out=tmp_path / "run", progress=False)
    rows = (folder / "table.csv").read_text().splitlines()
    other = [rows[0], *(row.replace(",light,", ",dark,") for row in rows[1:21]), rows[21].replace(",dark,", ",gray,")]
    (folder / "other.csv").write_text("\n".join(other) + "\n")
    command_line("evaluate", str(tmp_path / "run"), "other.csv", "--page", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "by the head of the run. A cell" in page and '<th scope="row" title="gray">' in page
    mistakes = re.findall(
        r'<li data-pair=.*?<span title="(.*?)">.*?<div class="near">(.*?)</div></li>', page, re.DOTALL
    )
    assert mistakes and all(near.count("<figure") == 4 for _, near in mistakes)
    assert all(f'title="{name}"' not in near for name, near in mistakes)


def test_scores_are_means_over_the_splits(run: Run) -> None:
    accuracies = [fold["valid"]["accuracy"] for fold in run.metrics["folds"]]
    assert run.scores["accuracy"].mean == pytest.approx(np.mean(accuracies))
    assert run.scores["accuracy"].std == pytest.approx(np.std(accuracies))
    assert str(Score(0.93756, 0.01)) == "0.9376 ± 0.0100"
    assert str(Score(0.5, 0.0)) == "0.5000"
    assert str(Score(None, None)) == "-"


def test_a_run_shows_what_it_is(run: Run) -> None:
    text = repr(run)
    assert text.startswith("<Run run: ridge on glyphnet/block")
    assert f"2 classes; accuracy {run.scores['accuracy']}, nll" in text
    page = run._repr_html_()
    assert page.count("<img") == len(list(Path("run").glob("*.png"))) >= 3
    assert "balanced accuracy" in page


def test_a_run_need_not_be_written(data: Dataset, run: Run) -> None:
    before = {file for file in Path().rglob("*") if "digests" not in file.name}
    unsaved = train_head(data, REQUEST, head="ridge", cv=4, progress=False)
    assert {file for file in Path().rglob("*") if "digests" not in file.name} == before
    assert unsaved.folder is None
    assert without_times(unsaved.metrics) == without_times(run.metrics)
    probabilities = [one.predict(data, progress=False).probabilities for one in (unsaved, run)]
    np.testing.assert_array_equal(*probabilities)
    assert "not written" in repr(unsaved)
    assert "<img" not in unsaved._repr_html_()


def test_images_are_predicted_by_their_paths(run: Run, data: Dataset) -> None:
    predictions = run.predict(["4.png", "5.png"], progress=False)
    assert predictions.ids == ("4.png", "5.png")
    assert predictions.classes == ["dark", "light"]
    np.testing.assert_allclose(predictions.probabilities.sum(1), 1)
    np.testing.assert_allclose(predictions.probabilities, run.predict(data, progress=False).probabilities[4:6])
    assert predictions.to_json()["predictions"][0]["class"] == "dark"
    assert repr(predictions) == "<Predictions of 2 images: probabilities of dark, light>"
    assert "<td>4.png</td><td>dark</td>" in predictions._repr_html_()
    with pytest.raises(InvalidChoice, match="take `probabilities`"):
        _ = predictions.numbers
    with pytest.raises(InvalidChoice, match="the image 'none.png' does not exist"):
        run.predict(["none.png"])


def test_an_evaluation_warns_of_images_that_the_head_has_seen(run: Run, data: Dataset) -> None:
    evaluation = run.evaluate("table.csv", progress=False)
    assert evaluation.images == len(data) == 40
    assert evaluation.warnings == ("run was trained on 40 of these 40 images: their scores say little.",)
    assert evaluation.scores["accuracy"] > 0.9
    assert repr(evaluation).startswith("<Evaluation on 40 images: accuracy ")
    assert "balanced accuracy" in evaluation._repr_html_()


def test_what_was_noticed_is_in_the_report(run: Run) -> None:
    assert run.report is not None
    assert run.report.notes == (
        "2 images have an exact copy of another class; one of the labels is likely wrong "
        "(layertap explore shows them).",
    )
    assert run.report.warnings == ()
    assert run.report.images == 40


def test_without_the_name_of_a_head_the_report_says_what_was_tried(data: Dataset, run: Run) -> None:
    chosen = train_head(data, REQUEST, cv=2, map=None, progress=False)
    assert chosen.config.head.name == "auto"
    assert chosen.report is not None
    assert run.report is not None
    assert chosen.report.tried.startswith(f"Tried on each of {len(LAYERS)} layers: ridge regression of 20 strengths")
    assert run.report.tried == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "forest"}, "there is no head 'forest'"),
        ({"regression": ["mean"], "per_class": 2}, "`per_class` is about classes; leave it out with `regression`"),
        ({"repeats": 2}, "add `cv=K`"),
        ({"cv": 1}, "`cv` needs at least 2 folds"),
        ({"groups": "patient", "curve": [1]}, "`groups` keeps images together"),
        ({"out": "."}, "choose another folder with `out`"),
        ({"map": "t-sne"}, "there is no map by 't-sne'"),
    ],
    ids=str,
)
def test_mistakes_name_parameters(data: Dataset, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidChoice, match=message) as caught:
        train_head(data, REQUEST, progress=False, **options)
    assert "--" not in str(caught.value)


def test_features_that_were_extracted_know_their_cache_and_their_net(
    folder: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load(str(folder / "table.csv"))
    features = stored_features(data, REQUEST, FeatureCache(folder / "features"))
    expected = without_times(run.metrics)  # which are read from `folder` when they are first asked for
    monkeypatch.chdir(tmp_path)
    again = train_head(data, features, head="ridge", cv=4, progress=False)
    assert without_times(again.metrics) == expected
    assert (again.config.parts, again.config.rows) == (run.config.parts, run.config.rows)
    assert list(tmp_path.iterdir()) == []
    relabelled = replace(data, labels=np.array(["odd", "even"] * 20))
    assert train_head(relabelled, features, head="ridge", cv=4, progress=False).classes == ("even", "odd")


def test_progress_is_shown_by_what_is_passed(data: Dataset, run: Run) -> None:
    counts: Counter[str] = Counter()

    @contextlib.contextmanager
    def bar(what: str) -> Iterator[Callable[[int, int], None]]:
        yield lambda done, total: counts.update([f"{what} {done}/{total}"])

    train_head(data, REQUEST, head="ridge", cv=2, progress=bar)
    assert {f"splits {done}/2" for done in (1, 2)} <= counts.keys()
