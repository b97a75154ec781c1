"""`Features` answers every question as the same rows in a NumPy array would."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from feature_cache import Cache, Features, FeatureSpec, Space

ORDER = [9, 0, 3, 3, 8, 2, 11, 1, 10, 9, 5]  # rows of three segments, some asked for twice
N = len(ORDER)
MASK = np.arange(N) % 3 == 0


@pytest.fixture(scope="module", params=[(4,), (2, 3, 2), (2,), ()], ids=str)
def pair(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    spec: FeatureSpec,
    made_rows: Callable,
    add: Callable,
) -> tuple[Features, np.ndarray]:
    """The same rows as `Features` and as an array."""
    cache = Cache(tmp_path_factory.mktemp("features"))
    digests, rows = made_rows(0, 12, request.param)
    for part in (slice(0, 7), slice(7, 10), slice(10, 12)):
        add(cache, digests[part], rows[part])
    return cache.space(spec).features(digests[ORDER]), rows[ORDER]


def assert_same(features: Features, array: np.ndarray, index: Any) -> None:
    """Indexing gives equal values of equal shape and dtype, or raises the same type of error."""
    try:
        expected = array[index]
    except Exception as error:
        with pytest.raises(type(error)):
            features[index]
        return
    got = features[index]
    assert np.shape(got) == np.shape(expected), f"shape {np.shape(got)} for {np.shape(expected)}"
    assert got.dtype == expected.dtype
    assert not isinstance(got, np.memmap)
    np.testing.assert_array_equal(got, expected)


def test_looks_like_an_array(pair: tuple[Features, np.ndarray]):
    features, array = pair
    assert len(features) == len(array)
    assert features.shape == array.shape
    assert features.ndim == array.ndim
    assert features.dtype == array.dtype


@pytest.mark.parametrize(
    "index",
    [
        0,
        5,
        N - 1,
        -1,
        -N,
        np.int64(3),
        np.uint8(2),
        np.array(4),
        slice(None),
        slice(2, 7),
        slice(-3, None),
        slice(None, None, 2),
        slice(None, None, -1),
        slice(8, 2, -3),
        slice(4, 4),
        slice(5, 100),
        [0],
        [3, 3, 0, -1],
        [],
        (),
        np.array([], dtype=int),
        np.array([10, 0, 7]),
        np.array([10, 0, 7], dtype=np.uint8),
        np.array([[0, 1], [2, -1], [5, 5]]),
        np.zeros((2, 0), int),
        MASK,
        MASK.tolist(),
        ~MASK,
        np.zeros(N, bool),
        np.ones(N, bool),
        True,
        np.False_,
        ...,
        None,
        (..., None),
        (None, 2),
        (slice(1, 4), ...),
        (2, ...),
        (..., slice(1, 3)),
    ],
    ids=repr,
)
def test_index_gives_what_numpy_gives(pair: tuple[Features, np.ndarray], index: Any):
    assert_same(*pair, index)


@pytest.mark.parametrize(
    "index",
    [
        (0, 1),
        (-1, -1),
        (3, slice(None)),
        (3, None),
        (3, [0, 1, 0]),
        (slice(None), 0),
        (slice(2, 5), 1),
        (slice(2, 5), slice(None, None, -1)),
        (slice(2, 5), [1, 0]),
        (slice(2, 5), np.array([True, False])),
        (slice(2, 5), None),
        (slice(2, 5), ..., 0),
        (slice(None), slice(0, 2), ..., None),
        ([4, 1], 0),
        ([4, 1], slice(None)),
        ([4, 1], ..., 0),
        ([4, 1], [1, 0]),
        ([4, 1, 4], [1, 0]),
        ([4, 1], [True, True]),
        (MASK, 1),
        (MASK, slice(1, None)),
        (MASK, [0, 1, 0, 1]),
        (np.array([[0, 1, 2], [3, 4, 5]]), 0),
        (np.array([[0, 1, 2], [3, 4, 5]]), slice(0, 1)),
        (np.array([[0], [3]]), np.array([0, 1])),
        (..., 0),
        (None, slice(2, 5), 0),
        ([], 0),
        (slice(None), []),
    ],
    ids=repr,
)
def test_index_that_goes_into_the_rows_gives_what_numpy_gives(pair: tuple[Features, np.ndarray], index: Any):
    assert_same(*pair, index)


@pytest.mark.parametrize(
    "index", [(2, slice(None), [0, 1]), ([2, 0], slice(None), [0, 1]), (2, 1, 1, 1), (MASK, 1, [0, 1, 1, 0])], ids=repr
)
def test_index_deep_into_the_rows_gives_what_numpy_gives(pair: tuple[Features, np.ndarray], index: Any):
    assert_same(*pair, index)


def test_boolean_array_over_rows_and_columns_gives_what_numpy_gives(pair: tuple[Features, np.ndarray]):
    features, array = pair
    assert_same(features, array, array % 3 == 1)


@pytest.mark.parametrize(
    "index",
    [
        N,
        -N - 1,
        [0, N],
        [-N - 1],
        np.array([N]),
        np.ones(N - 1, bool),
        np.ones(N + 1, bool),
        [True],
        1.5,
        [0.5],
        "features",
        (N, 0),
        (0, 99),
        (slice(None), 99),
        (0, 0, 0, 0, 0),
        ([0], 0, 0, 0, 0),
        (slice(0), 0, 0, 0, 0),
    ],
    ids=repr,
)
def test_index_that_numpy_refuses_is_refused(pair: tuple[Features, np.ndarray], index: Any):
    features, array = pair
    with pytest.raises(IndexError):
        array[index]
    with pytest.raises(IndexError):
        features[index]


def test_random_indices_give_what_numpy_gives(pair: tuple[Features, np.ndarray]):
    rng = np.random.default_rng(0)
    for _ in range(200):
        start, stop = rng.integers(-N - 3, N + 3, 2).tolist()
        step = int(rng.choice([-3, -2, -1, 1, 2, 3]))
        assert_same(*pair, slice(start, stop, step))
        assert_same(*pair, rng.integers(-N, N, rng.integers(0, 6)))
        assert_same(*pair, rng.random(N) < 0.4)


def test_whole_array(pair: tuple[Features, np.ndarray]):
    features, array = pair
    for got in (np.asarray(features), np.array(features), features[:], features[...]):
        assert type(got) is np.ndarray
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)
    assert np.asarray(features, dtype=np.float64).dtype == np.float64
    np.testing.assert_array_equal(np.asarray(features, dtype=np.int32), array.astype(np.int32))
    assert np.mean(features) == np.mean(array)


def test_array_without_a_copy_is_refused(pair: tuple[Features, np.ndarray]):
    with pytest.raises(ValueError, match="features are on disk: an array of them is always a copy."):
        np.array(pair[0], copy=False)


def test_iteration_gives_row_after_row(pair: tuple[Features, np.ndarray]):
    features, array = pair
    rows = list(features)
    assert len(rows) == N
    np.testing.assert_array_equal(np.stack(rows), array)


def test_changing_what_was_read_changes_nothing_else(pair: tuple[Features, np.ndarray]):
    features, array = pair
    features[1:2][...] = -1
    if features.ndim > 1:
        features[1][...] = -1
    np.testing.assert_array_equal(np.asarray(features), array)


def test_features_outlive_the_space_that_gave_them(cache: Cache, spec: FeatureSpec, made_rows: Callable, add: Callable):
    digests, rows = made_rows(0, 5)
    add(cache, digests, rows)
    features = cache.space(spec).features(digests)
    gc.collect()
    np.testing.assert_array_equal(features[3], rows[3])


@pytest.mark.parametrize("size", [1, 4, N, 100])
def test_batches_in_order(pair: tuple[Features, np.ndarray], size: int):
    features, array = pair
    batches = list(features.batches(size))
    assert [len(rows) for rows, _ in batches] == [size] * (N // size) + [N % size] * (N % size > 0)
    np.testing.assert_array_equal(np.concatenate([rows for rows, _ in batches]), array)
    np.testing.assert_array_equal(np.concatenate([positions for _, positions in batches]), np.arange(N))


def test_shuffled_batches_cover_each_row_once(pair: tuple[Features, np.ndarray]):
    features, array = pair
    seen = []
    for rows, positions in features.batches(4, shuffle=True, seed=3):
        np.testing.assert_array_equal(rows, array[positions])
        seen.extend(positions.tolist())
    assert sorted(seen) == list(range(N))
    assert seen != list(range(N))


def test_shuffling_is_decided_by_the_seed(pair: tuple[Features, np.ndarray]):
    def order(seed: int) -> list[int]:
        return [position for _, positions in pair[0].batches(4, shuffle=True, seed=seed) for position in positions]

    assert order(1) == order(1)
    assert order(1) != order(2)


@pytest.mark.parametrize("size", [0, -1])
def test_batches_of_no_rows_are_refused(pair: tuple[Features, np.ndarray], size: int):
    with pytest.raises(ValueError):  # noqa: PT011  # any ValueError will do
        list(pair[0].batches(size))


def test_empty_features_have_no_batches(space: Space):
    assert list(space.features(np.zeros((0, 16), np.uint8)).batches(4)) == []
