"""Runs: folders that appear whole or not at all, and are read back or refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from toy_data import blobs

from feature_cache import FeatureSpec
from feature_cache.errors import DamagedFile, InvalidChoice, StorageFailure, UnsafeFile
from heads import runs
from heads.logistic import LogisticHead

SPEC = FeatureSpec(net="test", weights="none", layer="a", size=(8, 16), pooling="none", fit="pad")


def config() -> dict:
    return {
        "spec": json.loads(SPEC.to_json()),
        "head": {"name": "logistic", "params": {"C": 0.5, "max_iter": 300}},
        "data": {"classes": ["ant", "bée"]},
    }


@pytest.fixture(scope="module")
def head() -> LogisticHead:
    return LogisticHead(C=0.5, max_iter=300).fit(*blobs())


@pytest.fixture
def run(tmp_path: Path, head: LogisticHead) -> Path:
    """A good run."""
    folder = tmp_path / "run"
    with runs.new_run(folder) as inside:
        runs.write(inside, head, config(), {"summary": {"valid": {"accuracy": 0.5}}})
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# Making one.


def test_run_is_whole_when_the_block_ends(tmp_path: Path, run: Path):
    assert names(run) == {"config.json", "metrics.json", "head.skops"}
    assert names(tmp_path) == {"run"}
    assert json.loads((run / "config.json").read_text(encoding="utf-8")) == {"format": 1, **config()}
    assert json.loads((run / "metrics.json").read_text(encoding="utf-8")) == {"summary": {"valid": {"accuracy": 0.5}}}


def test_run_is_not_there_before_the_block_ends(tmp_path: Path):
    folder = tmp_path / "deep" / "run"
    with runs.new_run(folder) as inside:
        (inside / "config.json").write_text("{}")
        assert not folder.exists()
        assert inside.parent == folder.parent
    assert names(folder) == {"config.json"}
    assert names(folder.parent) == {"run"}


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, InvalidChoice])
def test_block_that_raises_leaves_nothing(tmp_path: Path, error: type[BaseException]):
    with pytest.raises(error), runs.new_run(tmp_path / "run") as inside:
        (inside / "config.json").write_text("{}")
        raise error
    assert names(tmp_path) == set()


def test_block_that_raises_leaves_the_run_that_it_would_have_replaced(tmp_path: Path, run: Path):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(ZeroDivisionError), runs.new_run(run, overwrite=True) as inside:
        (inside / "config.json").write_text("{}")
        raise ZeroDivisionError
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert names(tmp_path) == {"run"}


def test_folder_that_is_not_a_run_is_refused_even_to_overwrite(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"dear")
    for overwrite in (False, True):
        with pytest.raises(InvalidChoice) as caught, runs.new_run(tmp_path / "photos", overwrite=overwrite):
            pytest.fail("the block was entered")
        assert str(caught.value) == (
            f"{tmp_path / 'photos'} exists and is not a run; choose another folder with --out."
        )
    assert names(tmp_path / "photos") == {"cat.png"}


def test_file_in_the_way_is_refused(tmp_path: Path):
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(InvalidChoice, match="exists and is not a run"), runs.new_run(tmp_path / "run", overwrite=True):
        pytest.fail("the block was entered")
    assert (tmp_path / "run").read_text() == "in the way"


def test_existing_run_is_refused(run: Path):
    before = (run / "config.json").read_bytes()
    with pytest.raises(InvalidChoice) as caught, runs.new_run(run):
        pytest.fail("the block was entered")
    assert str(caught.value) == (
        f"the run {run} exists; choose another folder with --out, or replace it with --overwrite."
    )
    assert (run / "config.json").read_bytes() == before


def test_existing_run_is_replaced_as_a_whole_when_told(tmp_path: Path, run: Path, head: LogisticHead):
    (run / "skipped.csv").write_text("left by the old run")
    with runs.new_run(run, overwrite=True) as inside:
        assert (run / "skipped.csv").exists()
        runs.write(inside, head, {**config(), "new": True}, {})
    assert names(run) == {"config.json", "metrics.json", "head.skops"}
    assert runs.read(run).config["new"] is True
    assert names(tmp_path) == {"run"}


def test_empty_folder_may_be_used(tmp_path: Path):
    (tmp_path / "run").mkdir()
    with runs.new_run(tmp_path / "run") as inside:
        (inside / "config.json").write_text("{}")
    assert names(tmp_path / "run") == {"config.json"}
    assert names(tmp_path) == {"run"}


def test_what_came_into_the_folder_while_the_block_ran_is_not_lost(tmp_path: Path):
    folder = tmp_path / "run"
    with pytest.raises(InvalidChoice), runs.new_run(folder) as inside:
        (inside / "config.json").write_text("{}")
        folder.mkdir()
        (folder / "config.json").write_text("of another process")
    assert (folder / "config.json").read_text() == "of another process"
    assert names(tmp_path) == {"run"}


def test_folder_that_cannot_be_made_is_a_storage_failure(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageFailure) as caught, runs.new_run(tmp_path / "file" / "run"):
        pytest.fail("the block was entered")
    assert str(caught.value) == f"cannot write the run {tmp_path / 'file' / 'run'}: Not a directory."


# Reading one.


def test_run_is_read_as_it_was_written(run: Path, head: LogisticHead):
    read = runs.read(run)
    X, _ = blobs()
    assert read.folder == run
    assert read.spec == SPEC
    assert read.config == {"format": 1, **config()}
    assert isinstance(read.head, LogisticHead)
    assert read.head.get_params() == head.get_params()
    np.testing.assert_array_equal(read.head.predict_proba(X), head.predict_proba(X))


@pytest.mark.parametrize("name", ["none", "empty"])
def test_folder_without_a_run_is_refused(tmp_path: Path, name: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidChoice) as caught:
        runs.read(tmp_path / name)
    assert str(caught.value) == (
        f"{tmp_path / name} is not a run (it has no config.json); make one with: layertap train-head, or fine-tune."
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"format": 1}',
        json.dumps({**config(), "format": "one"}),
        json.dumps({**config(), "format": None}),
        json.dumps({**config(), "format": 1, "spec": None}),
        json.dumps({**config(), "format": 1, "spec": {"net": "vgg16"}}),
        json.dumps({**config(), "format": 1, "head": "logistic"}),
        json.dumps({**config(), "format": 1, "head": {"name": "logistic"}}),
        json.dumps({**config(), "format": 1, "head": {"name": "logistic", "params": [1]}}),
        b"\xff\xfe",
        pytest.param("[" * 200_000, id="nested too deep"),
    ],
)
def test_garbled_config_is_a_damaged_file(run: Path, text: str | bytes):
    file = run / "config.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DamagedFile) as caught:
        runs.read(run)
    assert str(caught.value).startswith(f"{file} cannot be read (")
    assert str(caught.value).endswith("); train the head again.")


@pytest.mark.parametrize(
    "rest", [config(), {}, {**config(), "spec": {"net": "of the future"}}], ids=["same", "none", "new"]
)
def test_newer_format_asks_for_an_upgrade(run: Path, rest: dict):
    (run / "config.json").write_text(json.dumps({**rest, "format": 2}))
    with pytest.raises(DamagedFile) as caught:
        runs.read(run)
    assert str(caught.value) == f"{run} has format 2 and this Layertap reads up to 1; upgrade layertap."


def _with_head(run: Path, **changes: object) -> None:
    (run / "config.json").write_text(json.dumps({"format": 1, **config(), "head": {**config()["head"], **changes}}))


def test_unknown_head_is_named(run: Path):
    _with_head(run, name="forest")
    with pytest.raises(InvalidChoice, match="there is no head 'forest'"):
        runs.read(run)


def test_parameters_that_the_head_does_not_have_are_a_damaged_file(run: Path):
    _with_head(run, params={"depth": 3})
    with pytest.raises(DamagedFile) as caught:
        runs.read(run)
    assert str(caught.value) == (
        f"{run / 'config.json'} names parameters that the head 'logistic' does not have; train it again."
    )


def test_missing_head_is_a_damaged_file(run: Path):
    (run / "head.skops").unlink()
    with pytest.raises(DamagedFile, match="head.skops cannot be read"):
        runs.read(run)


def test_head_that_would_run_code_is_refused(run: Path):
    import os

    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    skops.io.dump(FunctionTransformer(os.system), run / "head.skops")
    with pytest.raises(UnsafeFile, match="may run code"):
        runs.read(run)
