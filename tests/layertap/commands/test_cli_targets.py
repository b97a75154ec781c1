"""Numbers, several labels, groups and given splits from a CSV file, from training to prediction."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cli

COUNT = 48
LAYER = ("--layer", "block1_pool")


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file whose columns are about how bright and how wide a bar is, its features extracted."""
    folder = tmp_path_factory.mktemp("bars")
    (folder / "imgs").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(COUNT):
        light, wide = int(rng.integers(60, 255)), int(rng.integers(2, 10))
        image = np.full((12, 12), 20, np.uint8)
        image[:, :wide] = light
        name = f"é {number}.png"
        Image.fromarray(image + rng.integers(0, 9, image.shape).astype(np.uint8)).save(folder / "imgs" / name)
        tags = [tag for tag, has in (("light", light > 150), ("wide", wide > 5)) if has]
        part = ("train", "train", "train", "valid", "test")[number % 5]
        rows.append([name, light / 255, wide, ";".join(tags), int(light > 150), int(wide > 5), number // 4, part, 7])
    write(folder / "bars.csv", rows)
    with contextlib.chdir(folder):
        assert cli.main(["extract", "bars.csv", *LAYER]) == 0
    return folder


def write(file: Path, rows: list[list]) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [["id", "light", "width", "tags", "is_light", "is_wide", "scene", "part", "same"], *rows]
        )


@pytest.fixture
def bars(extracted: Path, tmp_path: Path) -> Path:
    """The same, in the folder that `main` runs in."""
    for name in ("imgs", "features"):
        shutil.copytree(extracted / name, tmp_path / name)
    shutil.copy(extracted / "bars.csv", tmp_path)
    return tmp_path


def train(main: Callable, *options: object) -> dict:
    done = main("train-head", "bars.csv", *LAYER, *options, "--out", "run", "--json")
    assert done.status == 0, done.stderr
    return json.loads(done.stdout)


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_numbers_from_training_to_prediction(main: Callable, bars: Path) -> None:
    report = train(main, "--regression", "light,width", "--cv", "4", "--repeats", "2")
    assert len(report["folds"]) == 8
    assert report["summary"]["valid"]["r2"]["mean"] > 0.7
    assert report["each"]["light"]["rmse"] < 0.1 < report["each"]["width"]["rmse"] < 2
    config = json.loads((bars / "run" / "config.json").read_text())
    assert config["task"] == {"name": "regression", "columns": ["light", "width"]}
    assert config["head"]["name"] == "ridge"
    assert {"predicted.png", "mistakes.png", "report.html"} <= {file.name for file in (bars / "run").iterdir()}

    rows = table(main("predict", "run", "bars.csv").stdout)
    assert list(rows[0]) == ["id", "light", "width"]
    truth = {row["id"]: row for row in table((bars / "bars.csv").read_text())}
    errors = [float(row["light"]) - float(truth[row["id"]]["light"]) for row in rows]
    scored = json.loads(main("evaluate", "run", "bars.csv", "--json").stdout)["test"]
    widths = [float(row["width"]) - float(truth[row["id"]]["width"]) for row in rows]
    both = np.mean([np.sqrt(np.mean(np.square(one))) for one in (errors, widths)])
    assert scored["rmse"] == pytest.approx(both, rel=1e-4)
    alone = json.loads(main("predict", "run", "imgs/é 3.png", "--json").stdout)["predictions"]
    same = next(row for row in rows if row["id"] == "é 3.png")
    assert alone == [
        {"id": "imgs/é 3.png", "numbers": pytest.approx({k: float(same[k]) for k in ("light", "width")}, rel=1e-4)}
    ]


@pytest.mark.parametrize("head", ["knn", "sklearn.linear_model:Lasso"])
def test_other_heads_for_numbers(main: Callable, bars: Path, head: str) -> None:
    options = ["--param", "alpha=0.01"] if ":" in head else []
    report = train(main, "--regression", "light", "--head", head, *options)
    assert report["summary"]["valid"]["r2"]["mean"] > 0.6
    assert table(main("predict", "run", "bars.csv").stdout)[0].keys() == {"id", "light"}


@pytest.mark.parametrize("columns", ["tags", "is_light,is_wide"])
def test_several_labels_from_training_to_prediction(main: Callable, bars: Path, columns: str) -> None:
    names = ["light", "wide"] if columns == "tags" else columns.split(",")
    report = train(main, "--multilabel", columns, "--splits", "part", "--param", "C=1")
    assert report["test"]["n"] == COUNT // 5
    assert report["summary"]["valid"]["average_precision"]["mean"] > 0.9
    config = json.loads((bars / "run" / "config.json").read_text())
    assert config["task"] == {"name": "multilabel", "columns": columns.split(","), "labels": names}

    rows = table(main("predict", "run", "bars.csv").stdout)
    assert list(rows[0]) == ["id", "labels", *names]
    for row in rows:
        assert row["labels"] == ";".join(name for name in names if float(row[name]) > 0.5)
    scored = json.loads(main("evaluate", "run", "bars.csv", "--json").stdout)["test"]
    truth = {row["id"]: row["tags"] for row in table((bars / "bars.csv").read_text())}
    right = [row["labels"].replace("is_", "") == truth[row["id"]] for row in rows]
    assert scored["subset_accuracy"] == pytest.approx(np.mean(right))


def test_labels_that_the_head_does_not_know_are_told(main: Callable, bars: Path) -> None:
    train(main, "--multilabel", "tags")
    text = (bars / "bars.csv").read_text().replace(";wide", ";wide;new")
    (bars / "more.csv").write_text(text)
    done = main("evaluate", "run", "more.csv")
    assert done.status == 0
    assert "labels unknown to the head (1) are left out: new" in done.stderr


def test_images_of_a_group_stay_together_in_sweeps_too(main: Callable, bars: Path) -> None:
    text = (bars / "bars.csv").read_text().replace("is_light", "class")
    (bars / "bars.csv").write_text(text)
    report = train(main, "--groups", "scene", "--cv", "3", "--test", "0.2")
    assert report["test"]["n"] % 4 == 0
    assert all(fold["valid"]["n"] % 4 == 0 for fold in report["folds"])
    assert json.loads((bars / "run" / "config.json").read_text())["protocol"]["groups"] == "scene"
    done = main(
        "sweep",
        "bars.csv",
        *LAYER,
        "--head",
        "ridge",
        "--groups",
        "scene",
        "--splits",
        "part",
        "--out",
        "swept",
        "--json",
    )
    assert json.loads(done.stdout)["protocol"]["given"] == "part"
    assert "or others of their group, in another part" in done.stderr  # the given splits part the groups


def test_the_extraction_of_the_features_has_its_time(main: Callable, bars: Path) -> None:
    report = train(main, "--regression", "light")
    assert report["extraction_seconds"] > 0
    text = main("train-head", "bars.csv", *LAYER, "--regression", "light", "--out", "again").stdout
    assert "Its features took" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--regression", "tags"), "'tags' is"),
        (("--regression", "widht"), "no column 'widht'"),
        (("--regression", "light", "--per-class", "3"), "--per-class is about classes"),
        (("--multilabel", "tags", "--calibrate"), "--calibrate is about classes"),
        (("--regression", "light", "--head", "logistic"), "for classes"),
        (("--multilabel", "tags", "--regression", "light"), "not allowed with"),
        (("--regression", "light", "--repeats", "3"), "add --cv K"),
        (("--regression", "light", "--splits", "part", "--cv", "3"), "leave out --cv"),
        (("--regression", "light", "--splits", "part", "--test", "0.2"), "leave out --test"),
        (("--regression", "light", "--splits", "scenes"), "no column 'scenes'"),
        (("--regression", "light,light",), "names a column twice"),
        (("--regression", "same"), "same is the same for all images"),
        ((), "no labels"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_told(mistake: Callable, bars: Path, options: tuple, said: str) -> None:
    assert said in mistake("train-head", "bars.csv", *LAYER, *options, "--out", "run")


def test_such_a_run_is_not_exported(main: Callable, mistake: Callable, bars: Path) -> None:
    train(main, "--regression", "light")
    assert "only classifiers are exported" in mistake("export", "run", "--to", "keras", "--out", "model.keras")


def test_a_run_of_no_known_task_is_damaged(main: Callable, bars: Path) -> None:
    train(main, "--regression", "light")
    file = bars / "run" / "config.json"
    for task in ('{"name": "magic"}', '["classes"]', "7"):
        config = json.loads(file.read_text()) | {"task": json.loads(task)}
        config = {key: value for key, value in config.items() if key not in ("files", "digest")}
        file.write_text(json.dumps(config))
        done = main("predict", "run", "bars.csv")
        assert (done.status, done.stdout) == (1, "")
        assert "cannot be read" in done.stderr
