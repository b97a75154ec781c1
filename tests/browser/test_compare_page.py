"""The page of runs beside each other in a real browser: every run has a line of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page

import layertap as lt

RUNS = 7  # one more than there are colours
LOOK = """of => [...document.querySelectorAll(of)].map((one) => {
  const style = getComputedStyle(one);
  return [style.stroke, style.strokeDasharray, style.backgroundColor, style.maskImage].join("; ");
})"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    digits = lt.load_dataset("digits").select(np.arange(60))
    features = lt.extract(digits, "glyphnet", layers=["block4_pool"], cache=folder / "features", progress=False)
    options = {"cv": 2, "map": None, "progress": False}
    runs = [lt.train_head(digits, features, "ridge", out=folder / f"run {at}", **options) for at in range(RUNS)]
    lt.compare(digits, *runs, cache=features.cache, progress=False).write_page(folder / "compare.html")
    return folder / "compare.html"


def test_seven_runs_have_lines_that_differ_and_a_legend_of_the_same_look(
    file: Path, opened: Callable[..., Page]
) -> None:
    page = opened(file)
    page.get_by_role("tab", name="Confidence").click()
    for parts in (".chart polyline", ".legend span"):
        looks = page.evaluate(LOOK, parts)
        assert len(set(looks)) == len(looks) == RUNS
    assert (page.locator(".legend li").last.text_content() or "").endswith(f"run {RUNS - 1}")
    assert page.locator("#scores th", has_text="difference in accuracy").count() == 1


@pytest.mark.parametrize("width", [390, 1280])
def test_no_tab_is_wider_than_the_screen(file: Path, opened: Callable[..., Page], width: int) -> None:
    page = opened(file, viewport={"width": width, "height": 800})
    for tab in page.get_by_role("tab").all():
        tab.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab.text_content()
