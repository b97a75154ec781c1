"""Small nets in ONNX, and their tensors as the package ``onnx`` computes them with NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")
SIDE = 12
FLOAT = 1  # as ONNX numbers its types
NAMES = ("conv", "relu", "depthwise", "flat", "tokens", "dense", "biased", "pooled", "logits")


def small_onnx(
    *,
    layout: str = "NCHW",
    batch: int | str = "n",
    side: int | str = SIDE,
    channels: int = 3,
    first: Sequence[tuple[str, Any]] = (),
    dtype: int = FLOAT,
) -> Any:
    """A net of a convolution, tokens and a dense layer: from ``image`` to ``logits``, with `NAMES` between.

    Parameters
    ----------
    first : sequence of (str, number or array)
        Arithmetic before the convolution: operations of ONNX with their constants.
    """
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {
        "conv_kernel": rng.normal(size=(8, channels, 3, 3)).astype("float32") / 5,
        "conv_bias": rng.normal(size=8).astype("float32"),
        "depthwise_kernel": rng.normal(size=(8, 1, 3, 3)).astype("float32"),
        "per_position": np.array([0, 8, -1]),
        "dense_kernel": rng.normal(size=(8, 6)).astype("float32"),
        "dense_bias": rng.normal(size=6).astype("float32"),
        "positions": np.array([1]),
        "logits_kernel": rng.normal(size=(6, 4)).astype("float32"),
    }
    nodes, last = [], "image"

    def add(kind: str, name: str, *inputs: str, **attributes: Any) -> None:
        nonlocal last
        nodes.append(onnx.helper.make_node(kind, [last, *inputs], [name], name=f"node_{name}", **attributes))
        last = name

    if dtype != FLOAT:
        add("Cast", "as_float", to=FLOAT)
    for number, (kind, value) in enumerate(first):
        weights[f"constant_{number}"] = np.asarray(value, "float32")
        add(kind, f"first_{number}", f"constant_{number}")
    if layout == "NHWC":
        add("Transpose", "channels_second", perm=[0, 3, 1, 2])
    add("Conv", "conv", "conv_kernel", "conv_bias", strides=[2, 2], pads=[1, 1, 1, 1])
    add("Relu", "relu")
    add("Conv", "depthwise", "depthwise_kernel", group=8, pads=[1, 1, 1, 1])
    add("Reshape", "flat", "per_position")
    add("Transpose", "tokens", perm=[0, 2, 1])
    add("MatMul", "dense", "dense_kernel")
    add("Add", "biased", "dense_bias")
    add("ReduceMean", "pooled", "positions", keepdims=0)
    add("MatMul", "logits", "logits_kernel")
    shape = [batch, channels, side, side] if layout == "NCHW" else [batch, side, side, channels]
    return onnx_model(nodes, {"image": shape}, ["logits"], weights, dtype)


def onnx_model(
    nodes: Sequence[Any],
    inputs: dict[str, Sequence[int | str]],
    outputs: Sequence[str],
    weights: dict[str, np.ndarray],
    dtype: int = FLOAT,
) -> Any:
    """A model of ONNX, with outputs of any shape."""
    graph = onnx.helper.make_graph(
        list(nodes),
        "net",
        [onnx.helper.make_tensor_value_info(name, dtype, list(shape)) for name, shape in inputs.items()],
        [onnx.helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    domains = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=domains, ir_version=9)


def in_another_file(location: str) -> Any:
    """The small net, with the kernel of its convolution in another file."""
    model = small_onnx()
    [kernel] = [tensor for tensor in model.graph.initializer if tensor.name == "conv_kernel"]
    kernel.ClearField("raw_data")
    kernel.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(8 * 3 * 9 * 4))):
        entry = kernel.external_data.add()
        entry.key, entry.value = key, value
    return model


def save_onnx(model: Any, file: Path) -> Path:
    """Write a model."""
    onnx.save(model, file)
    return file


def computed(model: Any, image: np.ndarray, *names: str) -> list[np.ndarray]:
    """Tensors of a model for preprocessed images, by the package ``onnx``."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.helper.make_tensor_value_info(name, FLOAT, None) for name in names)
    given = image if whole.graph.input[0].type.tensor_type.elem_type != FLOAT else image.astype("float32")
    found: list[np.ndarray] = reference.ReferenceEvaluator(whole).run(None, {whole.graph.input[0].name: given})
    return found
