"""The plan of an extraction: what is there, what is missing, and about what the rest will cost."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from feature_cache.cache import FeatureCache
from transfer.datasets import DataSet
from transfer.extract import Engines
from transfer.lookup import find_missing
from transfer.reading import default_batch_size, read_batches
from transfer.request import Request


@dataclass(frozen=True)
class SpacePlan:
    """One space: rows asked for, present, missing, and bytes a row (None while it is not known)."""

    space: str
    rows_total: int
    rows_present: int
    rows_missing: int
    row_bytes: int | None


@dataclass(frozen=True)
class Plan:
    """What `extract` would do.

    Attributes
    ----------
    seconds : float
        Estimated from a batch that was run and thrown away, and the time that it took to get there.
    bytes : int
        That would be written.
    unreadable : int
        Images that cannot be read; more may be found when they are decoded.
    """

    spaces: list[SpacePlan]
    images_missing: int
    seconds: float
    bytes: int
    unreadable: int


def plan(dataset: DataSet, request: Request, cache: FeatureCache, batch_size: int | None = None) -> Plan:
    """What `extract` would do for `dataset`; nothing is written but the memo of digests."""
    start = time.perf_counter()
    missing = find_missing(dataset, request, cache, plan=True)
    row_shapes = [space.row_shape for space in missing.spaces]
    seconds = 0.0
    if len(missing.positions):
        batch_size = min(batch_size or default_batch_size(request.specs[0].size), len(missing.positions))
        engines = Engines(request, batch_size)
        batch = next(read_batches(dataset, missing.positions[:batch_size], request, batch_size, {}), None)
        if batch is not None:
            computed = engines.run(batch)  # compiles too
            row_shapes = [known or features.shape[1:] for known, features in zip(row_shapes, computed, strict=True)]
            ready = time.perf_counter() - start
            begin = time.perf_counter()
            for again in read_batches(dataset, missing.positions[:batch_size], request, batch_size, {}):
                engines.run(again)
            seconds = ready + (time.perf_counter() - begin) / batch_size * len(missing.positions)

    total = len(dataset) - len(missing.unreadable)
    spaces = []
    for space, lacking, shape in zip(missing.spaces, missing.rows, row_shapes, strict=True):
        width = None if shape is None else math.prod(shape) * np.dtype(space.spec.dtype).itemsize
        spaces.append(SpacePlan(str(space.folder), total, total - lacking, lacking, width))
    return Plan(
        spaces=spaces,
        images_missing=len(missing.positions),
        seconds=round(seconds, 1),
        bytes=sum(part.rows_missing * (part.row_bytes or 0) for part in spaces),
        unreadable=len(missing.unreadable),
    )
