"""One segment file: whole or not there, memory-mapped, and refused when anything about it is off."""

from __future__ import annotations

import json
import multiprocessing
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from feature_cache import FeatureSpec, segment
from feature_cache.errors import DamagedFile, StorageFailure

N = 40
ROW = (8, 8)  # 10 KiB of features in all: more than a page


@pytest.fixture
def columns(made_rows: Callable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, digests and views of N rows."""
    digests, features = made_rows(0, N, ROW)
    return features, digests, (np.arange(N) % 3).astype(np.uint32)


@pytest.fixture
def file(tmp_path: Path, spec: FeatureSpec, columns: tuple) -> Path:
    """A good segment."""
    return segment.write(tmp_path, spec, *columns, {"engine": "test"})


def refusal(file: Path, spec: FeatureSpec) -> str:
    """What is said of `file` when it is refused."""
    with pytest.raises(DamagedFile) as caught:
        segment.read(file, spec)
    message = str(caught.value)
    assert str(file) in message
    assert "\n" not in message
    return message


# What is written is what is read.


@pytest.mark.parametrize("row_shape", [(), (1,), (5,), (3, 4, 2), (1024,)], ids=str)
@pytest.mark.parametrize("n", [1, 7])
def test_round_trip_gives_equal_columns(
    tmp_path: Path, spec: FeatureSpec, made_rows: Callable, n: int, row_shape: tuple
):
    digests, features = made_rows(3, n, row_shape)
    views = np.arange(n, dtype=np.uint32) * 70_000
    read = segment.read(segment.write(tmp_path, spec, features, digests, views, {"engine": "test", "n": 1}), spec)
    assert len(read) == n
    assert read.row_shape == row_shape
    assert read.dtype == np.float32
    assert read.provenance == {"engine": "test", "n": 1}
    for got, expected in ((read.rows, features), (read.digests, digests), (read.views, views)):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


def test_special_values_survive_bit_by_bit(tmp_path: Path, spec: FeatureSpec):
    features = np.array([[np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4e38]], np.float32)
    path = segment.write(tmp_path, spec, features, np.zeros((1, 16), np.uint8), np.zeros(1, np.uint32), {})
    assert segment.read(path, spec).rows.tobytes() == features.tobytes()


def test_columns_that_are_not_contiguous_are_written_by_value(tmp_path: Path, spec: FeatureSpec, columns: tuple):
    features, digests, views = columns
    path = segment.write(tmp_path, spec, np.asfortranarray(features)[::-1], digests[::-1], views[::-1], {})
    np.testing.assert_array_equal(segment.read(path, spec).rows, features[::-1])
    np.testing.assert_array_equal(segment.read(path, spec).digests, digests[::-1])


def test_segment_without_rows_is_read(tmp_path: Path, spec: FeatureSpec, made_rows: Callable):
    digests, features = made_rows(0, 0, (5,))
    read = segment.read(segment.write(tmp_path, spec, features, digests, np.zeros(0, np.uint32), {}), spec)
    assert len(read) == 0
    assert read.row_shape == (5,)


def test_rows_are_mapped_read_only_and_begin_on_a_page(file: Path, spec: FeatureSpec, columns: tuple):
    read = segment.read(file, spec)
    assert isinstance(read.rows, np.memmap)
    assert read.offset % 4096 == 0
    assert read.rows.ctypes.data % 4096 == 0
    assert file.read_bytes()[read.offset :][: columns[0].nbytes] == columns[0].tobytes()
    with pytest.raises(ValueError, match="read-only"):
        read.rows[0] = 0


def test_any_hdf5_reader_finds_the_columns_and_the_attributes(file: Path, spec: FeatureSpec, columns: tuple):
    with h5py.File(file) as opened:
        assert set(opened) == {"features", "digest", "view"}
        np.testing.assert_array_equal(opened["features"], columns[0])
        np.testing.assert_array_equal(opened["digest"], columns[1])
        np.testing.assert_array_equal(opened["view"], columns[2])
        assert opened.attrs["layertap_format"] == 1
        assert opened.attrs["spec"] == spec.to_json()
        assert opened.attrs["checksum"] == segment.checksum(*columns)
        assert json.loads(opened.attrs["provenance"]) == {"engine": "test"}


def test_checksum_depends_on_every_column_and_not_on_the_layout(columns: tuple):
    features, digests, views = columns
    known = segment.checksum(features, digests, views)
    assert segment.checksum(np.asfortranarray(features), digests.copy("F"), views) == known
    for position in range(3):
        changed = [column.copy() for column in columns]
        changed[position].flat[-1] += 1
        assert segment.checksum(*changed) != known


def test_segments_have_names_of_their_own(tmp_path: Path, spec: FeatureSpec, columns: tuple):
    paths = {segment.write(tmp_path, spec, *columns, {}) for _ in range(3)}
    assert len(paths) == 3
    assert set(tmp_path.iterdir()) == paths == set(tmp_path.glob(segment.PATTERN))


# What is damaged or foreign is refused.


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.1, 0.01])
def test_truncated_segment_is_refused_with_its_name(file: Path, spec: FeatureSpec, kept: float):
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    message = refusal(file, spec)
    assert message.startswith(f"{file} is damaged or not a segment of this cache (")
    assert message.endswith("). Move it away; the next extract computes its rows again.")


@pytest.mark.parametrize("content", [b"", b"\0" * 9000, b"GIF89a" * 900, b"\x89HDF\r\n\x1a\n"], ids=len)
def test_file_that_is_not_hdf5_is_refused(tmp_path: Path, spec: FeatureSpec, content: bytes):
    file = tmp_path / "segment-foreign.h5"
    file.write_bytes(content)
    assert "is damaged or not a segment of this cache" in refusal(file, spec)


@pytest.mark.parametrize("name", ["segment-none.h5", "segment-folder.h5"])
def test_what_is_not_a_file_is_refused_with_a_reason_in_words(tmp_path: Path, spec: FeatureSpec, name: str):
    (tmp_path / "segment-folder.h5").mkdir()
    message = refusal(tmp_path / name, spec)
    reason = message.partition("(")[2].partition(")")[0]
    assert len(reason.split()) > 1, f"not a reason: {reason!r}"


def test_newer_format_asks_for_an_upgrade(file: Path, spec: FeatureSpec):
    with h5py.File(file, "r+") as opened:
        opened.attrs["layertap_format"] = 2
    assert refusal(file, spec) == (
        f"{file} has format 2 and this Layertap reads up to 1; upgrade layertap, or choose another folder with --cache."
    )


def test_newer_format_is_told_before_anything_else_is_looked_at(tmp_path: Path, spec: FeatureSpec):
    file = tmp_path / "segment-new.h5"
    with h5py.File(file, "w") as opened:
        opened.attrs["layertap_format"] = 9
    assert "has format 9 and this Layertap reads up to 1" in refusal(file, spec)


def test_segment_of_another_spec_is_refused(file: Path, spec: FeatureSpec):
    assert "its feature spec is not its folder's" in refusal(file, replace(spec, layer="fc1"))


@pytest.mark.parametrize("attribute", ["layertap_format", "spec", "provenance"])
def test_missing_attribute_is_refused(file: Path, spec: FeatureSpec, attribute: str):
    with h5py.File(file, "r+") as opened:
        del opened.attrs[attribute]
    refusal(file, spec)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("layertap_format", "one"),
        ("layertap_format", [1, 1]),
        ("layertap_format", h5py.Empty("i8")),
        ("spec", [1, 2, 3]),
        ("spec", b"\xff\xff"),
        ("provenance", "{"),
        ("provenance", "[1, 2]"),
        ("provenance", "null"),
        ("provenance", 3.5),
        ("provenance", "[" * 60_000),
    ],
    ids=lambda value: str(value)[:20],
)
def test_garbled_attribute_is_refused(file: Path, spec: FeatureSpec, attribute: str, value: object):
    with h5py.File(file, "r+") as opened:
        opened.attrs[attribute] = value
    refusal(file, spec)


@pytest.mark.parametrize("name", ["features", "digest", "view"])
def test_missing_column_is_refused(file: Path, spec: FeatureSpec, name: str):
    with h5py.File(file, "r+") as opened:
        del opened[name]
    assert f"{name} is not in the file itself" in refusal(file, spec)


def _replace(file: Path, name: str, **dataset: object) -> None:
    with h5py.File(file, "r+") as opened:
        del opened[name]
        opened.create_dataset(name, **dataset)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("digest", np.zeros((N - 1, 16), np.uint8)),
        ("digest", np.zeros((N, 15), np.uint8)),
        ("digest", np.zeros((N, 16), np.int8)),
        ("digest", np.zeros(N, "V16")),
        ("view", np.zeros(N + 1, np.uint32)),
        ("view", np.zeros((N, 1), np.uint32)),
        ("features", np.zeros((N - 1, *ROW), np.float32)),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.dtype}{value.shape}",
)
def test_columns_that_do_not_fit_are_refused(file: Path, spec: FeatureSpec, name: str, data: np.ndarray):
    _replace(file, name, data=data)
    assert "its columns do not fit together" in refusal(file, spec)


@pytest.mark.parametrize("dtype", ["float64", "float16", ">f4", "int32"])
def test_features_of_another_dtype_are_refused(file: Path, spec: FeatureSpec, dtype: str):
    _replace(file, "features", data=np.zeros((N, *ROW), dtype))
    assert f"its features are {np.dtype(dtype)}" in refusal(file, spec)


@pytest.mark.parametrize("name", ["features", "digest", "view"])
@pytest.mark.parametrize("data", [np.float32(1), h5py.Empty("f4"), "text"], ids=["scalar", "no space", "text"])
def test_column_without_rows_is_refused(file: Path, spec: FeatureSpec, name: str, data: object):
    _replace(file, name, data=data)
    refusal(file, spec)


def test_views_that_are_not_numbers_are_refused(file: Path, spec: FeatureSpec):
    _replace(file, "view", data=np.array(["one"] * N, dtype=h5py.string_dtype()))
    refusal(file, spec)


def test_group_in_place_of_a_column_is_refused(file: Path, spec: FeatureSpec):
    with h5py.File(file, "r+") as opened:
        del opened["features"]
        opened.create_group("features")
    assert "features is not a contiguous dataset" in refusal(file, spec)


@pytest.mark.parametrize("name", ["features", "digest", "view"])
@pytest.mark.parametrize("options", [{"chunks": True}, {"compression": "gzip"}], ids=["chunked", "compressed"])
def test_chunked_column_is_refused(file: Path, spec: FeatureSpec, columns: tuple, name: str, options: dict):
    data = dict(zip(("features", "digest", "view"), columns, strict=True))[name]
    _replace(file, name, data=data, **options)
    assert f"{name} is not a contiguous dataset" in refusal(file, spec)


@pytest.mark.parametrize("name", ["features", "digest", "view"])
def test_external_storage_is_refused(tmp_path: Path, file: Path, spec: FeatureSpec, columns: tuple, name: str):
    data = dict(zip(("features", "digest", "view"), columns, strict=True))[name]
    outside = tmp_path / "outside.bin"
    outside.write_bytes(data.tobytes())
    _replace(file, name, shape=data.shape, dtype=data.dtype, external=[(str(outside), 0, data.nbytes)])
    assert f"{name} is not a contiguous dataset" in refusal(file, spec)


@pytest.mark.parametrize("name", ["features", "digest", "view"])
@pytest.mark.parametrize("kind", ["external", "soft"])
def test_link_is_refused_and_not_followed(tmp_path: Path, file: Path, spec: FeatureSpec, name: str, kind: str):
    other = tmp_path / "other.h5"
    other.write_bytes(file.read_bytes())
    with h5py.File(file, "r+") as opened:
        opened.move(name, "elsewhere")
        opened[name] = h5py.ExternalLink(str(other), name) if kind == "external" else h5py.SoftLink("/elsewhere")
    assert f"{name} is not in the file itself" in refusal(file, spec)


@pytest.mark.parametrize("name", ["features", "digest", "view"])
def test_virtual_dataset_is_refused(tmp_path: Path, file: Path, spec: FeatureSpec, columns: tuple, name: str):
    data = dict(zip(("features", "digest", "view"), columns, strict=True))[name]
    other = tmp_path / "other.h5"
    other.write_bytes(file.read_bytes())
    layout = h5py.VirtualLayout(data.shape, data.dtype)
    layout[:] = h5py.VirtualSource(str(other), name, data.shape)
    with h5py.File(file, "r+") as opened:
        del opened[name]
        opened.create_virtual_dataset(name, layout)
    assert f"{name} is not a contiguous dataset" in refusal(file, spec)


def test_features_that_were_never_stored_are_refused(file: Path, spec: FeatureSpec):
    _replace(file, "features", shape=(N, *ROW), dtype=np.float32)  # HDF5 gives them room when they are written
    assert "its features are cut short" in refusal(file, spec)


def test_small_file_that_claims_more_rows_than_memory_is_refused(file: Path, spec: FeatureSpec):
    rows = 2**50
    _replace(file, "features", shape=(rows, 0), dtype=np.float32)
    _replace(file, "digest", shape=(rows, 16), dtype=np.uint8)
    _replace(file, "view", shape=(rows,), dtype=np.uint32)
    refusal(file, spec)


# A write that fails leaves nothing behind.


def test_write_into_a_folder_that_is_gone_is_a_storage_failure(tmp_path: Path, spec: FeatureSpec, columns: tuple):
    folder = tmp_path / "gone"
    with pytest.raises(StorageFailure) as caught:
        segment.write(folder, spec, *columns, {})
    message = str(caught.value)
    assert message.startswith(f"cannot write features to {folder}: ")
    assert "No such file or directory" in message
    assert message.endswith(
        "What was written before is intact; make room or choose another folder with --cache, "
        "then run the same command again."
    )
    assert not folder.exists()


def test_write_that_raises_in_the_middle_leaves_nothing(tmp_path: Path, spec: FeatureSpec, columns: tuple):
    with pytest.raises(TypeError, match="not JSON serializable"):
        segment.write(tmp_path, spec, *columns, {"engine": object()})
    assert list(tmp_path.iterdir()) == []


def test_interrupt_in_the_middle_leaves_nothing(tmp_path: Path, spec: FeatureSpec, columns: tuple):
    class Interrupted(dict):
        def items(self):  # type: ignore[no-untyped-def]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment.write(tmp_path, spec, *columns, Interrupted(engine="test"))
    assert list(tmp_path.iterdir()) == []


def _write_with_little_room(limit: int, folder: Path, spec: FeatureSpec, columns: tuple, answer: object) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit then fails, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        segment.write(folder, spec, *columns, {})
        answer.send(("written", ""))
    except BaseException as error:
        answer.send((type(error).__name__, str(error)))


@pytest.mark.parametrize("limit", [100, 5000, 13_000], ids=["nothing", "a part of the features", "all but the end"])
def test_full_disk_is_a_storage_failure_and_leaves_what_was_there(
    tmp_path: Path, spec: FeatureSpec, columns: tuple, file: Path, limit: int
):
    assert limit < file.stat().st_size
    context = multiprocessing.get_context("spawn")
    answer, end = context.Pipe(duplex=False)
    child = context.Process(target=_write_with_little_room, args=(limit, tmp_path, spec, columns, end))
    child.start()
    end.close()
    try:
        kind, message = answer.recv()
    finally:
        child.join(30)
        child.kill()
    assert kind == "StorageFailure", f"{kind}: {message}"
    assert message.startswith(f"cannot write features to {tmp_path}: ")
    assert child.exitcode == 0
    assert list(tmp_path.iterdir()) == [file]
    np.testing.assert_array_equal(segment.read(file, spec).rows, columns[0])


class StuckSpec(FeatureSpec):
    """A spec that, while it is written into a segment, says so and then waits for ever."""

    def to_json(self) -> str:
        Path(self.net).touch()
        time.sleep(600)
        raise AssertionError("nobody killed this process")


def _write_and_stick(folder: Path, here: Path, columns: tuple) -> None:
    segment.write(folder, StuckSpec(net=str(here), weights="none", layer="a", size=(8, 8)), *columns, {})


def test_kill_in_the_middle_of_a_write_leaves_a_temporary_file_that_is_not_read(
    tmp_path: Path, spec: FeatureSpec, columns: tuple
):
    folder, here = tmp_path / "space", tmp_path / "here"
    folder.mkdir()
    child = multiprocessing.get_context("spawn").Process(target=_write_and_stick, args=(folder, here, columns))
    child.start()
    deadline = time.monotonic() + 60
    while not here.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    (left,) = folder.iterdir()
    assert left.name.endswith(".tmp")
    assert list(folder.glob(segment.PATTERN)) == []
