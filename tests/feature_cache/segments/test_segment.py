"""One segment file: what is written is what is read, and any HDF5 reader finds it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import xxhash
from cache_helpers import stored_rows, text

from feature_cache import FeatureSpec
from feature_cache.segments import encoding, segment, segment_writer
from feature_cache.segments.layout import BLOCK_BYTES, SEGMENTS, rows_per_block

N = 200
ROW = (8, 8)  # 50 KiB of features in all: four blocks, the last of them not full


@pytest.fixture
def columns(made_rows: Callable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, digests and views of N rows."""
    digests, features = made_rows(0, N, ROW)
    return features, digests, (np.arange(N) % 3).astype(np.uint32)


@pytest.mark.parametrize("row_shape", [(), (1,), (5,), (3, 4, 2), (1024,), (5000,)], ids=str)
@pytest.mark.parametrize("n", [1, 7])
def test_round_trip_gives_equal_columns(
    tmp_path: Path, spec: FeatureSpec, made_rows: Callable, n: int, row_shape: tuple, compress: bool
):
    digests, features = made_rows(3, n, row_shape)
    views = np.arange(n, dtype=np.uint32) * 70_000
    path = segment_writer.write(tmp_path, spec, features, digests, views, {"engine": "test", "n": 1}, compress=compress)
    read = segment.read(path, spec)
    assert len(read) == n
    assert read.row_shape == row_shape
    assert read.row_bytes == features[0].nbytes
    assert read.dtype == np.float32
    assert read.provenance == {"engine": "test", "n": 1}
    assert read.coding == {}
    assert (read.chunks is not None) == compress
    for got, expected in ((stored_rows(path, spec), features), (read.digests, digests), (read.views, views)):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


def test_special_values_survive_bit_by_bit(tmp_path: Path, spec: FeatureSpec, compress: bool):
    features = np.array([[np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4e38]], np.float32)
    features.view(np.uint32)[0, 0] |= 0x1234  # a NaN that carries something
    digests, views = np.zeros((1, 16), np.uint8), np.zeros(1, np.uint32)
    path = segment_writer.write(tmp_path, spec, features, digests, views, {}, compress=compress)
    assert stored_rows(path, spec).tobytes() == features.tobytes()


def test_columns_that_are_not_contiguous_are_written_by_value(
    tmp_path: Path, spec: FeatureSpec, columns: tuple, compress: bool
):
    features, digests, views = columns
    mixed = np.asfortranarray(features)[::-1], digests[::-1], views[::-1]
    path = segment_writer.write(tmp_path, spec, *mixed, {}, compress=compress)
    np.testing.assert_array_equal(stored_rows(path, spec), features[::-1])
    np.testing.assert_array_equal(segment.read(path, spec).digests, digests[::-1])
    np.testing.assert_array_equal(segment.read(path, spec).views, views[::-1])


@pytest.mark.parametrize(("n", "row_shape"), [(0, (5,)), (3, (0,)), (0, (0, 4))], ids=str)
def test_segment_without_numbers_is_read(
    tmp_path: Path, spec: FeatureSpec, made_rows: Callable, n: int, row_shape: tuple, compress: bool
):
    digests, features = made_rows(0, n, row_shape)
    path = segment_writer.write(tmp_path, spec, features, digests, np.zeros(n, np.uint32), {}, compress=compress)
    read = segment.read(path, spec)
    assert len(read) == n
    assert read.row_shape == row_shape
    if n:
        assert stored_rows(path, spec).shape == features.shape


def test_plain_rows_lie_in_one_piece_from_a_page_on(tmp_path: Path, spec: FeatureSpec, columns: tuple):
    path = segment_writer.write(tmp_path, spec, *columns, {})
    read = segment.read(path, spec)
    assert read.offset % 4096 == 0
    assert path.read_bytes()[read.offset :][: columns[0].nbytes] == columns[0].tobytes()


def test_compressed_rows_lie_in_chunks_of_one_block(tmp_path: Path, spec: FeatureSpec, columns: tuple):
    path = segment_writer.write(tmp_path, spec, *columns, {}, compress=True)
    read, content = segment.read(path, spec), path.read_bytes()
    assert read.block_rows == rows_per_block(read.row_bytes) == 64
    assert read.chunks.shape == (4, 2)
    for (offset, size), check in zip(read.chunks.tolist(), read.check, strict=True):
        assert content[offset : offset + 4] == b"\x28\xb5\x2f\xfd"  # how Zstandard frames begin
        assert xxhash.xxh3_64_intdigest(content[offset : offset + size]) == check


@pytest.mark.parametrize(
    ("row_bytes", "rows"), [(0, BLOCK_BYTES), (4, 4096), (12, 1365), (16384, 1), (16388, 1), (401408, 1)]
)
def test_block_holds_whole_rows_and_at_least_one(row_bytes: int, rows: int):
    assert rows_per_block(row_bytes) == rows


def test_any_hdf5_reader_finds_the_columns_and_the_attributes(tmp_path: Path, spec: FeatureSpec, columns: tuple):
    features, digests, views = columns
    with h5py.File(segment_writer.write(tmp_path, spec, *columns, {"engine": "test"})) as opened:
        assert set(opened) == {"features", "digest", "view", "check"}
        np.testing.assert_array_equal(opened["features"], features)
        np.testing.assert_array_equal(opened["digest"], digests)
        np.testing.assert_array_equal(opened["view"], views)
        blocks = [features[start : start + 64] for start in range(0, N, 64)]
        assert opened["check"].attrs["rows_per_block"] == 64
        assert opened["check"][...].tolist() == [xxhash.xxh3_64_intdigest(block) for block in blocks]
        assert opened.attrs["layertap_format"] == 2
        assert text(opened.attrs["spec"]) == spec.to_json()
        assert len(text(opened.attrs["checksum"])) == 32
        assert json.loads(text(opened.attrs["provenance"])) == {"engine": "test"}


def test_parameters_of_codes_are_kept_with_the_rows(tmp_path: Path, spec: FeatureSpec, columns: tuple, compress: bool):
    parameters = {"scale": np.linspace(0.1, 2, 8).astype(np.float32), "axes": np.eye(3)}
    codes = (columns[0] % 127).astype(np.int8)
    coded = replace(spec, dtype="int8", coding=f"int8-{encoding.digest(parameters)}")
    path = segment_writer.write(tmp_path, coded, codes, *columns[1:], {}, coding=parameters, compress=compress)
    read = segment.read(path, coded)
    assert read.dtype == np.int8
    assert set(read.coding) == {"scale", "axes"}
    for name, parameter in parameters.items():
        assert read.coding[name].dtype == parameter.dtype
        np.testing.assert_array_equal(read.coding[name], parameter)
    np.testing.assert_array_equal(stored_rows(path, coded), codes)


def test_segments_have_names_of_their_own(tmp_path: Path, spec: FeatureSpec, columns: tuple):
    paths = {segment_writer.write(tmp_path, spec, *columns, {}) for _ in range(3)}
    assert len(paths) == 3
    assert set(tmp_path.iterdir()) == paths == set(tmp_path.glob(SEGMENTS))


def test_long_provenance_is_kept(tmp_path: Path, spec: FeatureSpec, columns: tuple):
    provenance = {"command": "é" * 100_000}
    path = segment_writer.write(tmp_path, spec, *columns, provenance)
    assert segment.read(path, spec).provenance == provenance
