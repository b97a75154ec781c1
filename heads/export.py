"""Fusing: a fitted head as layers of Keras, so that a net and its head become one model.

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
from heads.linear.head import LinearHead
from heads.neural.mlp import MLPHead, quiet_keras
from heads.ridge.classifier import RidgeHead
from heads.wrappers.base import PipelineHead
from heads.wrappers.calibration import TemperatureScaled
from heads.wrappers.prototypes import Prototypes

FUSIBLE = ("logistic", "linear", "ridge", "linear-svm", "lda", "prototypes", "mlp")


@dataclass(frozen=True)
class Affine:
    """Probabilities ``softmax((X - centre) @ coef.T + intercept)``.

    Attributes
    ----------
    coef : ndarray of shape (n_classes, d), float64
    intercept : ndarray of shape (n_classes,), float64
    centre : ndarray of shape (d,), float64
        Subtracted first: features that are far from zero and vary little would cost float32 its digits.
    """

    coef: np.ndarray
    intercept: np.ndarray
    centre: np.ndarray

    @classmethod
    def of(cls, coef: Any, intercept: Any, centre: Any = None) -> Affine:
        """With a row for each class, where `coef` may have one for the second of two classes."""
        coef = np.atleast_2d(np.asarray(coef, np.float64))
        intercept = np.broadcast_to(np.asarray(intercept, np.float64), len(coef))
        if len(coef) == 1:
            coef, intercept = np.vstack([np.zeros_like(coef), coef]), np.append(0.0, intercept)
        return cls(coef, intercept, np.zeros(coef.shape[1]) if centre is None else np.asarray(centre, np.float64))

    def after(self, mean: np.ndarray, matrix: np.ndarray) -> Affine:
        """The same for features X of which this one is given ``(X - mean) @ matrix.T``; of a diagonal, that alone."""
        coef = self.coef * matrix if matrix.ndim == 1 else self.coef @ matrix
        return Affine(coef, self.intercept - self.coef @ self.centre, np.asarray(mean, np.float64))

    def times(self, factor: float) -> Affine:
        """With logits times `factor`."""
        return Affine(self.coef * factor, self.intercept * factor, self.centre)


def as_layers(head: Any, temperature: float = 1.0) -> list[Any]:
    """Built layers of Keras that turn features of shape (n, d), float32, into the probabilities of `head`.

    Parameters
    ----------
    temperature : float
        That the logarithms of the probabilities are divided by.

    Raises
    ------
    InvalidChoice
        When the head is not made of such layers.
    """
    return _layers(head, temperature)


def affine(head: Any) -> Affine:
    """What a fitted head does to features, as one affine map.

    Raises
    ------
    InvalidChoice
        When it does something else.
    """
    return _affine(head)


@singledispatch
def _layers(head: Any, temperature: float) -> list[Any]:
    """By the class of the head; those that have no way of their own are affine, or cannot be fused."""
    keras = quiet_keras()

    found = affine(head).times(1 / temperature)
    classes, width = found.coef.shape
    layers: list[Any] = []
    centre = found.centre.astype(np.float32).astype(np.float64)
    if centre.any():
        layers.append(keras.layers.Normalization(mean=centre, variance=np.ones(width), name="centre"))
    dense = keras.layers.Dense(classes, name="logits")
    dense.build((None, width))
    # What is lost of the centre in float32 is made up for by the intercept.
    dense.set_weights([found.coef.T, found.intercept + found.coef @ (centre - found.centre)])
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
    """By the class of the head, or of the classifier in it."""
    known = type(head).__module__.startswith("sklearn.")  # what the user derives from it may do something else
    if known and isinstance(head, LogisticRegression | LinearDiscriminantAnalysis | LinearSVC):
        return Affine.of(head.coef_, head.intercept_)
    raise InvalidChoice(
        f"{type(head).__name__} is no affine map of the features, and cannot be part of a net; heads that can are "
        f"{', '.join(FUSIBLE)}."
    )


@_affine.register
def _(head: LinearHead) -> Affine:
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
    if factor is None:  # its own probabilities, which are a softmax for those that `_affine` knows
        return _affine(classifier)
    known = type(classifier).__module__.startswith("sklearn.")
    if known and isinstance(classifier, LinearClassifierMixin):
        return Affine.of(classifier.coef_, classifier.intercept_).times(factor)
    return _affine(classifier).times(factor)


@_affine.register
def _(head: PipelineHead) -> Affine:
    *steps, (_, classifier) = head.pipeline_.steps
    found = _affine(classifier)
    for _, step in reversed(steps):
        found = found.after(*_step(step))
    return found


def _step(step: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and matrix, or its diagonal, of a step that turns X into ``(X - mean) @ matrix.T``."""
    if type(step) is StandardScaler:  # which brings both to the dtype of the features
        return step.mean_.astype(np.float32), 1 / step.scale_.astype(np.float32).astype(np.float64)
    if type(step) is PCA and not step.whiten:
        return step.mean_, step.components_
    raise InvalidChoice(f"{type(step).__name__} before a classifier cannot be part of a net.")
