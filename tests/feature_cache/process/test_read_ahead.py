"""Reading ahead keeps the order, is bounded, hands errors to the reader and ends its thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from feature_cache.process.read_ahead import map_ahead, read_ahead

SECONDS = 30  # within which a thread does what it has to


def our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("layertap-ahead")]


@pytest.mark.parametrize("depth", [0, 1, 3, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_the_items_come_in_their_order_whatever_the_depth(depth: int, count: int) -> None:
    assert list(read_ahead(iter(range(count)), depth)) == list(range(count))
    results = map_ahead(lambda item: -item, range(count), depth=depth, threads=3, first=2 * depth)
    assert list(results) == [-item for item in range(count)]


def test_items_that_are_none_are_items() -> None:
    assert list(read_ahead([None, 1, None], 2)) == [None, 1, None]


def test_no_more_than_the_depth_is_prepared_while_the_caller_works() -> None:
    prepared = threading.Semaphore(0)
    started: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            started.append(number)
            prepared.release()
            yield number

    reader = read_ahead(items(), 3)
    assert next(reader) == 0
    for _ in range(4):
        assert prepared.acquire(timeout=SECONDS)
    assert not prepared.acquire(timeout=0.05)
    assert started == [0, 1, 2, 3]
    reader.close()


def test_the_first_results_may_be_prepared_further_ahead_than_later_ones() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = map_ahead(lambda item: item, items(), depth=1, first=9)
    assert next(results) == 0
    assert len(taken) == 10
    assert [next(results) for _ in range(9)] == list(range(1, 10))
    assert len(taken) == 11
    results.close()


def test_an_error_is_raised_in_the_reader_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the disk is gone")

    reader = read_ahead(items(), 5)
    assert [next(reader), next(reader)] == [1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(reader)
    assert list(reader) == []


def test_an_error_of_the_function_is_raised_in_its_place() -> None:
    results = map_ahead(lambda item: 1 / item, [2, 1, 0, 4], depth=3, threads=2)
    assert [next(results), next(results)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_an_abandoned_iteration_ends_its_thread_and_prepares_nothing_more() -> None:
    go_on, started = threading.Event(), threading.Semaphore(0)
    done: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            if number == 2:
                started.release()
                assert go_on.wait(SECONDS)
            done.append(number)
            yield number

    reader = read_ahead(items(), 4)
    assert next(reader) == 0
    assert started.acquire(timeout=SECONDS)
    threads = our_threads()
    assert threads
    del reader  # while the thread is at work
    go_on.set()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert done == [0, 1, 2]


def test_a_pool_of_the_caller_is_left_running() -> None:
    with ThreadPoolExecutor(2) as pool:
        results = map_ahead(abs, [-1, -2, -3], depth=1, pool=pool)
        assert next(results) == 1
        results.close()
        assert pool.submit(abs, -5).result() == 5
