"""A file that is not a good segment of its space is refused, with its name and a reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from cache_helpers import in_child

from feature_cache import FeatureSpec
from feature_cache.errors import DamagedFile
from feature_cache.segments import encoding, segment, segment_writer

N = 40
ROW = (8, 8)
COLUMNS = ("features", "digest", "view", "check")


@pytest.fixture
def columns(made_rows: Callable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, digests and views of N rows."""
    digests, features = made_rows(0, N, ROW)
    return features, digests, (np.arange(N) % 3).astype(np.uint32)


@pytest.fixture
def file(tmp_path: Path, spec: FeatureSpec, columns: tuple) -> Path:
    """A good segment."""
    return segment_writer.write(tmp_path, spec, *columns, {"engine": "test"})


def refusal(file: Path, spec: FeatureSpec) -> str:
    """What is said of `file` when it is refused."""
    with pytest.raises(DamagedFile) as caught:
        segment.read(file, spec)
    message = str(caught.value)
    assert message.startswith(f"{file} ")
    assert "\n" not in message
    return message


def reason(file: Path, spec: FeatureSpec) -> str:
    """Why `file` is refused as damaged."""
    start = f"{file} is damaged or not a segment of this cache ("
    end = (
        f"). Set it aside with: `feature_cache.maintenance.verify.repair({str(file.parent.parent)!r})`; "
        "the next extract computes its rows again."
    )
    message = refusal(file, spec)
    assert message.startswith(start)
    assert message.endswith(end)
    return message.removeprefix(start).removesuffix(end)


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.1, 0.01])
def test_truncated_segment_is_refused_with_its_name(file: Path, spec: FeatureSpec, kept: float):
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    assert reason(file, spec)


@pytest.mark.parametrize("content", [b"", b"\0" * 9000, b"GIF89a" * 900, b"\x89HDF\r\n\x1a\n"], ids=len)
def test_file_that_is_not_hdf5_is_refused(tmp_path: Path, spec: FeatureSpec, content: bytes):
    file = tmp_path / "segment-foreign.h5"
    file.write_bytes(content)
    assert len(reason(file, spec).split()) > 1


def test_folder_is_refused_with_a_reason_in_words(tmp_path: Path, spec: FeatureSpec):
    (tmp_path / "segment-folder.h5").mkdir()
    assert len(reason(tmp_path / "segment-folder.h5", spec).split()) > 1


def test_file_that_is_not_there_is_told_from_a_damaged_one(tmp_path: Path, spec: FeatureSpec):
    with pytest.raises(FileNotFoundError) as caught:
        segment.read(tmp_path / "segment-none.h5", spec)
    assert not isinstance(caught.value, DamagedFile)


def _refused(file: Path, spec: FeatureSpec) -> str:
    try:
        return f"read: {segment.read(file, spec)}"
    except DamagedFile as error:
        return str(error)


def test_pipe_is_refused_and_not_waited_for(tmp_path: Path, spec: FeatureSpec):
    os.mkfifo(tmp_path / "segment-pipe.h5")
    assert "(not a file)" in in_child(_refused, tmp_path / "segment-pipe.h5", spec, seconds=20)


@pytest.mark.parametrize("known", [True, False], ids=["else as now", "nothing else"])
def test_newer_format_asks_for_an_upgrade(file: Path, spec: FeatureSpec, known: bool):
    with h5py.File(file, "r+" if known else "w") as opened:
        opened.attrs["layertap_format"] = 3
    assert refusal(file, spec) == (
        f"{file} has format 3 and this Layertap reads 2; upgrade layertap, or choose another folder with `cache`."
    )


def test_older_format_is_to_be_removed(file: Path, spec: FeatureSpec):
    with h5py.File(file, "w") as opened:
        opened.attrs["layertap_format"] = 1
    assert refusal(file, spec) == (
        f"{file} has format 1 and this Layertap reads 2; it was written before the first release: "
        "remove it, and extract again."
    )


def test_segment_of_another_spec_is_refused(file: Path, spec: FeatureSpec):
    assert reason(file, replace(spec, layer="fc1")) == "its feature spec is not its folder's"


@pytest.mark.parametrize("attribute", ["layertap_format", "spec", "provenance", "checksum"])
def test_missing_attribute_is_refused(file: Path, spec: FeatureSpec, attribute: str):
    with h5py.File(file, "r+") as opened:
        del opened.attrs[attribute]
    assert attribute in reason(file, spec)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("layertap_format", "one"),
        ("layertap_format", [2, 2]),
        ("layertap_format", h5py.Empty("i8")),
        ("layertap_format", float("inf")),
        ("spec", [1, 2, 3]),
        ("spec", b"\xff\xff"),
        ("spec", h5py.Empty("S3")),
        ("provenance", "{}"),
        ("provenance", "[1, 2]"),
        ("provenance", 3.5),
        ("provenance", "[" * 60_000),
        ("checksum", "0" * 32),
        ("checksum", np.zeros(4)),
    ],
    ids=lambda value: str(value)[:20],
)
def test_garbled_attribute_is_refused(file: Path, spec: FeatureSpec, attribute: str, value: object):
    with h5py.File(file, "r+") as opened:
        opened.attrs[attribute] = value
    assert reason(file, spec)


@pytest.mark.parametrize("value", ["64", 0, -1, 7, h5py.Empty("i8"), float("nan")], ids=str)
def test_garbled_size_of_blocks_is_refused(file: Path, spec: FeatureSpec, value: object):
    with h5py.File(file, "r+") as opened:
        opened["check"].attrs["rows_per_block"] = value
    if value == "64":  # h5py gives a text, and that is a number too
        segment.read(file, spec)
    else:
        assert reason(file, spec)


@pytest.mark.parametrize("name", COLUMNS)
def test_missing_column_is_refused(file: Path, spec: FeatureSpec, name: str):
    with h5py.File(file, "r+") as opened:
        del opened[name]
    assert reason(file, spec) == f"{name} is not in the file itself"


@pytest.mark.parametrize("name", ["digest", "view", "check"])
def test_altered_column_is_refused(file: Path, spec: FeatureSpec, name: str):
    with h5py.File(file, "r+") as opened:
        column = opened[name]
        column[-1] = column[-1] ^ 1
    assert reason(file, spec) == "its checksum does not agree"


def test_altered_or_added_parameters_of_codes_are_refused(tmp_path: Path, spec: FeatureSpec, columns: tuple):
    parameters = {"scale": np.ones(8, np.float32)}
    coded = replace(spec, dtype="int8", coding=f"int8-{encoding.digest(parameters)}")
    arguments = coded, columns[0].astype(np.int8), *columns[1:], {}
    altered, added, without = (
        segment_writer.write(tmp_path, *arguments, coding=kept) for kept in (parameters, parameters, None)
    )
    with h5py.File(altered, "r+") as opened:
        opened["coding/scale"][0] = 2
    assert reason(altered, coded) == "its checksum does not agree"
    with h5py.File(added, "r+") as opened:
        opened["coding/more"] = np.ones(3)
    assert reason(added, coded) == "its checksum does not agree"
    assert reason(without, coded) == "it holds codes of another kind"


def _replace(file: Path, name: str, **dataset: object) -> None:
    with h5py.File(file, "r+") as opened:
        attributes = dict(opened[name].attrs)
        del opened[name]
        opened.create_dataset(name, **dataset).attrs.update(attributes)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("digest", np.zeros((N - 1, 16), np.uint8)),
        ("digest", np.zeros((N, 15), np.uint8)),
        ("digest", np.zeros((N, 16), np.int8)),
        ("digest", np.zeros(N, "V16")),
        ("view", np.zeros(N + 1, np.uint32)),
        ("view", np.zeros((N, 1), np.uint32)),
        ("view", np.zeros(N, np.int64)),
        ("features", np.zeros((N - 1, *ROW), np.float32)),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.dtype}{value.shape}",
)
def test_columns_that_do_not_fit_are_refused(file: Path, spec: FeatureSpec, name: str, data: np.ndarray):
    _replace(file, name, data=data)
    assert reason(file, spec) == "its columns do not fit together"


@pytest.mark.parametrize("data", [np.zeros(2, np.uint64), np.zeros((1, 1), np.uint64), np.zeros(1, np.int64)])
def test_checks_that_do_not_fit_are_refused(file: Path, spec: FeatureSpec, data: np.ndarray):
    _replace(file, "check", data=data)
    assert reason(file, spec) == "its checks do not fit its rows"


@pytest.mark.parametrize("dtype", ["float64", "float16", ">f4", "int32"])
def test_features_of_another_dtype_are_refused(file: Path, spec: FeatureSpec, dtype: str):
    _replace(file, "features", data=np.zeros((N, *ROW), dtype))
    assert reason(file, spec) == f"its features are {np.dtype(dtype)}"


def test_features_of_another_row_shape_are_refused(file: Path, spec: FeatureSpec, columns: tuple):
    _replace(file, "features", data=columns[0].reshape(N, -1))
    assert reason(file, spec) == "its checksum does not agree"


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("data", [np.float32(1), h5py.Empty("f4"), "text"], ids=["scalar", "no space", "text"])
def test_column_without_rows_is_refused(file: Path, spec: FeatureSpec, name: str, data: object):
    _replace(file, name, data=data)
    assert reason(file, spec)


def test_views_that_are_not_numbers_are_refused(file: Path, spec: FeatureSpec):
    _replace(file, "view", data=np.array(["one"] * N, dtype=h5py.string_dtype()))
    assert reason(file, spec)


def test_features_that_were_never_stored_are_refused(file: Path, spec: FeatureSpec):
    _replace(file, "features", shape=(N, *ROW), dtype=np.float32)  # HDF5 gives them room when they are written
    assert reason(file, spec) == "its features are cut short"


def test_small_file_that_claims_more_rows_than_memory_is_refused(file: Path, spec: FeatureSpec):
    rows = 2**50
    _replace(file, "features", shape=(rows, 0), dtype=np.float32)
    _replace(file, "digest", shape=(rows, 16), dtype=np.uint8)
    _replace(file, "view", shape=(rows,), dtype=np.uint32)
    assert reason(file, spec)
