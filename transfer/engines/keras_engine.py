"""The engine of the Keras backend: its own compiled function, traced once. It imports Keras."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import keras
import numpy as np

from feature_cache.errors import InvalidChoice, MissingDependency
from transfer.engines.base import Pending, padded, within
from transfer.nets.costs import working_bytes

# Of the largest layer's input and output, that a framework may hold at a time.
COPIES = 3


class KerasEngine:
    """Runs a cut net with the compiled function of TensorFlow, JAX or PyTorch (see `Engine`).

    Parameters
    ----------
    model : keras.Model
        From `Backbone.cut`.
    batch_size : int
    room : int, optional
        Bytes of memory at hand: batches are made smaller than `batch_size` where they would need more.
    """

    ahead = 2

    def __init__(self, model: keras.Model, batch_size: int, room: int | None = None) -> None:
        self.batch_size = within(batch_size, COPIES * working_bytes(model), room)
        self._run = _compiled(model, self.batch_size)
        # One thread hands batches to the device; whoever waits for the features copies them out.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="layertap-keras")

    @staticmethod
    def describe() -> dict[str, str]:
        """Name and versions, for provenance."""
        backend = keras.backend.backend()
        return {"engine": f"keras-{backend}", "keras": keras.__version__, backend: version(backend)}

    def start(self, inputs: np.ndarray) -> Pending:
        n = len(inputs)
        outputs = self._thread.submit(self._run, padded(inputs, self.batch_size))
        return lambda: [np.asarray(output)[:n] for output in outputs.result()]


def _compiled(model: keras.Model, batch_size: int) -> Callable[[np.ndarray], list[Any]]:
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf  # slow to load

            # Not XLA: on a CPU it is several times slower on depthwise convolutions.
            function = tf.function(
                lambda inputs: keras.tree.flatten(model(inputs, training=False)),
                input_signature=[tf.TensorSpec((batch_size, *model.input.shape[1:]), model.input.dtype)],
                jit_compile=False,
            )
            return lambda inputs: [output.numpy() for output in function(tf.constant(inputs))]
        case "jax":
            import jax  # optional, and slow to load

            trainable = [variable.value for variable in model.trainable_variables]
            fixed = [variable.value for variable in model.non_trainable_variables]

            @jax.jit
            def forward(trainable: Any, fixed: Any, inputs: Any) -> Any:
                return keras.tree.flatten(model.stateless_call(trainable, fixed, inputs, training=False)[0])

            return lambda inputs: forward(trainable, fixed, inputs)
        case "torch":
            import torch  # optional, and slow to load

            def run(inputs: np.ndarray) -> list[Any]:
                with torch.no_grad():
                    outputs = keras.tree.flatten(model(inputs, training=False))
                return [keras.ops.convert_to_numpy(output) for output in outputs]

            return run
        case "openvino":
            raise MissingDependency(
                "this net is computed by TensorFlow, JAX or PyTorch, and none is in use: pip install "
                "'layertap[tensorflow]', and leave KERAS_BACKEND unset"
            )
        case other:
            raise InvalidChoice(f"KERAS_BACKEND is {other!r}; Layertap computes with tensorflow, jax or torch.")
