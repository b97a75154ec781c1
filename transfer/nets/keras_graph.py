"""The graph of a Keras model: the only file that uses names of Keras that are not public.

Keras has no public way to ask which layer a tensor comes from, or to run a model's graph with other operations. What
is needed of that is here, so that a new version of Keras can break one file only. Keras itself is not imported.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

# What layers that hold layers call of them, in order, once run on shapes (see `transfer.nets.inner_layers`).
calls_inside: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()

# What layers raise that cannot say what they are made of, or cannot be made of what they said.
CONFIG_ERRORS = (AttributeError, NotImplementedError, TypeError, ValueError)


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


@contextlib.contextmanager
def intercepted_layers(handler: Callable[..., Any]) -> Iterator[None]:
    """Have all calls of layers go to a function meanwhile.

    Parameters
    ----------
    handler : callable
        Called as ``handler(call, layer, args, kwargs)``, where ``call(*args, **kwargs)`` is what would have happened.
    """
    import keras  # heavy

    original = keras.layers.Layer.__call__

    @functools.wraps(original)
    def intercepted(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return handler(functools.partial(original, layer), layer, args, kwargs)

    keras.layers.Layer.__call__ = intercepted
    try:
        yield
    finally:
        keras.layers.Layer.__call__ = original


@contextlib.contextmanager
def renamed(names: Iterable[tuple[Any, str]]) -> Iterator[None]:
    """Give layers other names meanwhile: Keras refuses a graph in which two of them have the same.

    Parameters
    ----------
    names : iterable of (layer, str)
        Names without a slash.
    """
    before = []
    try:
        for layer, name in names:
            before.append((layer, layer.name))
            layer.name = name
        yield
    finally:
        for layer, name in reversed(before):
            layer.name = name


@contextlib.contextmanager
def loadable_configs(model: Any) -> Iterator[None]:
    """Have layers describe themselves, meanwhile, by what their own constructors take back.

    Some of KerasHub's add numbers that they derive (`ViTPatchingAndEmbedding`, `DeiTEncoder`), or take no name; and
    Keras does not describe an `Identity` that was made with a dtype policy. It could not save them, or load them again.
    """
    original: dict[Any, Any] = {}
    try:
        for kind, layer in {type(layer): layer for layer in all_layers(model)}.items():
            if mended := _mended_config(layer):
                original[kind] = vars(kind).get("get_config")
                kind.get_config = mended
        yield
    finally:
        for kind, get_config in original.items():
            if get_config is None:
                del kind.get_config
            else:
                kind.get_config = get_config


def _mended_config(layer: Any) -> Callable[[Any], dict[str, Any]] | None:
    """What is to stand in for `get_config` of the class of a layer; None where that does, or cannot be helped."""
    import keras  # heavy

    kind = type(layer)
    taken, package = _constructor_arguments(kind), kind.__module__.partition(".")[0]
    try:
        kind.from_config(layer.get_config())
    except NotImplementedError:
        plain = taken == _constructor_arguments(keras.layers.Layer)
        return (lambda layer: keras.layers.Layer.get_config(layer)) if plain else None
    except CONFIG_ERRORS:
        described = kind.get_config
        surplus = package == "keras_hub" and "get_config" in vars(kind)
        return (lambda layer: _without_surplus(described, layer, taken)) if surplus else None
    return None


def _without_surplus(described: Callable[[Any], dict[str, Any]], layer: Any, taken: set[str]) -> dict[str, Any]:
    """The configuration of a layer, without what its constructors do not take."""
    try:
        config = described(layer)
    except AttributeError as error:  # of `DeiTEncoder`, which notes a number that it does not have
        if error.obj is not layer or error.name is None or error.name in taken:
            raise
        setattr(layer, error.name, None)
        config = described(layer)
    return {name: value for name, value in config.items() if name in taken}


def _constructor_arguments(kind: type) -> set[str]:
    """The names of the arguments that constructing an object of a class takes, those of its base classes included."""
    taken: set[str] = set()
    for base in kind.__mro__:
        if inspect.isfunction(constructor := vars(base).get("__init__")):
            parameters = inspect.signature(constructor).parameters.values()
            taken |= {one.name for one in parameters if one.kind is not one.VAR_KEYWORD}
            if not any(one.kind is one.VAR_KEYWORD for one in parameters):
                break  # it takes nothing for its base classes
    return taken


def own_variables(layer: Any) -> list[Any]:
    """The variables of a layer that belong to none of the layers inside it, but for the seeds of random numbers."""
    variables: list[Any] = [*layer._trainable_variables, *layer._non_trainable_variables]
    return variables


def as_inputs_of(layer: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments in the dtype that a layer computes in, as Keras hands them to its code.

    ``training`` is left out where the code does not take it.
    """
    import keras  # heavy

    if "training" in kwargs and "training" not in inspect.signature(layer.call).parameters:
        kwargs = {name: value for name, value in kwargs.items() if name != "training"}

    def convert(value: Any) -> Any:
        return layer.dtype_policy.convert_input(value, layer.autocast, layer.input_dtype)

    return keras.tree.map_structure(convert, args), keras.tree.map_structure(convert, kwargs)


def run_on_shapes(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function with tensors of the backend that have a shape, but no values."""
    from keras.src.backend import compute_output_spec  # heavy

    return compute_output_spec(function, *args, **kwargs)


def set_shape(tensor: Any, shape: tuple[int | None, ...]) -> None:
    """Say more of the shape of a symbolic tensor than the layer did that it comes from."""
    tensor._shape = shape


def output_number(tensor: Any) -> int:
    """Which output of its operation a symbolic tensor is."""
    return int(tensor._keras_history.tensor_index)


def _graph_of(model: Any) -> Any:
    """The object that holds a model's graph: the model itself, or what a Sequential holds inside."""
    return getattr(model, "_functional", None) or model
