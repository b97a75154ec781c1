"""The engine of the Keras backend: its own compiled function, traced once. It imports Keras."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import keras
import numpy as np

from feature_cache.errors import InvalidChoice


class KerasEngine:
    """Runs a cut net with the compiled function of TensorFlow, JAX or PyTorch.

    Every batch has the same shape, the last one padded, so that the function is compiled once and a
    row's numbers do not depend on how many rows came with it.

    Parameters
    ----------
    model : keras.Model
        From `Backbone.cut`.
    batch_size : int
    """

    def __init__(self, model: keras.Model, batch_size: int) -> None:
        self.batch_size = batch_size
        self._run = _compiled(model, batch_size)

    @staticmethod
    def describe() -> dict[str, str]:
        """Name and versions, for provenance."""
        backend = keras.backend.backend()
        return {"engine": f"keras-{backend}", "keras": keras.__version__, backend: version(backend)}

    def __call__(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Features of a batch.

        Parameters
        ----------
        pixels : ndarray of shape (n, height, width, channels), uint8
            At most `batch_size` of them.

        Returns
        -------
        list of ndarray of shape (n, ...), float32
            One for each readout.
        """
        n = len(pixels)
        if n < self.batch_size:
            pixels = np.concatenate([pixels, np.zeros((self.batch_size - n, *pixels.shape[1:]), np.uint8)])
        return [np.asarray(output)[:n] for output in self._run(pixels)]


def _compiled(model: keras.Model, batch_size: int) -> Callable[[np.ndarray], list[Any]]:
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            shape = (batch_size, *model.input.shape[1:])
            # Not XLA: on a CPU it is several times slower on depthwise convolutions.
            function = tf.function(
                lambda pixels: keras.tree.flatten(model(pixels, training=False)),
                input_signature=[tf.TensorSpec(shape, tf.uint8)],
                jit_compile=False,
            )
            return lambda pixels: [output.numpy() for output in function(tf.constant(pixels))]
        case "jax":
            import jax

            trainable = [variable.value for variable in model.trainable_variables]
            fixed = [variable.value for variable in model.non_trainable_variables]

            @jax.jit
            def forward(trainable: Any, fixed: Any, pixels: Any) -> Any:
                return keras.tree.flatten(model.stateless_call(trainable, fixed, pixels, training=False)[0])

            return lambda pixels: forward(trainable, fixed, pixels)
        case "torch":
            import torch

            def run(pixels: np.ndarray) -> list[Any]:
                with torch.no_grad():
                    outputs = keras.tree.flatten(model(pixels, training=False))
                return [keras.ops.convert_to_numpy(output) for output in outputs]

            return run
        case other:
            raise InvalidChoice(f"KERAS_BACKEND is {other!r}; Layertap computes with tensorflow, jax or torch.")
