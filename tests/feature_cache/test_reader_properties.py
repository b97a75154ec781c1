"""Random indices of all kinds give what they give on an array: values, shape, dtype, or the same type of error."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from cache_helpers import assert_same
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from feature_cache import FeatureCache, Features, FeatureSpec, Space

PROPERTY = settings(deadline=None, max_examples=100, derandomize=True, database=None)
N = 23


class Pair(NamedTuple):
    """The same rows as `Features` and as an array."""

    features: Features
    array: np.ndarray

    def __repr__(self) -> str:
        return f"rows of {self.array.shape}"


def mixed(space: Space, digests: np.ndarray, rows: np.ndarray, cuts: tuple[int, ...]) -> None:
    """Write rows in segments that are plain and compressed by turns."""
    for number, (start, stop) in enumerate(itertools.pairwise((0, *cuts, len(rows)))):
        with space.writer({}, compress=number % 2 == 1) as writer:
            writer.append(digests[start:stop], rows[start:stop])


# Scalars, rows of several to a block, of two blocks to a segment, of more than a block; one segment, and several.
@pytest.fixture(
    scope="module",
    params=[((), (4, 9)), ((3,), ()), ((2, 3), (1, 2, 12, 15)), ((4, 2, 200), (7, 14)), ((2, 2100), (11,))],
    ids=lambda param: f"{param[0]} in {len(param[1]) + 1}",
)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, spec: FeatureSpec, made_rows: Callable
) -> Pair:
    """Rows in an order with repeats."""
    row_shape, cuts = request.param
    digests, rows = made_rows(0, 18, row_shape)
    space = FeatureCache(tmp_path_factory.mktemp("features"))[spec]
    mixed(space, digests, rows, cuts)
    order = np.r_[np.arange(10), np.random.default_rng(0).integers(0, 18, N - 10)]  # in one piece, and scattered
    return Pair(space.again().rows(digests[order]), rows[order])


BOUND = N + 3
INTEGERS = st.integers(-BOUND, BOUND) | st.sampled_from([N, -N - 1, N - 1, -N, 2**31, 2**64])
SLICES = st.builds(
    slice,
    st.none() | st.integers(-2 * N, 2 * N),
    st.none() | st.integers(-2 * N, 2 * N),
    st.none() | st.integers(-4, 4) | st.sampled_from([N, -N]),
)
KINDS = st.sampled_from(["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", ">i4", "<u2"])


@st.composite
def integer_arrays(draw: st.DrawFn, outside: bool = True, shapes: st.SearchStrategy | None = None) -> np.ndarray:
    """Arrays of any integer type and shape, within bounds or a little beyond."""
    kind = np.dtype(draw(KINDS))
    reach = N + 1 if outside and draw(st.booleans()) else N
    low = 0 if kind.kind == "u" else -reach
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4) if shapes is None else shapes
    return draw(hnp.arrays(kind, shapes, elements=st.integers(low, reach - 1)))


BOOLEANS = hnp.arrays(bool, st.sampled_from([N, N, N, N - 1, N + 1, 0, (), (N, 2), (N, 1), (2, N)]))
LISTS = (
    st.lists(st.integers(-N - 1, N), max_size=5)
    | st.lists(st.booleans(), max_size=3)
    | st.just([True, False] * (N // 2) + [True])
    | st.lists(st.lists(st.integers(-N, N - 1), min_size=2, max_size=2), max_size=3)
)
ODD = st.sampled_from(
    [
        1.5, 0.0, float("nan"), 1j, "features", "", b"0", [0.5], ["a"], np.array([1.0]), np.array([]), np.array("a"),
        np.float32(1), {0}, {}, object(), np.datetime64(1, "s"), np.timedelta64(1, "s"), range(3), (0, 0, 0, 0, 0),
    ]
)  # fmt: skip
SCALARS = INTEGERS | st.builds(
    lambda kind, number: np.dtype(kind).type(number), KINDS.filter(str.isalnum), st.integers(0, N)
)
FIRST = SCALARS | SLICES | integer_arrays() | BOOLEANS | LISTS | st.booleans() | st.none() | st.just(...)


@given(index=SCALARS | SLICES)
@PROPERTY
def test_integers_and_slices(pair: Pair, index: Any):
    assert_same(*pair, index)


@given(index=integer_arrays() | LISTS)
@PROPERTY
def test_integer_arrays(pair: Pair, index: Any):
    assert_same(*pair, index)


@given(index=BOOLEANS | hnp.arrays(bool, N) | st.booleans())
@PROPERTY
def test_boolean_arrays(pair: Pair, index: Any):
    assert_same(*pair, index)


@given(index=ODD | st.tuples(ODD, SLICES) | st.tuples(SLICES, ODD) | st.tuples(ODD, SCALARS))
@PROPERTY
def test_what_is_no_index(pair: Pair, index: Any):
    assert_same(*pair, index)


@given(data=st.data())
@PROPERTY
def test_boolean_arrays_over_several_axes(pair: Pair, data: st.DataObject):
    axes = data.draw(st.integers(0, pair[1].ndim))
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).random(pair[1].shape[:axes]) < 0.3
    index = data.draw(st.sampled_from([(mask,), (mask, ...), (..., mask), (None, mask)]))
    assert_same(*pair, index)


@given(data=st.data())
@PROPERTY
def test_tuples_that_go_into_the_rows(pair: Pair, data: st.DataObject):
    """Several indices; most are such that NumPy takes them."""
    array = pair[1]
    shape = data.draw(hnp.array_shapes(max_dims=2, max_side=3))
    index: list[Any] = [data.draw(FIRST | integer_arrays(outside=False, shapes=st.just(shape)))]
    for side in array.shape[1:][: data.draw(st.integers(0, 3))]:
        inside = (
            st.integers(-side, side - 1)
            | SLICES
            | hnp.arrays(np.int64, shape, elements=st.integers(-min(side, 9), min(side, 9) - 1))
            | hnp.arrays(bool, side)
        )
        index.append(data.draw(inside))
    for extra in data.draw(st.lists(st.sampled_from([None, ..., slice(None), 0, -1, True, [0]]), max_size=2)):
        index.insert(data.draw(st.integers(0, len(index))), extra)
    assert_same(*pair, tuple(index))


@pytest.mark.slow
@given(data=st.data())
@settings(PROPERTY, max_examples=40)
def test_any_order_of_rows_in_any_segments(
    tmp_path_factory: pytest.TempPathFactory, spec: FeatureSpec, made_rows: Callable, data: st.DataObject
):
    number = data.draw(st.integers(1, 12))
    row_shape = data.draw(st.sampled_from([(), (5,), (3, 2), (5000,)]))
    cuts = data.draw(st.lists(st.integers(1, 11).filter(lambda cut: cut < number), unique=True, max_size=4))
    digests, rows = made_rows(0, number, row_shape)
    space = FeatureCache(tmp_path_factory.mktemp("features"))[spec]
    mixed(space, digests, rows, tuple(sorted(cuts)))
    order = np.array(data.draw(st.lists(st.integers(0, number - 1), max_size=15)), int)
    features = space.again().rows(digests[order])
    np.testing.assert_array_equal(np.asarray(features), rows[order])
    size = data.draw(st.integers(1, 6))
    for part, positions in features.batches(size, shuffle=data.draw(st.booleans()), prefetch=0):
        np.testing.assert_array_equal(part, rows[order][positions])
    assert_same(features, rows[order], data.draw(SLICES))
