"""What each layer of a net costs and yields: shape, parameters, cumulative FLOPs, bytes per image."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transfer.nets.keras_graph import (
    calls_inside,
    has_graph,
    node_of,
    nodes_of,
    operation_of,
    operations_of,
    output_number,
)
from transfer.nets.openvino_files import tensors as openvino_tensors
from transfer.nets.openvino_files.net import OpenVinoNet

if TYPE_CHECKING:
    from transfer.nets.backbone import Backbone


@dataclass(frozen=True)
class LayerInfo:
    """One layer that can be read out.

    Attributes
    ----------
    index : int or None
        Its place among the layers of the net's graph; None for a layer inside a layer.
    name : str
    kind : str
        Its class; of a file for OpenVINO, the operation.
    shape : tuple of int or None
        Of its output for one image.
    parameters : int
        Its own, with those of the layers inside it.
    gflops : float
        Billions of floating-point operations from the pixels to its output, for one image: two for
        each multiply-add of convolutions, dense layers and attention. Additions, activations,
        pooling and normalisation are not counted.
    kilobytes : float
        Of its output for one image, unpooled, at float32.
    """

    index: int | None
    name: str
    kind: str
    shape: tuple[int | None, ...]
    parameters: int
    gflops: float
    kilobytes: float


def table(backbone: Backbone | OpenVinoNet) -> list[LayerInfo]:
    """Every layer of `backbone`, in the order of computation."""
    if isinstance(backbone, OpenVinoNet):
        return _table_of_tensors(backbone)
    ancestry, indices = _Ancestry(), {name: index for index, name in enumerate(backbone.outer)}
    rows = []
    for name, tensor in backbone.taps.items():
        operation = backbone.layers[name]
        inlined = has_graph(operation)  # a nested model, listed before by its parts
        shape = tuple(tensor.shape[1:])
        size = math.prod(side or 0 for side in shape)
        rows.append(
            LayerInfo(
                index=indices.get(name),
                name=name,
                kind="nested model" if inlined else type(operation).__name__,
                shape=shape,
                parameters=0 if inlined or ":" in name else _parameters(operation),
                gflops=ancestry.flops(tensor) / 1e9,
                kilobytes=4 * size / 1000,
            )
        )
    return rows


def _table_of_tensors(net: OpenVinoNet) -> list[LayerInfo]:
    return [
        LayerInfo(
            index=index,
            name=name,
            kind=tensor.kind,
            shape=tensor.shape[1:],
            parameters=tensor.parameters,
            gflops=openvino_tensors.flops([tensor]) / 1e9,
            kilobytes=4 * math.prod(side or 0 for side in tensor.shape[1:]) / 1000,
        )
        for index, (name, tensor) in enumerate(net.taps.items())
    ]


def classifier_table(backbone: Backbone | OpenVinoNet) -> list[LayerInfo]:
    """The layers that only the net with its classifier has; none for a net without one, or one that has it."""
    net = backbone.net
    if isinstance(backbone, OpenVinoNet) or net.info is None or not net.info.has_classifier:
        return []
    from transfer.nets.backbone import Backbone  # it loads Keras
    from transfer.nets.random_weights import no_draws  # so does this

    with no_draws():
        whole = Backbone(net.without_weights(), backbone.size, top=True)
    return [row for row in table(whole) if row.name not in backbone.taps]


def flops(*tensors: Any) -> int:
    """Floating-point operations from the pixels to all of `tensors`, for one image (see `LayerInfo.gflops`).

    Parameters
    ----------
    tensors
        Taps of one `Backbone`, or of one `OpenVinoNet`.
    """
    if all(isinstance(tensor, openvino_tensors.GraphTensor) for tensor in tensors):
        return openvino_tensors.flops(tensors)
    return _Ancestry().flops(*tensors)


def working_bytes(model: Any) -> int:
    """Bytes at float32 of the inputs and outputs of the largest operation of a functional model, for one image."""
    most, open_ = 0, [model]
    while open_:
        for operation in operations_of(open_.pop()):
            if has_graph(operation):
                open_.append(operation)
            layer = operation.layer if hasattr(operation, "called") else operation
            for call in calls_inside.get(layer) or nodes_of(operation):
                tensors = [*call.input_tensors, *call.outputs]
                most = max(most, sum(4 * math.prod(side or 1 for side in tensor.shape[1:]) for tensor in tensors))
    return most


class _Ancestry:
    """Sums the cost of all operations that a tensor depends on, each once."""

    def __init__(self) -> None:
        self._cost: list[int] = []
        self._before: dict[int, int] = {}  # node -> bit set of the nodes it depends on, itself included
        self._steps: dict[int, list[int]] = {}  # node -> the same after each of its calls of inner layers

    def flops(self, *tensors: Any) -> int:
        reached = functools.reduce(operator.or_, map(self._reach, tensors))
        return sum(cost for number, cost in enumerate(self._cost) if cost and reached >> number & 1)

    def _reach(self, tensor: Any) -> int:
        node, operation = node_of(tensor), operation_of(tensor)
        recorded = getattr(operation, "called", None)  # of a layer that gives the outputs of layers inside another
        calls = calls_inside.get(operation if recorded is None else operation.layer)
        if id(node) not in self._before:
            reached = 0
            for source in node.input_tensors:
                reached |= self._reach(source)
            self._before[id(node)] = reached
            for cost in [_flops(operation, node)] if not calls else _increments(calls):
                self._before[id(node)] |= 1 << len(self._cost)
                self._cost.append(cost)
                self._steps.setdefault(id(node), []).append(self._before[id(node)])
        steps = self._steps[id(node)]
        return steps[-1 if recorded is None else min(output_number(tensor), len(steps) - 1)]


def _increments(calls: Sequence[Any]) -> list[int]:
    """What each call of a layer inside a layer adds to the operations of those before it."""
    totals: list[int] = []
    for call in calls:
        before = totals[call.first - 1] if call.first else 0
        own = _flops(call.layer, call) * call.rows
        totals.append(before + own if own else (totals[-1] if totals else 0))
    return [after - before for after, before in zip(totals, [0, *totals], strict=False)]


def _flops(operation: Any, node: Any) -> int:
    """Two for each multiply-add of one use of `operation` on one image."""
    kernels = [
        kernel
        for name in ("kernel", "depthwise_kernel", "pointwise_kernel")
        if (kernel := getattr(operation, name, None)) is not None
    ]
    kind = type(operation).__name__
    if kind in ("EinsumDense", "Einsum", "Matmul"):
        return _product_flops(operation, node)
    if kind == "DotProductAttention":
        query, key = (tensor.shape for tensor in node.input_tensors[:2])  # (n, tokens, heads, d)
        return 4 * math.prod(side or 1 for side in query[1:]) * (key[1] or 0)
    if kind == "MultiHeadAttention":
        length, width = node.input_tensors[0].shape[1], operation.num_heads * operation.key_dim
        projections = sum(math.prod(weight.shape) for weight in operation.weights if weight.name == "kernel")
        return 2 * length * projections + 4 * length * length * width
    if not kernels or node.is_input:
        return 0
    side = node.input_tensors[0] if "Transpose" in kind else node.outputs[0]
    positions = math.prod(length or 0 for length in side.shape[1:-1])
    return sum(2 * math.prod(kernel.shape) * positions for kernel in kernels)


def _product_flops(operation: Any, node: Any) -> int:
    """Two for each multiply-add of a sum of products, on one image."""
    shapes = [tuple(tensor.shape) for tensor in node.input_tensors]
    if type(operation).__name__ == "Matmul":
        inner = shapes[0][-1] or 0
        return 2 * inner * math.prod(side or 1 for side in node.outputs[0].shape[1:])
    equation = getattr(operation, "equation", None) or operation.subscripts
    if hasattr(operation, "kernel"):
        shapes.append((*operation.kernel.shape,))
    sides: dict[str, int] = {}
    for letters, shape in zip(equation.replace(" ", "").split("->")[0].split(","), shapes, strict=False):
        tail = letters.rpartition("...")[2] if "..." in letters else letters
        sides |= {letter: side or 1 for letter, side in zip(reversed(tail), reversed(shape), strict=False)}
        if "..." in letters:
            rest = shape[: len(shape) - len(tail)]
            sides["..."] = max(sides.get("...", 1), math.prod(side or 1 for side in rest))
    return 2 * math.prod(sides.values())


def _parameters(operation: Any) -> int:
    count = getattr(operation, "count_params", None)
    return int(count()) if count is not None and getattr(operation, "built", False) else 0
