"""Appending rows: over several commits, from several processes, and through a kill."""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from feature_cache import Cache, FeatureSpec, Space, segment, writer
from feature_cache.errors import StorageFailure
from feature_cache.keys import digest_bytes

SPAWN = multiprocessing.get_context("spawn")


def test_rows_appended_over_several_commits_are_all_found(
    cache: Cache, spec: FeatureSpec, space: Space, made_rows: Callable
):
    digests, features = made_rows(0, 20)
    with space.writer({}) as writing:
        writing.append(digests[:4], features[:4])
        writing.append(digests[4:9], features[4:9])
        writing.commit()
        writing.append(digests[9:10], features[9:10])
        writing.commit()
        writing.append(digests[10:], features[10:])
    after = cache.space(spec)
    assert sorted(len(part) for part in after.segments) == [1, 9, 10]
    np.testing.assert_array_equal(np.asarray(after.features(digests)), features)


def test_nothing_is_seen_before_a_commit(cache: Cache, spec: FeatureSpec, space: Space, made_rows: Callable):
    writing = space.writer({})
    writing.append(*made_rows(0, 3))
    assert cache.space(spec).segments == []
    writing.commit()
    assert len(cache.space(spec).index) == 3


def test_commit_of_nothing_writes_nothing(space: Space, made_rows: Callable):
    with space.writer({}) as writing:
        writing.append(*made_rows(0, 0))
        writing.commit()
    assert writing.bytes_written == 0
    assert space.segments == []


def test_rows_appended_before_an_error_are_kept(cache: Cache, spec: FeatureSpec, space: Space, made_rows: Callable):
    digests, features = made_rows(0, 3)
    with pytest.raises(ZeroDivisionError), space.writer({}) as writing:
        writing.append(digests, features)
        raise ZeroDivisionError
    np.testing.assert_array_equal(np.asarray(cache.space(spec).features(digests)), features)


def test_rows_are_stored_in_the_dtype_of_the_spec(cache: Cache, spec: FeatureSpec, space: Space, made_rows: Callable):
    digests, features = made_rows(0, 3)
    with space.writer({}) as writing:
        writing.append(digests, features.astype(np.float64) / 3)
    stored = np.asarray(cache.space(spec).features(digests))
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, (features.astype(np.float64) / 3).astype(np.float32))


def test_rows_are_those_of_the_moment_they_were_appended(
    cache: Cache, spec: FeatureSpec, space: Space, made_rows: Callable
):
    digests, features = made_rows(0, 6)
    digest_buffer, feature_buffer = np.empty((3, 16), np.uint8), np.empty((3, 4), np.float32)
    with space.writer({}) as writing:
        for start in (0, 3):  # as an engine does that hands out the same buffer for every batch
            digest_buffer[:], feature_buffer[:] = digests[start : start + 3], features[start : start + 3]
            writing.append(digest_buffer, feature_buffer)
    np.testing.assert_array_equal(np.asarray(cache.space(spec).features(digests)), features)


@pytest.mark.parametrize("rows", [2, 4])
def test_digests_and_features_of_unequal_number_are_refused(
    cache: Cache, spec: FeatureSpec, space: Space, made_rows: Callable, rows: int
):
    digests, features = made_rows(0, 4)
    with pytest.raises(ValueError), space.writer({}) as writing:  # noqa: PT011  # any ValueError will do
        writing.append(digests[:3], features[:rows])
    assert cache.space(spec).segments == []


def test_segment_is_committed_once_it_is_large(
    space: Space, cache: Cache, spec: FeatureSpec, made_rows: Callable, monkeypatch: pytest.MonkeyPatch
):
    digests, features = made_rows(0, 10)
    monkeypatch.setattr(writer, "SEGMENT_BYTES", features[:3].nbytes)
    with space.writer({}) as writing:
        for row in range(10):
            writing.append(digests[row : row + 1], features[row : row + 1])
            assert len(cache.space(spec).index) == (row + 1) // 3 * 3
    assert sorted(len(part) for part in cache.space(spec).segments) == [1, 3, 3, 3]
    np.testing.assert_array_equal(np.asarray(cache.space(spec).features(digests)), features)


def test_segment_is_committed_once_it_is_old(
    space: Space, cache: Cache, spec: FeatureSpec, made_rows: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writer, "SEGMENT_SECONDS", 0.2)
    digests, features = made_rows(0, 3)
    writing = space.writer({})
    time.sleep(0.25)  # the age of a segment counts from its first row
    writing.append(digests[:1], features[:1])
    assert cache.space(spec).segments == []
    time.sleep(0.25)
    writing.append(digests[1:2], features[1:2])
    assert len(cache.space(spec).index) == 2


def test_bytes_written_are_those_on_disk(cache: Cache, spec: FeatureSpec, space: Space, made_rows: Callable):
    with space.writer({}) as writing:
        writing.append(*made_rows(0, 300))
        writing.commit()
        writing.append(*made_rows(300, 3))
    assert writing.bytes_written == cache.space(spec).nbytes > 300 * 16


def test_provenance_is_kept_with_the_time_and_the_duration(
    cache: Cache, spec: FeatureSpec, space: Space, made_rows: Callable
):
    with space.writer({"engine": "test", "keras": "3.12"}) as writing:
        writing.append(*made_rows(0, 1))
    (part,) = cache.space(spec).segments
    assert part.provenance["engine"] == "test"
    assert part.provenance["keras"] == "3.12"
    assert abs(time.time() - _epoch(part.provenance["finished"])) < 60
    assert 0 <= part.provenance["seconds"] < 60
    assert json.loads(json.dumps(part.provenance)) == part.provenance


def _epoch(text: str) -> float:
    import calendar

    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


def test_folder_removed_while_writing_is_a_storage_failure(space: Space, made_rows: Callable):
    writing = space.writer({})
    writing.append(*made_rows(0, 3))
    (space.folder / "spec.json").unlink()
    space.folder.rmdir()
    with pytest.raises(StorageFailure, match=f"^cannot write features to {space.folder}: "):
        writing.commit()
    assert not space.folder.exists()


def _write_share(root: Path, spec: FeatureSpec, number: int, go: object) -> None:
    space = Cache(root).space(spec)
    go.wait(60)
    with space.writer({"writer": number}) as writing:
        for row in range(number * 10, number * 10 + 20):  # neighbours overlap by half
            writing.append(*_row(row))
            if row % 4 == 3:
                writing.commit()


def _row(number: int) -> tuple[np.ndarray, np.ndarray]:
    digest = np.frombuffer(digest_bytes(f"image {number}".encode()), np.uint8)[None]
    return digest, np.full((1, 1000), number, np.float32)


def test_several_processes_write_one_space_at_once(cache: Cache, spec: FeatureSpec):
    go = SPAWN.Barrier(3)
    children = [SPAWN.Process(target=_write_share, args=(cache.root, spec, number, go)) for number in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    space = cache.space(spec)
    digests = np.concatenate([_row(number)[0] for number in range(40)])
    assert len(space.index) == 40
    assert sum(len(part) for part in space.segments) == 60
    np.testing.assert_array_equal(np.asarray(space.features(digests))[:, 0], np.arange(40))
    assert {path.name for path in space.folder.iterdir()} == {
        "spec.json",
        *(part.path.name for part in space.segments),
    }


def _write_for_ever(root: Path, spec: FeatureSpec) -> None:
    with Cache(root).space(spec).writer({}) as writing:
        for first in range(0, 10**9, 100):
            rows = [_row(number) for number in range(first, first + 100)]
            writing.append(np.concatenate([row[0] for row in rows]), np.concatenate([row[1] for row in rows]))
            writing.commit()


@pytest.mark.parametrize("pause", [0.0, 0.013])
def test_killed_writer_leaves_only_complete_segments_and_work_goes_on(cache: Cache, spec: FeatureSpec, pause: float):
    child = SPAWN.Process(target=_write_for_ever, args=(cache.root, spec))
    child.start()
    deadline = time.monotonic() + 60
    folder = cache.space(spec).folder
    while len(list(folder.glob(segment.PATTERN))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(pause)
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL

    left = cache.space(spec)
    written = len(left.index)
    assert written >= 300
    assert written % 100 == 0
    digests = np.concatenate([_row(number)[0] for number in range(written)])
    np.testing.assert_array_equal(np.asarray(left.features(digests))[:, -1], np.arange(written))
    assert len([path for path in folder.iterdir() if path.name.endswith(".tmp")]) <= 1

    digest, features = _row(written)
    assert not left.has(digest).any()
    with left.writer({}) as writing:
        writing.append(digest, features)
    assert len(cache.space(spec).index) == written + 1
