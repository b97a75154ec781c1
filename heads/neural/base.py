"""`KerasHead`, the base of the heads in Keras: early stopping, prediction, and files from which no code is run.

Keras is imported only when it is used.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from feature_cache.errors import BadData, DamagedFile, UnsafeFile, first_line
from feature_cache.files.checked import open_regular, require_bounded
from feature_cache.files.weights_file import check_file
from feature_cache.process.keras_import import importing_keras, require_training
from heads.splitting.fit_groups import encode_groups, inner_split
from heads.validation import as_rows, require

FILE = "head.keras"
CLASSES_FILE = "classes.npy"
LARGEST_CONFIG = 64 * 2**20  # bytes
# Keras's names of the parts that the models of all heads are made of.
PARTS = frozenset({"Sequential", "InputLayer", "Normalization", "Dense", "DTypePolicy", "GlorotUniform", "Zeros"})
ROWS = 4096  # the rows that are predicted at once


class KerasHead(ClassifierMixin, BaseEstimator):
    """A classifier that Keras trains with Adam on the cross-entropy.

    The final weights are those of the epoch with the lowest loss on rows that are held out of the training rows,
    stratified by class. Rows may come in any order: the held-out rows, and every batch, are drawn at random.

    A subclass stores its parameters, which include those below, and implements `_build`; one whose rows are maps also
    implements `_row_shape`, and `_rows_at_once` where they are large.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
        The number of values of a row, of whatever shape.
    model_ : keras.Sequential
        The model from rows of the shape that the head was fitted to, float32, to probabilities of shape (n, n_classes).
    """

    description: ClassVar[str]  # for error messages: "an MLP head"
    width: ClassVar[str]  # the name of the parameter that is a number of units
    parts: ClassVar[frozenset[str]]  # Keras's names of the parts that its models are made of
    row_ndim: ClassVar[int] = 1  # the number of axes of a row

    dropout: float
    learning_rate: float
    epochs: int
    patience: int
    inner: float
    batch_size: int
    seed: int

    def fit(self, X: Any, y: np.ndarray, groups: np.ndarray | None = None) -> Self:
        """Fit to features of shape (n, ...) and labels of shape (n,).

        Parameters
        ----------
        groups : ndarray of shape (n,), optional
            Equal for rows that stay together when rows are held out (see `heads.splitting.fit_groups`).

        Raises
        ------
        InvalidChoice
            When a parameter is out of range.
        BadData
            When the rows have a shape that the head does not take.
        MissingDependency
            When no backend of Keras is installed that trains.
        """
        self._require_parameters()
        require_training()
        keras = quiet_keras()
        shape = self._row_shape(X)
        X, y = validate_data(self, as_rows(X), y, dtype=np.float32)
        X = X.reshape(len(X), *shape)
        check_classification_targets(y)
        self.classes_, target = np.unique(y, return_inverse=True)
        rows, groups = np.arange(len(target)), encode_groups(groups, y)
        train, held_out = inner_split(target, self.inner, self.seed, groups) or (rows, rows)

        keras.utils.set_random_seed(self.seed)
        model = self._build(X[train])
        optimizer = keras.optimizers.Adam(self.learning_rate)
        optimizer.build(model.trainable_variables)  # else TensorFlow traces the step twice: the first makes variables
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(), jit_compile=False)
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

    def _require_parameters(self) -> None:
        """Raise InvalidChoice for a parameter that is out of range."""
        for name, least in ((self.width, 1), ("epochs", 1), ("patience", 0), ("batch_size", 1)):
            require(getattr(self, name) >= least, name, getattr(self, name), f"at least {least}")
        require(0 <= self.seed < 2**32, "seed", self.seed, "from 0 to 2**32 - 1")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        for name in ("dropout", "inner"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "at least 0 and below 1")

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row."""
        probabilities = self.predict_proba(X)
        return self.classes_[np.argmax(probabilities, axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (n, n_classes).

        Raises
        ------
        BadData
            When the rows have another shape than those that the head was fitted to.
        """
        check_is_fitted(self)
        shape, received = _input_shape(self.model_), self._row_shape(X)
        if -1 not in received and received != shape:
            raise BadData(f"the head was fitted to rows of shape {shape}; received rows of shape {received}.")
        X = validate_data(self, as_rows(X), reset=False, dtype=np.float32)
        X, step = X.reshape(len(X), *shape), self._rows_at_once(shape)
        # The model is called directly, because `model.predict` compiles a function for every model, which takes longer.
        parts = [self.model_(X[start : start + step], training=False) for start in range(0, len(X), step)]
        return np.concatenate([quiet_keras().ops.convert_to_numpy(part) for part in parts]).astype(np.float64)

    def save(self, folder: Path) -> None:
        """Write ``head.keras`` and ``classes.npy`` into `folder`."""
        check_is_fitted(self)
        self.model_.save(folder / FILE)
        classes = np.array(self.classes_.tolist()) if self.classes_.dtype == object else self.classes_
        np.save(folder / CLASSES_FILE, classes, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, params: dict[str, Any]) -> Self:
        """The head that `save` wrote into `folder`, loaded in Keras's safe mode.

        Raises
        ------
        UnsafeFile
            When the file holds code, or parts that the head does not have.
        DamagedFile
            When the file cannot be read, or holds something else.
        """
        keras = quiet_keras()
        head = cls(**params)
        try:
            with open_regular(folder / CLASSES_FILE, LARGEST_CONFIG) as stream:
                head.classes_ = np.load(stream, allow_pickle=False)
            _check_parts(folder / FILE, cls.parts, cls.description)
            check_file(folder / FILE)
            head.model_ = keras.saving.load_model(folder / FILE, compile=False, safe_mode=True)
            shape = _input_shape(head.model_)
            if len(shape) != cls.row_ndim:
                raise ValueError(f"it takes rows of shape {shape}, which is not {cls.description}")
            head.n_features_in_ = int(np.prod(shape))
            if head.classes_.shape != tuple(head.model_.outputs[0].shape[1:]):
                raise ValueError("its outputs are not its classes")
        except (DamagedFile, UnsafeFile):
            raise
        except Exception as error:  # a damaged file makes Keras raise many types
            raise DamagedFile(f"the head {folder / FILE} is not loaded: {first_line(error)}") from error
        return head

    def _build(self, X: np.ndarray) -> Any:
        """A model with initial weights, for training rows `X` of shape (n, *row_shape), float32."""
        raise NotImplementedError

    def _row_shape(self, X: Any) -> tuple[int, ...]:
        """The shape in which a model takes the rows of `X`, which may be anything; -1 is a size that `X` determines."""
        return (-1,)

    def _rows_at_once(self, shape: tuple[int, ...]) -> int:
        """The number of rows of this shape that are predicted at once."""
        return ROWS


def _input_shape(model: Any) -> tuple[int, ...]:
    """The shape of the rows that the model takes."""
    return tuple(model.inputs[0].shape[1:])


def _check_parts(file: Path, parts: frozenset[str], description: str) -> None:
    """Refuse a model with other parts than these, before Keras opens it."""
    with open_regular(file) as stream, zipfile.ZipFile(stream) as archive:
        try:
            require_bounded(archive, 2 * os.fstat(stream.fileno()).st_size + LARGEST_CONFIG)
        except ValueError as error:
            raise DamagedFile(f"the head {file} is not loaded: {error}.") from error
        if archive.getinfo("config.json").file_size > LARGEST_CONFIG:
            raise DamagedFile(f"the head {file} is not loaded: its config.json is too large.")
        config = json.loads(archive.read("config.json"))
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            name = part.get("class_name")
            if name is not None and (name not in parts or str(part.get("module")).partition(".")[0] != "keras"):
                raise UnsafeFile(
                    f"the head {file} is not loaded: it holds {name!r}, which is no part of {description}."
                )
            waiting.extend(value for key, value in part.items() if key != "compile_config")
        elif isinstance(part, list):
            waiting.extend(part)


def quiet_keras() -> Any:
    """Keras, imported without the messages that its backend prints.

    It is heavy, so that it is imported only by what uses it.
    """
    with importing_keras():
        import keras  # slow to load
    return keras
