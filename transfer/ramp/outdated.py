"""What submissions of older kits call that Keras 3 no longer has: told with its line, or translated if asked."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

CALLS = {
    "fit_generator": "fit, which takes generators",
    "predict_generator": "predict, which takes generators",
    "evaluate_generator": "evaluate, which takes generators",
    "predict_classes": "predict(X).argmax(axis=1)",
    "image_dim_ordering": "keras.config.image_data_format()",
    "set_image_dim_ordering": "keras.config.set_image_data_format()",
}
FITTING = ("fit", "fit_generator", "predict", "predict_generator", "evaluate", "evaluate_generator")
ARGUMENTS = {
    "workers": "nothing: it is an argument of keras.utils.PyDataset now",
    "use_multiprocessing": "nothing: it is an argument of keras.utils.PyDataset now",
    "max_queue_size": "nothing: it is an argument of keras.utils.PyDataset now",
    "pickle_safe": "nothing: keras.utils.PyDataset has use_multiprocessing",
    "max_q_size": "nothing: keras.utils.PyDataset has max_queue_size",
    "nb_worker": "nothing: keras.utils.PyDataset has workers",
    "samples_per_epoch": "steps_per_epoch, a number of batches",
    "nb_val_samples": "validation_steps, a number of batches",
    "nb_epoch": "epochs",
}
OPTIMIZERS = ("SGD", "Adam", "AdamW", "Adamax", "Nadam", "Adagrad", "Adadelta", "RMSprop", "Ftrl")
OF_OPTIMIZERS = {
    "lr": "learning_rate",
    "decay": "a schedule of keras.optimizers.schedules, such as InverseTimeDecay",
}
MODULES = {
    "keras.utils.np_utils": "keras.utils.to_categorical",
    "keras.layers.convolutional": "keras.layers",
    "keras.layers.core": "keras.layers",
    "keras.layers.normalization": "keras.layers",
    "keras.layers.pooling": "keras.layers",
    "keras.layers.merge": "keras.layers",
    "keras.layers.advanced_activations": "keras.layers",
    "keras.engine.topology": "keras.layers and keras.models",
}
GENERATOR = "keras.preprocessing.image.ImageDataGenerator"
CLASSES = {GENERATOR: "layers such as keras.layers.RandomFlip"}
DROPPED = ("workers", "use_multiprocessing", "max_queue_size", "pickle_safe", "max_q_size", "nb_worker")
RENAMED = {"nb_epoch": "epochs"}
SHORT = {"acc": "accuracy", "val_acc": "val_accuracy"}  # what metrics=["accuracy"] was called in logs
STEPS = {"steps", "steps_per_epoch", "validation_steps"}  # once they could be fractions


def outdated(file: Path) -> list[str]:
    """A line for each call in a Python file that Keras 3 no longer knows: where it is, and what replaces it."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError):
        return []  # said when it is loaded
    nodes: list[Any] = list(ast.walk(tree))
    found = [(node.lineno, what, instead) for node in nodes for what, instead in _of(node)]
    if not any(_names_short(node) for node in nodes):
        found += [
            (node.lineno, f"the name {short} of a metric", SHORT[short]) for node in nodes if (short := _short(node))
        ]
    return [
        f"{file}:{line}: {what} is gone from Keras 3; in its place there is {instead}."
        for line, what, instead in sorted(found)
    ]


def _of(node: Any) -> list[tuple[str, str]]:
    if isinstance(node, ast.ImportFrom) and node.module:
        names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        classes = [(name, CLASSES[name]) for name in names if name in CLASSES]
        return classes + [(f"the module {name}", MODULES[name]) for name in names if name in MODULES][:1]
    if isinstance(node, ast.Import):
        return [(f"the module {alias.name}", MODULES[alias.name]) for alias in node.names if alias.name in MODULES]
    if not isinstance(node, ast.Call):
        return []
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if (whole := ast.unparse(node.func)) in CLASSES:
        return [(whole, CLASSES[whole])]
    given = [keyword.arg for keyword in node.keywords if keyword.arg]
    found = [(name, CALLS[name])] if name in CALLS and isinstance(node.func, ast.Attribute) else []
    if name in FITTING:
        found += [(f"the argument {one} of {name}", ARGUMENTS[one]) for one in given if one in ARGUMENTS]
    if name in OPTIMIZERS:
        found += [(f"the argument {one} of {name}", OF_OPTIMIZERS[one]) for one in given if one in OF_OPTIMIZERS]
    return found


def _names_short(node: Any) -> bool:
    """Whether these are the metrics of a model, the short name among them, which then is that of its logs."""
    if not isinstance(node, ast.keyword) or node.arg != "metrics":
        return False
    return any(isinstance(one, ast.Constant) and one.value == "acc" for one in ast.walk(node.value))


def _short(node: Any) -> str | None:
    """The short name of a metric that is looked up in a history, or watched."""
    said: Any = None
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "history":
        said = node.slice
    if isinstance(node, ast.keyword) and node.arg == "monitor":
        said = node.value
    return said.value if isinstance(said, ast.Constant) and said.value in SHORT else None


# Positional arguments of the calls for generators, after the generator.
_ORDER = {
    "fit": ("steps_per_epoch", "epochs", "verbose", "callbacks", "validation_data", "validation_steps"),
    "predict": ("steps", "callbacks"),
    "evaluate": ("steps", "callbacks"),
}


def translate() -> None:
    """Give Keras its older calls back, for as long as this process lives."""
    import keras

    for name in MODULES:
        _stand_in(keras, name)
    _stand_in_for_generator()
    keras.Model.fit = _with_short_names(keras.Model.fit, keras.callbacks.Callback)
    for name in ("fit", "predict", "evaluate"):
        current = getattr(keras.Model, name)
        setattr(keras.Model, name, _without(current))
        setattr(keras.Model, f"{name}_generator", _without(current, _ORDER[name]))
    keras.Model.predict_classes = lambda self, *args, **options: self.predict(*args, **options).argmax(axis=-1)
    for name in OPTIMIZERS:
        kind = getattr(keras.optimizers, name)
        kind.__init__ = _with_rate(kind.__init__, keras.optimizers.schedules.InverseTimeDecay)


def _stand_in(keras: Any, name: str) -> None:
    """Let a module that is gone hold what took its place."""
    module, places = ModuleType(name), (keras.layers, keras.models, keras.utils)

    def find(what: str) -> Any:
        for place in places:
            if hasattr(place, what):
                return getattr(place, what)
        raise AttributeError(f"Keras 3 has no {what}, which was in {name}")

    module.__getattr__ = find  # type: ignore[method-assign]
    parent, _, last = name.rpartition(".")
    if parent not in sys.modules:
        sys.modules[parent] = ModuleType(parent)
    setattr(sys.modules[parent], last, module)
    sys.modules[name] = module


def _stand_in_for_generator() -> None:
    """Give back the augmenting generator of images, which TensorFlow's older name for Keras still has."""
    try:
        import tensorflow
    except ImportError:
        return
    package, _, name = GENERATOR.rpartition(".")
    setattr(importlib.import_module(package), name, getattr(tensorflow.keras.preprocessing.image, name))


def _with_short_names(method: Any, callback: Any) -> Any:
    class Short(callback):
        """Logs the accuracy under its older name too, for callbacks after it and for the history."""

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


def _without(method: Any, order: tuple[str, ...] = ()) -> Any:
    def called(self: Any, *args: Any, **options: Any) -> Any:
        options = {RENAMED.get(name, name): value for name, value in options.items() if name not in DROPPED}
        if order:
            options |= dict(zip(order, args[1:], strict=False))
            args = args[:1]
        for name in STEPS & options.keys():
            options[name] = options[name] and math.ceil(options[name])
        return method(self, *args, **options)

    return called


def _with_rate(method: Any, falling: Any) -> Any:
    default = inspect.signature(method).parameters["learning_rate"].default

    @functools.wraps(method)
    def made(self: Any, *args: Any, **options: Any) -> None:
        if "lr" in options:
            options["learning_rate"] = options.pop("lr")
        decay = options.pop("decay", 0)
        if decay:  # Keras 1 and 2: the rate over 1 + decay * steps
            rate = options.get("learning_rate", args[0] if args else default)
            options["learning_rate"], args = falling(rate, 1, decay), args[1:]
        method(self, *args, **options)

    return made
