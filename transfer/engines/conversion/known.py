"""Which nets Keras's OpenVINO backend is known to compute as its other backends do. Keras is not imported here.

Tests compare a named net of each family, and nets of each of the layers below, with Keras on another backend.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transfer.nets.catalogue import Net
from transfer.nets.files.keras_file import read_net_file

LAYERS = frozenset(
    {
        "Activation",
        "Add",
        "AveragePooling2D",
        "BatchNormalization",
        "Concatenate",
        "Conv2D",
        "Cropping2D",
        "Dense",
        "DepthwiseConv2D",
        "Dropout",
        "Flatten",
        "Functional",
        "GlobalAveragePooling2D",
        "GlobalMaxPooling2D",
        "Identity",
        "InputLayer",
        "LayerNormalization",
        "LeakyReLU",
        "MaxPooling2D",
        "Multiply",
        "Normalization",
        "ReLU",
        "Rescaling",
        "Reshape",
        "SeparableConv2D",
        "Sequential",
        "Softmax",
        "ZeroPadding2D",
    }
)
ACTIVATIONS = frozenset(
    {
        "elu",
        "gelu",
        "hard_sigmoid",
        "hard_silu",
        "leaky_relu",
        "linear",
        "relu",
        "relu6",
        "sigmoid",
        "silu",
        "softmax",
        "tanh",
    }
)
_KERAS = ("keras", "keras.layers", "keras.models", "keras.src.models.functional")


def is_known(net: Net) -> bool:
    """Whether a net is one of the catalogue, or a file of layers that are known."""
    if not net.has_own_weights:
        return True
    if not net.is_file:
        return False
    found = read_net_file(Path(net.name))
    return found.is_plain and all(_is_known_layer(layer) for layer in _layers(found.config))


def _layers(config: Any) -> Iterator[dict[str, Any]]:
    """The net and each layer in it, as the file describes them."""
    yield config
    inner = config["config"].get("layers") if isinstance(config.get("config"), dict) else None
    for layer in inner if isinstance(inner, list) else ():
        yield from _layers(layer)


def _is_known_layer(layer: dict[str, Any]) -> bool:
    config = layer.get("config")
    if layer.get("class_name") not in LAYERS or layer.get("module") not in _KERAS or not isinstance(config, dict):
        return False
    activation, dtype = config.get("activation"), config.get("dtype")
    if isinstance(dtype, dict) and isinstance(dtype.get("config"), dict):
        dtype = dtype["config"].get("name")
    return (
        (activation is None or (isinstance(activation, str) and activation in ACTIVATIONS))
        and dtype in (None, "float32")
        and config.get("data_format") in (None, "channels_last")
        and _is_called_plainly(layer.get("inbound_nodes"))
    )


def _is_called_plainly(calls: Any) -> bool:
    """Whether a layer is called without options, such as ``training=True``."""
    if not isinstance(calls, list):
        return calls is None
    options = [call.get("kwargs") for call in calls if isinstance(call, dict)]
    return all(
        isinstance(option, dict) and all(value is None or value is False for value in option.values())
        for option in options
    )
