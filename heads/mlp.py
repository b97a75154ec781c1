"""`MLPHead`: one hidden layer in Keras, stopped early on an inner split. Keras is imported only when it is used."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from feature_cache.errors import DamagedFile, UnsafeFile
from feature_cache.quiet import native_stderr_silenced
from heads.checks import as_rows, require

FILE = "head.keras"
CLASSES_FILE = "classes.npy"
LARGEST_CONFIG = 64 * 2**20  # bytes
PARTS = {"Sequential", "InputLayer", "Normalization", "Dense", "Dropout", "DTypePolicy", "GlorotUniform", "Zeros"}


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
        for name, least in (("hidden", 1), ("epochs", 1), ("patience", 0), ("batch_size", 1)):
            require(getattr(self, name) >= least, name, getattr(self, name), f"at least {least}")
        require(0 <= self.seed < 2**32, "seed", self.seed, "from 0 to 2**32 - 1")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        for name in ("dropout", "inner"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "at least 0 and below 1")
        keras = quiet_keras()
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
        probabilities = self.predict_proba(X)
        return self.classes_[np.argmax(probabilities, axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (n, n_classes)."""
        check_is_fitted(self)
        X = validate_data(self, as_rows(X), reset=False, dtype=np.float32)
        # Called directly: `model.predict` compiles a function for every model, which costs more than it saves.
        rows = [self.model_(X[start : start + 4096], training=False) for start in range(0, len(X), 4096)]
        return np.concatenate([quiet_keras().ops.convert_to_numpy(part) for part in rows]).astype(np.float64)

    def save(self, folder: Path) -> None:
        """Write ``head.keras`` and ``classes.npy`` into `folder`."""
        check_is_fitted(self)
        self.model_.save(folder / FILE)
        classes = np.array(self.classes_.tolist()) if self.classes_.dtype == object else self.classes_
        np.save(folder / CLASSES_FILE, classes, allow_pickle=False)

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
        keras = quiet_keras()

        head = cls(**params)
        try:
            head.classes_ = np.load(folder / CLASSES_FILE, allow_pickle=False)
            _check_layers(folder / FILE)
            head.model_ = keras.saving.load_model(folder / FILE, compile=False, safe_mode=True)
            head.n_features_in_ = int(head.model_.inputs[0].shape[-1])
            if head.classes_.shape != tuple(head.model_.outputs[0].shape[1:]):
                raise ValueError("its outputs are not its classes")
        except (DamagedFile, UnsafeFile):
            raise
        except Exception as error:  # Keras raises many types for a damaged file
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise DamagedFile(f"the head {folder / FILE} is not loaded: {reason}") from error
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


def _check_layers(file: Path) -> None:
    """Refuse a model of other parts than those that `MLPHead` builds, before Keras sees it."""
    with zipfile.ZipFile(file) as archive:
        if archive.getinfo("config.json").file_size > LARGEST_CONFIG:
            raise DamagedFile(f"the head {file} is not loaded: its config.json is too large.")
        config = json.loads(archive.read("config.json"))
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            name = part.get("class_name")
            if name is not None and (name not in PARTS or str(part.get("module")).partition(".")[0] != "keras"):
                raise UnsafeFile(f"the head {file} is not loaded: it holds {name!r}, which is no part of an MLP head.")
            waiting.extend(value for key, value in part.items() if key != "compile_config")
        elif isinstance(part, list):
            waiting.extend(part)


def quiet_keras() -> Any:
    """Keras, imported without the greetings of its backend."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with native_stderr_silenced():  # TensorFlow greets everyone
        import keras
    return keras
