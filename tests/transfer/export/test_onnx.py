"""Models in ONNX: what TensorFlow compiles by itself, and what ONNX has no operation for, computes the same."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from transfer.export.formats import FORMATS


@pytest.mark.slow
@pytest.mark.usefixtures("needs_tensorflow")
def test_grouped_convolutions_and_gelu_are_written(tmp_path: Path) -> None:
    """As of ConvNeXt, and of transformers; functions of TensorFlow are compiled again afterwards."""
    for package in ("tf2onnx", "onnxruntime"):
        pytest.importorskip(package)
    import tensorflow as tf

    layers = keras.layers
    keras.utils.set_random_seed(0)
    pixels = keras.Input((12, 12, 3), dtype="uint8")
    x = layers.Conv2D(8, 3, strides=2)(layers.Rescaling(1 / 255)(pixels))
    x = layers.Conv2D(8, 3, padding="same", groups=8)(x)
    x = layers.Conv2D(16, 3, padding="same", groups=4, activation="gelu")(x)
    rows = layers.MultiHeadAttention(2, 4)(*[layers.Reshape((25, 16))(x)] * 2)
    model = keras.Model(pixels, layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling1D()(rows)))
    images = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3), np.uint8)
    FORMATS["onnx"].write(model, tmp_path / "model.onnx")
    assert not tf.config.functions_run_eagerly()
    found = FORMATS["onnx"].read(tmp_path / "model.onnx")(images)
    np.testing.assert_allclose(found, model.predict(images, verbose=0), atol=1e-6)
