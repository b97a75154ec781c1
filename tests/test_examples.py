"""What README shows does work, and the demo computes nothing twice."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cli

ROOT = Path(__file__).parent.parent


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_of_readme_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for number, block in enumerate(blocks):
        (tmp_path / f"example {number}.py").write_text(block)
    extraction, transformer = (run(tmp_path, f"example {number}.py") for number in range(2))
    assert extraction.startswith("(1797, ")
    assert float(transformer) > 0.95
    assert len(blocks) == 2


def test_the_options_of_readme_exist(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (ROOT / "README.md").read_text() + (ROOT / "docs" / "guide.md").read_text()
    cache = ("list", "info", "verify", "compact", "prune", "shrink", "export", "view", "merge")
    commands = [
        ["explore"],
        ["extract"],
        ["train-head"],
        ["fine-tune"],
        ["sweep"],
        ["evaluate"],
        ["predict"],
        ["export"],
        *(["cache", name] for name in cache),
        *(["ramp", name] for name in ("kit", "init", "test", "leaderboard")),
    ]
    for command in commands:
        with pytest.raises(SystemExit):
            cli.main([*command, "--help"])
    helps = capsys.readouterr().out
    readme = re.sub(r"ramp-test .*", "", readme)  # not ours
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", readme)):
        assert option in helps, option


@pytest.mark.slow
def test_the_second_demo_computes_no_rows(tmp_path: Path) -> None:
    first = run(tmp_path, str(ROOT / "examples" / "demo.py"))
    second = run(tmp_path, "-c", "from examples.demo import *; extract_all(load('digits'))")  # the rest is the same
    assert "glyphnet: 7188 rows computed, 0 reused" in first
    assert "glyphnet: 0 rows computed, 7188 reused" in second
    assert "random weights: 0 rows computed, 7188 reused" in second
    for name in ("digits.png", "confusion.png", "labels.png"):
        assert (tmp_path / "demo" / name).read_bytes().startswith(b"\x89PNG")

    scores = json.loads((tmp_path / "demo" / "scores.json").read_text())
    for protocol, least in (("5-fold cross-validation", 0.992), ("10 labelled images per class", 0.965)):
        accuracy = {name: summary["accuracy"]["mean"] for name, summary in scores[protocol].items()}
        assert accuracy["glyphnet"] >= least
        assert accuracy["glyphnet"] > accuracy["random weights"] > accuracy["raw pixels"] - 0.02
