"""`MLPHead`: a multilayer perceptron with one hidden layer, in Keras."""

from __future__ import annotations

from typing import Any

import numpy as np

from heads.neural.base import PARTS, KerasHead, quiet_keras


class MLPHead(KerasHead):
    """A classifier with one hidden layer of rectified units, on features scaled to zero mean and unit variance.

    It is trained with Adam on the cross-entropy. The final weights are those of the epoch with the lowest loss on rows
    that are held out of the training rows, stratified by class.

    Parameters
    ----------
    hidden : int
        The number of units of the hidden layer.
    dropout : float
        The share of the hidden units that are dropped at each step, from 0 to below 1.
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
    """

    description = "an MLP head"
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
