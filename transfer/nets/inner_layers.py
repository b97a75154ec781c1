"""The outputs of all layers of a net, by name: of those in its graph, and of the layers inside layers.

A transformer's blocks are layers inside a layer: its code calls them, and Keras's graph has one node for them all. They
are reached in two ways. Where the code of the outer layer can be run on symbolic tensors, it is, and its inner layers
become nodes of the graph: a net can be cut between them, started from their outputs, and trained from them on. Where it
cannot (it uses weights of its own, or asks for the size of the batch), it stays one node, and a second one, a
`Recorded` layer, calls it again and gives the outputs of its inner layers. What both compute is computed once by
backends that compile; what is not asked for, not at all.

This module imports Keras.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from transfer.nets.keras_graph import (
    all_layers,
    as_inputs_of,
    calls_inside,
    has_graph,
    intercepted_layers,
    operation_of,
    own_variables,
    renamed,
    run_graph,
    run_on_shapes,
    set_shape,
)

# Their code calls inner layers inside a loop, whose tensors cannot be read from outside.
_LOOPS = (keras.layers.RNN, keras.layers.TimeDistributed, keras.layers.Bidirectional)
_TRIAL_BATCH = 3  # images: the first axis of what has a row for each


@dataclass(frozen=True)
class LayerCall:
    """A call of a layer that is no node of the graph.

    Attributes
    ----------
    layer : keras.layers.Layer
    input_tensors, outputs : list
        With the attribute `shape`, as nodes of the graph have them.
    first : int
        The number of calls that had been recorded when it began: those from there on are inside it.
    rows : int
        The number of rows that it computes of an image.
    """

    layer: Any
    input_tensors: list[Any]
    outputs: list[Any]
    first: int
    rows: int = 1
    is_input = False


class _Cannot(Exception):
    """The code of a layer cannot be run on symbolic tensors."""


def looks_inside(layer: Any) -> bool:
    """Whether a layer calls layers of its own that can be reached."""
    if not isinstance(layer, keras.layers.Layer) or isinstance(layer, _LOOPS):
        return False
    return next(iter(all_layers(layer, itself=False)), None) is not None


class Recorded(keras.layers.Layer):
    """A layer that gives the outputs of the layers that another one calls.

    Parameters
    ----------
    layer : keras.layers.Layer
    arguments : (tuple, dict)
        What it is called with. Symbolic tensors in it are places for those that this layer is called with.

    Attributes
    ----------
    names : list of str
        The paths of the inner layers inside `layer`, in the order of the outputs, once it has been called.
    called : list of Layer
        They themselves.
    """

    def __init__(self, layer: Any, arguments: tuple[Any, Any]) -> None:
        super().__init__(dtype=layer.dtype_policy, autocast=False)
        self.layer = layer
        self._arguments = arguments
        self.names: list[str] = []
        self.called: list[Any] = []
        self._convert_input_args = False
        self.built = True

    def call(self, tensors: list[Any]) -> list[Any]:
        """The outputs of the inner layers."""
        recorder, given = Recorder(), iter(tensors)
        args, kwargs = keras.tree.map_structure(
            lambda value: next(given) if isinstance(value, keras.KerasTensor) else value, self._arguments
        )
        with recorder.recording():
            self.layer(*args, **kwargs)
        *inner, _ = recorder.outputs  # the layer itself comes last
        self.names = [name[len(self.layer.name) + 1 :] for name in inner]
        self.called = [recorder.calls[name].layer for name in inner]
        return [recorder.outputs[name] for name in inner]


class Recorder:
    """Notes the outputs of all layers that are called meanwhile, by path.

    Attributes
    ----------
    outputs : dict of str to tensor or structure
        In the order in which the layers returned; ``name``, ``name:2`` and so on where a layer is called again.
    calls : dict of str to LayerCall
    """

    def __init__(self) -> None:
        self.outputs: dict[str, Any] = {}
        self.calls: dict[str, LayerCall] = {}
        self._path: list[str] = []

    def recording(self) -> contextlib.AbstractContextManager[None]:
        return intercepted_layers(_in_this_thread(self._call))

    def _call(self, call: Callable[..., Any], layer: Any, args: Any, kwargs: Any) -> Any:
        first = len(self.outputs)
        self._path.append(layer.name)
        try:
            output = call(*args, **kwargs)
            name = unused("/".join(self._path), self.outputs)
        finally:
            self._path.pop()
        if (main := main_output(output)) is not None or not self._path:
            self.outputs[name] = output if main is None else main
            inputs = [_Shape(x) for x in keras.tree.flatten((args, kwargs)) if _is_tensor(x)]
            tensors = [_Shape(x) for x in keras.tree.flatten(output) if _is_tensor(x)]
            first_axis = next(iter(tensors[0].shape), None) if tensors else None
            rows = max(1, first_axis // _TRIAL_BATCH) if isinstance(first_axis, int) else 1  # JAX's may be symbols
            self.calls[name] = LayerCall(layer, inputs, tensors, first, rows)
        return output


class _Shape:
    """The shape of a tensor, without the tensor."""

    def __init__(self, tensor: Any) -> None:
        self.shape = tuple(tensor.shape)


def shapes_inside(model: Any, shape: tuple[int, ...]) -> dict[str, tuple[int | None, ...]]:
    """The shapes of the outputs of all layers of a model for a batch of `_TRIAL_BATCH` images.

    Parameters
    ----------
    shape : tuple of int
        Of one input.
    """
    recorder = Recorder()

    def run(inputs: Any) -> list[Any]:
        with recorder.recording():
            model(inputs, training=False)
        return [output for output in recorder.outputs.values() if not is_structure(output)]

    run_on_shapes(run, keras.KerasTensor((_TRIAL_BATCH, *shape)))
    calls = list(recorder.calls.values())
    for number, call in enumerate(calls):
        if call.first < number:
            inner = [replace(one, first=max(0, one.first - call.first)) for one in calls[call.first : number + 1]]
            calls_inside[call.layer] = inner
    return {
        name[len(model.name) + 1 :]: tuple(output.shape)
        for name, output in recorder.outputs.items()
        if name != model.name and not is_structure(output)
    }


class Tracer:
    """Runs a net on symbolic tensors, nested models inlined, and notes the output of every layer.

    A layer that is used several times is ``name``, ``name:2`` and so on.

    Parameters
    ----------
    given : mapping of str to KerasTensor, optional
        Take the place of outputs.
    inside : bool
        Whether layers inside layers are reached, too.
    shapes : mapping of str to tuple, optional
        What `shapes_inside` found: layers may say other shapes of themselves, which code after them goes by.

    Attributes
    ----------
    taps : dict of str to KerasTensor
        The output of every layer, in the order of computation; ``outer/inner`` for a layer inside another.
    layers : dict of str to Layer or Operation
        What was called.
    inner : dict of str to Layer
        The layers that code of an outer layer has called, whether their output has a name or not.
    """

    def __init__(
        self,
        given: Mapping[str, Any] | None = None,
        *,
        inside: bool = False,
        shapes: Mapping[str, tuple[int | None, ...]] | None = None,
    ) -> None:
        self.taps: dict[str, Any] = {}
        self.layers: dict[str, Any] = {}
        self.inner: dict[str, Any] = {}
        self._given = given or {}
        self._shapes = shapes or {}
        self._runs: dict[int, bool] = {}  # by the id of a layer: whether its code can be run on symbolic tensors
        self._inside = inside
        self._prefixes: list[str | None] = []  # of the layer whose code is being run; None where calls are let pass

    def run(self, model: Any, inputs: Any) -> Any:
        """The output of the model, or a structure of them."""
        if not self._inside:
            return self._run_graph(model, inputs, "")
        with intercepted_layers(_in_this_thread(self._intercept)):
            return self._run_graph(model, inputs, "") if has_graph(model) else self._open(model, (inputs,), {}, "")

    def _run_graph(self, model: Any, inputs: Any, prefix: str) -> Any:
        def step(operation: Any) -> Callable[..., Any]:
            return lambda *args, **kwargs: self._call(operation, args, kwargs, prefix)

        return run_graph(model, inputs, step)

    def _call(self, operation: Any, args: Any, kwargs: Any, prefix: str, call: Callable[..., Any] | None = None) -> Any:
        """Call an operation, or what it is made of, and note its output."""
        if has_graph(operation) and len(args) == 1 and not is_structure(args[0]):
            output = self._run_graph(operation, args[0], f"{prefix}{operation.name}/")
        elif self._inside and looks_inside(operation):
            output = self._open(operation, args, kwargs, f"{prefix}{operation.name}/", call)
        else:
            output = self._closed(call or operation, args, kwargs)
            if main_output(output) is None and not getattr(operation, "weights", ()):
                constants = self._closed(constants_of, (call or operation, args, kwargs, output), {})
                output = output if constants is None else constants
            if call and isinstance(output, keras.KerasTensor) and None in output.shape[1:]:
                # What layers say of their shape without being run is not always all that is known.
                set_shape(output, self._closed(run_on_shapes, (call, *args), kwargs).shape)
        if (main := main_output(output)) is None:
            # One that cannot be taken apart is trained, or not, as a whole: it has a name, for the first output.
            first = next((x for x in keras.tree.flatten(output) if isinstance(x, keras.KerasTensor)), None)
            if first is None or first.shape[:1] != (None,) or operation_of(first) is not operation:
                return output
            if not (self._inside and looks_inside(operation)):
                return output
            main = first
        noted = self._note(f"{prefix}{operation.name}", main, operation)
        return keras.tree.map_structure(lambda value: noted if value is main else value, output)

    def _note(self, path: str, output: Any, layer: Any) -> Any:
        name = unused(path, self.taps)
        output = self.taps[name] = self._given.get(name, output)
        self.layers[name] = layer
        correct_shapes({name: output}, self._shapes)
        return output

    def _open(self, layer: Any, args: Any, kwargs: Any, prefix: str, call: Callable[..., Any] | None = None) -> Any:
        """The output of a layer that calls layers of its own, each of which is noted."""
        if self._can_run(layer, args, kwargs, prefix):
            return self._symbolic(layer, args, kwargs, prefix)
        tensors = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]
        recorded = Recorded(layer, (args, kwargs))
        outputs = self._closed(recorded, (tensors,), {})
        for name, tensor, inner in zip(recorded.names, outputs, recorded.called, strict=True):
            if tensor.shape and tensor.shape[0] is None:
                self._note(f"{prefix}{name}", tensor, inner)
        return self._closed(call or layer, args, kwargs)

    def _can_run(self, layer: Any, args: Any, kwargs: Any, prefix: str) -> bool:
        """Whether the code of a layer can be run on symbolic tensors, and gives a graph that computes batches."""
        if id(layer) not in self._runs:
            before = self.taps, self.layers, self.inner, self._given
            self.taps, self.layers, self.inner, self._given = {}, {}, {}, {}
            try:
                self._runs[id(layer)] = not own_variables(layer) and self._try(layer, args, kwargs, prefix)
            except Exception:  # code that is not made for symbolic tensors raises any type
                self._runs[id(layer)] = False
            finally:
                self.taps, self.layers, self.inner, self._given = before
        return self._runs[id(layer)]

    def _try(self, layer: Any, args: Any, kwargs: Any, prefix: str) -> bool:
        inputs: list[Any] = []

        def stand_in(value: Any) -> Any:
            if not isinstance(value, keras.KerasTensor):
                return value
            inputs.append(keras.Input(batch_shape=value.shape, dtype=value.dtype))
            return inputs[-1]

        args, kwargs = keras.tree.map_structure(stand_in, (args, kwargs))
        output = self._symbolic(layer, args, kwargs, prefix)
        self._prefixes.append(None)
        try:
            with renamed((inner, name.replace("/", "_")) for name, inner in self.inner.items()):
                graph = keras.Model(inputs, [x for x in keras.tree.flatten(output) if isinstance(x, keras.KerasTensor)])
            shapes = [(_TRIAL_BATCH if x.shape[:1] == (None,) else x.shape[0], *x.shape[1:]) for x in inputs]
            run_on_shapes(graph, [keras.KerasTensor(s, x.dtype) for s, x in zip(shapes, inputs, strict=True)])
        finally:
            self._prefixes.pop()
        return True

    def _symbolic(self, layer: Any, args: Any, kwargs: Any, prefix: str) -> Any:
        """Run the code of a layer on symbolic tensors, so that the layers it calls become nodes of the graph."""
        args, kwargs = as_inputs_of(layer, args, kwargs)
        self._prefixes.append(prefix)
        try:
            output = layer.call(*args, **kwargs)
        finally:
            self._prefixes.pop()
        return output

    def _closed(self, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call a layer as it is, whatever it calls itself."""
        self._prefixes.append(None)
        try:
            return call(*args, **kwargs)
        finally:
            self._prefixes.pop()

    def _intercept(self, call: Callable[..., Any], layer: Any, args: Any, kwargs: Any) -> Any:
        """Stand in for the call of a layer, where code of an outer layer is being run on symbolic tensors."""
        prefix = self._prefixes[-1] if self._prefixes else None
        if prefix is None:
            return call(*args, **kwargs)
        if any(isinstance(value, keras.KerasTensor) for value in keras.tree.flatten((args, kwargs))):
            self.inner[unused(f"{prefix}{layer.name}", self.inner)] = layer
            return self._call(layer, args, kwargs, prefix, call)
        if layer.weights:  # its output would be a constant, whatever its weights become
            raise _Cannot
        return call(*args, **kwargs)


def closed_in(tensor: Any) -> Any:
    """The layer that cannot be taken apart and has inside it the one that a tensor is the output of; else None."""
    operation = operation_of(tensor)
    return operation.layer if isinstance(operation, Recorded) else None


def has_row_for_each(shape: tuple[int | None, ...]) -> bool:
    """Whether an output has a row for each image, by its shape as `shapes_inside` gives it."""
    return bool(shape) and shape[0] == _TRIAL_BATCH


def correct_shapes(taps: Mapping[str, Any], shapes: Mapping[str, tuple[int | None, ...]]) -> None:
    """Give symbolic tensors the shapes that `shapes_inside` found, where layers say others of themselves."""
    for name, tensor in taps.items():
        if has_row_for_each(shape := shapes.get(name, ())) and tuple(tensor.shape[1:]) != shape[1:]:
            set_shape(tensor, (None, *shape[1:]))


def constants_of(call: Callable[..., Any], args: Any, kwargs: Any, output: Any) -> Any:
    """The values of outputs without an axis for images, if they are the same for all: a table of positions, say.

    Code after them does not depend on images through them, and can be computed from stored outputs of other layers.
    None where they are not the same, or have such an axis.
    """
    symbolic = [value for value in keras.tree.flatten(output) if isinstance(value, keras.KerasTensor)]
    if not symbolic or any(not tensor.shape or tensor.shape[0] is None for tensor in symbolic):
        return None
    draws = np.random.default_rng(0)

    def images(count: int) -> Any:
        def drawn(value: Any) -> Any:
            if not isinstance(value, keras.KerasTensor):
                return value
            return keras.ops.cast(draws.uniform(0, 1, (count, *value.shape[1:])), value.dtype)

        return keras.tree.map_structure(drawn, (args, kwargs))

    try:
        results = [call(*given[0], **given[1]) for given in (images(1), images(2))]
        one, other = ([keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(result)] for result in results)
    except Exception:  # code that does not take such images raises any type
        return None
    same = all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    return results[0] if same else None


def main_output(output: Any) -> Any:
    """The tensor that a layer gives: also that of a structure in which there is no other, but for empty ones.

    None where there are several: none of them has the name of the layer.
    """
    if not is_structure(output):
        return output
    tensors = [value for value in keras.tree.flatten(output) if _is_tensor(value)]
    some = [tensor for tensor in tensors if not any(type(side) is int and side == 0 for side in tensor.shape)]
    return some[0] if len(some) == 1 else None


def is_structure(output: Any) -> bool:
    """Whether an output is several tensors, or something else that has no name of its own."""
    return isinstance(output, (list, tuple, dict)) or not _is_tensor(output)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def unused(path: str, taken: Mapping[str, Any]) -> str:
    """The path, with a number where it is taken."""
    name, uses = path, 1
    while name in taken:
        uses += 1
        name = f"{path}:{uses}"
    return name


def _in_this_thread(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The handler of intercepted calls, which lets those of other threads pass."""
    own = threading.get_ident()

    def handle(call: Callable[..., Any], layer: Any, args: Any, kwargs: Any) -> Any:
        return handler(call, layer, args, kwargs) if threading.get_ident() == own else call(*args, **kwargs)

    return handle
