"""The page of a data set in a real browser: tabs, the map, and names that stay text."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

import layertap as lt

HOSTILE = "</script><img src=x onerror=alert(1)>"
QUOTED = 'it\'s "quoted", and long.png'
TABS = ["Numbers", "Images", "Map", "Copies and damage"]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a table of images of two classes, one of which is a copy with another class, and one is damaged."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(20):
        name = QUOTED if number == 0 else f"image-{number:02d}.png"
        Image.fromarray(rng.integers(0, 255, (8, 8 + number % 4, 3), np.uint8)).save(folder / name)
        rows.append((name, (HOSTILE, "plain")[number % 2]))
    (folder / "copy.png").write_bytes((folder / QUOTED).read_bytes())
    (folder / "broken.png").write_bytes(b"x")
    with (folder / "photos.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("id", "class"), *rows, ("copy.png", "plain"), ("broken.png", "plain")])
    lt.explore(folder / "photos.csv", out=folder / "report", progress=False)
    return folder / "report" / "report.html"


def test_names_stay_text_in_every_tab(file: Path, opened: Callable[..., Page]) -> None:
    page = opened(file)
    assert page.get_by_role("tab").all_text_contents() == TABS
    expect(page.locator("#numbers th", has_text=HOSTILE)).to_be_visible()
    assert page.locator(".spot title").first.text_content() == "8 x 8: 6"
    page.get_by_role("tab", name="Images").click()
    assert page.locator(f"#images h3[title='{HOSTILE}']").is_visible()
    page.get_by_role("tab", name="Copies and damage").click()
    pair = page.locator(".copies li")
    expect(pair).to_have_count(1)
    expect(pair).to_contain_text("of different classes")
    expect(pair).to_contain_text(QUOTED)
    assert pair.locator("b[title]").all_text_contents() == [HOSTILE, "plain"]
    assert page.locator("#copies").get_by_text("broken.png").is_visible()
    assert page.locator("img[onerror]").count() == 0


def test_the_map_shows_images_and_saves_a_selection(file: Path, opened: Callable[..., Page]) -> None:
    page = opened(file)
    page.get_by_role("tab", name="Map").click()
    page.fill("#search", "exact copy")
    expect(page.locator("#status")).to_have_text("2 images are found.")
    page.click("#select-found")
    expect(page.locator("#selection-rows")).to_contain_text(QUOTED)
    assert page.locator("#command").input_value().startswith("layertap explore selection.csv --images")


def test_without_scripts_tables_charts_and_images_are_there(file: Path, opened: Callable[..., Page]) -> None:
    page = opened(file, java_script_enabled=False)
    for table in page.locator("table:not(#map *)").all():
        assert table.is_visible()
    assert page.locator(".chart:visible").count() == 2
    assert page.locator(".strip img:visible").count() == 21
    assert page.locator("#map").is_hidden()


@pytest.mark.parametrize("width", [390, 1280])
def test_no_tab_is_wider_than_the_screen(file: Path, opened: Callable[..., Page], width: int) -> None:
    page = opened(file, viewport={"width": width, "height": 800})
    for tab in page.get_by_role("tab").all():
        tab.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab.text_content()
