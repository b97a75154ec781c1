"""The product from Python in fifteen lines, as a script without a main guard and as an executed notebook."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
from PIL import Image
from skimage import data as pictures

ROOT = Path(__file__).resolve().parents[2]
CELLS = (
    """
import layertap as lt

data = lt.load_dataset("photos")
features = lt.extract(data, lt.Net("glyphnet"), layers=["block2_pool"], pool="avg")
features["block2_pool"][:2]
""",
    """
run = lt.train_head(data, features, head="ridge", cv=3, out="runs/first")
run.scores["accuracy"]
""",
    """
predictions = run.predict(["photos/coffee/0.png", "photos/rocket/1.png"])
run.evaluate("photos")
""",
    """
tuned = lt.fine_tune(data, from_head=run, unfreeze_from="auto", epochs=1, out="runs/tuned")
tuned.export("model.keras")
""",
    """
table = lt.sweep(data, nets=["glyphnet"], heads=["ridge", "logistic"], cv=3, extract=True, jobs=2, out="sweep")
lt.load_run("runs/tuned")
""",
    """
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

pipeline = make_pipeline(lt.FeatureExtractor("glyphnet", "block2_pool"), LogisticRegression())
pipeline.fit(data, data.labels)
""",
    """
assert predictions.probabilities.shape == (2, 2)
assert list(predictions.classes) == ["coffee", "rocket"]
assert run.scores["accuracy"].mean > 0.8
assert table.best["accuracy"] > 0.8
assert pipeline.score(data, data.labels) > 0.8
print("all is well")
""",
)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with crops of two photographs, in a folder for each."""
    for name in ("coffee", "rocket"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        picture = getattr(pictures, name)()
        for number in range(9):
            crop = picture[20 * number : 20 * number + 120, 20 * number : 20 * number + 160]
            Image.fromarray(crop).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path


@pytest.mark.slow
def test_a_script_without_a_main_guard(work: Path) -> None:
    opened, trained, applied, _, swept, _, _ = CELLS  # the notebook runs all; these start processes
    swept = swept.replace("runs/tuned", "runs/first")
    (work / "script.py").write_text("".join((opened, trained, applied, swept, 'print("all is well")\n')))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all is well\n"


@pytest.mark.slow
def test_an_executed_notebook_shows_tables_and_pictures(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS])
    notebook.cells += [nbformat.v4.new_code_cell(name) for name in ("data", "features", "run", "table")]
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(work)}}).execute()
    shown = ["".join(output.get("data", {}).get("text/html", "") for output in cell.outputs) for cell in notebook.cells]
    data, features, run, table = shown[-4:]
    assert "coffee" in data
    assert "data:image/" in data
    assert "block2_pool" in features
    assert "<table" in run
    assert "data:image/" in run
    assert "<table" in table
