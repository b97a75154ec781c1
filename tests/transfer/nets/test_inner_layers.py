"""Layers inside layers: each is reached by its path, with the output that it has when plain Keras calls the net."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from feature_cache.errors import InvalidChoice
from transfer.engines.net_part import NetPart
from transfer.finetune.cut_choice import find_cut
from transfer.nets.backbone import Backbone, backbone_for
from transfer.nets.catalogue import Net
from transfer.nets.costs import table
from transfer.nets.inner_layers import Recorded, Recorder, Tracer, closed_in, shapes_inside
from transfer.nets.keras_graph import renamed
from transfer.request import FeatureRequest

SIDE, WIDTH = 8, 4


class Block(layers.Layer):
    """A residual layer that calls one layer twice, and another one with an argument."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.norm, self.dense = layers.LayerNormalization(name="norm"), layers.Dense(WIDTH, name="dense")
        self.attention = layers.MultiHeadAttention(2, 2, name="attention")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x = inputs + self.attention(self.norm(inputs), inputs, training=training)
        return x + self.dense(self.norm(x))


class Encoder(layers.Layer):
    """Two blocks, and a tuple of outputs."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.blocks = [Block(name=f"block_{number}") for number in range(2)]

    def call(self, inputs: Any) -> Any:
        for block in self.blocks:
            inputs = block(inputs)
        return inputs, ops.mean(inputs, 1)


class Embedding(layers.Layer):
    """Patches after a class token: weights of its own, and the size of the batch in its code."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.patch = layers.Conv2D(WIDTH, 4, 4, name="patch")

    def build(self, shape: Any) -> None:
        self.token = self.add_weight(shape=(1, 1, WIDTH), name="class_token")
        self.patch.build(shape)

    def call(self, inputs: Any) -> Any:
        patches = ops.reshape(self.patch(inputs), (ops.shape(inputs)[0], 4, WIDTH))
        return ops.concatenate([ops.tile(self.token, (ops.shape(inputs)[0], 1, 1)), patches], 1)


class Windows(layers.Layer):
    """Computes windows of a map apart from each other, as rows of a larger batch."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.dense = layers.Dense(3, name="dense")

    def call(self, inputs: Any) -> Any:
        rows = self.dense(ops.reshape(inputs, (-1, 16, 3)))
        return ops.reshape(rows, (-1, SIDE, SIDE, 3))


@pytest.fixture
def transformer() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((SIDE, SIDE, 3))
    tokens, _ = Encoder(name="encoder")(Embedding(name="embedding")(inputs))
    return keras.Model(inputs, layers.LayerNormalization(name="last")(tokens))


def test_every_layer_is_reached_with_the_output_that_it_has(transformer: keras.Model, rng: np.random.Generator) -> None:
    images = rng.normal(size=(3, SIDE, SIDE, 3)).astype("float32")
    plain, tracer, pixels = Tracer(), Tracer(inside=True), keras.Input((SIDE, SIDE, 3))
    plain.run(transformer, pixels)
    tracer.run(transformer, pixels)
    assert set(plain.taps) < set(tracer.taps)
    recorder = Recorder()
    with recorder.recording():
        transformer(images, training=False)
    expected = {name.partition("/")[2]: output for name, output in recorder.outputs.items() if "/" in name}
    assert {name for name in expected if not isinstance(expected[name], tuple)} == set(tracer.taps)
    assert {"embedding/patch", "encoder/block_1", "encoder/block_1/norm:2", "encoder/block_0/attention/query"} <= set(
        tracer.taps
    )
    with renamed((layer, name.replace("/", "_")) for name, layer in reversed(tracer.inner.items())):
        net = keras.Model(pixels, tracer.taps)
    for name, output in net(images, training=False).items():
        found, wanted = ops.convert_to_numpy(output), ops.convert_to_numpy(expected[name])
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max(), err_msg=name)


def test_only_what_cannot_be_taken_apart_is_one_node_of_the_graph(transformer: keras.Model) -> None:
    tracer = Tracer(inside=True)
    tracer.run(transformer, keras.Input((SIDE, SIDE, 3)))
    closed = {name for name, tensor in tracer.taps.items() if closed_in(tensor) is not None}
    assert closed == {"embedding/patch"}
    operations = keras.Model(tracer.taps["embedding"], tracer.taps["encoder/block_0"]).operations
    assert not any(isinstance(operation, Recorded) for operation in operations)


class Misshapen(layers.Layer):
    """Gives twice as many tokens as it says."""

    def call(self, inputs: Any) -> Any:
        tokens = ops.reshape(inputs, (-1, SIDE * SIDE, 3))
        return ops.concatenate([tokens, tokens], 1)

    def compute_output_shape(self, shape: Any) -> Any:
        return (shape[0], SIDE * SIDE, 3)


class Scaled(layers.Layer):
    """A weight of its own for each token, and a second output that is empty."""

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(2 * SIDE * SIDE, 1), initializer="ones")
        self.dense = layers.Dense(WIDTH, name="dense")
        self.dense.build(shape)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs) * self.scale, ops.zeros((0, WIDTH))

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor((*inputs.shape[:2], WIDTH)), keras.KerasTensor((0, WIDTH))


def test_shapes_are_those_that_outputs_have_and_a_tuple_of_one_tensor_is_named(rng: np.random.Generator) -> None:
    inputs = keras.Input((SIDE, SIDE, 3))
    net = keras.Model(inputs, Scaled(name="scaled")(Misshapen(name="tokens")(inputs))[0])
    tracer = Tracer(inside=True, shapes=shapes_inside(net, (SIDE, SIDE, 3)))
    pixels = keras.Input((SIDE, SIDE, 3))
    tracer.run(net, pixels)
    assert {name: tensor.shape[1:] for name, tensor in tracer.taps.items()} == {
        "tokens": (2 * SIDE * SIDE, 3),
        "scaled/dense": (2 * SIDE * SIDE, WIDTH),
        "scaled": (2 * SIDE * SIDE, WIDTH),
    }
    images = rng.normal(size=(2, SIDE, SIDE, 3)).astype("float32")
    found = keras.Model(pixels, tracer.taps["scaled"])(images)
    np.testing.assert_array_equal(ops.convert_to_numpy(found), ops.convert_to_numpy(net(images)))


class Scored(Scaled):
    """A layer that cannot be taken apart, and gives several tensors."""

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs) * self.scale, ops.mean(inputs, 1)

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor((*inputs.shape[:2], WIDTH)), keras.KerasTensor((None, 3))


def test_one_piece_with_several_outputs_has_a_name_for_the_first() -> None:
    inputs = keras.Input((2 * SIDE * SIDE, 3))
    net = keras.Model(inputs, Scored(name="scored")(inputs)[0])
    tracer = Tracer(inside=True)
    tracer.run(net, keras.Input((2 * SIDE * SIDE, 3)))
    assert list(tracer.taps) == ["scored/dense", "scored"]
    assert closed_in(tracer.taps["scored/dense"]) is tracer.layers["scored"]


class Positions(layers.Layer):
    """A table for each place of an image, and another one: neither depends on the pixels."""

    def call(self, inputs: Any) -> Any:
        rows = ops.arange(inputs.shape[1], dtype="float32")
        return ops.cos(rows), ops.sin(rows)

    def compute_output_shape(self, shape: Any) -> Any:
        return (shape[1],), (shape[1],)


def test_what_does_not_depend_on_pixels_is_a_constant(rng: np.random.Generator) -> None:
    inputs = keras.Input((SIDE, SIDE, 3))
    cos, sin = Positions(name="positions")(inputs)
    block = layers.Conv2D(3, 1, name="block")(inputs)
    added = layers.Dense(2, name="last")(block) + ops.reshape(cos + sin, (1, SIDE, 1, 1))
    net, tracer, pixels = keras.Model(inputs, added), Tracer(), keras.Input((SIDE, SIDE, 3))
    output = tracer.run(net, pixels)
    images = rng.normal(size=(2, SIDE, SIDE, 3)).astype("float32")
    tail = keras.Model(tracer.taps["block"], output)
    found = tail(keras.Model(pixels, tracer.taps["block"])(images))
    np.testing.assert_allclose(ops.convert_to_numpy(found), ops.convert_to_numpy(net(images)), atol=1e-6)


def test_what_has_no_row_for_each_image_is_told_by_its_shape() -> None:
    inputs = keras.Input((SIDE, SIDE, 3))
    shapes = shapes_inside(keras.Model(inputs, Windows(name="windows")(inputs)), (SIDE, SIDE, 3))
    assert shapes == {"windows/dense": (12, 16, 3), "windows": (3, SIDE, SIDE, 3)}


def test_nested_models_may_have_layers_of_the_same_names(
    save_net: Callable[..., Net], features_of: Callable[..., list[np.ndarray]], rng: np.random.Generator
) -> None:
    def block(name: str) -> keras.Model:
        inputs = keras.Input((SIDE, SIDE, 3))
        return keras.Model(inputs, layers.Conv2D(3, 3, padding="same", name="conv")(inputs) + inputs, name=name)

    inputs = keras.Input((SIDE, SIDE, 3))
    first, second, conv = block("first"), block("second"), layers.Conv2D(3, 1, name="conv")
    backbone = Backbone(save_net(keras.Model(inputs, conv(second(first(inputs))))))
    pixels = rng.integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    found = features_of(backbone, pixels, "first/conv", "second/conv", "conv")
    x = first(pixels.astype("float32"))
    expected = first.get_layer("conv")(pixels.astype("float32")), second.get_layer("conv")(x), conv(second(x))
    for features, wanted in zip(found, map(ops.convert_to_numpy, expected), strict=True):
        np.testing.assert_allclose(features, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.fixture
def attentive(save_net: Callable[..., Net]) -> Net:
    """A net of Keras's own layers, one of which holds layers."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((SIDE, SIDE, 3))
    tokens = layers.Reshape((4, WIDTH), name="tokens")(layers.Conv2D(WIDTH, 4, 4, name="patch")(inputs))
    attended = layers.MultiHeadAttention(2, 3, name="attention")(tokens, tokens)
    output = layers.Dense(5, name="dense")(layers.Add(name="sum")([tokens, attended]))
    return save_net(keras.Model(inputs, output))


class TestOfAFile:
    def test_names_and_indices_of_before_stay(self, attentive: Net) -> None:
        backbone = Backbone(attentive)
        before = list(backbone.taps)
        backbone.look_inside()
        assert [name for name in backbone.taps if "/" not in name] == before == backbone.outer
        assert [backbone.find(str(index)) for index in range(-1, 4)] == [before[-1], *before[:4]]
        assert backbone.find("attention/query") in backbone.taps
        with pytest.raises(InvalidChoice, match="did you mean 'attention/query'"):
            backbone.find("attention/qery")

    def test_costs_inside_add_up_to_those_of_the_outer_layer(self, attentive: Net) -> None:
        plain, opened = Backbone(attentive), Backbone(attentive)
        opened.look_inside()
        rows = {row.name: row for row in table(opened)}
        for row in table(plain):
            assert rows[row.name] == row
        parts = [rows[f"attention/{part}"] for part in ("query", "key", "value", "attention_output")]
        assert sum(part.parameters for part in parts) == rows["attention"].parameters
        assert parts[0].index is None
        assert parts[0].shape == (4, 2, 3)
        assert parts[0].gflops - rows["tokens"].gflops == pytest.approx(2 * 4 * WIDTH * 6 / 1e9)
        assert parts[-1].gflops == rows["attention"].gflops

    def test_it_is_cut_before_and_after_a_layer_inside(self, attentive: Net, rng: np.random.Generator) -> None:
        pixels = rng.integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
        backbone = backbone_for(attentive, ["attention/attention_output"])
        shallow, deep = (
            ops.convert_to_numpy(output)
            for output in backbone.cut([("attention/attention_output", "none"), ("dense", "none")], "none", 3)(pixels)
        )
        start = ("attention/attention_output", "tokens")
        request = FeatureRequest(attentive, ("dense",), "none", prefix_tokens=None)
        tail = NetPart.of(request, start).from_backbone(backbone, 3)
        tokens = ops.convert_to_numpy(keras.tree.flatten(backbone.cut([("tokens", "none")], "none", 3)(pixels))[0])
        stored = np.concatenate([shallow.reshape(3, -1), tokens.reshape(3, -1)], 1)
        again = ops.convert_to_numpy(keras.tree.flatten(tail(stored))[0])
        np.testing.assert_allclose(again, deep, rtol=0, atol=1e-5 * np.abs(deep).max())

    def test_training_begins_at_a_layer_inside(self, attentive: Net) -> None:
        cut = find_cut(Backbone(attentive), "dense", "attention/attention_output")
        assert cut.trained == ("attention/attention_output", "dense")
        whole = find_cut(Backbone(attentive), "dense", "attention")
        assert whole.trained[0] == "attention"
        opened = Backbone(attentive)
        opened.look_inside()
        parts = find_cut(opened, "dense", "attention")
        assert parts.trained == (*(f"attention/{part}" for part in ("query", "key", "value")), *cut.trained)
        assert whole.layers == parts.layers == ("tokens",)
