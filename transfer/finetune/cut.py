"""Cutting a net for fine-tuning: what is frozen, what is trained, and the outputs between the two that are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from feature_cache.errors import InvalidChoice
from transfer.extraction.reuse import BYTES_PER_SECOND, FLOPS_PER_SECOND
from transfer.nets.costs import flops

if TYPE_CHECKING:
    from transfer.nets.backbone import Backbone

AUTO_SHARE = 0.3  # of the net's operations that ``auto`` trains at most
MOST_SINGLES = 16  # places with one tensor that are looked at


@dataclass(frozen=True)
class Cut:
    """Where a net is cut.

    Attributes
    ----------
    layers : tuple of str
        Whose outputs are kept; none where the net is trained from the pixels on.
    trained : tuple of str
        Layers with weights that are trained, in the order of computation.
    shapes : tuple of tuple of int
        Of one image's outputs of `layers`.
    prefix_flops, tail_flops : int
        Operations for one image, before and after the cut.
    """

    layers: tuple[str, ...]
    trained: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    prefix_flops: int
    tail_flops: int

    @property
    def width(self) -> int:
        """Numbers that are kept of an image."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def speedup(self) -> float:
        """How many times faster an epoch is than one that computes the prefix again, by the operations.

        Training a layer costs two more of its forward passes: the gradients of its input and of its weights.
        """
        return (self.prefix_flops + 3 * self.tail_flops) / max(1, 3 * self.tail_flops)


def find_cut(backbone: Backbone, readout: str, unfreeze_from: str, *, keep: bool = True) -> Cut:
    """Where to cut `backbone` so that only the layers from `unfreeze_from` to `readout` are trained.

    Of the places before the first of them, one tensor or the several that cross it, that is chosen where reading and
    computing what is left take least.

    Parameters
    ----------
    unfreeze_from : str
        The name or index of a layer, ``all``, or ``auto``: the last layers that make up at most `AUTO_SHARE` of the
        operations.
    keep : bool
        Whether anything is kept at all: otherwise the cut is at the pixels.

    Raises
    ------
    InvalidChoice
        When there is no such layer, or none with weights from there to the readout.
    """
    for tensor in backbone.taps.values():  # whatever a file says of it
        if hasattr(operation := tensor._keras_history.operation, "trainable"):
            operation.trainable = True
    graph = _Graph(backbone, readout)
    weighted = [name for name in graph.names if graph.weights(name)]
    first = _first(backbone, graph, weighted, readout, unfreeze_from)
    later = set(graph.names[graph.names.index(first) :])
    operations = {id(graph.operation(name)): name for name in reversed(weighted) if name in later}
    trained = tuple(name for name in weighted if name in operations.values())  # a layer that is used twice counts once
    if not trained:
        raise InvalidChoice(f"no layer from {first} to {readout} has weights; unfreeze from an earlier one.")
    crossing = graph.crossing(trained)
    whole = flops(backbone.taps[readout])
    if not keep or crossing is None or not crossing:
        return Cut((), trained, (), 0, whole)
    rate = FLOPS_PER_SECOND[False]

    def seconds(layers: tuple[str, ...]) -> float:
        width = sum(math.prod(backbone.taps[layer].shape[1:]) for layer in layers)
        return 4 * width / BYTES_PER_SECOND - flops(*(backbone.taps[layer] for layer in layers)) / rate

    layers = min([crossing, *((single,) for single in graph.singles(trained))], key=seconds)
    before = flops(*(backbone.taps[layer] for layer in layers))
    if not before:  # nothing is gained by keeping what costs nothing
        return Cut((), trained, (), 0, whole)
    shapes = tuple(tuple(backbone.taps[layer].shape[1:]) for layer in layers)
    return Cut(layers, trained, shapes, before, whole - before)


def _first(backbone: Backbone, graph: _Graph, weighted: list[str], readout: str, unfreeze_from: str) -> str:
    if not weighted:
        raise InvalidChoice(f"no layer of {backbone.net.name} up to {readout} has weights to train.")
    if unfreeze_from == "all":
        return weighted[0]
    if unfreeze_from == "auto":
        whole = flops(backbone.taps[readout])
        small = [name for name in weighted if whole - flops(*graph.inputs(name)) <= AUTO_SHARE * whole]
        # One that has a kernel, and begins a part of the net that hangs on one tensor, or few, as a block does.
        kernels = [name for name in small if any(variable.ndim > 1 for variable in graph.weights(name))]
        crossing = {name: len(graph.crossing(tuple(small[small.index(name) :])) or graph.names) for name in kernels}
        return min(kernels, key=crossing.__getitem__, default=weighted[-1])
    first = backbone.find(unfreeze_from)
    if first not in graph.names:
        raise InvalidChoice(f"the layer {first} is not before {readout}, which is what the classifier reads.")
    return first


class _Graph:
    """The part of a net that leads to its readout."""

    def __init__(self, backbone: Backbone, readout: str) -> None:
        self._backbone = backbone
        self._readout = readout
        before = _ancestors(backbone.taps[readout])
        self.names = [name for name, tensor in backbone.taps.items() if id(tensor) in before]

    def operation(self, name: str) -> Any:
        """What computes the layer's output."""
        return self._backbone.taps[name]._keras_history.operation

    def weights(self, name: str) -> list[Any]:
        """Variables that can be trained; plain operations have none."""
        return list(getattr(self.operation(name), "trainable_variables", ()))

    def inputs(self, name: str) -> list[Any]:
        """The tensors that it is computed from."""
        return _inputs(self._backbone.taps[name])

    def crossing(self, trained: tuple[str, ...]) -> tuple[str, ...] | None:
        """The outputs of frozen layers that trained ones, or what depends on these, are computed from.

        None where one of them has no name; empty where the pixels are among them.
        """
        known = {id(self._backbone.taps[name]): name for name in self.names}
        found: dict[str, None] = {}
        after = self._after(trained)
        for name in self.names:
            if id(self._backbone.taps[name]) not in after:
                continue
            for tensor in self.inputs(name):
                if tensor is self._backbone.input:
                    return ()
                if id(tensor) in after:
                    continue
                if id(tensor) not in known:
                    return None
                found[known[id(tensor)]] = None
        return tuple(found)

    def singles(self, trained: tuple[str, ...]) -> list[str]:
        """The last frozen layers that all paths from the pixels to the readout go through."""
        after, found = self._after(trained), []
        for name in reversed(self.names):
            if id(self._backbone.taps[name]) in after:
                continue
            if self._backbone.frontier([name], [self._readout]) == {name}:
                found.append(name)
                if len(found) == MOST_SINGLES:
                    break
        return found

    def _after(self, trained: tuple[str, ...]) -> set[int]:
        """The outputs that depend on a trained layer."""
        operations = {id(self.operation(name)) for name in trained}
        after: set[int] = set()
        for name in self.names:  # in the order of computation
            if id(self.operation(name)) in operations or any(id(tensor) in after for tensor in self.inputs(name)):
                after.add(id(self._backbone.taps[name]))
        return after


def _inputs(tensor: Any) -> list[Any]:
    history = tensor._keras_history
    inputs: list[Any] = history.operation._inbound_nodes[history.node_index].input_tensors
    return inputs


def _ancestors(tensor: Any) -> set[int]:
    """The tensor, and all that it depends on."""
    reached: set[int] = set()
    waiting = [tensor]
    while waiting:
        one = waiting.pop()
        if id(one) not in reached:
            reached.add(id(one))
            waiting += _inputs(one)
    return reached
