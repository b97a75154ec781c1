"""Labels by chance cannot be learnt, though images have copies in other bytes, or near-duplicates."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from feature_cache.cache import FeatureCache
from heads.evaluation.protocol import Protocol
from heads.evaluation.training import train
from transfer.data import datasets
from transfer.extraction.lookup import stored_features
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

IMAGES, CLASSES = 96, 4
CHANCE = 1 / CLASSES
# 3 deviations of a share of as many guesses as there are images: copies are right or wrong together.
BOUND = 3 * np.sqrt(CHANCE * (1 - CHANCE) / IMAGES)
FEATURES = ("--layer", "block1_pool", "--pool", "flatten")
HEAD = ("--head", "knn", "--param", "n_neighbors=1")  # it finds a copy wherever there is one

WAYS: list[Callable[[Image.Image, Path], None]] = [
    lambda image, place: image.save(place.with_suffix(".png"), compress_level=0),
    lambda image, place: image.save(place.with_suffix(".bmp")),
    lambda image, place: image.save(place.with_suffix(".gif")),
    lambda image, place: image.convert("RGB").save(place.with_suffix(".tif"), compression="tiff_lzw"),
]


def smooth(rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(rng.integers(0, 200, (6, 6), np.uint8)).resize((48, 48), Image.Resampling.BICUBIC)


def write_pairs(folder: Path, change: Callable[[int, Image.Image, Path], None]) -> None:
    """Random images in random classes, each with a second file that `change` makes of it."""
    rng = np.random.default_rng(0)
    for number, label in enumerate(rng.permutation(np.arange(IMAGES) % CLASSES)):
        place = folder / f"class {label}"
        place.mkdir(parents=True, exist_ok=True)
        image = smooth(rng)
        first, second = (place / f"{name:06}" for name in rng.integers(1_000_000, size=2))
        image.save(first.with_suffix(".png"))
        change(number, image, second)


@pytest.fixture
def rewritten(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "data", lambda number, image, place: WAYS[number % len(WAYS)](image, place))
    return tmp_path / "data"


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    def change(number: int, image: Image.Image, place: Path) -> None:
        made = ImageEnhance.Brightness(image).enhance(1.1) if number % 2 else image.resize((40, 40))
        made.save(place.with_suffix(".png"))

    write_pairs(tmp_path / "data", change)
    return tmp_path / "data"


def accuracy(report: str, part: str = "valid") -> float:
    return float(json.loads(report)["summary"][part]["accuracy"]["mean"])


@pytest.mark.slow
def test_copies_in_other_bytes_are_on_one_side_of_every_split(rewritten: Path, main: Callable) -> None:
    assert main("extract", "data", *FEATURES, "--quiet").status == 0
    folds = main("train-head", "data", *FEATURES, *HEAD, "--cv", "5", "--json", "--out", "cv")
    assert folds.status == 0, folds.stderr
    assert "note" not in folds.stderr
    assert accuracy(folds.stdout, "train") == 1
    assert abs(accuracy(folds.stdout) - CHANCE) < BOUND
    # The other protocols divide the same groups; without the command there are no pictures to be drawn.
    request = FeatureRequest(Net("glyphnet"), ("block1_pool",), "flatten")
    cached = stored_features(datasets.load("data"), request, FeatureCache(Path("features")))
    labels = datasets.require_labels(cached.dataset)
    for protocol, bound in ((Protocol(per_class=12, draws=3), BOUND), (Protocol(valid=0.5), BOUND * np.sqrt(2))):
        trained = train(cached.features, labels, cached.groups, protocol, "knn", {"n_neighbors": 1})
        assert abs(trained.evaluation.summary()["valid"]["accuracy"]["mean"] - CHANCE) < bound
    # A split that knows nothing of copies shows what there is to be found.
    rows = [(str(file.relative_to(rewritten)), file.parent.name) for file in sorted(rewritten.glob("*/*"))]
    folds_of_rows = np.random.default_rng(0).integers(0, 5, len(rows))
    with (rewritten / "table.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [("id", "class", "fold"), *((*row, f"fold {k}") for row, k in zip(rows, folds_of_rows, strict=True))]
        )
    blind = main("train-head", "data/table.csv", *FEATURES, *HEAD, "--splits", "fold", "--json", "--out", "blind")
    assert accuracy(blind.stdout) > 0.7
    assert re.search(r"1\d\d images have equals, or others of their group, in another part", blind.stderr)


@pytest.mark.slow
@pytest.mark.usefixtures("changed")
def test_near_duplicates_stay_together_where_that_is_asked_for(main: Callable) -> None:
    command = ("train-head", "data", *FEATURES, *HEAD, "--cv", "5", "--json")
    assert main("extract", "data", *FEATURES, "--quiet").status == 0
    exact = main(*command, "--out", "exact")
    assert accuracy(exact.stdout) > 0.7
    assert exact.stderr == ""
    near = main(*command, "--together", "near", "--out", "near")
    assert abs(accuracy(near.stdout) - CHANCE) < BOUND
    assert near.stderr == (
        "note: 96 pairs of near-duplicates stay together: 192 images in 96 groups, the largest of 2.\n"
    )
    protocols = [json.loads(Path(run, "config.json").read_text())["protocol"] for run in ("exact", "near")]
    assert protocols[1] == {**protocols[0], "together": "near"}


def test_copies_of_another_class_are_counted(data: Path, main: Callable) -> None:
    Image.open(data / "dark" / "0.png").save(data / "bright" / "copy.bmp")
    Image.open(data / "dark" / "1.png").save(data / "dark" / "copy.bmp")
    assert main("extract", "data", "--quiet").status == 0
    outcome = main("train-head", "data", "--out", "run")
    assert outcome.status == 0
    assert outcome.stderr == (
        "note: 2 images have an exact copy of another class; one of the labels is likely wrong (layertap explore shows "
        "them).\n"
    )
    explored = json.loads(main("explore", "data", "--json").stdout)
    assert len(explored["copies"]["exact"]) == 2


def test_images_that_a_run_was_trained_on_are_known_in_other_files(data: Path, main: Callable) -> None:
    for number, file in enumerate(sorted(data.rglob("*.png"))):
        other = data.parent / "others" / file.parent.name / f"{number}.bmp"
        other.parent.mkdir(parents=True, exist_ok=True)
        image = Image.open(file)
        (image if number < 9 else ImageEnhance.Brightness(image).enhance(0.5)).save(other)
    assert main("extract", "data", "--quiet").status == 0
    assert main("train-head", "data", "--out", "run").status == 0
    outcome = main("evaluate", "run", "others")
    assert outcome.stderr == "warning: run was trained on 9 of these 12 images: their scores say little.\n"


def test_a_run_of_an_earlier_version_knows_its_images_by_their_bytes(
    data: Path, main: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main("extract", "data", "--quiet").status == 0
    with monkeypatch.context() as earlier:
        earlier.setattr(
            "layertap.workflows.training.copies.identity_digests", lambda dataset, digests, *_: digests[:, None]
        )
        assert main("train-head", "data", "--out", "run").status == 0
    assert len(np.load("run/head-images.npy")) == 12
    assert "run was trained on 12 of these 12 images" in main("evaluate", "run", "data").stderr
