"""`FeatureBatches`: features and targets in batches, as Keras's `fit`, `evaluate` and `predict` take them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


class FeatureBatches(keras.utils.PyDataset):
    """Batches of features and targets for Keras, which are read from disk when Keras asks for them.

    Parameters
    ----------
    features : array of shape (n, ...)
        `feature_cache.features.Features`, or any array that can be indexed by an array of integers.
    targets : ndarray of shape (n, ...), optional
        None for prediction.
    batch_size : int
        The rows of a batch; the last batch may be smaller.
    shuffle : bool
        Whether every epoch has a new random order.
    seed : int
        The seed of the random orders.
    workers, use_multiprocessing, max_queue_size
        Passed to `keras.utils.PyDataset`: `workers` threads or processes read batches ahead.

    Raises
    ------
    ValueError
        When `features` and `targets` differ in length, or `batch_size` is below 1.
    """

    def __init__(
        self,
        features: Any,
        targets: np.ndarray | None = None,
        *,
        batch_size: int = 256,
        shuffle: bool = False,
        seed: int = 0,
        workers: int = 1,
        use_multiprocessing: bool = False,
        max_queue_size: int = 4,
    ) -> None:
        super().__init__(workers=workers, use_multiprocessing=use_multiprocessing, max_queue_size=max_queue_size)
        if targets is not None and len(targets) != len(features):
            raise ValueError(f"received {len(features)} rows of features and {len(targets)} targets.")
        if batch_size < 1:
            raise ValueError(f"a batch has at least 1 row; received {batch_size}.")
        self._features = features
        self._targets = targets
        self._batch_size = batch_size
        self._random = np.random.default_rng(seed) if shuffle else None
        self._order = np.arange(len(features))
        self.on_epoch_end()

    @property
    def num_batches(self) -> int:
        return -(-len(self._order) // self._batch_size)

    def __getitem__(self, number: int) -> Any:
        rows = self._order[number * self._batch_size : (number + 1) * self._batch_size]
        # Rows are read faster in the order of the file, and their order within a batch does not matter.
        rows = rows if self._random is None else np.sort(rows)
        features = self._features[rows]
        return (features,) if self._targets is None else (features, self._targets[rows])

    def on_epoch_end(self) -> None:
        if self._random is not None:
            self._order = self._random.permutation(len(self._order))
