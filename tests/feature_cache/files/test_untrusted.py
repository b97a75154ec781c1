"""Files made up to harm: what they declare is not made room for, and what is no regular file is not waited for."""

from __future__ import annotations

import json
import os
import resource
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zstandard
from cache_helpers import in_child, stored_rows

from feature_cache import FeatureCache, FeatureSpec
from feature_cache.errors import DamagedFile, LayertapError
from feature_cache.files.checked import UnusableFile, open_regular, read_arrays, read_json
from feature_cache.files.digest_memo import DigestMemo
from feature_cache.maintenance.verify import verify
from feature_cache.segments import index, segment, segment_writer
from feature_cache.segments.index import KeyIndex, ListedSegment
from feature_cache.segments.layout import INDEX_FILE, MEMO_FILE, SPEC_FILE, ZSTD_FILTER, block_check
from feature_cache.segments.segment import checksum

N = 4


def crafted(
    folder: Path, spec: FeatureSpec, shape: tuple[int, ...], block_rows: int, chunk: bytes, provenance: Any = None
) -> Path:
    """A segment of one compressed chunk, with checks that agree, whatever it declares."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "segment-crafted.h5"
    n = shape[0]
    digests, views = np.arange(16 * n, dtype=np.uint8).reshape(n, 16), np.zeros(n, np.uint32)
    check = np.array([block_check(chunk)] * -(-n // block_rows), np.uint64)
    texts = {"spec": spec.to_json(), "provenance": json.dumps({} if provenance is None else provenance)}
    with h5py.File(path, "w", libver="v110") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((block_rows, *shape[1:]))
        plist.set_filter(ZSTD_FILTER, h5py.h5z.FLAG_OPTIONAL, (1,))
        space = h5py.h5s.create_simple(shape, (h5py.h5s.UNLIMITED, *shape[1:]))
        dataset = h5py.h5d.create(file.id, b"features", h5py.h5t.IEEE_F32LE, space, dcpl=plist)
        for start in range(0, n, block_rows):
            dataset.write_direct_chunk((start, *(0 for _ in shape[1:])), chunk)
        file["digest"], file["view"], file["check"] = digests, views, check
        file["check"].attrs["rows_per_block"] = block_rows
        file.attrs["layertap_format"] = 2
        file.attrs.update({name: np.bytes_(text.encode()) for name, text in texts.items()})
        total = checksum(texts, shape, np.dtype("<f4"), digests, views, check, {})
        file.attrs["checksum"] = np.bytes_(total.encode())
    return path


def zeros(size: int) -> bytes:
    """A frame of Zstandard of `size` zeros, and of a few thousandths of a per cent of that."""
    made = zstandard.ZstdCompressor(level=1).compressobj(size=size)
    piece = bytes(2**20)
    return b"".join(made.compress(piece) for _ in range(size // len(piece))) + made.flush()


def _outcome(path: Path, spec: FeatureSpec) -> tuple[str, int]:
    """What reading a segment comes to, and the most memory that it took, in bytes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        rows = stored_rows(path, spec)
        said = f"read {rows.shape}"
    except DamagedFile as error:
        said = str(error)
    return said, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


@pytest.mark.parametrize(
    ("shape", "block_rows", "declared"),
    [
        ((N, 2**29), 1, 2**28),  # rows of 2 GiB
        ((N, 16), 2**23, 2**29),  # a block of more rows than there are
        ((N, 1024), 1, 2**28),  # a chunk of more than its block
    ],
    ids=["row", "block", "chunk"],
)
def test_what_declares_gigabytes_is_refused_without_making_room(
    tmp_path: Path, spec: FeatureSpec, shape: tuple[int, ...], block_rows: int, declared: int
):
    path = crafted(tmp_path / "space", spec, shape, block_rows, zeros(declared))
    assert path.stat().st_size < 2**20
    said, memory = in_child(_outcome, path, spec)
    assert "is damaged or not a segment of this cache (" in said
    assert memory < 2**27, said


def test_chunk_of_its_own_size_is_read(tmp_path: Path, spec: FeatureSpec):
    path = crafted(tmp_path / "space", spec, (N, 2**18), 1, zeros(2**20))
    assert stored_rows(path, spec).shape == (N, 2**18)


@pytest.mark.parametrize("filters", [{"compression": "gzip"}, {"compression": "lzf"}, {"shuffle": True}], ids=str)
@pytest.mark.parametrize("name", ["features", "digest", "check"])
def test_datasets_of_other_filters_are_not_read(
    tmp_path: Path, spec: FeatureSpec, made_rows: Callable, name: str, filters: dict
):
    digests, features = made_rows(0, N)
    path = segment_writer.write(tmp_path, spec, features, digests, np.zeros(N, np.uint32), {})
    with h5py.File(path, "r+") as file:
        data, attributes = file[name][...], dict(file[name].attrs)
        del file[name]
        file.create_dataset(name, data=data, chunks=data.shape, **filters).attrs.update(attributes)
    with pytest.raises(DamagedFile):
        segment.read(path, spec)


def test_absurd_shapes_are_refused(tmp_path: Path, spec: FeatureSpec, made_rows: Callable):
    digests, features = made_rows(0, N)
    for shape in ((2**60,), (N, 2**60), (2**40, 2**22), (2**31, 4)):
        path = segment_writer.write(tmp_path, spec, features, digests, np.zeros(N, np.uint32), {})
        with h5py.File(path, "r+") as file:
            del file["features"]
            file.create_dataset("features", shape, np.float32, chunks=(1, *[2] * (len(shape) - 1)))
        with pytest.raises(DamagedFile):
            segment.read(path, spec)


def test_links_in_a_circle_are_refused(tmp_path: Path, spec: FeatureSpec, made_rows: Callable):
    digests, features = made_rows(0, N)

    def itself(file: h5py.File) -> None:
        file["coding"] = file["/"]

    def soft(file: h5py.File) -> None:
        del file["view"]
        file["view"] = h5py.SoftLink("/view")

    def pair(file: h5py.File) -> None:
        file["coding"] = h5py.SoftLink("/other")
        file["other"] = h5py.SoftLink("/coding")

    def external(file: h5py.File) -> None:
        del file["digest"]
        file["digest"] = h5py.ExternalLink(file.filename, "/digest")

    def inside(file: h5py.File) -> None:
        file.create_group("coding")["scale"] = h5py.SoftLink("/coding/scale")

    for alter in (itself, soft, pair, external, inside):
        path = segment_writer.write(tmp_path, spec, features, digests, np.zeros(N, np.uint32), {})
        with h5py.File(path, "r+") as file:
            alter(file)
        with pytest.raises(DamagedFile):
            segment.read(path, spec)


@pytest.mark.parametrize("key", ["engine", "finished", "seconds", "rounding", "net"])
@pytest.mark.parametrize("value", [3, -1, [1], {"a": 1}, True, "text", float("nan"), None], ids=str)
def test_provenance_of_any_type_harms_nothing(tmp_path: Path, spec: FeatureSpec, key: str, value: Any):
    cache = FeatureCache(tmp_path)
    crafted(tmp_path / spec.folder_name, spec, (N, 16), 1, zstandard.ZstdCompressor().compress(bytes(64)), {key: value})
    space = cache[spec]
    [part] = space.segments
    seconds = space.seconds(part.digests)
    assert seconds is None or seconds >= 0
    assert isinstance(part.provenance.get("engine", ""), str)
    assert isinstance(part.provenance.get("finished", ""), str)
    assert isinstance(part.provenance.get("net") or {}, dict)
    rounding = part.provenance.get("rounding")
    assert rounding is None or f"{rounding['largest']:.2g}"
    from feature_cache.maintenance.compact import compact

    assert compact(space, compress=False).rows == N


@pytest.mark.parametrize(
    "segments",
    [
        [["a.h5", 1000, 1, 2**60]],
        [["a.h5", 1000, 1, -1]],
        [["a.h5", 1000, 1, 1.0]],
        [["a.h5", 1000, 1, True]],
        [[["a"], 1000, 1, 0]],
        [[{"a": 1}, 1000, 1, 0]],
        [["a.h5", "1000", 1, 0]],
        [["a.h5", 1000, 1, 0]] * 2,
        [["a.h5", 1000]],
        [7],
        {"a": 1},
        None,
        [[]],
    ],
    ids=str,
)
def test_index_that_names_segments_otherwise_is_not_used(tmp_path: Path, spec: FeatureSpec, segments: Any):
    head = json.dumps({"layertap_format": 2, "spec": spec.to_json(), "segments": segments}).encode()
    content = [len(head).to_bytes(8, "little"), head]
    (tmp_path / INDEX_FILE).write_bytes(index._checksum(content) + b"".join(content))
    assert index.load(tmp_path, spec.to_json()).listed == ()


def test_index_of_holes_is_not_read(tmp_path: Path, spec: FeatureSpec):
    KeyIndex.of([(ListedSegment("a.h5", 10_000, 1, 1), np.zeros((1, 16), np.uint8), np.zeros(1, np.uint32))]).save(
        tmp_path, spec.to_json()
    )
    assert len(index.load(tmp_path, spec.to_json())) == 1
    os.truncate(tmp_path / INDEX_FILE, 40 * 2**30)
    assert len(index.load(tmp_path, spec.to_json())) == 0


# What is no regular file.


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def bound(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path may have a hundred characters
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


KINDS = {"a named pipe": fifo, "a folder": folder, "a device": device, "a socket": bound}


def _said(work: Callable[..., Any], *arguments: Any) -> str:
    try:
        return f"read: {work(*arguments)!r}"
    except (LayertapError, OSError, ValueError) as error:
        return str(error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", [open_regular, read_json, read_arrays], ids=lambda reader: reader.__name__)
def test_kinds_of_files_are_told_and_not_waited_for(tmp_path: Path, kind: str, reader: Callable):
    KINDS[kind](tmp_path / "it")
    assert in_child(_said, reader, tmp_path / "it", seconds=20) == f"it is {kind}, not a regular file"


def test_file_larger_than_its_limit_is_refused(tmp_path: Path):
    (tmp_path / "it").write_bytes(b"12345")
    assert open_regular(tmp_path / "it", 5).read() == b"12345"
    with pytest.raises(UnusableFile, match="it has 5 bytes, more than the 4 that it may have"):
        open_regular(tmp_path / "it", 4)


def _open(root: Path, name: str) -> str:
    space = FeatureCache(root).open(name)
    return f"{len(space)} rows, {len(verify(space).damaged)} damaged"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [SPEC_FILE, INDEX_FILE, "segment-0.h5", ".used"])
@pytest.mark.parametrize("with_spec", [True, False], ids=["spec", "no spec"])
def test_a_space_with_something_else_in_place_of_a_file_is_not_waited_for(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable, kind: str, name: str, with_spec: bool
):
    add(cache, *made_rows(0, N))
    place = cache.root / spec.folder_name
    if not with_spec:
        (place / SPEC_FILE).unlink()
    (place / name).unlink(missing_ok=True)
    KINDS[kind](place / name)
    said = in_child(_said, _open, cache.root, spec.folder_name, seconds=20)
    if name == SPEC_FILE:
        assert f"{SPEC_FILE} cannot be read: it is {kind}" in said
    elif name == "segment-0.h5":
        assert "(not a file)" in said
    else:
        assert said == f"read: '{N} rows, 0 damaged'"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [MEMO_FILE, f"{MEMO_FILE}-journal", f"{MEMO_FILE}-wal"])
def test_a_memo_of_another_kind_remembers_nothing(tmp_path: Path, kind: str, name: str):
    memo, stamp = DigestMemo(tmp_path / MEMO_FILE), ("/image", 1, 1)
    memo.remember({stamp: b"1" * 16})
    assert memo.recall([stamp]) == {"/image": b"1" * 16}
    (tmp_path / name).unlink(missing_ok=True)
    KINDS[kind](tmp_path / name)
    assert in_child(_said, memo.recall, [stamp], seconds=20) == "read: {}"
    assert in_child(_said, memo.remember, {stamp: b"1" * 16}, seconds=20) == "read: None"


def test_a_memo_that_would_compute_for_ever_is_not_asked(tmp_path: Path):
    with sqlite3.connect(tmp_path / MEMO_FILE) as store:
        store.execute(
            "CREATE VIEW digests AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
            "SELECT '/image' AS path, 1 AS size, 1 AS mtime, 'x' AS digest FROM n WHERE i < 0"
        )
    memo = DigestMemo(tmp_path / MEMO_FILE)
    assert in_child(_said, memo.recall, [("/image", 1, 1)], seconds=20) == "read: {}"
    (tmp_path / MEMO_FILE).unlink()
    memo.remember({("/image", 1, 1): b"1" * 16})
    with sqlite3.connect(tmp_path / MEMO_FILE) as store:
        store.execute(
            "CREATE TRIGGER slow BEFORE INSERT ON digests BEGIN SELECT count(*) FROM "
            "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n); END"
        )
    assert in_child(_said, memo.remember, {("/other", 1, 1): b"1" * 16}, seconds=20) == "read: None"
