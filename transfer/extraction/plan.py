"""The plan of an extraction: what is stored, what is missing, and an estimate of what the rest will cost."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage
from transfer.data.datasets import Dataset
from transfer.engines.runner import BatchRunner
from transfer.extraction.from_shallower import Part, divide
from transfer.extraction.lookup import Missing, find_missing, refusal
from transfer.quantisation.finding import by_net, found, net_of
from transfer.request import FeatureRequest, SharedNet

BATCHES = 4  # the number of batches that the estimate is made from


@dataclass(frozen=True)
class SpacePlan:
    """The rows of one space.

    Attributes
    ----------
    space : str
        The folder of the space.
    rows_total, rows_present, rows_missing : int
        The rows of the data set, those that are stored (or can be filled from stored ones), and the others.
    row_bytes : int or None
        The size of a row; None while it is not known.
    """

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
        Estimated from a few batches that were computed and not stored, and from the time that preparing them took.
    bytes : int
        The bytes that would be written.
    unreadable : int
        The number of images that cannot be read; more may be found when they are decoded.
    started_from : list of str
        The stored layers that rows would be computed from.
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

    Where a net has still to be quantised, or there are several of them, the seconds are those in float32.

    Raises
    ------
    BadImage
        If an image is unreadable, as far as the images have been decoded, and unless such images are skipped.
    """
    start = time.perf_counter()
    request, backbone = request.resolve()
    net = SharedNet(request, backbone)
    known = dataset.identify(cache)
    request = found(request, cache, known)
    missing = find_missing(known, request, cache, count_fillable=True)
    if missing.unreadable and on_error == "fail":
        raise refusal(missing.unreadable)
    trial = _Trial(known, request, missing)
    parts = by_net(request) if request.precision == "int8" else [request]
    whole = len(parts) == 1 and request.specs[0].calibration is not None
    # A net that has still to be quantised is tried in float32: images take no longer than that.
    tried = replace(request, precision="float32") if request.precision == "int8" and not whole else request
    quantised = net_of(tried, cache)
    for part in divide(request, cache, missing, net):
        options: dict[str, Any] = {"engine": engine, "start": part.start, "net": net, "quantised": quantised}
        runner = BatchRunner(tried, batch_size, most=len(part.jobs), **options)
        start = trial.run(part, runner, start)
    if trial.undecodable and on_error == "fail":
        raise refusal(known.with_content_of(trial.undecodable))
    spaces = _space_plans(missing, (len(known) - len(missing.unreadable)) * request.views, trial.row_shapes)
    return Plan(
        spaces=spaces,
        images_missing=len(missing.jobs),
        seconds=round(trial.seconds, 3),
        bytes=sum(part.rows_missing * (part.row_bytes or 0) for part in spaces),
        unreadable=len(missing.unreadable),
        started_from=trial.started_from,
    )


@dataclass
class _Trial:
    """Computes a few batches to learn how long the others will take, and how large their rows are."""

    dataset: Dataset
    request: FeatureRequest
    missing: Missing
    undecodable: dict[int, BadImage] = field(default_factory=dict)
    started_from: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.row_shapes = [space.row_shape for space in self.missing.spaces]

    def run(self, part: Part, runner: BatchRunner, start: float) -> float:
        """Add the estimate for a part whose preparation began at `start`; return the time at which this was done."""
        self.started_from += part.start
        for rows in self._compute(part, runner, 1):  # the engine is made with the first batch
            shapes = zip(self.row_shapes, rows, strict=True)
            self.row_shapes = [shape or features.shape[1:] for shape, features in shapes]
        ready = time.perf_counter()
        count = sum(len(rows[0]) for rows in self._compute(part, runner, BATCHES))
        if not count:
            return start
        done = time.perf_counter()
        self.seconds += ready - start + (done - ready) / count * len(part.jobs)
        return done

    def _compute(self, part: Part, runner: BatchRunner, batches: int) -> Iterator[list[np.ndarray]]:
        size = runner.batch_size
        jobs = part.jobs[: batches * size]
        inputs = part.read(jobs, self.dataset, self.request, self.missing, size, self.undecodable)
        return (rows for _, rows in runner.run(inputs))


def _space_plans(missing: Missing, total: int, row_shapes: Sequence[tuple[int, ...] | None]) -> list[SpacePlan]:
    plans = []
    for space, lacking, shape in zip(missing.spaces, missing.rows, row_shapes, strict=True):
        width = None if shape is None else math.prod(shape) * np.dtype(space.spec.dtype).itemsize
        plans.append(SpacePlan(space.place, total, total - lacking, lacking, width))
    return plans
