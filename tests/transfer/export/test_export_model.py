"""The part of a net that serves a head: Keras's own layers give the features that an extraction would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from feature_cache.spec import PREPROCESSINGS
from transfer.export.comparison import as_rgb, random_images
from transfer.export.formats import FORMATS
from transfer.export.model import pixels_to_features
from transfer.nets.backbone import Backbone
from transfer.nets.catalogue import Net
from transfer.nets.files.keras_file import read_config
from transfer.nets.preprocessing import Normalise, normalising_layers

SIZE = (16, 20)


@pytest.fixture
def pixels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (5, *SIZE, 3), np.uint8)


@pytest.fixture
def toy(save_net: Callable) -> Callable[..., Backbone]:
    """A net with a nested model, tokens and dropout, for so many channels."""

    def build(channels: int = 3) -> Backbone:
        inner = keras.Sequential([keras.layers.Conv2D(6, 3, name="conv"), keras.layers.Dropout(0.5)], name="inner")
        inputs = keras.Input((*SIZE, channels))
        x = inner(inputs)
        x = keras.layers.MaxPooling2D(2, name="pool")(x)
        x = keras.layers.Reshape((-1, 6), name="tokens")(x)
        keras.utils.set_random_seed(1)
        return Backbone(save_net(keras.Model(inputs, keras.layers.Dense(4, name="mixed")(x))), SIZE)

    return build


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("preprocessing", PREPROCESSINGS)
def test_pixels_become_what_they_become_in_an_extraction(preprocessing: str, channels: int, pixels: np.ndarray) -> None:
    if channels == 1 and preprocessing in ("torch", "caffe"):
        pytest.skip("these are for colour")
    x = inputs = keras.Input(pixels.shape[1:], dtype="uint8")
    for layer in normalising_layers(preprocessing, channels):
        x = layer(x)
    found = keras.ops.convert_to_numpy(keras.Model(inputs, x)(pixels))
    expected = keras.ops.convert_to_numpy(Normalise(preprocessing, channels)(pixels))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pooling", ["avg", "max", "flatten", "none"])
@pytest.mark.parametrize("preprocessing", ["none", "caffe"])
def test_features_are_those_of_an_extraction_flattened_and_side_by_side(
    pooling: str, preprocessing: str, pixels: np.ndarray, toy: Callable[..., Backbone]
) -> None:
    backbone = toy()
    readouts = [(backbone.find(layer), pooling) for layer in ("pool", "inner/conv", "tokens", "mixed")]
    model = pixels_to_features(backbone, readouts, preprocessing)
    parts = backbone.cut(readouts, preprocessing, 3)(pixels, training=False)
    expected = np.concatenate([keras.ops.convert_to_numpy(part).reshape(len(pixels), -1) for part in parts], axis=1)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(pixels)), expected, rtol=1e-4, atol=1e-4)


def test_the_file_needs_no_code(tmp_path: Path, pixels: np.ndarray, toy: Callable[..., Backbone]) -> None:
    backbone = toy()
    model = pixels_to_features(backbone, [("pool", "avg")], "torch")
    model.save(tmp_path / "net.keras")
    read_config(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras")
    expected = keras.ops.convert_to_numpy(model(pixels, training=False))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(again(pixels)), expected, rtol=1e-5)


def test_a_net_for_gray_images_takes_colour(pixels: np.ndarray, toy: Callable[..., Backbone]) -> None:
    backbone = toy(1)
    model = pixels_to_features(backbone, [("pool", "avg")], "unit")
    expected = backbone.cut([("pool", "avg")], "unit", 3)(pixels, training=False)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model(pixels)), keras.ops.convert_to_numpy(expected), rtol=1e-4, atol=1e-5
    )


def test_glyphnet_reads_gray_images_as_rgb_as_it_reads_them_gray(rng: np.random.Generator) -> None:
    backbone = Backbone(Net("glyphnet"))
    gray = rng.integers(0, 256, (3, 32, 32, 1), np.uint8)
    model = pixels_to_features(backbone, [("block4_pool", "avg")], "tf")
    expected = backbone.cut([("block4_pool", "avg")], "tf", 1)(gray, training=False)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model(as_rgb(list(gray)))),
        keras.ops.convert_to_numpy(expected),
        rtol=1e-4,
        atol=1e-4,
    )


def test_random_images_are_the_same_each_time_and_differ_in_contrast() -> None:
    first, again = random_images(20, SIZE), random_images(20, SIZE)
    assert all((one.pixels == other.pixels).all() for one, other in zip(first.sources, again.sources, strict=True))
    assert {source.pixels.shape for source in first.sources} == {(*SIZE, 3)}
    spread = [int(source.pixels.max()) - int(source.pixels.min()) for source in first.sources]
    assert min(spread) < 64 < 128 < max(spread)


def test_a_layer_that_was_given_its_dtype_as_a_policy_can_be_saved(pixels: np.ndarray, tmp_path: Path) -> None:
    inputs = keras.Input((*SIZE, 3))
    model = keras.Model(inputs, keras.layers.Identity(dtype=keras.DTypePolicy("float32"))(inputs))
    FORMATS["keras"].write(model, tmp_path / "model.keras")
    np.testing.assert_array_equal(FORMATS["keras"].read(tmp_path / "model.keras")(pixels), pixels.astype("float32"))
    assert "get_config" not in vars(keras.layers.Identity)
