"""`layertap ramp test` against the real `ramp-test`, and on submissions and kits that have something wrong."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from forked import run_command
from PIL import Image
from rampwf.prediction_types import make_multiclass
from rampwf.score_types import NegativeLogLikelihood
from rampwf.utils.combine import blend_on_fold
from skimage.io import imsave
from submissions import IDENTITY

from layertap.ramp.trials.leaderboard import greedy_blend, pareto

ROOT = Path(__file__).resolve().parents[3]
PROBLEM = """
import os

import numpy as np
import pandas as pd
import rampwf as rw
from sklearn.model_selection import StratifiedKFold
{imports}

problem_title = "Shades"
Predictions = rw.prediction_types.make_multiclass(label_names=[0, 1, 2])
workflow = {workflow}(test_batch_size=16, chunk_size=16, n_jobs=2, n_classes=3)
score_types = [rw.score_types.NegativeLogLikelihood(name="nll"), rw.score_types.Accuracy(name="acc", precision=3)]


def get_cv(X, y):
    return StratifiedKFold(2, shuffle=True, random_state=0).split(X[1], y)


def _read(path, name):
    table = pd.read_csv(os.path.join(path, "data", name))
    return (os.path.join(path, "data", "imgs"), table["id"].values), table["class"].values


def get_train_data(path="."):
    return _read(path, "train.csv")


def get_test_data(path="."):
    return _read(path, "test.csv")
"""
# The nearest of the mean brightnesses of the classes, sure of it to a degree.
MEANS = """
import numpy as np

SHARPNESS = 10.0


class BatchClassifier:
    def fit(self, gen_builder):
        train, _, count, _ = gen_builder.get_train_valid_generators(batch_size=8, valid_ratio=0)
        sums = np.zeros((2, 3))
        while count > 0:
            X, y = next(train)
            sums += [X.mean((1, 2, 3)) @ y, y.sum(0)]
            count -= len(X)
        self.means = sums[0] / sums[1]

    def predict_proba(self, X):
        near = -SHARPNESS * np.abs(X.mean((1, 2, 3))[:, None] - self.means) / 100
        return np.exp(near) / np.exp(near).sum(1, keepdims=True)
"""
OURS = "ImageClassifier", "from layertap.ramp import ImageClassifier"
THEIRS = "rw.workflows.ImageClassifier", ""


def make_kit(folder: Path, workflow: tuple[str, str] = OURS, count: int = 30) -> Path:
    rng = np.random.default_rng(0)
    (folder / "data" / "imgs").mkdir(parents=True)
    for part, images in (("train", count), ("test", count // 2)):
        lines = ["id,class"]
        for number in range(images):
            shade = 40 + 70 * (number % 3) + rng.integers(-30, 30)
            pixels = np.clip(shade + rng.integers(-20, 20, (6, 6)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "data" / "imgs" / f"{part} {number}.png")
            lines.append(f"{part} {number}.png,{number % 3}")
        (folder / "data" / f"{part}.csv").write_text("\n".join(lines) + "\n")
    (folder / "problem.py").write_text(PROBLEM.format(workflow=workflow[0], imports=workflow[1]))
    add(folder, "starting_kit", MEANS)
    return folder


def add(kit: Path, name: str, classifier: str, preprocessor: str = IDENTITY) -> None:
    folder = kit / "submissions" / name
    folder.mkdir(parents=True)
    (folder / "image_preprocessor.py").write_text(preprocessor)
    (folder / "batch_classifier.py").write_text(classifier)


def ramp(command: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``layertap ramp``: in a forked process, unless variables are given that Python reads when it starts."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **environment}
    if not environment:
        return run_command("ramp", command, *arguments, cwd=ROOT, env=env)
    command_line = [sys.executable, "-m", "cli", "ramp", command, *map(str, arguments)]
    return subprocess.run(command_line, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300)


def ramp_test(kit: Path, *arguments: str) -> str:
    """What the real one prints, without the colours that it has even where nobody looks on."""
    command = [sys.executable, "-m", "rampwf.utils.cli.testing", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    done = subprocess.run(command, env=environment, cwd=kit, capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stdout + done.stderr
    return re.sub(r"\x1b\[[\d;]*m", "", done.stdout)


def scores_of(text: str) -> list[str]:
    """The lines of tables, without times."""
    lines = re.findall(r"^\t(?:train|valid|test) .*", text, flags=re.MULTILINE)
    return [" ".join(re.findall(r"\d+\.\d+(?:\s±\s\d+\.\d+)?", line)[:2]) for line in lines]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_kit(tmp_path_factory.mktemp("kits") / "größer als")


@pytest.fixture(scope="module")
def expected(kit: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The kit with the workflow of ramp-workflow, after the real `ramp-test`, and what that printed."""
    other = make_kit(tmp_path_factory.mktemp("kits") / "theirs", THEIRS)
    return other, ramp_test(other, "--save-output")


def same_predictions(kit: Path, other: Path) -> None:
    files = [f"fold_{fold}/y_pred_{part}.npz" for fold in (0, 1) for part in ("train", "test")]
    for file in files:
        ours, theirs = (
            np.load(one / "submissions/starting_kit/training_output" / file)["y_pred"] for one in (kit, other)
        )
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_ramp_test_runs_a_kit_with_our_workflow(kit: Path, expected: tuple[Path, str]):
    said = ramp_test(kit, "--save-output")
    assert scores_of(said) == scores_of(expected[1])
    assert len(scores_of(said)) == 3 * 2 + 3 + 2
    assert " ".join(scores_of(said)).count("±") == 2 * 3
    same_predictions(kit, expected[0])


@pytest.fixture(scope="module")
def tested(kit: Path, expected: tuple[Path, str]) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    """The kit with submissions that go wrong in many ways, tested; what is in JSON, and on stderr."""
    body = MEANS.partition("        near")[0]
    add(kit, "careful", MEANS.replace("10.0", "1.0"))
    add(kit, "syntax", "import numpy as np\n\n\nclass BatchClassifier\n    pass\n")
    add(kit, "nan", body + "        return np.full((len(X), 3), np.nan)\n")
    add(kit, "narrow", body + "        return np.full((len(X), 2), 0.5)\n")
    add(kit, "raises", MEANS.replace("        sums = np", "        assert not count, 'no more'\n        sums = np"))
    add(kit, "leaves", MEANS + "\n\nraise SystemExit(0)\n")
    add(
        kit, "dies", MEANS.replace("import numpy as np\n", "import numpy as np\nimport os\n\nos.kill(os.getpid(), 9)\n")
    )
    add(kit, "vanishes", "import os\n\nos._exit(0)\n" + MEANS)
    add(kit, "transforms", MEANS, "def transform(x):\n    return x.reshape(-1, 5, 7)\n")
    add(kit, "forbidden", MEANS + "\nimport shutil\n")
    add(kit, "empty", "")
    add(kit, "wild", body + "        return np.tile([1.0, 2.0, -3.0], (len(X), 1))\n")
    add(kit, "half", MEANS)
    (kit / "submissions" / "half" / "image_preprocessor.py").unlink()
    done = ramp("test", kit, "--json")
    return json.loads(done.stdout), done


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("syntax", r"submissions/syntax/batch_classifier\.py:4: SyntaxError: expected ':'"),
        ("nan", r"submissions/nan/batch_classifier\.py:17: predict_proba gives what is no finite number for 30 of 30"),
        ("narrow", r"narrow/batch_classifier\.py:17: predict_proba gives an array of shape \(30, 2\); .* \(30, 3\)"),
        ("raises", r"submissions/raises/batch_classifier\.py:10: AssertionError: no more"),
        ("leaves", r"submissions/leaves/batch_classifier\.py:22: SystemExit: 0"),
        ("dies", r"submissions/dies: its process was ended by SIGKILL"),
        ("vanishes", r"submissions/vanishes: its process ended with status 0"),
        ("transforms", r"submissions/transforms/image_preprocessor\.py:2: ValueError: cannot reshape"),
        ("forbidden", r"submissions/forbidden/batch_classifier\.py: RuntimeError: forbidden key word shutil"),
        ("wild", r"submissions/wild/batch_classifier\.py:17: predict_proba gives what cannot be scored: ValueError"),
        ("half", r"submissions/half/image_preprocessor\.py: there is no such file"),
        ("empty", r"submissions/empty/batch_classifier\.py: AttributeError: module .* no attribute 'BatchClassifier'"),
    ],
)
def test_what_is_wrong_with_a_submission_is_told_in_a_line(tested: Any, kit: Path, name: str, line: str):
    found, done = tested
    assert done.returncode == 1
    assert re.search(line, found["failed"][name]), found["failed"][name]
    assert f"layertap: {found['failed'][name]}\n" in done.stderr
    error = kit / "submissions" / name / "training_output" / "error.txt"
    assert error.read_text().splitlines()[0] == found["failed"][name]


def test_the_others_are_scored_as_by_ramp_test(tested: Any, kit: Path, expected: tuple[Path, str]):
    found, done = tested
    entries = {entry["name"]: entry for entry in found["submissions"]}
    assert set(entries) == {"starting_kit", "careful"}
    assert found["scores"] == ["nll", "acc", "bal_acc"]
    tables = done.stderr.partition("Training submissions/starting_kit")[2]
    assert "\x1b" not in done.stderr
    assert scores_of(tables) == scores_of(expected[1])
    same_predictions(kit, expected[0])
    means = re.findall(r"^\tvalid .*", expected[1], flags=re.MULTILINE)[2]
    accuracy = re.findall(r"[\d.]+\s±\s[\d.]+", means)[1].split()[0]
    assert entries["starting_kit"]["mean"]["acc"] == pytest.approx(float(accuracy), abs=1e-3)


def test_the_leaderboard_ranks_by_the_official_score(tested: Any, kit: Path):
    found, _ = tested
    first, second = found["submissions"]
    assert first["mean"]["nll"] < second["mean"]["nll"]
    assert sum(entry["contributivity"] for entry in (first, second)) == pytest.approx(1)
    assert found["blend"]["valid"]["nll"] <= first["bagged"]["nll"] + 1e-9
    with (kit / "leaderboard.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["submission"] for row in rows] == [first["name"], second["name"]]
    assert float(rows[0]["nll"]) == first["mean"]["nll"]
    bagged = kit / "submissions" / first["name"] / "training_output" / "bagged_scores.csv"
    with bagged.open() as stream:
        test = {row["step"]: row for row in csv.DictReader(stream)}["test"]
    assert rows[0]["bagged test nll"] == test["nll"]
    caption, head, line = ramp("leaderboard", kit).stdout.splitlines()[1:4]
    assert caption.endswith("; on the test images, of the mean of all folds' predictions")
    assert re.split("  +", head)[4:7] == ["bagged test nll", "train time", "test time"]
    values = re.split("  +", line)
    assert values[4] == f"{float(test['nll']):.4f}"
    assert re.fullmatch(r"[1-9]\d* ms|[1-9]\.\d s", values[5]), values


@pytest.mark.slow
def test_scores_of_one_fold_have_no_deviation(kit: Path, tested: Any, tmp_path: Path):
    assert " ± " in ramp("leaderboard", kit).stdout
    problem = (kit / "problem.py").read_text()
    only = make_kit(tmp_path / "kit")
    (only / "problem.py").write_text(re.sub(r"return (Stratified.*)", r"return [next(\1)]", problem))
    done = ramp("test", only, "--submission", "starting_kit", PYTHONIOENCODING="ascii")
    assert not done.returncode, done.stderr
    table = done.stdout.partition("Leaderboard")[2]
    assert re.search(r"^starting_kit +\d\.\d{4} +\d\.\d{4} ", table, flags=re.MULTILINE), table


def test_a_submission_that_has_changed_since_is_left_out(tested: Any, kit: Path, tmp_path: Path):
    copy = tmp_path / "kit"
    shutil.copytree(kit, copy)
    with (copy / "submissions" / "careful" / "batch_classifier.py").open("a") as stream:
        stream.write("# changed\n")
    done = ramp("leaderboard", copy)
    assert not done.returncode, done.stderr
    assert re.search(r"^starting_kit .* 100 %$", done.stdout, flags=re.MULTILINE)
    assert "changed since they were tested: careful" in done.stdout


def test_images_that_cannot_be_used_are_told_with_their_line_and_left_out(tmp_path: Path):
    kit = make_kit(tmp_path / "kit")
    table = kit / "data" / "train.csv"
    Image.fromarray(np.zeros((6, 6), np.uint8)).save(tmp_path / "secret.png")
    (kit / "data" / "imgs" / "text.png").write_text("no image")
    (kit / "data" / "imgs" / "empty.png").touch()
    picture = io.BytesIO()
    Image.fromarray(np.zeros((99, 99), np.uint8)).save(picture, "jpeg")
    (kit / "data" / "imgs" / "half.jpg").write_bytes(picture.getvalue()[:-90])
    names = ("../../../secret.png", "none.png", "text.png", "/etc/hostname", "empty.png", "half.jpg")
    table.write_text(table.read_text() + "".join(f"{name},0\n" for name in names))
    done = ramp("test", kit)
    assert done.returncode == 1
    reasons = (
        r"leads out of",
        r"there is no image data/imgs/none\.png",
        r"data/imgs/text\.png is not an image that can be read \(not a known image format\)",
        r"leads out of",
        r"the image data/imgs/empty\.png is empty \(0 bytes\)",
        r"data/imgs/half\.jpg is not an image that can be read \([^'\"]+\)",
    )
    for line, what in enumerate(reasons, 32):
        assert re.search(rf"^data/train\.csv:{line}: .*{what}.*; it is left out\.$", done.stderr, flags=re.MULTILINE)
    assert re.search(r"^starting_kit ", done.stdout, flags=re.MULTILINE)
    said = np.load(kit / "submissions/starting_kit/training_output/fold_0/y_pred_train.npz")["y_pred"]
    assert said.shape == (30, 3)


def test_images_of_int8_are_written_as_uint8(tmp_path: Path):
    kit = make_kit(tmp_path / "kit")
    problem = (kit / "problem.py").read_text()
    # As the digits kit in the sources of ramp-workflow does when it is loaded.
    written = """
from skimage.io import imsave

FOLDER = os.path.join(os.path.dirname(__file__), "data", "imgs")
for number in range(30):
    image = np.full((6, 6), number % 3 * 5, np.int8)
    imsave(os.path.join(FOLDER, "train %d.png" % number), image)
"""
    (kit / "problem.py").write_text(problem + written)
    done = ramp("test", kit)
    assert "problem.py writes images of int8, which today's readers refuse; they are written as uint8" in done.stderr
    assert not done.returncode, done.stderr
    assert re.search(r"^starting_kit ", done.stdout, flags=re.MULTILINE), done.stderr
    with Image.open(kit / "data" / "imgs" / "train 4.png") as image:
        np.testing.assert_array_equal(np.array(image), np.full((6, 6), 5, np.uint8))


@pytest.mark.slow
def test_images_of_int8_are_told_and_scored_as_uint8(tmp_path: Path):
    fitting = "from layertap.ramp import fitted\n\n\ndef transform(x):\n    return fitted(x, (6, 6))\n"
    accuracies = []
    for dtype in (np.uint8, np.int8):
        kit = make_kit(tmp_path / np.dtype(dtype).name)
        for table in (kit / "data").glob("*.csv"):
            table.write_text(table.read_text().replace(".png", ".tif"))
        for file in (kit / "data" / "imgs").iterdir():
            imsave(file.with_suffix(".tif"), (np.array(Image.open(file)) // 2).astype(dtype), check_contrast=False)
        add(kit, "fitting", MEANS, fitting)
        done = ramp("test", kit, "--json", "--submission", "fitting")
        assert not done.returncode, done.stderr
        found = json.loads(done.stdout)
        accuracies.append(found["submissions"][0]["mean"]["acc"])
    [line] = found["images"]
    assert line.startswith("data/imgs holds images of int8; submissions of ramp init take their shades")
    assert line in done.stderr
    assert accuracies[1] == accuracies[0] > 0.9


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda kit: (kit / "problem.py").unlink(), r"is no RAMP kit \(it has no problem.py\)"),
        (lambda kit: (kit / "problem.py").write_text("x = (\n"), r"problem.py:1: SyntaxError"),
        (lambda kit: (kit / "problem.py").write_text("x = 1\n"), "lacks problem_title"),
        (lambda kit: (kit / "data" / "train.csv").unlink(), r"problem.py:\d+: FileNotFoundError"),
        (lambda kit: shutil.rmtree(kit / "data" / "imgs"), "no image of the train data can be used"),
        (lambda kit: (kit / "data" / "test.csv").write_text("id,class\n"), "get_test_data names no images; list some"),
        (lambda kit: shutil.rmtree(kit / "submissions"), "has no submissions"),
    ],
)
def test_a_kit_that_cannot_be_used_is_told(tmp_path: Path, spoil: Any, line: str):
    kit = make_kit(tmp_path / "kit", count=6)
    spoil(kit)
    done = ramp("test", kit)
    assert done.returncode == 2
    [told] = done.stderr.splitlines()
    assert re.search(line, told), told


@pytest.mark.parametrize("command", ["test", "leaderboard"])
def test_a_folder_that_is_not_there_is_no_kit(tmp_path: Path, command: str):
    done = ramp(command, tmp_path / "none")
    assert done.returncode == 2
    assert "none is no RAMP kit" in done.stderr


def test_an_unknown_submission_is_told(kit: Path):
    done = ramp("test", kit, "--submission", "starting_kid")
    assert (done.returncode, done.stdout) == (2, "")
    assert "has no submission 'starting_kid'; did you mean 'starting_kit'" in done.stderr


SECRET = "def get_test_data(path='.'):\n    return _read(path, 'test.csv')[0], None\n"
NUMBERS = """
Predictions = rw.prediction_types.make_regression()
score_types = [rw.score_types.RMSE()]
"""


@pytest.mark.slow
@pytest.mark.parametrize("change", [SECRET, NUMBERS], ids=["secret labels", "regression"])
def test_kits_of_other_kinds_are_scored(tmp_path: Path, change: str):
    kit = make_kit(tmp_path / "kit")
    with (kit / "problem.py").open("a") as stream:
        stream.write(change)
    if change is NUMBERS:
        classifier = kit / "submissions" / "starting_kit" / "batch_classifier.py"
        classifier.write_text(MEANS.partition("        near")[0] + "        return X.mean((1, 2, 3)) / 100\n")
    assert scores_of(ramp_test(kit))[:2]
    done = ramp("test", kit, "--json")
    assert not done.returncode, done.stderr
    [entry] = json.loads(done.stdout)["submissions"]
    assert entry["contributivity"] == 1
    assert (entry["test"] is None) == (change is SECRET)


@pytest.mark.slow
def test_scores_on_other_folds_are_left_out_and_a_model_that_cannot_be_saved_harms_nothing(tmp_path: Path):
    kit = make_kit(tmp_path / "kit", count=12)
    problem = (kit / "problem.py").read_text()
    quick = 'StratifiedKFold(3 if os.environ.get("RAMP_TEST_MODE") else 2'
    (kit / "problem.py").write_text(problem.replace("StratifiedKFold(2", quick))
    add(kit, "other", MEANS + "\n    def save(self):\n        pass\n")
    (tmp_path / "elsewhere").mkdir()
    (kit / "submissions" / "other" / "training_output").symlink_to(tmp_path / "elsewhere")
    done = ramp("test", kit, "--json")
    assert "The trained model is not kept: TypeError" in done.stderr
    assert len(json.loads(done.stdout)["submissions"]) == 2
    quick_board = json.loads(ramp("test", kit, "--json", "--quick-test", "--submission", "other").stdout)
    assert [entry["name"] for entry in quick_board["submissions"]] == ["other"]
    assert quick_board["stale"] == ["starting_kit"]
    board = ramp("leaderboard", kit)
    assert re.search("^starting_kit ", board.stdout, flags=re.MULTILINE)
    assert "changed since they were tested: other" in board.stdout


def test_a_board_may_be_empty(tmp_path: Path):
    kit = make_kit(tmp_path / "kit", count=6)
    done = ramp("leaderboard", kit)
    assert not done.returncode
    assert done.stdout == f"No submission has been tested; do so with: layertap ramp test {kit}\n"
    (kit / "submissions" / "starting_kit" / "batch_classifier.py").write_text("x = (\n")
    done = ramp("test", kit, "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["submissions"], found["blend"], list(found["failed"])) == ([], {}, ["starting_kit"])
    assert done.stderr.count("\n") < 10, done.stderr


@pytest.mark.slow
def test_nothing_is_said_where_nobody_reads_the_tables_any_more(tmp_path: Path):
    kit = make_kit(tmp_path / "kit", count=6)
    classifier = kit / "submissions" / "starting_kit" / "batch_classifier.py"
    started = "import time\n\ntime.sleep(5)\n"
    classifier.write_text(started + classifier.read_text())
    command = [sys.executable, "-m", "cli", "ramp", "test", str(kit)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, cwd=ROOT, text=True, **pipes) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("Testing")
        process.stdout.close()
        said = process.stderr.read()
        assert (process.wait(60), said) == (0, "")
    assert {file.name for file in classifier.parent.iterdir()} == {"batch_classifier.py", "image_preprocessor.py"}


@pytest.mark.slow
def test_sigterm_ends_the_submission_too_and_leaves_nothing(tmp_path: Path):
    kit = make_kit(tmp_path / "kit", count=6)
    classifier = kit / "submissions" / "starting_kit" / "batch_classifier.py"
    note = f"__builtins__['open']({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))"
    started = f"import os\nimport time\n\n{note}\n"
    classifier.write_text(started + "time.sleep(60)\n")
    command = [sys.executable, "-m", "cli", "ramp", "test", str(kit)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}  # no __pycache__ either
    process = subprocess.Popen(command, env=environment, cwd=ROOT)
    deadline = time.monotonic() + 60
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()
    assert process.wait(20) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    left = {file.name for file in (kit / "submissions" / "starting_kit").iterdir()}
    assert left - {"__pycache__"} == {"batch_classifier.py", "image_preprocessor.py"}


@pytest.mark.slow
def test_a_trial_ends_with_the_command_that_was_killed(tmp_path: Path):
    kit = make_kit(tmp_path / "kit", count=6)
    note = f"__builtins__['open']({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))"
    classifier = kit / "submissions" / "starting_kit" / "batch_classifier.py"
    classifier.write_text(f"import os\nimport time\n\n{note}\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "cli", "ramp", "test", str(kit)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT)
    deadline = time.monotonic() + 60
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.kill()
    process.wait()
    trial = int((tmp_path / "pid").read_text())
    while Path(f"/proc/{trial}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{trial}").exists()


def test_predictions_that_ramp_test_has_replaced_are_not_ranked(kit: Path, tested: Any, tmp_path: Path):
    copy = tmp_path / "kit"
    shutil.copytree(kit, copy)
    file = copy / "submissions" / "careful" / "training_output" / "fold_1" / "y_pred_train.npz"
    np.savez_compressed(file, y_pred=np.full((7, 3), 1 / 3))
    done = ramp("leaderboard", copy)
    assert not done.returncode, done.stderr
    assert "tested: careful" in done.stdout


def test_the_pareto_front():
    assert pareto([(1, 9), (2, 5), (2, 6), (3, 1), (3, 1), (4, 4)]) == [True, True, False, True, True, False]
    assert pareto([(1.0,)]) == [True]


def blend_problem(probabilities: Sequence[Any], labels: list[int]) -> tuple[Any, list[Any], Any, Any]:
    Predictions = make_multiclass(label_names=[0, 1])
    said = [Predictions(y_pred=np.array(one)) for one in probabilities]
    return SimpleNamespace(Predictions=Predictions), said, Predictions(y_true=np.array(labels)), NegativeLogLikelihood()


def test_a_blend_is_no_worse_than_its_parts_and_chosen_greedily():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    right = rng.uniform(0.05, 0.95, (4, 60))
    said = [np.stack([np.where(labels == 0, p, 1 - p), np.where(labels == 1, p, 1 - p)], 1) for p in right]
    problem, predictions, truth, score = blend_problem(said, labels.tolist())
    chosen = greedy_blend(problem, predictions, truth, score)
    alone = [score.score_function(truth, one) for one in predictions]
    assert chosen[0] == int(np.argmin(alone))
    costs = [
        score.score_function(truth, problem.Predictions.combine([predictions[n] for n in chosen[: k + 1]]))
        for k in range(len(chosen))
    ]
    assert len(chosen) > 1
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize("seed", range(8))
def test_a_blend_is_that_of_ramp_workflow(seed: int):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 40)
    said = [rng.uniform(0.05, 0.7, (40, 2)) + 0.2 * np.eye(2)[labels] for _ in range(5)]  # need not add up to 1
    problem, predictions, truth, score = blend_problem(said, labels.tolist())
    expected = blend_on_fold(predictions, truth, score)
    assert greedy_blend(problem, predictions, truth, score) == expected.tolist()


def test_a_perfect_submission_needs_no_blend():
    problem, predictions, truth, score = blend_problem([[[1, 0], [0, 1]], [[0.5, 0.5], [0.5, 0.5]]], [0, 1])
    assert greedy_blend(problem, predictions, truth, score) == [0]
