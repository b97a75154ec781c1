"""Runs: folders that appear whole or not at all, and are read back or refused in words."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from feature_cache import FeatureSpec
from feature_cache.errors import DamagedFile, InvalidChoice, StorageFailure, UnsafeFile
from feature_cache.files.digest_list import read_digests
from heads.evaluation.views import Views
from heads.wrappers.classifiers import LogisticHead
from layertap import runs
from layertap.run_config import RunConfig, TaskConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "heads"))  # so that this file can be run alone
from toy_data import blobs  # noqa: E402

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
        runs.write(inside, head, RunConfig.from_json(config()), {"summary": {"valid": {"accuracy": 0.5}}})
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# Making one.


def test_run_is_whole_when_the_block_ends(tmp_path: Path, run: Path):
    assert names(run) == {"config.json", "metrics.json", "head.skops"}
    assert names(tmp_path) == {"run"}
    written = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert list(written.pop("files")) == ["head.skops"]
    assert len(written.pop("digest")) == 64
    assert written == {"format": 1, **config()}
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
            f"{tmp_path / 'photos'} exists and is not a run; choose another folder with `out`."
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
        f"the run {run} exists; choose another folder with `out`, or replace it with `overwrite=True`."
    )
    assert (run / "config.json").read_bytes() == before


def test_existing_run_is_replaced_as_a_whole_when_told(tmp_path: Path, run: Path, head: LogisticHead):
    (run / "skipped.csv").write_text("left by the old run")
    with runs.new_run(run, overwrite=True) as inside:
        assert (run / "skipped.csv").exists()
        runs.write(inside, head, RunConfig.from_json({**config(), "new": True}), {})
    assert names(run) == {"config.json", "metrics.json", "head.skops"}
    assert runs.load_run(run).config.other == {"new": True}
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
    read = runs.load_run(run)
    X, _ = blobs()
    assert read.folder == run
    assert read.spec == SPEC
    assert read.config.to_json() == {"format": 1, **config()}
    assert isinstance(read.head, LogisticHead)
    assert read.head.get_params() == head.get_params()
    np.testing.assert_array_equal(read.head.predict_proba(X), head.predict_proba(X))


def test_scores_are_read_after_a_change_of_the_working_folder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(run.parent)
    loaded = runs.load_run(run.name)
    expected = runs.load_run(run).metrics
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert loaded.metrics == expected != {}
    assert loaded.trained_on == runs.load_run(run).trained_on
    assert loaded.folder == Path(run.name)  # as it was named


@pytest.mark.parametrize("metrics", [None, "", "[]", "{", '{"summary": 1}', '{"summary": {"valid": {"accuracy": 1}}}'])
def test_run_without_its_scores_is_read_and_shown(run: Path, metrics: str | None):
    if metrics is None:
        (run / "metrics.json").unlink()
    else:
        (run / "metrics.json").write_text(metrics)
    read = runs.load_run(run)
    assert repr(read).endswith(" classes; no scores>")
    assert "Pictures" in read._repr_html_()
    if metrics in (None, "", "[]", "{"):
        with pytest.raises(DamagedFile, match="metrics.json cannot be read"):
            _ = read.scores
    else:
        assert read.scores == {}


@pytest.mark.parametrize("name", ["none", "empty"])
def test_folder_without_a_run_is_refused(tmp_path: Path, name: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidChoice) as caught:
        runs.load_run(tmp_path / name)
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
        runs.load_run(run)
    assert str(caught.value).startswith(f"{file} cannot be read (")
    assert str(caught.value).endswith("); train the head again.")


@pytest.mark.parametrize(
    "rest", [config(), {}, {**config(), "spec": {"net": "of the future"}}], ids=["same", "none", "new"]
)
def test_newer_format_asks_for_an_upgrade(run: Path, rest: dict):
    (run / "config.json").write_text(json.dumps({**rest, "format": 2}))
    with pytest.raises(DamagedFile) as caught:
        runs.load_run(run)
    assert str(caught.value) == f"{run} has format 2 and this Layertap reads up to 1; upgrade layertap."


def _without_digests(run: Path) -> dict:
    """Make `run` one of an earlier version, which did not say the digests of its files; what its config holds."""
    written = json.loads((run / "config.json").read_text(encoding="utf-8"))
    del written["files"], written["digest"]
    (run / "config.json").write_text(json.dumps(written))
    return written


def test_run_of_an_earlier_version_is_read(run: Path, head: LogisticHead):
    assert runs.load_run(run).config.to_json() == {"format": 1, **config()}
    assert _without_digests(run) == {"format": 1, **config()}
    X, _ = blobs()
    np.testing.assert_array_equal(runs.load_run(run).head.predict_proba(X), head.predict_proba(X))


@pytest.mark.parametrize("name", ["config.json", "head.skops"])
def test_every_altered_bit_of_a_run_is_refused_or_changes_nothing(run: Path, head: LogisticHead, name: str):
    X, _ = blobs()
    content, expected = (run / name).read_bytes(), head.predict_proba(X)
    rng = np.random.default_rng(0)
    places = range(len(content)) if len(content) < 1500 else rng.choice(len(content), 200, replace=False)
    refused = 0
    for place in places:
        altered = bytearray(content)
        altered[place] ^= 1 << int(rng.integers(8))
        (run / name).write_bytes(altered)
        try:
            read = runs.load_run(run)
        except (DamagedFile, InvalidChoice, UnsafeFile):
            refused += 1
        else:
            np.testing.assert_array_equal(read.head.predict_proba(X), expected)
            assert (read.spec, read.views, read.task) == (SPEC, Views(), TaskConfig())
    assert refused > 0.9 * len(places)


def test_what_was_removed_from_a_run_is_named(run: Path):
    (run / "head.skops").rename(run / "head.npz")
    with pytest.raises(DamagedFile, match="head.skops cannot be read .No such file or directory.; train again"):
        runs.load_run(run)


def test_digest_of_a_file_outside_the_run_is_not_computed(run: Path):
    from feature_cache.files.sealed_folder import content_digest

    for name in ("../outside.npz", "/dev/zero"):
        written = _without_digests(run)
        (run.parent / "outside.npz").write_bytes(b"x")
        content = {**written, "files": {name: {"bytes": 1, "sha256": "0" * 64}}}
        (run / "config.json").write_text(json.dumps({**content, "digest": content_digest(content)}))
        with pytest.raises(DamagedFile, match="which is not in the run"):
            runs.load_run(run)
        (run / "config.json").write_text(json.dumps({**written, "files": {}, "digest": ""}))


@pytest.fixture
def deadline() -> Iterator[None]:
    """What waits for longer than it may is interrupted."""

    def end(number: int, frame: object) -> None:
        raise TimeoutError("waited for a pipe")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("deadline")
@pytest.mark.parametrize("name", ["config.json", "head.skops", "head-images.npy"])
def test_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path, head: LogisticHead, name: str):
    folder = tmp_path / "run"
    with runs.new_run(folder) as inside:
        runs.write(inside, head, RunConfig.from_json(config()), {}, {b"\1" * 16})
    for with_digests in (True, False):
        if not with_digests and name != "config.json":
            (folder / name).unlink()
            (folder / name).write_bytes(b"")
            _without_digests(folder)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(DamagedFile, match=r"cannot be read \(.*it is a named pipe, not a regular file.*\)"):
            runs.load_run(folder)
            read_digests(folder / runs.HEAD_IMAGES)


def test_files_of_holes_are_refused_before_they_are_read(tmp_path: Path, run: Path):
    os.truncate(run / "config.json", 40 * 2**30)
    with pytest.raises(DamagedFile, match="it has 42,949,672,960 bytes, more than the 67,108,864 that it may have"):
        runs.load_run(run)
    np.save(tmp_path / "images.npy", np.zeros((1, 16), np.uint8))
    content = (tmp_path / "images.npy").read_bytes().replace(b"(1, 16), ", b"(2000000000, 16), ")[:128]
    (tmp_path / "images.npy").write_bytes(content.rstrip(b"\n\0 ").ljust(127) + b"\n")
    os.truncate(tmp_path / "images.npy", 128 + 16 * 2_000_000_000)
    with pytest.raises(DamagedFile, match="its digests are not in order"):
        read_digests(tmp_path / "images.npy")


@pytest.mark.parametrize(
    "change",
    [
        {"format": float("inf")},
        {"format": float("nan")},
        {"format": 1.0},
        {"format": True},
        {"format": 0},
        {"format": -(2**70)},
        {"head": {"name": 3, "params": {}}},
        {"head": {"name": "logistic", "params": {}, "code": 3}},
        {"spec": {**json.loads(SPEC.to_json()), "size": [100_000, 100_000]}},
        {"spec": {**json.loads(SPEC.to_json()), "size": [2**70, 2**70]}},
        {"spec": {**json.loads(SPEC.to_json()), "size": [True, 16]}},
        {"spec": {**json.loads(SPEC.to_json()), "recipe": [1]}},
        {"joined": [{"spec": json.loads(SPEC.to_json()), "net": None}] * 100_000},
        {"joined": {"spec": 1}},
        {"joined": [1]},
        {"joined": [{"spec": json.loads(SPEC.to_json())}]},
        {"views": [1]},
        {"views": {"count": 2.0}},
        {"views": {"counts": 2}},
        {"task": {"name": "classes", "columns": "abc"}},
        {"task": {"name": "multilabel", "labels": [1, 2]}},
        {"transforms": {"0" * 64: 5}},
    ],
    ids=lambda change: str(change)[:60],
)
def test_config_of_other_types_is_a_damaged_file(run: Path, change: dict):
    (run / "config.json").write_text(json.dumps({**_without_digests(run), **change}))
    with pytest.raises(DamagedFile) as caught:
        runs.load_run(run)
    assert str(caught.value).startswith(f"{run / 'config.json'} cannot be read (")
    assert len(str(caught.value)) < 600


def _with_head(run: Path, **changes: object) -> None:
    (run / "config.json").write_text(json.dumps({"format": 1, **config(), "head": {**config()["head"], **changes}}))


@pytest.mark.parametrize("key", ["transform", "net", "head"])
def test_a_long_name_of_code_is_cut_in_the_refusal(run: Path, key: str):
    content, name = _without_digests(run), f"{'x' * 10_000}.py:make_net"
    if key == "transform":
        content["spec"]["transform"] = name
    elif key == "head":
        content["head"]["name"] = name
    else:
        content["net"] = {"name": name, "weights": None, "seed": 0, "preprocessing": None}
    (run / "config.json").write_text(json.dumps(content))
    with pytest.raises(UnsafeFile, match="run only where you name it") as error:
        runs.load_run(run)
    assert len(str(error.value)) < 2_000


def test_unknown_head_is_named(run: Path):
    _with_head(run, name="forest")
    with pytest.raises(InvalidChoice, match="there is no head 'forest'"):
        runs.load_run(run)


def test_parameters_that_the_head_does_not_have_are_a_damaged_file(run: Path):
    _with_head(run, params={"depth": 3})
    with pytest.raises(DamagedFile) as caught:
        runs.load_run(run)
    assert str(caught.value) == (
        f"{run / 'config.json'} names parameters that the head 'logistic' does not have; train it again."
    )


def test_missing_head_is_a_damaged_file(run: Path):
    (run / "head.skops").unlink()
    with pytest.raises(DamagedFile, match="head.skops cannot be read"):
        runs.load_run(run)


def test_head_that_would_run_code_is_refused(run: Path):
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    skops.io.dump(FunctionTransformer(os.system), run / "head.skops")
    _without_digests(run)
    with pytest.raises(UnsafeFile, match="may run code"):
        runs.load_run(run)


@pytest.mark.parametrize("header", [b"{'descr': (((", b"{", b"'", b"{'shape': 2**9**9}", b"\xff"], ids=repr)
def test_garbled_header_of_digests_is_a_damaged_file(tmp_path: Path, header: bytes):
    file = tmp_path / "images.npy"
    file.write_bytes(b"\x93NUMPY\x01\x00v\x00" + header.ljust(117) + b"\n")
    with pytest.raises(DamagedFile, match="images.npy cannot be read"):
        read_digests(file)


def test_a_file_that_has_grown_is_refused_before_all_of_it_is_read(run: Path, deadline: None):
    os.truncate(run / "head.skops", 40 * 2**30)  # a hole, which takes no room
    with pytest.raises(DamagedFile, match="head.skops cannot be read .it was altered since it was written.; train"):
        runs.load_run(run)
