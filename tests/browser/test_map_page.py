"""The map in a real browser: what mouse and keys do, and that texts stay texts."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from layertap.analysis.projections import Projection
from layertap.report.map_page import MapContent, write_map
from transfer.data.images import ArraySource

HOSTILE = "</script><img src=x onerror=alert(1)>"
QUOTED = 'it\'s "quoted", and long.png'
SIDE = 10  # points of a side of the square that they are on


@pytest.fixture(scope="module")
def content() -> MapContent:
    """Points on a square, of two classes by halves; the first ones are in the upper left."""
    row, column = np.divmod(np.arange(SIDE * SIDE), SIDE)
    points = np.stack([column, -row], axis=1).astype(np.float32)
    ids = [QUOTED, *(f"image-{number:03d}.png" for number in range(1, SIDE * SIDE))]
    classes = np.where(column < SIDE // 2, "left", HOSTILE)
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE * SIDE, 8, 8, 3), np.uint8)
    sources = [ArraySource(one, name) for one, name in zip(pixels, ids, strict=True)]
    columns = {"class": classes, "age": row.astype(float)}
    return MapContent(
        f"A map {HOSTILE}",
        Projection(np.arange(len(ids)), points, ("x", "y")),
        ids,
        sources,
        columns,
        "do it",
        worst=[3],
    )


@pytest.fixture(scope="module")
def file(content: MapContent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("map") / "map.html"
    write_map(file, content)
    return file


def place(page: Page, content: MapContent, point: int) -> tuple[float, float]:
    """Where a point is, in pixels of the page: the map is square, and has a rim of 15 pixels."""
    box = page.locator("#points").bounding_box()
    assert box
    side = min(box["width"], box["height"]) - 30
    x, y = (content.projection.points[point] / (SIDE - 1)).tolist()
    return box["x"] + box["width"] / 2 + (x - 0.5) * side, box["y"] + box["height"] / 2 + (-y - 0.5) * side


def test_a_point_under_the_mouse_shows_its_image(file: Path, content: MapContent, opened: Callable[..., Page]) -> None:
    page = opened(file)
    page.mouse.move(*place(page, content, 0))
    expect(page.locator("#hover")).to_contain_text(QUOTED)
    page.mouse.move(*place(page, content, 7))
    expect(page.locator("#hover")).to_contain_text(HOSTILE)
    shown = "() => document.querySelector('#hover canvas').getContext('2d').getImageData(4, 4, 1, 1).data[3] === 255"
    page.wait_for_function(shown)
    assert page.locator("img[onerror]").count() == 0


def test_a_lasso_selects_and_the_list_is_saved(file: Path, content: MapContent, opened: Callable[..., Page]) -> None:
    page = opened(file)
    page.click("#tool-lasso")
    (left, top), (right, bottom) = place(page, content, 0), place(page, content, SIDE + 1)
    corners = [(left - 8, top - 8), (right + 8, top - 8), (right + 8, bottom + 8), (left - 8, bottom + 8)]
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=3)
    page.mouse.up()
    expect(page.locator("#selection-count")).to_have_text("4 images selected.")
    expect(page.locator("#selection-rows")).to_contain_text(QUOTED)
    expect(page.locator("#command")).to_have_value("do it")
    with page.expect_download() as download:
        page.click("#download")
    rows = list(csv.DictReader(Path(download.value.path()).read_text(encoding="utf-8").splitlines()))
    assert [row["id"] for row in rows] == [content.ids[point] for point in (0, 1, SIDE, SIDE + 1)]
    assert rows[0] == {"id": QUOTED, "class": "left", "age": "0"}


def test_legend_entries_and_ranges_filter(file: Path, content: MapContent, opened: Callable[..., Page]) -> None:
    page = opened(file)
    page.get_by_role("button", name=HOSTILE).click()
    expect(page.locator("#status")).to_have_text("50 of 100 images are shown.")
    page.mouse.move(*place(page, content, 7))
    expect(page.locator("#hover")).to_be_hidden()
    page.select_option("#colour", label="age")
    page.get_by_label("age from").fill("8")
    page.get_by_label("age from").press("Enter")
    expect(page.locator("#status")).to_have_text("10 of 100 images are shown.")


def test_ids_and_classes_are_searched(file: Path, opened: Callable[..., Page]) -> None:
    page = opened(file)
    page.fill("#search", "IMAGE-00")
    expect(page.locator("#status")).to_have_text("9 images are found.")
    page.fill("#search", "onerror")
    expect(page.locator("#status")).to_have_text("50 images are found.")
    page.click("#select-found")
    expect(page.locator("#selection-count")).to_have_text("50 images selected.")


def test_all_can_be_done_by_keys(file: Path, content: MapContent, opened: Callable[..., Page]) -> None:
    page = opened(file)
    before = place(page, content, 0)
    page.focus("#points")
    for key in ("n", " ", "+", "ArrowLeft", "0"):
        page.keyboard.press(key)
    expect(page.locator("#selection-count")).to_have_text("1 image selected.")
    page.keyboard.press("Escape")
    expect(page.locator("#selection-count")).to_contain_text("Nothing is selected")
    page.mouse.move(*before)
    expect(page.locator("#hover")).to_contain_text(QUOTED)
    page.keyboard.press("n")
    expect(page.locator("#status")).to_contain_text("image-001.png, class left, age 0")


def test_the_map_follows_mouse_and_wheel(file: Path, content: MapContent, opened: Callable[..., Page]) -> None:
    page = opened(file)
    x, y = place(page, content, 55)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -600)
    expect(page.locator("#hover")).to_contain_text("image-055.png")
    page.mouse.down()
    page.mouse.move(x - 60, y - 30, steps=4)
    page.mouse.up()
    page.mouse.move(x, y + 200)
    page.mouse.move(x - 60, y - 30)
    expect(page.locator("#hover")).to_contain_text("image-055.png")


def test_without_scripts_the_tables_are_there(file: Path, opened: Callable[..., Page]) -> None:
    page = opened(file, java_script_enabled=False)
    assert page.locator("th", has_text=HOSTILE).is_visible()
    assert page.locator(".gallery img").count() == 1
    assert page.locator("#map").is_hidden()


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(file: Path, opened: Callable[..., Page], width: int) -> None:
    page = opened(file, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_same_map_is_the_same_file(file: Path, content: MapContent, tmp_path: Path) -> None:
    write_map(tmp_path / "again.html", content)
    assert (tmp_path / "again.html").read_bytes() == file.read_bytes()
