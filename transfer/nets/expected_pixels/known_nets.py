"""Recognising the nets of ``keras.applications`` in a file, whatever the net and its layers are called.

Each layer gets a digest of its class, of what shapes its weights, and of the digests of the layers before it. Two nets
that have a digest in common are equal from the pixels up to there, but for what does not matter here: names, the input
size, activations, dropout, and all that follows. ``known_nets.json`` has the digests of the last layer of each net, and
of the layers at which it is `DEPTH` convolutions deep; ``make_known_nets.py`` has made it. Keras is not imported.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from transfer.nets.expected_pixels.graph import INPUT, Node
from transfer.nets.expected_pixels.scaling import keeps_pixels

PIXELS = "pixels"  # stands for the digest of the input
TABLE = Path(__file__).with_name("known_nets.json")
# So many convolutions, one after another, are no coincidence.
DEPTH = 10
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D")
# Layers and operations that have no weights which training changes, and no part in what tells nets apart. Some versions
# of Keras write an activation as one layer, and others as several.
_PASSED = frozenset((
    "Activation", "ReLU", "LeakyReLU", "ELU", "Softmax",
    "AlphaDropout", "StochasticDepth", "Rescaling", "Normalization", "Relu", "Relu6", "Sigmoid", "HardSigmoid",
    "HardSilu", "HardSwish", "Silu", "Swish", "Gelu",
))  # fmt: skip
_MERGES = ("Add", "Multiply", "Average", "Maximum", "Minimum")
_ARITHMETIC = (*_MERGES, "Subtract", "TrueDivide", "Divide", "Power")
# Arguments of layers that tell nets apart, and their values where the file does not say them.
_ARGUMENTS: dict[str, Any] = {
    "filters": None,
    "units": None,
    "kernel_size": None,
    "pool_size": None,
    "strides": (1, 1),
    "padding": None,
    "dilation_rate": (1, 1),
    "groups": 1,
    "depth_multiplier": 1,
    "use_bias": None,
    "epsilon": None,
    "center": True,
    "scale": True,
}


@dataclass(frozen=True)
class KnownNet:
    """A net of ``keras.applications``.

    Attributes
    ----------
    names : tuple of str
        Its name; several where nets begin in the same way, and the file has no more of them.
    preprocessing : str or None
        What it expects without the scaling that it may begin with (see `FeatureSpec`); None where no preprocessing
        gives that.
    """

    names: tuple[str, ...]
    preprocessing: str | None


def recognise(nodes: list[Node]) -> KnownNet | None:
    """The net that the layers are, or that they begin with; None where it is not known."""
    known = _table()
    found = [known[digest] for digest, _ in digests(nodes) if digest in known]
    whole = [net for net in found if len(net.names) == 1]
    return whole[-1] if whole else found[-1] if found else None


def digests(nodes: list[Node]) -> list[tuple[str, int]]:
    """The digest of each node, and how many convolutions deep it is."""
    found: list[tuple[str, int]] = []
    for node in nodes:
        before = [found[number] for number in node.inputs]
        depth = max((depth for _, depth in before), default=0)
        texts = [text for text, _ in before]
        if node.kind == INPUT:
            found.append((PIXELS, 0))
        elif _is_passed(node, texts):
            found.append((texts[0], depth))
        else:
            parts = [node.kind, _shaping(node.config), sorted(texts) if node.kind in _MERGES else texts]
            digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()
            found.append((digest, depth + (node.kind in _CONVOLUTIONS)))
    return found


def frontier(nodes: list[Node]) -> list[str]:
    """The digests of the nodes that are `DEPTH` convolutions deep, while those before them are not."""
    found = digests(nodes)
    return [
        digest
        for node, (digest, depth) in zip(nodes, found, strict=True)
        if depth >= DEPTH and all(found[number][1] < DEPTH for number in node.inputs)
    ]


def _is_passed(node: Node, texts: list[str]) -> bool:
    """Whether the digest of a node is that of the one before it."""
    if len(set(texts)) != 1:
        return False
    if node.kind == "Concatenate":
        return texts[0] == PIXELS  # gray as colour
    return node.kind in _PASSED or node.kind in _ARITHMETIC or keeps_pixels(node)


def _shaping(config: dict[str, Any]) -> dict[str, Any]:
    """What shapes the weights of a layer, or tells it from others of its class."""
    values = {name: _plain(config[name]) for name in _ARGUMENTS if name in config}
    return {name: value for name, value in values.items() if value not in (None, _plain(_ARGUMENTS[name]))}


def _plain(value: Any) -> Any:
    """A number for two that are equal, which some versions write as one."""
    if isinstance(value, (list, tuple)):
        parts = [_plain(part) for part in value]
        return parts[0] if parts and all(part == parts[0] for part in parts) else parts
    return float(f"{value:.6g}") if isinstance(value, (int, float)) and not isinstance(value, bool) else value


@cache
def _table() -> dict[str, KnownNet]:
    content = json.loads(TABLE.read_text(encoding="utf-8"))
    return {
        digest: KnownNet(tuple(group["names"]), group["preprocessing"])
        for group in content
        for digest in group["digests"]
    }
