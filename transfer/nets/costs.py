"""What each layer of a net costs and yields: shape, parameters, cumulative FLOPs, bytes per image."""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transfer.nets.keras_graph import has_graph, node_of, nodes_of, operation_of, operations_of
from transfer.nets.openvino_files import tensors as openvino_tensors
from transfer.nets.openvino_files.net import OpenVinoNet

if TYPE_CHECKING:
    from transfer.nets.backbone import Backbone


@dataclass(frozen=True)
class LayerInfo:
    """One layer that can be read out.

    Attributes
    ----------
    index : int
    name : str
    kind : str
        Its class; of a file for OpenVINO, the operation.
    shape : tuple of int or None
        Of its output for one image.
    parameters : int
        Its own.
    gflops : float
        Billions of floating-point operations from the pixels to its output, for one image: two for
        each multiply-add of convolutions, dense layers and attention. Additions, activations,
        pooling and normalisation are not counted.
    kilobytes : float
        Of its output for one image, unpooled, at float32.
    """

    index: int
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
    ancestry = _Ancestry()
    rows = []
    for index, (name, tensor) in enumerate(backbone.taps.items()):
        operation = operation_of(tensor)
        inlined = operation.name != name.rsplit("/", 1)[-1].split(":")[0]  # a nested model, listed before by its parts
        shape = tuple(tensor.shape[1:])
        size = math.prod(side or 0 for side in shape)
        rows.append(
            LayerInfo(
                index=index,
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

    return [row for row in table(Backbone(net, backbone.size, top=True)) if row.name not in backbone.taps]


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
            for node in nodes_of(operation):
                tensors = [*node.input_tensors, *node.outputs]
                most = max(most, sum(4 * math.prod(side or 1 for side in tensor.shape[1:]) for tensor in tensors))
    return most


class _Ancestry:
    """Sums the cost of all operations that a tensor depends on, each once."""

    def __init__(self) -> None:
        self._cost: list[int] = []
        self._before: dict[int, int] = {}  # node -> bit set of the nodes it depends on, itself included

    def flops(self, *tensors: Any) -> int:
        reached = functools.reduce(operator.or_, map(self._reach, tensors))
        return sum(cost for number, cost in enumerate(self._cost) if cost and reached >> number & 1)

    def _reach(self, tensor: Any) -> int:
        node = node_of(tensor)
        if id(node) not in self._before:
            reached = 0
            for source in node.input_tensors:
                reached |= self._reach(source)
            self._before[id(node)] = reached | 1 << len(self._cost)
            self._cost.append(_flops(operation_of(tensor), node))
        return self._before[id(node)]


def _flops(operation: Any, node: Any) -> int:
    """Two for each multiply-add of one use of `operation` on one image."""
    kernels = [
        kernel
        for name in ("kernel", "depthwise_kernel", "pointwise_kernel")
        if (kernel := getattr(operation, name, None)) is not None
    ]
    kind = type(operation).__name__
    if kind == "MultiHeadAttention":
        length, width = node.input_tensors[0].shape[1], operation.num_heads * operation.key_dim
        projections = sum(math.prod(weight.shape) for weight in operation.weights if weight.name == "kernel")
        return 2 * length * projections + 4 * length * length * width
    if not kernels or node.is_input:
        return 0
    side = node.input_tensors[0] if "Transpose" in kind else node.outputs[0]
    positions = math.prod(length or 0 for length in side.shape[1:-1])
    return sum(2 * math.prod(kernel.shape) * positions for kernel in kernels)


def _parameters(operation: Any) -> int:
    count = getattr(operation, "count_params", None)
    return int(count()) if count is not None and getattr(operation, "built", False) else 0
