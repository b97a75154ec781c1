"""Where the channels of a tensor are: followed through a graph of OpenVINO, from the pixels on.

Convolutions of OpenVINO have the channels in axis 1, transformers in the last, and many nets do both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

CHANNELS_SECOND = frozenset(
    {
        "AdaptiveAvgPool",
        "AdaptiveMaxPool",
        "AvgPool",
        "BatchNormInference",
        "Convolution",
        "ConvolutionBackpropData",
        "DeformableConvolution",
        "DepthToSpace",
        "GroupConvolution",
        "GroupConvolutionBackpropData",
        "MaxPool",
        "SpaceToDepth",
    }
)
_RESHAPES = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")


def channel_axis(operation: Any, before: Sequence[int | None], is_constant: Sequence[bool]) -> int | None:
    """The axis of the channels in what an operation gives; None where that is not known.

    Parameters
    ----------
    operation : openvino.Node
    before : sequence of int or None
        The axis of each of its inputs.
    is_constant : sequence of bool
        Whether each of its inputs is the same for all images.
    """
    kind, output = operation.get_type_name(), operation.output(0).get_partial_shape()
    if kind in CHANNELS_SECOND:
        return 1
    if kind == "MatMul":
        return _rank(output) - 1 if is_constant[1] else None
    source = next((number for number, axis in enumerate(before) if axis is not None), None)
    if source is None:
        return None
    axis, shape = before[source], operation.input(source).get_partial_shape()
    assert axis is not None
    if kind == "Transpose":
        order = _constant(operation.input_value(1))
        return order.index(axis) if order is not None else None
    if kind in _RESHAPES:
        return _after_reshape(lengths(shape), lengths(output), axis)
    if kind.startswith("Reduce") or kind == "Gather":
        return _after_removal(operation, axis, _rank(shape), _rank(output))
    return axis if _rank(shape) == _rank(output) else None


def lengths(shape: Any) -> list[int | None]:
    """A shape of OpenVINO: None for a side that is not known; empty where not even the rank is."""
    if shape.rank.is_dynamic:
        return []
    return [side.get_length() if side.is_static else None for side in shape]


def require_whole_reshapes(net: Any) -> None:
    """Raise ValueError where a reshape would give more or fewer numbers than it takes; OpenVINO lets some pass."""
    for operation in net.get_ordered_ops():
        if operation.get_type_name() == "Reshape":
            before, after = (lengths(port.get_partial_shape()) for port in (operation.input(0), operation.output(0)))
            counts = _product(before), _product(after)
            if None not in counts and counts[0] != counts[1]:
                raise ValueError(f"{operation.get_friendly_name()} would give more or fewer numbers than it takes")


def _after_reshape(before: list[int | None], after: list[int | None], axis: int) -> int | None:
    """The axis of as many positions, with as many values after each: it has the same numbers in the same order."""
    inner = _product(before[axis + 1 :])
    for candidate in range(1, len(after)):
        if after[candidate] == before[axis] and inner is not None and _product(after[candidate + 1 :]) == inner:
            return candidate
    return None


def _after_removal(operation: Any, axis: int, rank: int, rank_after: int) -> int | None:
    """The axis after some others were reduced, or one position was taken of another."""
    if rank == rank_after:
        return axis
    axes = _constant(operation.input_value(2 if operation.get_type_name() == "Gather" else 1))
    if axes is None:
        return None
    removed = [one % rank for one in axes]
    if axis in removed or rank_after != rank - len(removed):
        return None
    return axis - sum(one < axis for one in removed)


def _product(sides: Sequence[int | None]) -> int | None:
    known = [side for side in sides if side is not None]
    return math.prod(known) if len(known) == len(sides) else None


def _rank(shape: Any) -> int:
    return -1 if shape.rank.is_dynamic else int(shape.rank.get_length())


def _constant(port: Any) -> list[int] | None:
    node = port.get_node()
    return [int(one) for one in node.data.reshape(-1)] if node.get_type_name() == "Constant" else None
