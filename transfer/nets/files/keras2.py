"""Configurations of nets of Keras 2, and of .h5 files of Keras 3, as .keras files have them. Keras is not imported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from feature_cache.errors import BadData

# Operations of TensorFlow that a net of Keras 2 holds as layers, and the operations of Keras 3 that compute the same.
_OPERATIONS = {
    "__operators__.add": ("numpy", "Add"),
    "math.add": ("numpy", "Add"),
    "math.subtract": ("numpy", "Subtract"),
    "math.multiply": ("numpy", "Multiply"),
    "math.truediv": ("numpy", "TrueDivide"),
    "math.divide": ("numpy", "TrueDivide"),
    "math.pow": ("numpy", "Power"),
    "nn.relu": ("nn", "Relu"),
    "nn.relu6": ("nn", "Relu6"),
    "nn.sigmoid": ("nn", "Sigmoid"),
    "nn.silu": ("nn", "Silu"),
}
# Operations that a net of Keras 3 may hold as layers, by the module that they are in; an ``.h5`` file leaves it out.
_MODULES = {
    **dict.fromkeys(("Add", "Subtract", "Multiply", "TrueDivide", "Divide", "Power", "Negative"), "numpy"),
    **dict.fromkeys(("Maximum", "Minimum", "Absolute", "Square", "Sqrt", "Exp", "Tanh", "Clip", "Matmul"), "numpy"),
    **dict.fromkeys(("Mean", "Max", "Sum", "GetItem", "Reshape", "Transpose", "Concatenate", "Stack"), "numpy"),
    **dict.fromkeys(("ExpandDims", "Squeeze", "Pad"), "numpy"),
    **dict.fromkeys(("Relu", "Relu6", "Sigmoid", "HardSigmoid", "Silu", "Gelu", "Softmax"), "nn"),
    "Cast": "core",
}
# Arguments that Keras 2 wrote, and what they may be where Keras 3 does not know them.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "DepthwiseConv2D": {"groups": 1},
    "SeparableConv1D": {"groups": 1, "kernel_initializer": ..., "kernel_regularizer": None, "kernel_constraint": None},
    "SeparableConv2D": {"groups": 1, "kernel_initializer": ..., "kernel_regularizer": None, "kernel_constraint": None},
    "Conv2DTranspose": {"groups": 1},
    "Conv3DTranspose": {"groups": 1},
    "GRU": {"time_major": False, "implementation": ...},
    "LSTM": {"time_major": False, "implementation": ...},
    "SimpleRNN": {"time_major": False, "implementation": ...},
}
_DEFAULTS["MultiHeadAttention"] = dict.fromkeys(("query_shape", "key_shape", "value_shape"), ...)
_DEFAULTS["MultiHeadAttention"] |= {"softmax_robust_masking": False}
for _kind in ("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"):
    _DEFAULTS[_kind] = {"noise_shape": None, "trainable": ...}
# What Keras 3 has by the same name, and computes otherwise.
_DIFFERENT = ("RandomCrop", "hard_sigmoid")
_RENAMED = {("LeakyReLU", "alpha"): "negative_slope"}
_GRAPHS = ("Functional", "Model")
_NESTED = ("layer", "forward_layer", "backward_layer", "cell")  # where a layer holds another


def to_keras3(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a net that Keras 2 wrote, as Keras 3 writes it into a ``.keras`` file.

    Raises
    ------
    BadData
        When it holds something that Keras 3 has not, or computes otherwise. The message is that part, for a sentence.
    """
    kind, inner = config.get("class_name"), config.get("config")
    if kind == "Sequential" and isinstance(inner, list):  # before Keras 2.2.5
        inner = {"name": "sequential", "layers": inner}
    if not isinstance(inner, dict) or not isinstance(kind, str):
        return config
    if _is_operation(config):
        return _operation(config)
    config = {**config, "config": _arguments(kind, inner)}
    if kind in _GRAPHS:
        return config | {
            "module": "keras.src.models.functional",
            "class_name": "Functional",
            "registered_name": "Functional",
            "config": _graph(config["config"]),
        }
    if kind == "Sequential":
        layers = [to_keras3(layer) for layer in _layers(inner)]
        return config | {"module": "keras", "registered_name": None, "config": {**config["config"], "layers": layers}}
    return {**_with_module(config, kind), "build_config": None}  # it is built when it is called


def with_modules(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a net that Keras 3 wrote into an ``.h5`` file, as it writes it into a ``.keras`` file."""
    kind, inner = config.get("class_name"), config.get("config")
    if not isinstance(inner, dict) or not isinstance(kind, str):
        return config
    inner = dict(inner)
    if isinstance(inner.get("layers"), list):
        inner["layers"] = [with_modules(layer) for layer in _layers(inner)]
    for name in _NESTED:
        if isinstance(inner.get(name), dict):
            inner[name] = with_modules(inner[name])
    config = {**config, "config": inner}
    if "module" in config:
        return config
    if kind in _GRAPHS:
        return config | {"module": "keras.src.models.functional", "class_name": "Functional"}
    if kind in _MODULES and "trainable" not in inner:  # every layer has that
        return config | {"module": f"keras.src.ops.{_MODULES[kind]}", "registered_name": kind}
    return config | {"module": "keras"} if kind == "Sequential" else _with_module(config, kind)


def _with_module(config: dict[str, Any], kind: str) -> dict[str, Any]:
    """A layer with the module that Keras 3 has it in."""
    root, _, rest = str(config.get("module") or "keras").partition(".")
    if root not in ("keras", "tf_keras"):
        return config
    if kind == "LayerScale":  # a part of ConvNeXt
        rest = "src.applications.convnext"
    own = rest.startswith("src.applications.")
    return config | {"module": f"keras.{rest}" if own else "keras.layers", "registered_name": None}


def _arguments(kind: str, inner: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a layer."""
    inner = dict(inner)
    for part in (kind, inner.get("activation"), inner.get("recurrent_activation")):
        if isinstance(part, str) and part in _DIFFERENT:
            raise BadData(f"{part}, which Keras 3 computes in another way")
    if isinstance(inner.get("name"), str):
        inner["name"] = plain_name(inner["name"])
    shape = inner.pop("batch_input_shape", None)
    if shape is not None and kind == "InputLayer":
        inner["batch_shape"] = shape
    policy = inner.get("dtype")
    if isinstance(policy, dict) and policy.get("class_name") == "Policy" and isinstance(policy.get("config"), dict):
        inner["dtype"] = policy["config"].get("name")
    axis = inner.get("axis")
    if isinstance(axis, list) and len(axis) == 1:
        inner["axis"] = axis[0]
    if kind.startswith("Random"):
        inner.pop("rng_type", None)  # nothing is drawn when features are computed
    for name, default in _DEFAULTS.get(kind, {}).items():
        if name in inner and inner.pop(name) != default and default is not ...:
            raise BadData(f"a layer {kind} with {name} other than {default!r}, which Keras 3 has not")
    for (layer, old), new in _RENAMED.items():
        if kind == layer and old in inner:
            inner[new] = inner.pop(old)
    for name in _NESTED:
        if isinstance(inner.get(name), dict):
            inner[name] = to_keras3(inner[name])
    return inner


def _graph(inner: dict[str, Any]) -> dict[str, Any]:
    """The layers of a graph, and how they are connected."""
    # Keras 2 counts the making of a nested net as its first use, Keras 3 does not.
    before = _layers(inner)
    new = any(isinstance(use, dict) for layer in before for use in layer.get("inbound_nodes") or [])
    later = set() if new else {layer.get("name") for layer in before if _begins_with_input(layer)}
    layers = []
    for layer in before:
        translated = to_keras3(layer)
        uses = [_use(layer, use, later) for use in layer.get("inbound_nodes") or []]
        layers.append({**translated, "name": plain_name(str(layer.get("name"))), "inbound_nodes": uses})
    graphs = {layer.get("name") for layer in before if layer.get("class_name") in _GRAPHS}
    ends = {}
    for key in ("input_layers", "output_layers"):
        # For graphs that are at the end, Keras 3 does what it does not do for their other uses.
        ends[key] = _ends(inner.get(key), later - graphs)
    return {**inner, **ends, "layers": layers}


def _layers(inner: Any) -> list[dict[str, Any]]:
    layers = inner.get("layers") if isinstance(inner, dict) else None
    return [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []


def _begins_with_input(layer: dict[str, Any]) -> bool:
    inner = layer.get("config")
    nested = layer.get("class_name") in (*_GRAPHS, "Sequential") and isinstance(inner, dict)
    return nested and any(part.get("class_name") == "InputLayer" for part in _layers(inner)[:1])


def _use(layer: dict[str, Any], use: Any, later: set[Any]) -> dict[str, Any]:
    """What a layer is called with, as Keras 3 writes it."""
    if isinstance(use, dict):
        return use
    several = isinstance(use, list) and bool(use) and isinstance(use[0], list)
    parts = use if several else [use]
    if not all(isinstance(part, list) and len(part) in (3, 4) and isinstance(part[0], str) for part in parts):
        raise BadData(f"the layer {layer.get('name')}, which is called in a way that Layertap does not translate")
    inputs = [part[2] if part[0] == "_CONSTANT_VALUE" else _tensor(part[:3], later) for part in parts]
    given = parts[-1][3] if len(parts[-1]) == 4 and isinstance(parts[-1][3], dict) else {}
    kwargs = {name: _tensor(value, later) for name, value in given.items() if value is not None}
    args = [inputs[0] if len(inputs) == 1 else inputs]
    if _is_operation(layer):
        args += [kwargs.pop("y")] if "y" in kwargs else []
        if kwargs:
            name = layer.get("name")
            raise BadData(
                f"{name}, an operation of TensorFlow with {', '.join(sorted(kwargs))}, which is not translated"
            )
    return {"args": args, "kwargs": kwargs}


def _is_operation(layer: dict[str, Any]) -> bool:
    """Whether it is an operation of TensorFlow that is called as a layer."""
    return layer.get("class_name") in ("TFOpLambda", "SlicingOpLambda") or str(layer.get("module")).endswith(
        "tf_op_layer"
    )


def _ends(references: Any, later: set[Any]) -> Any:
    """The inputs or outputs of a graph."""
    if isinstance(references, dict):
        return {key: _ends(part, later) for key, part in references.items()}
    if not isinstance(references, list):
        return references
    if len(references) == 3 and isinstance(references[0], str) and type(references[1]) is int:
        return [plain_name(references[0]), references[1] - (references[0] in later), references[2]]
    parts = [_ends(part, later) for part in references]
    return parts[0] if len(parts) == 1 else parts


def _operation(config: dict[str, Any]) -> dict[str, Any]:
    """An operation of TensorFlow as one of Keras."""
    inner = config.get("config")
    name = inner.get("function") if isinstance(inner, dict) else None
    if name not in _OPERATIONS:
        raise BadData(f"{name}, an operation of TensorFlow that Layertap does not translate")
    module, kind = _OPERATIONS[name]
    assert isinstance(inner, dict)
    return {
        "module": f"keras.src.ops.{module}",
        "class_name": kind,
        "registered_name": kind,
        "config": {"name": plain_name(str(inner.get("name")))},
    }


def _tensor(value: Any, later: set[Any]) -> Any:
    """A reference to a layer's output as Keras 3 writes it; all else is left as it is."""
    if not (isinstance(value, list) and len(value) == 3 and isinstance(value[0], str) and type(value[1]) is int):
        return value
    history = [plain_name(value[0]), value[1] - (value[0] in later), value[2]]
    return {
        "class_name": "__keras_tensor__",
        "config": {"shape": [None], "dtype": "float32", "keras_history": history},
    }


def plain_name(name: str) -> str:
    """The name of a layer in Keras 3, which allows no slashes in it."""
    return name.replace("/", "_")


def layer_orders(config: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """The names of the layers of each net in `config`, in its order, with the nets that it lies in."""
    layers = _layers(config.get("config"))
    yield path, [layer.get("name") or layer["config"].get("name") for layer in layers]
    for layer in layers:
        if layer.get("class_name") in (*_GRAPHS, "Sequential"):
            yield from layer_orders(layer, (*path, str(layer.get("name") or layer["config"].get("name"))))
