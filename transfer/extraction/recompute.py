"""Recomputing: some rows of a space are computed again and compared with what the cache holds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import MissingFeatures
from feature_cache.maintenance.shrink import parameters_of
from feature_cache.segments import encoding
from feature_cache.space import Space
from transfer.data.datasets import Dataset, digests
from transfer.engines.runner import BatchRunner
from transfer.extraction.batches import read_batches
from transfer.extraction.request import request_of

# Another engine, batch size or machine may change a feature by so much, as a share of the largest one.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Recomputed:
    """Rows computed again, the largest feature and deviation among them, and how much of it is to be expected."""

    space: str
    rows: int
    largest: float
    deviation: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        return self.deviation <= self.tolerance


def recompute(space: Space, dataset: Dataset, cache: FeatureCache, count: int, seed: int = 0) -> Recomputed:
    """Compute `count` random images of `dataset`, among those that have a row in `space`, again.

    Raises
    ------
    MissingFeatures
        When none of them has.
    BadData, LayertapError
        When the net is not to be had any more.
    """
    keys, _ = digests(dataset, cache.memo)
    present = np.flatnonzero(space.has(keys))
    if not len(present):
        raise MissingFeatures(f"none of the {len(dataset)} images of {dataset.name} has a row in {space.folder}.")
    chosen = np.sort(np.random.default_rng(seed).permutation(present)[:count])
    request = request_of(space)
    parameters = parameters_of(space)
    full = replace(request, dtype="float32", coding=None)
    engines = BatchRunner(full, most=len(chosen))
    rows, largest, deviation = 0, 0.0, 0.0
    for batch, (computed,) in engines.run(read_batches(dataset, chosen.tolist(), full, engines.batch_size, {})):
        cached = np.asarray(space.rows(batch.digests), np.float64)
        again = encoding.as_read(computed, space.spec, parameters)
        rows += len(again)
        largest = max(largest, float(np.abs(again).max(initial=0.0)))
        difference = np.abs(again - cached)
        deviation = max(deviation, float(np.where(np.isnan(difference), np.inf, difference).max(initial=0.0)))
    step = float(parameters["scale"].max()) if "scale" in parameters else 0.0
    if space.spec.dtype == "float16":
        step = largest * float(np.finfo(np.float16).eps)
    return Recomputed(space.folder.name, rows, largest, deviation, TOLERANCE * largest + step)
