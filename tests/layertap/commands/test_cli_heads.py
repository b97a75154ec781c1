"""Heads by name, by import path and from a file of the user's, on real digits and glyphnet's features."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import cli
from heads import HEADS

LAYER = ("--layer", "block4_pool")
TRAIN = ("train-head", "digits", *LAYER, "--per-class", "10", "--draws", "1", "--quiet")
OWN = """
from pathlib import Path
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
Path("was run").touch()

class Mine(LinearDiscriminantAnalysis):
    pass

def make_head():
    return Mine(solver="lsqr", shrinkage=0.5)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the features of the digits."""
    folder = tmp_path_factory.mktemp("digits") / "features"
    assert cli.main(["extract", "digits", *LAYER, "--cache", str(folder)]) == 0
    return folder


@pytest.fixture
def digits(cache: Path, monkeypatch: pytest.MonkeyPatch, main: Callable) -> Callable:
    """Run a command on this cache."""
    monkeypatch.setenv("LAYERTAP_CACHE", str(cache))
    return main


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "options"),
    [
        ("linear-svm", ()),
        ("prototypes", ("--param", "scale=true", "--param", "pca=32")),
        ("sklearn.svm:SVC", ("--param", "C=10", "--param", "class_weight=balanced")),
    ],
    ids=["linear-svm", "prototypes", "a path"],
)
def test_train_evaluate_and_predict_with_heads_of_scikit_learn(digits: Callable, head: str, options: tuple) -> None:
    trained = digits(*TRAIN, "--head", head, *options, "--out", "run", "--json")
    assert trained.status == 0, trained.stderr
    valid = json.loads(trained.stdout)["summary"]["valid"]
    assert valid["accuracy"]["mean"] > 0.93
    assert valid["nll"]["mean"] < 0.4
    params = json.loads(Path("run/config.json").read_text())["head"]["params"]
    assert (
        dict(word.split("=") for word in options[1::2]).items()
        <= {key: str(value).lower() for key, value in params.items()}.items()
    )
    test = json.loads(digits("evaluate", "run", "digits", "--json").stdout)["test"]
    assert test["accuracy"] > 0.95
    assert digits("predict", "run", "digits", "--out", "predictions.csv").status == 0
    with Path("predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 1797
    assert sum(float(rows[0][str(digit)]) for digit in range(10)) == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
def test_a_file_of_ones_own_trains_and_is_run_again_only_where_it_is_named(digits: Callable, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(OWN)
    trained = digits(*TRAIN, "--head", "my.py:make_head", "--out", "run", "--json")
    assert trained.status == 0, trained.stderr
    kept = json.loads((tmp_path / "run" / "config.json").read_text())["head"]
    assert (kept["name"], kept["params"]["shrinkage"], len(kept["code"])) == ("my.py:make_head", 0.5, 32)

    def in_a_new_process(*arguments: object) -> None:
        import sys

        for name in [name for name in sys.modules if name.startswith("layertap_head_")]:
            del sys.modules[name]
        (tmp_path / "was run").unlink(missing_ok=True)
        outcomes.append(digits(*arguments))

    outcomes: list = []
    in_a_new_process("evaluate", "run", "digits", "--json")
    assert outcomes[-1].status == 2
    assert "made by code of its own" in outcomes[-1].stderr
    assert "--head-code FILE.py:FUNCTION" in outcomes[-1].stderr
    assert outcomes[-1].stderr.count("\n") == 1
    assert not (tmp_path / "was run").exists()

    in_a_new_process("evaluate", "run", "digits", "--json", "--head-code", "my.py:make_head")
    assert json.loads(outcomes[-1].stdout)["test"]["accuracy"] > 0.95
    assert (tmp_path / "was run").exists()

    in_a_new_process("predict", "run", "digits", "--head-code", "my.py", "--out", "predictions.csv")
    assert outcomes[-1].status == 0

    (tmp_path / "my.py").write_text(OWN + "# altered\n")
    in_a_new_process("predict", "run", "digits", "--head-code", "my.py:make_head")
    assert outcomes[-1].status == 2
    assert "the head of run was made by another file than my.py; train it again" in outcomes[-1].stderr
    assert not (tmp_path / "was run").exists()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_forest(digits: Callable) -> None:
    few = ("--head", "random-forest", "--param", "n_estimators=5", "--param", "calibrate=false", "--json", "--out")

    def loss(*more: str) -> float:
        said = digits(*TRAIN, *few, *more)
        return json.loads(said.stdout)["summary"]["valid"]["nll"]["mean"]

    assert loss("a", "--seed", "1") == loss("b", "--seed", "1")


def test_help_names_the_heads(main: Callable) -> None:
    said = re.sub(r"\s+", " ", main("train-head", "--help").stdout.replace("-\n", "-"))
    for name in HEADS:
        assert re.search(rf"\b{name}\b", said.replace("- ", "-")), name
    assert "sklearn.svm:SVC" in said
    assert "the file is run" in said


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (("linear-swm",), "there is no head 'linear-swm'; did you mean 'linear-svm'"),
        (("sklearn.svm:SVR",), "SVR of sklearn.svm is not a classifier"),
        (("os:system",), "the head 'os:system' is not imported"),
        (("nowhere.py:make_head",), "the file 'nowhere.py' of the head cannot be read"),
        (("svm-rbf", "--param", "C=-1"), "The 'C' parameter of SVC must be a float in the range (0.0, inf]. Got -1"),
        (("svm-rbf", "--param", "pca=1.5"), "pca should be a number of components, or a share"),
        (
            ("knn", "--param", "neighbours=3"),
            "the head 'knn' has no parameter 'neighbours'; did you mean 'n_neighbors'",
        ),
        (("lda", "--param", "solver=svd"), "LinearDiscriminantAnalysis cannot be fitted: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_are_one_line(
    mistake: Callable, cache: Path, monkeypatch: pytest.MonkeyPatch, head: tuple, message: str
) -> None:
    monkeypatch.setenv("LAYERTAP_CACHE", str(cache))
    assert message in mistake(*TRAIN, "--out", "run", "--head", *head)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def make_head(:\n", "my.py cannot be run in line 1 (SyntaxError: invalid syntax)"),
        ("def make_head():\n    return 3\n", "my.py returned int; it should return an estimator"),
        ("def make_head():\n    return 1 / 0\n", "my.py failed in line 2 (ZeroDivisionError: division by zero)"),
    ],
)
def test_mistakes_in_a_file_are_one_line(mistake: Callable, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "my.py").write_text(text)
    assert message in mistake(*TRAIN, "--out", "run", "--head", "my.py")


def test_code_for_a_run_that_needs_none_is_not_run(digits: Callable, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(OWN)
    assert digits(*TRAIN, "--head", "prototypes", "--out", "run").status == 0
    outcome = digits("evaluate", "run", "digits", "--head-code", "my.py")
    assert outcome.status == 2
    assert "the head of run needs no code; leave out --head-code" in outcome.stderr
    assert not (tmp_path / "was run").exists()
