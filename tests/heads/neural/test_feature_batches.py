"""`FeatureBatches`: what Keras sees of features in the cache."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from feature_cache import FeatureCache, Features, FeatureSpec
from heads.neural.batches import FeatureBatches

SPEC = FeatureSpec(net="vgg16", weights="imagenet", layer="block5_pool", size=(32, 32))


@pytest.fixture
def features(tmp_path: Path) -> Features:
    """50 rows in three segments; the first column is the row's number / 1000, the second says its class."""
    digests = np.random.default_rng(0).integers(0, 256, (50, 16), dtype=np.uint8)
    rows = np.stack([np.arange(50) / 1000, np.arange(50) % 2 * 4 - 2, np.ones(50)], axis=1).astype(np.float32)
    cache = FeatureCache(tmp_path)
    for part in (slice(0, 20), slice(20, 21), slice(21, 50)):
        with cache[SPEC].writer({}) as writer:
            writer.append(digests[part], rows[part])
    return cache[SPEC].rows(digests)


@pytest.fixture
def targets() -> np.ndarray:
    return np.arange(50) % 2


def numbers(batches: FeatureBatches) -> list[list[int]]:
    """The numbers of the rows in each batch."""
    return [np.rint(batches[n][0][:, 0] * 1000).astype(int).tolist() for n in range(batches.num_batches)]


def test_batches_hold_each_row_once_in_order(features: Features, targets: np.ndarray):
    batches = FeatureBatches(features, targets, batch_size=16)
    assert [len(batch) for batch in numbers(batches)] == [16, 16, 16, 2]
    assert sum(numbers(batches), []) == list(range(50))
    assert batches[3][1].tolist() == [0, 1]


def test_shuffled_batches_hold_each_row_once_with_its_target_in_a_new_order_each_epoch(
    features: Features, targets: np.ndarray
):
    batches = FeatureBatches(features, targets, batch_size=16, shuffle=True, seed=3)
    first = numbers(batches)
    assert sorted(sum(first, [])) == list(range(50)) != sum(first, [])
    assert all((batches[n][0][:, 1] > 0).tolist() == (batches[n][1] > 0).tolist() for n in range(4))
    batches.on_epoch_end()
    assert sorted(sum(numbers(batches), [])) == list(range(50))
    assert numbers(batches) != first
    assert numbers(FeatureBatches(features, targets, batch_size=16, shuffle=True, seed=3)) == first
    assert numbers(FeatureBatches(features, targets, batch_size=16, shuffle=True, seed=4)) != first


@pytest.mark.slow
def test_keras_fits_evaluates_and_predicts_from_the_cache(features: Features, targets: np.ndarray):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation="sigmoid")])
    model.compile(keras.optimizers.SGD(0.01), loss="binary_crossentropy", metrics=["accuracy"])
    before = model.evaluate(FeatureBatches(features, targets), verbose=0)[0]
    model.fit(FeatureBatches(features, targets, batch_size=8, shuffle=True), epochs=20, verbose=0)
    assert model.evaluate(FeatureBatches(features, targets), verbose=0)[0] < before
    predicted = model.predict(FeatureBatches(features, batch_size=7, workers=2), verbose=0)
    np.testing.assert_allclose(predicted, model.predict(np.asarray(features), verbose=0), rtol=1e-5, atol=1e-6)


def test_worker_processes_open_the_files_themselves(features: Features, targets: np.ndarray):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    batches = FeatureBatches(features, batch_size=8, workers=2, use_multiprocessing=True)
    np.testing.assert_allclose(
        model.predict(batches, verbose=0), model.predict(np.asarray(features), verbose=0), rtol=1e-5, atol=1e-5
    )


def test_targets_of_another_length_are_refused(features: Features):
    with pytest.raises(ValueError, match="^received 50 rows of features and 49 targets.$"):
        FeatureBatches(features, np.zeros(49))


def test_batch_without_rows_is_refused(features: Features):
    with pytest.raises(ValueError, match="^a batch has at least 1 row; received 0.$"):
        FeatureBatches(features, batch_size=0)
