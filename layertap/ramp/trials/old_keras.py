"""Lets Keras 3 accept the calls of Keras 1 and 2 that `keras2_compat.outdated` finds."""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from layertap.ramp.trials.keras2_compat import GENERATOR, MODULES, OF_LAYERS, OPTIMIZERS, ORDERS, SHORT

DROPPED = ("workers", "use_multiprocessing", "max_queue_size", "pickle_safe", "max_q_size", "nb_worker")
RENAMED = {"nb_epoch": "epochs"}
STEPS = {"steps", "steps_per_epoch", "validation_steps"}  # once they could be fractions
# Numbers of images, what they are numbers of batches, and whose.
SAMPLES = {
    "samples_per_epoch": ("steps_per_epoch", "x"),
    "nb_val_samples": ("validation_steps", "validation_data"),
    "val_samples": ("steps", "x"),
}
# Positional arguments of the calls for generators, after the generator.
_ORDER = {
    "fit": ("steps_per_epoch", "epochs", "verbose", "callbacks", "validation_data", "validation_steps"),
    "predict": ("steps", "callbacks"),
    "evaluate": ("steps", "callbacks"),
}


def let_nets_take_channels_first() -> None:
    """Let TensorFlow train nets of which images have their channels first, on every processor.

    TensorFlow's own convolutions cannot do so on a CPU. Those of oneDNN can, and are the default on recent processors
    only. To be called before TensorFlow is imported; what the user has set in ``TF_ENABLE_ONEDNN_OPTS`` is kept.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def translate() -> None:
    """Add the calls of Keras 1 and 2 to Keras 3, for the rest of this process."""
    import keras  # slow to load

    for name in MODULES:
        _stand_in(keras, name)
    _stand_in_for_generator()
    _restore_backend(keras)
    keras.Model.fit = _with_short_names(keras.Model.fit, keras.callbacks.Callback)
    for name in ("fit", "predict", "evaluate"):
        current = getattr(keras.Model, name)
        setattr(keras.Model, name, _with_old_arguments(current, name))
        setattr(keras.Model, f"{name}_generator", _with_old_arguments(current, name, _ORDER[name]))
    keras.Model.predict_proba = keras.Model.predict
    keras.Model.predict_classes = lambda self, *args, **options: self.predict(*args, **options).argmax(axis=-1)
    for name in OPTIMIZERS:
        kind = getattr(keras.optimizers, name)
        kind.__init__ = _with_rate(kind.__init__, keras.optimizers.schedules.InverseTimeDecay)
    keras.optimizers.Optimizer.lr = property(_rate, _set_rate)
    _rename_arguments(keras)


def _stand_in(keras: Any, name: str) -> None:
    """Create a module that Keras 3 has removed, with the names that have moved to other modules."""
    module = ModuleType(name)
    places = (keras.layers, keras.models, keras.utils, keras.initializers, keras.losses)

    def find(what: str) -> Any:
        for place in places:
            if not what.startswith("__") and hasattr(place, what):
                return getattr(place, what)
        raise AttributeError(f"Keras 3 has no {what}, which was in {name}")

    module.__getattr__ = find  # type: ignore[method-assign]
    module.__path__ = []  # some of them held others
    parent, _, last = name.rpartition(".")
    if parent not in sys.modules:
        sys.modules[parent] = ModuleType(parent)
    setattr(sys.modules[parent], last, module)
    sys.modules[name] = module


def _stand_in_for_generator() -> None:
    """Restore the augmenting generator of images, which `tensorflow.keras` still has."""
    try:
        import tensorflow  # slow to load
    except ImportError:
        return
    package, _, name = GENERATOR.rpartition(".")
    setattr(importlib.import_module(package), name, getattr(tensorflow.keras.preprocessing.image, name))


def _restore_backend(keras: Any) -> None:
    """Restore functions of the backend: the order of axes by its names in Keras 1, and what TensorFlow still has."""
    names = {order: name for name, order in ORDERS.items()}
    keras.backend.image_dim_ordering = lambda: names[keras.config.image_data_format()]
    keras.backend.set_image_dim_ordering = lambda name: keras.config.set_image_data_format(ORDERS[name])
    keras.backend.get_value = keras.ops.convert_to_numpy
    keras.backend.set_value = lambda variable, value: variable.assign(value)
    try:
        import tensorflow  # slow to load
    except ImportError:
        return
    older = tensorflow.keras.backend
    for name in dir(older):
        if not hasattr(keras.backend, name):
            setattr(keras.backend, name, getattr(older, name))


def _with_short_names(method: Any, callback: Any) -> Any:
    class Short(callback):
        """Logs the accuracy under its former name too, for later callbacks and for the history."""

        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            if logs is not None:
                logs |= {short: logs[name] for short, name in SHORT.items() if name in logs and short not in logs}

    @functools.wraps(method)
    def called(*args: Any, **options: Any) -> Any:
        call = inspect.signature(method).bind(*args, **options)
        given = call.arguments.get("callbacks") or []
        given = list(given) if isinstance(given, list | tuple) else [given]
        for one in given:
            if getattr(one, "monitor", None) in SHORT and getattr(one, "mode", None) == "auto":
                one.mode = "max"  # Keras tells the way by the metric, and knows none of that name
        call.arguments["callbacks"] = [Short(), *given]
        return method(*call.args, **call.kwargs)

    return called


def _with_old_arguments(method: Any, name: str, order: tuple[str, ...] = ()) -> Any:
    """A method that also takes the arguments of earlier versions; `order` names the positional ones for generators."""
    parameters = ("x", *order) if order else tuple(inspect.signature(method).parameters)[1:]

    @functools.wraps(method)
    def called(self: Any, *args: Any, **options: Any) -> Any:
        options |= dict(zip(parameters, args, strict=False))
        if "generator" in options:
            options["x"] = options.pop("generator")
        options = {RENAMED.get(key, key): value for key, value in options.items() if key not in DROPPED}
        if name == "predict":
            options.setdefault("verbose", 0)  # as it was by default: there is no bar for each batch of ramp-workflow
        for source in ("x", "validation_data"):
            if _is_generator(options.get(source)):
                options[source] = _in_tuples(options[source], has_targets=name != "predict")
        for samples, (steps, source) in SAMPLES.items():
            if samples in options:
                options[steps], options[source] = _steps(options.pop(samples), options.get(source))
        for steps in STEPS & options.keys():
            options[steps] = options[steps] and math.ceil(options[steps])
        return method(self, **options)

    return called


def _is_generator(batches: Any) -> bool:
    return isinstance(batches, Iterator) and not isinstance(batches, sys.modules["keras"].utils.PyDataset)


def _in_tuples(batches: Iterator[Any], *, has_targets: bool) -> Iterator[tuple[Any, ...]]:
    """Batches as tuples, which Keras 3 requires; earlier versions took images alone, or lists."""
    for batch in batches:
        if isinstance(batch, list):
            batch = tuple(batch) if has_targets else (tuple(batch),)
        yield batch if isinstance(batch, tuple) else (batch,)


def _steps(samples: int, batches: Any) -> tuple[int | None, Any]:
    """The number of batches with so many images, by the size of the first batch, and all batches including it."""
    if not _is_generator(batches):
        return None, batches
    first = next(batches)

    def every() -> Iterator[Any]:  # Keras takes no iterators but generators
        yield first
        yield from batches

    return max(1, math.ceil(samples / len(first[0]))), every()


def _with_rate(method: Any, falling: Any) -> Any:
    default = inspect.signature(method).parameters["learning_rate"].default

    @functools.wraps(method)
    def wrapper(self: Any, *args: Any, **options: Any) -> None:
        if "lr" in options:
            options["learning_rate"] = options.pop("lr")
        if options.get("epsilon", 0) is None:
            del options["epsilon"]
        options.pop("schedule_decay", None)
        decay = options.pop("decay", 0)
        if decay:  # Keras 1 and 2: the rate over 1 + decay * steps
            rate = options.get("learning_rate", args[0] if args else default)
            options["learning_rate"], args = falling(rate, 1, decay), args[1:]
        method(self, *args, **options)

    return wrapper


def _rate(optimizer: Any) -> Any:
    return optimizer.learning_rate


def _set_rate(optimizer: Any, rate: Any) -> None:
    optimizer.learning_rate = rate


def _rename_arguments(keras: Any) -> None:
    """Let layers and models accept the arguments of Keras 1."""
    layers = keras.layers
    for name, names in OF_LAYERS.items():
        if name != "Model" and not name.startswith(("Convolution", "SeparableConvolution")):
            kind = getattr(layers, name)
            kind.__init__ = _renaming(kind.__init__, names)
    layers.Convolution2D = _by_sides(layers.Conv2D)
    names, symbol = OF_LAYERS["Model"], keras.Input((1,))
    keras.Model.__new__ = staticmethod(_renaming(keras.Model.__new__, names))
    functional = type(keras.Model(symbol, symbol))
    functional.__init__ = _renaming(functional.__init__, names)


def _renaming(method: Any, names: dict[str, str]) -> Any:
    # Not by functools.wraps: Keras looks at the signature here in two ways, of which one sees through it.
    def wrapper(self: Any, *args: Any, **options: Any) -> Any:
        if names.keys() & options.keys():
            args, options = _renamed(args, options, names)
        return method(self, *args, **options)

    return wrapper


def _renamed(args: tuple[Any, ...], options: dict[str, Any], names: dict[str, str]) -> tuple[Any, dict[str, Any]]:
    """Arguments of Keras 1 by their names in Keras 3."""
    if len(args) > 2 and isinstance(args[1], int) and isinstance(args[2], int):  # a kernel, by its two sides
        args = (args[0], args[1:3], *args[3:])
    sides = [options.pop(name) for name in ("nb_row", "nb_col") if name in options and name in names]
    if sides:
        options["kernel_size"] = tuple(sides)
    if "dim_ordering" in options and options["dim_ordering"] in ORDERS:
        options["dim_ordering"] = ORDERS[options["dim_ordering"]]
    new = {names.get(name, name): value for name, value in options.items()}
    new.pop("nothing", None)
    if new.get("data_format") == "default":
        del new["data_format"]
    return args, new


def _by_sides(kind: Any) -> Any:
    """A convolution by its name in Keras 1, where the second and the third argument are the sides of its kernel."""

    @functools.wraps(kind, updated=())
    def wrapper(*args: Any, **options: Any) -> Any:
        return kind(*_renamed(args, {}, {})[0], **options)

    return wrapper
