"""glyphnet's architecture, and its shipped weights.

Four blocks of two 3x3 convolutions and a 2x2 max pooling, on one gray channel of 32x32 pixels.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import keras
import numpy as np

WEIGHTS_FILE = Path(__file__).with_name("weights.h5")
SIZE = 32
WIDTHS = (32, 64, 128, 256)


def build(size: tuple[int, int] = (SIZE, SIZE), *, batch_norm: bool = False) -> keras.Model:
    """The net without weights: gray pixels scaled to [-1, 1] in, `block4_pool` out.

    Parameters
    ----------
    size : (height, width), in pixels, each at least 16
    batch_norm : bool
        Batch normalisation after every convolution, as in training; `fold` turns such a net into
        one without.
    """
    x = inputs = keras.Input((*size, 1), name="image")
    for block, width in enumerate(WIDTHS, 1):
        for conv in (1, 2):
            name = f"block{block}_conv{conv}"
            if batch_norm:
                x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False, name=name)(x)
                x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
                x = keras.layers.ReLU(name=f"{name}_relu")(x)
            else:
                x = keras.layers.Conv2D(width, 3, padding="same", activation="relu", name=name)(x)
        x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    return keras.Model(inputs, x, name="glyphnet")


def fold(trained: keras.Model) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Kernel and bias of each convolution of a `batch_norm` net, with the normalisation multiplied in."""
    folded = {}
    for layer in trained.layers:
        if isinstance(layer, keras.layers.Conv2D):
            gamma, beta, mean, variance = trained.get_layer(f"{layer.name}_bn").get_weights()
            scale = gamma / np.sqrt(variance + trained.get_layer(f"{layer.name}_bn").epsilon)
            folded[layer.name] = (layer.get_weights()[0] * scale, beta - mean * scale)
    return folded


def save_weights(
    folded: dict[str, tuple[np.ndarray, np.ndarray]], file: Path = WEIGHTS_FILE, dtype: str = "float16"
) -> None:
    """Write kernels and biases; as float16 they have half the bytes and lose no accuracy (MODEL_CARD.md)."""
    with h5py.File(file, "w") as store:
        for name, (kernel, bias) in folded.items():
            store.create_dataset(f"{name}/kernel", data=kernel.astype(dtype))
            store.create_dataset(f"{name}/bias", data=bias.astype(dtype))


def load_weights(net: keras.Model, file: Path = WEIGHTS_FILE) -> None:
    """Set the weights of a net from `build` to the shipped ones."""
    with h5py.File(file, "r") as store:
        for layer in net.layers:
            if isinstance(layer, keras.layers.Conv2D):
                layer.set_weights([store[layer.name][part][...].astype(np.float32) for part in ("kernel", "bias")])
