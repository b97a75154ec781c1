"""Features of files for OpenVINO: those of the package ``onnx``, which computes with NumPy, in every layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_cache.cache import FeatureCache
from feature_cache.errors import InvalidChoice
from tests.transfer.onnx_nets import NAMES, SIDE, computed, onnx, save_onnx, small_onnx
from transfer.data import datasets
from transfer.engines.batch import Batch
from transfer.engines.openvino_files import OpenVinoFileFactory
from transfer.engines.runner import BatchRunner
from transfer.extraction.extract import extract
from transfer.extraction.lookup import stored_features
from transfer.nets.catalogue import Net
from transfer.nets.openvino_files.reading import read
from transfer.request import FeatureRequest, request_for

openvino = pytest.importorskip("openvino")
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3)).astype(np.uint8)


def features(request: FeatureRequest, pixels: np.ndarray, batch_size: int = 8) -> dict[str, np.ndarray]:
    engine = OpenVinoFileFactory(request, "auto").make(pixels, batch_size)
    starts = range(0, len(pixels), engine.batch_size)
    parts = [engine.start(pixels[start : start + engine.batch_size])() for start in starts]
    rows = (np.concatenate(part) for part in zip(*parts, strict=True))
    return dict(zip((spec.layer for spec in request.specs), rows, strict=True))


def request_of(model: Any, file: Path, *layers: str, **options: Any) -> FeatureRequest:
    net = Net(str(save_onnx(model, file)), preprocessing=options.pop("preprocessing", "torch"))
    return FeatureRequest(net, layers or NAMES, **options)


def expected(model: Any, pixels: np.ndarray, layout: str = "NCHW") -> dict[str, np.ndarray]:
    """All tensors as `onnx` computes them, channels last."""
    image = (pixels / 255 - MEAN) / DEVIATION
    found = computed(model, image.transpose(0, 3, 1, 2) if layout == "NCHW" else image, *NAMES)
    tensors = dict(zip(NAMES, found, strict=True))
    maps = {name: tensors[name].transpose(0, 2, 3, 1) for name in ("conv", "relu", "depthwise")}
    return tensors | maps | {"flat": tensors["tokens"]}


def assert_near(found: np.ndarray, exact: np.ndarray) -> None:
    assert found.shape == exact.shape
    assert found.dtype == np.float32
    assert np.abs(found - exact).max() <= 1e-5 * np.abs(exact).max()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_every_tensor_is_that_of_the_file_with_its_channels_last(
    tmp_path: Path, pixels: np.ndarray, layout: str
) -> None:
    model = small_onnx(layout=layout)
    request = request_of(model, tmp_path / "net.onnx", pooling="none", prefix_tokens=None)
    exact = expected(model, pixels, layout)
    for name, rows in features(request, pixels).items():
        assert_near(rows, exact[name])


@pytest.mark.parametrize("pooling", ["avg", "max", "flatten"])
def test_maps_and_rows_are_pooled_over_all_but_the_channels(tmp_path: Path, pixels: np.ndarray, pooling: str) -> None:
    model = small_onnx()
    exact = expected(model, pixels)
    found = features(request_of(model, tmp_path / "net.onnx", "conv", "biased", pooling=pooling), pixels)
    for name, rows in found.items():
        values = exact[name].reshape(len(pixels), -1, exact[name].shape[-1])
        pooled = {"avg": values.mean(1), "max": values.max(1), "flatten": values.reshape(len(pixels), -1)}
        assert_near(rows, pooled[pooling])


def test_tokens_are_pooled_by_the_same_words_as_those_of_keras(tmp_path: Path, pixels: np.ndarray) -> None:
    model = small_onnx()
    tokens = expected(model, pixels)["biased"]
    patches = tokens[:, 11:]  # 25 of 36: a map of 5 x 5
    pooled = {
        "cls": tokens[:, 0],
        "avg": patches.mean(1),
        "max": patches.max(1),
        "cls+avg": np.concatenate([tokens[:, 0], patches.mean(1)], axis=1),
        "none": patches.reshape(len(pixels), 5, 5, 6),
    }
    for pooling, rows in pooled.items():
        request = request_of(model, tmp_path / "net.onnx", "biased", pooling=pooling, prefix_tokens=11)
        assert_near(features(request, pixels)["biased"], rows)
    with pytest.raises(InvalidChoice, match="is no row of tokens"):
        features(request_of(model, tmp_path / "net.onnx", "conv", pooling="cls"), pixels)


@pytest.mark.parametrize("preprocessing", ["none", "unit", "tf", "torch", "caffe"])
def test_pixels_are_scaled_as_for_nets_of_keras(tmp_path: Path, pixels: np.ndarray, preprocessing: str) -> None:
    model = small_onnx()
    request = request_of(model, tmp_path / "net.onnx", "conv", pooling="none", preprocessing=preprocessing)
    x = pixels.astype(np.float64)
    image = {
        "none": x,
        "unit": x / 255,
        "tf": x / 127.5 - 1,
        "torch": (x / 255 - MEAN) / DEVIATION,
        "caffe": x[..., ::-1] - np.array([103.939, 116.779, 123.68]),
    }[preprocessing]
    [exact] = computed(model, image.transpose(0, 3, 1, 2), "conv")
    assert_near(features(request, pixels)["conv"], exact.transpose(0, 2, 3, 1))


def test_gray_and_colour_go_into_nets_of_either(tmp_path: Path, pixels: np.ndarray) -> None:
    for channels in (1, 3):
        model = small_onnx(channels=channels)
        request = request_of(model, tmp_path / f"{channels}.onnx", "conv", pooling="none", preprocessing="none")
        gray, luminance = pixels[..., :1], pixels @ np.array([0.299, 0.587, 0.114])
        for given, image in ((gray, gray), (pixels, pixels if channels == 3 else luminance[..., None])):
            image = np.repeat(image, channels // image.shape[-1], axis=-1)
            [exact] = computed(model, image.transpose(0, 3, 1, 2), "conv")
            assert_near(features(request, given)["conv"], exact.transpose(0, 2, 3, 1))
    with pytest.raises(InvalidChoice, match="is for colour"):
        features(replace(request_of(small_onnx(channels=1), tmp_path / "1.onnx", "conv")), pixels)


def test_rows_do_not_depend_on_the_batch_or_on_a_number_that_the_file_fixes(tmp_path: Path, pixels: np.ndarray) -> None:
    fixed = small_onnx(batch=2)
    [shape] = [tensor for tensor in fixed.graph.initializer if tensor.name == "per_position"]
    shape.CopyFrom(onnx.numpy_helper.from_array(np.array([2, 8, -1]), "per_position"))
    exact = expected(small_onnx(), pixels)
    for number, (model, batch_size) in enumerate([(small_onnx(), 1), (small_onnx(), 8), (fixed, 8), (fixed, 1)]):
        request = request_of(model, tmp_path / f"{number}.onnx", "logits", pooling="none")
        assert_near(features(request, pixels, batch_size)["logits"], exact["logits"])


def test_a_net_for_one_image_is_given_larger_batches_one_by_one(tmp_path: Path, pixels: np.ndarray) -> None:
    model = small_onnx(batch=1)
    [shape] = [tensor for tensor in model.graph.initializer if tensor.name == "per_position"]
    shape.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 8, -1]), "per_position"))
    batch = Batch(np.zeros((3, 16), np.uint8), np.zeros(3, np.uint32), pixels)
    # The shape that is written for one image comes after the convolutions: those take any number.
    for layer, size in (("logits", 1), ("depthwise", 3)):
        runner = BatchRunner(request_of(model, tmp_path / "net.onnx", layer, pooling="none"), 3)
        assert runner.batch_size == size
        [(_, [rows])] = runner.run([batch])
        assert_near(rows, expected(small_onnx(), pixels)[layer])
        assert runner.peak(0.01) > 0


def test_whole_numbers_and_half_precision(tmp_path: Path, pixels: np.ndarray) -> None:
    whole = small_onnx(dtype=onnx.TensorProto.UINT8)
    request = request_of(whole, tmp_path / "net.onnx", "logits", preprocessing=None)
    [exact] = computed(whole, pixels.transpose(0, 3, 1, 2), "logits")
    assert_near(features(request, pixels)["logits"], exact)
    half = tmp_path / "half.xml"
    openvino.save_model(read(Path(request.net.name)), str(half))  # weights in 16 bits
    found = features(FeatureRequest(Net(str(half)), ("logits",)), pixels)["logits"]
    assert np.abs(found - exact).max() <= 1e-2 * np.abs(exact).max()


def test_extraction_stores_what_the_file_gives_and_finds_it_by_its_digest(
    tmp_path: Path, class_folder: Path, write_image: Callable[..., Path]
) -> None:
    write_image(class_folder / "a" / "colour.png", 99, mode="RGB")
    cache, data = FeatureCache(tmp_path / "cache"), datasets.load(str(class_folder))
    request = request_of(small_onnx(), tmp_path / "net.onnx", "relu", "biased")
    report = extract(data, request, cache)
    assert (report.rows_computed, report.engine) == (18, "openvino")
    stored = stored_features(data, request, cache)
    moved = Path(request.net.name).rename(tmp_path / "moved.onnx")
    again = replace(request, net=Net(str(moved), preprocessing="torch"))
    assert extract(data, again, cache).rows_computed == 0
    assert request_for(again.specs[0], again.net).specs == again.specs[:1]
    assert stored["relu"][:].shape == (9, 8)
    other = small_onnx(first=[("Mul", 2.0)])
    assert extract(data, request_of(other, tmp_path / "net.onnx", "relu"), cache).rows_computed == 9


def test_a_deeper_layer_is_computed_from_pixels_also_where_a_map_is_stored(tmp_path: Path, class_folder: Path) -> None:
    cache, data = FeatureCache(tmp_path / "cache"), datasets.load(str(class_folder))
    request = request_of(small_onnx(), tmp_path / "net.onnx", "conv", pooling="none")
    extract(data, request, cache)
    report = extract(data, replace(request, layers=("logits",)), cache)
    assert (report.rows_computed, report.started_from) == (8, [])


@pytest.mark.parametrize("engine", ["keras", "other"])
def test_no_other_engine_computes_it(tmp_path: Path, engine: str) -> None:
    with pytest.raises(InvalidChoice, match=rf"`engine='{engine}'` does not compute .*net\.onnx"):
        OpenVinoFileFactory(request_of(small_onnx(), tmp_path / "net.onnx"), engine)


def test_a_precision_that_the_processor_lacks_is_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    request = request_of(small_onnx(), tmp_path / "net.onnx", "conv", precision="bfloat16")
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        exact = features(replace(request, precision="float32"), pixels)["conv"]
        assert np.abs(features(request, pixels)["conv"] - exact).max() <= 0.02 * np.abs(exact).max()
    else:
        with pytest.raises(InvalidChoice, match="nothing else computes"):
            features(request, pixels)
