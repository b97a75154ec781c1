"""`MLPHead`: one hidden layer in Keras, stopped early on an inner split."""

from __future__ import annotations

from typing import Any

import numpy as np

from heads.neural.base import PARTS, KerasHead, quiet_keras


class MLPHead(KerasHead):
    """Standardised features, one hidden layer of rectified units with dropout, a softmax.

    Trained with Adam on cross-entropy; the weights of the epoch with the lowest loss on an inner,
    stratified part of the training rows are kept.

    Parameters
    ----------
    hidden : int
        Units of the hidden layer.
    dropout : float
        Share of hidden units left out at each step, 0 to 1.
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
    """

    what = "an MLP head"
    width = "hidden"
    parts = PARTS | {"Dropout"}

    def __init__(
        self,
        hidden: int = 256,
        dropout: float = 0.3,
        learning_rate: float = 1e-3,
        epochs: int = 200,
        patience: int = 15,
        inner: float = 0.15,
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        self.hidden = hidden
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.patience = patience
        self.inner = inner
        self.batch_size = batch_size
        self.seed = seed

    def _build(self, X: np.ndarray) -> Any:
        keras = quiet_keras()
        scale = keras.layers.Normalization(mean=X.mean(0), variance=np.maximum(X.var(0), 1e-12))
        return keras.Sequential(
            [
                keras.Input((X.shape[1],)),
                scale,
                keras.layers.Dense(self.hidden, activation="relu"),
                keras.layers.Dropout(self.dropout),
                keras.layers.Dense(len(self.classes_), activation="softmax"),
            ]
        )
