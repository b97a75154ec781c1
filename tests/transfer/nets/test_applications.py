"""The table of nets against `keras.applications` itself."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import keras
import numpy as np
import pytest
from deeper_nets import DEEPER
from outlines import outline

from transfer.nets.backbone import Backbone
from transfer.nets.catalogue import NETS, Net, NetInfo
from transfer.nets.costs import table
from transfer.nets.expected_pixels.expected import expected_pixels
from transfer.nets.preprocessing import Normalise
from transfer.nets.random_weights import no_draws

# Width of the last layer, as in Keras's own tests (keras/src/applications/applications_test.py).
WIDTHS = {
    "VGG16": 512,
    "VGG19": 512,
    "Xception": 2048,
    "InceptionV3": 2048,
    "InceptionResNetV2": 1536,
    "MobileNet": 1024,
    "MobileNetV2": 1280,
    "MobileNetV3Small": 576,
    "MobileNetV3Large": 960,
    "EfficientNetB0": 1280,
    "EfficientNetB1": 1280,
    "EfficientNetB2": 1408,
    "EfficientNetB3": 1536,
    "EfficientNetB4": 1792,
    "EfficientNetB5": 2048,
    "EfficientNetB6": 2304,
    "EfficientNetB7": 2560,
    "EfficientNetV2B0": 1280,
    "EfficientNetV2B1": 1280,
    "EfficientNetV2B2": 1408,
    "EfficientNetV2B3": 1536,
    "EfficientNetV2S": 1280,
    "EfficientNetV2M": 1280,
    "EfficientNetV2L": 1280,
    "DenseNet121": 1024,
    "DenseNet169": 1664,
    "DenseNet201": 1920,
    "ConvNeXtTiny": 768,
    "ConvNeXtSmall": 768,
    "ConvNeXtBase": 1024,
    "ConvNeXtLarge": 1536,
    "ConvNeXtXLarge": 2048,
    "NASNetMobile": 1056,
    "NASNetLarge": 4032,
    "ResNet50": 2048,
    "ResNet101": 2048,
    "ResNet152": 2048,
    "ResNet50V2": 2048,
    "ResNet101V2": 2048,
    "ResNet152V2": 2048,
}
APPLICATIONS = [info for info in NETS.values() if info.builder]
BY_NAME = pytest.mark.parametrize("info", APPLICATIONS, ids=lambda info: info.name)


def test_every_net_of_keras_is_there_by_its_name_in_small_letters() -> None:
    builders = {name for name, thing in vars(keras.applications).items() if inspect.isfunction(thing)}
    assert builders >= set(WIDTHS), "this Keras lacks some of the nets"
    assert {info.builder for info in APPLICATIONS} == builders
    assert all(name == info.name == info.builder.lower() for name, info in NETS.items() if info.builder)
    assert set(NETS) == {name.lower() for name in builders} | {"glyphnet", "efficientnetlite0"}


@BY_NAME
def test_width_is_that_of_keras_own_tests(info: NetInfo) -> None:
    assert info.width == WIDTHS[info.builder]


@BY_NAME
def test_size_is_no_less_than_the_smallest(info: NetInfo) -> None:
    assert 32 <= info.min_size <= info.size


@BY_NAME
def test_preprocessing_is_that_of_its_module(info: NetInfo, rng: np.random.Generator) -> None:
    module = importlib.import_module(getattr(keras.applications, info.builder).__module__)
    pixels = rng.integers(0, 256, (2, 5, 5, 3), np.uint8)
    expected = np.asarray(module.preprocess_input(pixels.astype("float32")))
    found = keras.ops.convert_to_numpy(Normalise(info.preprocessing, 3)(pixels))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.slow
@BY_NAME
def test_table_is_what_the_net_is_whose_file_is_recognised(info: NetInfo, tmp_path: Path) -> None:
    with no_draws():  # they would take half of the time
        backbone = Backbone(Net(info.name, "none"))
    rows = {row.name: row for row in table(backbone)}
    readout = rows[info.readout]
    assert info.readout == list(rows)[-1]
    assert readout.shape[-1] == info.width
    assert len(readout.shape) == 3
    trunk = keras.Model(backbone.input, backbone.taps[info.readout])
    assert trunk.count_params() / 1e6 == pytest.approx(info.parameters, abs=0.006)
    assert readout.gflops == pytest.approx(info.gflops, rel=0.01)
    found = expected_pixels(outline(backbone.model, tmp_path / "any-name.keras"))
    assert found.is_known, found.sentence
    assert found.preprocessing == info.preprocessing
    keras.utils.clear_session()


@pytest.mark.slow
@pytest.mark.parametrize("info", [info for info in APPLICATIONS if info.name not in DEEPER], ids=lambda info: info.name)
def test_features_of_the_smallest_images_are_finite(info: NetInfo, rng: np.random.Generator) -> None:
    smallest = Backbone(Net(info.name, "none"), (info.min_size, info.min_size))
    assert all(side >= 1 for side in smallest.taps[info.readout].shape[1:])
    gray = rng.integers(0, 256, (2, info.min_size, info.min_size, 1), np.uint8)
    net = smallest.cut([(info.readout, "avg")], info.preprocessing, 1)
    [features] = keras.tree.flatten(net(gray, training=False))  # to compile the net would take as long again
    features = keras.ops.convert_to_numpy(features)
    assert features.shape == (2, info.width)
    assert np.isfinite(features).all()
    keras.utils.clear_session()


@pytest.mark.slow
@BY_NAME
def test_the_smallest_size_is_the_smallest_that_keras_takes(info: NetInfo) -> None:
    builder = getattr(keras.applications, info.builder)
    with no_draws(), pytest.raises(ValueError, match="at least|negative|size"):
        builder(weights=None, include_top=False, input_shape=(info.min_size - 1, info.min_size - 1, 3))
