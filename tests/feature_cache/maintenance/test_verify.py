"""Verification: everything is read, what is damaged is named and can be set aside, and nothing else is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from feature_cache import FeatureCache, FeatureSpec, Space
from feature_cache.errors import DamagedFile, StorageFailure
from feature_cache.maintenance.verify import Damage, check_segment, set_aside, verify
from feature_cache.segments import segment_writer
from feature_cache.segments.layout import FORMAT

KINDS = ("plain", "compressed", "float16", "int8", "pca", "views")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_as_it_was_written_is_counted(fill: Callable, kind: str):
    filled = fill(kind)
    done = verify(filled.space)
    assert (done.space, done.segments, done.rows, done.damaged) == (filled.spec.folder_name, 3, 12, [])
    assert done.bytes == sum(path.stat().st_size for path in filled.files) == filled.space.nbytes


@pytest.mark.parametrize("row_shape", [(), (0,), (1,), (2, 3, 4)])
def test_rows_of_any_shape_are_verified(fill: Callable, row_shape: tuple[int, ...]):
    if row_shape == (0,):
        filled = fill("plain", (3,))
        for path in filled.files:
            path.unlink()
        nothing = np.zeros((12, 0), np.float32)
        segment_writer.write(
            filled.space.folder, filled.spec, nothing, filled.digests[:1].repeat(12, 0), np.arange(12), {}
        )
    else:
        filled = fill("plain", (4, 2, 6), row_shape)
    done = verify(filled.space)
    assert (done.rows, done.damaged) == (12, [])


def test_a_space_without_segments_is_sound(space: Space):
    space.create()
    done = verify(space)
    assert (done.segments, done.rows, done.bytes, done.damaged) == (0, 0, 0, [])


@pytest.mark.parametrize("kind", KINDS)
def test_one_altered_bit_in_the_rows_is_found_and_placed(fill: Callable, flip: Callable, kind: str):
    filled = fill(kind)
    damaged = filled.files[1]
    flip(damaged)
    done = verify(filled.space)
    (damage,) = done.damaged
    assert damage.file == damaged.name
    rows = {"plain": "row 0", "views": "row 0"}.get(kind, "rows 0 to 1")
    assert damage.reason.startswith("is damaged or not a segment of this cache (")
    assert damage.reason.endswith(")")
    if kind != "compressed":
        assert f"altered since it was written: {rows}" in damage.reason
    assert (done.segments, done.rows) == (3, 10)


def test_every_altered_byte_of_a_segment_that_matters_is_found(fill: Callable):
    """Bytes of HDF5's own bookkeeping that say nothing of the content may change without harm."""
    filled = fill("plain", (3,), (40,))
    (path,) = filled.files
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    unseen = 0
    for place in rng.integers(0, len(whole), 30).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << int(rng.integers(8))]) + whole[place + 1 :])
        if not verify(filled.space).damaged:
            unseen += 1
            filled.check()
    assert unseen < 30
    path.write_bytes(whole)
    assert verify(filled.space).damaged == []


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_text("no segment\n" * 999), id="text"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-3000]), id="truncated"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:100]), id="only a head"),
        pytest.param(lambda path: h5py.File(path, "w").close(), id="foreign HDF5"),
        pytest.param(lambda path: (path.unlink(), path.mkdir()), id="a folder"),
    ],
)
def test_what_is_no_segment_is_named_and_the_rest_is_counted(fill: Callable, alter: Callable):
    filled = fill()
    bad = filled.files[1]
    alter(bad)
    done = verify(filled.space)
    assert [damage.file for damage in done.damaged] == [bad.name]
    assert done.damaged[0].reason.startswith("is damaged or not a segment of this cache (")
    assert "\n" not in done.damaged[0].reason
    assert (done.segments, done.rows) == (3, 10)


def test_a_segment_of_a_future_format_is_told_apart_from_damage(fill: Callable):
    filled = fill()
    with h5py.File(filled.files[0], "r+") as file:
        file.attrs["layertap_format"] = FORMAT + 1
    (damage,) = verify(filled.space).damaged
    assert damage.reason.startswith(f"has format {FORMAT + 1} and this Layertap reads {FORMAT}; upgrade layertap")


def test_a_segment_of_another_spec_is_damage(fill: Callable):
    filled, other = fill("plain"), fill("float16")
    lost = filled.space.folder / other.files[0].name
    lost.write_bytes(other.files[0].read_bytes())
    (damage,) = verify(filled.space).damaged
    assert damage.file == lost.name
    assert "its feature spec is not its folder's" in damage.reason


def test_of_segments_that_do_not_fit_together_the_odd_one_is_the_damaged(fill: Callable):
    filled = fill("plain", (4, 2, 6))
    columns = np.zeros((2, 7), np.float32), 255 - filled.digests[:2], filled.views[:2]
    odd = segment_writer.write(filled.space.folder, filled.spec, *columns, {})
    odd = odd.rename(odd.with_name("segment-0.h5"))  # it is read before the others
    assert [damage.file for damage in verify(filled.space).damaged] == [odd.name]


def test_progress_ends_with_all_bytes(fill: Callable):
    filled = fill()
    seen: list[tuple[int, int]] = []
    verify(filled.space, lambda done, total: seen.append((done, total)))
    assert [total for _, total in seen] == [filled.space.nbytes] * 3
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == filled.space.nbytes


@pytest.mark.parametrize("kind", ["plain", "compressed", "int8"])
def test_setting_aside_makes_just_these_rows_missing(fill: Callable, flip: Callable, kind: str):
    filled = fill(kind)
    flip(filled.files[1])
    damaged = verify(filled.space).damaged
    before = filled.files[1].read_bytes()
    set_aside(filled.space, damaged)
    assert verify(filled.space).damaged == []
    has = filled.space.has(filled.digests)
    assert has.tolist() == [True] * 4 + [False] * 2 + [True] * 6
    np.testing.assert_array_equal(np.asarray(filled.space.rows(filled.digests[has])), filled.rows[has])
    (kept,) = filled.space.folder.glob("damaged-segment-*.h5")
    assert kept.name == f"damaged-{damaged[0].file}"
    assert kept.read_bytes() == before


def test_setting_aside_makes_rows_missing_for_who_has_an_index_file(fill: Callable, flip: Callable):
    filled = fill("plain", (2,) * 9)
    space = filled.space
    assert space.has(filled.digests).all()
    assert (space.folder / "index.bin").exists()
    stamp = filled.files[3].stat()
    flip(filled.files[3])
    os.utime(filled.files[3], ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # as a disk that rots leaves it
    damaged = verify(filled.space).damaged
    assert len(damaged) == 1
    set_aside(filled.space, damaged)
    assert (~filled.space.has(filled.digests)).nonzero()[0].tolist() == [6, 7]


def test_setting_aside_what_is_gone_already_is_no_error(fill: Callable):
    filled = fill()
    set_aside(filled.space, [Damage("segment-gone.h5", "is damaged")])
    filled.check()


def test_setting_aside_where_it_cannot_be_done_says_so(fill: Callable, flip: Callable):
    filled = fill()
    flip(filled.files[0])
    damaged = verify(filled.space).damaged
    blocked = filled.space.folder / f"damaged-{damaged[0].file}"
    (blocked / "in the way").mkdir(parents=True)
    with pytest.raises(StorageFailure, match=f"cannot set .*{damaged[0].file} aside: "):
        set_aside(filled.space, damaged)


def test_a_segment_can_be_checked_by_itself(fill: Callable, flip: Callable):
    filled = fill("compressed")
    part = check_segment(filled.files[0], filled.space)
    np.testing.assert_array_equal(part.digests, filled.digests[:4])
    flip(filled.files[0])
    with pytest.raises(DamagedFile, match=filled.files[0].name):
        check_segment(filled.files[0], filled.space)
    with pytest.raises(FileNotFoundError):
        check_segment(filled.space.folder / "segment-none.h5", filled.space)


def test_a_large_segment_is_read_in_pieces(fill: Callable, flip: Callable, monkeypatch: pytest.MonkeyPatch):
    filled = fill("plain", (50,), (300,))
    monkeypatch.setattr("feature_cache.maintenance.verify.PIECE_BYTES", 5000)
    assert verify(filled.space).rows == 50
    (path,) = filled.files
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        offset = file["features"].id.get_offset()
    content[offset + 49 * 1200] ^= 1
    path.write_bytes(content)
    (damage,) = verify(filled.space).damaged
    assert "altered since it was written: rows 39 to 49" in damage.reason


def test_what_another_process_has_removed_meanwhile_is_passed_over(
    cache: FeatureCache, spec: FeatureSpec, fill: Callable
):
    filled = fill()
    files = filled.files

    def remove(done: int, total: int) -> None:
        for path in files:
            path.unlink(missing_ok=True)

    done = verify(filled.space, remove)
    assert (done.segments, done.damaged) == (1, [])


def test_a_link_to_nothing_is_passed_over(fill: Callable, tmp_path: Path):
    filled = fill()
    (filled.space.folder / "segment-link.h5").symlink_to(tmp_path / "nowhere")
    assert verify(filled.space).damaged == []
