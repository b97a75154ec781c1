"""`Normalise`: the layer that turns pixels into what a net was trained on; the same of Keras's own layers.

This module imports Keras.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from feature_cache.spec import affine_numbers

_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
_IMAGENET_STD = np.array([0.229, 0.224, 0.225])
_CAFFE_MEAN = np.array([103.939, 116.779, 123.68])
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601-2, as in Pillow's mode "L"


@keras.saving.register_keras_serializable(package="layertap")
class Normalise(keras.layers.Layer):
    """uint8 pixels of 0 to 255 to the float32 that a net was trained on.

    Parameters
    ----------
    preprocessing : {'none', 'unit', 'tf', 'torch', 'caffe'} or str
        By name: leave the values; scale to [0, 1]; to [-1, 1]; standardise by ImageNet's mean and deviation;
        or subtract ImageNet's mean with blue first. The last three are those of
        ``keras.applications.imagenet_utils.preprocess_input``. Or numbers (see `FeatureSpec.preprocessing`).
    channels : int
        Channels of the output: gray is replicated, colour is reduced to luminance.
    """

    def __init__(self, preprocessing: str, channels: int, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        self.preprocessing = preprocessing
        self.channels = channels

    def call(self, pixels: Any) -> Any:
        ops = keras.ops
        x = ops.cast(pixels, "float32")
        if x.shape[-1] == 1 and self.channels == 3:
            x = ops.repeat(x, 3, axis=-1)
        elif x.shape[-1] == 3 and self.channels == 1:
            x = ops.sum(x * _LUMINANCE, axis=-1, keepdims=True)
        if numbers := affine_numbers(self.preprocessing):
            scale, offset = (np.array(values[: self.channels], np.float32) for values in numbers)
            return x * scale + offset
        match self.preprocessing:
            case "unit":
                return x / 255.0
            case "tf":
                return x / 127.5 - 1.0
            case "torch":
                return (x / 255.0 - _IMAGENET_MEAN.astype("float32")) / _IMAGENET_STD.astype("float32")
            case "caffe":
                return ops.flip(x, axis=-1) - _CAFFE_MEAN.astype("float32")
        return x

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*shape[:-1], self.channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "preprocessing": self.preprocessing, "channels": self.channels}


def normalising_layers(preprocessing: str, channels: int) -> list[keras.layers.Layer]:
    """Layers of Keras's own that do, one after another, what `Normalise` does to colour images.

    They agree with it up to rounding.
    """
    numbers = affine_numbers(preprocessing)
    if numbers and channels != 1:
        return [keras.layers.Rescaling(*(list(values) for values in numbers), name="as_float")]
    factors = {"unit": (1 / 255, 0.0), "tf": (1 / 127.5, -1.0), "torch": (1 / 255, 0.0)}
    scale, offset = (numbers[0][0], numbers[1][0]) if numbers else factors.get(preprocessing, (1.0, 0.0))
    if channels == 1:
        as_float = keras.layers.Rescaling(1.0, name="as_float")
        return [as_float, _mix(_LUMINANCE[:, None] * scale, np.array([offset]), "luminance")]
    layers: list[keras.layers.Layer] = [keras.layers.Rescaling(scale, offset, name="as_float")]
    if preprocessing == "caffe":
        layers.append(_mix(np.eye(3)[::-1], -_CAFFE_MEAN, "blue_first"))
    if preprocessing == "torch":
        layers.append(keras.layers.Normalization(mean=_IMAGENET_MEAN, variance=_IMAGENET_STD**2, name="standardised"))
    return layers


def _mix(matrix: np.ndarray, bias: np.ndarray, name: str) -> keras.layers.Layer:
    """A convolution of single pixels: each channel becomes a fixed sum of the input's, plus a bias."""
    layer = keras.layers.Conv2D(matrix.shape[1], 1, data_format="channels_last", trainable=False, name=name)
    layer.build((None, None, None, len(matrix)))
    layer.set_weights([matrix[None, None], bias])
    return layer
