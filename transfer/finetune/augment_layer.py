"""A Keras layer that makes augmented views of pixels, as a part of the network that is trained on them."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

ROUNDING = 1e-3  # larger than the error of a sum of float32 that stands for a whole number


class Augment(keras.layers.Layer):
    """Makes the views that `transfer.data.augment.Augmentation` makes.

    View 0 is exactly the plain image. The pixels of other views may differ by single levels of gray.
    """

    def call(self, pixels: Any, numbers: Any) -> Any:
        """The views of a batch of images.

        Parameters
        ----------
        pixels : tensor of shape (n, height, width, channels), uint8
            The plain images.
        numbers : tensor of shape (n, 8), float32
            The numbers that a view is made by (see `Augmentation.numbers`).

        Returns
        -------
        tensor of shape (n, height, width, channels), uint8
        """
        matrices = ops.pad(numbers[:, :6], ((0, 0), (0, 2)))
        moved = ops.image.affine_transform(
            ops.cast(pixels, "float32"), matrices, fill_mode="nearest", data_format="channels_last"
        )
        moved = ops.floor(moved + ROUNDING)  # Pillow cuts off fractions
        mean = ops.mean(moved, axis=(1, 2, 3), keepdims=True)
        brightness, contrast = (ops.reshape(numbers[:, place], (-1, 1, 1, 1)) for place in (6, 7))
        relit = brightness * (mean + contrast * (moved - mean))
        return ops.cast(ops.clip(ops.round(relit), 0, 255), "uint8")
