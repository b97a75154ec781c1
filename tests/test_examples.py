"""What README shows does work, the demo computes nothing twice, and the tutorial tells a true story."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from examples import notebook

ROOT = Path(__file__).parent.parent
TUTORIAL = str(ROOT / "examples" / "mnist_ramp.py")


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_python_of_readme_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for number, block in enumerate(blocks):
        (tmp_path / f"example {number}.py").write_text(block)
    extraction, transformer = (run(tmp_path, f"example {number}.py") for number in range(2))
    shape, accuracy = extraction.splitlines()
    assert shape == "(1797, 256)"
    assert float(accuracy) > 0.98
    assert float(transformer) > 0.95
    assert len(blocks) == 2


@pytest.mark.slow
def test_the_second_demo_computes_no_rows(tmp_path: Path) -> None:
    first = run(tmp_path, str(ROOT / "examples" / "demo.py"))
    second = run(tmp_path, "-c", "from examples.demo import *; extract_all(load('digits'))")  # the rest is the same
    assert "glyphnet: 5391 rows computed, 0 reused" in first
    assert "glyphnet: 0 rows computed, 5391 reused" in second
    assert "random weights: 0 rows computed, 5391 reused" in second
    for name in ("digits.png", "confusion.png", "labels.png"):
        assert (tmp_path / "demo" / name).read_bytes().startswith(b"\x89PNG")

    scores = json.loads((tmp_path / "demo" / "scores.json").read_text())
    accuracies = {
        title: {name: summary["accuracy"]["mean"] for name, summary in of_sources.items()}
        for title, of_sources in scores.items()
    }
    of_photographs = accuracies.pop("photographs: 1 labelled piece of each")
    assert of_photographs["efficientnetlite0"] > of_photographs["the same, random weights"] + 0.3
    least = {"digits: 3-fold cross-validation": 0.99, "digits: 10 labelled images per class": 0.965}
    assert accuracies.keys() == least.keys()
    for title, accuracy in accuracies.items():
        assert accuracy["glyphnet"] >= least[title]
        assert accuracy["glyphnet"] > accuracy["random weights"] > accuracy["raw pixels"] - 0.02


def test_the_notebook_is_that_of_the_script() -> None:
    script = notebook.SCRIPT.read_text(encoding="utf-8")
    kept = json.loads(notebook.NOTEBOOK.read_text(encoding="utf-8"))
    assert kept == notebook.notebook(script), "run: python examples/notebook.py"
    code = "\n".join("".join(cell["source"]) for cell in kept["cells"] if cell["cell_type"] == "code")
    assert ast.dump(ast.parse(code)) == ast.dump(ast.parse(script))


def test_the_tutorial_says_what_is_wrong_with_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*options: str) -> str:
        monkeypatch.setattr(sys, "argv", [TUTORIAL, *options])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(TUTORIAL, run_name="__main__")
        return str(stopped.value.code)  # which Python prints, and ends with the status 1

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "kit" / "data").mkdir(parents=True)
    assert "is no RAMP kit" in refused("--kit", "kit")
    assert "kit is there already" in refused("--work", "kit")
    (tmp_path / "kit" / "problem.py").touch()
    (tmp_path / "kit" / "data" / "train.csv").write_text("id,class\n1.png,0\n2.png,1\n")
    assert "0 images of the kit can be read. The others belong in its folder data/imgs" in refused("--kit", "kit")
    assert sorted(file.name for file in (tmp_path / "kit").iterdir()) == ["data", "problem.py"]


@pytest.mark.slow
def test_the_tutorial_ranks_features_above_training_from_scratch(tmp_path: Path) -> None:
    pytest.importorskip("rampwf")
    digits = load_digits()
    images = (digits.images[:900] * 15).astype(np.uint8)  # half of those of the tutorial
    np.savez(tmp_path / "some.npz", X=images, y=digits.target[:900].astype(str))
    run(tmp_path, "-m", "cli", "ramp", "kit", "some", "--data", "some.npz")
    said = run(tmp_path, TUTORIAL, "--kit", "some")
    work = tmp_path / "mnist_ramp"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mnist_ramp", "some", "some.npz"]

    fits = {words[3]: words[4:8] for line in said.splitlines() if (words := line.split())[:3] == ["32", "x", "32"]}
    assert fits["stretch"] == fits["crop"] == fits["pad"]  # the images are square

    ranked = json.loads((work / "leaderboard.json").read_text())
    entries = {entry["name"]: entry for entry in ranked["submissions"]}
    assert set(entries) == {"starting_kit", "readout", "frozen", "upright", "tuned"}
    start = entries.pop("starting_kit")
    for name, entry in entries.items():
        assert entry["test"]["acc"] > max(0.98, start["test"]["acc"]), name
        assert entry["mean"]["nll"] < 0.1, name
    assert min(entry["train_seconds"] for entry in entries.values()) < start["train_seconds"]

    theirs = [line.split() for line in said.partition("$ ramp-test")[2].splitlines()]
    for part, scores in (("valid", entries["frozen"]["mean"]), ("test", entries["frozen"]["test"])):
        words = next(words for words in theirs if words[:1] == [part])
        assert [float(word) for word in words[1:4]] == pytest.approx(
            [scores[name] for name in ranked["scores"]], abs=1e-4
        )
    table = [line.split()[0] for line in said.strip().splitlines()[-5:]]
    assert table == [entry["name"] for entry in ranked["submissions"]]
