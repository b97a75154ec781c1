"""`--head patchcore`: one digit is learned, all others are anomalies; on real digits and maps of glyphnet."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import layertap as lt

FEATURES = ("--layer", "block3_pool", "--layer", "block4_pool", "--pool", "none", "--quiet")
HEAD = ("--head", "patchcore", "--param", "core_set=0.05")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Digits in the folders of MVTec AD: zeros are good, and fours are a defect that only the test part has."""
    images, labels = load_digits(return_X_y=True)
    zeros, fours = (images[labels == digit] for digit in (0, 4))
    parts = {"train/good": zeros[:30], "test/good": zeros[30:50], "test/four": fours[:20]}
    for part, of_part in parts.items():
        (tmp_path / "photos" / part).mkdir(parents=True)
        for number, pixels in enumerate(of_part):
            image = Image.fromarray((pixels.reshape(8, 8) * 15.9).astype(np.uint8))
            image.save(tmp_path / "photos" / part / f"{number:02}.png")
    return tmp_path / "photos"


def test_good_images_alone_are_learned_and_others_are_found(main: Callable, photos: Path) -> None:
    trained = main("train-head", photos, "--split", "train", *FEATURES, *HEAD, "--out", "run", "--json")
    assert trained.status == 0, trained.stderr
    valid = json.loads(trained.stdout)["summary"]["valid"]
    assert valid["auroc"]["mean"] is None  # there is no defect to be told apart
    assert valid["false_positive_rate"]["mean"] <= 0.5
    assert "Anomaly scores" in Path("run/report.html").read_text()

    evaluate = ("evaluate", "run", photos, "--split", "test", "--page", "page.html", "--json")
    evaluated = json.loads(main(*evaluate).stdout)
    assert evaluated["test"]["auroc"] > 0.95
    assert [(one["class"], one["support"]) for one in evaluated["classes"]] == [("four", 20), ("good", 20)]
    assert evaluated["classes"][0]["recall"] > 0.8
    assert Path("page.html").read_text().count('alt="Heat map of four/') > 16

    files = [photos / "test" / name for name in ("good/00.png", "four/00.png")]
    assert main("predict", "run", *files, "--out", "scores.csv", "--heat-maps", "heat").status == 0
    with Path("scores.csv").open(newline="") as stream:
        good, four = csv.DictReader(stream)
    assert (good["class"], four["class"]) == ("good", "defect")
    assert float(good["score"]) < 1 < float(four["score"])
    pictures = sorted(Path("heat").iterdir())
    assert len(pictures) == 2
    assert [Image.open(picture).size for picture in pictures] == [(32, 32)] * 2


def test_the_report_shows_where_anomalies_are(main: Callable, photos: Path) -> None:
    trained = main("train-head", photos, "--split", "test", *FEATURES, *HEAD, "--valid", "0.3", "--out", "run")
    assert trained.status == 0, trained.stderr
    assert "is fitted on the images of good." in trained.stdout
    report = Path("run/report.html").read_text()
    assert "block3_pool, block4_pool" in report
    assert 'alt="Heat map of four/' in report
    assert 'alt="Heat map of good/' not in report
    with Image.open("run/where.png") as shown:
        colours = np.asarray(shown.convert("RGB")).astype(int)
    red, green, blue = colours[..., 0], colours[..., 1], colours[..., 2]
    assert ((red > green + 60) & (red > blue + 60)).mean() > 0.01  # images are gray, and heat is yellow to red


def test_every_split_judges_all_anomalies_and_learns_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images, labels = load_digits(return_X_y=True)
    chosen = np.concatenate([np.flatnonzero(labels == digit)[:count] for digit, count in ((0, 24), (1, 9))])
    data = lt.load_dataset((images[chosen].reshape(-1, 8, 8) / 16, labels[chosen]))
    features = lt.extract(data, "glyphnet", layers=["block3_pool", "block4_pool"], pool="none", progress=False)
    run = lt.train_head(data, features, "patchcore", normal="0", params={"core_set": 0.05}, cv=3, progress=False)
    assert [fold["valid"]["n"] for fold in run.metrics["folds"]] == [8 + 9] * 3
    assert [fold["train"]["n"] for fold in run.metrics["folds"]] == [16] * 3
    assert run.scores["auroc"].mean > 0.95
    assert run.targets == ("0", "defect")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (HEAD, "has no class 'good' to learn; name the class without defects by --normal, one of: four, ok."),
        (
            (*HEAD, "--normal", "ok", "--pool", "avg"),
            "the head reads maps of features, which are not pooled; take --pool none.",
        ),
        ((*HEAD, "--normal", "ok", "--grid", "core_set=0.1,0.2"), "nothing tells which values of --grid are better"),
        (("--head", "ridge", "--normal", "ok"), "--normal is the class that patchcore learns; name that head"),
        ((*HEAD, "--normal", "ok", "--curve", "1,2"), "leave it out with a head that learns one class"),
    ],
)
def test_mistakes_are_one_line(mistake: Callable, photos: Path, options: tuple[str, ...], message: str) -> None:
    (photos / "test" / "good").rename(photos / "test" / "ok")
    assert message in mistake("train-head", photos, "--split", "test", *FEATURES, *options, "--out", "run")


def test_heat_maps_are_of_runs_that_find_anomalies(mistake: Callable, main: Callable, photos: Path) -> None:
    assert (
        main("train-head", photos, "--split", "test", "--net", "glyphnet", "--head", "ridge", "--out", "ridge").status
        == 0
    )
    message = mistake("predict", "ridge", photos / "test" / "good" / "00.png", "--heat-maps", "heat")
    assert "this run finds no anomalies; leave it out, or train one with" in message
