"""The graph of a Keras model: the only file that uses names of Keras that are not public.

Keras has no public way to ask which layer a tensor comes from, or to run a model's graph with other operations. What
is needed of that is here, so that a new version of Keras can break one file only. Keras itself is not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def operation_of(tensor: Any) -> Any:
    """The layer or operation that a symbolic tensor is an output of."""
    return tensor._keras_history.operation


def node_of(tensor: Any) -> Any:
    """The call of an operation that a symbolic tensor is an output of: it has `input_tensors` and `outputs`."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


def nodes_of(operation: Any) -> list[Any]:
    """All calls of a layer or operation."""
    nodes: list[Any] = operation._inbound_nodes
    return nodes


def inputs_of(tensor: Any) -> list[Any]:
    """The symbolic tensors that a symbolic tensor is computed from in one step."""
    tensors: list[Any] = node_of(tensor).input_tensors
    return tensors


def all_layers(layer: Any, *, itself: bool = True) -> Iterator[Any]:
    """A layer or model and all layers inside it, at any depth; without the outermost one by ``itself=False``."""
    yield from layer._flatten_layers(include_self=itself)


def has_graph(layer: Any) -> bool:
    """Whether this is a model that is a graph of layers, and not a layer or a model with code of its own."""
    import keras  # heavy

    if isinstance(layer, keras.Sequential):
        return getattr(layer, "_functional", None) is not None
    return isinstance(layer, keras.Model) and hasattr(layer, "_run_through_graph")


def operations_of(model: Any) -> list[Any]:
    """The layers and operations of a model's graph; models among them are not looked into."""
    operations: list[Any] = _graph_of(model).operations
    return operations


def run_graph(model: Any, inputs: Any, operation_fn: Callable[[Any], Callable[..., Any]]) -> Any:
    """Call the operations of a model's graph one after another, each replaced by what `operation_fn` makes of it.

    Parameters
    ----------
    model : keras.Model
        One that has a graph (see `has_graph`).
    inputs : KerasTensor or structure of them
        What the model is called with.
    operation_fn : callable
        From an operation to the function that is called in its place, with the same arguments.

    Returns
    -------
    KerasTensor or structure of them
        The outputs of the model.
    """
    return _graph_of(model)._run_through_graph(
        inputs, operation_fn=operation_fn, call_fn=lambda call, *args, **kwargs: call(*args, **kwargs)
    )


def _graph_of(model: Any) -> Any:
    """The object that holds a model's graph: the model itself, or what a Sequential holds inside."""
    return getattr(model, "_functional", None) or model
