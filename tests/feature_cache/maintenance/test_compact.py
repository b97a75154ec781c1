"""Compaction: fewer, larger segments with the very same rows, whatever else goes on in the space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_cache import FeatureCache, FeatureSpec, Space
from feature_cache.errors import DamagedFile
from feature_cache.maintenance.compact import compact
from feature_cache.maintenance.verify import verify
from feature_cache.segments import segment_writer
from feature_cache.segments.layout import INDEX_FILE, SPEC_FILE, USED_FILE

KINDS = ("plain", "compressed", "float16", "int8", "pca", "views")


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_the_same_before_and_after(fill: Callable, kind: str):
    filled = fill(kind, (4, 2, 6, 3))
    before = {path: path.stat().st_size for path in filled.files}
    done = compact(filled.space)
    assert (done.rows, done.copies_dropped, done.segments_before, done.segments_after) == (15, 0, 4, 1)
    assert done.bytes_before == sum(before.values())
    assert done.bytes_after == filled.space.nbytes
    assert not any(path.exists() for path in before)
    filled.check()
    (part,) = filled.space.segments
    assert (part.chunks is not None) == (kind == "compressed")
    assert verify(filled.space).damaged == []
    left = {path.name for path in filled.space.folder.iterdir()}
    assert left == {SPEC_FILE, USED_FILE, INDEX_FILE, part.path.name}


@pytest.mark.parametrize("row_shape", [(), (1,), (3, 5), (2, 3, 4)])
def test_rows_of_any_shape_are_the_same(fill: Callable, row_shape: tuple[int, ...]):
    filled = fill("plain", (4, 2, 6), row_shape)
    compact(filled.space)
    filled.check()


def test_compacting_again_changes_nothing(fill: Callable, names: Callable):
    filled = fill()
    compact(filled.space)
    before = names(filled.space.folder)
    done = compact(filled.space)
    assert (done.segments_before, done.segments_after, done.bytes_before) == (1, 1, done.bytes_after)
    assert names(filled.space.folder) == before


def test_copies_of_rows_are_dropped(fill: Callable):
    filled = fill("plain", (4, 2, 6))
    for rows in (slice(0, 5), slice(3, 12), slice(0, 1)):
        columns = filled.rows[rows], filled.digests[rows], filled.views[rows]
        segment_writer.write(filled.space.folder, filled.spec, *columns, {})
    done = compact(filled.space)
    assert (done.rows, done.copies_dropped, done.segments_before, done.segments_after) == (12, 15, 6, 1)
    assert len(filled.space.index) == len(filled.space) == 12
    filled.check()


def test_rows_stay_in_the_order_in_which_they_were_computed(fill: Callable):
    filled = fill("plain", (4, 2, 6))
    compact(filled.space)
    np.testing.assert_array_equal(filled.space.index.digests, filled.digests)


@pytest.mark.parametrize("kind", ["plain", "compressed", "int8", "views"])
@pytest.mark.parametrize("opened", ["none", "some", "all"])
def test_features_opened_before_go_on_reading_right_rows(fill: Callable, kind: str, opened: str):
    filled = fill(kind, (4, 2, 6))
    space = filled.space
    features = space.rows(filled.digests, filled.views)
    if opened == "some":
        np.testing.assert_array_equal(features[5], filled.rows[5])
    elif opened == "all":
        np.testing.assert_array_equal(np.asarray(features), filled.rows)
    compact(filled.space)
    for index in (slice(None), [11, 0, 5, 5, 3], 7, slice(9, 2, -2), np.arange(12) % 3 == 1):
        np.testing.assert_array_equal(features[index], filled.rows[index])
    for rows, positions in features.batches(5, shuffle=True):
        np.testing.assert_array_equal(rows, filled.rows[positions])


def test_features_read_right_rows_after_their_space_was_asked_for_its_segments(fill: Callable):
    """Their ids are those of the segments before: the space must not look at the new ones behind their back."""
    filled = fill("plain", (4, 2, 6))
    space = filled.space
    features = space.rows(filled.digests[::-1].copy(), filled.views)
    old = filled.files
    for number, rows in enumerate((slice(8, 12), slice(0, 3), slice(3, 8))):  # the same rows in another order
        columns = filled.rows[rows], filled.digests[rows], filled.views[rows]
        segment_writer.write(space.folder, filled.spec, *columns, {"finished": f"2026-01-01T00:00:0{number}Z"})
    for path in old:
        path.unlink()
    compact(filled.space)
    assert [len(part) for part in space.segments] == [12]
    np.testing.assert_array_equal(np.asarray(features), filled.rows[::-1])


def test_a_space_that_was_looked_at_before_can_be_asked_after(fill: Callable):
    filled = fill("compressed", (4, 2, 6))
    space = filled.space
    assert space.has(filled.digests).all()
    compact(filled.space)
    assert len(space) == 12
    assert space.has(filled.digests).all()
    np.testing.assert_array_equal(np.asarray(space.rows(filled.digests)), filled.rows)


@pytest.mark.parametrize("kind", ["plain", "compressed", "int8"])
def test_a_damaged_source_is_named_and_nothing_is_removed(fill: Callable, flip: Callable, listing: Callable, kind: str):
    filled = fill(kind, (4, 2, 6))
    flip(filled.files[1])
    before = listing(filled.cache.root)
    with pytest.raises(DamagedFile, match=f"{filled.files[1].name} is damaged .*altered since it was written: row"):
        compact(filled.space)
    after = listing(filled.cache.root)
    assert before.items() <= after.items()
    undamaged = np.r_[0:4, 6:12]
    np.testing.assert_array_equal(np.asarray(filled.space.rows(filled.digests[undamaged])), filled.rows[undamaged])


@pytest.mark.parametrize("content", [b"", b"no segment\n", b"\x89HDF\r\n\x1a\n"])
def test_a_foreign_source_is_named_and_nothing_is_removed(fill: Callable, listing: Callable, content: bytes):
    filled = fill()
    (filled.space.folder / "segment-foreign.h5").write_bytes(content)
    before = listing(filled.cache.root)
    with pytest.raises(DamagedFile, match="segment-foreign.h5 is damaged or not a segment of this cache"):
        compact(filled.space)
    assert listing(filled.cache.root) == before


def test_compressing_and_back_keeps_every_row(fill: Callable):
    filled = fill("plain", (4, 2, 6))
    packed = compact(filled.space, compress=True)
    assert [part.chunks is not None for part in filled.space.segments] == [True]
    assert packed.bytes_after < packed.bytes_before
    filled.check()
    unpacked = compact(filled.space, compress=False)
    assert (unpacked.segments_before, unpacked.segments_after) == (1, 1)
    assert [part.chunks is not None for part in filled.space.segments] == [False]
    filled.check()


@pytest.mark.parametrize("row_shape", [(), (4,), (3, 5)])
def test_few_small_rows_are_compressed_too(fill: Callable, row_shape: tuple[int, ...]):
    filled = fill("plain", (4, 2, 6), row_shape)
    compact(filled.space, compress=True)
    assert [part.chunks is not None for part in filled.space.segments] == [True]
    filled.check()


def test_what_most_sources_are_decides_what_they_become(fill: Callable):
    filled = fill("compressed", (4, 2, 6))
    more = filled.rows[:4] + 1, 255 - filled.digests[:4], filled.views[:4]
    segment_writer.write(filled.space.folder, filled.spec, *more, {})
    compact(filled.space)
    assert [part.chunks is not None for part in filled.space.segments] == [True]
    filled.check()


def test_one_small_segment_alone_is_left_alone(fill: Callable, listing: Callable):
    filled = fill("plain", (5,))
    before = {path: path.stat() for path in filled.files}
    done = compact(filled.space)
    assert (done.segments_before, done.segments_after, done.bytes_before) == (1, 1, done.bytes_after)
    assert {path: path.stat() for path in filled.files} == before


def test_large_segments_are_left_alone_and_new_ones_are_not_larger(fill: Callable, monkeypatch: pytest.MonkeyPatch):
    filled = fill("plain", (8, 3, 3, 3), (2100,))
    monkeypatch.setattr("feature_cache.maintenance.compact.SEGMENT_BYTES", 8 * 2100 * 4)
    large, *small = filled.files
    done = compact(filled.space)
    assert (done.segments_before, done.segments_after) == (4, 3)
    assert large.exists()
    assert not any(path.exists() for path in small)
    assert sorted(len(part) for part in filled.space.segments) == [1, 8, 8]
    filled.check()


def test_an_empty_space_has_nothing_to_compact(cache: FeatureCache, spec: FeatureSpec, space: Space):
    space.create()
    done = compact(space)
    assert (done.rows, done.segments_before, done.segments_after, done.bytes_after) == (0, 0, 0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_segment_without_rows_does_no_harm_and_goes(fill: Callable, kind: str):
    filled = fill(kind)
    part = filled.space.segments[0]
    rows = np.zeros((0, *part.row_shape), part.dtype)
    columns = rows, filled.digests[:0], filled.views[:0]
    empty = segment_writer.write(filled.space.folder, filled.spec, *columns, {}, coding=part.coding)
    empty.rename(empty.with_name("segment-0.h5"))  # it is opened before the others
    space = filled.space
    assert sorted(map(len, space.segments)) == [0, 2, 4, 6]
    np.testing.assert_array_equal(np.asarray(space.rows(filled.digests, filled.views)), filled.rows)
    assert compact(filled.space).segments_after == 1
    filled.check()


def test_what_all_sources_say_of_themselves_is_kept(fill: Callable):
    filled = fill("float16", (1,))
    for number, largest in enumerate((0.25, 0.5)):
        provenance = {"engine": "test", "batch_size": number, "rounding": {"largest": largest, "relative_rms": 0.1}}
        columns = filled.rows, filled.digests + np.uint8(number + 1), filled.views
        segment_writer.write(filled.space.folder, filled.spec, *columns, provenance)
    compact(filled.space)
    (part,) = filled.space.segments
    assert part.provenance["engine"] == "test"
    assert "batch_size" not in part.provenance
    assert part.provenance["compacted_from"] == 3
    assert part.provenance["rounding"] == {"largest": 0.5, "relative_rms": 0.1}
    assert part.provenance["finished"] > "2026-01-01"


def test_which_net_the_rows_come_from_is_still_known_where_segments_put_it_differently(fill: Callable):
    """The same net can have been in another folder, or with another seed that plays no part."""
    filled = fill("plain", (1,))
    nets = [{"name": "glyphnet", "weights": None, "seed": seed, "preprocessing": None} for seed in (0, 7)]
    for number, net in enumerate(nets):
        columns = filled.rows, filled.digests + np.uint8(number + 1), filled.views
        segment_writer.write(filled.space.folder, filled.spec, *columns, {"net": net})
    compact(filled.space)
    (part,) = filled.space.segments
    assert part.provenance.get("net") in nets


def test_other_spaces_are_not_touched(fill: Callable, cache: FeatureCache, spec: FeatureSpec, listing: Callable):
    filled = fill()
    other = cache[replace(spec, layer="fc1")]
    for _ in range(3):
        with other.writer({}) as writer:
            writer.append(filled.digests, filled.rows)
    before = listing(other.folder)
    compact(filled.space)
    assert listing(other.folder) == before


CODE = """
from feature_cache import FeatureCache
from feature_cache.errors import StorageFailure
from feature_cache.maintenance.compact import compact
cache = FeatureCache(Path(sys.argv[1]))
try:
    compact(cache.open(cache.spaces()[0]))
except StorageFailure as error:
    print(error)
"""


def test_a_full_disk_is_said_and_nothing_is_removed(fill: Callable, small_disk: Callable, listing: Callable):
    filled = fill("plain", (4, 2, 6))
    before = listing(filled.cache.root)
    done = small_disk(CODE, 80_000, filled.cache.root)
    assert done.stdout.startswith(f"cannot write features to {filled.space.folder}: File too large."), done.stderr
    assert done.stderr == ""
    assert listing(filled.cache.root) == before
    filled.check()


def test_a_cache_of_another_name_and_place_is_compacted_all_the_same(fill: Callable, tmp_path: Path):
    filled = fill()
    moved = replace(filled, cache=FeatureCache(filled.cache.root.rename(tmp_path / "moved é")))
    assert compact(moved.space).segments_after == 1
    moved.check()
