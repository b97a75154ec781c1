"""The engine OpenVINO, for CPUs: a net is converted once, with Keras, and run without it by asynchronous requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from transfer.engines.base import Pending, padded, within
from transfer.engines.openvino_import import import_openvino
from transfer.hardware import cores

if TYPE_CHECKING:
    import keras

# The version of how nets are converted; raised with any change of it.
CONVERSION = 2
# Of the largest operation's inputs and outputs, that each stream may hold.
COPIES = 3
HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
# What another engine may add to a feature, as a share of the largest one; more than that is a wrong conversion.
TOLERANCE = 1e-3


class OpenVinoEngine:
    """Runs a net that was converted, or read from a file for OpenVINO (see `Engine`).

    One stream for each core: cores then work on different images, which costs less than sharing one.

    Parameters
    ----------
    net : Path or openvino.Model
        The file from `convert`, or the graph from `OpenVinoNet.cut`, which is changed. Results are called ``readout0``,
        ``readout1`` …
    batch_size : int
        Not used where the net computes a fixed number of images together.
    precision : {'float32', 'bfloat16', 'float16'}
        That convolutions and products are computed in.
    room : int, optional
        Bytes of memory at hand: batches are made smaller than `batch_size` where they would need more.
    readouts : sequence of int, optional
        The numbers of the outputs that are read; by default all.
    in_int8 : bool
        Whether tensors that the net rounds to eight bits are multiplied in int8; else in float32.
    """

    def __init__(
        self,
        net: Any,
        batch_size: int,
        precision: str = "float32",
        room: int | None = None,
        readouts: Sequence[int] | None = None,
        in_int8: bool = True,
    ) -> None:
        openvino = import_openvino()
        core, streams = openvino.Core(), len(cores())
        net = core.read_model(net) if isinstance(net, Path) else net
        names = [f"readout{number}" for number in (range(len(net.outputs)) if readouts is None else readouts)]
        if len(names) < len(net.outputs):
            net = openvino.Model([net.output(name) for name in names], net.get_parameters())
        images, *row = net.input(0).partial_shape
        if images.is_dynamic:
            net.reshape({0: [1, *row]})
        settings: dict[str, Any] = {
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams,
            "INFERENCE_PRECISION_HINT": HINTS[precision],  # some CPUs would compute in bfloat16 by themselves
        }
        if not in_int8:
            settings["LP_TRANSFORMS_MODE"] = False  # "low precision"
        if images.is_dynamic:
            self.batch_size = within(batch_size, streams * COPIES * _working_bytes(net), room)
            net.reshape({0: [self.batch_size, *row]})
        else:
            self.batch_size = images.get_length()
        compiled = core.compile_model(net, "CPU", settings)
        self.ahead = 2 * streams  # while one of a stream's requests runs, the next waits
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.ahead + 1):
            self._idle.put(compiled.create_infer_request())
        self._outputs = [compiled.output(name) for name in names]

    @staticmethod
    def describe() -> dict[str, str]:
        """Name and versions, for provenance."""
        return {"engine": "openvino", "openvino": version("openvino"), "keras": version("keras")}

    def start(self, inputs: np.ndarray) -> Pending:
        n = len(inputs)
        inputs = padded(inputs, self.batch_size)
        request = self._idle.get()
        try:
            request.start_async({0: inputs}, share_inputs=True)
        except Exception:
            self._idle.put(request)
            raise

        def wait() -> list[np.ndarray]:
            try:
                request.wait()
                return [request.get_tensor(output).data[:n].copy() for output in self._outputs]
            finally:
                self._idle.put(request)

        return wait


def _working_bytes(net: Any) -> int:
    """Bytes of the inputs and outputs of the largest operation, constants left out."""
    most = 0
    for operation in net.get_ordered_ops():
        before = [port.get_source_output() for port in operation.inputs()]
        tensors = [port for port in before if port.get_node().get_type_name() != "Constant"] + operation.outputs()
        known = [port for port in tensors if port.get_partial_shape().is_static]
        if operation.get_type_name() != "Constant":
            most = max(most, sum(math.prod(port.get_shape()) * port.get_element_type().size for port in known))
    return most


def convert(model: keras.Model, file: Path) -> None:
    """Convert a cut net, by way of TensorFlow, and compare the two on two random images.

    Parameters
    ----------
    model : keras.Model
        From `Backbone.cut`, built by Keras on TensorFlow.
    file : Path
        Of type ``.xml``; the weights go beside it. Outputs are called ``readout0``, ``readout1`` …

    Raises
    ------
    ValueError
        When OpenVINO computes other features than Keras.
    RuntimeError, Exception
        When OpenVINO does not know some operation: it raises many types.
    """
    import keras  # slow to load

    readouts = [f"readout{number}" for number in range(len(model.outputs))]
    save_converted(model, readouts, file)
    shape, dtype = (2, *model.input.shape[1:]), np.dtype(model.input.dtype)
    inputs = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    expected = [np.asarray(output) for output in keras.tree.flatten(model(inputs, training=False))]
    for exact, found in zip(expected, OpenVinoEngine(file, 2).start(inputs)(), strict=True):
        difference, scale = float(np.abs(exact - found).max(initial=0)), float(np.abs(exact).max(initial=0))
        if not difference <= TOLERANCE * scale:
            raise ValueError(f"its features differ by {difference:.3g} from those of Keras, which reach {scale:.3g}")


def save_converted(model: keras.Model, names: list[str], file: Path) -> None:
    """Convert a model with one input, by way of TensorFlow.

    Parameters
    ----------
    names : list of str
        Of its outputs.
    file : Path
        Of type ``.xml``; the weights go beside it.

    Raises
    ------
    RuntimeError, Exception
        When OpenVINO does not know some operation: it raises many types.
    """
    import keras  # slow to load
    import tensorflow as tf
    from openvino.frontend import FrontEndManager
    from openvino.frontend.tensorflow.utils import create_tf_graph_iterator

    def named(inputs: Any) -> dict[str, Any]:
        outputs = keras.tree.flatten(model(inputs, training=False))
        return {name: tf.identity(output) for name, output in zip(names, outputs, strict=True)}

    signature = tf.TensorSpec((None, *model.input.shape[1:]), model.input.dtype)
    function = tf.function(named, input_signature=[signature]).get_concrete_function()
    openvino = import_openvino()
    # Not `openvino.convert_model`, which reports each use over the network.
    frontend = FrontEndManager().load_by_framework("tf")
    graph = create_tf_graph_iterator(function, None, None, None, True)  # has to live as long as `loaded`
    loaded = frontend.load(graph)
    converted = frontend.convert(loaded)
    openvino.save_model(converted, str(file), compress_to_fp16=False)
