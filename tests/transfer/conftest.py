"""Small images, data sets and nets that several tests of `transfer` share. TensorFlow is never needed here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """Write a random image, always the same for the same `seed`, `side` and `mode`."""

    def write(path: Path, seed: int, side: int = 12, mode: str = "L") -> Path:
        shape = (side, side) if mode == "L" else (side, side, 3)
        pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, "PNG")
        return path

    return write


@pytest.fixture
def class_folder(tmp_path: Path, write_image: Callable[..., Path]) -> Path:
    """Two classes of four distinct gray images each."""
    for number in range(8):
        write_image(tmp_path / "data" / "ab"[number % 2] / f"{number}.png", number)
    return tmp_path / "data"


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python code in a process of its own, at the root of the repository."""

    def run(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture
def needs_tensorflow() -> None:
    """Skip where Keras computes with something else, or TensorFlow is not installed."""
    pytest.importorskip("tensorflow")
    import keras

    if keras.backend.backend() != "tensorflow":
        pytest.skip("compares with what Keras draws on TensorFlow")


@pytest.fixture
def save_net(tmp_path: Path) -> Callable[..., object]:
    """Save a Keras model and give the `Net` of its file."""

    def save(model: object, name: str = "toy", **options: object) -> object:
        from transfer.nets.catalogue import Net

        file = tmp_path / f"{name}.keras"
        model.save(file)
        return Net(str(file), **options)

    return save


@pytest.fixture
def features_of() -> Callable[..., list[np.ndarray]]:
    """Features of uint8 pixels at some layers of a `Backbone`, through the engine."""

    def compute(
        backbone: object, pixels: np.ndarray, *layers: str, pooling: str = "none", batch_size: int | None = None
    ) -> list[np.ndarray]:
        from transfer.engines.keras_engine import KerasEngine

        own = backbone.net.info.preprocessing if backbone.net.info else "none"
        readouts = [(backbone.find(layer), pooling) for layer in layers]
        batch_size = batch_size or len(pixels)
        engine = KerasEngine(backbone.cut(readouts, backbone.net.preprocessing or own, pixels.shape[-1]), batch_size)
        parts = [engine.start(pixels[start : start + batch_size])() for start in range(0, len(pixels), batch_size)]
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    return compute
