"""`layertap explore`: what it prints and writes of a data set, its copies, and what is in another one too."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Mistake = Callable[..., str]


@pytest.fixture
def kit(tmp_path: Path, make_classes: Callable[..., Path]) -> Path:
    """A RAMP kit whose test set has two of the training images, and one that cannot be read."""
    images = tmp_path / "kit" / "data" / "imgs"
    make_classes(images)
    (tmp_path / "kit" / "problem.py").write_text("raise SystemExit('this was run')")
    shutil.copy(images / "dark" / "0.png", images / "leak.png")
    with Image.open(images / "bright" / "3.png") as image:
        image.point(lambda value: value - 9).save(images / "darker.png")
    names = [f"{label}/{number}.png,{label}" for label in ("bright", "dark") for number in range(5)]
    (tmp_path / "kit" / "data" / "train.csv").write_text("\n".join(["id,class", *names]))
    test = ["leak.png,dark", "darker.png,dark", "gone.png,dark", "bright/5.png,bright", "dark/5.png,dark"]
    (tmp_path / "kit" / "data" / "test.csv").write_text("\n".join(["id,class", *test]))
    return tmp_path / "kit"


def ids(groups: list[dict]) -> list[list[str]]:
    return [[image["id"] for image in group["images"]] for group in groups]


def test_classes_numbers_and_copies_are_printed(main: Callable, data: Path) -> None:
    shutil.copy(data / "dark" / "1.png", data / "bright" / "été 1.png")
    (data / "dark" / "broken.png").write_bytes(b"x")
    (data / "none").mkdir()
    outcome = main("explore", data)
    assert outcome.status == 0
    assert outcome.stderr == ""
    lines = outcome.stdout.splitlines()
    assert lines[:3] == [
        f"{data}: 14 images",
        "1 of them cannot be read:",
        "  dark/broken.png: not an image that can be read (not a known image format)",
    ]
    assert re.search(r"^bright +7  #{40}$", outcome.stdout, re.MULTILINE)
    assert re.search(r"^dark +6  #{34}$", outcome.stdout, re.MULTILINE)
    assert re.search(r"^none +0$", outcome.stdout, re.MULTILINE)
    assert re.search(r"^height x width +12 x 12 \(13\)$", outcome.stdout, re.MULTILINE)
    assert "Exact copies: 1, 1 of them with different classes" in lines
    assert "  1.000  bright/été 1.png (bright)  dark/1.png (dark)" in lines
    assert lines[-1] == "Near-duplicates: 0"


def test_nothing_is_written_without_out(main: Callable, data: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    main("explore", data)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_kit_is_compared_with_its_test_set(main: Callable, kit: Path) -> None:
    outcome = main("explore", kit, "--json")
    assert outcome.status == 0
    report = json.loads(outcome.stdout)
    assert report["classes"] == {"bright": 5, "dark": 5}
    against = report["against"]
    assert against["data"] == str(kit / "data" / "test.csv")
    assert (against["images"], against["readable"]) == (5, 4)
    assert [one["id"] for one in against["unreadable"]] == ["gone.png"]
    assert against["leaks"]["images"] == 2
    assert ids(against["leaks"]["exact"]) == [["dark/0.png", "leak.png"]]
    assert ids(against["leaks"]["near"]) == [["bright/3.png", "darker.png"]]
    assert [group["classes_differ"] for group in against["leaks"]["near"]] == [True]
    assert report["copies"] == {"exact": [], "near": [], "near_left_out": 0}


def test_any_two_data_sets_are_compared(main: Callable, data: Path, kit: Path) -> None:
    words = main("explore", data, "--against", kit / "data" / "test.csv").stdout
    assert f"{kit}/data/test.csv: 5 images, 4 of them, or nearly the same, in {data} too" in words
    numbers = json.loads(main("explore", data, "--against", data, "--json").stdout)
    assert numbers["against"]["leaks"]["images"] == 12
    assert numbers["copies"]["exact"] == []


def test_size_is_that_of_the_pixels_that_count(main: Callable, data: Path) -> None:
    assert json.loads(main("explore", data, "--size", "20x30", "--json").stdout)["size"] == [20, 30]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Images of every kind, in classes with awkward names."""
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8))
    for label in ("été <b>", "$x^2$ & co"):
        (tmp_path / "odd data" / label).mkdir(parents=True)
    first, second = (tmp_path / "odd data" / label for label in ("été <b>", "$x^2$ & co"))
    colour.save(first / "a b.png")
    colour.convert("L").save(first / "gray.jpg")
    colour.convert("RGBA").save(first / "alpha.webp", lossless=True)
    colour.convert("P").save(second / "palette.gif", save_all=True, append_images=[Image.new("P", (40, 30))])
    Image.fromarray(rng.integers(0, 65536, (9, 50), np.uint16)).save(second / "deep.png")
    Image.new("1", (1, 300)).save(second / "thin.png")
    (second / "<script>.png").write_bytes(b"x")
    return tmp_path / "odd data"


def test_out_holds_numbers_and_a_page_that_needs_nothing_else(main: Callable, odd: Path) -> None:
    outcome = main("explore", odd, "--against", odd, "--out", "what is there")
    assert outcome.status == 0, outcome.stderr
    folder = odd.parent / "what is there"
    assert {file.name for file in folder.iterdir()} == {"report.html", "explore.json"}
    page = (folder / "report.html").read_text()
    assert not re.search(r"https?://|<script>\.|<b>(?!of different|&#39;|été|\$)|src=\"(?!data:)|href=", page)
    assert page.count("<script") == 2  # that of the page, and the data of its map
    assert "été &lt;b&gt;" in page and "&lt;script&gt;.png" in page
    for heading in (
        "Shapes",
        "Levels of the pixels",
        "Rotated, at 224 x 224",
        "Map of the pixels",
        "Near-duplicates: ",
    ):
        assert f"<h2>{heading}" in page
    numbers = json.loads((folder / "explore.json").read_text())
    assert numbers["animated"] == 1
    assert "what is there" in outcome.stdout


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("label", ["", "only"])
def test_pages_of_small_data_sets_have_images(main: Callable, tmp_path: Path, images: int, label: str) -> None:
    folder = tmp_path / "data" / label
    folder.mkdir(parents=True)
    for number in range(images):
        Image.new("L", (5, 5), 100 * number).save(folder / f"{number}.png")
    assert main("explore", tmp_path / "data", "--out", "out").status == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('title="0.png"' if not label else 'title="only/0.png"') == 1
    assert "Map of the pixels" not in page


def test_a_data_set_without_a_readable_image_is_reported_and_a_failure(main: Callable, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.png").write_bytes(b"x")
    outcome = main("explore", tmp_path / "data", "--out", "out")
    line = f"layertap: no image of {tmp_path / 'data'} can be read.\n"
    assert (outcome.status, outcome.stderr) == (2, line)
    assert "1 of them cannot be read" in outcome.stdout
    assert [file.name for file in sorted((tmp_path / "out").iterdir())] == ["explore.json", "report.html"]


@pytest.mark.slow
def test_a_report_is_replaced_only_when_asked_and_nothing_else_ever(
    mistake: Mistake, main: Callable, data: Path
) -> None:
    assert f"{data} exists and is not a report" in mistake("explore", data, "--out", data, "--overwrite")
    assert main("explore", data, "--out", "out").status == 0
    assert "the report out exists; choose another folder with --out" in mistake("explore", data, "--out", "out")
    (data.parent / "out" / "else.png").touch()
    assert main("explore", data, "--out", "out", "--overwrite").status == 0
    assert not (data.parent / "out" / "else.png").exists()


def test_what_is_no_data_set_is_refused(mistake: Mistake, data: Path) -> None:
    assert "no data set, folder or file 'nothing'" in mistake("explore", "nothing")
    assert "no data set, folder or file 'nothing'" in mistake("explore", data, "--against", "nothing")
    assert "is not a size" in mistake("explore", data, "--size", "0")


def test_a_file_that_is_no_data_set_is_refused_by_all_commands(mistake: Callable, tmp_path: Path) -> None:
    (tmp_path / "net.keras").write_bytes(b"PK")
    for command in (("explore",), ("extract",), ("train-head", "--out", "run")):
        said = mistake(command[0], "net.keras", *command[1:])
        assert said.startswith("net.keras is neither a data set nor an image; give a folder, or ")


def test_a_net_to_begin_with_is_suggested(main: Callable, data: Path, tmp_path: Path) -> None:
    assert re.search(r"^suggested net +glyphnet$", main("explore", data).stdout, re.MULTILINE)
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (300, 200), "green").save(tmp_path / "photos" / "lawn.jpg")
    photos = main("explore", tmp_path / "photos")
    assert re.search(r"^suggested net +efficientnetlite0", photos.stdout, re.MULTILINE)
    plan = main("extract", tmp_path / "photos", "--plan")
    remark = r"note: these look like photographs, .*; choose --net efficientnetlite0[ .]"
    assert re.match(remark, plan.stderr)


def test_photographs_are_remarked_on_where_their_features_are_stored_too(main: Callable, tmp_path: Path) -> None:
    """The net for characters meets photographs: each command says so, once, and extract names the other net first."""
    for number, colour in enumerate(("green", "lime", "red", "brown")):
        (tmp_path / "photos" / "ab"[number // 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (300, 200), colour).save(tmp_path / "photos" / "ab"[number // 2] / f"{number}.png")
    for _ in range(2):
        extracted = main("extract", "photos")
        assert extracted.stderr.count("these look like photographs") == 1
        assert "Next: layertap extract photos --net efficientnetlite0, or layertap train-head" in extracted.stdout
    train = ("--head", "prototypes", "--cv", "2")
    search = ("search", "photos", "--query", "photos/a/0.png")
    for command in (search, ("train-head", "photos", *train), ("sweep", "photos", *train)):
        assert main(*command, "--quiet").stderr.count("these look like photographs") == 1, command
