"""`ConvHead`: one convolution over maps of features in Keras, stopped early on an inner split."""

from __future__ import annotations

from typing import Any

import numpy as np

from feature_cache.errors import BadData
from heads.neural.base import PARTS, ROWS, KerasHead, quiet_keras

AT_ONCE = 2**22  # values of maps that are read or made at a time


class ConvHead(KerasHead):
    """Standardised channels, a 3 x 3 convolution of rectified units with dropout, their mean over the map, a softmax.

    For features of shape (n, height, width, channels), which all other heads flatten: it tells patterns of neighbouring
    positions apart, wherever on the map they are. Rows of shape (n, d) are maps of one position; a head that was
    fitted to larger maps takes them flattened, too.

    Trained with Adam on cross-entropy; the weights of the epoch with the lowest loss on an inner,
    stratified part of the training rows are kept.

    Parameters
    ----------
    filters : int
        Units of the convolution.
    dropout : float
        Share of units left out at each step, each at all positions of a map, 0 to 1.
    learning_rate : float
    epochs : int
        At most so many.
    patience : int
        Epochs without a lower loss after which training stops.
    inner : float
        Share of the rows held out for that, 0 to 1. With fewer than two rows of some class none are
        held out, and the loss on all rows decides.
    batch_size : int
    seed : int
        Of the inner split, the initial weights, the order of rows and the dropout.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
        Height times width times channels.
    """

    what = "a convolutional head"
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
        last = {"data_format": "channels_last"}  # whatever the user's keras.json says
        return keras.Sequential(
            [
                keras.Input(X.shape[1:]),
                keras.layers.Normalization(mean=mean, variance=np.maximum(variance, 1e-12)),
                keras.layers.Conv2D(self.filters, 3, padding="same", activation="relu", **last),
                # Leaving out whole units costs half the time of leaving out single values, for the same log-loss.
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
    """Mean and variance of each channel over rows and positions: shape (channels,), float64."""
    axes, count = (0, 1, 2), X[..., 0].size
    mean = X.mean(axes, dtype=np.float64)
    step = max(1, AT_ONCE // X[0].size)  # float64 takes twice the memory of the maps
    parts = (np.square(X[start : start + step] - mean).sum(axes) for start in range(0, len(X), step))
    return mean, np.sum(list(parts), axis=0) / count
