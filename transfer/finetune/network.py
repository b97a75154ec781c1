"""The network that is trained: what is left of a net after the cut, and a classifier. This module imports Keras."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from feature_cache.errors import InvalidChoice
from transfer.data.augment import NUMBERS
from transfer.finetune.augment_layer import Augment
from transfer.finetune.cut import Cut
from transfer.finetune.pixel_rows import ToAugment
from transfer.finetune.recipe import Recipe
from transfer.hardware import cores
from transfer.nets.backbone import Backbone
from transfer.nets.loading import customary_settings

CHANNELS = 3
NOT_DECAYED = ("bias", "gamma", "beta")


class InferenceMode(keras.layers.Layer):
    """A model that is in inference mode even while it is trained; a training model would put its parts in training."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__(name="inference_mode")
        self.model = model

    def call(self, inputs: Any) -> Any:
        return keras.tree.flatten(self.model(inputs, training=False))[0]


class LayerwiseAdamW(keras.optimizers.AdamW):
    """AdamW with a share of the learning rate for each variable (Howard and Ruder 2018, discriminative fine-tuning).

    Weights decay by the whole learning rate.

    Parameters
    ----------
    shares : sequence of float
        One for each variable, in the order in which the optimizer is built on them.
    """

    def __init__(self, shares: Sequence[float] = (), **options: Any) -> None:
        super().__init__(**options)
        self.shares = list(shares)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        share = self.shares[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * share)


class Network:
    """The trained part of a net and a dense layer of logits.

    The net runs in inference mode throughout, as Keras's guide to transfer learning advises: batch normalisation keeps
    the statistics that it was trained with, whether its scales are trained or not, and dropout inside the net is off.

    Parameters
    ----------
    backbone : Backbone
        Its weights are trained in place.
    cut : Cut
    readout, pooling : str
        What the classifier reads.
    preprocessing : str
        Of the pixels, where the cut is there.
    classes : int
    recipe : Recipe
    augments : bool
        Whether it is given `ToAugment`, where the cut is at the pixels.

    Attributes
    ----------
    devices : int
        That share each batch (see `transfer.finetune.devices`).

    Raises
    ------
    InvalidChoice
        When adapters are wanted and no trained layer takes them.
    """

    @customary_settings()
    def __init__(
        self,
        backbone: Backbone,
        cut: Cut,
        readout: str,
        pooling: str,
        preprocessing: str,
        classes: int,
        recipe: Recipe,
        *,
        augments: bool = False,
    ) -> None:
        self.backbone = backbone
        self.cut = cut
        self.classes = classes
        self._distribution = keras.distribution.distribution()
        self.devices = self._distribution.device_mesh.devices.size if self._distribution else 1
        layers = [_operation(backbone, name) for name in cut.trained]
        self._together = math.lcm(self.devices, _onednn_threads() if any(map(_breaks_onednn, layers)) else 1)
        for name in backbone.taps:
            operation = _operation(backbone, name)
            if isinstance(operation, keras.layers.Layer):
                operation.trainable = any(operation is layer for layer in layers)
        if recipe.lora:
            layers = _adapt(layers, recipe, cut)
        readouts = [(readout, pooling)]
        if cut.layers:
            tail = backbone.cut_from(cut.layers, readouts)
        else:
            tail = backbone.cut(readouts, preprocessing, CHANNELS)
        inputs = given = tail.input
        if augments and not cut.layers:
            given = [inputs, keras.Input((NUMBERS,), dtype="float32", name="numbers")]
            inputs = Augment(name="augment")(*given)
        features = InferenceMode(tail)(inputs)
        if len(features.shape) > 2:
            features = keras.layers.Flatten()(features)
        self.dense = keras.layers.Dense(classes, dtype="float32", name="logits")
        self.model = keras.Model(given, self.dense(features))
        shares = recipe.shares(len(layers))
        share_of = {
            id(v): share for layer, share in zip(layers, shares, strict=True) for v in layer.trainable_variables
        }
        variables = self.model.trainable_variables
        optimizer = LayerwiseAdamW(
            [share_of.get(id(variable), 1.0) for variable in variables],
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            global_clipnorm=recipe.clip,
        )
        optimizer.exclude_from_weight_decay(var_names=list(NOT_DECAYED))
        self._optimizer = optimizer
        if any("float16" in layer.compute_dtype for layer in layers if "bfloat16" not in layer.compute_dtype):
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)  # small gradients would be 0
        optimizer.build(variables)
        # XLA takes longer to compile than most such trainings last, and is slower on depthwise nets on CPUs.
        jit = "auto" if keras.backend.backend() == "jax" else False
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing, reduction="mean_with_sample_weight"
        )
        self.model.compile(optimizer, loss, jit_compile=jit)
        self._initial = self.weights, self.optimizer

    @property
    def weights(self) -> list[np.ndarray]:
        """Copies of the weights that are trained."""
        return _values(self.model.trainable_variables)

    @weights.setter
    def weights(self, values: Sequence[np.ndarray]) -> None:
        _assign(self.model.trainable_variables, values)

    @property
    def optimizer(self) -> list[np.ndarray]:
        """Copies of the variables of the optimizer."""
        return _values(self.model.optimizer.variables)

    @optimizer.setter
    def optimizer(self, values: Sequence[np.ndarray]) -> None:
        _assign(self.model.optimizer.variables, values)

    def reset(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        """The net as it came, with a classifier: `kernel` of shape (d, classes), `bias` of shape (classes,)."""
        self.weights, self.optimizer = self._initial
        self.dense.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])

    def step(self, inputs: np.ndarray | ToAugment, targets: np.ndarray, rate: float) -> float:
        """One step of training; the loss before it.

        Parameters
        ----------
        inputs : ndarray of shape (m, ...) or ToAugment
            Rows of what is kept at the cut, or pixels.
        targets : ndarray of shape (m, classes), float32
        """
        self._optimizer.learning_rate.assign(rate)
        self.model.reset_metrics()
        filled = self._filled(targets)
        weights = (np.arange(len(filled)) < len(targets)).astype(np.float32)  # copies count for nothing
        return float(self.model.train_on_batch(_arrays(self._filled(inputs)), filled, weights))

    def logits(self, inputs: np.ndarray | ToAugment) -> np.ndarray:
        """Of shape (m, classes), float32."""
        arrays = _arrays(self._filled(inputs))
        if self._distribution:  # by itself Keras shares steps, and no predictions
            layout, distribute = self._distribution.get_data_layout, keras.distribution.distribute_tensor
            arrays = keras.tree.map_structure(lambda array: distribute(array, layout(array.shape)), arrays)
        said: np.ndarray = self.model.predict_on_batch(arrays)
        return said[: len(inputs)]

    def _filled(self, rows: Any) -> Any:
        """As many rows for each device, or thread: where some are lacking, copies of others after them."""
        lacking = -len(rows) % self._together
        return rows[np.arange(len(rows) + lacking) % len(rows)] if lacking else rows


def _arrays(inputs: np.ndarray | ToAugment) -> np.ndarray | list[np.ndarray]:
    """As the model takes them."""
    return [inputs.pixels, inputs.numbers] if isinstance(inputs, ToAugment) else inputs


def _adapt(layers: list[Any], recipe: Recipe, cut: Cut) -> list[Any]:
    """Give layers adapters that are trained in place of their kernels; those that take them.

    One factor is drawn as He et al. (2015) draw kernels, by the seed of the recipe; the other is 0.
    """
    rank, rng = recipe.lora, np.random.default_rng(recipe.seed)
    adapted = [layer for layer in layers if hasattr(layer, "enable_lora") and layer.kernel.shape[-1] > rank]
    for layer in layers:
        layer.trainable = False
    for layer in adapted:
        layer.trainable = True
        layer.enable_lora(rank)
        shape = layer.lora_kernel_a.shape
        limit = np.sqrt(6 / np.prod(shape[:-1]))
        layer.lora_kernel_a.assign(rng.uniform(-limit, limit, shape).astype(np.float32))
    if not adapted:
        raise InvalidChoice(
            f"--lora {rank}: no layer from {cut.trained[0]} on takes adapters of that rank; choose a lower one."
        )
    return adapted


def _breaks_onednn(layer: Any) -> bool:
    """Whether the gradient of a kernel is one that TensorFlow's oneDNN gets wrong.

    That of 1 x 1 kernels with strides and fewer than 16 channels: where the rows of a batch do not divide among its
    threads it writes past its memory, and the process ends (TensorFlow 2.21, on processors with AVX-512).
    """
    if keras.backend.backend() != "tensorflow":
        return False
    if isinstance(layer, keras.Model):
        return any(map(_breaks_onednn, layer.layers))
    if not isinstance(layer, keras.layers.Conv2D):
        return False
    return layer.kernel_size == (1, 1) and layer.strides != (1, 1) and layer.kernel.shape[2] < 16


def _onednn_threads() -> int:
    """As TensorFlow chooses them."""
    return int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0)) or len(cores())


def _operation(backbone: Backbone, name: str) -> Any:
    return backbone.taps[name]._keras_history.operation


def _values(variables: Sequence[Any]) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
