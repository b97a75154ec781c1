"""Pictures are drawn for few classes and many, whatever the classes are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from heads import plots


def drawn(file: Path) -> np.ndarray:
    """The pixels of a PNG file, which must be of some size and show something."""
    with Image.open(file) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert min(pixels.shape[:2]) > 100
    assert file.stat().st_size > 3000
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
    return pixels


def counts(k: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 9, (k, k)) + 20 * np.eye(k, dtype=int)


@pytest.mark.parametrize(
    "classes",
    [
        ["cat", "dog"],
        ["only"],
        [f"{number}" for number in range(10)],
        [f"a species with a name that is far too long for a picture, number {number}" for number in range(80)],
    ],
    ids=len,
)
def test_confusion_is_drawn(tmp_path: Path, classes: list[str]):
    plots.confusion(tmp_path / "confusion.png", classes, counts(len(classes)), "data: images held out")
    assert max(drawn(tmp_path / "confusion.png").shape) <= 1500


def test_class_without_rows_is_drawn(tmp_path: Path):
    plots.confusion(tmp_path / "confusion.png", ["cat", "dog"], np.array([[3, 1], [0, 0]]), "none of the dogs")
    drawn(tmp_path / "confusion.png")


def test_confusion_shows_the_counts(tmp_path: Path):
    for name, values in (("one", [[9, 1], [2, 8]]), ("other", [[8, 2], [1, 9]])):
        plots.confusion(tmp_path / f"{name}.png", ["cat", "dog"], np.array(values), "data")
    assert not np.array_equal(drawn(tmp_path / "one.png"), drawn(tmp_path / "other.png"))


@pytest.mark.parametrize("name", ["$_$", r"$\frac$", "a_b^c", "100%", r"\alpha", "{", "$"])
def test_names_are_text_and_not_formulas(tmp_path: Path, name: str):
    plots.confusion(tmp_path / "confusion.png", [name, "dog"], counts(2), f"{name}: images held out")
    drawn(tmp_path / "confusion.png")


def test_learning_curves_are_drawn(tmp_path: Path):
    curves = {"logistic": [(0.5, 0.1), (0.7, 0.05), (0.9, 0.01)], "mlp": [(0.4, 0.1), (0.6, 0.05), (0.95, 0.0)]}
    plots.learning_curves(tmp_path / "curves.png", [1, 5, 20], curves, "digits")
    drawn(tmp_path / "curves.png")


def test_no_curve_is_left_out(tmp_path: Path):
    curves = {f"layer {number}": [(0.1 * number, 0.01), (0.1 * number + 0.1, 0.01)] for number in range(7)}
    plots.learning_curves(tmp_path / "all.png", [1, 10], curves, "layers")
    plots.learning_curves(tmp_path / "fewer.png", [1, 10], dict(list(curves.items())[:-1]), "layers")
    assert not np.array_equal(drawn(tmp_path / "all.png"), drawn(tmp_path / "fewer.png"))


@pytest.mark.parametrize("n", [1, 10, 13])
@pytest.mark.parametrize("channels", [1, 3])
def test_panel_is_drawn(tmp_path: Path, n: int, channels: int):
    images = list(np.random.default_rng(0).integers(0, 256, (n, 12, 9, channels), dtype=np.uint8))
    plots.panel(tmp_path / "panel.png", images, [f"{number}" for number in range(n)], "images")
    with Image.open(tmp_path / "panel.png") as picture:
        assert picture.width > 500
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 20
