"""An ONNX file as a net on the command line: everything but training it, and neither Keras nor TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.layertap.commands.conftest import ROOT
from tests.transfer.onnx_nets import in_another_file, save_onnx, small_onnx

pytest.importorskip("openvino")
PROGRAM = """
import json, sys
import cli
net = ["--net", "net.onnx", "--preprocessing", "torch", "--cache", "cache"]
judged = ["--head", "ridge", "--cv", "2", "--quiet"]
commands = [
    ["extract", "data", *net, "--layer", "relu", "--layer", "biased"],
    ["train-head", "data", *net, "--layer", "relu", "--layer", "biased", *judged, "--out", "run"],
    ["predict", "run", "data/dark/0.png", "--cache", "other"],
    ["evaluate", "run", "data", "--cache", "other"],
    ["sweep", "data", *net, *judged, "--out", "sweep"],
    ["fine-tune", "data", "--from-head", "run", "--cache", "cache", "--out", "tuned"],
    ["fine-tune", "data", *net, "--out", "tuned"],
    ["export", "run", "data", "--to", "keras", "--out", "model.keras"],
]
statuses = []
for words in commands:
    try:
        statuses.append(cli.main(words))
    except SystemExit as stop:
        statuses.append(stop.code)
print(json.dumps([statuses, sorted({"keras", "tensorflow"} & set(sys.modules))]), file=sys.stderr)
"""


@pytest.mark.slow
def test_runs_on_an_onnx_file_load_neither_keras_nor_tensorflow(tmp_path: Path, data: Path) -> None:
    save_onnx(small_onnx(), tmp_path / "net.onnx")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    *lines, last = done.stderr.splitlines()
    assert json.loads(last) == [[0, 0, 0, 0, 0, 2, 2, 2], []], done.stderr
    refused = [line for line in lines if "only a net of Keras" in line]
    assert ["can be fine-tuned" in line for line in refused] == [True, True, False]
    assert "can be exported with its head" in refused[-1]
    assert not (tmp_path / "tuned").exists()
    assert not (tmp_path / "model.keras").exists()


def test_what_cannot_be_computed_is_one_line_and_nothing_is_written(
    tmp_path: Path, data: Path, mistake: Callable[..., str]
) -> None:
    whole = save_onnx(small_onnx(), tmp_path / "net.onnx")
    (tmp_path / "cut.onnx").write_bytes(whole.read_bytes()[:500])
    save_onnx(in_another_file("../weights.bin"), tmp_path / "outside.onnx")
    for options, message in (
        (("net.onnx", "--layer", "conv_kernel"), "has no layer 'conv_kernel'"),
        (("net.onnx", "--layer", "relu", "--pool", "cls"), "is no row of tokens"),
        (("net.onnx", "--layer", "relu", "--engine", "keras"), "--engine keras does not compute net.onnx"),
        (("net.onnx", "--size", "200000"), "is too large"),
        (("cut.onnx",), "is no ONNX file, or it is cut short"),
        (("outside.onnx",), "takes weights from '../weights.bin', which may lie outside its folder"),
    ):
        assert message in mistake("extract", data, "--net", *options)
