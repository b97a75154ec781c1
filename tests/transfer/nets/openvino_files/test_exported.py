"""Nets that TensorFlow and Keras have exported: the tensors of the file are those of the net itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from examples import onnx_from_torch
from transfer.engines.openvino_files import OpenVinoFileFactory
from transfer.nets.backbone import Backbone
from transfer.nets.catalogue import NETS, Net
from transfer.nets.keras_graph import operation_of
from transfer.nets.openvino_files.net import open_net
from transfer.request import FeatureRequest

pytest.importorskip("openvino")
SIDE = 16


def tensors_of(file: Path, pixels: np.ndarray, preprocessing: str) -> dict[str, np.ndarray]:
    """All tensors of a file as features."""
    net = Net(str(file), preprocessing=preprocessing)
    names = tuple(open_net(net).taps)
    request = FeatureRequest(net, names, pooling="none", prefix_tokens=None)
    engine = OpenVinoFileFactory(request, "auto").make(pixels, len(pixels))
    return dict(zip(names, engine.start(pixels)(), strict=True))


def random_pixels(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, side, side, 3)).astype(np.uint8)


def interpreted(content: bytes, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """All tensors of a net for one image, as the interpreter of TensorFlow Lite computes them, as real numbers."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_content=content, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    [given] = interpreter.get_input_details()
    interpreter.set_tensor(given["index"], pixels.astype(np.float32) / 255)
    interpreter.invoke()
    found = {}
    for detail in interpreter.get_tensor_details():
        scale, zero = detail["quantization"]
        try:
            values = interpreter.get_tensor(detail["index"]).astype(np.float64)
        except ValueError:  # of a tensor that is only there for a moment
            continue
        found[detail["name"]] = (values - zero) * scale if scale else values
    return found


@pytest.mark.usefixtures("needs_tensorflow")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("quantised", [False, True])
def test_tensors_of_a_tensorflow_lite_file_are_those_of_its_interpreter(tmp_path: Path, quantised: bool) -> None:
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="first")(image)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu6", name="depthwise")(x)
    x = layers.Conv2D(12, 3, padding="same", activation="relu", name="second")(x)
    model = keras.Model(image, layers.Dense(5, activation="softmax")(layers.GlobalAveragePooling2D(name="pooled")(x)))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if quantised:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        sample = np.random.default_rng(0).uniform(size=(4, 1, SIDE, SIDE, 3)).astype(np.float32)
        converter.representative_dataset = lambda: ([one] for one in sample)
    file = tmp_path / "net.tflite"
    file.write_bytes(converter.convert())
    pixels = random_pixels(SIDE)
    expected, found = interpreted(file.read_bytes(), pixels[:1]), tensors_of(file, pixels, "unit")
    assert {name for name in found if "/pooled" not in name} <= expected.keys()
    assert sum(len(rows.shape) == 4 for rows in found.values()) >= 3
    for name, rows in found.items():
        difference, scale = np.abs(rows[:1] - expected[name]).max(), np.abs(expected[name]).max()
        assert difference <= (0.02 if quantised else 1e-5) * scale, name
    net = open_net(Net(str(file)))
    assert "second" in net.readout
    assert net.taps[net.readout].parameters == pytest.approx(8 * 12 * 9, rel=0.05)  # with biases and scales


@pytest.mark.slow
@pytest.mark.usefixtures("needs_tensorflow")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "side"), [("mobilenetv2", 64), ("mobilenetv3small", 64)])
def test_layers_of_exported_nets_are_those_of_keras(tmp_path: Path, name: str, side: int) -> None:
    pytest.importorskip("tf2onnx")
    backbone, pixels = Backbone(Net(name, "none"), (side, side)), random_pixels(side)
    model: Any = backbone.model
    model(np.zeros((1, side, side, 3), np.float32))  # Keras exports what has been called
    model.export(tmp_path / "net.onnx", format="onnx", verbose=False)
    # The exporter joins other layers with those after them.
    kept = (keras.layers.ReLU, keras.layers.Activation, keras.layers.Add, keras.layers.DepthwiseConv2D)
    maps = [layer for layer, tensor in backbone.taps.items() if isinstance(operation_of(tensor), kept)]
    layers = [maps[round(number)] for number in np.linspace(len(maps) / 6, len(maps) - 1, 5)]
    cut = backbone.cut([(layer, "none") for layer in layers], NETS[name].preprocessing, 3)
    found = tensors_of(tmp_path / "net.onnx", pixels, NETS[name].preprocessing)
    for layer, exact in zip(layers, cut(pixels, training=False), strict=True):
        same_shape = [rows for rows in found.values() if rows.shape == exact.shape]
        difference = min(np.abs(rows - exact).max() for rows in same_shape)
        assert difference <= 1e-4 * np.abs(exact).max(), layer


def test_modules_of_pytorch_are_exported_by_the_example(tmp_path: Path) -> None:
    """The tensors have names of their own: each output of a module is compared with those of its shape."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    nn, outputs = torch.nn, {}
    module = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.GELU(), nn.Flatten(2), nn.Linear(16, 6), nn.LayerNorm(6))
    for number, part in enumerate(module):
        part.register_forward_hook(lambda part, inputs, output, number=number: outputs.update({number: output}))
    onnx_from_torch.export(module, SIDE, str(tmp_path / "net.onnx"))
    pixels = random_pixels(SIDE)
    module(torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32)) / 255)
    found = tensors_of(tmp_path / "net.onnx", pixels, "unit")
    assert open_net(Net(str(tmp_path / "net.onnx"))).batch is None
    for output in outputs.values():
        exact = output.detach().numpy()
        stored = (np.moveaxis(exact, 1, -1), exact)  # channels last, where it has some
        pairs = [(rows, one) for rows in found.values() for one in stored if rows.shape == one.shape]
        assert min(np.abs(rows - one).max() for rows, one in pairs) <= 1e-4 * np.abs(exact).max()
