"""Models of OpenVINO that are computed in float32 on every CPU, whatever they are compiled with.

On CPUs that have bfloat16 OpenVINO computes in it unless those who compile a model set `INFERENCE_PRECISION_HINT`: its
plugin for CPUs does not read the setting from a file. What a file can hold is a mark on each operation, `precise`: it
keeps its precision. The plugin rewrites some operations when it compiles, and forgets the marks of those. Here they are
rewritten to what it leaves alone, before they are marked.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

MARK = {"name": "precise", "version": "0"}


def keep_float32(file: Path) -> None:
    """Rewrite the model in a file of type ``.xml``, and the weights beside it, so that CPUs compute it in float32.

    That holds for convolutions, poolings, normalisation, dense layers and what stands between them. Some operations,
    those of attention and GELU among them, are made anew by the plugin and lose their mark: compare what the file gives
    with ``INFERENCE_PRECISION_HINT`` set to ``bf16``.
    """
    import openvino  # slow to load
    from openvino._offline_transformations import apply_moc_transformations

    model = openvino.Core().read_model(file)
    apply_moc_transformations(model, cf=False, smart_reshape=False)  # the rewriting that OpenVINO itself offers
    rewritings: dict[str, Callable[[Any], Any]] = {
        "MaxPool": _max_pool,
        "Convolution": _strided,
        "MatMul": _dense,
        "Transpose": _transpose,
    }
    for operation in model.get_ordered_ops():
        rewrite = rewritings.get(operation.get_type_name())
        replaced = rewrite(operation) if rewrite else None
        if replaced is not None:
            old, new = replaced
            new.set_friendly_name(old.get_friendly_name())
            new.output(0).get_tensor().set_names(old.output(0).get_tensor().get_names())
            old.output(0).replace(new.output(0))
    model.validate_nodes_and_infer_types()
    aside = file.with_name(f"float32-{file.name}")  # the weights of the model that was read may still be mapped
    openvino.save_model(model, str(aside), compress_to_fp16=False)
    del model
    aside.replace(file)
    aside.with_suffix(".bin").replace(file.with_suffix(".bin"))
    _mark(file)


def _mark(file: Path) -> None:
    """Mark every operation."""
    tree = ElementTree.parse(file)
    for layer in tree.getroot().iter("layer"):
        notes = layer.find("rt_info")
        notes = ElementTree.SubElement(layer, "rt_info") if notes is None else notes
        ElementTree.SubElement(notes, "attribute", MARK)
    tree.write(file, encoding="utf-8", xml_declaration=True)


def _max_pool(operation: Any) -> tuple[Any, Any] | None:
    """As a pooling of the first version of OpenVINO's operations, to which the plugin brings all."""
    from openvino import opset1  # slow to load

    options = operation.get_attributes()
    if any(step != 1 for step in options.get("dilations", [1])):
        return None
    if len(operation.outputs()) > 1 and operation.output(1).get_target_inputs():
        return None
    names = ("strides", "pads_begin", "pads_end", "kernel", "rounding_type", "auto_pad")
    return operation, opset1.max_pool(operation.input_value(0), *(options[name] for name in names))


def _strided(operation: Any) -> tuple[Any, Any] | None:
    """As a convolution of 1 x 1 of a part of the positions; the plugin makes poolings of its strides."""
    from openvino import opset1  # slow to load

    options, shape = operation.get_attributes(), operation.input(1).get_partial_shape()
    steps = list(options["strides"])
    padded = any([*options["pads_begin"], *options["pads_end"]])
    if max(steps) == 1 or padded or not shape.is_static or any(side != 1 for side in list(shape.to_shape())[2:]):
        return None
    start, all_of = np.zeros(2 + len(steps), np.int64), [1] * (2 + len(steps))
    some = opset1.strided_slice(operation.input_value(0), start, start, np.array([1, 1, *steps]), all_of, all_of)
    return operation, _convolution(some, operation.input_value(1), len(steps))


def _dense(operation: Any) -> tuple[Any, Any] | None:
    """As a convolution of 1 x 1; the plugin joins products with what is added to them."""
    from openvino import opset1  # slow to load

    options, kernel = operation.get_attributes(), _constant(operation.input_value(1))
    inner = _inner_shape(operation)
    if kernel is None or kernel.ndim != 2 or options["transpose_a"] or inner is None:
        return None
    kernel = kernel if options["transpose_b"] else kernel.T
    rows = operation.input_value(0)
    while rows.get_node().get_type_name() == "Reshape":  # two in a row would be made one
        rows = rows.get_node().input_value(0)
    rows = opset1.reshape(rows, np.array([-1, kernel.shape[1], 1, 1]), False)
    result, last = _convolution(rows, _of(kernel[:, :, None, None]), 2), operation
    after = _only_user(operation, "Add")
    if after is not None:
        bias = next((values for port in after.input_values() if (values := _constant(port)) is not None), None)
        if bias is not None and bias.size == len(kernel):
            result, last = opset1.add(result, _of(bias.reshape(1, -1, 1, 1))), after
    while (after := _only_user(last, "Reshape")) is not None and (shape := _inner_shape(after)) is not None:
        last, inner = after, shape
    return last, opset1.reshape(result, np.array([-1, *inner]), False)


def _transpose(operation: Any) -> tuple[Any, Any] | None:
    """As a change of shape where it moves nothing but axes of length 1, as the plugin does."""
    from openvino import opset1  # slow to load

    order, shape = _constant(operation.input_value(1)), operation.input_value(0).get_partial_shape()
    inner = _inner_shape(operation)
    if order is None or inner is None or order[0] != 0:
        return None
    lengths = list(shape)
    moved = [axis for axis in order[1:] if lengths[axis] != 1]
    if moved != sorted(moved):
        return None
    return operation, opset1.reshape(operation.input_value(0), np.array([-1, *inner]), False)


def _convolution(rows: Any, kernel: Any, sides: int) -> Any:
    from openvino import opset1  # slow to load

    return opset1.convolution(rows, kernel, [1] * sides, [0] * sides, [0] * sides, [1] * sides)


def _only_user(operation: Any, kind: str) -> Any:
    """The operation of this kind that takes what `operation` gives, if nothing else does."""
    users = [port.get_node() for port in operation.output(0).get_target_inputs()]
    return users[0] if len(users) == 1 and users[0].get_type_name() == kind else None


def _constant(port: Any) -> np.ndarray | None:
    node = port.get_node()
    return np.asarray(node.data) if node.get_type_name() == "Constant" else None


def _of(values: np.ndarray) -> Any:
    from openvino import opset13  # slow to load

    return opset13.constant(np.ascontiguousarray(values))


def _inner_shape(operation: Any) -> list[int] | None:
    """The shape of the first output without its first axis, that of images; None where it is not known."""
    inner = list(operation.output(0).get_partial_shape())[1:]
    return [length.get_length() for length in inner] if all(length.is_static for length in inner) else None
