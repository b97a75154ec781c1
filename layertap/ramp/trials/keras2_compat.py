"""Finds calls of Keras 1 and 2 in submissions that Keras 3 does not have any more; `old_keras` translates them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from layertap.ramp.trials.imported_names import Imported, of_keras

CALLS = {
    "fit_generator": "fit, which takes generators",
    "predict_generator": "predict, which takes generators of tuples: (X,)",
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
    "val_samples": "steps, a number of batches",
    "nb_epoch": "epochs",
}
OPTIMIZERS = ("SGD", "Adam", "AdamW", "Adamax", "Nadam", "Adagrad", "Adadelta", "RMSprop", "Ftrl")
OF_OPTIMIZERS = {
    "lr": "learning_rate",
    "decay": "a schedule of keras.optimizers.schedules, such as InverseTimeDecay",
    "schedule_decay": "nothing",
}
_DENSE = {
    "init": "kernel_initializer",
    "W_regularizer": "kernel_regularizer",
    "b_regularizer": "bias_regularizer",
    "W_constraint": "kernel_constraint",
    "b_constraint": "bias_constraint",
    "bias": "use_bias",
}
_PADDED = {"border_mode": "padding", "dim_ordering": "data_format"}
_CONVOLUTION = {
    **_DENSE,
    **_PADDED,
    "nb_filter": "filters",
    "nb_row": "kernel_size",
    "nb_col": "kernel_size",
    "filter_length": "kernel_size",
    "subsample": "strides",
    "subsample_length": "strides",
    "atrous_rate": "dilation_rate",
}
_POOLING = {**_PADDED, "pool_length": "pool_size", "stride": "strides"}
_ORDERED = {"dim_ordering": "data_format"}
# Arguments of Keras 1, and those of Keras 2 and 3 that take their place.
OF_LAYERS: dict[str, dict[str, str]] = {
    "Dense": {**_DENSE, "output_dim": "units"},
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D", "SeparableConv2D", "Conv2DTranspose"), _CONVOLUTION),
    **dict.fromkeys(("Convolution1D", "Convolution2D", "Convolution3D", "SeparableConvolution2D"), _CONVOLUTION),
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D", "MaxPooling3D"), _POOLING),
    **dict.fromkeys(("AveragePooling1D", "AveragePooling2D", "AveragePooling3D"), _POOLING),
    **dict.fromkeys(("GlobalMaxPooling2D", "GlobalAveragePooling2D", "UpSampling2D"), _ORDERED),
    **dict.fromkeys(("ZeroPadding2D", "Cropping2D", "SpatialDropout2D"), {**_ORDERED, "p": "rate"}),
    **dict.fromkeys(("Dropout", "GaussianDropout"), {"p": "rate"}),
    "GaussianNoise": {"sigma": "stddev"},
    "BatchNormalization": {"gamma_init": "gamma_initializer", "beta_init": "beta_initializer", "mode": "nothing"},
    "Model": {"input": "inputs", "output": "outputs"},
}
MODULES = {
    "keras.utils.np_utils": "keras.utils.to_categorical",
    "keras.utils.generic_utils": "keras.utils",
    "keras.utils.data_utils": "keras.utils",
    "keras.utils.vis_utils": "keras.utils.plot_model",
    "keras.utils.visualize_util": "keras.utils.plot_model",
    "keras.utils.layer_utils": "keras.utils",
    "keras.layers.convolutional": "keras.layers",
    "keras.layers.core": "keras.layers",
    "keras.layers.normalization": "keras.layers",
    "keras.layers.pooling": "keras.layers",
    "keras.layers.merge": "keras.layers",
    "keras.layers.noise": "keras.layers",
    "keras.layers.embeddings": "keras.layers",
    "keras.layers.recurrent": "keras.layers",
    "keras.layers.wrappers": "keras.layers",
    "keras.layers.advanced_activations": "keras.layers",
    "keras.engine": "keras.layers and keras.models",
    "keras.engine.topology": "keras.layers and keras.models",
    "keras.engine.training": "keras.models",
    "keras.initializations": "keras.initializers",
    "keras.objectives": "keras.losses",
}
GENERATOR = "keras.preprocessing.image.ImageDataGenerator"
CLASSES = {GENERATOR: "layers such as keras.layers.RandomFlip"}
SHORT = {"acc": "accuracy", "val_acc": "val_accuracy"}  # the former names of metrics=["accuracy"] in logs
# The names that keras.backend still has; functions that compute moved to keras.ops.
BACKEND = {
    *("backend", "clear_session", "epsilon", "floatx", "get_uid", "image_data_format", "is_float_dtype"),
    *("is_int_dtype", "is_keras_tensor", "result_type", "rnn", "set_epsilon", "set_floatx"),
    *("set_image_data_format", "standardize_dtype", *CALLS),
}
FIRST, ORDERS = "channels_first", {"th": "channels_first", "tf": "channels_last"}
CHANNELS, LEAST_SIDE = (1, 3), 8
MOVES = {"moveaxis", "rollaxis", "swapaxes", "transpose", "reshape", "expand_dims", "newaxis", "Permute", "Reshape"}


def outdated(file: Path) -> list[str]:
    """A line for each call in a Python file that Keras 3 does not have any more: its place, and its replacement."""
    tree = _parsed(file)
    if tree is None:
        return []  # loading the file will report it
    imported = Imported(tree)
    if imported.has_another_library:
        return []
    nodes: list[Any] = list(ast.walk(tree))
    gone = [(node.lineno, *one) for node in nodes for one in _of(node, imported)]
    if not any(_names_short(node) for node in nodes):
        gone += [
            (node.lineno, f"the name {short} of a metric", SHORT[short]) for node in nodes if (short := _short(node))
        ]
    lines = [(line, f"{what} is gone from Keras 3; in its place there is {instead}.") for line, what, instead in gone]
    if not _sets_order(tree):
        lines += [
            (
                node.lineno,
                f"the shape {ast.unparse(shape)} has its channels first, and Keras 3 takes the last axis for the "
                f'channels: put them last, or call keras.config.set_image_data_format("{FIRST}") before.',
            )
            for node in nodes
            if (shape := _shape_with_channels_first(node, imported)) is not None
        ]
    return [f"{file}:{line}: {text}" for line, text in sorted(set(lines))]


def image_data_format(file: Path, image_shape: Callable[[], tuple[int, ...]]) -> str | None:
    """The order of axes that a file takes for Keras's default, if it differs from the default of Keras 3.

    Parameters
    ----------
    file : Path
        A file that builds a net.
    image_shape : callable
        It returns the shape of an image for the net, before ramp-workflow puts the channel of a gray image first.

    Returns
    -------
    str or None
        ``channels_first`` if a net takes such images, or if images have their channels first and the file reads the
        order from Keras without moving axes itself; otherwise None.
    """
    tree = _parsed(file)
    if tree is None or _sets_order(tree):
        return None
    imported, nodes = Imported(tree), list(ast.walk(tree))
    if any(_shape_with_channels_first(node, imported) for node in nodes):
        return FIRST
    names = {getattr(node, "attr", getattr(node, "id", None)) for node in nodes}
    if not names & {"image_data_format", "image_dim_ordering"} or names & MOVES:
        return None
    shape = image_shape()
    shape = (1, *shape) if len(shape) == 2 else shape
    return FIRST if len(shape) == 3 and shape[0] in CHANNELS and shape[2] not in CHANNELS else None


def _parsed(file: Path) -> ast.Module | None:
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError):
        return None


def _of(node: Any, imported: Imported) -> Iterator[tuple[str, str]]:
    """Pairs of what is missing in Keras 3 and its replacement, for a node of the syntax tree."""
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from ((name, CLASSES[name]) for name in names if name in CLASSES)
        yield from [(f"the module {name}", MODULES[name]) for name in names if name in MODULES][:1]
        if node.module == "keras.backend":
            yield from (_of_backend(alias.name) for alias in node.names if alias.name not in {*BACKEND, "*"})
            yield from ((alias.name, CALLS[alias.name]) for alias in node.names if alias.name in CALLS)
    elif isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
        yield from ((f"the module {name}", MODULES[name]) for name in names if name in MODULES)
    elif isinstance(node, ast.Attribute):
        whole = imported.whole_name(node)
        if whole in MODULES and isinstance(node.value, ast.Name | ast.Attribute):
            yield f"the module {whole}", MODULES[whole]
        if node.attr == "lr" and getattr(node.value, "attr", "") == "optimizer":
            yield "the attribute lr of an optimizer", "learning_rate"
        package, _, name = whole.rpartition(".")
        if package == "keras.backend" and name not in BACKEND and whole not in MODULES:
            yield _of_backend(name)
    elif isinstance(node, ast.Call):
        yield from _of_call(node, imported)


def _of_backend(name: str) -> tuple[str, str]:
    return f"keras.backend.{name}", "keras.ops"


def _of_call(node: ast.Call, imported: Imported) -> Iterator[tuple[str, str]]:
    called: Any = node.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    whole = imported.whole_name(called)
    if whole in CLASSES and isinstance(called, ast.Attribute):
        yield whole, CLASSES[whole]
        return
    given = [keyword.arg for keyword in node.keywords if keyword.arg]
    if name in CALLS and isinstance(called, ast.Attribute):
        yield name, CALLS[name]
    if name in FITTING:
        yield from ((f"the argument {one} of {name}", ARGUMENTS[one]) for one in given if one in ARGUMENTS)
    package, _, own = of_keras(whole).rpartition(".")
    if package.startswith("keras.optimizers") and own in OPTIMIZERS:
        yield from ((f"the argument {one} of {own}", OF_OPTIMIZERS[one]) for one in given if one in OF_OPTIMIZERS)
        if any(keyword.arg == "epsilon" and _constant(keyword.value) == "None" for keyword in node.keywords):
            yield f"epsilon=None of {own}", "its default"
    if package.startswith(("keras.layers", "keras.models", "keras.engine")) or (package, own) == ("keras", "Model"):
        now = OF_LAYERS.get(own, {})
        yield from ((f"the argument {one} of {own}", now[one]) for one in given if one in now)
        if own == "Convolution2D" and len(node.args) > 2:
            yield "the width of a kernel as the third argument of Convolution2D", "kernel_size, a pair"


def _sets_order(tree: ast.Module) -> bool:
    """Whether a file sets the order of axes itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in ("data_format", "dim_ordering"):
            if _constant(node.value) in (repr(FIRST), "'th'"):
                return True
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("set_image_data_format", "set_image_dim_ordering"):
                return True
    return False


def _shape_with_channels_first(node: Any, imported: Imported) -> ast.Tuple | None:
    """The shape in a layer's ``input_shape=`` or in ``Input``, if it is that of an image with channels first."""
    if not isinstance(node, ast.Call):
        return None
    whole = of_keras(imported.whole_name(node.func))
    if not whole:
        return None
    shapes = [keyword.value for keyword in node.keywords if keyword.arg in ("input_shape", "shape")]
    if whole.endswith((".Input", ".InputLayer")):
        shapes += node.args[:1]
    for shape in map(imported.value, shapes):
        if isinstance(shape, ast.Tuple) and len(shape.elts) == 3:
            first, second, last = (getattr(size, "value", None) for size in shape.elts)
            sides = [size for size in (second, last) if isinstance(size, int)]  # others are names
            if first in CHANNELS and min(sides, default=LEAST_SIDE) >= LEAST_SIDE:
                return shape
    return None


def _constant(node: Any) -> str:
    return repr(node.value) if isinstance(node, ast.Constant) else ""


def _names_short(node: Any) -> bool:
    """Whether this is an argument `metrics` with a short name in it, which is the name in the logs then."""
    if not isinstance(node, ast.keyword) or node.arg != "metrics":
        return False
    return any(isinstance(one, ast.Constant) and one.value == "acc" for one in ast.walk(node.value))


def _short(node: Any) -> str | None:
    """The short name of a metric that is looked up in a history, or monitored."""
    said: Any = None
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "history":
        said = node.slice
    if isinstance(node, ast.keyword) and node.arg == "monitor":
        said = node.value
    return said.value if isinstance(said, ast.Constant) and said.value in SHORT else None
