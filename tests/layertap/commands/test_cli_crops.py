"""`--crops` on the commands that take a data set: heads of boxes, their predictions, reports and copies."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import layertap as lt

WHAT = ("--net", "glyphnet", "--layer", "block1_pool")


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Ten photographs, each with a bright and a dark thing in a box."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    (tmp_path / "shop").mkdir()
    for number in range(10):
        pixels = rng.integers(100, 150, (40, 60), np.uint8)
        for category, (left, low) in enumerate(((5, 200), (35, 0))):
            pixels[10:26, left : left + 16] = rng.integers(low, low + 50, (16, 16))
            annotations.append({"image_id": number, "category_id": category, "bbox": [left, 10, 16, 16]})
        Image.fromarray(pixels).save(tmp_path / "shop" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 60, "height": 40})
    categories = [{"id": 0, "name": "bright"}, {"id": 1, "name": "dark"}]
    file = tmp_path / "shop" / "things.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return file


def test_a_head_learns_boxes_and_those_of_an_image_stay_in_one_fold(main: Callable, coco: Path, tmp_path: Path) -> None:
    data = ("shop/things.json", "--crops")
    outcome = main("train-head", *data, *WHAT, "--head", "ridge", "--cv", "5", "--out", "run", "--quiet")
    assert outcome.status == 0, outcome.stderr
    run = lt.load_run(tmp_path / "run")
    held_out = run.held_out
    assert held_out is not None
    split = dict(zip(held_out.ids, held_out.splits.tolist(), strict=True))
    assert len(split) == 20
    assert all(split[f"{number}.png#5,10,16,16"] == split[f"{number}.png#35,10,16,16"] for number in range(10))
    assert run.scores["accuracy"].mean == 1
    predicted = list(csv.DictReader(io.StringIO(main("predict", "run", *data).stdout)))
    assert predicted[0]["id"] == "0.png#5,10,16,16"
    assert {row["id"].partition("#")[2]: row["class"] for row in predicted} == {
        "5,10,16,16": "bright",
        "35,10,16,16": "dark",
    }
    assert main("evaluate", "run", *data).status == 0
    (tmp_path / "some.csv").write_text('id,class\n"0.png#5,10,16,16",bright\n"1.png#35,10,16,16",dark\n')
    assert main("extract", "some.csv", "--images", "shop", *WHAT).stdout.startswith("0 rows computed, 2 reused")
    refused = main("predict", "run", "shop/0.png", "--crops")
    assert (refused.status, refused.stderr.count("\n")) == (2, 1)


def test_images_of_several_categories_have_no_class_but_labels(main: Callable, coco: Path) -> None:
    outcome = main("train-head", "shop/things.json", *WHAT, "--out", "run")
    assert outcome.status == 2
    said = outcome.stderr.splitlines()[-1]
    assert said.startswith("layertap: shop/things.json has no labels, since some of its images show several categories")
    assert said.endswith("make each box an image by --crops, or learn all labels by --multilabel categories.")
    outcome = main("explore", "shop/things.json")
    assert "note: 10 of 10 images of shop/things.json show several categories" in outcome.stderr
    assert "--crops" in outcome.stderr


def test_extract_names_the_next_command_with_crops_and_computes_parts_of_them(main: Callable, coco: Path) -> None:
    outcome = main("extract", "shop/things.json", "--crops", *WHAT, "--quiet")
    assert "layertap train-head shop/things.json" in outcome.stdout
    assert "--crops" in outcome.stdout
    counts = []
    for number in range(3):
        options = ("--shard", f"{number}/3", "--json", "--quiet")
        counts.append(json.loads(main("extract", "shop/things.json", "--crops", *WHAT, *options).stdout))
    assert sum(report["shard"]["images"] for report in counts) == 20
    assert all(report["rows_computed"] == 0 for report in counts)


def test_pages_show_the_boxes(main: Callable, coco: Path, tmp_path: Path) -> None:
    outcome = main("search", "shop/things.json", "--crops", *WHAT, "--query", "shop/things.json", "--page", "p.html")
    assert outcome.status == 0, outcome.stderr
    page = (tmp_path / "p.html").read_text()
    assert "0.png#5,10,16,16" in page
    pictures = [base64.b64decode(text) for text in re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", page)]
    assert {Image.open(io.BytesIO(picture)).size for picture in pictures} == {(16, 16)}
    assert main("ramp", "kit", "kit", "--data", "shop/things.json", "--crops", "--quiet").status == 0
    files = sorted((tmp_path / "kit" / "data" / "imgs").iterdir())
    assert len(files) == 20
    assert {Image.open(file).size for file in files} == {(16, 16)}
