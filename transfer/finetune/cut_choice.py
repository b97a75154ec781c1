"""Where a net is cut for fine-tuning: which layers are frozen, which are trained, and which outputs lie between."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from feature_cache.errors import InvalidChoice
from transfer.hardware import BYTES_PER_SECOND, FLOPS_PER_SECOND
from transfer.nets.costs import flops
from transfer.nets.keras_graph import inputs_of, operation_of

if TYPE_CHECKING:
    from transfer.nets.backbone import Backbone

AUTO_SHARE = 0.6  # the largest share of the net's operations that ``auto`` trains
_LATER_CALL = re.compile(r"(.+):(\d+)")  # the name of a layer that had been called before
MOST_SINGLES = 16  # the number of places with a single tensor that are compared


@dataclass(frozen=True)
class Cut:
    """The place where a net is cut.

    Attributes
    ----------
    layers : tuple of str
        The layers whose outputs are kept; none where the net is trained from the pixels on.
    trained : tuple of str
        The layers with weights that are trained, in the order of computation.
    shapes : tuple of tuple of int
        The shapes of the outputs of `layers` for one image.
    prefix_flops, tail_flops : int
        The operations for one image, before and after the cut.
    """

    layers: tuple[str, ...]
    trained: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    prefix_flops: int
    tail_flops: int

    @property
    def width(self) -> int:
        """How many numbers are kept of an image."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def speedup(self) -> float:
        """How many times as many operations an epoch would take that computes the prefix again.

        Training a layer costs as much as three forward passes: its own, and the gradients of its input and weights.
        """
        return (self.prefix_flops + 3 * self.tail_flops) / max(1, 3 * self.tail_flops)


def find_cut(backbone: Backbone, readout: str, unfreeze_from: str, *, keep: bool = True) -> Cut:
    """The cut after which only the layers from `unfreeze_from` to `readout` are trained.

    There may be several places before the first trained layer where one tensor, or a few, hold all that the rest
    needs. The cut is at the place where reading these tensors and computing the rest takes the least time.

    Parameters
    ----------
    backbone : Backbone
        Its layers become trainable, whatever the file of the net says.
    readout : str
        The layer that the classifier reads.
    unfreeze_from : str
        The first layer that is trained, by name or index; ``all``; or ``auto``: the last layers that make up at most
        `AUTO_SHARE` of the operations.
    keep : bool
        Whether outputs are kept; otherwise the cut is at the pixels.

    Raises
    ------
    InvalidChoice
        When there is no such layer, or none with weights from there to the readout.

    Examples
    --------
    >>> from transfer.nets.backbone import Backbone
    >>> from transfer.nets.catalogue import Net
    >>> cut = find_cut(Backbone(Net("glyphnet")), "block4_pool", "block4_conv1")
    >>> cut.layers, cut.trained
    (('block3_pool',), ('block4_conv1', 'block4_conv2'))
    """
    if unfreeze_from not in ("all", "auto"):
        _find(backbone, unfreeze_from)  # it may be a layer inside a layer
    for tensor in backbone.taps.values():  # the file of a net may say otherwise
        if hasattr(operation := operation_of(tensor), "trainable"):
            operation.trainable = True
    graph = _Graph(backbone, readout)
    weighted = [name for name in graph.names if graph.weights(name)]
    if unfreeze_from == "auto" and not _small(backbone, graph, weighted, readout) and not backbone.is_open:
        backbone.look_inside()  # a transformer, say, whose blocks are layers inside a layer
        return find_cut(backbone, readout, unfreeze_from, keep=keep)
    first = _first(backbone, graph, weighted, readout, unfreeze_from)
    later = set(graph.names[graph.names.index(first) :])
    operations = {id(graph.operation(name)): name for name in reversed(weighted) if name in later}
    trained = tuple(name for name in weighted if name in operations.values())  # a layer that is used twice counts once
    if not trained:
        raise InvalidChoice(f"no layer from {first} to {readout} has weights; unfreeze from an earlier one.")
    whole = flops(backbone.taps[readout])
    layers = _cheapest_cut(backbone, graph, trained) if keep else ()
    before = flops(*(backbone.taps[layer] for layer in layers)) if layers else 0
    if not before:  # nothing is gained by keeping what costs nothing
        return Cut((), trained, (), 0, whole)
    shapes = tuple(tuple(backbone.taps[layer].shape[1:]) for layer in layers)
    return Cut(layers, trained, shapes, before, whole - before)


def earlier_map(backbone: Backbone, readout: str) -> str | None:
    """The last layer whose maps are larger than those of the last weights before `readout`, which depends on it alone.

    It ends the stage before the last one of the net. Its features tell less of the classes that the net was trained on,
    and where images are small they see more of them. None where `readout` gives no maps, or no maps are larger.

    Examples
    --------
    >>> from transfer.nets.backbone import Backbone
    >>> from transfer.nets.catalogue import Net
    >>> earlier_map(Backbone(Net("glyphnet")), "block4_pool")
    'block3_conv2'
    """
    if not _is_map(backbone, readout):
        return None
    names = list(backbone.taps)
    before = [name for name in names[: names.index(readout) + 1] if _is_map(backbone, name)]
    weighted = [name for name in before if getattr(operation_of(backbone.taps[name]), "weights", ())]
    least = _positions(backbone, weighted[-1]) if weighted else math.inf
    for name in reversed(before):
        is_padded = type(operation_of(backbone.taps[name])).__name__ == "ZeroPadding2D"
        if _positions(backbone, name) > least and not is_padded and backbone.frontier([name], [readout]) == {name}:
            return name
    return None


def _is_map(backbone: Backbone, layer: str) -> bool:
    """Whether the output of a layer is maps of a size that is known."""
    shape = backbone.taps[layer].shape
    return len(shape) == 4 and None not in shape[1:3]


def _positions(backbone: Backbone, layer: str) -> int:
    """The number of positions of a layer's maps."""
    _, height, width, _ = backbone.taps[layer].shape
    return int(height * width)


def _cheapest_cut(backbone: Backbone, graph: _Graph, trained: tuple[str, ...]) -> tuple[str, ...]:
    """The frozen layers from whose outputs the rest takes the least time; none where it needs the pixels."""
    crossing = graph.crossing(trained)
    if not crossing:
        return ()
    rate = FLOPS_PER_SECOND[False]

    def seconds(layers: tuple[str, ...]) -> float:
        width = sum(math.prod(backbone.taps[layer].shape[1:]) for layer in layers)
        return 4 * width / BYTES_PER_SECOND - flops(*(backbone.taps[layer] for layer in layers)) / rate

    return min([crossing, *((single,) for single in graph.singles(trained))], key=seconds)


def _first(backbone: Backbone, graph: _Graph, weighted: list[str], readout: str, unfreeze_from: str) -> str:
    """The name of the first layer that is trained."""
    if not weighted:
        raise InvalidChoice(f"no layer of {backbone.net.name} up to {readout} has weights to train.")
    if unfreeze_from == "all":
        return weighted[0]
    if unfreeze_from == "auto":
        small = _small(backbone, graph, weighted, readout)
        # A layer with a kernel, from which on the net depends on one earlier tensor, or few: the start of a block.
        kernels = [name for name in small if any(variable.ndim > 1 for variable in graph.weights(name))]
        crossing = {name: len(graph.crossing(tuple(small[small.index(name) :])) or graph.names) for name in kernels}
        return min(kernels, key=crossing.__getitem__, default=weighted[-1])
    first = _find(backbone, unfreeze_from)
    if owner := backbone.closed_in(first):
        raise InvalidChoice(
            f"the layer {first} is inside {owner}, whose code cannot be taken apart: a training begins before or after "
            f"it. Unfreeze from {owner}, or from another layer."
        )
    inside = [name for name in _inside(backbone, first) if name in graph.names]
    if not inside:
        raise InvalidChoice(f"the layer {first} is not before {readout}, which is what the classifier reads.")
    return inside[
        0
    ]  # a layer is trained with those inside it, which come before it, and among which the readout may be


def _find(backbone: Backbone, layer: str) -> str:
    """The name of `layer`, which may be an index; of one with several outputs, which has none, the first inside it."""
    try:
        return backbone.find(layer)
    except InvalidChoice:
        inside = [name for name in backbone.taps if name.startswith(f"{layer}/")]
        if not inside:
            raise
        return inside[0]


def _inside(backbone: Backbone, layer: str) -> list[str]:
    """A layer and those that its code, or its graph, calls, in the order of computation."""
    names, outer = list(backbone.taps), layer
    if call := _LATER_CALL.fullmatch(layer):
        outer, number = call[1], int(call[2])
        earlier = outer if number == 2 else f"{outer}:{number - 1}"
        if earlier in names:  # what that call was made of comes before it, under the same names
            names = names[names.index(earlier) + 1 :]
    return [name for name in names if name == layer or name.startswith(f"{outer}/")]


def _small(backbone: Backbone, graph: _Graph, weighted: list[str], readout: str) -> list[str]:
    """The layers from which on a net takes at most `AUTO_SHARE` of its operations."""
    whole = flops(backbone.taps[readout])
    return [name for name in weighted if whole - flops(*graph.inputs(name)) <= AUTO_SHARE * whole]


class _Graph:
    """The part of a net that its readout depends on."""

    def __init__(self, backbone: Backbone, readout: str) -> None:
        self._backbone = backbone
        self._readout = readout
        self._before = ancestors(backbone.taps[readout])
        self.names = [
            name
            for name, tensor in backbone.taps.items()
            if id(tensor) in self._before and (name == readout or not backbone.closed_in(name))
        ]

    def operation(self, name: str) -> Any:
        """The operation that computes the output of a layer."""
        return operation_of(self._backbone.taps[name])

    def weights(self, name: str) -> list[Any]:
        """The variables of a layer that can be trained; plain operations have none."""
        return list(getattr(self.operation(name), "trainable_variables", ()))

    def inputs(self, name: str) -> list[Any]:
        """The tensors that the output of a layer is computed from."""
        return _inputs(self._backbone.taps[name])

    def crossing(self, trained: tuple[str, ...]) -> tuple[str, ...]:
        """The frozen layers from whose outputs the trained layers, and all that depends on them, are computed.

        What has no name, such as a sum inside a layer, is computed again from what has one. The result is empty where
        the pixels are needed.
        """
        known = {id(self._backbone.taps[name]): name for name in self.names}
        crossing: dict[str, None] = {}
        reached = self._after(trained)
        waiting = [tensor for number in reached for tensor in _inputs(self._before[number])]
        for tensor in waiting:  # which grows meanwhile
            if tensor is self._backbone.input:
                return ()
            if id(tensor) in reached:
                continue
            reached[id(tensor)] = None
            if id(tensor) in known:
                crossing[known[id(tensor)]] = None
            else:
                waiting += _inputs(tensor)
        return tuple(crossing)

    def singles(self, trained: tuple[str, ...]) -> list[str]:
        """The last frozen layers that all paths from the pixels to the readout go through."""
        after, singles = self._after(trained), []
        for name in reversed(self.names):
            if id(self._backbone.taps[name]) in after:
                continue
            if self._backbone.frontier([name], [self._readout]) == {name}:
                singles.append(name)
                if len(singles) == MOST_SINGLES:
                    break
        return singles

    def _after(self, trained: tuple[str, ...]) -> dict[int, None]:
        """The ids of the outputs that depend on a trained layer, in the order of computation."""
        operations = {id(self.operation(name)) for name in trained}
        after: dict[int, None] = {}
        for number, tensor in self._before.items():
            if id(operation_of(tensor)) in operations or any(id(source) in after for source in _inputs(tensor)):
                after[number] = None
        return after


def _inputs(tensor: Any) -> list[Any]:
    return inputs_of(tensor)


def ancestors(tensor: Any) -> dict[int, Any]:
    """The tensor and all tensors that it depends on, by id, in the order of computation."""
    reached: dict[int, Any] = {}
    entered: set[int] = set()
    waiting = [(tensor, False)]
    while waiting:
        one, done = waiting.pop()
        if done:
            reached[id(one)] = one
        elif id(one) not in entered:
            entered.add(id(one))
            waiting.append((one, True))
            waiting += [(source, False) for source in reversed(_inputs(one))]
    return reached
