"""Merging: the segments of another cache are checked and taken over; its names and damage do no harm."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from feature_cache import FeatureCache, FeatureSpec
from feature_cache.maintenance.merge import merge
from feature_cache.maintenance.verify import verify
from feature_cache.segments import segment_writer
from feature_cache.segments.layout import SEGMENTS, TEMPORARY

KINDS = ("plain", "compressed", "float16", "int8", "pca", "views")


@pytest.fixture
def here(tmp_path: Path) -> FeatureCache:
    """The cache that takes over."""
    return FeatureCache(tmp_path / "here")


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_the_same_in_the_new_place(fill: Callable, here: FeatureCache, listing: Callable, kind: str):
    filled = fill(kind)
    before = listing(filled.cache.root)
    done = merge(here, filled.cache)
    assert (done.spaces, done.segments, done.rows) == ([filled.spec.folder_name], 3, 12)
    assert (done.already_here, done.refused) == (0, [])
    assert done.bytes == filled.space.nbytes
    assert listing(filled.cache.root) == before
    there = replace(filled, cache=here)
    there.check()
    assert verify(there.space).damaged == []
    assert here.open(filled.spec.folder_name).spec == filled.spec


def test_merging_twice_copies_nothing_again(fill: Callable, here: FeatureCache, listing: Callable):
    filled = fill()
    merge(here, filled.cache)
    before = listing(here.root)
    done = merge(here, filled.cache)
    assert (done.segments, done.rows, done.bytes, done.already_here, done.spaces) == (0, 0, 0, 3, [])
    assert listing(here.root) == before


def test_a_cache_merged_into_itself_stays_as_it_is(fill: Callable, listing: Callable):
    filled = fill()
    before = listing(filled.cache.root)
    done = merge(filled.cache, filled.cache)
    assert (done.segments, done.already_here) == (0, 3)
    assert listing(filled.cache.root) == before


def test_only_segments_with_rows_that_are_lacking_are_copied(fill: Callable, here: FeatureCache):
    filled = fill("plain", (4, 2, 6))
    here[filled.spec].create()
    columns = filled.rows[:5], filled.digests[:5], filled.views[:5]
    segment_writer.write(here[filled.spec].folder, filled.spec, *columns, {})
    done = merge(here, filled.cache)
    assert (done.segments, done.rows, done.already_here) == (2, 8, 1)
    replace(filled, cache=here).check()


def test_all_spaces_are_taken_over(fill: Callable, here: FeatureCache):
    several = [fill(kind) for kind in ("plain", "float16", "int8")]
    seen: list[tuple[int, int]] = []
    done = merge(here, several[0].cache, lambda count, total: seen.append((count, total)))
    assert sorted(done.spaces) == here.spaces() == sorted(filled.spec.folder_name for filled in several)
    assert seen == [(number, 9) for number in range(1, 10)]
    for filled in several:
        replace(filled, cache=here).check()


@pytest.mark.parametrize("kind", ["plain", "compressed"])
def test_a_damaged_segment_is_refused_and_the_rest_is_taken_over(
    fill: Callable, here: FeatureCache, flip: Callable, kind: str
):
    filled = fill(kind)
    bad = filled.files[1]
    flip(bad)
    done = merge(here, filled.cache)
    assert (done.segments, done.rows) == (2, 10)
    (reason,) = done.refused
    assert reason.startswith(f"{bad} is damaged or not a segment of this cache (")
    assert "\n" not in reason
    assert "Set it aside" not in reason
    assert here[filled.spec].has(filled.digests).tolist() == [True] * 4 + [False] * 2 + [True] * 6


@pytest.mark.parametrize("content", [b"", b"no segment\n" * 500, b"\x89HDF\r\n\x1a\n"])
def test_a_foreign_file_is_refused(fill: Callable, here: FeatureCache, content: bytes):
    filled = fill()
    (filled.space.folder / "segment-foreign.h5").write_bytes(content)
    done = merge(here, filled.cache)
    assert len(done.refused) == 1
    assert "segment-foreign.h5 is damaged" in done.refused[0]
    assert not list(here.root.rglob("segment-foreign.h5"))
    replace(filled, cache=here).check()


def test_a_segment_of_another_spec_is_refused(fill: Callable, here: FeatureCache):
    filled, other = fill("plain"), fill("float16")
    shutil.copy(other.files[0], filled.space.folder / "segment-lost.h5")
    done = merge(here, filled.cache)
    assert len(done.refused) == 1
    assert "segment-lost.h5" in done.refused[0]
    assert "its feature spec is not its folder's" in done.refused[0]
    assert not list(here.root.rglob("segment-lost.h5"))


def test_an_external_link_in_a_segment_is_not_followed(fill: Callable, here: FeatureCache, tmp_path: Path):
    filled = fill()
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["features"] = np.full((4, 2100), 42, np.float32)
    with h5py.File(filled.files[0], "r+") as file:
        del file["features"]
        file["features"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "features")
    done = merge(here, filled.cache)
    assert len(done.refused) == 1
    assert here[filled.spec].has(filled.digests).sum() == 8


@pytest.mark.parametrize("name", ["a\nb", "%2e%2e", "-rf", "ä name with spaces", "spec.json"])
def test_the_name_of_the_other_folder_plays_no_part(fill: Callable, here: FeatureCache, name: str):
    filled = fill()
    filled.space.folder.rename(filled.cache.root / name)
    done = merge(here, filled.cache)
    assert done.spaces == here.spaces() == [filled.spec.folder_name]
    replace(filled, cache=here).check()


def test_a_spec_that_names_a_path_stays_in_the_cache(fill: Callable, here: FeatureCache, spec: FeatureSpec):
    filled = fill()
    evil = replace(spec, net="../../evil", layer="/tmp/evil", pooling="max")
    folder = filled.cache.root / "evil"
    folder.mkdir()
    (folder / "spec.json").write_text(evil.to_json())
    segment_writer.write(folder, evil, filled.rows, filled.digests, filled.views, {})
    merge(here, filled.cache)
    assert sorted(path.name for path in here.root.iterdir()) == sorted({filled.spec.folder_name, evil.folder_name})
    assert "/" not in evil.folder_name
    replace(filled, cache=here, spec=evil).check()


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff"])
def test_a_space_whose_spec_is_damaged_is_refused_and_the_rest_is_taken_over(
    fill: Callable, here: FeatureCache, content: bytes
):
    filled, other = fill("plain"), fill("float16")
    (other.space.folder / "spec.json").write_bytes(content)
    done = merge(here, filled.cache)
    assert len(done.refused) == 3
    assert all("spec.json cannot be read" in reason for reason in done.refused)
    assert here.spaces() == [filled.spec.folder_name]


def test_a_space_that_has_lost_its_spec_is_taken_over_by_what_its_segments_say(fill: Callable, here: FeatureCache):
    filled = fill()
    (filled.space.folder / "spec.json").unlink()
    assert merge(here, filled.cache).rows == 12
    replace(filled, cache=here).check()


def test_a_segment_of_the_same_name_and_other_rows_replaces_nothing(fill: Callable, here: FeatureCache):
    filled = fill("plain", (6,))
    mine = here[filled.spec]
    mine.create()
    columns = filled.rows + 1, 255 - filled.digests, filled.views
    path = segment_writer.write(mine.folder, filled.spec, *columns, {})
    path.rename(mine.folder / filled.files[0].name)
    merge(here, filled.cache)
    replace(filled, cache=here).check()
    np.testing.assert_array_equal(np.asarray(here[filled.spec].rows(255 - filled.digests)), filled.rows + 1)


def test_what_was_set_aside_here_is_taken_over_again(fill: Callable, here: FeatureCache, flip: Callable):
    filled = fill()
    merge(here, filled.cache)
    there = replace(filled, cache=here)
    bad = there.files[1]
    flip(bad)
    bad.rename(bad.with_name(f"damaged-{bad.name}"))
    assert merge(here, filled.cache).rows == 2
    there.check()


def test_what_goes_away_meanwhile_is_passed_over(fill: Callable, here: FeatureCache):
    filled = fill()
    files = sorted(filled.space.folder.glob(SEGMENTS))
    done = merge(here, filled.cache, lambda count, total: files[-1].unlink(missing_ok=True))
    assert (done.segments, done.refused) == (2, [])


def test_temporary_and_set_aside_files_stay_where_they_are(fill: Callable, here: FeatureCache):
    filled = fill()
    for name in (".segment-x.tmp", "damaged-segment-x.h5", "index.bin", "notes.txt"):
        (filled.space.folder / name).write_bytes(b"not yours")
    assert merge(here, filled.cache).refused == []
    assert not [path for path in here.root.rglob("*") if path.is_file() and path.read_bytes() == b"not yours"]


CODE = """
from feature_cache import FeatureCache
from feature_cache.errors import StorageFailure
from feature_cache.maintenance.merge import merge
try:
    merge(FeatureCache(Path(sys.argv[1])), FeatureCache(Path(sys.argv[2])))
except StorageFailure as error:
    print(error)
"""


def test_a_full_disk_keeps_what_was_copied_and_leaves_nothing_half_written(
    fill: Callable, here: FeatureCache, small_disk: Callable
):
    filled = fill("plain", (2, 2, 20))
    large = filled.files[2].rename(filled.files[2].with_name("segment-z.h5"))  # the last to be copied
    done = small_disk(CODE, 100_000, here.root, filled.cache.root)
    assert done.stdout.startswith(f"cannot write features to {here[filled.spec].folder}: File too large."), done.stderr
    assert not list(here.root.rglob(TEMPORARY))
    assert here[filled.spec].has(filled.digests).tolist() == [True] * 4 + [False] * 20
    assert verify(here[filled.spec]).damaged == []
    done = merge(here, filled.cache)
    assert (done.segments, done.already_here, done.bytes) == (1, 2, large.stat().st_size)
    replace(filled, cache=here).check()


def test_time_stamps_of_the_other_cache_do_not_fool_the_index(fill: Callable, here: FeatureCache):
    filled = fill("plain", (1,) * 9)
    merge(here, filled.cache)
    there = replace(filled, cache=here)
    assert there.space.has(filled.digests).all()
    for path in there.files:
        os.utime(path, (1, 1))
    there.check()
