"""The formats that a whole model is exported to: how each is written, and how a written model is run.

Functions import Keras and the libraries of the formats: they are heavy, and most are optional.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_cache.errors import BadData, InvalidChoice, MissingDependency
from feature_cache.process.native_output import native_stderr_silenced
from transfer.engines.openvino_engine import save_converted
from transfer.engines.openvino_float32 import keep_float32
from transfer.engines.selection import keras_backend
from transfer.nets.files.keras_file import read_config
from transfer.nets.keras_graph import CONFIG_ERRORS, loadable_configs

if TYPE_CHECKING:
    import keras

# From pixels of shape (n, height, width, 3), uint8, to probabilities of shape (n, n_classes).
Predict = Callable[[np.ndarray], np.ndarray]


_NOT_KERAS = (
    "the model is made of layers that Keras cannot save and load again one by one, as some of KerasHub are; use "
    "`to='saved-model'` for this one."
)


@dataclass(frozen=True)
class Format:
    """A format of models.

    Attributes
    ----------
    suffix : str
        The suffix of the model's file; empty for a folder.
    write : callable
        Writes a model, from pixels to probabilities, to a path.
    read : callable
        Gives a function that runs the model at a path, and uses nothing else of this process.
    companions : tuple of str
        The suffixes of the files that belong to the model's file.
    packages : tuple of (str, str)
        The packages that the format needs besides TensorFlow, and what `pip install` takes for each.
    settings : dict of str to str
        The settings of the format's library that give the right probabilities on every device.
    advice : str
        What to do where the model gives other probabilities than the run.
    """

    suffix: str
    write: Callable[[keras.Model, Path], None]
    read: Callable[[Path], Predict]
    companions: tuple[str, ...] = ()
    packages: tuple[tuple[str, str], ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    advice: str = ""


def require(name: str) -> None:
    """Raise when models cannot be exported to the format on this machine.

    Raises
    ------
    MissingDependency
        When a package is not installed.
    InvalidChoice
        When the Keras backend is not TensorFlow, which converts nets to all formats but Keras's own.
    """
    if name == "keras":
        return
    for package, install in (("tensorflow", "layertap[tensorflow]"), *FORMATS[name].packages):
        if find_spec(package) is None:
            raise MissingDependency(f"`to='{name}'` needs the package {package}: pip install '{install}'")
    if keras_backend() != "tensorflow":
        raise InvalidChoice(
            f"`to='{name}'` converts by way of TensorFlow, and the Keras backend is {keras_backend()}; set "
            "KERAS_BACKEND=tensorflow, or use `to='keras'`."
        )


def _write_keras(model: keras.Model, file: Path) -> None:
    try:
        with loadable_configs(model):
            model.save(file)
    except CONFIG_ERRORS as error:  # a layer that cannot say what it is
        raise BadData(_NOT_KERAS) from error


def _read_keras(file: Path) -> Predict:
    import keras  # slow to load

    read_config(file)  # refuses what is not Keras's own, and others could not load
    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
    except CONFIG_ERRORS as error:  # a layer that does not take back what it says of itself
        raise BadData(_NOT_KERAS) from error
    return lambda pixels: keras.ops.convert_to_numpy(model(pixels, training=False))


def _write_saved_model(model: keras.Model, folder: Path) -> None:
    with native_stderr_silenced():
        model.export(folder, format="tf_saved_model", verbose=False)


def _read_saved_model(folder: Path) -> Predict:
    import tensorflow as tf  # slow to load

    model = tf.saved_model.load(str(folder))
    return lambda pixels: model.serve(tf.constant(pixels)).numpy()


def _write_openvino(model: keras.Model, file: Path) -> None:
    save_converted(model, ["probabilities"], file)
    keep_float32(file)


def _read_openvino(file: Path) -> Predict:
    import openvino  # slow to load

    # A CPU that has bfloat16 computes in it unless it is configured otherwise, so the file is tested in it.
    model = openvino.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    return lambda pixels: model({0: pixels})["probabilities"]


def _write_onnx(model: keras.Model, file: Path) -> None:
    import tensorflow as tf  # slow to load
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    with native_stderr_silenced():
        import tf2onnx  # optional, and slow to load
        from keras.src.export.tf2onnx_lib import patch_tf2onnx

        patch_tf2onnx()  # as Keras does, for NumPy 2
        logging.getLogger("tf2onnx").setLevel(logging.ERROR)
        signature = tf.TensorSpec((None, *model.input.shape[1:]), model.input.dtype, name="pixels")

        @tf.function(input_signature=[signature])
        def probabilities(pixels: Any) -> Any:
            return tf.identity(model(pixels, training=False), name="probabilities")

        # Not `model.export`, which makes inputs of the constants that layers such as Normalization hold.
        with _without_functions():
            function = probabilities.get_concrete_function()
        frozen = convert_variables_to_constants_v2(function, lower_control_flow=False, aggressive_inlining=True)
        [entry], [result] = frozen.inputs, frozen.outputs
        tf2onnx.convert.from_graph_def(
            frozen.graph.as_graph_def(),
            input_names=[entry.name],
            output_names=[result.name],
            tensors_to_rename={entry.name: "pixels", result.name: "probabilities"},
            output_path=str(file),
            custom_op_handlers={"Erfc": (_as_erf, [])},
        )


@contextlib.contextmanager
def _without_functions() -> Iterator[None]:
    """Let the operations of functions within a function be a part of it, as of grouped convolutions, which are
    compiled on their own: a call of a function cannot be converted.
    """
    import tensorflow as tf  # slow to load

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _as_erf(context: Any, node: Any, name: str, args: Any) -> None:
    """Write ``erfc(x)``, which GELU is made of and ONNX lacks, as ``1 - erf(x)``."""
    dtype = context.get_dtype(node.output[0])
    shape, [x], [result] = context.get_shape(node.output[0]), node.input, node.output
    context.remove_node(name)
    one = context.make_const(f"{name}_one", np.array(1, np.float32)).output[0]
    erf = context.make_node("Erf", [x], dtypes=[dtype], shapes=[shape]).output[0]
    context.make_node("Sub", [one, erf], name=name, outputs=[result], dtypes=[dtype], shapes=[shape])


def _read_onnx(file: Path) -> Predict:
    import onnxruntime  # optional, and slow to load

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def run(pixels: np.ndarray) -> np.ndarray:
        [probabilities] = session.run(["probabilities"], {"pixels": pixels})
        return np.asarray(probabilities)

    return run


_ONNX = tuple((package, "layertap[onnx]") for package in ("tf2onnx", "onnx", "onnxruntime"))
_OPENVINO = (("openvino", "layertap[tensorflow]"),)
# On CPUs that have bfloat16 OpenVINO computes in it by itself. The operations of a file are marked to keep float32;
# this holds for other devices, too.
_FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}
_BFLOAT16 = (
    "OpenVINO computes in bfloat16 where the CPU has it, and its file cannot keep some operations from it, such as "
    "those of attention and GELU: use `to='onnx'` or `to='keras'`"
)
FORMATS = {
    "keras": Format(".keras", _write_keras, _read_keras),
    "onnx": Format(".onnx", _write_onnx, _read_onnx, packages=_ONNX),
    "openvino": Format(".xml", _write_openvino, _read_openvino, (".bin",), _OPENVINO, _FLOAT32, _BFLOAT16),
    "saved-model": Format("", _write_saved_model, _read_saved_model),
}
