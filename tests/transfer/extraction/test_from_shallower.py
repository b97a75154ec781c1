"""Deeper layers from stored shallower ones: the same features, for less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from feature_cache.cache import FeatureCache
from feature_cache.errors import InvalidChoice
from transfer import hardware
from transfer.data import datasets
from transfer.extraction import from_shallower, reading
from transfer.extraction.extract import extract
from transfer.extraction.lookup import find_missing, stored_features
from transfer.extraction.plan import plan
from transfer.extraction.report import Report
from transfer.nets.backbone import Backbone
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest, SharedNet

DEEP = FeatureRequest(Net("glyphnet"), ("block4_pool", "block3_conv1"))


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


@pytest.fixture
def no_images(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From then on, decoding an image is a failure."""
    return lambda: monkeypatch.setattr(reading, "pixels_for", lambda *_: pytest.fail("an image was decoded"))


def run(folder: Path, request: FeatureRequest, cache: FeatureCache) -> Report:
    return extract(datasets.load(str(folder)), request, cache)


def rows(folder: Path, request: FeatureRequest, cache: FeatureCache) -> list[np.ndarray]:
    features = stored_features(datasets.load(str(folder)), request, cache).features
    return [np.asarray(features[spec.layer]) for spec in request.specs]


def test_features_from_a_stored_layer_are_those_from_the_pixels(
    class_folder: Path, cache: FeatureCache, tmp_path: Path, no_images: Callable[[], None]
) -> None:
    pixels = FeatureCache(tmp_path / "from pixels")
    assert run(class_folder, DEEP, pixels).started_from == []
    run(class_folder, FeatureRequest(Net("glyphnet"), ("block2_pool",), "none"), cache)
    no_images()
    report = run(class_folder, DEEP, cache)
    assert (report.started_from, report.rows_computed) == (["block2_pool"], 16)
    for found, expected in zip(rows(class_folder, DEEP, cache), rows(class_folder, DEEP, pixels), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_images_without_a_stored_row_are_computed_from_their_pixels(
    class_folder: Path, cache: FeatureCache, tmp_path: Path, write_image: Callable[..., Path]
) -> None:
    run(class_folder, FeatureRequest(Net("glyphnet"), ("block2_pool",), "none"), cache)
    for number in range(3):
        write_image(class_folder / "a" / f"new {number}.png", 60 + number, mode="RGB" if number else "L")
    report = run(class_folder, DEEP, cache)
    assert (report.started_from, report.rows_computed, report.rows_total) == (["block2_pool"], 22, 22)
    pixels = FeatureCache(tmp_path / "from pixels")
    run(class_folder, DEEP, pixels)
    for found, expected in zip(rows(class_folder, DEEP, cache), rows(class_folder, DEEP, pixels), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_the_deepest_stored_layers_are_taken_that_the_readouts_come_after(
    class_folder: Path, cache: FeatureCache
) -> None:
    run(class_folder, FeatureRequest(Net("glyphnet"), ("block1_pool", "block2_pool", "block3_pool"), "none"), cache)
    # block3_conv1 comes before block3_pool, so that it needs block2_pool
    deepest = replace(DEEP, layers=("block4_pool",))
    for wanted, *start in ((DEEP, "block2_pool", "block3_pool"), (deepest, "block3_pool")):
        missing = find_missing(datasets.load(str(class_folder)), wanted, cache)
        (part,) = from_shallower.divide(wanted, cache, missing, SharedNet(wanted))
        assert list(part.start) == [space.spec.layer for space in part.spaces] == start
        np.testing.assert_array_equal(part.jobs, missing.jobs)


@pytest.mark.slow
def test_both_sides_of_a_skip_connection_are_read_where_both_are_stored(
    class_folder: Path,
    cache: FeatureCache,
    tmp_path: Path,
    save_net: Callable[..., Net],
    no_images: Callable[[], None],
) -> None:
    inputs = keras.Input((16, 16, 3))
    first = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(inputs)
    second = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="second")(first)
    joined = keras.layers.Add()([keras.layers.MaxPooling2D(name="around")(first), second])
    net = save_net(keras.Model(inputs, keras.layers.Conv2D(8, 3, name="last")(joined)))
    wanted = FeatureRequest(net, ("last",), "avg")
    run(class_folder, wanted, pixels := FeatureCache(tmp_path / "from pixels"))
    run(class_folder, FeatureRequest(net, ("second",), "none"), cache)
    assert plan(datasets.load(str(class_folder)), wanted, cache).started_from == []
    run(class_folder, FeatureRequest(net, ("around",), "none"), cache)
    no_images()
    assert plan(datasets.load(str(class_folder)), wanted, cache).started_from == ["around", "second"]
    assert run(class_folder, wanted, cache).started_from == ["around", "second"]
    (found,), (expected,) = rows(class_folder, wanted, cache), rows(class_folder, wanted, pixels)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    "other",
    [
        FeatureRequest(Net("glyphnet"), ("block2_pool",)),  # averaged
        FeatureRequest(Net("glyphnet"), ("block2_pool",), "none", size=(48, 48)),
        FeatureRequest(Net("glyphnet", "none"), ("block2_pool",), "none"),
        FeatureRequest(Net("glyphnet"), ("block2_pool",), "none", fit="pad"),
        FeatureRequest(Net("glyphnet"), ("block2_pool",), "none", dtype="float16"),
    ],
    ids=["pooled", "size", "weights", "fit", "rounded"],
)
def test_rows_that_are_not_exactly_that_layer_are_not_used(
    class_folder: Path, cache: FeatureCache, other: FeatureRequest
) -> None:
    run(class_folder, other, cache)
    assert run(class_folder, DEEP, cache).started_from == []


def test_a_layer_that_costs_more_to_read_than_to_compute_is_not_read(
    class_folder: Path, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(class_folder, FeatureRequest(Net("glyphnet"), ("block1_conv1",), "none"), cache)
    monkeypatch.setattr(hardware, "BYTES_PER_SECOND", 1e6)
    assert run(class_folder, DEEP, cache).started_from == []


def test_a_damaged_space_is_passed_by(class_folder: Path, cache: FeatureCache) -> None:
    stored = FeatureRequest(Net("glyphnet"), ("block2_pool",), "none")
    run(class_folder, stored, cache)
    (cache[stored.specs[0]].folder / "spec.json").write_text("{")
    assert run(class_folder, DEEP, cache).started_from == []


@pytest.fixture(scope="module")
def skipping() -> Backbone:
    """A net whose second convolution is skipped by a connection around it."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    first = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(inputs)
    second = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="second")(first)
    total = keras.layers.Add(name="total")([first, second])
    keras.layers.Conv2D(8, 3, name="last")(total)
    backbone = Backbone(Net("glyphnet"))
    backbone.taps = {"first": first, "second": second, "total": total}
    backbone.taps["last"] = keras.layers.Conv2D(8, 3, name="last")(total)
    backbone.input = inputs
    return backbone


@pytest.mark.parametrize(
    ("layer", "readouts", "leads"),
    [
        ("first", ["last"], True),
        ("second", ["last"], False),
        ("total", ["last"], True),
        ("total", ["last", "total"], True),
        ("total", ["last", "second"], False),
        ("last", ["first"], False),
        ("nowhere", ["last"], False),
    ],
)
def test_a_layer_leads_to_others_when_nothing_goes_around_it(
    skipping: Backbone, layer: str, readouts: list[str], leads: bool
) -> None:
    assert (skipping.frontier([layer], readouts) == {layer}) == leads
    if not leads:
        with pytest.raises(InvalidChoice, match="cannot be computed from"):
            skipping.cut_from([layer], [(name, "avg") for name in readouts])


def test_several_stored_layers_lead_together(skipping: Backbone, rng: np.random.Generator) -> None:
    assert skipping.frontier(["first", "second"], ["last"]) == {"first", "second"}
    assert skipping.frontier(["first", "second", "total"], ["last"]) == {"total"}
    pixels = rng.random((2, 16, 16, 3), np.float32)
    whole = keras.Model(skipping.input, [skipping.taps[name] for name in ("first", "second", "last")])
    first, second, last = (keras.ops.convert_to_numpy(output) for output in whole(pixels))
    tail = skipping.cut_from(["second", "first"], [("last", "none"), ("second", "max")])
    joined = np.concatenate([second.reshape(2, -1), first.reshape(2, -1)], axis=1)
    found, pooled = (keras.ops.convert_to_numpy(output) for output in tail(joined))
    np.testing.assert_allclose(found, last, atol=1e-5)
    np.testing.assert_array_equal(pooled, second.max((1, 2)))


def test_the_tail_gives_what_the_whole_net_gives(skipping: Backbone, rng: np.random.Generator) -> None:
    pixels = rng.random((2, 16, 16, 3), np.float32)
    whole = keras.Model(skipping.input, [skipping.taps["total"], skipping.taps["last"]])
    total, last = (keras.ops.convert_to_numpy(output) for output in whole(pixels))
    tail = skipping.cut_from(["total"], [("last", "none"), ("total", "max")])
    found, pooled = (keras.ops.convert_to_numpy(output) for output in tail(total))
    np.testing.assert_allclose(found, last, atol=1e-5)
    np.testing.assert_array_equal(pooled, total.max((1, 2)))


def test_a_layer_that_is_used_again_later_leads_to_its_later_use(save_net: Any, rng: np.random.Generator) -> None:
    keras.utils.set_random_seed(0)
    inner = keras.Input((8, 8, 3))
    nested = keras.Model(inner, keras.layers.Conv2D(3, 3, padding="same", name="conv")(inner), name="nested")
    image = keras.Input((8, 8, 3))
    twice = nested(keras.layers.ReLU(name="relu")(nested(image)))
    total = keras.layers.Add(name="total")([twice, keras.layers.Conv2D(3, 1, name="after")(twice)])
    backbone = Backbone(save_net(keras.Model(image, total), "twice"))
    pixels = rng.random((2, 8, 8, 3), np.float32)
    whole = keras.Model(backbone.input, [backbone.taps["nested"], backbone.taps["total"]])
    first, last = (keras.ops.convert_to_numpy(output) for output in whole(pixels))
    for layer in ("nested", "nested/conv"):
        found, _ = backbone.cut_from([layer], [("total", "none"), ("relu", "avg")])(first)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(found), last, atol=1e-5)
