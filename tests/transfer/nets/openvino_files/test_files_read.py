"""Files for OpenVINO before they are computed: which are taken, what belongs to them, and what is said of others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from feature_cache.errors import BadData, LayertapError, UnsafeFile
from tests.transfer.onnx_nets import in_another_file, onnx, onnx_model, save_onnx, small_onnx
from transfer.nets.catalogue import Net
from transfer.nets.openvino_files.net import OpenVinoNet
from transfer.nets.openvino_files.reading import read


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights in a folder beside that of the net."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (tmp_path / "net").mkdir()
    np.ones(8 * 3 * 9, "float32").tofile(folder / "weights.bin")
    return folder / "weights.bin"


@pytest.mark.parametrize(
    "location", ["../elsewhere/weights.bin", "{}", "sub/../../elsewhere/weights.bin", "C:\\weights.bin", "a\\b", ""]
)
def test_weights_outside_the_folder_are_refused_before_openvino_opens_the_file(weights: Path, location: str) -> None:
    file = save_onnx(in_another_file(location.format(weights)), weights.parents[1] / "net" / "net.onnx")
    with pytest.raises(UnsafeFile, match="which may lie outside its folder"):
        Net(str(file)).weights_id  # noqa: B018


def test_weights_behind_a_link_are_refused(weights: Path) -> None:
    folder = weights.parents[1] / "net"
    (folder / "link").symlink_to(weights.parent)
    file = save_onnx(in_another_file("link/weights.bin"), folder / "net.onnx")
    with pytest.raises(UnsafeFile, match="takes weights through the link"):
        read(file)


def test_locations_are_found_wherever_a_tensor_can_be(tmp_path: Path) -> None:
    """In an attribute of a node of a graph in an attribute, of a function or of a sparse tensor."""
    tensor = in_another_file("../deep.bin").graph.initializer[0]
    inner = onnx.helper.make_graph([onnx.helper.make_node("Constant", [], ["c"], value=tensor)], "inner", [], [])
    for place in ("graph", "function", "sparse"):
        model = small_onnx()
        if place == "graph":
            model.graph.node.append(onnx.helper.make_node("If", ["x"], ["y"], then_branch=inner))
        elif place == "function":
            model.functions.add().node.append(inner.node[0])
        else:
            model.graph.sparse_initializer.add().values.CopyFrom(tensor)
        with pytest.raises(UnsafeFile, match=r"\.\./deep\.bin"):
            read(save_onnx(model, tmp_path / f"{place}.onnx"))


def test_weights_beside_the_file_are_read_and_identify_the_net(weights: Path) -> None:
    folder = weights.parents[1] / "net"
    file = save_onnx(in_another_file("weights.bin"), folder / "net.onnx")
    with pytest.raises(BadData, match=r"takes weights from .*weights\.bin, which is not there"):
        read(file)
    np.ones(8 * 3 * 9, "float32").tofile(folder / "weights.bin")
    before = Net(str(file)).weights_id
    assert "conv" in OpenVinoNet(Net(str(file))).taps
    np.zeros(8 * 3 * 9, "float32").tofile(folder / "weights.bin")
    assert Net(str(file)).weights_id != before


def test_the_weights_of_an_openvino_file_identify_it(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    file = tmp_path / "net.xml"
    openvino.save_model(read(save_onnx(small_onnx(), tmp_path / "net.onnx")), str(file), compress_to_fp16=False)
    before = Net(str(file)).weights_id
    assert OpenVinoNet(Net(str(file))).taps["conv"].shape == (None, 6, 6, 8)
    with file.with_suffix(".bin").open("r+b") as stream:
        stream.write(b"\1")
    assert Net(str(file)).weights_id != before
    file.with_suffix(".bin").write_bytes(b"\1")
    with pytest.raises(BadData, match="OpenVINO cannot read .*Incorrect weights in bin file"):
        read(file)
    file.with_suffix(".bin").unlink()
    with pytest.raises(BadData, match="OpenVINO cannot read .*bin file cannot be found"):
        read(file)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.onnx", b"", "is empty"),
        ("a.onnx", b"\x89PNG\r\n\x1a\n" + bytes(64), "is no ONNX file, or it is cut short: begins as PNG"),
        ("a.onnx", b"\x08\x09", "it holds no graph"),
        ("a.tflite", b"PK\x03\x04" + bytes(64), "is no TensorFlow Lite file, or it is cut short: begins as ZIP"),
        ("a.tflite", bytes(4) + b"TFL3" + bytes(99), "OpenVINO cannot read"),
        ("a.xml", b"plain text", "is no OpenVINO file, or it is cut short: it is no XML"),
        ("a.xml", b"<?xml version='1.0'?><annotation/>", "OpenVINO cannot read"),
    ],
)
def test_a_file_of_another_kind_is_said_to_be_one(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadData, match=message) as error:
        read(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = save_onnx(small_onnx(), tmp_path / "whole.onnx").read_bytes()
    for share in (0.02, 0.3, 0.6, 0.9, 0.999):
        file = tmp_path / f"{share}.onnx"
        file.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(BadData, match="is no ONNX file, or it is cut short"):
            read(file)


def test_operations_that_openvino_lacks_are_named(tmp_path: Path) -> None:
    nodes = [
        onnx.helper.make_node("Frobnicate", ["image"], ["a"]),
        onnx.helper.make_node("Blur", ["a"], ["b"], domain="com.acme"),
    ]
    model = onnx_model(nodes, {"image": ["n", 3, 8, 8]}, ["b"], {})
    model.opset_import.append(onnx.helper.make_opsetid("com.acme", 1))
    with pytest.raises(BadData, match=r"does not know: .*Frobnicate.*com\.acme\.Blur"):
        read(save_onnx(model, tmp_path / "net.onnx"))
    model.producer_name = "tf2onnx"
    with pytest.raises(BadData, match=r"did not convert: Frobnicate.*\. Write the file with `layertap export RUN --to"):
        read(save_onnx(model, tmp_path / "of-tensorflow.onnx"))


def test_sizes_beyond_all_bounds_are_refused(tmp_path: Path) -> None:
    model = small_onnx(side=2**20)
    net = Net(str(save_onnx(model, tmp_path / "net.onnx")))
    with pytest.raises(LayertapError, match="is too large"):
        OpenVinoNet(net)
    kernel = model.graph.initializer[0]
    kernel.dims[0] = 2**40
    with pytest.raises(BadData, match="OpenVINO cannot read"):
        read(save_onnx(model, tmp_path / "huge.onnx"))


@pytest.mark.parametrize("write", [lambda file: None, lambda file: file.mkdir()])
def test_a_net_that_is_no_file_is_not_taken(tmp_path: Path, write: Callable[[Path], object]) -> None:
    write(tmp_path / "net.onnx")
    with pytest.raises(LayertapError, match="there is no net file"):
        Net(str(tmp_path / "net.onnx"))


def test_constants_that_fit_into_no_memory_are_refused(tmp_path: Path) -> None:
    nodes = [
        onnx.helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        onnx.helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        onnx.helper.make_node("Add", ["image", "sum"], ["out"]),
    ]
    model = onnx_model(nodes, {"image": ["n", 3, 8, 8]}, ["out"], {"shape": np.array([2**10, 2**40])})
    with pytest.raises(BadData, match="a constant of .* GiB does not fit into the memory"):
        read(save_onnx(model, tmp_path / "net.onnx"))


def test_names_that_are_no_texts_are_refused(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    file = tmp_path / "net.xml"
    openvino.save_model(read(save_onnx(small_onnx(), tmp_path / "net.onnx")), str(file))
    file.write_bytes(file.read_bytes().replace(b"depthwise", b"depth\xffise"))
    with pytest.raises(BadData, match="OpenVINO cannot read .*utf-8"):
        read(file)
