"""Rows as they are used: read-only or copied, in batches, by name, after a fork, while the space changes."""

from __future__ import annotations

import gc
import pickle
import threading
from collections.abc import Callable

import numpy as np
import pytest
from cache_helpers import in_child

from feature_cache import FeatureCache, Features, FeatureSpec, Space
from feature_cache.errors import MissingFeatures

ORDER = [9, 0, 3, 3, 8, 2, 11, 1, 10, 9, 5]  # rows of three segments, some asked for twice
N = len(ORDER)


@pytest.fixture(scope="module", params=[(4,), (2, 3, 2), (5000,), ()], ids=str)
def pair(request: pytest.FixtureRequest, in_three_segments: Callable) -> tuple[Features, np.ndarray]:
    """The same rows as `Features`, partly from a compressed segment, and as an array."""
    return in_three_segments(request.param, ORDER, compress_second=True)


# What may be changed.


def test_rows_of_an_integer_or_a_slice_are_read_only(pair: tuple[Features, np.ndarray]):
    features, array = pair
    for index in (1, slice(1, 4), slice(None), slice(None, None, -2), slice(4, 4), (slice(2, 5), ...)):
        got = features[index]
        assert isinstance(got, np.generic) or not got.flags.writeable or not got.size
        if np.ndim(got) and got.size:
            with pytest.raises(ValueError, match="read-only"):
                got[...] = -1
    np.testing.assert_array_equal(np.asarray(features), array)


def test_rows_of_an_array_are_a_copy(pair: tuple[Features, np.ndarray]):
    features, array = pair
    for index in ([1, 2], np.arange(N) > 4, np.array([[0, 1]]), ...):
        features[index][...] = -1
    np.asarray(features)[...] = -1
    np.testing.assert_array_equal(np.asarray(features), array)


def test_rows_in_one_piece_are_views_of_the_file(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable
):
    digests, rows = made_rows(0, 200, (300,))
    add(cache, digests[:150], rows[:150])
    add(cache, digests[150:], rows[150:])
    space = cache[spec]
    digests, views = space.keys()
    features = space.rows(digests, views)
    cut = len(space.segments[0])
    assert np.shares_memory(features[3:9], features[5])
    assert np.shares_memory(features[:cut], features[cut - 1])
    assert not np.shares_memory(features[cut - 1 : cut + 1], features[cut])
    assert not np.shares_memory(features[3:9:2], features[3:9])
    reversed_rows = space.rows(digests[::-1], views)
    assert not np.shares_memory(reversed_rows[3:9], features[:])


def test_features_outlive_the_space_that_gave_them(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable
):
    digests, rows = made_rows(0, 5)
    add(cache, digests, rows)
    features = cache[spec].rows(digests)
    row = features[3]
    del features
    gc.collect()
    np.testing.assert_array_equal(row, rows[3])


# Batches.


@pytest.mark.parametrize("prefetch", [0, 1, 3])
@pytest.mark.parametrize("size", [1, 4, N, 100])
def test_batches_in_order(pair: tuple[Features, np.ndarray], size: int, prefetch: int):
    features, array = pair
    batches = list(features.batches(size, prefetch=prefetch))
    assert [len(rows) for rows, _ in batches] == [size] * (N // size) + [N % size] * (N % size > 0)
    np.testing.assert_array_equal(np.concatenate([rows for rows, _ in batches]), array)
    np.testing.assert_array_equal(np.concatenate([positions for _, positions in batches]), np.arange(N))


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_shuffled_batches_cover_each_row_once(pair: tuple[Features, np.ndarray], prefetch: int):
    features, array = pair
    seen = []
    for rows, positions in features.batches(4, shuffle=True, seed=3, prefetch=prefetch):
        np.testing.assert_array_equal(rows, array[positions])
        seen.extend(positions.tolist())
    assert sorted(seen) == list(range(N))
    assert seen != list(range(N))


def test_shuffling_is_decided_by_the_seed_alone(pair: tuple[Features, np.ndarray]):
    def order(seed: int, **options: int) -> list[int]:
        return [at for _, positions in pair[0].batches(4, shuffle=True, seed=seed, **options) for at in positions]

    assert order(1) == order(1, prefetch=0) == order(1, prefetch=2)
    assert order(1) != order(2)


@pytest.mark.parametrize("size", [0, -1])
def test_batches_of_no_rows_are_refused(pair: tuple[Features, np.ndarray], size: int):
    with pytest.raises(ValueError, match=f"^a batch has at least 1 row; received {size}.$"):
        list(pair[0].batches(size))


def test_empty_features_have_no_batches(space: Space):
    assert list(space.rows(np.zeros((0, 16), np.uint8)).batches(4)) == []


def test_batches_that_are_not_used_up_leave_no_thread(pair: tuple[Features, np.ndarray]):
    before = set(threading.enumerate())
    batches = pair[0].batches(1, prefetch=2)
    next(batches)
    (thread,) = set(threading.enumerate()) - before
    batches.close()
    thread.join(5)
    assert not thread.is_alive()


def test_leaving_batches_early_waits_for_no_thread(pair: tuple[Features, np.ndarray], monkeypatch: pytest.MonkeyPatch):
    """Who waits in the garbage collector, which may run while any lock is held, may wait for ever."""
    go, waited, read = threading.Event(), [], Features.__getitem__

    def slow(features: Features, index: slice) -> np.ndarray:
        if index.start:
            waited.append(go.wait(5))
        return read(features, index)

    monkeypatch.setattr(Features, "__getitem__", slow)
    batches = pair[0].batches(1, prefetch=2)
    next(batches)
    batches.close()
    assert waited == []
    go.set()


def test_several_threads_read_at_once(cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable):
    digests, rows = made_rows(0, 200, (20,))
    for first in range(0, 200, 10):
        add(cache, digests[first : first + 10], rows[first : first + 10], compress=first % 30 == 20)
    features, wrong = cache[spec].rows(digests), []

    def read(seed: int) -> None:
        for part, positions in features.batches(17, shuffle=True, seed=seed, prefetch=0):
            if not np.array_equal(part, rows[positions]):
                wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []


# In other processes, and while the space changes.


def test_features_are_read_in_another_process(pair: tuple[Features, np.ndarray]):
    features, array = pair
    np.testing.assert_array_equal(in_child(np.asarray, features), array)


def test_pickled_features_are_small_and_the_same(pair: tuple[Features, np.ndarray]):
    features, array = pair
    np.asarray(features)
    packed = pickle.dumps(features)
    assert len(packed) < 3000
    again = pickle.loads(packed)
    assert again.shape == features.shape
    assert again.digest == features.digest
    np.testing.assert_array_equal(np.asarray(again), array)


def test_keys_are_those_that_were_asked_for(pair: tuple[Features, np.ndarray], made_rows: Callable):
    digests, views = pair[0].keys()
    np.testing.assert_array_equal(digests, made_rows(0, 12)[0][ORDER])
    assert views.tolist() == [0] * N
    np.testing.assert_array_equal(pair[0].keys([3, 1])[0], digests[[3, 1]])


def test_digest_of_rows_is_that_of_their_set(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable
):
    digests, rows = made_rows(0, 6)
    add(cache, digests, rows)
    space = cache[spec]
    known = space.rows(digests).digest
    assert space.rows(digests[[3, 1, 0, 5, 5, 4, 2]]).digest == known
    assert space.rows(digests[:5]).digest != known
    assert space.rows(digests[:0]).digest != known
    assert len(known) == 32


def _rewrite(space: Space, digests: np.ndarray, rows: np.ndarray, compress: bool) -> None:
    """What a compaction does: the rows in one new segment, then the old ones away."""
    old = [part.path for part in space.segments]
    with space.writer({}, compress=compress) as writer:
        writer.append(digests, rows)
    for path in old:
        path.unlink()


def test_rows_are_found_again_when_their_segments_are_compacted(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable, compress: bool
):
    digests, rows = made_rows(0, 12)
    for first in range(0, 12, 4):
        add(cache, digests[first : first + 4], rows[first : first + 4], compress=compress)
    never, partly, wholly = (cache[spec].rows(digests) for _ in range(3))
    np.testing.assert_array_equal(partly[:2], rows[:2])
    np.testing.assert_array_equal(wholly[:], rows)
    seen = wholly[1:3]
    for turn in range(3):
        _rewrite(cache[spec], digests, rows, compress != (turn == 1))
        for features in (never, partly, wholly):
            np.testing.assert_array_equal(features[::-1], rows[::-1])
            np.testing.assert_array_equal(features[5], rows[5])
    np.testing.assert_array_equal(seen, rows[1:3])


def test_batches_go_on_while_segments_are_compacted(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable, compress: bool
):
    digests, rows = made_rows(0, 12)
    for first in range(0, 12, 2):
        add(cache, digests[first : first + 2], rows[first : first + 2], compress=compress)
    for number, (part, positions) in enumerate(cache[spec].rows(digests).batches(2, shuffle=True)):
        np.testing.assert_array_equal(part, rows[positions])
        if number in (1, 3):
            _rewrite(cache[spec], digests, rows, compress)


def test_rows_whose_segments_are_removed_are_missing(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable
):
    digests, rows = made_rows(0, 4)
    for part in (slice(0, 2), slice(2, 4)):
        add(cache, digests[part], rows[part])
    features = cache[spec].rows(digests)
    for path in cache[spec].folder.glob("segment-*.h5"):
        path.unlink()
    with pytest.raises(MissingFeatures, match="^4 of 4 rows"):
        np.asarray(features)
