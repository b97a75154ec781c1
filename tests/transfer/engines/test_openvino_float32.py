"""Models of OpenVINO keep float32 by themselves, on CPUs that would compute in bfloat16."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

openvino = pytest.importorskip("openvino")
if keras.backend.backend() != "tensorflow":
    pytest.skip("nets are converted by way of TensorFlow", allow_module_level=True)

from transfer.engines.openvino_engine import save_converted  # noqa: E402
from transfer.engines.openvino_float32 import keep_float32  # noqa: E402

BFLOAT16 = {"INFERENCE_PRECISION_HINT": "bf16"}
HAS_BFLOAT16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
layers = keras.layers


def _residual(x: Any) -> Any:
    """Poolings, a shortcut with strides, and normalisation that is folded into convolutions."""
    x = layers.MaxPooling2D(3, 2, padding="same")(layers.Conv2D(8, 3, padding="same", activation="relu")(x))
    shortcut = layers.BatchNormalization()(layers.Conv2D(12, 1, strides=2)(x))
    x = layers.BatchNormalization()(layers.Conv2D(12, 3, strides=2, padding="same")(x))
    return layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Add()([x, shortcut])))


def _gray(x: Any) -> Any:
    """One channel, which the conversion moves before the rows and columns."""
    x = layers.Conv2D(1, 1)(x)
    return layers.Flatten()(layers.AveragePooling2D(4)(layers.Conv2D(4, 5, activation="elu")(x)))


def _rows_of_dense(x: Any) -> Any:
    """Dense layers over maps, with and without what is added."""
    x = layers.LayerNormalization()(layers.Conv2D(16, 4, strides=4)(x))
    x = layers.Dense(16, use_bias=False)(layers.Dense(32)(x))
    return layers.Dense(12)(layers.Flatten()(layers.Dense(3)(x)))


@pytest.mark.parametrize("body", [_residual, _gray, _rows_of_dense])
def test_what_is_computed_is_computed_in_float32(tmp_path: Path, rng: np.random.Generator, body: Any) -> None:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((32, 32, 3), dtype="uint8")
    x = body(layers.Rescaling(1 / 127.5, -1)(inputs))
    model = keras.Model(inputs, layers.Dense(5)(x))
    pixels = rng.integers(0, 256, (7, 32, 32, 3), np.uint8)
    expected = keras.ops.convert_to_numpy(model(pixels))

    save_converted(model, ["answers"], tmp_path / "plain.xml")
    for suffix in (".xml", ".bin"):
        shutil.copy(tmp_path / f"plain{suffix}", tmp_path / f"kept{suffix}")
    keep_float32(tmp_path / "kept.xml")
    assert {file.name for file in tmp_path.iterdir()} == {"plain.xml", "plain.bin", "kept.xml", "kept.bin"}

    def error(name: str, settings: dict[str, str]) -> float:
        found = openvino.Core().compile_model(str(tmp_path / name), "CPU", settings)(pixels)["answers"]
        return float(np.abs(found - expected).max() / np.abs(expected).max())

    for settings in ({}, BFLOAT16, {"INFERENCE_PRECISION_HINT": "f32"}):
        assert error("kept.xml", settings) < 1e-5
    if HAS_BFLOAT16:
        assert error("plain.xml", BFLOAT16) > 1e-3
