"""Extraction: the one visible loop from images to cached features."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.compression import zstandard
from transfer.datasets import DataSet, Unreadable
from transfer.lookup import find_missing, refusal, with_copies
from transfer.pipeline import Behind, Clock
from transfer.reading import read_batches
from transfer.request import Request
from transfer.running import Engines
from transfer.sharing import Todo

Progress = Callable[[int, int], None]  # images done, images in all


# An extraction that took so long measures the engine's peak, for this share of the time.
PEAK_SECONDS = 10.0
PEAK_SHARE = 0.02


@dataclass(frozen=True)
class Report:
    """What an extraction did. Rows are counted over all spaces; computed, reused and skipped make up the total.

    Attributes
    ----------
    engine : str
        Empty where nothing was computed, as `batch_size` is 0.
    waited : dict of str to float
        The seconds, by what was waited for: ``prepare`` (looking up what is missing, loading or converting the net),
        ``decode`` (images to be read and decoded), ``compute`` (the engine), ``write`` (the disk).
    peak : float
        Images a second of the engine alone, where that was measured; else 0.
    note : str
        Why another engine was used than the one that was chosen.
    """

    rows_total: int
    rows_computed: int
    rows_reused: int
    rows_skipped: int
    seconds: float
    images_per_second: float
    bytes_written: int
    spaces: list[str]
    engine: str = ""
    batch_size: int = 0
    waited: dict[str, float] = field(default_factory=dict)
    peak: float = 0.0
    note: str = ""
    skipped: list[Unreadable] = field(default_factory=list)


def extract(
    dataset: DataSet,
    request: Request,
    cache: FeatureCache,
    *,
    batch_size: int | None = None,
    engine: str = "auto",
    on_error: str = "fail",
    compress: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Compute what `cache` lacks of the features of `dataset`, and keep it.

    Several processes, on several machines, may do this at the same time: they share the work.

    Parameters
    ----------
    batch_size : int, optional
        By default chosen from the engine and the input size. It does not change the features.
    engine : {'auto', 'keras', 'openvino'}
        What computes them (see `transfer.engines.choice`).
    compress : bool
        Whether new segments are compressed.
    on_error : {'fail', 'skip'}
        What to do about an unreadable image: raise, keeping what was computed, or leave it out.

    Raises
    ------
    BadImage
        For the first unreadable image, unless they are skipped.
    LayertapError
        When the net or the layer is not to be had, or the cache cannot be written.
    """
    if request.coding:
        options = {"batch_size": batch_size, "engine": engine, "on_error": on_error, "compress": compress}
        return _extract_shrunk(dataset, request, cache, progress, **options)
    if compress:
        zstandard()
    clock = Clock()
    missing = find_missing(dataset, request, cache, complete=True, compress=compress)
    if missing.unreadable and on_error == "fail":
        raise refusal(missing.unreadable)

    undecodable: dict[int, str] = {}
    computed = written = done = 0
    ran: dict[str, Any] = {}
    if len(missing.positions):
        engines = Engines(request, batch_size, most=len(missing.positions), engine=engine)
        todo = Todo(missing)
        with ExitStack() as stack:
            writers = [
                stack.enter_context(space.writer(engines.provenance, compress=compress)) for space in missing.spaces
            ]
            behind = stack.enter_context(Behind())
            clock.lap("prepare")
            batches = read_batches(dataset, todo, request, engines.batch_size, undecodable, stop=on_error == "fail")
            for batch, features in engines.run(clock.timed("decode", batches)):
                clock.lap("compute")
                for space, writer, rows in zip(todo.spaces, writers, features, strict=True):
                    new = ~space.has(batch.digests)
                    behind.do(writer.append, batch.digests[new], rows[new])
                    computed += int(new.sum())
                    todo.wrote(writer.written)
                clock.lap("write")
                done += len(batch.digests)
                if progress:
                    progress(done + todo.dropped, len(missing.positions))
        clock.lap("write")
        clock.move("compute", "prepare", engines.making)
        written = sum(writer.bytes_written for writer in writers)
        ran = {"engine": engines.name, "batch_size": engines.batch_size, "note": engines.note}
        if clock.total > PEAK_SECONDS and done:
            ran["peak"] = round(engines.peak(PEAK_SHARE * clock.total), 1)
    skipped = missing.unreadable + with_copies(dataset, missing.digests, undecodable)
    if skipped and on_error == "fail":
        raise refusal(skipped)

    total = len(dataset) * len(missing.spaces)
    left_out = len(skipped) * len(missing.spaces)
    return Report(
        rows_total=total,
        rows_computed=computed,
        rows_reused=total - computed - left_out,
        rows_skipped=left_out,
        seconds=round(clock.total, 3),
        images_per_second=round(len(missing.positions) / clock.total, 1) if computed else 0.0,
        bytes_written=written,
        spaces=[str(space.folder) for space in missing.spaces],
        waited={what: round(seconds, 3) for what, seconds in clock.seconds.items()},
        skipped=skipped,
        **ran,
    )


def _extract_shrunk(
    dataset: DataSet, request: Request, cache: FeatureCache, progress: Progress | None, **options: Any
) -> Report:
    """Features in a shrunk copy of a space: what it lacks is computed in full, and then encoded as the copy is."""
    missing = find_missing(dataset, request, cache, complete=True, compress=options["compress"])
    lacking = np.any([~space.has(missing.digests) for space in missing.spaces], axis=0)
    full = replace(request, dtype="float32", coding=None)
    report = extract(dataset.select(lacking), full, cache, progress=progress, **options)
    after = find_missing(dataset, request, cache, complete=True, compress=options["compress"])
    return replace(
        report,
        rows_total=len(dataset) * len(after.spaces),
        rows_reused=len(dataset) * len(after.spaces) - report.rows_computed - report.rows_skipped,
        spaces=[str(space.folder) for space in after.spaces],
    )
