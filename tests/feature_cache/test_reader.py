"""`Features` answers every question as the same rows in a NumPy array would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cache_helpers import assert_same

from feature_cache import Features

ORDER = [9, 0, 3, 3, 8, 2, 11, 1, 10, 9, 5]  # rows of three segments, some asked for twice
N = len(ORDER)
MASK = np.arange(N) % 3 == 0


@pytest.fixture(scope="module", params=[(4,), (2, 3, 2), (2,), ()], ids=str)
def pair(request: pytest.FixtureRequest, in_three_segments: Callable) -> tuple[Features, np.ndarray]:
    """The same rows as `Features` and as an array."""
    return in_three_segments(request.param, ORDER)


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
        (True,),
        np.array(True),
        [[0, 1], [2, -1]],
        [[]],
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
        (True, 0),
        (np.False_, slice(0, 2)),
        (np.array(True), [1, 0]),
        (True, True, 1),
        (0, True),
        (np.array(3), 1),
        (np.array(3), [1, 0]),
        (slice(None, None, -1), [0, 1], None),
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
        np.array([], float),
        2**70,
        -(2**70),
        np.array([2**63], np.uint64),
        ["a"],
        {0},
        pytest.param(object(), id="an object"),
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
    with pytest.raises((IndexError, TypeError)):
        array[index]
    assert_same(features, array, index)


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
