"""EfficientNet-Lite0's architecture in layers of Keras, and the tensors of PyTorch that its weights come from.

EfficientNet-Lite is EfficientNet (Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks") without squeeze-and-excitation and with ReLU6 for swish, so that it runs well in 8 bits and on CPUs
(github.com/tensorflow/tpu, models/official/efficientnet/lite). Layers have the names of `keras.applications`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from feature_cache.errors import BadData
from transfer.nets.files.torch_file import read_tensors

SIZE = 224
CLASSES = 1000
DROPOUT, DROP_CONNECT = 0.2, 0.2
TORCH_SUFFIX = ".pth"


class Stage(NamedTuple):
    """Blocks of one width; the first has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    width: int


STEM, TOP = 32, 1280
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
_NORMALISATION = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def build(size: tuple[int, int] = (SIZE, SIZE), *, top: bool = False) -> keras.Model:
    """The net without weights: RGB pixels of 0 to 255 in, `top_activation` or the probabilities of 1,000 classes out.

    Parameters
    ----------
    size : (height, width), in pixels, each at least 32
    top : bool
        With the classifier: `avg_pool`, `top_dropout` and `predictions`.

    Notes
    -----
    Pixels are scaled by (x - 127) / 128 and padded as TensorFlow does (``same``), as in training
    (``MEAN_RGB`` and ``STDDEV_RGB`` of ``efficientnet_lite_builder.py``).
    """
    inputs = keras.Input((*size, 3), name="image")
    x = keras.layers.Rescaling(1 / 128, -127 / 128, name="rescaling")(inputs)
    x = _activation(_conv(x, STEM, "stem", kernel=3, stride=2), "stem")
    number, blocks, width = 0, sum(stage.repeats for stage in STAGES), STEM
    for name, stage, stride in _blocks():
        x = _block(x, stage, stride, name, width, DROP_CONNECT * number / blocks)
        number, width = number + 1, stage.width
    x = _activation(_conv(x, TOP, "top"), "top")
    if top:
        x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = keras.layers.Dropout(DROPOUT, name="top_dropout")(x)
        uniform = keras.initializers.VarianceScaling(1 / 3, "fan_out", "uniform")
        x = keras.layers.Dense(CLASSES, activation="softmax", kernel_initializer=uniform, name="predictions")(x)
    return keras.Model(inputs, x, name="efficientnetlite0")


def _blocks() -> Iterator[tuple[str, Stage, int]]:
    """The name, stage and stride of every block: ``block1a``, ``block2a``, ``block2b`` ..."""
    for number, stage in enumerate(STAGES, 1):
        for repeat in range(stage.repeats):
            yield f"block{number}{chr(ord('a') + repeat)}", stage, 1 if repeat else stage.stride


def _block(x: Any, stage: Stage, stride: int, name: str, width: int, drop: float) -> Any:
    """An inverted residual block (Sandler et al. 2018, "MobileNetV2"): expansion, depthwise convolution, projection."""
    inputs = x
    if stage.expansion != 1:
        x = _conv(x, width * stage.expansion, f"{name}_expand")
        x = _activation(x, f"{name}_expand")
    x = keras.layers.DepthwiseConv2D(
        stage.kernel, stride, "same", use_bias=False, depthwise_initializer=_initializer(), name=f"{name}_dwconv"
    )(x)
    x = _activation(_normalised(x, f"{name}_bn"), name)
    x = _conv(x, stage.width, f"{name}_project")
    if stride > 1 or width != stage.width:
        return x
    if drop:
        x = keras.layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x)
    return keras.layers.Add(name=f"{name}_add")([x, inputs])


def _conv(x: Any, width: int, name: str, *, kernel: int = 1, stride: int = 1) -> Any:
    """A convolution without bias, and its batch normalisation."""
    convolution = keras.layers.Conv2D(
        width, kernel, stride, "same", use_bias=False, kernel_initializer=_initializer(), name=f"{name}_conv"
    )
    return _normalised(convolution(x), f"{name}_bn")


def _normalised(x: Any, name: str) -> Any:
    return keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x)


def _activation(x: Any, name: str) -> Any:
    return keras.layers.ReLU(max_value=6, name=f"{name}_activation")(x)


def _initializer() -> Any:
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")  # that of EfficientNet


def load_weights(model: keras.Model, file: Path) -> None:
    """Set the weights of a net from `build` to those of a file of PyTorch (``.pth``), or of Keras.

    Raises
    ------
    UnsafeFile, BadData
        See `read_tensors`; or when the tensors are not those of this net.
    ValueError, OSError
        When Keras cannot read the file.
    """
    if file.suffix == TORCH_SUFFIX:
        set_tensors(model, read_tensors(file), file)
    else:
        model.load_weights(str(file))


def set_tensors(model: keras.Model, tensors: Mapping[str, np.ndarray], file: Path) -> None:
    """Set the weights of a net from `build` to tensors by their names in PyTorch; those of the classifier may be over.

    Raises
    ------
    BadData
        When a tensor is missing, of another shape, or none of this net's; `file` is named.
    """
    names = _torch_names()
    expected = {f"{names[layer]}.{part}" for layer in names for part in _parts(layer)}
    counts = {f"{names[layer]}.num_batches_tracked" for layer in names if layer.endswith("_bn")}
    if odd := (expected - set(tensors)) | (set(tensors) - expected - counts):
        raise BadData(f"{file} does not hold weights of efficientnetlite0: see its tensor {min(odd)!r}.")
    for layer in model.layers:
        if not layer.weights:
            continue
        values = [_in_keras(layer, tensors[f"{names[layer.name]}.{part}"]) for part in _parts(layer.name)]
        for variable, value in zip(layer.weights, values, strict=True):
            if tuple(variable.shape) != value.shape or value.dtype != np.float32:
                raise BadData(
                    f"{file} does not hold weights of efficientnetlite0: its layer {layer.name} takes float32 of shape "
                    f"{tuple(variable.shape)}, and the file has {value.dtype} of {value.shape}."
                )
        layer.set_weights(values)


def _parts(layer: str) -> tuple[str, ...]:
    """The names in PyTorch of the tensors of a layer, in the order of Keras's weights."""
    if layer.endswith("_bn"):
        return tuple(_NORMALISATION.values())
    return ("weight", "bias") if layer == "predictions" else ("weight",)


def _in_keras(layer: Any, values: np.ndarray) -> np.ndarray:
    """A tensor with its axes in the order of Keras: output channels last."""
    if values.ndim == 2:
        return values.T
    if values.ndim == 4:
        return values.transpose((2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (2, 3, 1, 0))
    return values


def _torch_names() -> dict[str, str]:
    """The name in PyTorch of each layer with weights (github.com/ml-illustrated/EfficientNet-Lite-PyTorch)."""
    names = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
    names["predictions"] = "_fc"
    for number, (name, stage, _) in enumerate(_blocks()):
        block = f"_blocks.{number}"
        if stage.expansion != 1:
            names |= {f"{name}_expand_conv": f"{block}._expand_conv", f"{name}_expand_bn": f"{block}._bn0"}
        names |= {f"{name}_dwconv": f"{block}._depthwise_conv", f"{name}_bn": f"{block}._bn1"}
        names |= {f"{name}_project_conv": f"{block}._project_conv", f"{name}_project_bn": f"{block}._bn2"}
    return names
