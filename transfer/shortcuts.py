"""Shortcuts: a deeper layer is computed from a shallower one of the same net, where its features are stored."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import DamagedFile
from feature_cache.space import Space
from feature_cache.spec import FeatureSpec
from transfer.engines.choice import accelerated, keras_backend
from transfer.layers import flops
from transfer.request import Request

# When reading beats computing is decided by these rates, low for a disk and for a processor of today.
BYTES_PER_SECOND = 5e8
FLOPS_PER_SECOND = {False: 1e11, True: 1e13}  # of a CPU, of an accelerator
DECODE_SECONDS = 1e-3  # for an image


@dataclass(frozen=True)
class Shortcut:
    """A layer to start from, and the space that its features are in."""

    layer: str
    space: Space


def find(request: Request, cache: FeatureCache, digests: np.ndarray, views: np.ndarray) -> Shortcut | None:
    """The stored layer from which the readouts of `request` cost least, for some of these images.

    It has to be one that every path from the pixels to the readouts goes through, and worth reading.

    Parameters
    ----------
    digests : ndarray of shape (n, 16), uint8
    views : ndarray of shape (n,), uint32
    """
    wanted = request.specs[0]
    found = []
    for name in cache.spaces():
        if name.startswith(f"{wanted.net}-"):
            try:
                space = cache.open(name)
            except DamagedFile:
                continue
            if _fits(space.spec, wanted) and space.has(digests, views).any():
                found.append(space)
    if not found:
        return None
    backbone = request.backbone
    readouts = [backbone.find(spec.layer) for spec in request.specs]
    rate = FLOPS_PER_SECOND[accelerated(keras_backend())]
    best, least = None, DECODE_SECONDS
    for space in found:
        layer = space.spec.layer
        if backbone.leads(layer, readouts):
            shape = space.row_shape or ()
            seconds = 4 * float(np.prod(shape)) / BYTES_PER_SECOND - flops(backbone.taps[layer]) / rate
            if seconds < least:
                best, least = Shortcut(layer, space), seconds
    return best


def _fits(stored: FeatureSpec, wanted: FeatureSpec) -> bool:
    """Whether these are whole outputs of some layer, of the same net for the same pixels."""
    whole = replace(wanted, layer=stored.layer, pooling="none", dtype="float32", coding=None)
    return stored == whole
