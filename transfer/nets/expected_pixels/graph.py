"""The layers that the configuration of a net describes, as one flat list. Keras is not imported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

INPUT = "InputLayer"
_GRAPHS = ("Functional", "Model")


@dataclass(frozen=True)
class Tensor:
    """Stands for the output of a node among the arguments of another.

    Attributes
    ----------
    node : int
        The position of the node in the list.
    """

    node: int


@dataclass(frozen=True)
class Node:
    """One use of a layer or an operation.

    Attributes
    ----------
    kind : str
        The class of the layer.
    config : dict
        What the layer was made with.
    arguments : list
        What it is called with, by position and then by name: a `Tensor` where that is the output of another node.
    path : tuple of str
        The names of the models that it is in, from the outermost, and its own.
    """

    kind: str
    config: dict[str, Any]
    arguments: list[Any]
    path: tuple[str, ...]

    @property
    def inputs(self) -> list[int]:
        """Positions of the nodes whose outputs it is computed from."""
        return [tensor.node for tensor in _tensors(self.arguments)]


def nodes_of(config: dict[str, Any]) -> list[Node]:
    """The uses of layers in a net, each after those that it is computed from; nested models give way to their layers.

    Parameters
    ----------
    config : dict
        The net as a ``.keras`` file of Keras 3 has it.

    Raises
    ------
    ValueError, KeyError, TypeError, IndexError
        When the configuration is not what Keras writes.
    """
    nodes: list[Node] = []
    _add_model(config, None, (), nodes)
    return nodes


def _add_model(
    model: dict[str, Any], given: Sequence[int] | None, path: tuple[str, ...], nodes: list[Node]
) -> list[int]:
    """Append the nodes of a model that is called with the outputs `given`, or with inputs of its own.

    Returns
    -------
    list of int
        The nodes that its outputs come from.
    """
    if model["class_name"] == "Sequential":
        return _add_chain(model["config"]["layers"], given, path, nodes)
    return _add_graph(model["config"], given, path, nodes)


def _add_chain(
    layers: list[dict[str, Any]], given: Sequence[int] | None, path: tuple[str, ...], nodes: list[Node]
) -> list[int]:
    at = list(given) if given is not None else []
    for layer in layers:
        if layer["class_name"] == INPUT and at:
            continue
        if layer["class_name"] != INPUT and not at:  # a Sequential that was built by its first call
            at = [_add(nodes, Node(INPUT, {}, [], path))]
        at = _add_layer(layer, [Tensor(node) for node in at], path, nodes)
    return at


def _add_graph(
    graph: dict[str, Any], given: Sequence[int] | None, path: tuple[str, ...], nodes: list[Node]
) -> list[int]:
    outputs: dict[tuple[str, int], list[int]] = {}  # nodes of each use of a layer
    if given is not None:
        names = [end[0] for end in _ends(graph["input_layers"])]
        outputs = {(name, 0): [node] for name, node in zip(names, given, strict=True)}
    waiting = [(layer, number) for layer in graph["layers"] for number in range(len(layer["inbound_nodes"]) or 1)]
    counts = {layer["name"]: len(layer["inbound_nodes"]) or 1 for layer in graph["layers"]}

    def node_at(history: Sequence[Any]) -> int:
        name, use, output = history
        # Keras counts the making of a nested model as its first use in some versions, and in others not.
        found = outputs[name, min(use, counts[name] - 1)]
        return found[min(output, len(found) - 1)]

    while waiting:
        later = []
        for layer, use in waiting:
            if (layer["name"], use) in outputs:
                continue
            call = layer["inbound_nodes"][use] if layer["inbound_nodes"] else {}
            arguments = [*call.get("args", []), *call.get("kwargs", {}).values()]
            try:
                filled = _with_nodes(arguments, node_at)
            except _NotYet:
                later.append((layer, use))
                continue
            outputs[layer["name"], use] = _add_layer(layer, filled, path, nodes)
        if len(later) == len(waiting):
            raise ValueError("the layers depend on each other in a circle")
        waiting = later
    return [node_at(end) for end in _ends(graph["output_layers"])]


class _NotYet(Exception):
    """A layer is computed from one that comes later in the list."""


def _with_nodes(part: Any, node_at: Any) -> Any:
    """The arguments of a call, with a `Tensor` for each output of another layer."""
    if isinstance(part, list):
        return [_with_nodes(one, node_at) for one in part]
    if not isinstance(part, dict):
        return part
    if part.get("class_name") == "__keras_tensor__":
        try:
            return Tensor(node_at(part["config"]["keras_history"]))
        except KeyError:
            raise _NotYet from None
    return part


def _add_layer(layer: dict[str, Any], arguments: list[Any], path: tuple[str, ...], nodes: list[Node]) -> list[int]:
    kind, config = layer["class_name"], layer.get("config") or {}
    inside = (*path, str(config.get("name") or layer.get("name") or kind))
    if kind == "Sequential" or (kind in _GRAPHS and "layers" in config):
        return _add_model(layer, [tensor.node for tensor in _tensors(arguments)], inside, nodes)
    return [_add(nodes, Node(kind, config, arguments, inside))]


def _add(nodes: list[Node], node: Node) -> int:
    nodes.append(node)
    return len(nodes) - 1


def _tensors(part: Any) -> Iterator[Tensor]:
    if isinstance(part, Tensor):
        yield part
    elif isinstance(part, list):
        for one in part:
            yield from _tensors(one)


def _ends(part: Any) -> list[Any]:
    """The triples of layer, use and output, however they are nested."""
    if isinstance(part, dict):
        part = list(part.values())
    if isinstance(part, list) and len(part) == 3 and isinstance(part[0], str):
        return [part]
    return [end for one in part for end in _ends(one)] if isinstance(part, list) else []
