"""Images with things in them, and the annotation files that COCO and YOLO would have for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

WIDTH, HEIGHT = 40, 30


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three images of noise, 40 x 30 pixels."""
    folder = tmp_path / "coco" / "photos"
    folder.mkdir(parents=True)
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def content() -> dict[str, Any]:
    """Two boxes of cats in the first image, a dog in the second, and nothing in the third."""
    return {
        "images": [{"id": 10 + i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in range(3)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 10, "category_id": 1, "bbox": [2, 3, 10, 8], "iscrowd": 0},
            {"id": 2, "image_id": 10, "category_id": 1, "bbox": [20.4, 10.6, 12.2, 9.0], "iscrowd": 0},
            {"id": 3, "image_id": 11, "category_id": 7, "bbox": [0, 0, 40, 30], "iscrowd": 0},
        ],
    }


@pytest.fixture
def coco(photos: Path) -> Callable[..., str]:
    """Write a COCO file beside the images; its path."""

    def write(content: Any, name: str = "instances_train2017.json") -> str:
        file = photos / name
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(file)

    return write
