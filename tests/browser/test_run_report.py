"""The page of a run in a real browser: tabs, cells that open images, thresholds, curves and the map."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from feature_cache.spec import FeatureSpec
from heads.evaluation.cross_validation import Evaluation
from layertap.analysis.projections import Projection
from layertap.report.mistakes import Confusions, confusions
from layertap.report.run_pictures import RunResults, write_page
from layertap.report.run_report import Tabs, write_report
from layertap.report.tabs.feature_map import FeatureMapPicture
from layertap.run_config import FeatureSource, HeadConfig, RunConfig
from transfer.data.datasets import Dataset, Unreadable
from transfer.data.images import DEFAULT, ArraySource

HOSTILE = "</script><img src=x onerror=alert(1)>"
CLASSES = tuple(sorted((HOSTILE, "bee", "cat")))
TABS = ["Scores", "Mistakes", "Confidence", "Map", "Data set", "Cost", "Recipe"]
IMAGES = 30


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
        trained=[np.array([3, 5]), rows[0]],
    )
    angles = np.arange(6) / 4
    found = confusions(data, classes, evaluation, np.stack([np.cos(angles), np.sin(angles)], 1), 1, DEFAULT)
    file = write_report(tmp_path, "Run", {"valid": {"accuracy": 0.5}}, {}, tabs=Tabs(found))
    page = opened(file, viewport={"width": 390, "height": 800})
    page.get_by_role("tab", name="Mistakes").click()
    items = page.locator(".mistakes li")
    expect(items).to_have_count(3)
    # The nearest of those that the head of this fold was trained on; image-1 was not among them.
    near = page.locator('[data-pair="2-0"] .near figure')
    assert [one.get_attribute("title") for one in near.all()] == ["image-4", "image-2", "image-0"]
    page.get_by_role("button", name="cat taken for").click()
    expect(page.locator(".mistakes li:visible")).to_have_count(1)
    expect(page.locator("#mistakes-status")).to_have_text(f"cat taken for {HOSTILE}: 1; 1 shown.")
    page.get_by_role("button", name="cat taken for").click()
    expect(page.locator(".mistakes li:visible")).to_have_count(3)
    page.get_by_role("button", name="bee predicted right").click()
    expect(page.locator(".mistakes")).to_be_hidden()
    expect(page.locator(".gallery li:visible")).to_contain_text(["image-2"])
    page.get_by_role("button", name="Show all").click()
    expect(page.locator(".mistakes li:visible")).to_have_count(3)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_of_many_classes_the_most_frequent_mistakes_open_images(tmp_path: Path, opened: Callable[..., Page]) -> None:
    classes = tuple(f"class {number:02d}" for number in range(31))
    counts = np.diag(np.full(31, 5))
    counts[3, 4], counts[4, 3], counts[7, 8] = 2, 9, 1
    image = {"id": "a.png", "class": classes[4], "url": "data:,", "said": "predicted", "neighbors": []}
    found = Confusions(classes, counts, [{**image, "pair": "4-3"}, {**image, "pair": "3-4"}])
    page = opened(write_report(tmp_path, "Run", {"valid": {"accuracy": 0.5}}, {}, tabs=Tabs(found)))
    page.get_by_role("tab", name="Mistakes").click()
    assert page.locator(".list th").all_text_contents() == [
        "class 04 → class 03",
        "class 03 → class 04",
        "class 07 → class 08",
    ]
    page.get_by_role("button", name="class 04 taken for class 03: 9").click()
    expect(page.locator(".mistakes li:visible")).to_have_count(1)
    page.get_by_role("button", name="Show all").click()
    expect(page.locator(".mistakes li:visible")).to_have_count(2)


@pytest.fixture(scope="module")
def results() -> RunResults:
    """Thirty images in two folds; every fifth one is mistaken, and less sure than the others."""
    number = np.arange(IMAGES)
    truth = np.array(CLASSES)[number % 3]
    predicted = np.array(CLASSES)[np.where(number % 5 == 4, number + 1, number) % 3]
    pixels = np.random.default_rng(0).integers(0, 255, (IMAGES, 8, 8, 3), np.uint8)
    ids = tuple(f"image-{one:02d}.png" for one in number.tolist())
    sources = tuple(ArraySource(one, name) for one, name in zip(pixels, ids, strict=True))
    confidence = np.where(number % 5 == 4, 0.6, 0.95)
    outputs = np.repeat((1 - confidence)[:, None] / 2, 3, axis=1)
    outputs[number, np.searchsorted(CLASSES, predicted)] = confidence
    rows = [np.flatnonzero(number % 2 == fold) for fold in (0, 1)]
    scores = {"accuracy": 0.8, "n": IMAGES // 2, "fit_seconds": 0.5, "predict_seconds": 0.1}
    evaluation = Evaluation(
        folds=[{"features": "block4_pool", "params": {}, "train": scores, "valid": scores}] * 2,
        truth=[truth[part] for part in rows],
        predicted=[predicted[part] for part in rows],
        outputs=[outputs[part] for part in rows],
        rows=rows,
    )
    spec = FeatureSpec(net="glyphnet", weights="sha256:0", layer="block4_pool", size=(32, 32))
    net = {"name": "glyphnet", "weights": None, "seed": 0, "preprocessing": None}
    config = RunConfig(
        (FeatureSource(spec, net),),
        HeadConfig("ridge", {}, fit_seconds=0.25),
        protocol={"cv": 2, "draws": 20, "seed": 0},
        data={"name": "thirty", "options": {"source": HOSTILE}},
    )
    places = np.stack([number % 6, number // 6], 1).astype(np.float32)
    digests = np.repeat(np.arange(IMAGES - 1, -1, -1, dtype=np.uint8)[:, None], 16, 1)
    digests[1] = digests[0]
    return RunResults(
        "thirty",
        "ridge",
        Dataset("thirty", ids, sources, truth),
        truth,
        CLASSES,
        places,
        evaluation,
        {"summary": evaluation.summary(), "folds": evaluation.folds, "extraction_seconds": 3.0},
        config,
        feature_map=FeatureMapPicture(Projection(number, places, ("across", "up"))),
        digests=digests,
        skipped=[Unreadable(HOSTILE, "it is empty", "it is empty")],
    )


@pytest.fixture(scope="module")
def file(results: RunResults, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("run") / "report.html"
    write_page(file, results)
    return file


def test_tabs_are_used_by_mouse_keys_and_address(file: Path, opened: Callable[..., Page]) -> None:
    page = opened(file)
    tabs, panels = page.get_by_role("tab"), page.locator("[data-tab]:visible")
    assert tabs.all_text_contents() == TABS
    expect(panels).to_have_count(1)
    tabs.nth(1).click()
    expect(page.locator("#mistakes")).to_be_visible()
    for key, panel in (
        ("ArrowRight", "confidence"),
        ("End", "recipe"),
        ("ArrowRight", "scores"),
        ("ArrowLeft", "recipe"),
    ):
        page.keyboard.press(key)
        expect(page.locator(f"#{panel}")).to_be_visible()
        expect(panels).to_have_count(1)
    assert page.url.endswith("#recipe")
    page.reload()
    expect(page.locator("#recipe")).to_be_visible()
    page.evaluate("location.hash = '#%'")  # is no address, and an error of the script would fail the test
    page.evaluate("location.hash = '#chart-%72oc'")
    expect(page.locator("#confidence")).to_be_visible()
    assert page.locator("img[onerror]").count() == 0


def test_a_threshold_is_moved_and_a_class_chosen(file: Path, opened: Callable[..., Page]) -> None:
    page = opened(file)
    page.get_by_role("tab", name="Confidence").click()
    said = page.locator("#threshold-said")
    expect(said).to_contain_text(
        "24 of 30 images are answered (80.0 %), and 100.0 % of the answers are right: 0 mistakes"
    )
    page.locator("#threshold-value").fill("30")
    expect(said).to_contain_text(
        "30 of 30 images are answered (100.0 %), and 80.0 % of the answers are right: 6 mistakes"
    )
    page.focus("#threshold-value")
    page.keyboard.press("End")
    expect(said).to_contain_text("Nothing is answered")
    line = page.locator("#chart-precision polyline.main")
    before = line.get_attribute("points")
    other = next(name for name in CLASSES if name != page.locator("#curve-of option:checked").text_content())
    page.select_option("#curve-of", label=other)
    assert line.get_attribute("points") != before


def test_the_map_is_drawn_when_its_tab_is_opened(file: Path, opened: Callable[..., Page]) -> None:
    page = opened(file)
    page.get_by_role("tab", name="Map").click()
    page.fill("#search", "image-0")
    expect(page.locator("#status")).to_have_text("10 images are found.")
    page.focus("#points")
    page.keyboard.press("n")
    expect(page.locator("#hover")).to_contain_text("image-00.png")
    size = page.evaluate("[document.getElementById('points').width, document.getElementById('points').clientWidth]")
    assert size[0] == size[1] > 200


def test_without_scripts_everything_is_there_but_what_moves(file: Path, opened: Callable[..., Page]) -> None:
    page = opened(file, java_script_enabled=False)
    for panel in ("scores", "mistakes", "confidence", "data-set", "cost", "recipe"):
        assert page.locator(f"#{panel} h2").first.is_visible()
    for table in page.locator("table:not(#map *):not(details *)").all():
        assert table.is_visible()
    assert page.locator(".chart:visible").count() == 6
    assert (
        page.locator("#map").is_hidden()
        and page.locator("#threshold").is_hidden()
        and page.get_by_role("tab").count() == 0
    )
    assert page.locator("#data-set").get_by_text("it is empty").is_visible()
    assert page.locator("#data-set").get_by_text("image-00.png", exact=False).first.is_visible()


@pytest.mark.parametrize("width", [390, 1280])
def test_no_tab_is_wider_than_the_screen(file: Path, opened: Callable[..., Page], width: int) -> None:
    page = opened(file, viewport={"width": width, "height": 800})
    for tab in page.get_by_role("tab").all():
        tab.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab.text_content()


def test_the_same_run_is_the_same_page(file: Path, results: RunResults, tmp_path: Path) -> None:
    write_page(tmp_path / "again.html", results)
    assert (tmp_path / "again.html").read_bytes() == file.read_bytes()


def test_all_tabs_are_seen_on_a_phone(file: Path, opened: Callable[..., Page]) -> None:
    page = opened(file, viewport={"width": 390, "height": 700})
    for tab in page.get_by_role("tab").all():
        box = tab.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 390
