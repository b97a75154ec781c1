"""The tensors of a graph of OpenVINO that images shape: where their channels are, and what they cost."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from transfer.nets.openvino_files.axes import channel_axis, lengths

# Types of numbers that weights have; others are positions and lengths.
_WEIGHTS = ("f32", "f16", "bf16", "f64", "i8", "u8", "i4", "u4", "nf4", "f8e4m3", "f8e5m2")
NOT_OF_IMAGES = "has no axis for images"
_FLOATS = ("f32", "f16", "bf16", "f64")


@dataclass(frozen=True)
class GraphTensor:
    """A tensor of a net that can be read.

    Attributes
    ----------
    kind : str
        The operation that gives it, as OpenVINO calls it.
    shape : tuple of int or None
        As features have it: the batch first (None), the channels last.
    axis : int or None
        Where the channels are in the graph; None where that is not known, and they are taken to be in the last axis.
    parameters : int
        The numbers of weights that are used from the named tensors before it to this one.
    is_weighted : bool
        Whether weights have a part in it.
    """

    kind: str
    shape: tuple[int | None, ...]
    axis: int | None
    parameters: int
    is_weighted: bool
    _reach: int = field(repr=False)  # bit set of the operations that it depends on, itself included
    _costs: list[int] = field(repr=False)  # of each operation, for one image


def flops(tensors: Iterable[GraphTensor]) -> int:
    """Floating-point operations from the pixels to all of `tensors`, for one image (see `transfer.nets.costs`)."""
    found = list(tensors)
    reached = functools.reduce(operator.or_, (tensor._reach for tensor in found), 0)
    return sum(cost for number, cost in enumerate(found[0]._costs) if cost and reached >> number & 1) if found else 0


def max_bytes(tensors: Mapping[str, GraphTensor], wanted: Iterable[GraphTensor]) -> int:
    """Bytes at float32 of the largest of all tensors that those `wanted` are computed from, or are, for one image."""
    reached = functools.reduce(operator.or_, (tensor._reach for tensor in wanted), 0)
    needed = (tensor for tensor in tensors.values() if not tensor._reach & ~reached)
    return max((4 * math.prod(side or 1 for side in tensor.shape[1:]) for tensor in needed), default=0)


def needed_inputs(net: Any) -> dict[str, frozenset[str]]:
    """The names of the inputs that each operation cannot be computed without, by the names of the operations."""
    needed: dict[str, frozenset[str]] = {}
    for operation in net.get_ordered_ops():
        if operation.get_type_name() == "Parameter":
            needed[operation.get_name()] = frozenset([operation.get_name()])
        else:
            before = (needed[port.get_node().get_name()] for port in operation.input_values())
            needed[operation.get_name()] = frozenset().union(*before)
    return needed


def readable_tensors(
    net: Any, outputs: Mapping[str, Any], image: Any, axis: int, batch: int
) -> tuple[dict[str, GraphTensor], dict[str, str]]:
    """The named tensors that can be read, and why the others cannot.

    Parameters
    ----------
    net : openvino.Model
        With an input of `batch` images.
    outputs : mapping of str to openvino.Output
        The named tensors (see `transfer.nets.openvino_files.reading.outputs_of`).
    image : openvino.Node
        The input.
    axis : int
        That of its channels.
    batch : int
        The number of images in the shapes of `net`: one that is no length of another axis.

    Returns
    -------
    tensors : dict of str to GraphTensor
        In the order of computation.
    reasons : dict of str to str
        What is said of a tensor that cannot be read, by its name.
    """
    walk = _Walk(image, axis, batch)
    needed = needed_inputs(net)
    named: dict[str, list[str]] = {}
    for name, output in outputs.items():
        named.setdefault(_key(output), []).append(name)
    givers = {_key(output): _giver(output, named) for output in outputs.values()}
    tensors: dict[str, GraphTensor] = {}
    reasons: dict[str, str] = {}
    for operation in net.get_ordered_ops():
        others = needed[operation.get_name()] - {image.get_name()}
        if not others and not walk.visit(operation, ends=operation.get_name() in givers.values()):
            continue
        for output in operation.outputs():
            for name in named.get(_key(output), ()):
                if others:
                    reasons[name] = f"needs {_names_of(others, net)}, too"
                elif reason := _not_readable(output, batch):
                    reasons[name] = reason
                else:
                    tensors[name] = walk.tensor(operation, output, givers[_key(output)])
    tensors = {name: tensors[name] for name in outputs if name in tensors}
    reasons |= {name: "does not depend on the image" for name in outputs if name not in tensors and name not in reasons}
    return tensors, reasons


def _giver(output: Any, named: Mapping[str, Any]) -> str:
    """The name of the operation that computes an output: not one that moves its axes or rounds it."""
    node = output.get_node()
    while node.get_type_name() in ("Transpose", "Convert", "FakeQuantize") and _key(node.input_value(0)) not in named:
        node = node.input_value(0).get_node()
    return str(node.get_name())


def _not_readable(output: Any, batch: int) -> str:
    """Why an output is no feature of each image; empty where it is."""
    shape, kind = lengths(output.get_partial_shape()), output.get_element_type().get_type_name()
    if not shape or shape[0] != batch:
        shown = " x ".join(_side_text(side, batch) for side in shape) or "of no known shape"
        return f"{NOT_OF_IMAGES}: it is {shown}"
    if kind not in _FLOATS:
        return f"holds no real numbers but {kind}"
    return ""


def _names_of(inputs: Iterable[str], net: Any) -> str:
    """The inputs of a net by the names that the file gives them."""
    ports = (port for port in net.inputs if port.get_node().get_name() in inputs)
    names = [min(port.get_names(), default=port.get_node().get_friendly_name()) for port in ports]
    return f"the input{'s' * (len(names) > 1)} {', '.join(names[:4])}{' ...' * (len(names) > 4)}"


def _side_text(side: int | None, batch: int) -> str:
    if side is None:
        return "any"
    return str(side) if batch == 1 or side % batch else f"images * {side // batch}"


class _Walk:
    """What is known of the operations that depend on the image, visited in the order of computation."""

    def __init__(self, image: Any, axis: int, batch: int) -> None:
        self._image, self._batch = image.get_name(), batch
        self._axes: dict[str, int | None] = {self._image: axis}
        self._reach: dict[str, int] = {self._image: 0}
        self._weighted: dict[str, bool] = {self._image: False}
        self._costs: list[int] = []
        self._carried: dict[str, int] = {}  # parameters since the last named tensor
        self._own: dict[str, int] = {}
        self._counted: set[str] = set()

    def visit(self, operation: Any, *, ends: bool) -> bool:
        """Note an operation; False where it does not depend on the image.

        Parameters
        ----------
        ends : bool
            Whether it computes a named tensor: the weights since the one before belong to that.
        """
        key, before = operation.get_name(), [port.get_node() for port in operation.input_values()]
        names = [node.get_name() for node in before]
        if key == self._image or operation.get_type_name() in ("ShapeOf", "Result"):
            return False
        dependent = [name in self._reach for name in names]
        if not any(dependent):
            return False
        self._axes[key] = channel_axis(operation, [self._axes.get(name) for name in names], [not d for d in dependent])
        reach = functools.reduce(operator.or_, (self._reach.get(name, 0) for name in names))
        self._reach[key] = reach | 1 << len(self._costs)
        self._costs.append(_flops(operation) // self._batch)
        parameters = sum(self._parameters(node) for node, own in zip(before, dependent, strict=True) if not own)
        self._weighted[key] = parameters > 0 or any(self._weighted.get(name, False) for name in names)
        parameters += sum(self._carried.pop(name, 0) for name in names)
        self._own[key] = parameters
        if not ends:
            self._carried[key] = parameters
        return True

    def tensor(self, operation: Any, output: Any, giver: str) -> GraphTensor:
        """What is known of an output of an operation that was visited.

        Parameters
        ----------
        giver : str
            The name of the operation that computes it, and whose weights are its own.
        """
        key, sides = operation.get_name(), lengths(output.get_partial_shape())
        axis = self._axes[key] if len(sides) != 2 else 1
        order = channels_last(len(sides), axis)
        return GraphTensor(
            kind=operation.get_type_name(),
            shape=(None, *(sides[one] for one in order[1:])),
            axis=axis,
            parameters=self._own.get(giver, 0),  # none of one that moves the pixels
            is_weighted=self._weighted[key],
            _reach=self._reach[key],
            _costs=self._costs,
        )

    def _parameters(self, node: Any) -> int:
        """The weights in a part of the graph that does not depend on the image, each once."""
        count, waiting = 0, [node]
        while waiting:
            node = waiting.pop()
            if node.get_name() in self._counted or node.get_name() in self._reach:
                continue
            self._counted.add(node.get_name())
            if node.get_type_name() == "Constant":
                sides = lengths(node.output(0).get_partial_shape())
                is_weight = node.get_element_type().get_type_name() in _WEIGHTS
                size = math.prod(side or 0 for side in sides)
                count += size if is_weight and size > 1 else 0
            elif node.get_type_name() != "ShapeOf":
                waiting += [port.get_node() for port in node.input_values()]
        return count


def _key(output: Any) -> str:
    return f"{output.get_node().get_name()}:{output.get_index()}"


def _flops(operation: Any) -> int:
    """Two for each multiply-add of an operation, for all images that come together."""
    kind = operation.get_type_name()
    if kind == "MatMul":
        first = lengths(operation.input(0).get_partial_shape())
        inner = first[-2 if operation.get_attributes()["transpose_a"] else -1] if len(first) > 1 else first[-1]
        return 2 * _size(operation.output(0)) * (inner or 0)
    if kind not in (
        "Convolution",
        "GroupConvolution",
        "ConvolutionBackpropData",
        "GroupConvolutionBackpropData",
        "DeformableConvolution",
    ):
        return 0
    side = operation.input(0) if "Backprop" in kind else operation.output(0)
    shape = lengths(side.get_partial_shape())
    positions = math.prod(length or 0 for length in (shape[0], *shape[2:]))
    kernel = lengths(operation.input(2 if kind == "DeformableConvolution" else 1).get_partial_shape())
    return 2 * math.prod(length or 0 for length in kernel) * positions


def _size(port: Any) -> int:
    return math.prod(length or 0 for length in lengths(port.get_partial_shape()))


def has_rows(net: Any) -> bool:
    """Whether some tensor has three axes, as rows of tokens have."""
    outputs = (output for operation in net.get_ordered_ops() for output in operation.outputs())
    return any(output.get_node().get_type_name() != "Constant" and _may_be_rows(output) for output in outputs)


def _may_be_rows(output: Any) -> bool:
    rank = output.get_partial_shape().rank
    return bool(rank.is_dynamic or rank.get_length() == 3)


def weight_names(net: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The names and shapes of all constants."""
    for operation in net.get_ordered_ops():
        if operation.get_type_name() == "Constant":
            yield operation.get_friendly_name(), tuple(operation.output(0).get_shape())


def channels_last(rank: int, axis: int | None) -> list[int]:
    """The order of axes that brings the channels to the end; they are there where `axis` is None.

    Examples
    --------
    >>> channels_last(4, 1)
    [0, 2, 3, 1]
    """
    return [one for one in range(rank) if one != axis] + ([axis] if axis is not None else [])


def weighted_maps(tensors: Mapping[str, GraphTensor]) -> Iterator[str]:
    """The names of tensors of several positions with channels, in which weights have a part."""
    for name, tensor in tensors.items():
        positions = tensor.shape[1:-1]
        if (
            tensor.axis is not None
            and tensor.is_weighted
            and positions
            and math.prod(side or 2 for side in positions) > 1
        ):
            yield name
