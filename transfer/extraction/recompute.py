"""Recomputing: some rows of a space are computed again and compared with those in the cache."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import MissingFeatures
from feature_cache.maintenance.shrink import parameters_of
from feature_cache.segments import encoding
from feature_cache.space import Space
from transfer.data.datasets import Dataset
from transfer.engines.runner import BatchRunner
from transfer.extraction.reading import read_batches
from transfer.quantisation.finding import net_of
from transfer.request import request_of

# Another engine, batch size or machine may change a feature by so much, as a share of the largest one.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Recomputed:
    """How rows that were computed again compare with those in the cache.

    Attributes
    ----------
    space : str
        The name of the space.
    rows : int
        The number of rows compared.
    largest : float
        The largest absolute feature among them.
    deviation : float
        The largest absolute difference; infinite where one side is NaN.
    tolerance : float
        The difference that another engine, batch size or machine may make.
    """

    space: str
    rows: int
    largest: float
    deviation: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        return self.deviation <= self.tolerance


def recompute(space: Space, dataset: Dataset, cache: FeatureCache, count: int, seed: int = 0) -> Recomputed:
    """Compute `count` random images of `dataset` again, of those that have a row in `space`, and compare the rows.

    Raises
    ------
    MissingFeatures
        When none of the images has a row in `space`.
    BadData, LayertapError
        When the net cannot be loaded any more.
    """
    present = np.flatnonzero(space.has(dataset.identify(cache).digests))
    if not len(present):
        raise MissingFeatures(f"none of the {len(dataset)} images of {dataset.name} has a row in {space.place}.")
    chosen = np.sort(np.random.default_rng(seed).permutation(present)[:count])
    request = request_of(space)
    parameters = parameters_of(space)
    full = replace(request, dtype="float32", coding=None)
    runner = BatchRunner(full, most=len(chosen), quantised=net_of(full, cache))
    rows, largest, deviation = 0, 0.0, 0.0
    for batch, (computed,) in runner.run(read_batches(dataset, chosen.tolist(), full, runner.batch_size, {})):
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
