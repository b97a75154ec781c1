"""Augmented views that are made where the net is trained. This module imports Keras."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

ROUNDING = 1e-3  # more than a sum of float32 that stands for a whole number lacks


class Augment(keras.layers.Layer):
    """Make the views that `transfer.data.augment.Augmentation` makes, but for single levels of gray; view 0 exactly.

    It is given uint8 pixels of shape (n, height, width, channels) and `Augmentation.numbers` of each, (n, 8), and
    gives uint8 pixels.
    """

    def call(self, pixels: Any, numbers: Any) -> Any:
        matrices = ops.pad(numbers[:, :6], ((0, 0), (0, 2)))
        moved = ops.image.affine_transform(
            ops.cast(pixels, "float32"), matrices, fill_mode="nearest", data_format="channels_last"
        )
        moved = ops.floor(moved + ROUNDING)  # Pillow cuts off fractions
        mean = ops.mean(moved, axis=(1, 2, 3), keepdims=True)
        brightness, contrast = (ops.reshape(numbers[:, place], (-1, 1, 1, 1)) for place in (6, 7))
        relit = brightness * (mean + contrast * (moved - mean))
        return ops.cast(ops.clip(ops.round(relit), 0, 255), "uint8")
