"""The plan of an extraction: what is there, what is missing, and about what the rest will cost."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage
from transfer.data.datasets import Dataset
from transfer.engines.runner import BatchRunner
from transfer.extraction.lookup import find_missing, refusal, with_copies
from transfer.extraction.request import FeatureRequest
from transfer.extraction.reuse import Part, divide

BATCHES = 4  # that the estimate is made from


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
        Estimated from a few batches that were run and thrown away, and the time that it took to get there.
    bytes : int
        That would be written.
    unreadable : int
        Images that cannot be read; more may be found when they are decoded.
    started_from : list of str
        Stored layers that rows would be computed from.
    """

    spaces: list[SpacePlan]
    images_missing: int
    seconds: float
    bytes: int
    unreadable: int
    started_from: list[str]


def plan(
    dataset: Dataset,
    request: FeatureRequest,
    cache: FeatureCache,
    batch_size: int | None = None,
    engine: str = "auto",
    on_error: str = "fail",
) -> Plan:
    """What `extract` would do for `dataset`; nothing is written but the memo of digests.

    Raises
    ------
    BadImage
        For the first unreadable image, as `extract` would raise it, as far as the images have been decoded; unless
        such images are skipped.
    """
    begun = time.perf_counter()
    missing = find_missing(dataset, request, cache, plan=True)
    if missing.unreadable and on_error == "fail":
        raise refusal(missing.unreadable)
    undecodable: dict[int, BadImage] = {}
    row_shapes = [space.row_shape for space in missing.spaces]
    started_from: list[str] = []
    seconds = 0.0
    for part in divide(request, cache, missing):
        engines = BatchRunner(request, batch_size, most=len(part.jobs), engine=engine, start=part.start)
        started_from += part.start

        def run(batches: int, part: Part = part, engines: BatchRunner = engines) -> Iterator[list[np.ndarray]]:
            size = engines.batch_size
            batches_of = part.read(part.jobs[: batches * size], dataset, request, missing, size, undecodable)
            return (rows for _, rows in engines.run(batches_of))

        for computed in run(1):  # makes the engine, too
            row_shapes = [known or features.shape[1:] for known, features in zip(row_shapes, computed, strict=True)]
        ready = time.perf_counter()
        if count := sum(len(computed[0]) for computed in run(BATCHES)):
            now = time.perf_counter()
            seconds += ready - begun + (now - ready) / count * len(part.jobs)
            begun = now
    if undecodable and on_error == "fail":
        raise refusal(with_copies(dataset, missing.digests, undecodable))

    total = (len(dataset) - len(missing.unreadable)) * request.views
    spaces = []
    for space, lacking, shape in zip(missing.spaces, missing.rows, row_shapes, strict=True):
        width = None if shape is None else math.prod(shape) * np.dtype(space.spec.dtype).itemsize
        spaces.append(SpacePlan(str(space.folder), total, total - lacking, lacking, width))
    return Plan(
        spaces=spaces,
        images_missing=len(missing.jobs),
        seconds=round(seconds, 3),
        bytes=sum(part.rows_missing * (part.row_bytes or 0) for part in spaces),
        unreadable=len(missing.unreadable),
        started_from=started_from,
    )
