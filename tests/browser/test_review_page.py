"""The page of a review in a real browser: deciding, and the table that it saves, with which a head is trained."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

import layertap as lt
from feature_cache.cache import FeatureCache
from layertap.report.review_page import write_review
from layertap.workflows.review import Finding, Review

HOSTILE = "</script><img src=x onerror=alert(1)>"
QUOTED = 'it\'s "quoted", and long.png'
CLASSES = ("bright", HOSTILE)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 24 images, the first of which has a name with quotes and commas."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(24):
        name = QUOTED if number == 0 else f"image-{number:02d}.png"
        levels = rng.integers(0, 60, (8, 8, 3)) + (180 if number % 2 == 0 else 0)
        Image.fromarray(levels.astype(np.uint8)).save(folder / name)
        rows.append((name, CLASSES[number % 2]))
    with (folder / "photos.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("id", "class"), *rows])
    return folder / "photos.csv"


@pytest.fixture(scope="module")
def page_file(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("review")
    data = lt.load_dataset(photos).identify(FeatureCache(folder / "features"))
    bright, dark = CLASSES
    findings = (
        Finding("label", QUOTED, bright, dark, 0.99, "", ("looks dark", "far from others")),
        Finding("label", "image-01.png", dark, bright, 0.98, "", ("looks bright",)),
        Finding("label", "image-03.png", dark, bright, 0.97, "", ("looks bright",)),
        Finding("near-duplicate", "image-04.png", bright, "", 0.95, "image-02.png", ("nearly the same, mirrored",)),
        Finding("outlier", "image-05.png", dark, "", 0.6, "", ("far from all others",)),
        Finding("decided", "image-06.png", bright, "", 0.0, "", ("kept before",), "keep"),
    )
    write_review(folder / "review.html", Review(data, findings, ()))
    return folder / "review.html"


def item(page: Page, name: str) -> Locator:
    return page.locator(".findings li", has=page.locator("strong", has_text=name))


def saved(page: Page, file: Path) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "review.csv"
    download.value.save_as(file)
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_decisions_are_saved_and_a_head_is_trained_with_them(
    photos: Path, page_file: Path, opened: Callable[..., Page], tmp_path: Path
) -> None:
    page = opened(page_file)
    expect(page.locator("#status")).to_have_text("1 of 6 decided")
    item(page, QUOTED).locator("select").select_option("relabel")
    item(page, QUOTED).locator("input").fill('a "new", class')
    item(page, "image-03.png").locator("select").select_option("keep")
    item(page, "image-04.png").locator("select").select_option("drop")
    page.click("#accept")  # which leaves what is decided as it is
    expect(page.locator("#status")).to_have_text("5 of 6 decided")
    file = tmp_path / "review.csv"
    rows = {row["id"]: (row["action"], row["label"]) for row in saved(page, file)}
    assert rows == {
        QUOTED: ("relabel", 'a "new", class'),
        "image-01.png": ("relabel", "bright"),
        "image-03.png": ("keep", "bright"),
        "image-04.png": ("drop", ""),
        "image-05.png": ("", ""),
        "image-06.png": ("keep", ""),
    }
    corrected = lt.load_dataset(photos, corrections=file)
    features = lt.extract(corrected, "glyphnet", cache=tmp_path / "features", progress=False)
    run = lt.train_head(corrected, features, "ridge", cv=2, map=None, progress=False)
    assert run.targets == tuple(sorted([*CLASSES, 'a "new", class']))
    recorded = (run.config.data or {})["corrections"]
    assert (recorded["dropped"], recorded["relabelled"]) == (1, 2)


def test_findings_are_filtered_and_only_those_shown_are_accepted(
    page_file: Path, opened: Callable[..., Page], tmp_path: Path
) -> None:
    page = opened(page_file)
    visible = page.locator(".findings li:visible")
    page.select_option("#kind", "outlier")
    expect(visible).to_have_count(1)
    page.select_option("#kind", "")
    page.fill("#search", "LOOKS BRIGHT")
    expect(visible).to_have_count(2)
    page.fill("#search", "image-01")
    expect(page.locator("#status")).to_have_text("1 of 6 decided; 1 shown")
    page.click("#accept")
    page.fill("#search", "")
    page.select_option("#state", "decided")
    expect(visible).to_have_count(2)
    page.select_option("#state", "undecided")
    expect(visible).to_have_count(4)
    item(page, "image-05.png").locator("select").select_option("relabel")
    expect(page.locator("#status")).to_contain_text("3 of 6 decided; 1 without a label")
    assert [row["id"] for row in saved(page, tmp_path / "r.csv") if row["action"] == "relabel"] == [
        "image-01.png",
        "image-05.png",
    ]


def test_without_scripts_the_findings_are_there_as_text(page_file: Path, opened: Callable[..., Page]) -> None:
    page = opened(page_file, java_script_enabled=False)
    assert page.locator(".findings li:visible").count() == 6
    assert page.get_by_text(HOSTILE).first.is_visible() and page.get_by_text(QUOTED).is_visible()
    assert page.locator("img[onerror]").count() == 0
    assert page.locator("#bar, #accept").first.is_hidden()


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(page_file: Path, opened: Callable[..., Page], width: int) -> None:
    page = opened(page_file, viewport={"width": width, "height": 800})
    item(page, QUOTED).locator("select").select_option("relabel")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
