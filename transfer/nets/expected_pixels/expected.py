"""Which pixels the net of a file expects, and how that is known. Keras is not imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from feature_cache.errors import BadData
from feature_cache.files.weights_file import open_weights
from transfer.nets.expected_pixels.graph import Node, nodes_of
from transfer.nets.expected_pixels.known_nets import KnownNet, recognise
from transfer.nets.expected_pixels.scaling import first_pixels
from transfer.nets.files.keras_file import NetFile, input_shape, read_net_file

MEANINGS = {
    "none": "0 to 255",
    "unit": "0 to 1",
    "tf": "-1 to 1",
    "torch": "normalised by ImageNet's mean and deviation",
    "caffe": "less ImageNet's mean, with blue first",
}
OF_COLOUR = ("torch", "caffe")  # of nets that take three channels
_NOT_AS_EXPECTED = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, BadData)
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError)


@dataclass(frozen=True)
class ExpectedPixels:
    """What a net is given where its user does not say what it expects.

    Attributes
    ----------
    preprocessing : str
        See `FeatureSpec`.
    sentence : str
        How that is known, or that it is not.
    is_known : bool
    """

    preprocessing: str
    sentence: str
    is_known: bool


def expected_pixels(file: Path) -> ExpectedPixels:
    """What the net in a ``.keras`` or ``.h5`` file expects, by its layers.

    A net that begins with a Rescaling, a Normalization or other arithmetic gets the pixels that these are meant for; a
    net of ``keras.applications`` without such layers gets the preprocessing that belongs to it. Where neither is known,
    pixels of 0 to 255 are assumed.

    Raises
    ------
    LayertapError
        When the file cannot be read (see `read_net_file`).
    """
    found = read_net_file(file)
    status = file.stat()
    return _expected(file, status.st_size, status.st_mtime_ns, found.version)


@lru_cache(maxsize=16)
def _expected(file: Path, size: int, mtime: int, version: str) -> ExpectedPixels:
    found = read_net_file(file)
    try:
        nodes = nodes_of(found.config_to_build())
        return _by_layers(nodes, _statistics(found, nodes), file, (input_shape(found.config) or (None,))[-1])
    except _NOT_AS_EXPECTED:
        return unknown_pixels(file)


def expected_by_layers(config: dict[str, Any], name: str) -> ExpectedPixels:
    """What a net of Keras 3 expects by its architecture, as far as that tells it.

    Parameters
    ----------
    name : str
        What messages call the net.
    """
    try:
        nodes = nodes_of(config)
        return _by_layers(nodes, lambda node: None, name, (input_shape(config) or (None,))[-1])
    except _NOT_AS_EXPECTED:
        return unknown_pixels(name)


def _by_layers(
    nodes: list[Node], statistics: Callable[[Node], Any], file: Path | str, channels: int | None
) -> ExpectedPixels:
    received = first_pixels(nodes, statistics)
    decided = {pixels.expects for pixels in received if pixels.expects}
    if len(decided) == 1:
        [mode] = decided
        steps = next(pixels.steps for pixels in received if pixels.expects)
        return ExpectedPixels(mode, scales(file, steps, mode), is_known=True)
    known = recognise(nodes)
    if decided or known is None or not all(pixels.is_plain for pixels in received):
        return unknown_pixels(file)
    if known.preprocessing is None or (channels == 1 and known.preprocessing in OF_COLOUR):
        return unknown_pixels(file, known)
    return ExpectedPixels(known.preprocessing, _recognised(file, known), is_known=True)


def _statistics(found: NetFile, nodes: list[Node]) -> Callable[[Node], Any]:
    """The mean and the variance that a Normalization learnt from data, where there is one such layer."""
    learning = [node for node in nodes if node.kind == "Normalization" and node.config.get("mean") is None]

    def read(node: Node) -> tuple[np.ndarray, np.ndarray] | None:
        if learning != [node]:
            return None
        try:
            with open_weights(found.file) as store:
                return _learnt(store)
        except _UNREADABLE:
            return None

    return read


def _learnt(store: h5py.File) -> tuple[np.ndarray, np.ndarray] | None:
    """The mean and the variance in the only group that holds these; None where there are none, or several."""
    groups: list[tuple[np.ndarray, np.ndarray]] = []

    def look(name: str, part: Any) -> None:
        if not isinstance(part, h5py.Group):
            return
        plain = {key.partition(":")[0]: key for key in part}
        if {"mean", "variance", "count"} <= plain.keys():
            groups.append((part[plain["mean"]][...], part[plain["variance"]][...]))
        elif name.rpartition("/")[2].partition("_")[0] == "normalization" and "vars" in part:
            groups.append((part["vars"]["0"][...], part["vars"]["1"][...]))

    store.visititems(look)
    return groups[0] if len(groups) == 1 else None


def scales(file: Path | str, steps: tuple[str, ...], mode: str) -> str:
    """The sentence for a net whose first steps scale pixels that `mode` makes."""
    if steps == ("whole numbers",):
        return f"{file} takes whole numbers: it gets pixels of 0 to 255, and scales them itself."
    layers = ", ".join(dict.fromkeys(steps))
    return f"{file} scales pixels itself ({layers}): it gets them as {MEANINGS[mode]} (`preprocessing='{mode}'`)."


def _recognised(file: Path | str, known: KnownNet) -> str:
    mode = known.preprocessing or "none"
    return (
        f"{file} {_named(known)} by its layers, and scales no pixels itself: it gets them as {MEANINGS[mode]} "
        f"(`preprocessing='{mode}'`). If it was trained on others, say so with `preprocessing`."
    )


def _named(known: KnownNet) -> str:
    if known.names == ("glyphnet",):
        return "is glyphnet"
    if len(known.names) == 1:
        return f"is {known.names[0]} of keras.applications"
    names = [*known.names[:2], "others" if len(known.names) > 3 else known.names[-1]]
    return f"begins as {', '.join(dict.fromkeys(names[:-1]))} or {names[-1]} of keras.applications"


def unknown_pixels(file: Path | str, known: KnownNet | None = None) -> ExpectedPixels:
    """Pixels of 0 to 255 for a net that does not say what it expects, and the warning that they are assumed."""
    others = ", ".join(f"{mode} ({MEANINGS[mode]})" for mode in MEANINGS if mode != "none")
    known_part = f" {_named(known)} without its scaling of pixels, and" if known else ""
    text = (
        f"{file}{known_part} does not say which pixels it expects: it gets them as 0 to 255. If it was trained on "
        f"others, say so with `preprocessing`: {others}. `preprocessing='none'` confirms what was assumed."
    )
    return ExpectedPixels("none", text, is_known=False)


def sentences(inferred: Iterable[ExpectedPixels | None]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What there is to say of the pixels that nets get, without repeats: how it is known, and where it is not."""
    said = [one for one in dict.fromkeys(inferred) if one is not None]
    notes = tuple(one.sentence for one in said if one.is_known)
    return notes, tuple(one.sentence for one in said if not one.is_known)
