"""A deeper layer is computed from shallower layers of the same net, where their features are stored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage, DamagedFile
from feature_cache.space import Space
from feature_cache.spec import FeatureSpec
from transfer import hardware
from transfer.data.datasets import Dataset
from transfer.data.remarks import Remarks
from transfer.engines.batch import Batch
from transfer.engines.selection import accelerated, keras_backend
from transfer.extraction.lookup import Missing
from transfer.extraction.reading import OnPixels, read_batches, read_rows
from transfer.nets.costs import flops
from transfer.request import FeatureRequest, SharedNet

if TYPE_CHECKING:
    from transfer.nets.backbone import Backbone

DECODE_SECONDS = 1e-3  # that decoding an image takes


@dataclass(frozen=True)
class Part:
    """Jobs that are computed in the same way.

    Attributes
    ----------
    jobs : ndarray of int64
        Images and views (see `transfer.extraction.lookup.Missing`).
    start : tuple of str
        The layers that they are computed from; empty where they are computed from pixels.
    spaces : tuple of Space
        The spaces of the outputs of those layers.
    """

    jobs: np.ndarray
    start: tuple[str, ...] = ()
    spaces: tuple[Space, ...] = ()

    def read(
        self,
        jobs: Iterable[int],
        dataset: Dataset,
        request: FeatureRequest,
        missing: Missing,
        batch_size: int,
        undecodable: dict[int, BadImage],
        *,
        remarks: Remarks | None = None,
        stop: bool = False,
        on_pixels: OnPixels | None = None,
    ) -> Iterator[Batch]:
        """Batches of inputs for some of the jobs: rows where they are stored, else pixels (see `read_batches`)."""
        if self.start:
            return read_rows(self.spaces, missing, jobs, batch_size)
        return read_batches(
            dataset, jobs, request, batch_size, undecodable, remarks=remarks, stop=stop, on_pixels=on_pixels
        )


def divide(request: FeatureRequest, cache: FeatureCache, missing: Missing, net: SharedNet) -> list[Part]:
    """Divide the missing jobs into those that are computed from stored features, and those computed from pixels.

    Stored layers are used where all paths from the pixels to the readouts go through them, and where reading them is
    faster than computing them. Files for OpenVINO are always computed from pixels.
    """
    # A quantised net takes pixels: it is quantised as a whole.
    from_pixels = request.net.is_openvino_file or request.precision == "int8"
    stored = {} if from_pixels else _stored(request, cache, missing)
    if not stored:
        return [Part(missing.jobs)] if len(missing.jobs) else []
    start = _best_start(request, stored, net.keras_at(request.precision))
    spaces = tuple(stored[layer] for layer in start)
    has_rows = np.full(len(missing.jobs), bool(start))
    for space in spaces:
        has_rows &= space.has(*missing.keys(missing.jobs))
    parts = [Part(missing.jobs[has_rows], start, spaces), Part(missing.jobs[~has_rows])]
    return [part for part in parts if len(part.jobs)]


def _best_start(request: FeatureRequest, stored: dict[str, Space], backbone: Backbone) -> tuple[str, ...]:
    """The stored layers that it takes least time to compute from; empty where pixels take less."""
    if any("/" in layer and layer not in backbone.taps for layer in stored):
        backbone.look_inside()
    readouts = [backbone.find(spec.layer) for spec in request.specs]
    rate = hardware.FLOPS_PER_SECOND[accelerated(keras_backend())]
    best, least = set[str](), DECODE_SECONDS
    for layers in (*([layer] for layer in stored), list(stored)):
        if frontier := backbone.frontier(layers, readouts):
            values = sum(math.prod(stored[layer].row_shape or ()) for layer in frontier)
            seconds = (
                4 * values / hardware.BYTES_PER_SECOND - flops(*(backbone.taps[layer] for layer in frontier)) / rate
            )
            if seconds < least:
                best, least = frontier, seconds
    return tuple(sorted(best))


def _stored(request: FeatureRequest, cache: FeatureCache, missing: Missing) -> dict[str, Space]:
    """The layers whose whole outputs are stored for some of the missing images."""
    spec, stored = request.specs[0], {}
    for name in cache.spaces():
        if name.startswith(f"{spec.net}-"):
            try:
                space = cache.open(name)
            except DamagedFile:
                continue
            if _is_whole_output(space.spec, spec) and space.has(*missing.keys(missing.jobs)).any():
                stored[space.spec.layer] = space
    return stored


def _is_whole_output(stored: FeatureSpec, spec: FeatureSpec) -> bool:
    """Whether `stored` is of the whole output of some layer, of the net of `spec` and for the same pixels."""
    return stored == replace(spec, layer=stored.layer, pooling="none", prefix_tokens=None, dtype="float32", coding=None)
