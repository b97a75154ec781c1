"""Nets that are quantised in their file, on processors that multiply int8 in sums that overflow."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.transfer.onnx_nets import SIDE, computed, onnx, onnx_model, save_onnx, small_onnx
from transfer.nets.catalogue import Net
from transfer.nets.openvino_files import quantised
from transfer.nets.suggestion import remarks_of

pytest.importorskip("openvino")
FEATURES = """
import sys
import numpy as np
from transfer.engines.openvino_files import OpenVinoFileFactory
from transfer.nets.catalogue import Net
from transfer.nets.openvino_files import quantised
from transfer.request import FeatureRequest

file, out = sys.argv[1:]
request = FeatureRequest(Net(file, preprocessing="none"), ("conv",), "none", prefix_tokens=None)
images, found = np.load(out), {}
for has_int8 in (False, True):
    quantised.multiplies_int8 = lambda: has_int8
    [found[str(has_int8)]] = OpenVinoFileFactory(request, "auto").make(images, len(images)).start(images)()
np.savez(out, **found)
"""


def quantised_onnx() -> Any:
    """A convolution of bright pixels with weights of one sign, both rounded to eight bits."""
    kernel = np.random.default_rng(0).integers(64, 128, (8, 3, 3, 3)).astype(np.int8)
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["whole"]),
        onnx.helper.make_node("DequantizeLinear", ["whole", "scale", "zero"], ["rounded"]),
        onnx.helper.make_node("DequantizeLinear", ["kernel", "step"], ["weights"]),
        onnx.helper.make_node("Conv", ["rounded", "weights"], ["conv"], pads=[1, 1, 1, 1]),
        onnx.helper.make_node("Relu", ["conv"], ["relu"]),
    ]
    constants = {"scale": np.array(0.9, "float32"), "zero": np.array(0, "uint8"), "step": np.array(1 / 128, "float32")}
    model = onnx_model(nodes, {"image": ["n", 3, SIDE, SIDE]}, ["relu"], {**constants, "kernel": kernel})
    model.opset_import[0].version = 19  # the first that the package onnx computes
    return model


def test_a_note_says_that_a_quantised_net_is_computed_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounded = Net(str(save_onnx(quantised_onnx(), tmp_path / "rounded.onnx")), preprocessing="none")
    plain = Net(str(save_onnx(small_onnx(), tmp_path / "plain.onnx")), preprocessing="none")
    for has_int8, count in ((False, 1), (None, 1), (True, 0)):
        monkeypatch.setattr(quantised, "multiplies_int8", lambda has=has_int8: has)
        notes, warnings = remarks_of([rounded, plain, rounded])
        assert len(notes) == count and not warnings
        assert all(note.startswith(f"{rounded.name} is quantised to 8 bits: it is computed in ") for note in notes)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="instructions of x86 processors")
def test_features_of_a_quantised_net_do_not_overflow_without_vnni(tmp_path: Path) -> None:
    model = quantised_onnx()
    file, out = save_onnx(model, tmp_path / "net.onnx"), tmp_path / "arrays.npz"
    images = np.random.default_rng(1).integers(128, 256, (2, SIDE, SIDE, 3)).astype(np.uint8)
    with out.open("wb") as stream:
        np.save(stream, images)
    # The library that multiplies takes the instructions of an older processor.
    older = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    subprocess.run([sys.executable, "-c", FEATURES, str(file), str(out)], check=True, env=older)
    [exact] = computed(model, images.transpose(0, 3, 1, 2).astype("float32"), "conv")
    with np.load(out) as found:
        differences = {
            has_int8: float(np.abs(rows.transpose(0, 3, 1, 2) - exact).max() / np.abs(exact).max())
            for has_int8, rows in found.items()
        }
    assert differences["False"] <= 1e-5
    assert differences["True"] > 0.05
