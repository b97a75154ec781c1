"""`ConvHead`: one convolution over maps of features, in Keras."""

from __future__ import annotations

from typing import Any

import numpy as np

from feature_cache.errors import BadData
from heads.neural.base import PARTS, ROWS, KerasHead, quiet_keras

AT_ONCE = 2**22  # the values of maps that are read or computed at a time


class ConvHead(KerasHead):
    """A classifier of feature maps: a 3 x 3 convolution of rectified units, their mean over the map, and a softmax.

    Channels are scaled to zero mean and unit variance first, and units are dropped out. All other heads flatten
    features of shape (n, height, width, channels); this one distinguishes patterns of neighbouring positions, wherever
    they are on the map. Rows of shape (n, d) count as maps with a single position; a head that was fitted to larger
    maps takes them flattened as well.

    It is trained with Adam on the cross-entropy. The final weights are those of the epoch with the lowest loss on rows
    that are held out of the training rows, stratified by class.

    Parameters
    ----------
    filters : int
        The number of units of the convolution.
    dropout : float
        The share of the units that are dropped at each step, at all positions of a map, from 0 to below 1.
    learning_rate : float
        The learning rate of Adam.
    epochs : int
        The largest number of epochs.
    patience : int
        The number of epochs without a lower loss after which training stops.
    inner : float
        The share of the training rows that is held out for early stopping, from 0 to below 1. If a class has a single
        row, none are held out, and the loss on all rows decides.
    batch_size : int
        The rows of a step of gradient descent.
    seed : int
        The seed of the held-out rows, the initial weights, the order of rows and the dropout.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
        The number of values of a map: height times width times channels.
    """

    description = "a convolutional head"
    width = "filters"
    parts = PARTS | {"Conv2D", "SpatialDropout2D", "GlobalAveragePooling2D"}
    row_ndim = 3

    def __init__(
        self,
        filters: int = 64,
        dropout: float = 0.3,
        learning_rate: float = 1e-3,
        epochs: int = 200,
        patience: int = 15,
        inner: float = 0.15,
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        self.filters = filters
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.patience = patience
        self.inner = inner
        self.batch_size = batch_size
        self.seed = seed

    def _build(self, X: np.ndarray) -> Any:
        keras = quiet_keras()
        mean, variance = _moments(X)
        last = {"data_format": "channels_last"}  # also where the user's keras.json says otherwise
        return keras.Sequential(
            [
                keras.Input(X.shape[1:]),
                keras.layers.Normalization(mean=mean, variance=np.maximum(variance, 1e-12)),
                keras.layers.Conv2D(self.filters, 3, padding="same", activation="relu", **last),
                # Dropping whole units takes half the time of dropping single values, for the same log-loss.
                keras.layers.SpatialDropout2D(self.dropout, **last),
                keras.layers.GlobalAveragePooling2D(**last),
                keras.layers.Dense(len(self.classes_), activation="softmax"),
            ]
        )

    def _row_shape(self, X: Any) -> tuple[int, ...]:
        shape = getattr(X, "shape", ())
        if len(shape) <= 2:
            return (1, 1, -1)
        if len(shape) != 4:
            raise BadData(
                "this head takes maps of shape (height, width, channels), as `pool='none'` gives them of "
                f"convolutions; received rows of shape {tuple(shape[1:])}."
            )
        return tuple(shape[1:])

    def _rows_at_once(self, shape: tuple[int, ...]) -> int:
        height, width, channels = shape
        return max(1, min(ROWS, AT_ONCE // (height * width * max(channels, self.filters))))


def _moments(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the variance of each channel over rows and positions: shape (channels,), float64."""
    axes, count = (0, 1, 2), X[..., 0].size
    mean = X.mean(axes, dtype=np.float64)
    step = max(1, AT_ONCE // X[0].size)  # in parts, because a copy in float64 takes twice the memory of the maps
    parts = (np.square(X[start : start + step] - mean).sum(axes) for start in range(0, len(X), step))
    return mean, np.sum(list(parts), axis=0) / count
