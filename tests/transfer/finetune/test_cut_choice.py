"""Where nets are cut for fine-tuning, and the recipe's rates."""

import functools
import math
import tempfile
from collections.abc import Callable

import numpy as np
import pytest

from feature_cache.errors import InvalidChoice
from transfer.finetune.cut_choice import AUTO_SHARE, find_cut
from transfer.finetune.recipe import Recipe
from transfer.nets.catalogue import Net
from transfer.nets.costs import flops


@functools.cache
def backbone(name: str, size: int):
    from transfer.nets.backbone import Backbone

    return Backbone(Net(name, "none"), (size, size))


def cut(name: str, unfreeze_from: str, size: int = 32, **options):
    net = backbone(name, size)
    return find_cut(net, net.readout, unfreeze_from, **options)


@pytest.mark.parametrize(
    ("name", "first", "layers"),
    [
        ("glyphnet", "block4_conv1", ("block3_pool",)),
        ("glyphnet", "block3_conv2", ("block2_pool",)),  # narrower than block3_conv1, and little is computed again
        ("vgg16", "block5_conv1", ("block4_pool",)),
        ("mobilenetv2", "block_13_expand", ("block_12_add",)),
    ],
)
def test_the_cut_is_where_one_tensor_is_narrow(name: str, first: str, layers: tuple):
    found = cut(name, first)
    assert found.trained[0] == first
    if name != "glyphnet" or first != "block3_conv2":
        assert found.layers == layers
    net = backbone(name, 32)
    assert found.shapes == tuple(net.taps[layer].shape[1:] for layer in found.layers)
    assert found.prefix_flops + found.tail_flops == flops(net.taps[net.readout])
    assert found.prefix_flops == flops(*(net.taps[layer] for layer in found.layers))
    assert found.speedup == pytest.approx(1 + found.prefix_flops / 3 / found.tail_flops)


def test_a_cut_inside_a_block_with_a_skip_connection_reaches_all_that_is_trained():
    net = backbone("mobilenetv2", 32)
    found = cut("mobilenetv2", "block_14_depthwise")
    assert "block_13_expand" not in found.trained
    assert "block_14_depthwise" in found.trained
    assert net.frontier(found.layers, [net.readout]) == set(found.layers)
    from_there = net.cut_from(found.layers, [(net.readout, "avg")])
    computed = {layer.name for layer in from_there._flatten_layers()}
    assert set(found.trained) <= computed


def test_all_trains_from_the_pixels_on_and_so_does_keeping_nothing():
    assert cut("glyphnet", "all").layers == ()
    assert len(cut("glyphnet", "all").trained) == 8
    kept = cut("glyphnet", "block4_conv1", keep=False)
    assert (kept.layers, kept.width, kept.trained) == ((), 0, ("block4_conv1", "block4_conv2"))


@pytest.mark.parametrize("name", ["glyphnet", "vgg16", "mobilenetv2"])
def test_auto_trains_the_last_layers_up_to_a_share_of_the_operations(name: str):
    net, found = backbone(name, 32), cut(name, "auto")
    whole = flops(net.taps[net.readout])
    assert found.trained
    assert found.tail_flops <= (AUTO_SHARE + 0.25) * whole  # the cut may lie a little before what is trained
    assert found.layers


def test_an_index_names_a_layer_too():
    names = list(backbone("glyphnet", 32).taps)
    assert cut("glyphnet", str(names.index("block4_conv1"))) == cut("glyphnet", "block4_conv1")


def test_a_layer_around_the_readout_names_all_that_is_inside_before_it():
    import keras

    from transfer.nets.backbone import Backbone

    keras.utils.set_random_seed(0)
    convolutions = [keras.layers.Conv2D(4, 3, name=name) for name in ("a", "b", "c")]
    inner = keras.Sequential([keras.Input((12, 12, 3)), *convolutions], name="inner")
    inputs = keras.Input((12, 12, 3))
    model = keras.Model(inputs, inner(keras.layers.Rescaling(1 / 255)(inputs)))
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/net.keras")
        net = Backbone(Net(f"{folder}/net.keras"), (12, 12))
    assert find_cut(net, "inner/b", "inner").trained == ("inner/a", "inner/b")


def test_a_later_call_of_a_nested_model_names_all_that_is_inside_that_call(save_net: Callable[..., Net]):
    import keras

    from transfer.nets.backbone import Backbone

    layers = [keras.layers.Dense(3, name=name) for name in ("a", "b")]
    inner = keras.Sequential([keras.Input((12, 12, 3)), *layers], name="inner")
    inputs = keras.Input((12, 12, 3))
    entry = keras.layers.Conv2D(3, 3, padding="same", name="entry")(inputs)
    model = keras.Model(inputs, inner(keras.layers.ReLU(name="between")(inner(entry))))
    net = Backbone(save_net(model), (12, 12))
    found = find_cut(net, "inner:2", "inner:2")
    assert found.trained == ("inner/a:2", "inner/b:2")
    assert found.layers == ("entry",)  # the same weights take part in the first call


def test_a_layer_with_several_outputs_names_what_is_inside_it(save_net: Callable[..., Net]):
    import keras

    from transfer.nets.backbone import Backbone

    inner_inputs = keras.Input((12, 12, 3))
    a = keras.layers.Conv2D(4, 3, name="a")(inner_inputs)
    inner = keras.Model(inner_inputs, [a, keras.layers.Conv2D(4, 3, name="b")(a)], name="inner")
    inputs = keras.Input((12, 12, 3))
    outputs = inner(keras.layers.Conv2D(3, 3, padding="same", name="entry")(inputs))
    net = Backbone(save_net(keras.Model(inputs, outputs[1])), (12, 12))
    assert find_cut(net, "inner/b", "inner").trained == ("inner/a", "inner/b")


def test_a_layer_without_a_name_before_the_first_trained_one_is_computed_again_and_frozen(
    save_net: Callable[..., Net],
):
    import keras

    from transfer.finetune.network import Network
    from transfer.nets.backbone import Backbone

    inputs = keras.Input((12, 12, 3))
    tokens = keras.layers.Reshape((25, 4), name="tokens")(keras.layers.Conv2D(4, 3, 2, name="entry")(inputs))
    attended, _ = keras.layers.MultiHeadAttention(2, 4)(tokens, tokens, return_attention_scores=True)
    net = Backbone(save_net(keras.Model(inputs, keras.layers.Dense(5, name="last")(attended))), (12, 12))
    found = find_cut(net, "last", "last")
    assert found.layers == ("tokens",)
    trained = Network(net, found, "last", "avg", "none", 2, Recipe()).model.trainable_variables
    assert {variable.path.partition("/")[0] for variable in trained} == {"last", "logits"}


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(InvalidChoice, match="no layer 'block9'"):
        cut("glyphnet", "block9")
    with pytest.raises(InvalidChoice, match="no layer from block4_pool to block4_pool has weights"):
        cut("glyphnet", "block4_pool")
    with pytest.raises(InvalidChoice, match="block4_conv1 is not before block3_pool"):
        find_cut(backbone("glyphnet", 32), "block3_pool", "block4_conv1")


def test_the_rate_rises_then_falls_to_nothing():
    recipe = Recipe(learning_rate=0.1, warmup=0.2)
    rates = [recipe.rate(step, 50) for step in range(50)]
    assert np.argmax(rates) in (9, 10)
    assert rates[:10] == pytest.approx(np.linspace(0.01, 0.1, 10))
    assert max(rates) == pytest.approx(0.1)
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))
    assert rates[-1] < 0.001


def test_earlier_layers_learn_more_slowly():
    shares = Recipe(earliest=0.25).shares(4)
    assert shares[0] == 0.25
    assert all(b / a == pytest.approx(math.sqrt(2)) for a, b in zip(shares, shares[1:], strict=False))
    assert shares[-1] < 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("inner", 1),
        ("clip", 0),
    ],
)
def test_numbers_out_of_range_are_refused(name: str, value: float):
    with pytest.raises(InvalidChoice, match=f"`{name}` is"):
        Recipe(**{name: value})
