"""Anomalous images are shown beside their heat maps: what is flagged, what is missed, and false alarms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from feature_cache.spec import FeatureSpec
from layertap.report.tabs.anomalies import heat_view
from transfer.data.datasets import Dataset
from transfer.data.images import FileSource

SPEC = FeatureSpec(net="glyphnet", weights="sha256:0", layer="block4_pool", size=(32, 32))
SCORES = np.array([1.5, 0.4, 2.5, 0.9, 1.2])
LABELS = np.array(["good", "good", "crack", "crack", "hole"])


@pytest.fixture
def parts(tmp_path: Path) -> Dataset:
    files = [tmp_path / f"{number}.png" for number in range(len(LABELS))]
    for number, file in enumerate(files):
        Image.new("L", (40, 40), 40 * number).save(file)
    return Dataset("parts", tuple(file.name for file in files), tuple(map(FileSource, files)), LABELS)


def shown(parts: Dataset, *, learned: bool) -> list[dict[str, Any]]:
    def heat_of(rows: np.ndarray) -> np.ndarray:
        asked.append(rows.tolist())
        return np.full((len(rows), *SPEC.size), 2.0)

    asked: list[list[int]] = []
    sections = heat_view(parts, SPEC, np.arange(5), SCORES, LABELS != "good", heat_of, "good", learned=learned)
    assert asked == ([[2, 4], [3]] if learned else [[2, 4], [3], [0]])
    return sections


def test_the_highest_scores_come_first_each_beside_its_heat_map(parts: Dataset) -> None:
    sections = shown(parts, learned=False)
    assert [section["heading"] for section in sections] == [
        "Anomalies that are flagged: 2",
        "Anomalies that are missed: 1",
        "Images of good that are flagged: 1",
    ]
    images = [image for section in sections for image in section["images"]]
    assert [(one["id"], one["class"], one["score"]) for one in images] == [
        ("2.png", "crack", "2.50"),
        ("4.png", "hole", "1.20"),
        ("3.png", "crack", "0.90"),
        ("0.png", "good", "1.50"),
    ]
    assert all(one["heat_url"].startswith("data:image/webp") and one["heat_url"] != one["url"] for one in images)


def test_images_that_the_head_has_learned_have_no_heat_map(parts: Dataset) -> None:
    last = shown(parts, learned=True)[-1]
    assert [(one["id"], one["heat_url"]) for one in last["images"]] == [("0.png", "")]
    assert "has learned all images of good" in last["note"]


def test_an_image_that_has_been_deleted_since_is_left_out(parts: Dataset, tmp_path: Path) -> None:
    (tmp_path / "2.png").unlink()
    assert [one["id"] for one in shown(parts, learned=False)[0]["images"]] == ["4.png"]
