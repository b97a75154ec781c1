"""A net and a head as one model, made of Keras's own layers alone: whoever loads it needs no Layertap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from feature_cache.errors import InvalidChoice
from transfer.nets.backbone import Backbone
from transfer.nets.keras_settings import customary_settings
from transfer.nets.pooling import CLASS_POOLINGS, pooled, split_rule
from transfer.nets.preprocessing import normalising_layers

CHANNELS = 3


@customary_settings()
def pixels_to_features(backbone: Backbone, readouts: Sequence[tuple[str, str]], preprocessing: str) -> keras.Model:
    """The net from pixels to the pooled outputs of some layers, flattened and side by side.

    It computes the same as the model that `Backbone.cut` gives, without the layers that Layertap defines.

    Parameters
    ----------
    readouts : sequence of (layer, pooling)
        The layers to read, by name, and how each output is pooled (see `FeatureSpec.pooling_rule`).
    preprocessing : str
        What the net expects pixels to become (see `FeatureSpec`).

    Raises
    ------
    InvalidChoice
        When a layer is inside another that cannot be taken apart.

    Returns
    -------
    keras.Model
        From uint8 of shape (n, height, width, 3) to float32 of shape (n, d), in inference mode.

    Examples
    --------
    >>> from transfer.nets.catalogue import Net
    >>> backbone = Backbone(Net("glyphnet"))
    >>> pixels_to_features(backbone, [("block4_pool", "avg")], "tf").output.shape
    (None, 256)
    """
    pixels = keras.Input((*backbone.size, CHANNELS), dtype="uint8", name="pixels")
    x = pixels
    for layer in normalising_layers(preprocessing, backbone.channels):
        x = layer(x)
    for layer, _ in readouts:
        if owner := backbone.closed_in(layer):
            raise InvalidChoice(
                f"a net up to {layer} cannot be exported: it is inside {owner}, whose code cannot be taken apart. Use "
                f"{owner}, or a later layer."
            )
    if all(backbone.taps[layer] is backbone.output for layer, _ in readouts) and backbone.net.is_of_hub:
        # Layers of KerasHub are not all made to be saved alone; the whole nets that it builds are.
        outputs = [backbone.model(x, training=False)] * len(readouts)
    else:
        backbone.rename_inner()
        net = backbone.graph(backbone.input, [backbone.taps[layer] for layer, _ in readouts], name="net")
        outputs = keras.tree.flatten(net(x, training=False))
    rows = [
        _pooled(output, rule, backbone.proportions, layer)
        for output, (layer, rule) in zip(outputs, readouts, strict=True)
    ]
    return keras.Model(pixels, rows[0] if len(rows) == 1 else keras.layers.Concatenate(name="joined")(rows))


def fuse(net: keras.Model, head: Sequence[keras.layers.Layer]) -> keras.Model:
    """The net followed by the layers of a head, as one model."""
    x = net.output
    for layer in head:
        x = layer(x)
    return keras.Model(net.input, x, name="layertap")


def _pooled(tensor: Any, rule: str, proportions: tuple[int, int], layer: str) -> Any:
    """A layer's output, pooled as `Backbone.cut` pools it, as rows of shape (n, d)."""
    layers = keras.layers
    pooling, prefix = split_rule(rule)
    if prefix is not None or pooling in CLASS_POOLINGS:
        tensor = pooled(tensor, rule, proportions, layer)
    elif tensor.dtype != "float32":
        tensor = layers.Identity(dtype="float32")(tensor)
    if pooling in ("avg", "max") and len(tensor.shape) in (3, 4):
        kinds = {
            ("avg", 3): layers.GlobalAveragePooling1D,
            ("avg", 4): layers.GlobalAveragePooling2D,
            ("max", 3): layers.GlobalMaxPooling1D,
            ("max", 4): layers.GlobalMaxPooling2D,
        }
        return kinds[pooling, len(tensor.shape)](data_format="channels_last")(tensor)
    return layers.Flatten(data_format="channels_last")(tensor) if len(tensor.shape) > 2 else tensor
