"""The network that is trained: the part of a net after the cut, and a classifier on it."""

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
from transfer.finetune.cut_choice import Cut, ancestors
from transfer.finetune.pixel_rows import AugmentInputs
from transfer.finetune.recipe import Recipe
from transfer.hardware import cores
from transfer.nets.backbone import Backbone
from transfer.nets.keras_graph import operation_of
from transfer.nets.keras_settings import customary_settings

CHANNELS = 3
NOT_DECAYED = ("bias", "gamma", "beta")


class InferenceMode(keras.layers.Layer):
    """A layer that keeps a model in inference mode, even where it is part of a model that is trained.

    Parameters
    ----------
    model : keras.Model
        With one output.
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__(name="inference_mode")
        self.model = model

    def call(self, inputs: Any) -> Any:
        """The output of the model."""
        return keras.tree.flatten(self.model(inputs, training=False))[0]


class LayerwiseAdamW(keras.optimizers.AdamW):
    """AdamW with a share of the learning rate for each variable (Howard and Ruder 2018, discriminative fine-tuning).

    The weight decay is multiplied with the whole learning rate.

    Parameters
    ----------
    shares : sequence of float
        The share of each variable, in the order in which the optimizer is built on them.
    """

    def __init__(self, shares: Sequence[float] = (), **options: Any) -> None:
        super().__init__(**options)
        self.shares = list(shares)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable by its share of the learning rate."""
        share = self.shares[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * share)


class Network:
    """The trained part of a net, and a dense layer of logits on it.

    The net is in inference mode throughout, as Keras's guide to transfer learning advises: batch normalisation keeps
    the statistics that it was trained with, whether its scales are trained or not, and dropout inside the net is off.

    Parameters
    ----------
    backbone : Backbone
        Its weights are trained in place.
    cut : Cut
    readout, pooling : str
        The layer that the classifier reads, and how its output is pooled (see `FeatureSpec.pooling_rule`).
    preprocessing : str
        What the net expects pixels to become, where the cut is at the pixels (see `FeatureSpec`).
    classes : int
        The number of classes.
    recipe : Recipe
    augments : bool
        Whether the inputs are `AugmentInputs`, where the cut is at the pixels.

    Attributes
    ----------
    devices : int
        The number of devices that share each batch (see `transfer.finetune.devices`).
    weight_count : int
        The number of weights that are trained, without those of the classifier.

    Raises
    ------
    InvalidChoice
        When the recipe has adapters, and no trained layer takes them.
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
        # Batches have a multiple of so many rows.
        self._multiple = math.lcm(self.devices, _onednn_threads() if any(map(_breaks_onednn, layers)) else 1)
        _freeze_all_but(layers, backbone, readout)
        trained = _adapt(layers, recipe, cut) if recipe.lora else layers
        self.weight_count = sum(math.prod(v.shape) for layer in layers for v in layer.trainable_variables)
        self.dense = keras.layers.Dense(classes, dtype="float32", name="logits")
        self.model, self._readout = self._make_models((readout, pooling), preprocessing, augments)
        self._optimizer = self._compile(trained, recipe)
        self._initial = self.weights, self.optimizer

    def _make_models(
        self, readout: tuple[str, str], preprocessing: str, augments: bool
    ) -> tuple[keras.Model, keras.Model]:
        """The models from the activations at the cut, or from pixels, to logits, and to what these are computed of."""
        if self.cut.layers:
            tail = self.backbone.cut_from(self.cut.layers, [readout])
        else:
            tail = self.backbone.cut([readout], preprocessing, CHANNELS)
        inputs = model_inputs = tail.input
        if augments and not self.cut.layers:
            model_inputs = [inputs, keras.Input((NUMBERS,), dtype="float32", name="numbers")]
            inputs = Augment(name="augment")(*model_inputs)
        features = InferenceMode(tail)(inputs)
        if len(features.shape) > 2:
            features = keras.layers.Flatten()(features)
        return keras.Model(model_inputs, self.dense(features)), keras.Model(model_inputs, features)

    def _compile(self, trained: list[Any], recipe: Recipe) -> LayerwiseAdamW:
        """Compile the model; the layers in `trained` have rates of their own, the earliest layer first."""
        shares = recipe.shares(len(trained))
        share_of = {
            id(v): share for layer, share in zip(trained, shares, strict=True) for v in layer.trainable_variables
        }
        variables = self.model.trainable_variables
        optimizer = LayerwiseAdamW(
            [share_of.get(id(variable), 1.0) for variable in variables],
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            global_clipnorm=recipe.clip,
        )
        optimizer.exclude_from_weight_decay(var_names=list(NOT_DECAYED))
        scaled: Any = optimizer
        if any("float16" in layer.compute_dtype for layer in trained if "bfloat16" not in layer.compute_dtype):
            scaled = keras.optimizers.LossScaleOptimizer(optimizer)  # small gradients would be 0
        scaled.build(variables)
        # XLA takes longer to compile than most such trainings last, and is slower on depthwise nets on CPUs.
        jit = "auto" if keras.backend.backend() == "jax" else False
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing, reduction="mean_with_sample_weight"
        )
        self.model.compile(scaled, loss, jit_compile=jit)
        return optimizer

    @property
    def weights(self) -> list[np.ndarray]:
        """Copies of the weights that are trained, the classifier's included."""
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
        """Return to the weights before any training, with another classifier.

        Parameters
        ----------
        kernel : ndarray of shape (d, classes)
        bias : ndarray of shape (classes,)
        """
        self.weights, self.optimizer = self._initial
        self.dense.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])

    def divide_logits(self, temperature: float) -> None:
        """Divide the kernel and the bias of the classifier, and so its logits, by a number."""
        self.dense.set_weights([values / np.float32(temperature) for values in self.dense.get_weights()])

    def step(self, inputs: np.ndarray | AugmentInputs, targets: np.ndarray, rate: float) -> float:
        """Take one step of training.

        Parameters
        ----------
        inputs : ndarray of shape (m, ...) or AugmentInputs
            Activations at the cut, or pixels.
        targets : ndarray of shape (m, classes), float32
            The probability of each class: 1 for the class of the image.
        rate : float
            The learning rate of the classifier.

        Returns
        -------
        float
            The loss before the step.
        """
        self._optimizer.learning_rate.assign(rate)
        self.model.reset_metrics()
        padded = self._padded(targets)
        weights = (np.arange(len(padded)) < len(targets)).astype(np.float32)  # added rows have no weight in the loss
        return float(self.model.train_on_batch(_arrays(self._padded(inputs)), padded, weights))

    def logits(self, inputs: np.ndarray | AugmentInputs) -> np.ndarray:
        """The logits of each class, of shape (m, classes), float32."""
        return self._outputs(self.model, inputs)

    def features(self, inputs: np.ndarray | AugmentInputs) -> np.ndarray:
        """What the classifier reads, of shape (m, d)."""
        return self._outputs(self._readout, inputs)

    def _outputs(self, model: keras.Model, inputs: np.ndarray | AugmentInputs) -> np.ndarray:
        arrays = _arrays(self._padded(inputs))
        if self._distribution:  # Keras itself shares steps among devices, but not predictions
            layout, distribute = self._distribution.get_data_layout, keras.distribution.distribute_tensor
            arrays = keras.tree.map_structure(lambda array: distribute(array, layout(array.shape)), arrays)
        outputs: np.ndarray = model.predict_on_batch(arrays)
        return outputs[: len(inputs)]

    def _padded(self, rows: Any) -> Any:
        """The rows, with copies of some after them where their number does not divide among devices, or threads."""
        lacking = -len(rows) % self._multiple
        return rows[np.arange(len(rows) + lacking) % len(rows)] if lacking else rows


def _arrays(inputs: np.ndarray | AugmentInputs) -> np.ndarray | list[np.ndarray]:
    """The inputs as the model takes them."""
    return [inputs.pixels, inputs.numbers] if isinstance(inputs, AugmentInputs) else inputs


def _freeze_all_but(layers: list[Any], backbone: Backbone, readout: str) -> None:
    """Make these layers of a net trainable, and no others that have a name or come before all of these.

    Layers with several outputs have no name.
    """
    trained = {id(layer) for layer in layers}
    for name in backbone.taps:
        operation = _operation(backbone, name)
        if backbone.closed_in(name):
            continue  # it is trained, or not, with the layer that it is inside
        if isinstance(operation, keras.layers.Layer):
            operation.trainable = id(operation) in trained
    for tensor in ancestors(backbone.taps[readout]).values():
        if id(operation := operation_of(tensor)) in trained:
            return
        if isinstance(operation, keras.layers.Layer):
            operation.trainable = False


def _adapt(layers: list[Any], recipe: Recipe, cut: Cut) -> list[Any]:
    """Add low-rank adapters to layers, which are trained in place of the kernels.

    One factor of each is drawn as He et al. (2015) draw kernels, by the seed of the recipe; the other is 0.

    Returns
    -------
    list
        The layers that take adapters of this rank.
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
            f"no layer from {cut.trained[0]} on takes adapters of the rank {rank}; choose a lower `lora`."
        )
    return adapted


def _breaks_onednn(layer: Any) -> bool:
    """Whether TensorFlow's oneDNN may fail to compute the gradient of a layer's kernel.

    It fails for 1 x 1 kernels with strides and fewer than 16 channels: where the rows of a batch do not divide among
    its threads it writes past its memory, and the process ends (TensorFlow 2.21, on processors with AVX-512).
    """
    if keras.backend.backend() != "tensorflow":
        return False
    if isinstance(layer, keras.Model):
        return any(map(_breaks_onednn, layer.layers))
    if not isinstance(layer, keras.layers.Conv2D):
        return False
    return layer.kernel_size == (1, 1) and layer.strides != (1, 1) and layer.kernel.shape[2] < 16


def _onednn_threads() -> int:
    """The number of threads that TensorFlow chooses for oneDNN."""
    return int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0)) or len(cores())


def _operation(backbone: Backbone, name: str) -> Any:
    return operation_of(backbone.taps[name])


def _values(variables: Sequence[Any]) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
