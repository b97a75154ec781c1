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

    Some of KerasHub's add numbers that they derive (`ViTPatchingAndEmbedding`, `DeiTEncoder`), or take no name
    (`SegFormerMultiheadAttention`); and Keras does not describe an `Identity` that was made with a dtype policy. It
    could not save them, or load them again.
    """
    kinds: dict[Any, bool] = {}  # whether an object can be made of what one of the class says of itself
    configs: dict[int, dict[str, Any]] = {}
    for layer in all_layers(model):
        if type(layer) not in kinds:
            kinds[type(layer)] = _loads(layer)
        if not kinds[type(layer)] and (config := _mended_config(layer)) is not None:
            configs[id(layer)] = config
    own: dict[Any, Any] = {
        type(layer): vars(type(layer)).get("get_config") for layer in all_layers(model) if id(layer) in configs
    }
    try:
        for kind in own:
            kind.get_config = _by_table(configs, kind.get_config)
        yield
    finally:
        for kind, get_config in own.items():
            if get_config is None:  # it is inherited
                del kind.get_config
            else:
                kind.get_config = get_config


def _by_table(configs: dict[int, dict[str, Any]], otherwise: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda layer: dict(configs[id(layer)]) if id(layer) in configs else otherwise(layer)


def _loads(layer: Any) -> bool:
    """Whether an object can be made of what a layer says of itself."""
    try:
        type(layer).from_config(layer.get_config())
    except CONFIG_ERRORS:
        return False
    return True


def _mended_config(layer: Any) -> dict[str, Any] | None:
    """The configuration of a layer, of what its constructors take alone; None where it cannot be had."""
    import keras  # heavy

    kind = type(layer)
    taken = _constructor_arguments(kind)
    try:
        config = layer.get_config()
    except NotImplementedError:
        plain = taken == _constructor_arguments(keras.layers.Layer)
        return {"name": layer.name, "trainable": layer.trainable, "dtype": layer.dtype_policy.name} if plain else None
    except AttributeError as error:  # of `DeiTEncoder`, which notes a number that it does not have
        if id(error.obj) != id(layer) or error.name is None or error.name in taken:
            return None
        setattr(layer, error.name, None)
        config = layer.get_config()
    except CONFIG_ERRORS:
        return None
    of_hub = kind.__module__.partition(".")[0] == "keras_hub"
    return {name: value for name, value in config.items() if name in taken} if of_hub else None


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
