"""Shortcuts: a deeper layer is computed from shallower ones of the same net, where their features are stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage, DamagedFile
from feature_cache.space import Space
from feature_cache.spec import FeatureSpec
from transfer.data.datasets import Dataset
from transfer.data.remarks import Remarks
from transfer.engines.selection import accelerated, keras_backend
from transfer.extraction.batches import Batch, read_batches, read_rows
from transfer.extraction.lookup import Missing
from transfer.extraction.request import FeatureRequest
from transfer.nets.costs import flops

# When reading beats computing is decided by these rates, low for a disk and for a processor of today.
BYTES_PER_SECOND = 5e8
FLOPS_PER_SECOND = {False: 1e11, True: 1e13}  # of a CPU, of an accelerator
DECODE_SECONDS = 1e-3  # for an image


@dataclass(frozen=True)
class Part:
    """Jobs that are computed in the same way.

    Attributes
    ----------
    jobs : ndarray of int64
        See `transfer.extraction.lookup.Missing`.
    start : tuple of str
        The layers that they are computed from; none where that is the pixels.
    spaces : tuple of Space
        Where the outputs of those are.
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
        on_pixels: Callable[[bytes, np.ndarray], object] | None = None,
    ) -> Iterator[Batch]:
        """Batches of inputs for some of the jobs: rows where they are stored, else pixels (see `read_batches`)."""
        if self.start:
            return read_rows(self.spaces, missing, jobs, batch_size)
        return read_batches(
            dataset, jobs, request, batch_size, undecodable, remarks=remarks, stop=stop, on_pixels=on_pixels
        )


def divide(request: FeatureRequest, cache: FeatureCache, missing: Missing) -> list[Part]:
    """What to compute from stored features, and what from pixels.

    Stored layers serve where all paths from the pixels to the readouts go through them, and reading them beats
    computing them.
    """
    stored = _stored(request, cache, missing)
    if not stored:
        return [Part(missing.jobs)] if len(missing.jobs) else []
    backbone = request.backbone
    readouts = [backbone.find(spec.layer) for spec in request.specs]
    rate = FLOPS_PER_SECOND[accelerated(keras_backend())]
    best, least = set[str](), DECODE_SECONDS
    for layers in (*([layer] for layer in stored), list(stored)):
        if met := backbone.frontier(layers, readouts):
            values = sum(math.prod(stored[layer].row_shape or ()) for layer in met)
            seconds = 4 * values / BYTES_PER_SECOND - flops(*(backbone.taps[layer] for layer in met)) / rate
            if seconds < least:
                best, least = met, seconds
    start = tuple(sorted(best))
    spaces = tuple(stored[layer] for layer in start)
    there = np.full(len(missing.jobs), bool(start))
    for space in spaces:
        there &= space.has(*missing.keys(missing.jobs))
    parts = [Part(missing.jobs[there], start, spaces), Part(missing.jobs[~there])]
    return [part for part in parts if len(part.jobs)]


def _stored(request: FeatureRequest, cache: FeatureCache, missing: Missing) -> dict[str, Space]:
    """The layers whose whole outputs are stored for some of the missing images."""
    wanted, found = request.specs[0], {}
    for name in cache.spaces():
        if name.startswith(f"{wanted.net}-"):
            try:
                space = cache.open(name)
            except DamagedFile:
                continue
            if _fits(space.spec, wanted) and space.has(*missing.keys(missing.jobs)).any():
                found[space.spec.layer] = space
    return found


def _fits(stored: FeatureSpec, wanted: FeatureSpec) -> bool:
    """Whether these are whole outputs of some layer, of the same net for the same pixels."""
    whole = replace(wanted, layer=stored.layer, pooling="none", dtype="float32", coding=None)
    return stored == whole
