"""Portable draws: NumPy gives the numbers that TensorFlow gives."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import pytest

from transfer.nets import random_weights

SEEDS = (0, 1, 42, 999_999_999, 2**31 - 1)
SHAPES = ((1,), (7,), (5, 4), (3, 3, 16, 32), (2, 0), ())
DRAWS = ("uniform", "normal", "truncated_normal")

# tf.random.stateless_*((4,), (7, 0)), so that the numbers are held where TensorFlow is not installed.
REFERENCE: dict[str, list[float]] = {
    "uniform": [0.74707878, 0.67218018, 0.05777955, 0.64421320],
    "normal": [-0.67417276, -0.35869256, -1.87958169, -1.47289312],
    "truncated_normal": [-0.67417276, -0.35869256, -1.87958169, -1.47289312],
}


@pytest.mark.parametrize("draw", DRAWS)
def test_draws_are_those_of_tensorflow(draw: str) -> None:
    tf = pytest.importorskip("tensorflow")
    for seed in SEEDS:
        for shape in SHAPES:
            expected = getattr(tf.random, f"stateless_{draw}")(shape, tf.constant([seed, 0], tf.int64)).numpy()
            found = getattr(random_weights, draw)(shape, seed)
            assert found.shape == expected.shape
            assert found.dtype == expected.dtype == np.float32
            if draw == "uniform":
                np.testing.assert_array_equal(found, expected)
            else:
                np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("draw", "count"), [("uniform", 2**20 + 9), ("normal", 2**20 + 9), ("truncated_normal", 2**18 + 9)]
)
def test_more_numbers_than_are_made_at_a_time_are_those_of_tensorflow(draw: str, count: int) -> None:
    tf = pytest.importorskip("tensorflow")
    expected = getattr(tf.random, f"stateless_{draw}")((count,), tf.constant([3, 0], tf.int64)).numpy()
    np.testing.assert_allclose(getattr(random_weights, draw)((count,), 3), expected, atol=1e-5)


@pytest.mark.parametrize("draw", DRAWS)
def test_draws_are_the_reference_without_tensorflow(draw: str) -> None:
    np.testing.assert_allclose(getattr(random_weights, draw)((4,), 7), REFERENCE[draw], atol=1e-5)


def test_distributions_are_what_they_are_called() -> None:
    uniform, normal, truncated = (getattr(random_weights, draw)((100_000,), 5) for draw in DRAWS)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert (uniform.mean(), uniform.std()) == pytest.approx((0.5, 12**-0.5), abs=0.01)
    assert (normal.mean(), normal.std()) == pytest.approx((0, 1), abs=0.01)
    assert np.abs(normal).max() > 3
    assert np.abs(truncated).max() < 2
    assert (truncated.mean(), truncated.std()) == pytest.approx((0, 0.8796), abs=0.01)


INITIALISERS: dict[str, Any] = {
    "glorot uniform": keras.initializers.GlorotUniform,
    "glorot normal": keras.initializers.GlorotNormal,
    "he normal": keras.initializers.HeNormal,
    "lecun uniform": keras.initializers.LecunUniform,
    "truncated normal": lambda seed: keras.initializers.TruncatedNormal(mean=1.0, stddev=0.02, seed=seed),
    "normal": lambda seed: keras.initializers.RandomNormal(mean=-1.0, stddev=0.5, seed=seed),
    "uniform": lambda seed: keras.initializers.RandomUniform(-0.3, 0.7, seed=seed),
}


@pytest.mark.parametrize("name", INITIALISERS)
def test_initialisers_draw_under_another_backend_what_they_draw_on_tensorflow(
    name: str, needs_tensorflow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = np.asarray(INITIALISERS[name](11)((3, 3, 8, 16)))
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    philox, drawn = random_weights._philox, []
    monkeypatch.setattr(random_weights, "_philox", lambda *args: drawn.append(1) or philox(*args))
    with random_weights.portable_draws():
        found = np.asarray(INITIALISERS[name](11)((3, 3, 8, 16)))
    assert drawn
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_initialisers_are_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keras.ops.convert_to_numpy(keras.initializers.GlorotUniform(1)((5, 5)))
    monkeypatch.setattr(keras.backend, "backend", lambda: "another")
    drawn = []
    monkeypatch.setattr(random_weights, "_fill", lambda shape, *_: drawn.append(shape) or np.zeros(shape))
    with pytest.raises(RuntimeError, match="in between"), random_weights.portable_draws():
        keras.initializers.GlorotUniform(1)((5, 5))
        raise RuntimeError("in between")
    assert drawn == [(5, 5)]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(keras.initializers.GlorotUniform(1)((5, 5))), before)
    assert drawn == [(5, 5)]


def test_what_one_thread_does_not_draw_others_do() -> None:
    """Zeros for an outline must not become the weights of a net that is built meanwhile, nor stay afterwards."""

    def draw() -> float:
        return float(np.abs(np.asarray(keras.initializers.GlorotUniform(seed=1)((3, 3)))).max())

    def build_outlines() -> list[float]:
        found = []
        for _ in range(50):
            with random_weights.no_draws(), random_weights.portable_draws():
                found.append(draw())
        return found

    with ThreadPoolExecutor(3) as threads:
        outlines = [threads.submit(build_outlines) for _ in range(3)]
        while not all(one.done() for one in outlines):
            assert draw() > 0
    assert max(max(one.result()) for one in outlines) == 0
    assert draw() > 0
