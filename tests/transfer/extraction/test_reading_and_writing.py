"""The parts of the extraction loop: writing in a thread, the timer, and batches in reused buffers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage
from feature_cache.keys import digest_array
from transfer.data import datasets
from transfer.data.datasets import Dataset
from transfer.data.images import ArraySource, pixels_for
from transfer.engines.batch import Batch
from transfer.extraction.extract import extract
from transfer.extraction.reading import read_batches
from transfer.extraction.writing import WAITING, BackgroundWriter, StageTimer
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

WANTED = FeatureRequest(Net("glyphnet"), ("block1_pool",))


class TestBackgroundWriter:
    def test_calls_are_done_in_their_order_one_at_a_time_and_all_before_the_end(self) -> None:
        done: list[int] = []
        busy = threading.Lock()

        def call(number: int) -> None:
            assert busy.acquire(blocking=False), "two calls at the same time"
            time.sleep(0.002 if number % 3 == 0 else 0)
            done.append(number)
            busy.release()

        with BackgroundWriter() as writer:
            for number in range(40):
                writer.do(call, number)
        assert done == list(range(40))

    def test_the_loop_goes_on_while_a_call_is_done(self) -> None:
        go, done = threading.Event(), []
        with BackgroundWriter() as writer:
            writer.do(go.wait, 5)
            writer.do(done.append, 1)
            assert done == []
            go.set()
        assert done == [1]

    def test_a_bounded_number_of_calls_waits(self) -> None:
        go, handed_over = threading.Event(), []

        def hand_over(writer: BackgroundWriter) -> None:
            for number in range(3 * WAITING):
                writer.do(go.wait, 5)
                handed_over.append(number)

        with BackgroundWriter() as writer:
            loop = threading.Thread(target=hand_over, args=(writer,))
            loop.start()
            time.sleep(0.2)
            assert 1 < len(handed_over) <= WAITING
            go.set()
            loop.join(5)
            assert len(handed_over) == 3 * WAITING

    def test_the_error_of_a_call_is_raised_by_a_later_one(self) -> None:
        def fail() -> None:
            raise OSError("the disk is full")

        done: list[int] = []
        with pytest.raises(OSError, match="the disk is full"), BackgroundWriter() as writer:
            writer.do(fail)
            for number in range(WAITING + 1):
                time.sleep(0.01)
                writer.do(done.append, number)
            pytest.fail("the error has not been raised")

    def test_the_error_of_the_last_call_is_raised_at_the_end(self) -> None:
        done: list[int] = []

        def fail() -> None:
            raise OSError("the disk is full")

        with pytest.raises(OSError, match="the disk is full"), BackgroundWriter() as writer:
            writer.do(done.append, 1)
            writer.do(fail)
        assert done == [1]

    def test_what_came_after_an_error_is_not_done(self) -> None:
        def fail() -> None:
            raise OSError("the disk is full")

        later = threading.Event()
        with pytest.raises(OSError, match="the disk is full"), BackgroundWriter() as writer:
            writer.do(fail)
            writer.do(later.set)
            later.wait(0.5)
        assert not later.is_set()

    def test_the_threads_are_gone_at_the_end_whatever_happened(self) -> None:
        def fail() -> None:
            raise OSError

        before = set(threading.enumerate())
        with pytest.raises(OSError), BackgroundWriter() as writer:
            writer.do(fail)
        with pytest.raises(KeyboardInterrupt), BackgroundWriter() as writer:
            writer.do(time.sleep, 0.01)
            raise KeyboardInterrupt
        assert set(threading.enumerate()) <= before

    def test_what_was_handed_over_is_done_when_the_loop_is_interrupted(self) -> None:
        done: list[int] = []
        with pytest.raises(KeyboardInterrupt), BackgroundWriter() as writer:
            for number in range(3):
                writer.do(done.append, number)
            raise KeyboardInterrupt
        assert done == [0, 1, 2]


def slowly(count: int, seconds: float) -> Iterator[int]:
    for number in range(count):
        time.sleep(seconds)
        yield number


class TestStageTimer:
    def test_laps_sum_to_the_total(self) -> None:
        timer = StageTimer()
        for what in ("prepare", "compute", "write", "compute"):
            time.sleep(0.01)
            timer.lap(what)
        assert sum(timer.seconds.values()) == pytest.approx(timer.total, abs=0.01)
        assert timer.seconds["compute"] >= 0.02
        assert timer.seconds["decode"] == 0

    def test_time_is_counted_for_what_was_waited_for(self) -> None:
        timer = StageTimer()
        for _ in timer.timed("decode", slowly(5, 0.02)):
            time.sleep(0.005)  # in the engine, which asks for the next
        timer.lap("write")
        assert timer.seconds["decode"] >= 0.1
        assert 0.025 <= timer.seconds["compute"] < timer.seconds["decode"]
        assert sum(timer.seconds.values()) == pytest.approx(timer.total, abs=0.01)

    def test_the_time_until_it_is_known_that_there_is_no_more_counts_too(self) -> None:
        def ends_late() -> Iterator[int]:
            yield 1
            time.sleep(0.05)

        timer = StageTimer()
        assert list(timer.timed("decode", ends_late())) == [1]
        assert timer.seconds["decode"] >= 0.05

    def test_an_error_passes_and_its_time_is_counted(self) -> None:
        def fails() -> Iterator[int]:
            time.sleep(0.03)
            raise OSError("gone")
            yield 1

        timer = StageTimer()
        with pytest.raises(OSError, match="gone"):
            list(timer.timed("decode", fails()))
        assert timer.seconds["decode"] >= 0.03

    def test_moving_changes_no_sum_and_takes_no_more_than_there_is(self) -> None:
        timer = StageTimer()
        time.sleep(0.01)
        timer.lap("compute")
        before = sum(timer.seconds.values())
        timer.move("compute", "prepare", 0.004)
        assert timer.seconds["prepare"] == pytest.approx(0.004)
        timer.move("compute", "prepare", 100)
        assert timer.seconds["compute"] == 0
        assert sum(timer.seconds.values()) == pytest.approx(before)


def random_images(count: int, colour: Callable[[int], bool] = lambda number: False) -> Dataset:
    """Distinct images in memory, some of them in colour, of the size that the net takes."""
    rng = np.random.default_rng(count)
    shapes = [(32, 32, 3) if colour(number) else (32, 32) for number in range(count)]
    sources = tuple(ArraySource(rng.integers(0, 256, shape, np.uint8), str(n)) for n, shape in enumerate(shapes))
    return Dataset("random", tuple(str(number) for number in range(count)), sources, None)


def expected_rows(dataset: Dataset) -> dict[bytes, np.ndarray]:
    """The pixels of every image by its digest."""
    pixels = [source.pixels for source in dataset.sources]
    return {digest_array(part): part[..., None] if part.ndim == 2 else part for part in pixels}


def rows_of(batch: Batch) -> dict[bytes, np.ndarray]:
    assert len(batch.digests) == len(batch.inputs) > 0
    return {digest.tobytes(): row for digest, row in zip(batch.digests, batch.inputs, strict=True)}


def lie_apart(one: Batch, other: Batch) -> bool:
    return not np.shares_memory(one.inputs, other.inputs)


class TestBuffers:
    @settings(max_examples=40, deadline=None)
    @given(
        count=st.integers(1, 40),
        batch_size=st.integers(1, 9),
        threads=st.integers(1, 3),
        every=st.integers(1, 4),
        releases=st.lists(st.lists(st.integers(0, 7), max_size=4), max_size=40),
    )
    def test_a_batch_stays_as_it_is_until_it_is_released(
        self, count: int, batch_size: int, threads: int, every: int, releases: list[list[int]]
    ) -> None:
        dataset = random_images(count, lambda number: number % every == 1)
        expected = expected_rows(dataset)
        held: list[Batch] = []
        seen: list[bytes] = []
        plan = iter(releases)
        for batch in read_batches(dataset, range(count), WANTED, batch_size, {}, threads=threads):
            assert all(lie_apart(batch, other) for other in held)
            held.append(batch)
            seen += [digest.tobytes() for digest in batch.digests]
            for one in held:
                for digest, row in rows_of(one).items():
                    np.testing.assert_array_equal(row, expected[digest])
            for choice in next(plan, []):
                if held:
                    held.pop(choice % len(held)).release()
        assert sorted(seen) == sorted(expected)

    @pytest.mark.parametrize("ahead", [0, 1, 3])
    def test_released_buffers_are_used_again(self, ahead: int) -> None:
        places: set[int] = set()
        held: list[Batch] = []
        count = 0
        for batch in read_batches(random_images(60), range(60), WANTED, 4, {}, threads=2):
            places.add(batch.inputs.__array_interface__["data"][0])
            held.append(batch)
            count += 1
            if len(held) > ahead:
                held.pop(0).release()
        assert count == 15
        assert len(places) <= ahead + 1  # no more room than there are batches held, and the one that comes

    def test_digests_stay_when_the_inputs_are_used_again(self) -> None:
        dataset = random_images(20)
        kept = []
        for batch in read_batches(dataset, range(20), WANTED, 4, {}, threads=1):
            kept.append(batch.digests)
            batch.release()
        expected = [digest_array(source.pixels) for source in dataset.sources]
        assert [digest.tobytes() for digests in kept for digest in digests] == expected

    def test_batches_that_are_never_released_are_all_right(self) -> None:
        dataset = random_images(30)
        batches = list(read_batches(dataset, range(30), WANTED, 4, {}))
        found = {digest: row for batch in batches for digest, row in rows_of(batch).items()}
        expected = expected_rows(dataset)
        assert found.keys() == expected.keys()
        for digest, row in found.items():
            np.testing.assert_array_equal(row, expected[digest])


class TestReading:
    @pytest.mark.parametrize("batch_size", [1, 5, 64])
    def test_thread_counts_give_the_same_rows_in_the_same_order(self, batch_size: int) -> None:
        dataset = random_images(50, lambda number: number % 7 == 3)
        found = []
        for threads in (1, 2, 7):
            batches = read_batches(dataset, range(50), WANTED, batch_size, {}, threads=threads)
            found.append([(batch.digests.tobytes(), batch.inputs.tobytes()) for batch in batches])
        assert found[0] == found[1] == found[2]
        assert sum(len(digests) // 16 for digests, _ in found[0]) == 50

    @pytest.mark.parametrize("threads", [1, 2, 7, 50])
    def test_a_single_image_is_a_batch_of_one_also_with_more_threads_than_images(self, threads: int) -> None:
        dataset = random_images(1)
        (batch,) = read_batches(dataset, [0], WANTED, 32, {}, threads=threads)
        assert batch.inputs.shape == (1, 32, 32, 1)
        assert batch.digests.tobytes() == digest_array(dataset.sources[0].pixels)

    def test_no_image_is_no_batch(self) -> None:
        assert list(read_batches(random_images(3), [], WANTED, 4, {})) == []

    @pytest.mark.parametrize("threads", [1, 3])
    @pytest.mark.parametrize("batch_size", [4, 64])
    def test_a_bounded_number_is_decoded_ahead(
        self, monkeypatch: pytest.MonkeyPatch, threads: int, batch_size: int
    ) -> None:
        decoded: list[str] = []

        def spy(picture: object, spec: object, name: str) -> np.ndarray:
            decoded.append(name)
            return pixels_for(picture, spec, name)

        monkeypatch.setattr("transfer.extraction.reading.pixels_for", spy)
        monkeypatch.setattr("transfer.extraction.reading.FIRST_IMAGES", 0)
        batches = read_batches(random_images(600), range(600), WANTED, batch_size, {}, threads=threads)
        for taken in (1, 2, 3):
            next(batches).release()
            time.sleep(0.05)
            assert taken * batch_size <= len(decoded) <= (taken + 3) * batch_size + 2 * threads
        batches.close()
        stopped = len(decoded)
        time.sleep(0.05)
        assert len(decoded) == stopped

    def test_positions_are_taken_no_further_than_they_are_needed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("transfer.extraction.reading.FIRST_IMAGES", 50)  # while the engine is made
        taken: list[int] = []

        def positions() -> Iterator[int]:
            for number in range(200):
                taken.append(number)
                yield number

        batches = read_batches(random_images(200), positions(), WANTED, 8, {}, threads=2)
        next(batches)
        assert 50 <= len(taken) <= 56  # whole groups
        for number in range(2, 10):
            next(batches)
            assert len(taken) <= max(56, 8 * number + 3 * 8)
        batches.close()

    @pytest.mark.parametrize("threads", [1, 2, 7])
    def test_what_cannot_be_decoded_is_noted_and_the_rest_comes(
        self, class_folder: Path, write_image: Callable[..., Path], threads: int
    ) -> None:
        bad = [class_folder / "a" / "2.png", class_folder / "b" / "5.png"]
        bad[0].write_bytes(bad[0].read_bytes()[:-40])
        bad[1].write_text("no image")
        dataset = datasets.load(str(class_folder))
        undecodable: dict[int, BadImage] = {}
        batches = list(read_batches(dataset, range(8), WANTED, 3, undecodable, threads=threads))
        assert sum(len(batch.digests) for batch in batches) == 6
        assert sorted(dataset.ids[place] for place in undecodable) == ["a/2.png", "b/5.png"]
        for place, error in undecodable.items():
            assert str(dataset.sources[place]) in str(error) and str(dataset.sources[place]) not in error.reason

    def test_it_stops_soon_but_delivers_what_was_begun(
        self, tmp_path: Path, write_image: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("transfer.extraction.reading.FIRST_IMAGES", 0)
        files = [write_image(tmp_path / f"{number:03d}.png", number) for number in range(300)]
        files[10].write_bytes(files[10].read_bytes()[:-40])
        dataset = datasets.from_files(files)
        undecodable: dict[int, BadImage] = {}
        begun: list[int] = []

        def positions() -> Iterator[int]:
            for number in range(300):
                begun.append(number)
                yield number

        batches = list(read_batches(dataset, positions(), WANTED, 4, undecodable, threads=2, stop=True))
        delivered = {digest.tobytes() for batch in batches for digest in batch.digests}
        assert list(undecodable) == [10]
        assert delivered == {source.load()[0] for place, source in enumerate(dataset.sources) if place in begun} - {
            dataset.sources[10].load()[0]
        }
        assert 10 <= len(delivered) < 40

    def test_an_error_of_the_program_is_not_taken_for_a_bad_image(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> np.ndarray:
            raise ZeroDivisionError

        monkeypatch.setattr("transfer.extraction.reading.pixels_for", broken)
        with pytest.raises(ZeroDivisionError):
            list(read_batches(random_images(3), range(3), WANTED, 2, {}))

    def test_leaving_it_early_waits_for_no_thread_and_they_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who waits in the garbage collector, which may run while any lock is held, may wait for ever."""
        go, waited = threading.Event(), []

        def slow(picture: object, spec: object, name: str) -> np.ndarray:
            if int(name) >= 4:
                waited.append(go.wait(5))
            return pixels_for(picture, spec, name)

        monkeypatch.setattr("transfer.extraction.reading.pixels_for", slow)
        before = set(threading.enumerate())
        batches = read_batches(random_images(100), range(100), WANTED, 4, {}, threads=3)
        next(batches)
        begun = set(threading.enumerate()) - before
        batches.close()
        assert waited == []
        go.set()
        for thread in begun:
            thread.join(5)
        assert len(begun) == 3
        assert not any(thread.is_alive() for thread in begun)
        assert len(waited) <= 3  # what was under way


class TestReport:
    def test_waiting_sums_to_the_seconds_of_the_extraction(self, tmp_path: Path) -> None:
        report = extract(datasets.load("digits").select(np.arange(200)), WANTED, FeatureCache(tmp_path))
        assert set(report.waited) == {"prepare", "decode", "compute", "write"}
        assert all(seconds >= 0 for seconds in report.waited.values())
        assert sum(report.waited.values()) == pytest.approx(report.seconds, abs=0.1)
        assert report.engine in ("keras", "openvino")
        assert report.batch_size >= 1

    def test_slow_images_are_waited_for_to_be_decoded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def slow(*arguments: object) -> np.ndarray:
            time.sleep(0.04)
            return pixels_for(*arguments)

        monkeypatch.setattr("transfer.extraction.reading.pixels_for", slow)
        monkeypatch.setattr("transfer.extraction.reading.cores", lambda: [0, 1])
        report = extract(datasets.load("digits").select(np.arange(60)), WANTED, FeatureCache(tmp_path), batch_size=4)
        assert 0.3 < report.waited["decode"] <= report.seconds
        assert report.waited["write"] < report.waited["decode"]

    def test_nothing_to_compute_names_no_engine(self, tmp_path: Path) -> None:
        digits, cache = datasets.load("digits").select(np.arange(9)), FeatureCache(tmp_path)
        extract(digits, WANTED, cache)
        again = extract(digits, WANTED, cache)
        assert (again.rows_computed, again.engine, again.batch_size, again.note) == (0, "", 0, "")

    def test_the_time_of_finding_that_nothing_is_missing_is_counted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        digits, cache = datasets.load("digits").select(np.arange(9)), FeatureCache(tmp_path)
        extract(digits, WANTED, cache)
        from transfer.extraction import extract as extraction

        find_missing = extraction.find_missing

        def slow(*arguments: object, **options: bool) -> object:
            time.sleep(0.1)
            return find_missing(*arguments, **options)

        monkeypatch.setattr(extraction, "find_missing", slow)
        again = extract(digits, WANTED, cache)
        assert again.seconds >= 0.1
        assert sum(again.waited.values()) == pytest.approx(again.seconds, abs=0.05)

    def test_the_batch_size_that_was_asked_for_is_reported_but_no_more_than_there_are_images(
        self, tmp_path: Path
    ) -> None:
        digits = datasets.load("digits").select(np.arange(9))
        assert extract(digits, WANTED, FeatureCache(tmp_path / "a"), batch_size=4).batch_size == 4
        assert extract(digits, WANTED, FeatureCache(tmp_path / "b"), batch_size=50).batch_size == 9
