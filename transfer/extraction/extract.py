"""Extraction: features that the cache lacks are computed and stored, by the loop of `transfer.extraction.loop`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage
from feature_cache.process.memory import set_aside
from feature_cache.segments.compression import zstandard
from transfer.data.copies.pixel_digests import PixelDigests
from transfer.data.dataset import IdentifiedDataset
from transfer.data.datasets import Dataset, Unreadable
from transfer.data.remarks import Remarks
from transfer.data.remote.parts import has_parts, identified_parts
from transfer.engines.batch import Batch
from transfer.engines.runner import BATCH_IMAGES, BatchRunner
from transfer.extraction import from_shallower, loop
from transfer.extraction.coordination import WorkQueue
from transfer.extraction.fill import fill_from_stored
from transfer.extraction.lookup import Missing, find_missing, keys_of, refusal
from transfer.extraction.report import Report, one_after_another
from transfer.extraction.writing import FeatureWriter, StageTimer
from transfer.nets.pooling import sentences as sentences_on_tokens
from transfer.nets.suggestion import remarks_of, remarks_on, suited
from transfer.quantisation.finding import by_net, net_of
from transfer.quantisation.settling import settle
from transfer.request import FeatureRequest, SharedNet

Progress = Callable[[int, int], None]  # images done, images in all
Runners = dict[tuple[str, ...], BatchRunner]  # by the layers whose outputs they start from; none for pixels

# An extraction that took so long measures the engine's peak, for this share of the time.
PEAK_SECONDS = 10.0
PEAK_SHARE = 0.02


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
    net: SharedNet | None = None,
    requantise: bool = False,
    runners: Runners | None = None,
) -> Report:
    """Compute what `cache` lacks of the features of `dataset`, and store it.

    Several processes, on several machines, may do this at the same time: they share the work.

    Parameters
    ----------
    batch_size : int, optional
        The number of images that are computed together; by default chosen from the engine and the input size. It does
        not change the features.
    engine : {'auto', 'keras', 'openvino'}
        The engine that computes the features (see `transfer.engines.selection`).
    compress : bool
        Whether new segments are compressed.
    on_error : {'fail', 'skip'}
        Whether an unreadable image is an error, after which what was computed is kept, or is left out.
    share : (int, int)
        Compute part `share[0]` of `share[1]` parts of the data set (see `transfer.extraction.multi_device`).
    net : SharedNet, optional
        The net of the request, if it is used elsewhere too.
    requantise : bool
        Whether a net that computes in int8 is quantised anew (see `transfer.quantisation.settling.settle`).
    runners : dict, optional
        The engines of earlier calls for the same request, which are used again, and to which new ones are added.

    Raises
    ------
    BadImage
        If an image is unreadable, unless such images are skipped.
    LayertapError
        When the net or the layer cannot be loaded, or the cache cannot be written.
    """
    options: dict[str, Any] = {"batch_size": batch_size, "engine": engine, "on_error": on_error, "compress": compress}
    if request.coding:
        more: dict[str, Any] = {**options, "share": share, "progress": progress, "net": net, "runners": runners}
        return _extract_coded(dataset, request, cache, **more)
    if compress:
        zstandard()  # an error if it is not installed, before anything is computed
    timer = StageTimer()
    if net is None:
        request, backbone = request.resolve()
        net = SharedNet(request, backbone)
    if request.precision != "int8" and has_parts(dataset):
        return _extract_parts(dataset, request, cache, share=share, progress=progress, net=net, **options)
    known = dataset.identify(cache)
    if request.precision == "int8":
        settled = settle(known, request, cache, engine=engine, on_error=on_error, anew=requantise, net=net)
        requests = by_net(settled.request)
        if settled.request != request or len(requests) > 1:
            more = {**options, "share": share, "progress": progress, "net": net}
            report = one_after_another([extract(known, part, cache, **more) for part in requests])
            return report.with_remarks(settled.notes, settled.warnings)
    fill_from_stored(known, request, cache, compress=compress)
    missing = find_missing(known, request, cache)
    if missing.unreadable and on_error == "fail":
        raise refusal(missing.unreadable)
    number, parts = share
    mine = missing.jobs // missing.views % parts == number  # whenever it is looked up what is missing
    missing = replace(missing, jobs=missing.jobs[mine])
    if known is not dataset:  # digests are needed again only where other processes write, too, or images are damaged
        digests = set_aside(known.digests)
        known, missing = replace(known, digests=digests), replace(missing, digests=digests)
    timer.lap("prepare")

    extraction = _Extraction(known, request, cache, missing, net, timer, progress, runners, **options)
    extraction.run()
    skipped = [*missing.unreadable, *known.with_content_of(extraction.undecodable)]
    if skipped and on_error == "fail":
        raise refusal(skipped)
    return extraction.report(skipped)


class _Extraction:
    """Puts the stages of the loop together, and counts what they do.

    Attributes
    ----------
    undecodable : dict of int to BadImage
        The error of each image that could not be decoded, by its position.
    """

    def __init__(
        self,
        dataset: IdentifiedDataset,
        request: FeatureRequest,
        cache: FeatureCache,
        missing: Missing,
        net: SharedNet,
        timer: StageTimer,
        progress: Progress | None,
        runners: Runners | None,
        *,
        batch_size: int | None,
        engine: str,
        on_error: str,
        compress: bool,
    ) -> None:
        self._dataset, self._request, self._cache = dataset, request, cache
        self._missing = missing
        self._net = net
        self._timer = timer
        self._progress = progress
        self._runners = runners
        self._batch_size, self._engine, self._compress = batch_size, engine, compress
        self._stop_at_error = on_error == "fail"
        self._pixels = PixelDigests(cache.memo, request.specs[0])
        self._remarks = Remarks()
        self._rows = self._bytes = 0
        self._images = 0  # each view counted
        self._images_of_others = 0  # that other processes have computed meanwhile
        self._started_from: set[str] = set()
        self._runner: BatchRunner | None = None  # the last one
        self.undecodable: dict[int, BadImage] = {}

    def run(self) -> None:
        """Compute and write what is missing."""
        try:
            for part in from_shallower.divide(self._request, self._cache, self._missing, self._net):
                self._run(part)
        finally:
            self._pixels.save()

    def _run(self, part: from_shallower.Part) -> None:
        """Run the loop on images that are computed in the same way."""
        runner = self._runner = self._runner_of(part)
        queue = WorkQueue(replace(self._missing, jobs=part.jobs))
        batches = part.read(
            queue,
            self._dataset,
            self._request,
            self._missing,
            runner.batch_size,
            self.undecodable,
            remarks=self._remarks,
            stop=self._stop_at_error,
            on_pixels=self._pixels.add,
        )
        writer = FeatureWriter(runner, lambda: queue.spaces, compress=self._compress)

        def after_batch(batch: Batch) -> None:
            queue.wrote(writer.segments)
            if self._pixels.is_full:
                writer.do(self._pixels.save)
            self._images += len(batch.digests)
            if self._progress:
                done = self._images + self._images_of_others + queue.dropped
                self._progress(done, len(self._missing.jobs))

        loop.run(batches, runner, writer, self._timer, after_batch)
        self._images_of_others += queue.dropped
        self._rows += writer.rows
        self._bytes += writer.bytes_written
        self._started_from |= set(part.start)

    def _runner_of(self, part: from_shallower.Part) -> BatchRunner:
        """The engine for a part: one that another extraction has made, where there is one."""
        if self._runners is not None and (runner := self._runners.get(part.start)):
            runner.making = 0.0
            return runner
        runner = BatchRunner(
            self._request,
            self._batch_size,
            most=len(part.jobs) if self._runners is None else BATCH_IMAGES,
            engine=self._engine,
            start=part.start,
            net=self._net,
            quantised=net_of(self._request, self._cache),
        )
        if self._runners is not None:
            self._runners[part.start] = runner
        return runner

    def report(self, skipped: list[Unreadable]) -> Report:
        """What was done, once it is."""
        views, spaces, runner = self._request.views, self._missing.spaces, self._runner
        total = len(self._dataset) * len(spaces) * views
        left_out = len(skipped) * len(spaces) * views
        seconds = self._timer.total
        notes, warnings = remarks_of([self._request.net])
        tokens = self._request.prefix_tokens
        on_tokens = sentences_on_tokens(tokens) if isinstance(tokens, tuple) and self._rows else []
        net, images = self._request.net, self._dataset
        on_net = remarks_on(net, images) if self._rows else suited([net], images)
        peak = runner.peak(PEAK_SHARE * seconds) if runner and seconds > PEAK_SECONDS else 0.0
        return Report(
            rows_total=total,
            rows_computed=self._rows,
            rows_reused=total - self._rows - left_out,
            rows_skipped=left_out,
            seconds=round(seconds, 3),
            images_per_second=round(self._images / seconds, 1),
            bytes_written=self._bytes,
            spaces=[space.place for space in spaces],
            engine=runner.name if runner else "",
            batch_size=runner.batch_size if runner else 0,
            started_from=sorted(self._started_from),
            waited={stage: round(waited, 3) for stage, waited in self._timer.seconds.items()},
            peak=round(peak, 1),
            note=runner.note if runner else "",
            skipped=skipped,
            remarks=[*on_net, *notes, *on_tokens, *self._remarks.lines()],
            warnings=list(warnings),
        )


def _extract_parts(
    dataset: Dataset, request: FeatureRequest, cache: FeatureCache, *, progress: Progress | None, **options: Any
) -> Report:
    """Features of a data set elsewhere, part by part (see `transfer.data.remote.parts`)."""
    reports: list[Report] = []
    options["runners"] = {}
    for part in identified_parts(dataset, cache):
        before = sum(report.rows_total for report in reports) // len(request.specs)

        def show(done: int, _: int, before: int = before) -> None:
            if progress:
                progress(before + done, len(dataset) * request.views)

        reports.append(extract(part, request, cache, progress=show, **options))
    if progress:
        progress(len(dataset) * request.views, len(dataset) * request.views)
    # What is there in all, and which images are copies of one that cannot be decoded.
    whole = extract(dataset.identify(cache), request, cache, progress=progress, **options)
    added = one_after_another([*reports, whole])
    return replace(
        added,
        rows_total=whole.rows_total,
        rows_reused=whole.rows_total - whole.rows_skipped - added.rows_computed,
        rows_skipped=whole.rows_skipped,
        spaces=whole.spaces,
        skipped=whole.skipped,
    )


def _extract_coded(
    dataset: Dataset, request: FeatureRequest, cache: FeatureCache, *, compress: bool, **options: Any
) -> Report:
    """Features in a space of coded rows: what it lacks is computed in full, and then encoded as its rows are."""
    known = dataset.identify(cache)
    fill_from_stored(known, request, cache, compress=compress)
    spaces = [cache[spec] for spec in request.specs]
    keys = keys_of(known.digests, request.views)
    lacking = np.any([~space.has(*keys) for space in spaces], axis=0).reshape(-1, request.views).any(1)
    full = replace(request, dtype="float32", coding=None)
    report = extract(known.select(lacking), full, cache, compress=compress, **options)
    fill_from_stored(known, request, cache, compress=compress)
    total = len(known) * len(spaces) * request.views
    return replace(
        report,
        rows_total=total,
        rows_reused=total - report.rows_computed - report.rows_skipped,
        spaces=[space.place for space in spaces],
    )
