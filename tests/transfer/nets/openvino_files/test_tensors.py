"""The tensors of a file for OpenVINO: where their channels are, what they cost, and which of them can be read."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_cache.errors import BadData, InvalidChoice, LayertapError
from tests.transfer.onnx_nets import NAMES, onnx, onnx_model, save_onnx, small_onnx
from transfer.nets.catalogue import Net
from transfer.nets.costs import LayerInfo, flops, table
from transfer.nets.openvino_files.net import OpenVinoNet
from transfer.request import FeatureRequest

node = onnx.helper.make_node


@pytest.fixture
def open_net(tmp_path: Path) -> Callable[..., OpenVinoNet]:
    def open_(model: Any, size: tuple[int, int] | None = None) -> OpenVinoNet:
        return OpenVinoNet(Net(str(save_onnx(model, tmp_path / "net.onnx"))), size)

    return open_


OpenNet = Callable[..., OpenVinoNet]
SHAPES = {
    "conv": (6, 6, 8),
    "relu": (6, 6, 8),
    "depthwise": (6, 6, 8),
    "flat": (36, 8),
    "tokens": (36, 8),
    "dense": (36, 6),
    "biased": (36, 6),
    "pooled": (6,),
    "logits": (4,),
}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_shapes_have_the_channels_last_wherever_they_are_in_the_graph(open_net: OpenNet, layout: str) -> None:
    net = open_net(small_onnx(layout=layout))
    assert net.size == (12, 12)
    assert {name: net.taps[name].shape[1:] for name in NAMES} == SHAPES
    assert net.readout == "biased"  # the last of several positions, with channels


def test_probabilities_are_not_read_by_default(open_net: OpenNet) -> None:
    model = small_onnx()
    model.graph.node.append(node("Softmax", ["biased"], ["probabilities"]))
    model.graph.output[0].name = "probabilities"
    assert open_net(model).readout == "depthwise"


def test_costs_are_what_arithmetic_says(open_net: OpenNet) -> None:
    net = open_net(small_onnx())
    rows: dict[str, LayerInfo] = {row.name: row for row in table(net)}
    conv, depthwise, dense, logits = 36 * 8 * 27, 36 * 8 * 9, 36 * 8 * 6, 6 * 4
    assert rows["relu"].gflops == pytest.approx(2 * conv / 1e9)
    assert rows["flat"].gflops == pytest.approx(2 * (conv + depthwise) / 1e9)
    assert rows["logits"].gflops == pytest.approx(2 * (conv + depthwise + dense + logits) / 1e9)
    assert flops(net.taps["relu"], net.taps["conv"]) == 2 * conv  # what both need is counted once
    parameters = {name: row.parameters for name, row in rows.items() if row.parameters}
    assert parameters == {"conv": 8 * 27 + 8, "depthwise": 72, "dense": 48, "biased": 6, "logits": 24}
    assert rows["conv"].kilobytes == pytest.approx(4 * 36 * 8 / 1000)


def test_memory_is_counted_up_to_the_layers_that_are_read(open_net: OpenNet) -> None:
    net = open_net(small_onnx(side=16), (32, 32))
    assert net.largest_bytes(["logits"]) == net.largest_bytes(["conv"]) == 4 * 16 * 16 * 8


def test_layers_are_found_by_name_and_by_index_and_the_nearest_are_named(open_net: OpenNet) -> None:
    net = open_net(small_onnx())
    assert [net.find("relu"), net.find("1"), net.find("-1")] == ["relu", "relu", "logits"]
    for layer, message in (
        ("depthwize", "did you mean 'depthwise'"),
        ("99", "has 9 layers; received index 99"),
        ("conv_kernel", "has no layer 'conv_kernel'"),
    ):
        with pytest.raises(InvalidChoice, match=message):
            net.find(layer)


@pytest.mark.parametrize(
    ("shape", "size", "channels"),
    [
        (["n", 3, "h", "w"], (14, 10), 3),
        (["n", "c", "h", "w"], (14, 10), 3),  # the kernel tells how many channels there are
        ([1, 3, 12, 12], None, 3),
        ([1, 3, 12, 12], (16, 8), 3),  # another size than the file fixes
    ],
)
def test_any_size_and_number_of_images(
    open_net: OpenNet, shape: Sequence[Any], size: tuple[int, int] | None, channels: int
) -> None:
    model = small_onnx()
    for length, dimension in zip(shape, model.graph.input[0].type.tensor_type.shape.dim, strict=True):
        dimension.Clear()
        setattr(dimension, "dim_param" if isinstance(length, str) else "dim_value", length)
    net = open_net(model, size)
    height, width = size or (12, 12)
    assert (net.batch, net.channels) == (None, channels)
    assert net.taps["conv"].shape == (None, height // 2, width // 2, 8)
    assert net.taps["tokens"].shape == (None, height * width // 4, 8)


def test_a_net_of_any_size_needs_one(open_net: OpenNet) -> None:
    with pytest.raises(BadData, match="takes images of any size; choose one with `size`"):
        open_net(small_onnx(side="side"))


def test_a_net_for_one_image_at_a_time_is_taken_as_such(open_net: OpenNet) -> None:
    model = small_onnx(batch=1)
    [shape] = [tensor for tensor in model.graph.initializer if tensor.name == "per_position"]
    shape.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 8, -1]), "per_position"))
    net = open_net(model)
    assert net.batch == 1
    assert net.taps["logits"].shape == (None, 4)


def test_sizes_that_do_not_fit_are_refused(open_net: OpenNet) -> None:
    model = small_onnx()
    model.graph.node.append(node("Reshape", ["relu", "fixed"], ["fixed_out"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 288]), "fixed"))
    model.graph.output[0].name = "fixed_out"
    with pytest.raises(InvalidChoice, match="does not take images of 16 x 16 pixels"):
        open_net(model, (16, 16))


INPUTS = {"image": ["n", 3, 8, 8], "words": ["n", 4]}
TWO = [
    node("Relu", ["image"], ["seen"]),
    node("ReduceMean", ["seen"], ["pooled"], axes=[2, 3], keepdims=0),
    node("Gemm", ["words", "kernel"], ["read"]),
    node("Mul", ["pooled", "read"], ["both"]),
]


def two_inputs(**inputs: Any) -> Any:
    model = onnx_model(TWO, INPUTS | inputs, ["both"], {"kernel": np.ones((4, 3), "float32")})
    model.opset_import[0].version = 13
    return model


def test_what_depends_on_the_image_alone_is_read_of_a_net_with_further_inputs(open_net: OpenNet) -> None:
    net = open_net(two_inputs())
    assert list(net.taps) == ["seen", "pooled"]
    with pytest.raises(InvalidChoice, match="'both' of .* cannot be read: it needs the input words, too"):
        net.find("both")


def test_a_net_that_needs_another_input_from_the_start_is_refused(open_net: OpenNet) -> None:
    """Some exporters make inputs of the constants of a normalisation."""
    nodes = [node("Sub", ["image", "mean"], ["centred"]), node("Relu", ["centred"], ["relu"])]
    model = onnx_model(nodes, {"image": ["n", 8, 8, 3], "mean": [1, 1, 1, 3]}, ["relu"], {})
    with pytest.raises(BadData, match="has no tensor that is computed from images alone: .* needs the input mean, too"):
        open_net(model)


def test_an_input_with_a_default_is_none(open_net: OpenNet) -> None:
    """Old files list weights among the inputs."""
    model = small_onnx()
    model.graph.input.append(onnx.helper.make_tensor_value_info("conv_bias", 1, [8]))
    assert "conv" in open_net(model).taps


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"words": ["n", 3, 8, 8]}, "it has 2 inputs that images would fit: image, words"),
        ({"image": ["n", 4, 8, 8]}, r"they are image \(any x 4 x 8 x 8\), words \(any x 4\)"),
        ({"image": [3, 8, 8]}, r"no input is images x height x width x channels.*image \(3 x 8 x 8\)"),
    ],
)
def test_a_net_without_one_input_for_images_is_refused(open_net: OpenNet, inputs: Any, message: str) -> None:
    nodes = [node("Relu", ["image"], ["a"]), node("Relu", ["words"], ["b"])]
    with pytest.raises(BadData, match=message):
        open_net(onnx_model(nodes, INPUTS | inputs, ["a", "b"], {}), (8, 8))


def test_tensors_without_an_axis_for_images_cannot_be_read(open_net: OpenNet) -> None:
    nodes = [
        node("Relu", ["image"], ["relu"]),
        node("Shape", ["image"], ["sides"]),
        node("Transpose", ["relu"], ["turned"], perm=[1, 0, 2, 3]),
        node("ReduceMean", ["relu"], ["number"], keepdims=0),
        node("ArgMax", ["relu"], ["position"], axis=1, keepdims=0),
    ]
    net = open_net(onnx_model(nodes, {"image": ["n", 3, 8, 8]}, ["relu"], {}))
    assert list(net.taps) == ["relu"]
    for name, reason in (
        ("turned", r"it has no axis for images: it is 3 x images \* 1 x 8 x 8"),
        ("sides", "it does not depend on the image"),
        ("position", "it holds no real numbers but i64"),
    ):
        if name in net._reasons:  # OpenVINO drops what nothing depends on
            with pytest.raises(InvalidChoice, match=reason):
                net.find(name)
    assert "turned" in net._reasons or "number" not in net.taps


@pytest.mark.parametrize(
    ("first", "preprocessing", "says"),
    [
        ([("Div", 255.0)], "none", "scales pixels itself"),
        ([("Sub", [[[123.7]], [[116.3]], [[103.5]]]), ("Mul", 0.017)], "none", "scales pixels itself"),
        ([("Sub", [[[0.485]], [[0.456]], [[0.406]]]), ("Div", [[[0.229]], [[0.224]], [[0.225]]])], "unit", "0 to 1"),
        ([("Mul", 2.0), ("Add", -1.0)], "unit", "scales pixels itself"),
        ([], "none", "does not say which pixels it expects"),
    ],
)
def test_pixels_are_those_that_the_first_operations_are_meant_for(
    tmp_path: Path, first: Sequence[tuple[str, Any]], preprocessing: str, says: str
) -> None:
    net = Net(str(save_onnx(small_onnx(first=first), tmp_path / "net.onnx")))
    expected = net.expected_pixels
    assert expected is not None
    assert (expected.preprocessing, expected.is_known) == (preprocessing, bool(first))
    assert says in expected.sentence
    assert Net(net.name, preprocessing="tf").applied_preprocessing == "tf"


def test_numbers_that_are_too_small_for_pixels_are_refused(open_net: OpenNet) -> None:
    with pytest.raises(BadData, match="takes numbers of type i8, which hold no pixels of 0 to 255"):
        open_net(small_onnx(dtype=onnx.TensorProto.INT8))


def test_whole_numbers_are_pixels_of_0_to_255(tmp_path: Path) -> None:
    net = Net(str(save_onnx(small_onnx(dtype=onnx.TensorProto.UINT8), tmp_path / "net.onnx")))
    assert net.expected_pixels is not None
    assert "takes whole numbers" in net.expected_pixels.sentence


def test_what_needs_layers_of_keras_says_so(tmp_path: Path) -> None:
    request = FeatureRequest(Net(str(save_onnx(small_onnx(), tmp_path / "net.onnx"))))
    with pytest.raises(InvalidChoice, match="only a net of Keras can be fine-tuned"):
        request.build_keras("can be fine-tuned")
    with pytest.raises(LayertapError, match="has no layer"):
        FeatureRequest(request.net, ("nowhere",)).build()


def test_listing_layers_imports_neither_keras_nor_tensorflow(
    tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    file = save_onnx(small_onnx(), tmp_path / "net.onnx")
    code = "import sys, cli; print(cli.main(['layers', sys.argv[1]]), {'keras', 'tensorflow'} & set(sys.modules))"
    done = run_python(code, file)
    assert done.stdout.splitlines()[-1] == "0 set()", done.stderr
    assert "depthwise" in done.stdout
