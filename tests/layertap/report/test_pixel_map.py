"""The map of a data set by its pixels: who is near whom, what is known of each, and which images are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import layertap as lt
from layertap.report.explore import pixel_map as module
from layertap.report.explore.pixel_map import pixel_map


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Noise, dark and light by halves; the last one is a copy of the first."""
    rng = np.random.default_rng(0)
    for label, level in (("dark", 40), ("light", 200)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(6):
            pixels = np.clip(rng.normal(level, 20, (12, 10 + number)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    (tmp_path / "photos" / "light" / "copy.png").write_bytes((tmp_path / "photos" / "dark" / "0.png").read_bytes())
    return tmp_path / "photos"


def test_images_that_look_alike_are_near(photos: Path) -> None:
    survey = lt.explore(photos, progress=False)
    content = pixel_map([survey.data], survey.copies)
    assert content is not None
    across = content.projection.points[:, 0]
    light = np.array([name.startswith("light") and "copy" not in name for name in content.ids])
    assert across[light].max() < across[~light].min() or across[light].min() > across[~light].max()
    columns = content.columns
    assert list(columns) == ["class", "copies", "width", "kB", "lightness"]  # all are gray PNG files, and as high
    copies = [name for name, kind in zip(content.ids, columns["copies"], strict=True) if kind == "exact copy"]
    assert sorted(copies) == ["dark/0.png", "light/copy.png"]
    assert content.command.startswith("layertap explore selection.csv --images")


def test_two_data_sets_are_told_apart_and_copies_shown_first(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "affordable", lambda sources, most, least: 15)
    survey = lt.explore(photos, against=photos / "dark", progress=False)
    assert survey.against is not None
    content = pixel_map([survey.data, survey.against], survey.copies)
    assert content is not None
    assert len(content.ids) == 15
    assert (content.columns["copies"] == "exact copy").sum() == 13  # all of those in 'dark', twice, and the copy
    assert set(content.columns["data set"]) <= {str(photos), str(photos / "dark")}
    assert content.command == ""  # which would look for the images of both in one
    assert "15 of 19 images are shown, copies before all others." in content.notes


def test_very_few_images_have_no_map(photos: Path) -> None:
    data = lt.load_dataset(photos)
    survey = lt.explore(data.select(np.arange(4)), progress=False)
    assert pixel_map([survey.data], survey.copies) is None
