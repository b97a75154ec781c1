"""Reading the file of a net by OpenVINO: a graph of named tensors, and one line where it cannot be read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from feature_cache.errors import BadData, LayertapError, one_line
from transfer.engines.base import out_of_memory
from transfer.engines.openvino_import import import_openvino
from transfer.hardware import available_memory
from transfer.nets.openvino_files.checks import first_bytes, kind_of_net, state_of
from transfer.nets.openvino_files.tensors import needed_inputs

_MISSING = re.compile(r"No conversion rule found for operations: (.*)")


def read(file: Path) -> Any:
    """The net in a file, as a graph of OpenVINO that must not be changed: `clone` it first.

    All its named tensors can be found in it by `outputs_of`.

    Raises
    ------
    BadData
        When the file is damaged or of another kind, or has an operation that OpenVINO lacks, which is named.
    UnsafeFile
        When it takes weights from outside its folder.
    """
    return _read(file, state_of(file))


def read_with_outputs(file: Path, names: Sequence[str]) -> Any:
    """A net of one's own that computes the tensors of these names: a clone of what `read` gives, or fewer operations.

    A TensorFlow Lite file is converted anew: it keeps its channels last, OpenVINO computes with them second, and how
    it moves the transpositions depends on which tensors are wanted.
    """
    if kind_of_net(file) == "TensorFlow Lite":
        return _or_refuse(file, lambda: _convert_tflite(file, names))
    return read(file).clone()


def outputs_of(net: Any, file: Path) -> dict[str, Any]:
    """The named tensors of a graph that are no constants, in the order of computation.

    Those of an OpenVINO file without names go by the names of their operations.
    """
    if kind_of_net(file) == "TensorFlow Lite":
        return {name: result.input_value(0) for result in net.get_results() for name in _names(result.output(0))}
    found: dict[str, Any] = {}
    for operation in net.get_ordered_ops():
        if operation.get_type_name() in ("Constant", "Parameter", "Result"):
            continue
        for number, output in enumerate(operation.outputs()):
            names = _names(output)
            if not names and kind_of_net(file) == "OpenVINO":
                names = [operation.get_friendly_name() + (f":{number}" if number else "")]
            found |= {name: output for name in names if name not in found}
    return found


def ends_of(file: Path) -> list[str]:
    """The names of what the net in a file gives."""
    if kind_of_net(file) == "TensorFlow Lite":
        return _or_refuse(
            file, lambda: [name for end in _load_tflite(file)[1].get_outputs() for name in end.get_names()]
        )
    return [name for result in read(file).get_results() for name in _names(result.output(0))]


def reason_of(error: Exception) -> str:
    """What OpenVINO says, in one line and without the places in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not re.match(r"Exception from |Check '|FrontEnd API failed|Summary:", line)]
    return one_line(ValueError(" ".join(said) or type(error).__name__)).rstrip(" .:;")


@lru_cache(maxsize=2)  # graphs of large nets share the memory of their files, and little else
def _read(file: Path, state: Any) -> Any:
    if kind_of_net(file) == "TensorFlow Lite":
        return _or_refuse(file, lambda: _checked(_convert_tflite(file, None)))
    return _or_refuse(file, lambda: _checked(import_openvino().Core().read_model(file)))


def _checked(net: Any) -> Any:
    """The same net, once its names are known to be texts, and what it computes beforehand to fit into memory.

    Raises
    ------
    UnicodeError, ValueError
        Where they are not.
    """
    needed, memory = needed_inputs(net), available_memory()
    for operation in net.get_ops():
        operation.get_friendly_name()
        for output in operation.outputs():
            output.get_names()
            shape = output.get_partial_shape()
            if memory is None or needed[operation.get_name()] or shape.is_dynamic:
                continue
            if (size := math.prod(shape.to_shape()) * output.get_element_type().size) > memory:
                raise ValueError(f"a constant of {size / 2**30:,.0f} GiB does not fit into the memory that is free")
    return net


def _convert_tflite(file: Path, names: Sequence[str] | None) -> Any:
    """A TensorFlow Lite file with some of its tensors as outputs; all those that are computed, where None are named."""
    frontend, loaded = _load_tflite(file)
    if names is None:
        decoded = frontend.decode(loaded)
        operations = [one for one in decoded.get_ordered_ops() if one.get_type_name() not in ("Constant", "Result")]
        parameters = {name for one in decoded.get_parameters() for name in _names(one.output(0))}
        outputs = [output for operation in operations for output in operation.outputs()]
        names = [name for output in outputs for name in _names(output)[:1] if name not in parameters]
    loaded.override_all_outputs([loaded.get_place_by_tensor_name(name) for name in names])
    converted = frontend.convert(loaded)
    _as_real_numbers(converted)
    return converted


def _as_real_numbers(converted: Any) -> None:
    """Give the real numbers that the tensors of a quantised net stand for, and not the whole numbers that hold them."""
    from openvino import opset13  # slow to load

    for operation in converted.get_ordered_ops():
        before = operation.input_value(0).get_node() if operation.get_type_name() == "Convert" else None
        if before is None or before.get_type_name() != "FakeQuantize":
            continue
        if before.get_element_type() != operation.get_element_type():
            x, low, high = (before.input_value(number) for number in range(3))
            rounded = opset13.fake_quantize(x, low, high, low, high, before.get_attributes()["levels"])
            operation.output(0).replace(rounded.output(0))
    converted.validate_nodes_and_infer_types()


def _load_tflite(file: Path) -> tuple[Any, Any]:
    import_openvino()
    from openvino.frontend import FrontEndManager  # slow to load

    frontend = FrontEndManager().load_by_framework("tflite")
    return frontend, frontend.load(str(file))


def _names(output: Any) -> list[str]:
    return sorted(output.get_names())


def _or_refuse(file: Path, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except LayertapError:
        raise
    except Exception as error:  # OpenVINO raises many types
        if out_of_memory(error):
            raise
        if missing := _MISSING.search(str(error)):
            raise BadData(_not_known(file, missing[1].strip())) from error
        raise BadData(f"OpenVINO cannot read {file}: {reason_of(error)}.") from error


def _not_known(file: Path, operations: str) -> str:
    """What is said of a file with operations that OpenVINO lacks."""
    if kind_of_net(file) == "ONNX" and b"tf2onnx" in first_bytes(file):
        return (
            f"{file} has operations of TensorFlow that its exporter, tf2onnx, did not convert: {operations}. Write the "
            "file with `layertap export RUN --to onnx`, which converts those of Keras, or take the net itself, by its "
            "name in `layertap nets` or as a .keras file."
        )
    return (
        f"{file} has operations that OpenVINO does not know: {operations}. Export the net without them, or only the "
        "part before them."
    )
