"""Which pixels the net of a file for OpenVINO expects, by the arithmetic that it begins with."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from feature_cache.errors import LayertapError
from transfer.nets.expected_pixels.expected import ExpectedPixels, scales, unknown_pixels
from transfer.nets.expected_pixels.graph import INPUT, Node, Tensor
from transfer.nets.expected_pixels.scaling import first_pixels
from transfer.nets.openvino_files.checks import state_of
from transfer.nets.openvino_files.image_input import image_input
from transfer.nets.openvino_files.reading import read

# Operations by what they do to pixels, in the words of `transfer.nets.expected_pixels.scaling`.
_WORDS = {
    "Convert": "Cast",
    "Transpose": "Reshape",
    "Reshape": "Reshape",
    "Squeeze": "Reshape",
    "Unsqueeze": "Reshape",
    "Identity": "Identity",
    "Interpolate": "Resizing",
    "Pad": "Pad",
    "Concat": "Concatenate",
    "Gather": "GetItem",
    "StridedSlice": "GetItem",
    "Slice": "GetItem",
}
_MOST = 64  # operations that are looked at
_WHOLE = ("u8", "u16", "i16", "i32", "u32", "i64", "u64")


def expected_by_graph(file: Path) -> ExpectedPixels:
    """What the net in a file for OpenVINO expects: the counterpart of `expected_pixels` for files of Keras.

    Raises
    ------
    LayertapError
        When the file cannot be read.
    """
    return _expected(file, state_of(file))


@lru_cache(maxsize=16)
def _expected(file: Path, state: Any) -> ExpectedPixels:
    graph = read(file)
    try:
        node = graph.inputs[image_input(graph, file).number].get_node()
    except LayertapError:  # which is said where its layers are needed
        return unknown_pixels(file)
    received = first_pixels(_first_nodes(node))
    decided = {pixels.expects for pixels in received if pixels.expects}
    if len(decided) != 1:
        return unknown_pixels(file)
    [mode] = decided
    steps = next(pixels.steps for pixels in received if pixels.expects)
    return ExpectedPixels(mode, scales(file, steps, mode), is_known=True)


def _first_nodes(image: Any) -> list[Node]:
    """The operations that follow the input, as long as they are arithmetic on pixels or move them."""
    dtype = image.get_element_type().get_type_name()
    nodes = [Node(INPUT, {"dtype": "uint8" if dtype in _WHOLE else "float32"}, [], ())]
    numbers = {image.get_name(): 0}
    waiting = [image]
    while waiting and len(nodes) < _MOST:
        given = waiting.pop(0)
        for target in sorted(given.output(0).get_target_inputs(), key=lambda port: port.get_node().get_name()):
            operation = target.get_node()
            if operation.get_name() in numbers or operation.get_type_name() in ("Result", "ShapeOf"):
                continue
            kind = operation.get_type_name()
            arguments = [_argument(port.get_node(), numbers) for port in operation.input_values()]
            if kind not in ("Add", "Subtract", "Multiply", "Divide"):
                arguments = [one for one in arguments if isinstance(one, Tensor)]
            numbers[operation.get_name()] = len(nodes)
            nodes.append(Node(_WORDS.get(kind, kind), {}, arguments, ()))
            if kind in _WORDS or kind in ("Add", "Subtract", "Multiply", "Divide"):
                waiting.append(operation)
    return nodes


def _argument(node: Any, numbers: dict[str, int]) -> Any:
    """A `Tensor` for an operation that depends on the pixels, the numbers of a constant, and None for others."""
    if node.get_name() in numbers:
        return Tensor(numbers[node.get_name()])
    while node.get_type_name() in ("Convert", "Reshape", "Unsqueeze"):  # of weights that are kept in 16 bits
        node = node.input_value(0).get_node()
    return node.data if node.get_type_name() == "Constant" else None
