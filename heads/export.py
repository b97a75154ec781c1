"""A fitted head as an affine map or as layers of Keras, so that a net and its head can become one model.

Keras is imported only where layers are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model._base import LinearClassifierMixin
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from feature_cache.errors import InvalidChoice
from heads.linear.dense import DenseClassifier
from heads.neural.base import quiet_keras
from heads.neural.mlp import MLPHead
from heads.ridge.classifier import RidgeHead
from heads.wrappers.base import PipelineHead
from heads.wrappers.calibration import TemperatureScaled
from heads.wrappers.prototypes import Prototypes

FUSIBLE = ("auto", "logistic", "linear", "ridge", "linear-svm", "lda", "prototypes", "mlp")


@dataclass(frozen=True)
class Affine:
    """The map from features X to the probabilities ``softmax((X - centre) @ coef.T + intercept)``.

    Attributes
    ----------
    coef : ndarray of shape (n_classes, d), float64
    intercept : ndarray of shape (n_classes,), float64
    centre : ndarray of shape (d,), float64
        Subtracted first, because features far from zero that vary little would lose digits in float32.
    """

    coef: np.ndarray
    intercept: np.ndarray
    centre: np.ndarray

    @classmethod
    def of(cls, coef: Any, intercept: Any, centre: Any = None) -> Affine:
        """A map with a row for each class; for two classes `coef` may have one row, which is that of the second."""
        coef = np.atleast_2d(np.asarray(coef, np.float64))
        intercept = np.broadcast_to(np.asarray(intercept, np.float64), len(coef))
        if len(coef) == 1:
            coef, intercept = np.vstack([np.zeros_like(coef), coef]), np.append(0.0, intercept)
        return cls(coef, intercept, np.zeros(coef.shape[1]) if centre is None else np.asarray(centre, np.float64))

    def after(self, mean: np.ndarray, matrix: np.ndarray) -> Affine:
        """The map for features X where this one applies to ``(X - mean) @ matrix.T``.

        Parameters
        ----------
        mean : ndarray of shape (d,)
        matrix : ndarray of shape (m, d), or (d,) for a diagonal matrix
        """
        coef = self.coef * matrix if matrix.ndim == 1 else self.coef @ matrix
        return Affine(coef, self.intercept - self.coef @ self.centre, np.asarray(mean, np.float64))

    def times(self, factor: float) -> Affine:
        """The map whose logits are multiplied by `factor`."""
        return Affine(self.coef * factor, self.intercept * factor, self.centre)


def as_layers(head: Any, temperature: float = 1.0) -> list[Any]:
    """Built layers of Keras that turn features of shape (n, d), float32, into the probabilities of `head`.

    Parameters
    ----------
    head : head
        A fitted head of one of the kinds in `FUSIBLE`.
    temperature : float
        The logarithms of the probabilities are divided by it.

    Returns
    -------
    list of keras.layers.Layer

    Raises
    ------
    InvalidChoice
        When the head cannot be expressed by such layers.
    """
    return _layers(head, temperature)


def affine(head: Any) -> Affine:
    """The affine map from features to probabilities that a fitted head is.

    Raises
    ------
    InvalidChoice
        When the head is not an affine map.
    """
    return _affine(head)


@singledispatch
def _layers(head: Any, temperature: float) -> list[Any]:
    """The layers for one class of heads; without an implementation of its own, a head has to be affine."""
    keras = quiet_keras()

    whole = affine(head).times(1 / temperature)
    classes, width = whole.coef.shape
    layers: list[Any] = []
    centre = whole.centre.astype(np.float32).astype(np.float64)
    if centre.any():
        layers.append(keras.layers.Normalization(mean=centre, variance=np.ones(width), name="centre"))
    dense = keras.layers.Dense(classes, name="logits")
    dense.build((None, width))
    # The intercept compensates for the rounding of the centre to float32.
    dense.set_weights([whole.coef.T, whole.intercept + whole.coef @ (centre - whole.centre)])
    return [*layers, dense, keras.layers.Softmax(name="probabilities")]


@_layers.register
def _(head: MLPHead, temperature: float) -> list[Any]:
    keras = quiet_keras()

    layers: list[Any] = []
    for layer in head.model_.layers:
        config = {**layer.get_config(), "name": f"head_{layer.name}"}
        if isinstance(layer, keras.layers.Normalization):
            layers.append(keras.layers.Normalization.from_config(config))
        elif isinstance(layer, keras.layers.Dense):
            copy = keras.layers.Dense.from_config(config)
            copy.build(layer.input.shape)
            copy.set_weights(layer.get_weights())
            layers.append(copy)
    last = layers[-1]
    last.activation = keras.activations.linear
    last.set_weights([weights / temperature for weights in last.get_weights()])
    return [*layers, keras.layers.Softmax(name="probabilities")]


@singledispatch
def _affine(head: Any) -> Affine:
    """The map for one class of heads, or of classifiers inside them."""
    known = type(head).__module__.startswith("sklearn.")  # a class that the user derives may compute something else
    if known and isinstance(head, LogisticRegression | LinearDiscriminantAnalysis | LinearSVC):
        return Affine.of(head.coef_, head.intercept_)
    raise InvalidChoice(
        f"{type(head).__name__} is no affine map of the features, and cannot be part of a net; heads that can are "
        f"{', '.join(FUSIBLE)}."
    )


@_affine.register
def _(head: DenseClassifier) -> Affine:
    return Affine.of(head.coef_, head.intercept_)


@_affine.register
def _(head: RidgeHead) -> Affine:
    return Affine.of(head.coef_, head.intercept_).times(1 / head.temperature_)


@_affine.register
def _(head: Prototypes) -> Affine:
    centre = head.means_.mean(0)
    means = head.means_ - centre
    return Affine.of(2 * means / head.unit_, -np.square(means).sum(1) / head.unit_, centre)


@_affine.register
def _(head: TemperatureScaled) -> Affine:
    classifier, factor = head.estimator_, head.inverse_temperature_
    if factor is None:  # the classifier's own probabilities, which are a softmax for those that `_affine` knows
        return _affine(classifier)
    known = type(classifier).__module__.startswith("sklearn.")
    if known and isinstance(classifier, LinearClassifierMixin):
        return Affine.of(classifier.coef_, classifier.intercept_).times(factor)
    return _affine(classifier).times(factor)


@_affine.register
def _(head: PipelineHead) -> Affine:
    *steps, (_, classifier) = head.pipeline_.steps
    whole = _affine(classifier)
    for _, step in reversed(steps):
        whole = whole.after(*_step(step))
    return whole


def _step(step: Any) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the matrix, or its diagonal, of a step that turns X into ``(X - mean) @ matrix.T``."""
    if type(step) is StandardScaler:  # it converts both to float32, the dtype of the features
        return step.mean_.astype(np.float32), 1 / step.scale_.astype(np.float32).astype(np.float64)
    if type(step) is PCA and not step.whiten:
        return step.mean_, step.components_
    raise InvalidChoice(f"{type(step).__name__} before a classifier cannot be part of a net.")
