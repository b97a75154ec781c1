"""`FeatureBatches`: features and targets in batches, as Keras's `fit`, `evaluate` and `predict` take them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


class FeatureBatches(keras.utils.PyDataset):
    """Batches of features, read from disk as Keras asks for them.

    Parameters
    ----------
    features : array of shape (n, ...)
        `feature_cache.Features`, or anything that takes integer arrays as an index.
    targets : ndarray of shape (n, ...), optional
        Left out for prediction.
    batch_size : int
        Rows a batch; the last may be smaller.
    shuffle : bool
        In a new random order in every epoch, repeatable by `seed`.
    workers, use_multiprocessing, max_queue_size
        As Keras has them: batches are read ahead by `workers` threads or processes.

    Raises
    ------
    ValueError
        When `features` and `targets` do not have the same length, or there is no row in a batch.
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
        # In the order of the file within a batch, where that does not matter.
        rows = rows if self._random is None else np.sort(rows)
        features = self._features[rows]
        return (features,) if self._targets is None else (features, self._targets[rows])

    def on_epoch_end(self) -> None:
        if self._random is not None:
            self._order = self._random.permutation(len(self._order))
