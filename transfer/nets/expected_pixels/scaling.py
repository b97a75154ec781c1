"""The arithmetic that a net begins with, and which pixels it is meant for. Keras is not imported.

``Rescaling(1 / 255)`` takes pixels of 0 to 255, ``Rescaling(2, -1)`` those of 0 to 1. A layer that subtracts a mean and
divides tells it by the mean: of pixels of 0 to 255 it is about 127, and of others it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from transfer.nets.expected_pixels.graph import INPUT, Node, Tensor

# Layers that leave the meaning of pixels as it is when a net is used: augmentation, resizing, changes of type.
_PIXELS_STAY = frozenset((
    "Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "Identity", "ActivityRegularization", "Reshape",
    "ZeroPadding2D", "CenterCrop", "Resizing", "Pad", "Cast", "Pipeline", "AugMix", "AutoContrast",
    "CutMix", "MixUp", "RandAugment", "Equalization", "Solarization",
))  # fmt: skip
_ADDS, _SUBTRACTS, _MULTIPLIES, _DIVIDES = ("Add",), ("Subtract",), ("Multiply",), ("TrueDivide", "Divide")
_SLICES, _JOINS = ("GetItem", "Flip"), ("Stack", "Concatenate")


@dataclass(frozen=True)
class Pixels:
    """Pixels after the first layers of a net: ``scale * pixel + offset``, for each channel.

    Attributes
    ----------
    expects : str or None
        The preprocessing (see `FeatureSpec`) that gives the pixels which these layers are meant for; None where that is
        not decided yet.
    steps : tuple of str
        The classes of the layers that changed them.
    is_plain : bool
        Whether these are the very pixels that the net was given.
    """

    scale: np.ndarray
    offset: np.ndarray
    expects: str | None = None
    steps: tuple[str, ...] = ()
    is_plain: bool = True


def first_pixels(nodes: list[Node], statistics: Callable[[Node], Any] | None = None) -> list[Pixels]:
    """The pixels that the first layers with weights receive, without repeats.

    Parameters
    ----------
    statistics : callable, optional
        The mean and the variance that a Normalization learnt from data, by its node; None where they are not known.
    """
    found: list[Pixels | None] = []
    received: list[Pixels] = []
    for node in nodes:
        inputs = [found[number] for number in node.inputs]
        pixels = _step(node, inputs, statistics) if all(one is not None for one in inputs) else None
        found.append(pixels)
        if pixels is None:
            received += [one for one in inputs if one is not None and not _is_in(one, received)]
    return received


def keeps_pixels(node: Node) -> bool:
    """Whether a layer leaves the meaning of pixels as it is."""
    return node.kind in _PIXELS_STAY or node.kind.startswith("Random")


def _is_in(pixels: Pixels, several: list[Pixels]) -> bool:
    key = (pixels.expects, pixels.steps, pixels.is_plain)
    return any(key == (one.expects, one.steps, one.is_plain) for one in several)


def _step(node: Node, inputs: list[Any], statistics: Callable[[Node], Any] | None) -> Pixels | None:
    """The pixels after a node; None where it is not arithmetic on pixels."""
    if node.kind == INPUT:
        whole = str(node.config.get("dtype", "")).startswith(("int", "uint"))
        return Pixels(np.ones(1), np.zeros(1), *(("none", ("whole numbers",)) if whole else ()))
    if node.kind in _JOINS:
        same = all(one is inputs[0] for one in inputs) and inputs[0].is_plain
        return inputs[0] if same else _changed(inputs[0], node)
    if len(inputs) != 1:
        return None
    pixels: Pixels = inputs[0]
    if keeps_pixels(node):
        return pixels
    if node.kind in _SLICES:
        return _changed(pixels, node)
    factors = _factors(node, statistics)
    if factors is not None:
        scale, offset = factors
        scale, offset = scale * pixels.scale, scale * pixels.offset + offset
        if np.all(scale == 1) and np.all(offset == 0):
            return replace(pixels, scale=scale, offset=offset)
        expects = pixels.expects or _expected(scale, offset)
        return Pixels(scale, offset, expects, (*pixels.steps, node.kind), is_plain=False)
    return _changed(pixels, node) if node.kind == "Normalization" else None


def _changed(pixels: Pixels, node: Node) -> Pixels:
    return replace(pixels, steps=(*pixels.steps, node.kind), is_plain=False)


def _factors(node: Node, statistics: Callable[[Node], Any] | None) -> tuple[np.ndarray, np.ndarray] | None:
    """The numbers by which a node multiplies, and which it adds then; None where it does something else."""
    config = node.config
    if node.kind == "Rescaling":
        return _array(config["scale"]), _array(config["offset"])
    if node.kind == "Normalization":
        mean, variance = config.get("mean"), config.get("variance")
        if mean is None or variance is None:
            learnt = statistics(node) if statistics else None
            if learnt is None:
                return None
            mean, variance = learnt
        deviation = np.maximum(np.sqrt(_array(variance)), 1e-7)
        if config.get("invert"):
            return deviation, _array(mean)
        return 1 / deviation, -_array(mean) / deviation
    if len(node.arguments) != 2:
        return None
    first, second = node.arguments
    tensor_first = isinstance(first, Tensor)
    constant = _constant(second if tensor_first else first)
    if constant is None:
        return None
    one, zero = np.ones(1), np.zeros(1)
    if node.kind in _ADDS:
        return one, constant
    if node.kind in _SUBTRACTS:
        return (one, -constant) if tensor_first else (-one, constant)
    if node.kind in _MULTIPLIES:
        return constant, zero
    if node.kind in _DIVIDES and tensor_first and np.all(constant != 0):
        return 1 / constant, zero
    return None


def _constant(part: Any) -> np.ndarray | None:
    if isinstance(part, dict) and isinstance(part.get("config"), dict):
        part = part["config"].get("value")
    try:
        return None if part is None or isinstance(part, (Tensor, bool)) else _array(part)
    except (ValueError, TypeError):
        return None


def _array(numbers: Any) -> np.ndarray:
    if isinstance(numbers, dict):
        numbers = numbers["config"]["value"]
    return np.asarray(numbers, np.float64).reshape(-1)


def _expected(scale: np.ndarray, offset: np.ndarray) -> str | None:
    """The preprocessing that gives pixels for which such a scaling makes sense; None where several do."""
    with np.errstate(divide="ignore", invalid="ignore"):
        middles = -offset / scale  # the pixels that become 0
    middle, factor = float(np.median(middles)), float(np.median(np.abs(scale)))
    if not (np.isfinite(middle) and factor):
        return None
    if np.all(offset == 0):
        return "none" if factor <= 1 / 20 else "unit" if factor >= 20 else None
    if 20 <= middle <= 255:
        return "none"
    if 0.05 <= middle <= 1:
        return "unit"
    return "tf" if -1.05 <= middle <= -0.95 else None
