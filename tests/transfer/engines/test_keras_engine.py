"""The engine of the Keras backend: the model's own numbers, whatever the batch."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from transfer.engines.keras_engine import KerasEngine
from transfer.nets.backbone import Backbone
from transfer.nets.catalogue import Net


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return Backbone(Net("glyphnet")).cut([("block1_pool", "avg"), ("block2_conv1", "none")], "tf", 1)


@pytest.fixture
def pixels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (8, 32, 32, 1), np.uint8)


def test_features_are_those_of_the_model_one_array_for_each_readout(model: keras.Model, pixels: np.ndarray) -> None:
    features = KerasEngine(model, 8).start(pixels)()
    assert [part.shape for part in features] == [(8, 32), (8, 16, 16, 64)]
    for part, expected in zip(features, model(pixels, training=False), strict=True):
        assert part.dtype == np.float32
        np.testing.assert_allclose(part, keras.ops.convert_to_numpy(expected), atol=1e-5)


def test_one_readout_is_a_list_of_one(pixels: np.ndarray) -> None:
    model = Backbone(Net("glyphnet")).cut([("block1_pool", "avg")], "tf", 1)
    (features,) = KerasEngine(model, 8).start(pixels)()
    assert features.shape == (8, 32)


@pytest.mark.parametrize("count", [1, 5, 8])
def test_a_row_does_not_depend_on_how_many_came_with_it(model: keras.Model, pixels: np.ndarray, count: int) -> None:
    engine = KerasEngine(model, 8)
    whole, part = engine.start(pixels)(), engine.start(pixels[:count])()
    for one, other in zip(whole, part, strict=True):
        assert len(other) == count
        np.testing.assert_array_equal(one[:count], other)


def test_rows_keep_their_order(model: keras.Model, pixels: np.ndarray) -> None:
    engine = KerasEngine(model, 8)
    np.testing.assert_allclose(engine.start(pixels[::-1].copy())()[0], engine.start(pixels)()[0][::-1], atol=1e-6)


def test_results_stay_when_the_next_batch_is_computed(model: keras.Model, pixels: np.ndarray) -> None:
    engine = KerasEngine(model, 8)
    first = engine.start(pixels)()
    kept = [part.copy() for part in first]
    engine.start(255 - pixels)()
    for part, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_it_tells_its_name_and_versions() -> None:
    described = KerasEngine.describe()
    backend = keras.backend.backend()
    assert described["engine"] == f"keras-{backend}"
    assert described["keras"] == keras.__version__
    assert described[backend][0].isdigit()
