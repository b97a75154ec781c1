"""Pooling of a layer's output: of maps over height and width, of tokens without those that are no patches.

A vision transformer has an output of shape (n, tokens, d): first a class token and, in some nets, register tokens
(Darcet et al. 2023, arXiv:2309.16588), then one token for each patch, row by row. Those before the patches are the
*prefix tokens*. Keras is imported where a Keras tensor is pooled, not by the rules.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from feature_cache.errors import InvalidChoice
from feature_cache.spec import effective_prefix

MOST_OF_A_KIND = 16  # more are no class or register tokens: a table of class embeddings, say
CLASS_POOLINGS = ("cls", "cls+avg")
# The names of weights that hold tokens which stand before the patches.
_PREFIX_WEIGHT = re.compile(r"(class|cls|dist\w*|regist\w*?)s?_?(token|embed)", re.IGNORECASE)
_COUNTED = re.compile(r"-(\d+)$")  # at the end of `FeatureSpec.pooling_rule`


def grid(patches: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """Rows and columns of so many patches of an input of `size` (height, width); None where they fill no rectangle.

    Patches are squares of pixels, so the rectangle has the proportions of the input, up to a patch that is cut off.

    Examples
    --------
    >>> grid(196, (224, 224)), grid(128, (256, 128)), grid(197, (224, 224))
    ((14, 14), (16, 8), None)
    """
    if patches < 1:
        return None
    if size[0] == size[1]:
        side = math.isqrt(patches)
        return (side, side) if side * side == patches else None
    for patch in range(1, max(size) + 1):
        for round_side in (math.floor, math.ceil):
            rows, columns = (round_side(side / patch) for side in size)
            if rows * columns == patches:
                return rows, columns
    return None


def count_prefix(tokens: int, size: tuple[int, int], expected: int = 0) -> int:
    """How many of `tokens` stand before those of the patches.

    They are as many as `expected` where the others fill a rectangle. An output before all of them have been put in has
    fewer. Where no number of them fits, they are what the largest rectangle leaves.

    Parameters
    ----------
    tokens : int
    size : (height, width)
        Of the net's input, in units of which patches are squares.
    expected : int
        The number that the weights of the net tell (see `expected_prefix`).

    Examples
    --------
    >>> count_prefix(261, (224, 224), 5), count_prefix(257, (224, 224), 5), count_prefix(256, (224, 224), 5)
    (5, 1, 0)
    >>> count_prefix(18, (64, 64))
    2
    """
    for count in (*range(expected, -1, -1), *range(expected + 1, tokens)):
        if grid(tokens - count, size):
            return count
    return 0


def expected_prefix(weights: Iterable[tuple[str, Sequence[int]]]) -> int:
    """How many prefix tokens a net has, by the names and shapes of its weights.

    Examples
    --------
    >>> expected_prefix([("cls_token", (1, 1, 384)), ("register_tokens", (1, 4, 384)), ("kernel", (14, 14, 3, 384))])
    5
    """
    counts = (math.prod(shape[:-1]) for name, shape in weights if _PREFIX_WEIGHT.search(name))
    return sum(count for count in counts if count <= MOST_OF_A_KIND)


def sentences(counts: Iterable[tuple[str, int | None]]) -> list[str]:
    """What is taken as prefix tokens, one line for each layer that has some.

    Examples
    --------
    >>> sentences([("patches", 0), ("block", 1)])
    ['block: tokens that are taken as no patches, at the start: 1. If that is wrong, give `prefix_tokens`.']
    """
    return [
        f"{layer}: tokens that are taken as no patches, at the start: {count}. If that is wrong, give `prefix_tokens`."
        for layer, count in counts
        if count
    ]


def check_tokens(layer: str, pooling: str, shape: Sequence[int | None], *, given: bool = False) -> None:
    """Raise InvalidChoice where an output is no tokens, and is pooled as such.

    Parameters
    ----------
    shape : sequence of int or None
        The shape of the output for one image.
    given : bool
        Whether a number of prefix tokens was given for it.
    """
    if len(shape) == 2 or (pooling not in CLASS_POOLINGS and not given):
        return
    sides = " x ".join("any" if side is None else str(side) for side in shape)
    if pooling in CLASS_POOLINGS:
        raise InvalidChoice(
            f"`pooling='{pooling}'` reads the class token, and the output of {layer} ({sides}) is no row of tokens; "
            "use `pooling='avg'`, or another layer."
        )
    raise InvalidChoice(
        f"the output of {layer} ({sides}) is no row of tokens; leave out `prefix_tokens`, or name another layer."
    )


def pooled_shape(shape: Sequence[int], rule: str, size: tuple[int, int], layer: str) -> tuple[int, ...]:
    """The shape of the features of an image.

    Parameters
    ----------
    shape : sequence of int
        The shape of the layer's output for one image.
    rule : str
        See `FeatureSpec.pooling_rule`.
    size : (height, width)
        Of the net's input, in units of which patches are squares.
    layer : str
        Its name, for messages.

    Raises
    ------
    InvalidChoice
        When it cannot be pooled so.

    Examples
    --------
    >>> [pooled_shape((7, 7, 64), rule, (32, 32), "conv") for rule in ("avg", "none", "flatten")]
    [(64,), (7, 7, 64), (3136,)]
    >>> [pooled_shape((17, 64), rule, (32, 32), "block") for rule in ("cls", "cls+avg-1", "none-1")]
    [(64,), (128,), (4, 4, 64)]
    """
    pooling, prefix = split_rule(rule)
    check_tokens(layer, pooling, shape, given=prefix is not None)
    if pooling == "flatten":
        return (math.prod(shape),)
    if prefix is not None and prefix >= shape[0]:
        raise InvalidChoice(f"the output of {layer} has {shape[0]} tokens; `prefix_tokens` is less than that.")
    if pooling == "none" and prefix is not None:
        patches = shape[0] - prefix
        if (sides := grid(patches, size)) is None:
            raise InvalidChoice(
                f"the {patches} patches of {layer} ({shape[0]} tokens less {prefix}) fill no map of the proportions of "
                f"an input of {size[0]} x {size[1]}; say how many tokens are no patches with `prefix_tokens`, or use "
                "`pooling='flatten'`."
            )
        return (*sides, shape[-1])
    if pooling == "none" or len(shape) == 1:
        return tuple(shape)
    return (2 * shape[-1],) if pooling == "cls+avg" else (shape[-1],)


def split_rule(rule: str) -> tuple[str, int | None]:
    """The pooling and the number of prefix tokens of a `FeatureSpec.pooling_rule`.

    Examples
    --------
    >>> split_rule("cls+avg-5"), split_rule("avg")
    (('cls+avg', 5), ('avg', None))
    """
    counted = _COUNTED.search(rule)
    pooling, prefix = (rule[: counted.start()], int(counted[1])) if counted else (rule, None)
    return pooling, effective_prefix(pooling, prefix)


def pooled(tensor: Any, rule: str, size: tuple[int, int], layer: str) -> Any:
    """A symbolic tensor of Keras, pooled by Keras's own layers, as float32.

    Parameters
    ----------
    tensor : KerasTensor of shape (n, ...)
    rule, size, layer
        See `pooled_shape`.

    Raises
    ------
    InvalidChoice
        When it cannot be pooled so.
    """
    import keras  # heavy, and the rules need none of it

    layers, shape = keras.layers, tuple(tensor.shape[1:])
    pooling, prefix = split_rule(rule)
    if tensor.dtype != "float32":
        tensor = layers.Identity(dtype="float32")(tensor)
    if prefix is None and pooling not in CLASS_POOLINGS:
        return _pooled_whole(tensor, pooling)
    wanted = pooled_shape(shape, rule, size, layer)
    first = layers.Flatten()(layers.Cropping1D((0, shape[0] - 1))(tensor)) if pooling in CLASS_POOLINGS else None
    if pooling == "cls":
        return first
    patches = layers.Cropping1D((prefix, 0))(tensor) if prefix else tensor
    if pooling == "none":
        return layers.Reshape(wanted)(patches)
    reduce = layers.GlobalMaxPooling1D if pooling == "max" else layers.GlobalAveragePooling1D
    reduced = reduce(data_format="channels_last")(patches)
    return reduced if first is None else layers.Concatenate()([first, reduced])


def _pooled_whole(tensor: Any, pooling: str) -> Any:
    """All of an output, pooled."""
    import keras  # heavy, and the rules need none of it

    if pooling == "flatten":
        return keras.layers.Flatten()(tensor)
    if pooling == "none" or len(tensor.shape) == 2:
        return keras.layers.Identity()(tensor)
    axes = list(range(1, len(tensor.shape) - 1))
    return (keras.ops.mean if pooling == "avg" else keras.ops.max)(tensor, axis=axes)
