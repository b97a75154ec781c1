"""`layertap run`: plans in files go on where they were stopped, and every run has the plan that repeats it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
pytest.importorskip("yaml")

PLAN = """
data: ../data
layer: block4_pool
cv: 2
steps:
  - extract
  - sweep: {layer: [block3_pool, block4_pool], head: ridge, jobs: 1, out: sweep}
  - train-head: {head: ridge, param: {scale: true}, out: run}
  - evaluate: {run: run}
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a plan of these steps into a folder."""

    def write(text: str, folder: str = ".") -> Path:
        file = tmp_path / folder / "plan.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    return write


def steps_of(outcome: Any) -> list[tuple[str, str]]:
    """The stage and the command line of each step in JSON."""
    assert outcome.status == 0, outcome
    return [(step["stage"], " ".join(step["command"])) for step in json.loads(outcome.stdout)["steps"]]


def scores(folder: Path) -> Any:
    """The scores of a run or a sweep, without times."""

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: timeless(item) for key, item in value.items() if "seconds" not in key}
        return [timeless(item) for item in value] if isinstance(value, list) else value

    file = next(folder / name for name in ("metrics.json", "sweep.json") if (folder / name).exists())
    return timeless(json.loads(file.read_text()))


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("- tran-head: {data: digits, out: run}", "step 1: there is no step 'tran-head'; did you mean train-head?"),
        ("- cache", "step 1: there is no step 'cache'; choose from extract, sweep, train-head"),
        ("- extract: {data: digits}\n- sweep: {data: digits, heads: knn, out: s}",
         "step 2 (sweep): there is no option 'heads'; did you mean head?"),
        ("- extract", "step 1 (extract) lacks data."),
        ("- train-head: {data: digits}", "step 1 (train-head) lacks out."),
        ("- train-head: {data: digits, cv: many, out: r}", "step 1 (train-head): cv: invalid int value: 'many'"),
        ("- train-head: {data: digits, cv: [3, 5], out: r}", "step 1 (train-head): cv: invalid int value: '3,5'"),
        ("- train-head: {data: digits, cv: 3, valid: 0.2, out: r}",
         "step 1 (train-head): valid: not allowed with cv"),
        ("- extract: {data: digits, precision: bfloat61}", "did you mean bfloat16?"),
        ("- extract: {data: digits, compress: 1}", "step 1 (extract): compress is true or false."),
        ("- extract: {data: digits, layer: no}", "step 1 (extract): layer takes a value; put it into quotation marks"),
        ("- extract: {data: digits, layer: {a: b}}", "step 1 (extract): layer takes no mapping."),
        ("- extract: {data: --overwrite}", "step 1 (extract): data begins with a dash; put ./ before it."),
        ("- extract: {data: digits, trust: os}", "trust holds for all steps; give it to layertap run, as --trust."),
        ("- extract: {data: digits, plan: true}", "there is no option 'plan'"),
        ("- train-head: {data: digits, out: r}\n- fine-tune: {data: digits, out: ./r}", "steps 1 and 2 both write ./r"),
        ("- extract: {data: digits, net: evil.py:make_net}",
         "step 1 (extract): net would run evil.py; if you trust that code, name it yourself: layertap run PLAN --code"),
        ("- extract: {data: digits, net: 'os:getcwd'}", "net would run os;"),
        ("- sweep: {data: digits, head: [ridge, h.py], out: s}", "head would run h.py;"),
        ("- export: {run: r, head-code: evil, to: onnx, out: m.onnx}", "head-code would run evil;"),
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_mistakes_are_found_before_anything_runs(
    steps: str, said: str, write: Callable[..., Path], mistake: Callable[..., str]
) -> None:
    write(f"steps:\n{steps}\n")
    assert said in mistake("run", "plan.yaml")


def test_a_shared_option_is_one_that_some_step_has(write: Callable[..., Path], mistake: Callable[..., str]) -> None:
    write("sed: 1\nsteps:\n  - extract: {data: digits}\n")
    assert mistake("run", "plan.yaml") == "plan.yaml, above the steps: there is no option 'sed'; did you mean seed?"


def test_options_of_a_step_rule_out_shared_ones(write: Callable[..., Path], main: Callable[..., Any]) -> None:
    write(
        "data: photos\nnet: vgg16\ncv: 5\nrange: [-1, 1]\nsteps:\n"
        "  - train-head: {valid: 0.1, grid: {C: [1, 10]}, range: null, out: run}\n"
        "  - fine-tune: {from_head: run, lora: 4, out: tuned}\n"
        "  - export: {run: tuned, to: onnx, data: null, range: null, out: model.onnx}\n"
    )
    assert steps_of(main("run", "plan.yaml", "--dry-run", "--json")) == [
        ("to do", "layertap train-head photos --net vgg16 --grid C=1,10 --valid 0.1 --out run"),
        ("to do", "layertap fine-tune photos --range=-1,1 --from-head run --lora 4 --cv 5 --out tuned"),
        ("to do", "layertap export tuned --to onnx --out model.onnx"),
    ]


def test_code_that_the_user_names_may_be_run(write: Callable[..., Path], main: Callable[..., Any]) -> None:
    write("steps:\n  - extract: {data: digits, net: nets/mine.py:make_net, transform: t.py}\n", "project")
    code = ("--code", "project/nets/mine.py", "--code", "project/t.py")
    [(_, command)] = steps_of(main("run", "project/plan.yaml", *code, "--dry-run", "--json"))
    assert command == "layertap extract digits --net nets/mine.py:make_net --transform t.py"
    write("steps:\n  - extract: {data: digits, net: 'nets/mine.py:evil.py:make_net'}\n", "project")
    assert "would run nets/mine.py:evil.py;" in main("run", "project/plan.yaml", *code).stderr


def test_a_run_that_is_there_is_refused_before_anything_runs(
    write: Callable[..., Path], mistake: Callable[..., str], tmp_path: Path
) -> None:
    write(PLAN)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    assert mistake("run", "plan.yaml") == (
        "step 3 (train-head): run exists, and this step has not made it as it is; choose another `out`."
    )


def test_a_plan_needs_pyyaml(
    write: Callable[..., Path], mistake: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(PLAN)
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert mistake("run", "plan.yaml") == "reading plan.yaml needs PyYAML: pip install 'layertap[plan]'"


@pytest.mark.slow
def test_a_plan_that_was_killed_goes_on_and_gives_the_same(
    write: Callable[..., Path], main: Callable[..., Any], tmp_path: Path, data: Path
) -> None:
    write(PLAN, "whole"), write(PLAN, "killed")
    assert main("run", "whole/plan.yaml").status == 0  # paths start from the folder of the plan
    shutil.copytree(tmp_path / "whole" / "features", tmp_path / "killed" / "features")
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "run", "plan.yaml"],
        cwd=tmp_path / "killed",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if line.startswith("step 3 of 4: layertap train-head"):
                process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "run").exists()

    outcome = main("run", "killed/plan.yaml")
    assert outcome.status == 0, outcome
    assert "step 2 of 4, done before: layertap sweep ../data" in outcome.stdout
    for made in ("sweep", "run"):
        assert scores(tmp_path / "killed" / made) == scores(tmp_path / "whole" / made)

    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "killed" / "run").rglob("*")}
    again = json.loads(main("run", "killed/plan.yaml", "--json").stdout)
    assert [step["stage"] for step in again["steps"]] == ["does what is missing", "done", "done", "done"]
    assert again["steps"][0]["result"]["rows_computed"] == 0
    assert {file: file.stat().st_mtime_ns for file in before} == before

    write(PLAN.replace("scale: true", "scale: false"), "killed")
    changed = steps_of(main("run", "killed/plan.yaml", "--json"))
    assert [stage for stage, _ in changed] == ["does what is missing", "done", "to do again", "to do"]
    assert steps_of(main("run", "killed/plan.yaml", "--dry-run", "--json"))[2][0] == "done"


@pytest.mark.slow
def test_the_plan_of_a_run_repeats_it(main: Callable[..., Any], tmp_path: Path, data: Path) -> None:
    (tmp_path / "head.py").write_text(
        "from sklearn.neighbors import KNeighborsClassifier as K\n\ndef make_head():\n    return K(3)\n"
    )
    train = ("train-head", "data", "--net", "glyphnet", "--layer", "block3_pool", "--layer", "block4_pool", "--cv", "2")
    sweep = ("sweep", "data", "--extract", "--head", "ridge", "--grid", "ridge.scale=true,false", "--jobs", "1")
    tune = ("fine-tune", "data", "--from-head", "runs/a", "--epochs", "1", "--batch-size", "4", "--valid=0.5")
    for words, out in ((train, "runs/a"), (sweep, "sweep"), (tune, "tuned")):
        assert main(*words, "--seed", "3", "--out", out, "--quiet").status == 0
        outcome = main("run", f"{out}/plan.yaml")
        assert outcome.status == 0, outcome
        assert scores(tmp_path / f"{out}-again") == scores(tmp_path / out)
    assert main(*train, "--head", "head.py", "--out", "own", "--json").status == 0
    assert "name it yourself: layertap run PLAN --code head.py" in main("run", "own/plan.yaml").stderr
    command = (tmp_path / "own" / "plan.yaml").read_text().splitlines()[1].partition(": layertap ")[2]
    assert main(*command.split()).status == 0
    assert scores(tmp_path / "own-again") == scores(tmp_path / "own")
