"""`Normalise`: the layer that turns pixels into what a net was trained on. It imports Keras."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
_IMAGENET_STD = np.array([0.229, 0.224, 0.225])
_CAFFE_MEAN = np.array([103.939, 116.779, 123.68])
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601-2, as in Pillow's mode "L"


@keras.saving.register_keras_serializable(package="layertap")
class Normalise(keras.layers.Layer):
    """uint8 pixels of 0 to 255 to the float32 that a net was trained on.

    Parameters
    ----------
    preprocessing : {'none', 'unit', 'tf', 'torch', 'caffe'}
        Leave the values; scale to [0, 1]; to [-1, 1]; standardise by ImageNet's mean and deviation;
        or subtract ImageNet's mean with blue first. The last three are those of
        ``keras.applications.imagenet_utils.preprocess_input``.
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
