"""Compressed rows: the same as plain ones for whoever reads them, and smaller where there is something to save."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from feature_cache import FeatureCache, Features, FeatureSpec
from feature_cache.errors import DamagedFile, MissingDependency
from feature_cache.segments import compression, segment, segment_writer
from feature_cache.segments.layout import ZSTD_FILTER

INSTALL = "compressed features need the package zstandard: pip install 'layertap[compression]'"
# Rows of less than a block, of half of one, of nearly one, of more than one; the last block is not full.
SHAPES = {(): 5000, (3,): 3000, (7, 9): 200, (3, 600): 9, (4000,): 5, (2, 2, 1025): 5, (20, 20, 20): 3}


def sparse(n: int, row_shape: tuple[int, ...]) -> np.ndarray:
    """Features as of a ReLU: mostly zeros."""
    rng = np.random.default_rng(len(row_shape))
    return np.maximum(rng.standard_normal((n, *row_shape)) - 1, 0).astype(np.float32)


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def pair(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    spec: FeatureSpec,
    made_rows: Callable,
    add: Callable,
) -> tuple[Features, Features]:
    """The same rows, in two segments each: plain and compressed."""
    n = SHAPES[request.param]
    digests, rows = made_rows(0, n)[0], sparse(n, request.param)
    pair = []
    for compress in (False, True):
        cache = FeatureCache(tmp_path_factory.mktemp("features"))
        add(cache, digests[: n // 3], rows[: n // 3], compress=compress)
        add(cache, digests[n // 3 :], rows[n // 3 :], compress=compress)
        pair.append(cache[spec].rows(digests))
    assert np.array_equal(np.asarray(pair[0]), rows)
    return pair[0], pair[1]


INDICES: dict[str, Callable[[int], Any]] = {
    "first": lambda n: 0,
    "last": lambda n: -1,
    "all": lambda n: slice(None),
    "some": lambda n: slice(n // 4, -1),
    "steps": lambda n: slice(None, None, -3),
    "none": lambda n: slice(n, None),
    "random": lambda n: np.random.default_rng(0).integers(-n, n, 2 * n),
    "shape": lambda n: np.random.default_rng(1).integers(0, n, (2, 3)),
    "mask": lambda n: np.random.default_rng(2).random(n) < 0.3,
    "whole": lambda n: ...,
    "inside": lambda n: (slice(1, 3), ..., None),
    "number": lambda n: np.array(n - 2),
}


@pytest.mark.parametrize("kind", INDICES)
def test_compressed_rows_are_the_plain_ones(pair: tuple[Features, Features], kind: str):
    plain, compressed = pair
    index = INDICES[kind](len(plain))
    one, other = plain[index], compressed[index]
    assert type(one) is type(other)
    assert one.dtype == other.dtype
    assert np.shape(one) == np.shape(other)
    np.testing.assert_array_equal(one, other)


def test_batches_of_compressed_rows_are_the_plain_ones(pair: tuple[Features, Features]):
    for shuffle in (False, True):
        for one, other in zip(*(part.batches(700, shuffle=shuffle, seed=4) for part in pair), strict=True):
            np.testing.assert_array_equal(one[1], other[1])
            np.testing.assert_array_equal(one[0], other[0])


def write(
    folder: Path, spec: FeatureSpec, features: np.ndarray, made_rows: Callable, *, compress: bool = True
) -> segment.Segment:
    folder.mkdir(exist_ok=True)
    n = len(features)
    path = segment_writer.write(
        folder, spec, features, made_rows(0, n)[0], np.zeros(n, np.uint32), {}, compress=compress
    )
    return segment.read(path, spec)


@pytest.mark.parametrize(("n", "row_shape"), [(1, (1,)), (200, (7, 9)), (9, (3, 600)), (3, (20, 20, 20))], ids=str)
def test_compressed_file_opens_in_plain_h5py(
    tmp_path: Path, spec: FeatureSpec, made_rows: Callable, n: int, row_shape: tuple
):
    import hdf5plugin  # noqa: F401  # that alone gives HDF5 the filter

    features = sparse(n, row_shape)
    with h5py.File(write(tmp_path, spec, features, made_rows).path) as file:
        assert file["features"].shape == features.shape
        assert file["features"].dtype == np.float32
        np.testing.assert_array_equal(file["features"], features)
        np.testing.assert_array_equal(file["features"][n // 2], features[n // 2])
        plist = file["features"].id.get_create_plist()
        assert [plist.get_filter(number)[0] for number in range(plist.get_nfilters())] == [ZSTD_FILTER]


def test_sparse_maps_shrink_several_times_and_dense_rows_grow_little(
    tmp_path: Path, spec: FeatureSpec, made_rows: Callable
):
    def size(features: np.ndarray, compress: bool) -> int:
        return write(tmp_path, spec, features, made_rows, compress=compress).stamp[0]

    rare = sparse(40, (7, 7, 64)) * (np.arange(64) % 8 == 0)
    assert size(rare, compress=True) < size(rare, compress=False) / 3
    noise = np.random.default_rng(0).integers(0, 2**32, (40, 3136), np.uint32).view(np.float32)
    assert size(noise, compress=True) < size(noise, compress=False) * 1.05


def test_flipped_byte_in_a_chunk_is_a_damaged_file(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable
):
    digests, rows = made_rows(0, 60)[0], sparse(60, (300,))
    add(cache, digests, rows, compress=True)
    (part,) = cache[spec].segments
    offset, size = part.chunks[2].tolist()
    first = 2 * part.block_rows
    for place in range(offset, offset + size, size // 7):
        content = bytearray(good := part.path.read_bytes())
        content[place] ^= 0x20
        part.path.write_bytes(content)
        features = cache[spec].rows(digests)
        np.testing.assert_array_equal(features[:first], rows[:first])
        with pytest.raises(DamagedFile) as caught:
            features[first]
        rows_named = f"rows {first} to {first + part.block_rows - 1}"
        assert f"{part.path} is damaged" in str(caught.value)
        assert f"(altered since it was written: {rows_named})" in str(caught.value)
        part.path.write_bytes(good)
    np.testing.assert_array_equal(np.asarray(cache[spec].rows(digests)), rows)


def test_chunk_that_is_no_zstandard_or_too_small_is_refused():
    zstandard = pytest.importorskip("zstandard")
    frame = zstandard.ZstdCompressor().compress(bytes(100))
    assert compression.decompress(frame, 100) == bytes(100)
    for chunk, size in ((frame, 99), (frame, 101), (frame[:-2], 100), (b"", 100), (bytes(50), 100)):
        with pytest.raises(ValueError, match=r"."):
            compression.decompress(chunk, size)


def test_missing_zstandard_is_told_with_the_command_that_installs_it(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable, monkeypatch: pytest.MonkeyPatch
):
    digests, rows = made_rows(0, 8)
    add(cache, digests[:4], rows[:4], compress=True)
    before = set(cache[spec].folder.iterdir())
    monkeypatch.setitem(sys.modules, "zstandard", None)  # as where it is not installed
    with pytest.raises(MissingDependency) as caught:
        add(cache, digests[4:], rows[4:], compress=True)
    assert str(caught.value) == INSTALL
    assert set(cache[spec].folder.iterdir()) == before
    assert cache[spec].has(digests).tolist() == [True] * 4 + [False] * 4
    with pytest.raises(MissingDependency) as caught:
        cache[spec].rows(digests[:4])[0]
    assert str(caught.value) == INSTALL
    add(cache, digests[4:], rows[4:])
    np.testing.assert_array_equal(cache[spec].rows(digests)[4:], rows[4:])


# Threads.


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 100])
def test_work_is_done_once_for_each_number(count: int):
    done: list[int] = []
    compression.for_all(done.append, count)
    assert sorted(done) == list(range(count))


def test_error_in_a_thread_reaches_the_caller():
    def work(number: int) -> None:
        if number == 70:
            raise DamagedFile("block 70")

    with pytest.raises(DamagedFile, match="^block 70$"):
        compression.for_all(work, 100)


def _read(features: Features, rows: np.ndarray) -> None:
    assert np.array_equal(np.asarray(features), rows)


def test_rows_are_read_in_a_process_forked_after_threads_were_used(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable
):
    digests, rows = made_rows(0, 100)[0], sparse(100, (4000,))
    add(cache, digests, rows, compress=True)
    features = cache[spec].rows(digests)
    _read(features, rows)
    child = multiprocessing.get_context("fork").Process(target=_read, args=(features, rows))
    child.start()
    child.join(30)
    child.kill()
    child.join()
    assert child.exitcode == 0
