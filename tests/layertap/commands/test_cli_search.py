"""`layertap search`: what it finds, writes and refuses."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import layertap as lt
from feature_cache.errors import BadData


def test_a_copy_comes_first_and_table_csv_json_and_page_agree(main: Callable, data: Path, tmp_path: Path) -> None:
    shutil.copy(data / "dark" / "3.png", tmp_path / "copy.png")
    search = ("search", data, "--net", "glyphnet", "--query", "copy.png", "-k", 3)
    outcome = main(*search, "--csv", "near.csv", "--page", "near.html")
    assert outcome.status == 0, outcome.stderr
    lines = outcome.stdout.splitlines()
    assert lines[0] == "copy.png"
    assert lines[2].split() == ["1", "0.0000", "dark/3.png", "dark"]
    found = json.loads(main(*search, "--json").stdout)["queries"]
    assert [one["rank"] for one in found[0]["neighbors"]] == [1, 2, 3]
    with (tmp_path / "near.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["query"], row["id"]) for row in rows] == [("copy.png", one["id"]) for one in found[0]["neighbors"]]
    page = (tmp_path / "near.html").read_text()
    assert page.count("<img ") == 4
    main(*search, "--page", "again.html")
    assert (tmp_path / "again.html").read_text() == page


def test_names_of_files_stay_text_in_the_page(main: Callable, data: Path, tmp_path: Path) -> None:
    (data / "dark").rename(data / "<img src=x onerror=alert(1)>")
    outcome = main("search", data, "--net", "glyphnet", "--query", data / "bright" / "0.png", "--page", "near.html")
    assert outcome.status == 0
    assert "<img src=x" not in (tmp_path / "near.html").read_text()


def test_of_fewer_images_than_asked_for_all_are_shown_with_a_note(main: Callable, data: Path) -> None:
    outcome = main("search", data, "--net", "glyphnet", "--query", data / "dark" / "0.png", "-k", 50)
    assert "note: there are 12 images, fewer than -k 50: all of them are shown." in outcome.stderr
    assert len(outcome.stdout.splitlines()) == 14


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--query", "notes.png"], "notes.png is not an image that can be read"),
        (["--query", "gone.png"], "the image 'gone.png' does not exist; give image files, or one data set."),
        (
            ["--query", "a.png", "--layer", "block3_pool", "--layer", "block4_pool"],
            "compares the features of one layer",
        ),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    main: Callable, data: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    (tmp_path / "notes.png").write_text("no image")
    shutil.copy(data / "dark" / "0.png", tmp_path / "a.png")
    outcome = main("search", data, "--net", "glyphnet", *options, "--csv", "near.csv", "--page", "near.html", "--quiet")
    assert outcome.status == 2
    assert message in outcome.stderr.splitlines()[-1]
    assert not list(tmp_path.glob("near*"))


def test_features_of_another_space_are_refused(data: Path, tmp_path: Path) -> None:
    features = lt.extract(data, layers=["block3_pool", "block4_pool"], cache=tmp_path / "cache", progress=False)
    with pytest.raises(BadData, match="features of different spaces"):
        features.search(features["block3_pool"][0], layer="block4_pool")
    assert features.search(np.asarray(features["block4_pool"][3]), 2, layer="block4_pool").rows[0, 0] == 3
