"""Folders of images, and submissions, such as RAMP kits have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from submissions import IDENTITY, NOTING


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen gray images and fourteen coloured ones, of 9 x 7 pixels."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(14):
        Image.fromarray(rng.integers(0, 256, (9, 7), np.uint8)).save(folder / f"gray {number}.png")
        Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8)).save(folder / f"cölor {number}.png")
    return folder


@pytest.fixture
def submission(tmp_path: Path) -> Callable[..., Path]:
    """Writes a submission."""

    def write(preprocessor: str = IDENTITY, classifier: str = NOTING, name: str = "one") -> Path:
        folder = tmp_path / "submissions" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "image_preprocessor.py").write_text(preprocessor)
        (folder / "batch_classifier.py").write_text(classifier)
        return folder

    return write
