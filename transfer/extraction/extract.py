"""Extraction: the one visible loop from images to cached features."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage
from feature_cache.segments.compression import zstandard
from feature_cache.writer import SpaceWriter
from transfer.data.datasets import Dataset, Unreadable
from transfer.data.groups import PixelDigests
from transfer.data.remarks import Remarks
from transfer.engines.runner import BatchRunner
from transfer.extraction import reuse
from transfer.extraction.batches import Batch
from transfer.extraction.coordination import WorkQueue
from transfer.extraction.lookup import Missing, find_missing, refusal, with_copies
from transfer.extraction.request import FeatureRequest
from transfer.extraction.stages import BackgroundWriter, StageTimer

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
    started_from : list of str
        The stored layers that rows were computed from, where there were some.
    note : str
        Why another engine was used than the one that was chosen.
    remarks : list of str
        What decoding has guessed or left out, a sentence each.
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
    started_from: list[str] = field(default_factory=list)
    waited: dict[str, float] = field(default_factory=dict)
    peak: float = 0.0
    note: str = ""
    skipped: list[Unreadable] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def extract(
    dataset: Dataset,
    request: FeatureRequest,
    cache: FeatureCache,
    *,
    batch_size: int | None = None,
    engine: str = "auto",
    on_error: str = "fail",
    compress: bool = False,
    share: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> Report:
    """Compute what `cache` lacks of the features of `dataset`, and keep it.

    Several processes, on several machines, may do this at the same time: they share the work.

    Parameters
    ----------
    batch_size : int, optional
        By default chosen from the engine and the input size. It does not change the features.
    engine : {'auto', 'keras', 'openvino'}
        What computes them (see `transfer.engines.selection`).
    compress : bool
        Whether new segments are compressed.
    on_error : {'fail', 'skip'}
        What to do about an unreadable image: raise, keeping what was computed, or leave it out.
    share : (int, int)
        Compute part `share[0]` of `share[1]` equal parts of what is missing (see `transfer.extraction.multi_device`).

    Raises
    ------
    BadImage
        For the first unreadable image, unless they are skipped.
    LayertapError
        When the net or the layer is not to be had, or the cache cannot be written.
    """
    if request.coding:
        options: dict[str, Any] = {"batch_size": batch_size, "engine": engine, "on_error": on_error}
        options |= {"compress": compress, "share": share}
        return _extract_shrunk(dataset, request, cache, progress, **options)
    if compress:
        zstandard()
    clock = StageTimer()
    missing = find_missing(dataset, request, cache, complete=True, compress=compress)
    if missing.unreadable and on_error == "fail":
        raise refusal(missing.unreadable)

    number, parts = share
    missing = replace(missing, jobs=np.array_split(missing.jobs, parts)[number])
    clock.lap("prepare")
    undecodable: dict[int, BadImage] = {}
    remarks = Remarks()
    pixels = PixelDigests(cache.memo, request.specs[0])
    work = _Work(missing, compress, clock, progress, pixels)
    started_from: set[str] = set()
    try:
        for part in reuse.divide(request, cache, missing):
            engines = BatchRunner(request, batch_size, most=len(part.jobs), engine=engine, start=part.start)
            read = partial(
                part.read,
                dataset=dataset,
                request=request,
                missing=missing,
                batch_size=engines.batch_size,
                undecodable=undecodable,
                remarks=remarks,
                stop=on_error == "fail",
                on_pixels=pixels.add,
            )
            work.run(engines, part.jobs, read)
            started_from |= set(part.start)
    finally:
        pixels.save()
    skipped = missing.unreadable + with_copies(dataset, missing.digests, undecodable)
    if skipped and on_error == "fail":
        raise refusal(skipped)

    total = len(dataset) * len(missing.spaces) * request.views
    left_out = len(skipped) * len(missing.spaces) * request.views
    seconds = clock.total
    return Report(
        rows_total=total,
        rows_computed=work.computed,
        rows_reused=total - work.computed - left_out,
        rows_skipped=left_out,
        seconds=round(seconds, 3),
        images_per_second=round(work.done / seconds, 1),
        bytes_written=work.written,
        spaces=[str(space.folder) for space in missing.spaces],
        engine=work.engines.name if work.engines else "",
        batch_size=work.engines.batch_size if work.engines else 0,
        started_from=sorted(started_from),
        waited={what: round(waited, 3) for what, waited in clock.seconds.items()},
        peak=round(work.engines.peak(PEAK_SHARE * seconds), 1) if work.engines and seconds > PEAK_SECONDS else 0.0,
        note=work.engines.note if work.engines else "",
        skipped=skipped,
        remarks=remarks.lines(),
    )


class _Work:
    """Computes rows and has them written.

    Attributes
    ----------
    computed : int
        Rows, over all spaces.
    done : int
        Images, each view counted.
    written : int
        Bytes.
    engines : BatchRunner or None
        Those that ran last.
    """

    def __init__(
        self, missing: Missing, compress: bool, clock: StageTimer, progress: Progress | None, pixels: PixelDigests
    ) -> None:
        self._missing = missing
        self._compress = compress
        self._clock = clock
        self._progress = progress
        self._pixels = pixels
        self.computed = self.done = self.written = 0
        self._left = 0  # images that other processes have done
        self.engines: BatchRunner | None = None

    def run(self, engines: BatchRunner, jobs: np.ndarray, read: Callable[[Iterable[int]], Iterator[Batch]]) -> None:
        """Compute these, whose inputs `read` gives."""
        self.engines, clock = engines, self._clock
        todo = WorkQueue(replace(self._missing, jobs=jobs))
        writers: list[SpaceWriter] = []
        with ExitStack() as stack, BackgroundWriter() as behind:
            clock.lap("prepare")
            begun = time.monotonic()
            for batch, features in engines.run(clock.timed("decode", read(todo))):
                if not writers:  # only now: a net that cannot be run leaves no empty spaces
                    how: dict[str, Any] = {"compress": self._compress, "since": begun + engines.making}
                    made = [space.writer(engines.provenance, **how) for space in todo.spaces]
                    writers = [stack.enter_context(writer) for writer in made]
                clock.lap("compute")
                for space, writer, rows in zip(todo.spaces, writers, features, strict=True):
                    new = ~space.has(batch.digests, batch.views)
                    behind.do(writer.append, batch.digests[new], rows[new], batch.views[new])
                    self.computed += int(new.sum())
                    todo.wrote(writer.written)
                if self._pixels.is_full:
                    behind.do(self._pixels.save)
                clock.lap("write")
                self.done += len(batch.digests)
                if self._progress:
                    self._progress(self.done + self._left + todo.dropped, len(self._missing.jobs))
        clock.lap("write")
        clock.move("compute", "prepare", engines.making)
        self._left += todo.dropped
        self.written += sum(writer.bytes_written for writer in writers)


def _extract_shrunk(
    dataset: Dataset, request: FeatureRequest, cache: FeatureCache, progress: Progress | None, **options: Any
) -> Report:
    """Features in a shrunk copy of a space: what it lacks is computed in full, and then encoded as the copy is."""
    missing = find_missing(dataset, request, cache, complete=True, compress=options["compress"])
    wanted = missing.keys(np.arange(len(dataset) * missing.views))
    lacking = np.any([~space.has(*wanted) for space in missing.spaces], axis=0).reshape(-1, missing.views).any(1)
    full = replace(request, dtype="float32", coding=None)
    report = extract(dataset.select(lacking), full, cache, progress=progress, **options)
    after = find_missing(dataset, request, cache, complete=True, compress=options["compress"])
    total = len(dataset) * len(after.spaces) * request.views
    return replace(
        report,
        rows_total=total,
        rows_reused=total - report.rows_computed - report.rows_skipped,
        spaces=[str(space.folder) for space in after.spaces],
    )
