"""Random initial weights that are the same on every Keras backend. It imports Keras.

Keras's initialisers take their seeds from Python's generator, but draw the numbers with the
backend's own. Random weights of seed 0 would then be other weights under JAX than under TensorFlow,
and the cache would mix features of two nets. TensorFlow's draws are the reference here: other
backends get them from the NumPy rendering below of its counter-based generator, Philox 4x32-10
(Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), used as TensorFlow's
`tf.random.stateless_*` do on a CPU.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
from keras.src.initializers import random_initializers

_SCRAMBLE_KEY = (0x3EC8F720, 0x02461E29)
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_drawn: ContextVar[str] = ContextVar("drawn", default="by Keras")
_CHUNK = 2**18  # blocks of four numbers made at a time, to bound memory
_TRUNCATED_STRIDE = 256  # blocks that TensorFlow sets aside for every four truncated normals


@contextlib.contextmanager
def portable_draws() -> Iterator[None]:
    """While it lasts, Keras's random initialisers draw what they draw on TensorFlow; nothing inside `no_draws`."""
    if keras.backend.backend() == "tensorflow" or _drawn.get() == "nothing":
        yield
        return
    with _drawing("as on TensorFlow"):
        yield


@contextlib.contextmanager
def no_draws() -> Iterator[None]:
    """While it lasts, Keras's random initialisers give zeros: for a net whose weights are loaded afterwards.

    Drawing them takes a fifth of the time that building a net like ResNet50 takes.
    """
    with _drawing("nothing"):
        yield


@contextlib.contextmanager
def _drawing(what: str) -> Iterator[None]:
    """Have initialisers draw so in this thread; what other threads build meanwhile is drawn as ever."""
    token = _drawn.set(what)
    try:
        yield
    finally:
        _drawn.reset(token)


def uniform(shape: Sequence[int], seed: int) -> np.ndarray:
    """What ``tf.random.stateless_uniform(shape, (seed, 0))`` gives: float32 in [0, 1)."""
    return _fill(shape, seed, lambda bits: _to_unit(bits).reshape(-1))


def normal(shape: Sequence[int], seed: int) -> np.ndarray:
    """What ``tf.random.stateless_normal(shape, (seed, 0))`` gives, within float32 rounding."""
    return _fill(shape, seed, lambda bits: _box_muller(bits).reshape(-1))


def truncated_normal(shape: Sequence[int], seed: int) -> np.ndarray:
    """What ``tf.random.stateless_truncated_normal(shape, (seed, 0))`` gives, within float32 rounding."""
    n = math.prod(shape)
    key, high = _key_and_counter(seed)
    out = np.empty((-(-n // 4), 4), np.float32)
    for start in range(0, len(out), _CHUNK // 4):
        groups = np.arange(start, min(start + _CHUNK // 4, len(out)), dtype=np.uint64)
        blocks = 4
        while len(groups):  # groups that need more draws than most come round again
            counters = groups[:, None] * np.uint64(_TRUNCATED_STRIDE) + np.arange(blocks, dtype=np.uint64)
            drawn = _box_muller(_philox(counters.reshape(-1), high, key)).reshape(len(groups), -1)
            kept = np.abs(drawn) < 2
            rank = np.cumsum(kept, axis=1) - 1
            done = rank[:, -1] >= 3
            row, column = np.nonzero(kept & (rank < 4) & done[:, None])
            out[groups[row].astype(np.int64), rank[row, column]] = drawn[row, column]
            groups = groups[~done]
            blocks *= 2
    return out.reshape(-1)[:n].reshape(shape)


def _fill(shape: Sequence[int], seed: int, distribution: Any) -> np.ndarray:
    n = math.prod(shape)
    key, high = _key_and_counter(seed)
    out = np.empty(-(-n // 4) * 4, np.float32)
    for start in range(0, len(out) // 4, _CHUNK):
        stop = min(start + _CHUNK, len(out) // 4)
        out[4 * start : 4 * stop] = distribution(_philox(np.arange(start, stop, dtype=np.uint64), high, key))
    return out[:n].reshape(shape)


def _key_and_counter(seed: int) -> tuple[tuple[int, int], np.ndarray]:
    """The key, and the upper half of the counter, that TensorFlow makes of the seed (seed, 0)."""
    scrambled = _philox(np.array([seed], np.uint64), np.zeros(2, np.uint64), _SCRAMBLE_KEY)[0]
    return (int(scrambled[0]), int(scrambled[1])), scrambled[2:].astype(np.uint64)


def _philox(low: np.ndarray, high: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Ten rounds on counters [low, high]: shape (n, 4), uint32, for `low` of shape (n,), uint64."""
    c0, c1 = low & _LOW, low >> np.uint64(32)
    c2, c3 = np.full_like(low, high[0]), np.full_like(low, high[1])
    k0, k1 = key
    for _ in range(10):
        a, b = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (b >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            b & _LOW,
            (a >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            a & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def _to_unit(bits: np.ndarray) -> np.ndarray:
    """23 random bits as the fraction of a float32 in [1, 2), less 1."""
    return ((bits & np.uint32(0x7FFFFF)) | np.uint32(127 << 23)).view(np.float32) - np.float32(1)


def _box_muller(bits: np.ndarray) -> np.ndarray:
    """Pairs of uniform numbers to pairs of normal ones (Box and Muller 1958); shape (n, 4) kept."""
    unit = _to_unit(bits)
    radius = np.sqrt(np.float32(-2) * np.log(np.maximum(unit[:, 0::2], np.float32(1e-7))))
    angle = np.float32(2 * math.pi) * unit[:, 1::2]
    return np.stack([np.sin(angle) * radius, np.cos(angle) * radius], axis=-1).reshape(-1, 4)


def _zeros(shape: Any, *_: Any, dtype: Any = None, **__: Any) -> Any:
    return keras.ops.zeros(shape, dtype=dtype)


def _uniform(shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    drawn = uniform(shape, seed) * np.float32(maxval - minval) + np.float32(minval)
    return keras.ops.convert_to_tensor(drawn, dtype=dtype)


def _normal(shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    return keras.ops.convert_to_tensor(normal(shape, seed) * np.float32(stddev) + np.float32(mean), dtype=dtype)


def _truncated_normal(shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None) -> Any:
    drawn = truncated_normal(shape, seed) * np.float32(stddev) + np.float32(mean)
    return keras.ops.convert_to_tensor(drawn, dtype=dtype)


def _chosen(original: Callable[..., Any], portable: Callable[..., Any]) -> Callable[..., Any]:
    """A function that draws as the running thread has it."""

    def draw(*args: Any, **kwargs: Any) -> Any:
        return {"nothing": _zeros, "as on TensorFlow": portable}.get(_drawn.get(), original)(*args, **kwargs)

    return draw


# Put in place once and for all: what is replaced for a while is replaced for all threads.
_PORTABLE = {"uniform": _uniform, "normal": _normal, "truncated_normal": _truncated_normal}
random_initializers.random = SimpleNamespace(
    **vars(random_initializers.random)
    | {name: _chosen(getattr(random_initializers.random, name), draw) for name, draw in _PORTABLE.items()}
)
