"""The losses, gradients and correct predictions of many softmax layers at once, for a batch of rows.

Weights have the shape (S, k, d + 1): S settings of k classes, for features scaled to zero mean and unit variance, with
the intercepts in the last column. All settings together are one matrix, so that a batch takes two matrix products. In
the logits, of shape (S, k, m), rows are along the last axis: the softmax is then computed on contiguous memory, several
times faster than across ten classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from feature_cache.process.read_ahead import map_ahead
from heads.threads import blas_threads, limited

Item = TypeVar("Item")
Result = TypeVar("Result")

# The number of rows that are processed together: enough for fast matrix products, and few enough for the caches of a
# processor. Sums are taken over such pieces in their order, so that results do not depend on the number of threads.
PIECE = 512


@dataclass(frozen=True)
class Scale:
    """The scale that gives features zero mean and unit variance, or less: ``(X - mean) * factor``.

    Attributes
    ----------
    mean, factor : ndarray of shape (d,), float32
    """

    mean: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, features: Any, rows: np.ndarray, workers: WorkerThreads, floor: float = 0.0) -> Scale:
        """The scale of these rows, read once.

        Parameters
        ----------
        floor : float
            This share of the mean variance is added to the variance of each feature before it is divided by its
            standard deviation. All factors are then multiplied by the same number, so that a row has the same mean
            squared length for every `floor`.

        Raises
        ------
        ValueError
            When a feature is not finite.
        """
        # Values near zero, less a rough mean, keep their digits in float32.
        shift = _as_matrix(features, rows[:PIECE]).mean(0, dtype=np.float64).astype(np.float32)

        def moments(part: np.ndarray) -> np.ndarray:
            near = np.subtract(_as_matrix(features, part), shift, dtype=np.float32, casting="same_kind")
            return np.stack([near.sum(0), np.einsum("nd,nd->d", near, near)]).astype(np.float64)

        sums = np.zeros((2, len(shift)))
        for part in workers.map(moments, pieces(rows)):
            sums += part
        mean, square = sums / len(rows)
        deviation = np.sqrt(np.maximum(square - mean**2, 0))
        mean = (shift + mean).astype(np.float32)
        if not (np.isfinite(mean).all() and np.isfinite(deviation).all()):
            raise ValueError("Input X contains NaN, infinity or a value too large for dtype('float32').")
        # Features that differ only by rounding are constant, and are ignored.
        constant = deviation <= 1e-6 * np.abs(mean)
        deviation = np.where(constant, 0, deviation)
        divisor = np.sqrt(deviation**2 + floor * np.mean(deviation**2)) if floor else deviation
        factor = np.where(constant, 0, 1 / np.where(constant, 1, divisor))
        if floor and not constant.all():
            factor /= np.sqrt(np.mean((deviation * factor)[~constant] ** 2))
        return cls(mean, factor.astype(np.float32))

    def apply(self, features: Any, rows: np.ndarray) -> np.ndarray:
        """These rows, scaled, and a column of ones: shape (m, d + 1), float32."""
        part = _as_matrix(features, rows)
        out = np.empty((len(part), part.shape[1] + 1), np.float32)
        out[:, -1] = 1
        np.subtract(part, self.mean, out=out[:, :-1], casting="same_kind")
        out[:, :-1] *= self.factor
        return out


def loss_and_gradient(
    weights: np.ndarray, X: np.ndarray, target: np.ndarray, sample_weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The log-loss of some rows and its gradient, each summed over the rows.

    Parameters
    ----------
    X : ndarray of shape (m, d + 1), float32
        Rows as `Scale.apply` returns them.
    target : ndarray of shape (m,), int
    sample_weight : ndarray of shape (m,), float32, optional
        The weights of the rows.

    Returns
    -------
    loss : ndarray of shape (S,), float64
    gradient : ndarray of shape (S, k, d + 1), float32
    """
    logits = _logits(weights, X)
    losses, sums = _exponentials(logits, target)
    logits /= sums[:, None]
    logits[:, target, np.arange(len(X))] -= 1
    if sample_weight is not None:
        logits *= sample_weight
        losses *= sample_weight
    gradient = logits.reshape(-1, len(X)) @ X
    return losses.sum(1, dtype=np.float64), gradient.reshape(weights.shape)


def hits_and_losses(weights: np.ndarray, X: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The number of rows that each setting predicts right, and the sum of its log-losses: shape (2, S), float64."""
    logits = _logits(weights, X)
    right = (logits.argmax(1) == target).sum(1)
    return np.stack([right, _exponentials(logits, target)[0].sum(1, dtype=np.float64)])


def _logits(weights: np.ndarray, X: np.ndarray) -> np.ndarray:
    """The logits of all settings: shape (S, k, m)."""
    settings, k, width = weights.shape
    return (weights.reshape(-1, width) @ X.T).reshape(settings, k, len(X))


def _exponentials(logits: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-losses and sums of exponentials, each of shape (S, m); `logits` are replaced by the exponentials."""
    logits -= logits.max(1, keepdims=True)
    chosen = logits[:, target, np.arange(len(target))]
    np.exp(logits, out=logits)
    sums = logits.sum(1)
    return np.log(sums) - chosen, sums


def _as_matrix(features: Any, rows: np.ndarray) -> np.ndarray:
    """These rows of features of shape (n, ...): shape (m, d)."""
    return np.asarray(features[rows]).reshape(len(rows), -1)


def pieces(rows: np.ndarray, size: int = PIECE) -> list[np.ndarray]:
    """`rows` in parts of at most `size`."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


class WorkerThreads:
    """Threads, one for each core that BLAS would use, while BLAS itself is limited to one core.

    So reading, scaling and the softmax run on all cores, not only the matrix products. No thread waits actively for
    others, which takes many times longer than the work where other processes use the cores as well.
    """

    def __enter__(self) -> WorkerThreads:
        self._count = blas_threads()
        self._limits = limited(1)
        self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="layertap-heads")
        return self

    def __exit__(self, *failure: Any) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._limits.__exit__(*failure)

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """``work(item)`` for each item in order; few results wait at a time, since they may be large."""

        def quietly(item: Item) -> Result:
            with np.errstate(all="ignore"):  # which belongs to a thread; what overflows has lost
                return work(item)

        return map_ahead(quietly, items, depth=self._count + 1, pool=self._pool)
