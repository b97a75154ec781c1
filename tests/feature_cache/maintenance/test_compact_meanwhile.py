"""Compaction while other compactions and writers are at work: no row is ever without a segment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from feature_cache.maintenance.compact import compact
from feature_cache.maintenance.verify import verify
from feature_cache.segments import segment, segment_writer
from feature_cache.segments.row_store import RowStore


@pytest.fixture
def at_first_opening(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """A function to do something else between the listing of a space and the opening of its first segment."""

    def arrange(action: Callable[[], Any]) -> None:
        original, done = RowStore.segment, []

        def opened(store: RowStore, number: int) -> segment.Segment:
            if not done:
                done.append(True)
                action()
            return original(store, number)

        monkeypatch.setattr(RowStore, "segment", opened)

    return arrange


@pytest.mark.parametrize("first", [None, True, False])
@pytest.mark.parametrize("second", [None, True, False])
def test_a_compaction_just_before_another_opens_the_segments_loses_nothing(
    fill: Callable, at_first_opening: Callable, first: bool | None, second: bool | None
):
    filled = fill("plain", (4, 2, 6))
    at_first_opening(lambda: compact(filled.space, compress=first))
    compact(filled.space, compress=second)
    filled.check()
    assert verify(filled.space).damaged == []


@pytest.mark.parametrize("compress", [None, True])
def test_a_compaction_and_a_writer_just_before_another_opens_the_segments_lose_nothing(
    fill: Callable, at_first_opening: Callable, compress: bool | None
):
    filled = fill("plain", (4, 2, 6))
    more = 255 - filled.digests[:5]

    def meanwhile() -> None:
        compact(filled.space)
        segment_writer.write(filled.space.folder, filled.spec, filled.rows[:5] + 1, more, filled.views[:5], {})

    at_first_opening(meanwhile)
    compact(filled.space, compress=compress)
    filled.check()
    np.testing.assert_array_equal(np.asarray(filled.space.rows(more)), filled.rows[:5] + 1)


def test_rows_that_are_written_meanwhile_are_kept(fill: Callable, at_first_opening: Callable):
    filled = fill("plain", (4, 2, 6))
    more = 255 - filled.digests[:5]
    columns = filled.rows[:5] + 1, more, filled.views[:5]
    at_first_opening(lambda: segment_writer.write(filled.space.folder, filled.spec, *columns, {}))
    done = compact(filled.space)
    assert (done.rows, done.segments_after) == (12, 2)
    filled.check()
    np.testing.assert_array_equal(np.asarray(filled.space.rows(more)), filled.rows[:5] + 1)


def test_a_segment_that_vanishes_meanwhile_is_nothing_to_fail_for(fill: Callable, at_first_opening: Callable):
    filled = fill("plain", (4, 2, 6))
    gone = filled.files[1]
    at_first_opening(gone.unlink)
    done = compact(filled.space)
    assert (done.rows, done.segments_after) == (10, 1)
    assert filled.space.has(filled.digests).tolist() == [True] * 4 + [False] * 2 + [True] * 6


def test_a_verification_meanwhile_sees_no_damage(fill: Callable, at_first_opening: Callable):
    filled = fill("plain", (4, 2, 6))
    at_first_opening(lambda: compact(filled.space))
    assert verify(filled.space).damaged == []


@pytest.mark.parametrize("kind", ["plain", "int8"])
def test_several_compactions_at_once_while_rows_are_written_lose_nothing(fill: Callable, kind: str):
    filled = fill(kind, (2,) * 20, (20,))
    parameters = filled.space.segments[0].coding
    stored = np.repeat(filled.space.stored(np.arange(1)), 2, axis=0)
    errors: list[BaseException] = []
    written: list[np.ndarray] = []

    def compactor(compress: bool | None) -> None:
        try:
            for _ in range(5):
                compact(filled.space, compress=compress)
        except BaseException as error:
            errors.append(error)

    def writer(who: int) -> None:
        try:
            rng = np.random.default_rng(who)
            for _ in range(10):
                digests = rng.integers(0, 256, (2, 16), np.uint8)
                columns = stored, digests, np.zeros(2, np.uint32)
                segment_writer.write(filled.space.folder, filled.spec, *columns, {}, coding=parameters)
                written.append(digests)
                assert filled.space.has(digests).all()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=compactor, args=(compress,)) for compress in (None, None, False)]
    threads += [threading.Thread(target=writer, args=(who,)) for who in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    filled.check()
    assert filled.space.has(np.concatenate(written)).all()
    assert len(filled.space) == 40 + 40


def test_readers_see_right_rows_all_the_while(fill: Callable):
    filled = fill("compressed", (8,) * 8, (2100,))
    features = filled.space.rows(filled.digests)
    errors: list[BaseException] = []
    stop = threading.Event()

    def reader(seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            while not stop.is_set():
                some = rng.integers(0, 64, 9)
                np.testing.assert_array_equal(features[some], filled.rows[some])
                np.testing.assert_array_equal(filled.space.rows(filled.digests[some])[:], filled.rows[some])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=reader, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        for compress in (None, False, True, False, True):
            compact(filled.space, compress=compress)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    filled.check()
