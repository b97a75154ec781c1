"""Training on several devices, each with its share of every batch."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Fine-tune twice, stopped in the middle once; then compute features of the tuned net in the same process.
COMMANDS = """
import os, signal, sys
os.chdir(sys.argv[1])
import cli
from transfer.finetune.network import Network
step, taken = Network.step, []
def stopped(*arguments):
    taken.append(1)
    if len(taken) == 4:
        signal.raise_signal(signal.SIGTERM)
    return step(*arguments)
Network.step = stopped
tune = ["fine-tune", "data", "--epochs", "2", "--batch-size", "7", "--inner", "0.2", "--learning-rate", "1e-3"]
kept = [*tune, "--unfreeze-from", "block3_conv1", "--out", "kept"]
assert cli.main(kept) == 143
assert cli.main(kept) == 0
views = ["--views", "2", "--augment", "flip"]
pixels = ["--layer", "block4_pool", "--no-prefix-cache", "--inner", "0", "--out", "pixels"]
assert cli.main([*tune, *views, *pixels]) == 0
if sys.argv[2] == "2":
    assert cli.main(["extract", "data", "--net", "kept"]) == 0
    assert cli.main(["evaluate", "kept", "data"]) == 0
"""


@pytest.mark.skipif(not find_spec("jax"), reason="Keras distributes on JAX alone")
def test_two_devices_take_the_steps_of_one(
    tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    rng, metrics = np.random.default_rng(0), []
    for number in range(26):
        name = ("dark", "bright")[number % 2]
        (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 160, (12, 12), np.uint8) + np.uint8(number % 2 * 60)
        Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        (folder / "data").symlink_to(tmp_path / "data")
        flags = f"--xla_force_host_platform_device_count={devices}"
        done = run_python(COMMANDS, folder, devices, KERAS_BACKEND="jax", XLA_FLAGS=flags)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("2 devices share each step.\n") == (3 if devices == 2 else 0)
        assert (folder / "kept" / "model.keras").exists()
        metrics.append([json.loads((folder / run / "metrics.json").read_text()) for run in ("kept", "pixels")])
    for one, two in zip(*metrics, strict=True):
        stages = [[epoch for stage in run["trainings"][0]["stages"] for epoch in stage] for run in (one, two)]
        assert sum(len(epoch.get("steps", ())) for epoch in stages[0]) >= 6
        for epoch, same in zip(*stages, strict=True):
            np.testing.assert_allclose(epoch.get("steps", []), same.get("steps", []), atol=1e-4)
            assert epoch.get("valid_loss", 0) == pytest.approx(same.get("valid_loss", 0), abs=1e-4)
        for part in ("train", "valid"):
            for score in ("accuracy", "nll"):
                assert one["summary"][part][score]["mean"] == pytest.approx(
                    two["summary"][part][score]["mean"], abs=1e-4
                )
