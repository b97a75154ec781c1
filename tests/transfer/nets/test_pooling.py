"""Pooling of tokens: patches are told apart from class and register tokens, and specs of yesterday mean the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from feature_cache.errors import InvalidChoice
from feature_cache.spec import FeatureSpec, effective_prefix
from transfer.export.model import pixels_to_features
from transfer.nets.backbone import Backbone
from transfer.nets.catalogue import Net
from transfer.nets.pooling import count_prefix, grid, pooled_shape
from transfer.request import FeatureRequest, request_for

SIDE, WIDTH = 16, 6  # of the images, and of the tokens of the toy net


@pytest.fixture
def tokens_net(save_net: Callable[..., Net]) -> Net:
    """A net of 16 patches, before which one or more tokens are put, made of Keras's own layers."""

    def tokens(prefix: int) -> Net:
        inputs = keras.Input((SIDE, SIDE, 3))
        patches = layers.Reshape((16, WIDTH), name="patches")(layers.Conv2D(WIDTH, 4, 4, name="patch")(inputs))
        first = layers.Dense(WIDTH, name="first")(layers.Cropping1D((0, 16 - prefix))(patches))
        joined = layers.Concatenate(axis=1, name="tokens")([first, patches])
        attended = layers.MultiHeadAttention(2, 3, name="attention")(joined, joined)
        return save_net(keras.Model(inputs, layers.Add(name="block")([joined, attended])))

    keras.utils.set_random_seed(0)
    return tokens  # type: ignore[return-value]


@pytest.fixture
def pixels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


def rows_of(request: FeatureRequest, pixels: np.ndarray) -> np.ndarray:
    """Features of a request, computed by Keras."""
    request, backbone = request.resolve()
    backbone = backbone or request.build()
    readouts = [(spec.layer, spec.pooling_rule) for spec in request.specs]
    cut = backbone.cut(readouts, "none", 3)
    return keras.ops.convert_to_numpy(keras.tree.flatten(cut(pixels))[0])


@pytest.mark.slow
@pytest.mark.parametrize("prefix", [1, 5])
def test_every_pooling_is_what_numpy_says(tokens_net: Callable, pixels: np.ndarray, prefix: int) -> None:
    request = FeatureRequest(tokens_net(prefix), ("block",), prefix_tokens=prefix)
    whole = rows_of(replace(request, pooling="none", prefix_tokens=None), pixels)
    assert whole.shape == (3, 16 + prefix, WIDTH)
    first, patches = whole[:, 0], whole[:, prefix:]
    expected = {
        "cls": first,
        "avg": patches.mean(1),
        "cls+avg": np.concatenate([first, patches.mean(1)], 1),
        "max": patches.max(1),
        "flatten": whole.reshape(3, -1),
        "none": patches.reshape(3, 4, 4, WIDTH),
    }
    for pooling, rows in expected.items():
        one = replace(request, pooling=pooling)
        found = rows_of(one, pixels)
        np.testing.assert_allclose(found, rows, rtol=0, atol=1e-4 * np.abs(rows).max(), err_msg=pooling)
        (spec,) = one.specs
        assert pooled_shape((16 + prefix, WIDTH), spec.pooling_rule, spec.size, "block") == rows.shape[1:]
        exported = pixels_to_features(one.build(), [("block", spec.pooling_rule)], "none")
        np.testing.assert_allclose(np.asarray(exported(pixels)), rows.reshape(3, -1), rtol=0, atol=1e-4 * rows.max())


def test_the_number_of_prefix_tokens_is_read_from_the_output(tokens_net: Callable) -> None:
    request = FeatureRequest(tokens_net(2), ("patch", "patches", "tokens"), "avg")
    assert [spec.prefix_tokens for spec in request.specs] == [None, None, 2]  # a map, patches alone, and all tokens
    maps = replace(request, layers=("patches",), pooling="none")
    assert [spec.pooling_rule for spec in maps.specs] == ["none-0"]
    resolved, _ = request.resolve()
    assert resolved.resolve() == (resolved, None)


def test_what_was_stored_before_is_what_it_was(tokens_net: Callable, pixels: np.ndarray) -> None:
    net = tokens_net(1)
    before = FeatureSpec(net=net.net_id, weights=net.weights_id, layer="block", size=(SIDE, SIDE))
    again = request_for(before, net)
    assert again.specs == [before]
    whole = rows_of(replace(again, pooling="none"), pixels)
    np.testing.assert_allclose(rows_of(again, pixels), whole.mean(1), rtol=0, atol=1e-4 * np.abs(whole).max())
    now = FeatureRequest(net, ("block",)).specs[0]
    assert now.prefix_tokens == 1
    assert request_for(now, net).specs == [now]


def test_what_does_not_go_with_tokens_is_refused(tokens_net: Callable, pixels: np.ndarray) -> None:
    net = tokens_net(1)
    with pytest.raises(InvalidChoice, match=r"the 14 patches of block \(17 tokens less 3\) fill no map"):
        rows_of(FeatureRequest(net, ("block",), "none", prefix_tokens=3), pixels)
    with pytest.raises(InvalidChoice, match="block has 17 tokens; `prefix_tokens` is less than that"):
        rows_of(FeatureRequest(net, ("block",), "avg", prefix_tokens=17), pixels)
    with pytest.raises(InvalidChoice, match=r"the output of patch \(4 x 4 x 6\) is no row of tokens; use `pooling"):
        FeatureRequest(net, ("patch",), "cls").resolve()
    with pytest.raises(InvalidChoice, match=r"patch \(4 x 4 x 6\) is no row of tokens; leave out `prefix_tokens`"):
        rows_of(FeatureRequest(net, ("patch",), "avg", prefix_tokens=1), pixels)
    with pytest.raises(InvalidChoice, match="reads the class token, and there is none with 0 prefix tokens"):
        _ = FeatureRequest(net, ("patches",), "cls").specs
    with pytest.raises(InvalidChoice, match="the outputs of glyphnet are maps"):
        _ = FeatureRequest(Net("glyphnet"), pooling="cls+avg").specs
    with pytest.raises(InvalidChoice, match="prefix_tokens is a number of tokens"):
        effective_prefix("avg", -1)


def test_patches_fill_a_rectangle_of_the_proportions_of_the_input() -> None:
    assert grid(14 * 6, (224, 100)) == (14, 6)  # patches of 16 pixels; the last columns are left out
    assert grid(15 * 13, (224, 224)) is None
    assert count_prefix(14 * 6 + 1, (224, 100), 1) == 1
    assert count_prefix(9, (64, 64), 5) == 5  # 4 patches, and not 9


def test_patches_that_are_no_squares_are_counted_by_the_kernel_that_cuts_them(
    save_net: Callable[..., Net], pixels: np.ndarray
) -> None:
    inputs = keras.Input((SIDE, SIDE, 3))
    patches = layers.Conv2D(WIDTH, (2, 8), (2, 8), name="patch")(inputs)
    net = save_net(keras.Model(inputs, layers.Reshape((16, WIDTH), name="tokens")(patches)))
    map_, tokens = (rows_of(FeatureRequest(net, (layer,), "none"), pixels) for layer in ("patch", "tokens"))
    assert map_.shape == (3, 8, 2, WIDTH)
    np.testing.assert_array_equal(tokens, map_)
    wide = save_net(
        keras.Model(inputs, layers.Reshape((8, WIDTH), name="tokens")(layers.Conv2D(WIDTH, (4, 8), (4, 8))(inputs)))
    )
    assert FeatureRequest(wide, ("tokens",), "max").resolve()[0].prefix_tokens == (("tokens", 0),)


def test_a_file_of_maps_alone_is_known_to_have_no_tokens(tokens_net: Callable, save_net: Callable) -> None:
    inner = keras.Sequential([keras.Input((SIDE, SIDE, 3)), layers.Conv2D(2, 3), layers.MaxPooling2D()])
    assert not save_net(keras.Sequential([inner, layers.Flatten(), layers.Dense(2)]), "maps").may_have_tokens
    assert tokens_net(1).may_have_tokens
    assert Backbone(tokens_net(1)).prefix_tokens("patch") is None
