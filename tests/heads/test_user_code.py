"""Heads of the user's own: what may go wrong in the file, and that no run makes it run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from toy_data import blobs

from feature_cache import FeatureSpec
from feature_cache.errors import InvalidChoice, UnsafeFile
from heads import make_head
from heads.registry import record
from heads.user_code import PREFIX
from layertap import runs
from layertap.run_config import RunConfig

SPEC = FeatureSpec(net="test", weights="none", layer="a", size=(8, 8), pooling="none")
PIPELINE = """
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

def make_head():
    return make_pipeline(SelectKBest(k=4), LogisticRegression(C=0.5))
"""
OWN = """
import numpy as np

class Nearest:
    def __init__(self, power=2):
        self.power = power

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.centres = np.array([X[y == label].mean(0) for label in self.classes_])
        self.seen = Seen(len(X))
        return self

    def decision_function(self, X):
        return -(abs(X[:, None] - self.centres) ** self.power).sum(2)

class Seen:
    def __init__(self, rows):
        self.rows = rows

def make_head():
    return Nearest()

def another():
    return Nearest(power=1)
"""
MARKED = """
from pathlib import Path
Path(__file__).with_name("was run").touch()
"""


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Every test starts, and ends, with no file that has been run."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    for module in _run_modules():
        del sys.modules[module]


def _run_modules() -> list[str]:
    return [name for name in sys.modules if name.startswith(PREFIX)]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write ``my.py`` in the working folder; its name."""
    monkeypatch.chdir(tmp_path)

    def written(text: str) -> str:
        Path("my.py").write_text(text)
        return "my.py"

    return written


def kept(name: str, head: Any) -> Path:
    """A run with `head`."""
    folder = Path("run").resolve()
    with runs.new_run(folder, overwrite=True) as inside:
        config = {"spec": json.loads(SPEC.to_json()), "head": record(name, head)}
        runs.write(inside, head, RunConfig.from_json(config), {})
    return folder


def refusal(name: str, params: dict | None = None) -> str:
    with pytest.raises(InvalidChoice) as caught:
        make_head(name, params)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("text", [PIPELINE, OWN], ids=["of scikit-learn", "own classes"])
@pytest.mark.parametrize("function", ["", ":make_head"])
def test_head_of_a_file_learns_is_kept_and_comes_back_when_the_file_is_named(
    write: Callable, text: str, function: str
) -> None:
    X, y = blobs()
    name = write(text) + function
    head = make_head(name).fit(X, y)
    assert (head.predict(X) == y).mean() > 0.9
    probabilities = head.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    run = kept(name, head)
    back = runs.load_run(run, head_code="my.py:make_head").head
    np.testing.assert_array_equal(back.predict_proba(X), probabilities)


def test_features_and_probabilities_are_those_of_the_file(write: Callable) -> None:
    head: Any = make_head(write(PIPELINE))
    assert (head.scale, head.pca, head.calibrate) == (False, None, False)


def test_parameters_reach_what_the_function_returns(write: Callable) -> None:
    name = write(PIPELINE)
    head = make_head(name, {"logisticregression__C": "2", "selectkbest__k": "3", "scale": "true"}).fit(*blobs())
    assert head.get_params()["estimator__logisticregression__C"] == 2
    run = kept(name, head)
    assert runs.load_run(run, head_code=name).head.get_params()["estimator__selectkbest__k"] == 3
    message = "the head 'my.py' has no parameter 'logisticregression__c'; did you mean 'logisticregression__C'"
    assert message in refusal(name, {"logisticregression__c": "2"})
    assert "LogisticRegression must be a float" in refusal(name, {"logisticregression__C": "much"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def make_head(:\n", "my.py cannot be run in line 1 (SyntaxError: invalid syntax); mend it."),
        ("x = 1\n1 / 0\n", "my.py cannot be run in line 2 (ZeroDivisionError: division by zero); mend it."),
        ("import nowhere_to_be_found\n", "No module named 'nowhere_to_be_found'); mend it."),
        ("raise SystemExit(3)\n", "my.py cannot be run in line 1 (SystemExit: 3); mend it."),
        ("x = '\0'\n", "my.py cannot be run"),
        ("", "my.py has no function 'make_head'"),
        ("def make_haed(): ...\n", "my.py has no function 'make_head'; did you mean 'make_haed'?"),
        ("make_head = 3\n", "my.py has no function 'make_head'"),
        (
            "def make_head():\n    return [][0]\n",
            "my.py failed in line 2 (IndexError: list index out of range); mend it.",
        ),
        ("def make_head():\n    raise ValueError\n", "my.py failed in line 2 (ValueError)."),
        ("def make_head(x):\n    return x\n", "missing 1 required positional argument: 'x'); mend it."),
        ("def make_head():\n    exit()\n", "my.py failed in line 2 (SystemExit"),
        (
            "def make_head(): ...\n",
            "my.py returned NoneType; it should return an estimator with fit, and predict_proba",
        ),
        ("def make_head():\n    return {'C': 1}\n", "my.py returned dict; it should return an estimator"),
        ("from sklearn.svm import SVC\ndef make_head():\n    return SVC\n", "my.py returned the class SVC; it should"),
        (
            "from sklearn.svm import SVR\ndef make_head():\n    return SVR()\n",
            "my.py returned SVR; it should return an",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(write: Callable, text: str, message: str) -> None:
    assert message in refusal(write(text))
    assert len(_run_modules()) == ("cannot be run" not in message and "nowhere" not in message)


def test_a_file_that_is_not_there_is_named(write: Callable) -> None:
    assert refusal("my.py") == "the file 'my.py' of the head cannot be read: No such file or directory."
    assert refusal("my.py:make") == "the file 'my.py' of the head cannot be read: No such file or directory."


OF_METHODS = """
import numpy as np
class Mine:
    def fit(self, X, y):
        {fit}
        return self
    def predict_proba(self, X):
        {predict}
def make_head():
    return Mine()
"""


@pytest.mark.parametrize(
    ("fit", "predict", "message"),
    [
        ("raise KeyError('gone')", "", "Mine cannot be fitted: KeyError: 'gone'."),
        ("self.classes_ = [1, 2]", "", "Mine cannot be fitted: Mine has the classes [1, 2]; those of the labels are"),
        ("pass", "return 3", "Mine cannot predict: predict_proba of Mine should return 48 rows of 3 probabilities"),
        ("pass", "return np.ones((len(X), 3))", "that sum to 1; it returned float64 of shape (48, 3), the first of"),
        ("pass", "return None", "should return 48 rows of 3 probabilities that sum to 1; it returned object"),
        ("pass", "raise RuntimeError('too hot\\nreally')", "Mine cannot predict: RuntimeError: too hot."),
    ],
)
def test_what_goes_wrong_in_methods_is_one_line(write: Callable, fit: str, predict: str, message: str) -> None:
    X, y = blobs()
    head = make_head(write(OF_METHODS.format(fit=fit, predict=predict or "pass")))
    with pytest.raises(InvalidChoice) as caught:
        head.fit(X, y).predict_proba(X)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_head_that_holds_a_function_cannot_be_kept(write: Callable) -> None:
    imports = "from sklearn.pipeline import *\nfrom sklearn.preprocessing import *\nfrom sklearn.svm import SVC\n"
    function = "def square(X):\n    return X * X\n"
    maker = "def make_head():\n    return make_pipeline(FunctionTransformer(square), SVC())\n"
    head = make_head(write(imports + function + maker)).fit(*blobs())
    with pytest.raises(InvalidChoice, match="this head cannot be kept: it holds layertap_head_.*square"):
        head.save(Path())


# Reading a run.


@pytest.fixture
def run(write: Callable) -> Path:
    """A run with a head of ``my.py``, whose code leaves a trace when it is run anew."""
    name = write(OWN + MARKED)
    made = kept(f"{name}:make_head", make_head(f"{name}:make_head").fit(*blobs()))
    _forget()
    Path("was run").unlink()
    return made


def test_a_run_does_not_make_its_code_run(run: Path) -> None:
    with pytest.raises(UnsafeFile) as caught:
        runs.load_run(run)
    assert str(caught.value) == (
        f"the head of {run} is made by code of its own, 'my.py:make_head', which is run only where you name its file: "
        "`head_code='FILE.py:FUNCTION'`."
    )
    assert not Path("was run").exists()


@pytest.mark.parametrize("drop", ["code", "name"])
def test_a_run_that_hides_its_code_does_not_make_it_run(run: Path, drop: str) -> None:
    config = json.loads((run / "config.json").read_text())
    del config["files"], config["digest"]
    if drop == "code":
        del config["head"]["code"]
    else:
        config["head"]["name"] = "prototypes"
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsafeFile, match="is made by code of its own"):
        runs.load_run(run)
    assert not Path("was run").exists()


def test_the_file_that_is_named_is_run(run: Path) -> None:
    assert runs.load_run(run, head_code="my.py").config.head.name == "my.py:make_head"
    assert Path("was run").exists()


def test_the_file_may_have_moved(run: Path) -> None:
    Path("other").mkdir()
    Path("my.py").rename("other/head.py")
    runs.load_run(run, head_code="other/head.py:make_head")
    assert Path("other/was run").exists()


def test_a_file_that_has_changed_is_not_run(run: Path) -> None:
    with Path("my.py").open("a") as stream:
        stream.write("# changed\n")
    with pytest.raises(UnsafeFile, match="was made by another file than my.py; train it again"):
        runs.load_run(run, head_code="my.py")
    assert not Path("was run").exists()


def test_another_function_than_the_one_named_is_not_called(run: Path) -> None:
    with pytest.raises(UnsafeFile, match="was made by the function 'make_head', not by my.py:another"):
        runs.load_run(run, head_code="my.py:another")
    config = json.loads((run / "config.json").read_text())
    del config["files"], config["digest"]
    config["head"]["name"] = "my.py:another"
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsafeFile, match="was made by the function 'another', not by my.py:make_head"):
        runs.load_run(run, head_code="my.py:make_head")
    assert not Path("was run").exists()


def test_what_is_no_file_is_not_imported(run: Path) -> None:
    with pytest.raises(InvalidChoice, match="`head_code` is a file of Python, FILE.py:FUNCTION; received 'os:system'"):
        runs.load_run(run, head_code="os:system")


def test_classes_of_the_file_are_not_taken_from_the_run_of_another_head(run: Path) -> None:
    """Even where the file has been run in this process."""
    made: Any = runs.load_run(run, head_code="my.py").head
    thief: Any = make_head("prototypes").fit(*blobs())
    thief.pipeline_[-1].estimator_.gadget = made.pipeline_[-1].estimator_.seen
    skops.io.dump(thief.pipeline_, run / "head.skops")
    with pytest.raises(UnsafeFile, match="holds types that may run code \\(layertap_head_.*.Seen\\)"):
        type(thief).load(run, thief.get_params())
