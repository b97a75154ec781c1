"""Batches that do not divide among the threads of TensorFlow, whose own kernels fail at some of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="it is TensorFlow's oneDNN that fails")
def test_a_strided_kernel_of_few_channels_is_trained_by_batches_of_any_size(tmp_path: Path):
    layers, inputs = keras.layers, keras.Input((24, 24, 3))
    x = layers.Conv2D(12, 3, padding="same", activation="relu", name="first")(layers.Rescaling(1 / 255)(inputs))
    beside = layers.Conv2D(16, 1, strides=2, padding="same", name="beside")(x)
    x = layers.Conv2D(16, 3, strides=2, padding="same", name="second")(x)
    x = layers.GlobalAveragePooling2D(name="pooled")(layers.Add(name="sum")([x, beside]))
    keras.Model(inputs, x).save(tmp_path / "net.keras")
    rng = np.random.default_rng(0)
    for number in range(19):
        folder = tmp_path / "data" / f"class {number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 128 + 127 * (number % 2), (24, 24, 3), np.uint8)).save(folder / f"{number}.png")
    command = ["fine-tune", "data", "--net", "net.keras", "--unfreeze-from", "second", "--epochs", "3", "--cv", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "cli", *command, "--batch-size", "3", "--no-prefix-cache", "--out", "run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_NUM_INTRAOP_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model.keras").is_file()
