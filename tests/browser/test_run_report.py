"""The report of a run in a real browser: cells of the matrix open their images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, expect

from heads.evaluation.cross_validation import Evaluation
from layertap.report.mistakes import confusions
from layertap.report.run_report import write_report
from transfer.data.datasets import Dataset
from transfer.data.images import DEFAULT, ArraySource

HOSTILE = "</script><img src=x onerror=alert(1)>"


def test_cells_open_images_with_what_they_look_like(tmp_path: Path, opened: Callable[..., Page]) -> None:
    classes = tuple(sorted((HOSTILE, "bee", "cat")))
    truth = np.array(classes)[[0, 0, 1, 1, 2, 2]]
    predicted = np.array(classes)[[0, 1, 1, 0, 2, 0]]
    pixels = [np.full((8, 8, 3), 40 * number, np.uint8) for number in range(6)]
    sources = tuple(ArraySource(one, str(number)) for number, one in enumerate(pixels))
    data = Dataset("six", tuple(f"image-{number}" for number in range(6)), sources, truth)
    outputs = np.full((6, 3), 0.1)
    outputs[np.arange(6), np.searchsorted(classes, predicted)] = 0.8
    rows = [np.array([0, 2, 4]), np.array([1, 3, 5])]
    evaluation = Evaluation(
        rows=rows,
        truth=[truth[part] for part in rows],
        predicted=[predicted[part] for part in rows],
        outputs=[outputs[part] for part in rows],
    )
    angles = np.arange(6) / 4
    found = confusions(data, classes, evaluation, np.stack([np.cos(angles), np.sin(angles)], 1), 1, DEFAULT)
    file = write_report(tmp_path, "Run", {"valid": {"accuracy": 0.5}}, {}, mistakes=found)
    page = opened(file, viewport={"width": 390, "height": 800})
    items = page.locator(".mistakes li")
    expect(items).to_have_count(3)
    # The nearest of those that the other fold held out: this one's head was trained on them.
    near = page.locator('[data-pair="2-0"] .near figure')
    assert [one.get_attribute("title") for one in near.all()] == ["image-4", "image-2", "image-0"]
    page.get_by_role("button", name="cat taken for").click()
    expect(page.locator(".mistakes li:visible")).to_have_count(1)
    expect(page.locator("#mistakes-status")).to_have_text(f"cat taken for {HOSTILE}: 1; 1 shown.")
    page.get_by_role("button", name="cat taken for").click()
    expect(page.locator(".mistakes li:visible")).to_have_count(3)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
