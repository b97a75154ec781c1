"""The table of layers: shapes, parameters and FLOPs that can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import keras
import pytest
from keras import layers

from transfer.nets.backbone import Backbone
from transfer.nets.catalogue import Net
from transfer.nets.costs import LayerInfo, table

SaveNet = Callable[..., Net]


@pytest.fixture
def rows_of(save_net: SaveNet) -> Callable[..., dict[str, LayerInfo]]:
    def rows(model: keras.Model) -> dict[str, LayerInfo]:
        return {row.name: row for row in table(Backbone(save_net(model)))}

    return rows


# A layer on 8 x 8 x 4 values, its parameters, the multiply-adds of one image, and its output's shape.
CASES = {
    "conv": (lambda: layers.Conv2D(6, 3), 3 * 3 * 4 * 6 + 6, 6 * 6 * 3 * 3 * 4 * 6, (6, 6, 6)),
    "same padding": (lambda: layers.Conv2D(6, 3, padding="same"), 222, 8 * 8 * 3 * 3 * 4 * 6, (8, 8, 6)),
    "no bias": (lambda: layers.Conv2D(6, (1, 3), use_bias=False), 72, 8 * 6 * 3 * 4 * 6, (8, 6, 6)),
    "strided": (lambda: layers.Conv2D(6, 3, strides=2, padding="same"), 222, 4 * 4 * 3 * 3 * 4 * 6, (4, 4, 6)),
    "dilated": (lambda: layers.Conv2D(6, 3, dilation_rate=2), 222, 4 * 4 * 3 * 3 * 4 * 6, (4, 4, 6)),
    "grouped": (lambda: layers.Conv2D(6, 3, groups=2), 3 * 3 * 2 * 6 + 6, 6 * 6 * 3 * 3 * 2 * 6, (6, 6, 6)),
    "depthwise": (lambda: layers.DepthwiseConv2D(3), 3 * 3 * 4 + 4, 6 * 6 * 3 * 3 * 4, (6, 6, 4)),
    "depthwise, multiplied": (
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        3 * 3 * 4 * 2 + 8,
        6 * 6 * 3 * 3 * 4 * 2,
        (6, 6, 8),
    ),
    "separable": (lambda: layers.SeparableConv2D(6, 3), 36 + 24 + 6, 6 * 6 * (3 * 3 * 4 + 4 * 6), (6, 6, 6)),
    "transposed": (
        lambda: layers.Conv2DTranspose(6, 3, strides=2),
        3 * 3 * 4 * 6 + 6,
        8 * 8 * 3 * 3 * 4 * 6,  # every input value is multiplied by the whole kernel
        (17, 17, 6),
    ),
    "dense at each place": (lambda: layers.Dense(5), 4 * 5 + 5, 8 * 8 * 4 * 5, (8, 8, 5)),
    "batch normalisation": (lambda: layers.BatchNormalization(), 16, 0, (8, 8, 4)),
    "pooling": (lambda: layers.MaxPooling2D(), 0, 0, (4, 4, 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_cost_of_one_layer_is_what_arithmetic_says(case: str, rows_of: Callable) -> None:
    make, parameters, multiply_adds, shape = CASES[case]
    (row,) = rows_of(keras.Sequential([keras.Input((8, 8, 4)), make()])).values()
    assert row.parameters == parameters
    assert row.gflops == pytest.approx(2 * multiply_adds / 1e9, rel=1e-9)
    assert row.shape == shape
    assert row.kilobytes == pytest.approx(4 * shape[0] * shape[1] * shape[2] / 1000)


def test_dense_on_a_vector(rows_of: Callable) -> None:
    rows = rows_of(keras.Sequential([keras.Input((8, 8, 4)), layers.Flatten(), layers.Dense(10, name="out")]))
    assert rows["out"].parameters == 2570
    assert rows["out"].gflops == pytest.approx(2 * 2560 / 1e9, rel=1e-9)
    assert rows["out"].kilobytes == 0.04


def test_flops_accumulate_along_the_net(rows_of: Callable) -> None:
    rows = rows_of(
        keras.Sequential(
            [
                keras.Input((8, 8, 4)),
                layers.Conv2D(4, 1, name="a"),
                layers.ReLU(name="r"),
                layers.Conv2D(4, 1, name="b"),
            ]
        )
    )
    one = 2 * 64 * 16 / 1e9
    assert [row.gflops for row in rows.values()] == pytest.approx([one, one, 2 * one], rel=1e-9)
    assert [row.index for row in rows.values()] == [0, 1, 2]
    assert [row.kind for row in rows.values()] == ["Conv2D", "ReLU", "Conv2D"]


def test_what_branches_share_is_counted_once_and_what_is_not_needed_not_at_all(rows_of: Callable) -> None:
    inputs = keras.Input((8, 8, 4))
    stem = layers.Conv2D(4, 1, name="stem")(inputs)
    left = layers.Conv2D(4, 1, name="left")(stem)
    right = layers.Conv2D(4, 1, name="right")(stem)
    total = layers.Add(name="sum")([left, right, stem])
    rows = rows_of(keras.Model(inputs, layers.Conv2D(4, 1, name="last")(total)))
    one = 2 * 64 * 16 / 1e9
    expected = {"stem": 1, "left": 2, "right": 2, "sum": 3, "last": 4}
    assert {name: row.gflops for name, row in rows.items()} == pytest.approx(
        {name: count * one for name, count in expected.items()}, rel=1e-9
    )


def test_a_layer_used_twice_costs_twice_and_has_its_parameters_once(rows_of: Callable) -> None:
    shared = layers.Conv2D(4, 1, name="shared")
    inputs = keras.Input((8, 8, 4))
    rows = rows_of(keras.Model(inputs, shared(shared(inputs))))
    one = 2 * 64 * 16 / 1e9
    assert [row.gflops for row in rows.values()] == pytest.approx([one, 2 * one], rel=1e-9)
    assert [row.parameters for row in rows.values()] == [20, 0]


def test_a_nested_net_is_listed_by_its_parts_and_counted_once(rows_of: Callable) -> None:
    inner = keras.Sequential([keras.Input((8, 8, 4)), layers.Conv2D(4, 1, name="conv")], name="inner")
    inputs = keras.Input((8, 8, 4))
    rows = rows_of(keras.Model(inputs, layers.ReLU(name="relu")(inner(inputs))))
    assert {name: row.parameters for name, row in rows.items()} == {"inner/conv": 20, "inner": 0, "relu": 0}
    assert {name: row.kind for name, row in rows.items()}["inner"] == "nested model"
    assert rows["relu"].gflops == rows["inner/conv"].gflops == 2 * 64 * 16 / 1e9


@pytest.mark.parametrize("use_bias", [False, True])
def test_attention_counts_projections_and_both_products(rows_of: Callable, use_bias: bool) -> None:
    inputs = keras.Input((2, 3, 8))
    tokens = layers.Reshape((6, 8))(inputs)
    attention = layers.MultiHeadAttention(2, 4, use_bias=use_bias, name="attention")
    rows = rows_of(keras.Model(inputs, attention(tokens, tokens)))
    projections = 6 * 4 * 8 * 8  # query, key, value and output
    products = 2 * 6 * 6 * 8
    assert rows["attention"].gflops == pytest.approx(2 * (projections + products) / 1e9, rel=1e-9)


def test_glyphnet_is_what_its_widths_say() -> None:
    rows = {row.name: row for row in table(Backbone(Net("glyphnet")))}
    widths, side, channels, multiply_adds, parameters = (32, 64, 128, 256), 32, 1, 0, 0
    for block, width in enumerate(widths, 1):
        for conv in (1, 2):
            multiply_adds += side * side * 9 * channels * width
            parameters += 9 * channels * width + width
            channels = width
            assert rows[f"block{block}_conv{conv}"].gflops == pytest.approx(2 * multiply_adds / 1e9, rel=1e-9)
        side //= 2
    assert sum(row.parameters for row in rows.values()) == parameters
