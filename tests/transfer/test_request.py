"""Requests: what is asked of a net becomes specs, without Keras where names are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import keras
import pytest

from feature_cache.errors import BadData, InvalidChoice, UnsafeFile
from feature_cache.spec import FeatureSpec
from transfer.nets.catalogue import NETS, Net
from transfer.request import FeatureRequest, SharedNet, request_for


def test_without_layers_it_is_the_customary_readout() -> None:
    for name in ("glyphnet", "vgg16"):
        (spec,) = FeatureRequest(Net(name, "none")).specs
        assert (spec.layer, spec.pooling) == (NETS[name].readout, NETS[name].pooling)


def test_each_layer_has_one_spec_in_the_order_asked() -> None:
    request = FeatureRequest(
        Net("glyphnet"), ("block2_pool", "block1_pool", "block2_pool"), pooling="max", size=(16, 24)
    )
    assert [spec.layer for spec in request.specs] == ["block2_pool", "block1_pool"]
    assert all((spec.pooling, spec.size) == ("max", (16, 24)) for spec in request.specs)


def test_padding_is_gray_unless_it_is_said_or_a_spec_is_older_than_that() -> None:
    (gray,) = FeatureRequest(Net("glyphnet"), fit="pad").specs
    (black,) = FeatureRequest(Net("glyphnet"), fit="pad", fill="black").specs
    (stretched,) = FeatureRequest(Net("glyphnet")).specs
    assert (gray.fill, black.fill, stretched.fill) == ("gray", "black", "black")
    early = FeatureSpec.from_json(gray.to_json().replace('"fill":"gray",', ""))
    assert early == black
    assert request_for(early, Net("glyphnet")).fill == "black"
    with pytest.raises(InvalidChoice, match="`fill` is for `fit='pad'`"):
        _ = FeatureRequest(Net("glyphnet"), fill="gray").specs


def test_an_index_is_the_layer_that_it_means() -> None:
    named = FeatureRequest(Net("glyphnet"), ("block4_pool", "block1_conv1")).specs
    assert FeatureRequest(Net("glyphnet"), ("-1", "0")).specs == named
    assert FeatureRequest(Net("glyphnet"), ("-1", "block4_pool")).specs == named[:1]


def test_a_net_that_was_built_to_learn_names_is_handed_over() -> None:
    request, backbone = FeatureRequest(Net("glyphnet"), ("-1", "block1_pool")).resolve()
    assert backbone is not None
    assert request.layers == (backbone.find("-1"), "block1_pool")
    assert request.resolve() == (request, None)


def test_names_that_are_known_need_no_net(monkeypatch: pytest.MonkeyPatch) -> None:
    indexed = FeatureRequest(Net("glyphnet"), ("-1",))
    specs = indexed.specs
    monkeypatch.setattr(FeatureRequest, "build", lambda _: pytest.fail("the net was built"))
    assert indexed.resolve() == (FeatureRequest(Net("glyphnet"), (specs[0].layer,)), None)
    assert FeatureRequest(Net("vgg16")).resolve() == (FeatureRequest(Net("vgg16"), ("block5_pool",)), None)


def test_each_built_net_is_one_of_its_own_and_a_shared_one_is_the_same() -> None:
    request = FeatureRequest(Net("glyphnet"), ("block1_pool",))
    one, other, shared = request.build(), request.build(), SharedNet(request)
    assert one.model is not other.model
    assert shared.at("float32") is shared.at("float32")
    assert SharedNet(request, one).at("float32") is one


def test_options_reach_the_spec() -> None:
    net = Net("glyphnet", preprocessing="unit")
    (spec,) = FeatureRequest(net, ("block1_pool",), fit="pad", interpolation="nearest").specs
    assert (spec.fit, spec.interpolation, spec.preprocessing) == ("pad", "nearest", "unit")


def test_wrong_options_are_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidChoice, match=r"no pooling 'agv'; did you mean 'avg'"):
        _ = FeatureRequest(Net("glyphnet"), pooling="agv").specs
    with pytest.raises(InvalidChoice, match="at least 16 x 16 pixels; received `size='8x8'`"):
        _ = FeatureRequest(Net("glyphnet"), size=(8, 8)).specs


def test_named_layers_need_no_keras(run_python: Callable) -> None:
    code = """
import sys
from transfer.nets.catalogue import NETS, Net
from transfer.request import FeatureRequest
for name in NETS:
    assert FeatureRequest(Net(name, "none")).specs[0].layer == NETS[name].readout
    FeatureRequest(Net(name, "none"), ("a_layer",)).specs
print([name for name in ("keras", "tensorflow", "jax", "torch", "sklearn") if name in sys.modules])
"""
    done = run_python(code)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_file_gives_its_own_readout(save_net: Callable[..., Net]) -> None:
    net = save_net(keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3, name="conv")]))
    (spec,) = FeatureRequest(net).specs
    assert (spec.layer, spec.size, spec.preprocessing) == ("conv", (8, 8), "none")


def test_a_run_asks_again_for_what_it_was_trained_on(save_net: Callable[..., Net]) -> None:
    file = save_net(keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3, name="conv")]))
    for original in (
        FeatureRequest(Net("glyphnet"), ("block2_pool",), "max", (24, 24), "crop", "lanczos"),
        FeatureRequest(Net("glyphnet", "none", 3, "torch"), ("block1_pool", "block2_pool")),
        FeatureRequest(file, ("-1",), "flatten", (10, 12), precision="bfloat16"),
    ):
        for spec in original.specs:
            again = request_for(FeatureSpec.from_json(spec.to_json()), Net(**asdict(original.net)))
            assert again.specs == [spec]


def test_a_net_that_has_changed_is_refused(save_net: Callable[..., Net]) -> None:
    (spec,) = FeatureRequest(Net("glyphnet", "none", 3), ("block1_pool",)).specs
    with pytest.raises(BadData, match="their weights was 'random-3', now it is 'random-4'"):
        request_for(spec, Net("glyphnet", "none", 4))
    with pytest.raises(BadData, match="their net was 'glyphnet', now it is 'vgg16'"):
        request_for(spec, Net("vgg16", "none", 3))


def test_features_of_another_recipe_are_refused() -> None:
    (spec,) = FeatureRequest(Net("glyphnet"), ("block1_pool",)).specs
    with pytest.raises(BadData, match="their recipe was 0, now it is"):
        request_for(replace(spec, recipe=0), Net("glyphnet"))


def test_features_of_a_transform_that_nobody_named_are_refused() -> None:
    (spec,) = FeatureRequest(Net("glyphnet"), ("block1_pool",)).specs
    with pytest.raises(UnsafeFile, match="is run only where you name it: `transform='FILE.py:FUNCTION'`"):
        request_for(replace(spec, transform="abc"), Net("glyphnet"))


@pytest.mark.parametrize("key", ["flip", "v0:flip,seed=0", "v1:rotate=999,seed=0"])
def test_an_augmentation_of_another_version_is_refused(key: str) -> None:
    (spec,) = FeatureRequest(Net("glyphnet"), ("block1_pool",)).specs
    with pytest.raises(BadData, match=f"their augmentation was {key!r}, which this version"):
        request_for(replace(spec, augmentation=key), Net("glyphnet"))


def test_the_preprocessing_is_the_one_of_the_spec() -> None:
    (spec,) = FeatureRequest(Net("glyphnet", preprocessing="unit"), ("block1_pool",)).specs
    assert request_for(spec, Net("glyphnet")).specs == [spec]


def test_a_file_that_was_replaced_is_refused(save_net: Callable[..., Net]) -> None:
    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3, name="conv")]
    net = save_net(keras.Sequential(layers))
    (spec,) = FeatureRequest(net, ("conv",)).specs
    before = Path(net.name).read_bytes()
    save_net(keras.Sequential([*layers, keras.layers.ReLU()]))
    with pytest.raises(BadData, match="their net was .* Bring back what changed .* or extract and train again"):
        request_for(spec, replace(net))
    Path(net.name).write_bytes(before)
    assert request_for(spec, replace(net)).specs == [spec]
