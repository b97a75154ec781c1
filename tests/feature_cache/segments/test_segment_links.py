"""Nothing outside a segment is ever followed from it, and features are stored in the ways that we write only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from feature_cache import FeatureSpec
from feature_cache.errors import DamagedFile
from feature_cache.segments import segment, segment_writer

N = 40
COLUMNS = ("features", "digest", "view", "check")


@pytest.fixture
def columns(made_rows: Callable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    digests, features = made_rows(0, N, (8, 8))
    return features, digests, np.zeros(N, np.uint32)


@pytest.fixture
def file(tmp_path: Path, spec: FeatureSpec, columns: tuple) -> Path:
    """A good segment."""
    return segment_writer.write(tmp_path, spec, *columns, {})


def refusal(file: Path, spec: FeatureSpec) -> str:
    """What is said of `file` when it is refused, or that it was read."""
    try:
        return f"read: {segment.read(file, spec)}"
    except DamagedFile as error:
        assert str(error).startswith(f"{file} ")
        return str(error)


def replace_dataset(file: Path, name: str, **dataset: object) -> np.ndarray:
    """Store a column in another way; the data that it had."""
    with h5py.File(file, "r+") as opened:
        data, attributes = opened[name][...], dict(opened[name].attrs)
        del opened[name]
        dataset = {"data": data, **dataset} if "shape" not in dataset else dataset
        opened.create_dataset(name, **dataset).attrs.update(attributes)
    return data


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("kind", ["external", "soft"])
def test_link_is_refused_and_not_followed(tmp_path: Path, file: Path, spec: FeatureSpec, name: str, kind: str):
    other = tmp_path / "other.h5"
    other.write_bytes(file.read_bytes())
    with h5py.File(file, "r+") as opened:
        opened.move(name, "elsewhere")
        opened[name] = h5py.ExternalLink(str(other), name) if kind == "external" else h5py.SoftLink("/elsewhere")
    assert f"({name} is not in the file itself)" in refusal(file, spec)


def test_link_in_place_of_the_parameters_of_codes_is_refused_and_not_followed(
    tmp_path: Path, file: Path, spec: FeatureSpec
):
    h5py.File(tmp_path / "other.h5", "w").close()
    with h5py.File(file, "r+") as opened:
        opened["coding"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/")
    assert "(coding is not in the file itself)" in refusal(file, spec)


@pytest.mark.parametrize("name", COLUMNS)
def test_group_in_place_of_a_column_is_refused(file: Path, spec: FeatureSpec, name: str):
    with h5py.File(file, "r+") as opened:
        del opened[name]
        opened.create_group(name)
    assert f"({name} is not a dataset of the file itself)" in refusal(file, spec)


@pytest.mark.parametrize("kind", ["dataset", "type", "group inside"])
def test_what_cannot_be_parameters_of_codes_is_refused(file: Path, spec: FeatureSpec, kind: str):
    with h5py.File(file, "r+") as opened:
        if kind == "dataset":
            opened["coding"] = np.ones(3)
        elif kind == "type":
            opened["coding"] = np.dtype("f4")
        else:
            opened.create_group("coding/scale")
    assert " is damaged or not a segment of this cache (" in refusal(file, spec)


@pytest.mark.parametrize("name", COLUMNS)
def test_external_storage_is_refused(tmp_path: Path, file: Path, spec: FeatureSpec, name: str):
    outside = tmp_path / "outside.bin"
    with h5py.File(file) as opened:
        data = opened[name][...]
    outside.write_bytes(data.tobytes())
    replace_dataset(file, name, shape=data.shape, dtype=data.dtype, external=[(str(outside), 0, data.nbytes)])
    assert f"({name} is not a dataset of the file itself)" in refusal(file, spec)


@pytest.mark.parametrize("name", COLUMNS)
def test_virtual_dataset_is_refused(tmp_path: Path, file: Path, spec: FeatureSpec, name: str):
    other = tmp_path / "other.h5"
    other.write_bytes(file.read_bytes())
    with h5py.File(file, "r+") as opened:
        shape, dtype = opened[name].shape, opened[name].dtype
        layout = h5py.VirtualLayout(shape, dtype)
        layout[:] = h5py.VirtualSource(str(other), name, shape)
        del opened[name]
        opened.create_virtual_dataset(name, layout)
    assert f"({name} is not a dataset of the file itself)" in refusal(file, spec)


@pytest.mark.parametrize("name", ["digest", "view", "check"])
@pytest.mark.parametrize("options", [{"chunks": True}, {"compression": "gzip"}], ids=["chunked", "compressed"])
def test_chunked_column_is_refused(file: Path, spec: FeatureSpec, name: str, options: dict):
    replace_dataset(file, name, **options)
    assert f"(/{name} is not contiguous)" in refusal(file, spec)


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": True},
        {"chunks": (N, 8, 8)},
        {"chunks": (N, 8, 8), "compression": "gzip"},
        {"chunks": (N, 8, 8), "shuffle": True},
        {"chunks": (N, 8, 4)},
        {"chunks": (1, 8, 8)},
    ],
    ids=str,
)
def test_features_in_chunks_or_filters_of_another_kind_are_refused(file: Path, spec: FeatureSpec, options: dict):
    replace_dataset(file, "features", **options)
    assert "(its features are in chunks or filters of another kind)" in refusal(file, spec)


@pytest.mark.parametrize("missing", [0, 3, slice(None)], ids=["first", "last", "all"])
def test_compressed_features_of_which_chunks_are_missing_are_refused(
    tmp_path: Path, spec: FeatureSpec, made_rows: Callable, missing: int | slice
):
    digests, features = made_rows(0, 200, (8, 8))
    path = segment_writer.write(tmp_path, spec, features, digests, np.zeros(200, np.uint32), {}, compress=True)
    with h5py.File(path, "r+") as opened:
        source = opened["features"]
        chunks = [source.id.read_direct_chunk((start, 0, 0)) for start in range(0, 200, 64)]
        plist = source.id.get_create_plist()
        del opened["features"]
        room = h5py.h5s.create_simple((200, 8, 8))
        target = h5py.h5d.create(opened.id, b"features", h5py.h5t.IEEE_F32LE, room, dcpl=plist)
        gone = set(np.arange(4)[missing].reshape(-1).tolist())
        for number, (_, chunk) in enumerate(chunks):
            if number not in gone:
                target.write_direct_chunk((64 * number, 0, 0), chunk)
    assert "(some of its chunks are missing)" in refusal(path, spec)


def test_chunk_that_claims_not_to_be_compressed_is_refused(tmp_path: Path, spec: FeatureSpec, made_rows: Callable):
    digests, features = made_rows(0, 200, (8, 8))
    path = segment_writer.write(tmp_path, spec, features, digests, np.zeros(200, np.uint32), {}, compress=True)
    with h5py.File(path, "r+") as opened:
        opened["features"].id.write_direct_chunk((64, 0, 0), features[64:128].tobytes(), filter_mask=1)
    assert "(some of its chunks are missing)" in refusal(path, spec)
