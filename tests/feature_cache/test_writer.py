"""Appending rows: what is committed when, and what is refused."""

from __future__ import annotations

import calendar
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_cache import FeatureCache, FeatureSpec, Space, writer
from feature_cache.errors import StorageFailure
from feature_cache.segments import segment_writer
from feature_cache.segments.layout import TEMPORARY
from feature_cache.segments.segment_writer import PlainSegment
from feature_cache.writer import SpaceWriter


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether something comes true soon: segments are written by a thread."""
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.005)
    return holds()


def test_rows_appended_over_several_commits_are_all_found(
    cache: FeatureCache, spec: FeatureSpec, space: Space, made_rows: Callable
):
    digests, features = made_rows(0, 20)
    with space.writer({}) as writing:
        writing.append(digests[:4], features[:4])
        writing.append(digests[4:9], features[4:9])
        writing.commit()
        writing.append(digests[9:10], features[9:10])
        writing.commit()
        writing.append(digests[10:], features[10:])
    after = cache[spec]
    assert sorted(len(part) for part in after.segments) == [1, 9, 10]
    np.testing.assert_array_equal(np.asarray(after.rows(digests)), features)


def test_nothing_is_seen_before_a_commit(cache: FeatureCache, spec: FeatureSpec, space: Space, made_rows: Callable):
    writing = space.writer({})
    writing.append(*made_rows(0, 3))
    assert cache[spec].segments == []
    writing.commit()
    assert len(cache[spec].index) == 3


def test_commit_of_nothing_writes_nothing(space: Space, made_rows: Callable):
    with space.writer({}) as writing:
        writing.append(*made_rows(0, 0))
        writing.commit()
    assert writing.bytes_written == 0
    assert space.segments == []


def test_rows_appended_before_an_error_are_kept(
    cache: FeatureCache, spec: FeatureSpec, space: Space, made_rows: Callable
):
    digests, features = made_rows(0, 3)
    with pytest.raises(ZeroDivisionError), space.writer({}) as writing:
        writing.append(digests, features)
        raise ZeroDivisionError
    np.testing.assert_array_equal(np.asarray(cache[spec].rows(digests)), features)


def test_rows_are_stored_in_the_dtype_of_the_spec(
    cache: FeatureCache, spec: FeatureSpec, space: Space, made_rows: Callable
):
    digests, features = made_rows(0, 3)
    with space.writer({}) as writing:
        writing.append(digests, features.astype(np.float64) / 3)
    stored = np.asarray(cache[spec].rows(digests))
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, (features.astype(np.float64) / 3).astype(np.float32))


def test_rows_are_those_of_the_moment_they_were_appended(
    cache: FeatureCache, spec: FeatureSpec, space: Space, made_rows: Callable
):
    digests, features = made_rows(0, 6)
    digest_buffer, feature_buffer = np.empty((3, 16), np.uint8), np.empty((3, 4), np.float32)
    with space.writer({}) as writing:
        for start in (0, 3):  # as an engine does that hands out the same buffer for every batch
            digest_buffer[:], feature_buffer[:] = digests[start : start + 3], features[start : start + 3]
            writing.append(digest_buffer, feature_buffer)
    np.testing.assert_array_equal(np.asarray(cache[spec].rows(digests)), features)


@pytest.mark.parametrize("rows", [2, 4])
def test_digests_and_features_of_unequal_number_are_refused(
    cache: FeatureCache, spec: FeatureSpec, space: Space, made_rows: Callable, rows: int
):
    digests, features = made_rows(0, 4)
    with pytest.raises(ValueError), space.writer({}) as writing:  # noqa: PT011  # any ValueError will do
        writing.append(digests[:3], features[:rows])
    assert cache[spec].segments == []


def test_segment_is_committed_once_it_is_large(
    space: Space, cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, monkeypatch: pytest.MonkeyPatch
):
    digests, features = made_rows(0, 10)
    monkeypatch.setattr(writer, "SEGMENT_BYTES", features[:3].nbytes)
    with space.writer({}) as writing:
        for row in range(10):
            writing.append(digests[row : row + 1], features[row : row + 1])
            assert eventually(lambda full=(row + 1) // 3 * 3: len(cache[spec]) == full)
    assert sorted(len(part) for part in cache[spec].segments) == [1, 3, 3, 3]
    np.testing.assert_array_equal(np.asarray(cache[spec].rows(digests)), features)


def test_batch_larger_than_a_segment_is_cut(
    space: Space, cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, monkeypatch: pytest.MonkeyPatch
):
    digests, features = made_rows(0, 10)
    views = np.arange(10, dtype=np.uint32)[::-1].copy()
    monkeypatch.setattr(writer, "SEGMENT_BYTES", features[:4].nbytes)
    with space.writer({}) as writing:
        writing.append(digests[:1], features[:1], views[:1])
        writing.append(digests[1:], features[1:], views[1:])
    assert sorted(len(part) for part in cache[spec].segments) == [2, 4, 4]
    np.testing.assert_array_equal(np.asarray(cache[spec].rows(digests, views)), features)


def test_rows_larger_than_a_segment_are_segments_of_their_own(
    space: Space, cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, monkeypatch: pytest.MonkeyPatch
):
    digests, features = made_rows(0, 2, (100,))
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 100)
    with space.writer({}) as writing:
        writing.append(digests, features)
    assert [len(part) for part in cache[spec].segments] == [1, 1]
    np.testing.assert_array_equal(np.asarray(cache[spec].rows(digests)), features)


def test_segment_is_committed_once_it_is_old(
    space: Space, cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writer, "SEGMENT_SECONDS", 0.2)
    digests, features = made_rows(0, 3)
    with space.writer({}) as writing:
        time.sleep(0.25)  # the age of a segment counts from its first row
        writing.append(digests[:1], features[:1])
        time.sleep(0.02)
        assert len(cache[spec]) == 0
        time.sleep(0.25)
        writing.append(digests[1:2], features[1:2])
        assert eventually(lambda: len(cache[spec]) == 2)


def test_rows_are_collected_while_a_segment_is_written(
    space: Space, cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, monkeypatch: pytest.MonkeyPatch
):
    digests, features = made_rows(0, 9)
    go_on, finish = threading.Event(), PlainSegment.finish

    def slow(new: PlainSegment, provenance: dict) -> Path:
        assert go_on.wait(20)
        return finish(new, provenance)

    monkeypatch.setattr(writer, "SEGMENT_BYTES", features[:3].nbytes)
    monkeypatch.setattr(PlainSegment, "finish", slow)
    with space.writer({}) as writing:
        writing.append(digests[:5], features[:5])  # three are handed over, two collected
        assert len(cache[spec]) == 0
        go_on.set()
        writing.append(digests[5:], features[5:])
    np.testing.assert_array_equal(np.asarray(cache[spec].rows(digests)), features)


@pytest.mark.slow
@pytest.mark.parametrize("compress", [False, True])
@given(sizes=st.lists(st.integers(0, 40), max_size=12), width=st.sampled_from([1, 100, 700, 5000]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_come_in_any_pieces_and_the_segment_is_the_same(
    tmp_path: Path, spec: FeatureSpec, made_rows: Callable, compress: bool, sizes: list[int], width: int
):
    digests, features = made_rows(0, sum(sizes), (width,))
    digests, features = digests.reshape(-1, 16), features.reshape(-1, width)
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    with SpaceWriter(folder, spec, {}, compress=compress) as writing:
        for stop, size in zip(np.cumsum(sizes), sizes, strict=True):
            writing.append(digests[stop - size : stop], features[stop - size : stop])
    whole = Path(tempfile.mkdtemp(dir=tmp_path))
    with SpaceWriter(whole, spec, {}, compress=compress) as writing:
        writing.append(digests, features)
    for part, other in zip(Space(folder, spec).segments, Space(whole, spec).segments, strict=True):
        np.testing.assert_array_equal(part.check, other.check)
        np.testing.assert_array_equal(part.digests, digests)
    if sum(sizes):
        np.testing.assert_array_equal(np.asarray(Space(folder, spec).rows(digests)), features)


def test_plain_rows_are_on_their_way_to_disk_at_once(space: Space, made_rows: Callable):
    writing = space.writer({})
    writing.append(*made_rows(0, 1000, (1000,)))
    assert [path.stat().st_size > 4_000_000 for path in space.folder.glob(TEMPORARY)] == [True]
    writing.commit()
    assert not list(space.folder.glob(TEMPORARY))


def test_interrupted_append_leaves_the_rows_before_it(
    cache: FeatureCache, spec: FeatureSpec, space: Space, made_rows: Callable, monkeypatch: pytest.MonkeyPatch
):
    digests, features = made_rows(0, 9, (1000,))

    def interrupted(stored: object) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), space.writer({}) as writing:  # noqa: PT012  # the patch belongs inside
        writing.append(digests[:6], features[:6])
        monkeypatch.setattr(segment_writer, "block_check", interrupted)
        try:
            writing.append(digests[6:], features[6:])
        finally:
            monkeypatch.undo()
    np.testing.assert_array_equal(np.asarray(cache[spec].rows(digests[:6])), features[:6])
    assert len(cache[spec]) == 6


def test_bytes_written_are_those_on_disk(cache: FeatureCache, spec: FeatureSpec, space: Space, made_rows: Callable):
    with space.writer({}) as writing:
        writing.append(*made_rows(0, 300))
        writing.commit()
        writing.append(*made_rows(300, 3))
    assert writing.bytes_written == cache[spec].nbytes > 300 * 16


def test_provenance_is_kept_with_the_time_and_the_duration(
    cache: FeatureCache, spec: FeatureSpec, space: Space, made_rows: Callable
):
    with space.writer({"engine": "test", "keras": "3.12"}) as writing:
        writing.append(*made_rows(0, 1))
    (part,) = cache[spec].segments
    assert part.provenance["engine"] == "test"
    assert part.provenance["keras"] == "3.12"
    assert abs(time.time() - _epoch(part.provenance["finished"])) < 60
    assert 0 <= part.provenance["seconds"] < 60
    assert json.loads(json.dumps(part.provenance)) == part.provenance


def _epoch(text: str) -> float:
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


def test_folder_removed_while_writing_is_a_storage_failure(space: Space, made_rows: Callable):
    writing = space.writer({})
    writing.append(*made_rows(0, 3))
    shutil.rmtree(space.folder)
    with pytest.raises(StorageFailure, match=f"^cannot write features to {space.folder}: No such file or directory"):
        writing.commit()
    assert not space.folder.exists()


def test_failure_to_write_in_the_thread_reaches_the_writer_and_ends_the_thread(
    space: Space, made_rows: Callable, monkeypatch: pytest.MonkeyPatch
):
    digests, features = made_rows(0, 9)
    monkeypatch.setattr(writer, "SEGMENT_BYTES", features[:3].nbytes)
    before = set(threading.enumerate())
    with pytest.raises(StorageFailure, match="^cannot write features to"), space.writer({}) as writing:
        shutil.rmtree(space.folder)
        for row in range(9):
            writing.append(digests[row : row + 1], features[row : row + 1])
    assert set(threading.enumerate()) <= before


def test_views_are_kept(cache: FeatureCache, spec: FeatureSpec, space: Space, made_rows: Callable):
    digests, features = made_rows(0, 4)
    same, views = np.repeat(digests[:1], 4, axis=0), np.array([3, 0, 70_000, 1], np.uint32)
    with space.writer({}) as writing:
        writing.append(same[:2], features[:2], views[:2])
        writing.append(same[2:], features[2:], views[2:])
    np.testing.assert_array_equal(np.asarray(cache[spec].rows(same, views)), features)
    np.testing.assert_array_equal(np.asarray(cache[spec].rows(same[:1])), features[1:2])


@pytest.mark.parametrize("commit", [False, True], ids=["same segment", "next segment"])
@pytest.mark.parametrize("row_shape", [(1,), (), (4, 1), (1, 4), (5,)], ids=str)
def test_rows_of_another_shape_are_refused(
    cache: FeatureCache, spec: FeatureSpec, space: Space, made_rows: Callable, row_shape: tuple, commit: bool
):
    digests, features = made_rows(0, 3)
    with pytest.raises(ValueError, match="shape"), space.writer({}) as writing:
        writing.append(digests, features)
        if commit:
            writing.commit()
        writing.append(made_rows(3, 1)[0], np.ones((1, *row_shape), np.float32))
    np.testing.assert_array_equal(np.asarray(cache[spec].rows(digests)), features)
    assert len(cache[spec]) == 3


@pytest.mark.parametrize(
    ("digests", "views"),
    [
        ((3, 1), (3,)),
        ((3, 15), (3,)),
        ((3,), (3,)),
        ((3, 16), (1,)),
        ((3, 16), (2,)),
        ((3, 16), (4,)),
        ((3, 16), (3, 1)),
    ],
    ids=str,
)
def test_keys_that_do_not_fit_the_rows_are_refused(
    cache: FeatureCache, spec: FeatureSpec, space: Space, digests: tuple, views: tuple
):
    with pytest.raises(ValueError), space.writer({}) as writing:  # noqa: PT011  # any ValueError will do
        writing.append(np.zeros(digests, np.uint8), np.ones((3, 4), np.float32), np.zeros(views, np.uint32))
    assert len(cache[spec].index) == 0
