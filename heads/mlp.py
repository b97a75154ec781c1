"""`MLPHead`: one hidden layer in Keras, stopped early on an inner split. Keras is imported only when it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from feature_cache.errors import DamagedFile, UnsafeFile
from feature_cache.quiet import native_stderr_silenced
from heads.arrays import as_rows

FILE = "head.keras"
CLASSES_FILE = "classes.npy"


class MLPHead(ClassifierMixin, BaseEstimator):
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

    def fit(self, X: Any, y: np.ndarray) -> Self:
        """Fit to features of shape (n, ...) and labels of shape (n,)."""
        keras = _keras()

        X, y = validate_data(self, as_rows(X), y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, target = np.unique(y, return_inverse=True)
        train, held_out = self._inner_split(target)

        keras.utils.set_random_seed(self.seed)
        model = self._build(X[train])
        model.compile(
            keras.optimizers.Adam(self.learning_rate), keras.losses.SparseCategoricalCrossentropy(), jit_compile=False
        )
        stop = keras.callbacks.EarlyStopping("val_loss", mode="min", patience=self.patience, restore_best_weights=True)
        model.fit(
            X[train],
            target[train],
            validation_data=(X[held_out], target[held_out]),
            batch_size=self.batch_size,
            epochs=self.epochs,
            callbacks=[stop],
            verbose=0,
        )
        self.model_ = model
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row."""
        return self.classes_[np.argmax(self.predict_proba(X), axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (n, n_classes)."""
        check_is_fitted(self)
        X = validate_data(self, as_rows(X), reset=False, dtype=np.float32)
        return np.asarray(self.model_.predict(X, batch_size=1024, verbose=0), np.float64)

    def save(self, folder: Path) -> None:
        """Write ``head.keras`` and ``classes.npy`` into `folder`."""
        check_is_fitted(self)
        self.model_.save(folder / FILE)
        np.save(folder / CLASSES_FILE, self.classes_, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, params: dict[str, Any]) -> Self:
        """The head that `save` wrote, loaded in Keras's safe mode.

        Raises
        ------
        UnsafeFile
            When Keras finds code in the file.
        DamagedFile
            When it cannot be read.
        """
        keras = _keras()

        head = cls(**params)
        try:
            head.classes_ = np.load(folder / CLASSES_FILE, allow_pickle=False)
            head.model_ = keras.saving.load_model(folder / FILE, compile=False, safe_mode=True)
            head.n_features_in_ = int(head.model_.input.shape[-1])
            if head.model_.output.shape[-1] != len(head.classes_):
                raise ValueError("its outputs are not its classes")
        except Exception as error:  # Keras raises many types for a damaged or unsafe file
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            kind = UnsafeFile if "safe" in str(error) or "deserialize" in str(error) else DamagedFile
            raise kind(f"the head {folder / FILE} is not loaded: {reason}") from error
        return head

    def _inner_split(self, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = np.arange(len(target))
        counts = np.bincount(target)
        held_out = max(len(counts), round(self.inner * len(target)))
        if self.inner <= 0 or counts.min() < 2 or len(target) - held_out < len(counts):
            return rows, rows
        train, inner = train_test_split(rows, test_size=held_out, stratify=target, random_state=self.seed)
        return train, inner

    def _build(self, X: np.ndarray) -> Any:
        keras = _keras()
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


def _keras() -> Any:
    with native_stderr_silenced():  # TensorFlow greets everyone
        import keras
    return keras
