"""Files of plans: what is read is what was meant, anything else is refused, and what is written reads back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from feature_cache.errors import BadData, DamagedFile, InvalidChoice
from layertap.plans.reading import LARGEST, read_plan
from layertap.plans.steps import PlanState, Stage, Step
from layertap.plans.writing import write_plan, yaml_text

pytest.importorskip("yaml")


def plan_of(folder: Path, text: str) -> Path:
    file = folder / "plan.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_values_become_what_is_typed_on_the_command_line(tmp_path: Path) -> None:
    text = (
        "cv: 5\nsteps:\n  - extract\n  - train-head: {average_views: true, param: {C: 0.1, scale: false}, cv: null}\n"
    )
    plan = read_plan(plan_of(tmp_path, text))
    assert plan.shared == {"cv": "5"}
    assert plan.folder == tmp_path
    assert plan.steps == (
        ("extract", {}),
        ("train-head", {"average-views": True, "param": {"C": "0.1", "scale": "false"}, "cv": None}),
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("steps: [extract", "cannot be read"),
        ("- extract\n", "no list of 'steps'"),
        ("step:\n  - extract\n", "did you mean steps by step?"),
        ("steps: extract\n", "no list of 1 to 1,000 commands"),
        ("steps: []\n", "no list of 1 to 1,000 commands"),
        ("steps: [extract, [extract]]\n", "step 2 is not one command with its options"),
        ("steps:\n  - {extract: {}, sweep: {}}\n", "step 1 is not one command"),
        ("steps:\n  - extract: [digits]\n", "step 1 (extract): its options are no mapping"),
        ("steps:\n  - extract: {1: 2}\n", "step 1 (extract): 1 is no name of an option"),
        ("steps:\n  - extract: {layer: [[a]]}\n", "step 1 (extract): layer is a list in a list"),
        ("steps:\n  - extract: {data: 2026-01-02}\n", "step 1 (extract): data is a date, and no text"),
        ("steps:\n  - extract: {data: a, data: b}\n", "it has data twice"),
        ("steps:\n  - extract: {batch-size: 1, batch_size: 2}\n", "'batch-size' is there twice"),
        ('steps:\n  - extract: {data: "a\\0"}\n', "a character of code 0"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nsteps: [extract]\n", "it has the alias *a"),
        ("steps:\n  - !!python/object/apply:os.system [true]\n", "cannot be read"),
        ("steps: [{extract: {data: " + "[" * 60_000 + "}}]", "nested too deep"),
        ("steps: [extract]\nx: " + "9" * 5000 + "\n", "cannot be read"),
        ("#" * (LARGEST + 1), "cannot be read"),
        ("folder: [a]\nsteps: [extract]\n", "the 'folder' of"),
    ],
    ids=lambda text: text[:30],
)
def test_what_is_no_plan_is_refused_in_a_line(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(BadData) as error:
        read_plan(plan_of(tmp_path, text))
    assert reason.replace("'batch-size'", "batch-size") in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_written_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = ["5", "0.20", "007", "1e-3", "no", "N", "~", "a: b # c", "é😀", "\udcff\x7f\n'\"", "- x", "", "*a", "48x64"]
    folder = tmp_path / "runs" / "a\nb"
    folder.mkdir(parents=True)
    options = {"layer": texts, "param": {text: text for text in texts}, "join": True, "out": "a\n!!b"}
    write_plan(folder, "train-head", options, ["--code", "x\ny.py"])
    plan = read_plan(folder / "plan.yaml")
    assert plan.steps == (("train-head", options),)
    assert plan.folder == tmp_path
    assert yaml_text("ridge") == "ridge"


def test_what_is_secret_in_a_url_is_neither_written_nor_recorded(tmp_path: Path, state: PlanState) -> None:
    url = "https://me:hun'ter2@host/a.zip?sign=hunter2"
    write_plan(tmp_path, "sweep", {"data": url, "weights": ["vgg16=https://me:hunter2@host/w.h5"], "out": "again"})
    assert read_plan(tmp_path / "plan.yaml").steps[0][1]["data"] == "https://host/a.zip"
    state.begin(Step(1, ("extract", url), (url,)))
    texts = [file.read_text() for file in tmp_path.iterdir()]
    assert len(texts) == 2
    assert not any("ter2" in text for text in texts)


@pytest.fixture
def state(tmp_path: Path) -> PlanState:
    return PlanState(tmp_path / "plan.yaml", tmp_path)


def write(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


TRAIN = Step(1, ("train-head", "a.csv"), ("a.csv",), out="run", whole=True, replaces=True)
USE = Step(2, ("evaluate", "run"), ("run",))


def test_a_step_is_done_until_its_words_inputs_or_results_change(tmp_path: Path, state: PlanState) -> None:
    write(tmp_path / "a.csv", "1")
    assert state.stages([TRAIN, USE]) == [Stage.TO_DO, Stage.TO_DO]
    for step in (TRAIN, USE):
        state.begin(step)
        write(tmp_path / "run" / "config.json", "1")
        state.finish(step)
    state = PlanState(tmp_path / "plan.yaml", tmp_path)  # of another process
    assert state.stages([TRAIN, USE]) == [Stage.DONE, Stage.DONE]
    other = Step(1, ("train-head", "a.csv", "--cv", "3"), ("a.csv", "3"), out="run", whole=True, replaces=True)
    assert state.stages([other, USE]) == [Stage.AGAIN, Stage.TO_DO]
    write(tmp_path / "a.csv", "2")
    assert state.stages([TRAIN, USE]) == [Stage.AGAIN, Stage.TO_DO]
    write(tmp_path / "a.csv", "1")
    (tmp_path / "run" / "config.json").unlink()
    (tmp_path / "run").rmdir()
    assert state.stages([TRAIN, USE]) == [Stage.TO_DO, Stage.TO_DO]


def test_what_a_killed_process_left_is_known_by_what_was_there_before(tmp_path: Path, state: PlanState) -> None:
    state.begin(TRAIN)
    assert PlanState(tmp_path / "plan.yaml", tmp_path).stage(TRAIN) is Stage.TO_DO
    write(tmp_path / "run" / "config.json", "new")  # it was killed before it could say so
    assert state.stage(TRAIN) is Stage.DONE
    state.begin(TRAIN)  # it is replaced, and killed before the new one is there
    assert state.stage(TRAIN) is Stage.AGAIN


def test_what_a_step_has_not_made_is_not_touched(tmp_path: Path, state: PlanState) -> None:
    write(tmp_path / "run" / "config.json", "foreign")
    with pytest.raises(InvalidChoice, match=r"^step 1 \(train-head\): run exists, and this step has not made it"):
        state.stages([TRAIN, USE])
    (tmp_path / "run" / "config.json").unlink()
    (tmp_path / "run").rmdir()
    state.begin(TRAIN)
    write(tmp_path / "run" / "config.json", "ours")
    state.finish(TRAIN)
    write(tmp_path / "run" / "config.json", "changed since")
    with pytest.raises(InvalidChoice, match="choose another `out`"):
        state.stages([TRAIN])


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": 2, "steps": {}}', '{"format": 1, "steps": {"a": {"words": 1}}}']
)
def test_a_state_that_is_none_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.done.json").write_text(text)
    with pytest.raises(DamagedFile, match="delete it, and all steps are done anew"):
        PlanState(tmp_path / "plan.yaml", tmp_path)


def test_files_in_a_folder_that_a_step_names_count(tmp_path: Path, state: PlanState) -> None:
    step = Step(1, ("evaluate", "run", "photos"), ("run", "photos"))
    write(tmp_path / "photos" / "a.png", "1")
    state.begin(step)
    state.finish(step)
    assert state.stage(step) is Stage.DONE
    os.utime(tmp_path / "photos" / "a.png", (1, 1))
    assert state.stages([step]) == [Stage.TO_DO]
