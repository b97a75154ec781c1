"""Several devices of one machine: a worker process for each, a GPU or a group of cores, which shares the work."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import InvalidChoice, LayertapError, StorageFailure
from feature_cache.process.lifeline import Lifeline, end_with, main_module_hidden, restore_sigterm, signals_blocked
from transfer.data.datasets import Dataset
from transfer.extraction.extract import Progress, extract
from transfer.extraction.report import Report
from transfer.hardware import cores, gpus
from transfer.request import FeatureRequest


@dataclass(frozen=True)
class Device:
    """What one worker computes on: a GPU, by its name in ``CUDA_VISIBLE_DEVICES``, or some cores."""

    name: str
    gpu: str | None = None
    cores: tuple[int, ...] = ()

    def take(self) -> None:
        """Let this process compute on nothing else. It is called before a framework is imported."""
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu
        elif hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, self.cores)


def devices(count: int) -> list[Device]:
    """The devices that share the work: GPUs if the machine has some, else groups of cores.

    Parameters
    ----------
    count : int
        The number of devices.

    Raises
    ------
    InvalidChoice
        If the machine has fewer devices.
    """
    names, kind = gpus(), "GPUs"
    if not names:
        names, kind = [str(core) for core in cores()], "cores"
    if count > len(names):
        raise InvalidChoice(f"`devices={count}` is more than there are: {len(names)} {kind}.")
    if kind == "GPUs":
        return [Device(f"GPU {name}", gpu=name) for name in names[:count]]
    groups = [tuple(int(core) for core in group) for group in np.array_split(cores(), count)]
    return [Device(f"cores {', '.join(map(str, group))}", cores=group) for group in groups]


def extract_on(
    chosen: list[Device],
    dataset: Dataset,
    request: FeatureRequest,
    cache: FeatureCache,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Report:
    """As `transfer.extraction.extract.extract`, with a worker process for each device.

    A script has to call this under ``if __name__ == "__main__":``, since Python starts new processes by importing the
    script.

    Parameters
    ----------
    options
        The options of `extract`.

    Raises
    ------
    LayertapError
        The error of a worker. The others are stopped; what they have computed is kept.
    StorageFailure
        If a worker was killed.
    """
    work = (dataset.identify(cache), request, cache.root, options)
    with _started(chosen, work) as workers:
        reports = _listen(workers, progress)
    return _joined(reports, request.views)


Workers = dict[Connection, tuple[Device, BaseProcess]]


@contextlib.contextmanager
def _started(chosen: list[Device], work: tuple[Any, ...]) -> Iterator[Workers]:
    context = multiprocessing.get_context("spawn")
    workers: Workers = {}
    with Lifeline(context) as line:
        try:
            for number, device in enumerate(chosen):
                ours, theirs = context.Pipe(duplex=False)
                process: BaseProcess = context.Process(
                    target=_work, args=(line.end, theirs, device, (number, len(chosen)), *work), daemon=True
                )
                with signals_blocked(), main_module_hidden():
                    process.start()
                theirs.close()
                workers[ours] = device, process
            yield workers
        except BaseException:
            line.cut()  # the workers store what they have computed, and end
            raise
        finally:
            for connection, (_, process) in workers.items():
                process.join()
                connection.close()


def _work(
    line: Connection,
    connection: Connection,
    device: Device,
    share: tuple[int, int],
    dataset: Dataset,
    request: FeatureRequest,
    root: Path,
    options: dict[str, Any],
) -> None:
    """The work of a process: it computes its share, and sends its progress and its report."""
    end_with(line, keeping=True)
    device.take()
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):  # stopped, by people or with the process above

        def progress(done: int, total: int) -> None:
            connection.send((done, total))

        try:
            report = extract(dataset, request, FeatureCache(root), share=share, progress=progress, **options)
        except LayertapError as error:
            connection.send(error)
        else:
            connection.send(report)
    restore_sigterm()


def _listen(workers: Workers, progress: Progress | None) -> list[Report]:
    """The reports of all workers, in order."""
    reports: dict[Connection, Report] = {}
    done = dict.fromkeys(workers, (0, 0))
    while len(reports) < len(workers):
        for connection in wait([connection for connection in workers if connection not in reports]):
            assert isinstance(connection, Connection)
            try:
                message = connection.recv()
            except EOFError:
                device, process = workers[connection]
                process.join()
                raise StorageFailure(
                    f"the worker on {device.name} ended (exit code {process.exitcode}) before its work was done. What "
                    "was computed is kept; run the same command again to go on."
                ) from None
            if isinstance(message, Exception):
                raise message
            if isinstance(message, Report):
                reports[connection] = message
            else:
                done[connection] = message
                if progress:
                    progress(sum(some for some, _ in done.values()), sum(total for _, total in done.values()))
    return [reports[connection] for connection in workers]


def _joined(reports: list[Report], views: int) -> Report:
    """One report of all workers: counts are added up; seconds waited are means over the workers that computed."""
    computed = sum(report.rows_computed for report in reports)
    skipped = list({problem.id: problem for report in reports for problem in report.skipped}.values())
    first = reports[0]
    left_out = len(skipped) * len(first.spaces) * views
    seconds = max(report.seconds for report in reports)
    ran = [report for report in reports if report.engine] or [first]
    return replace(
        max(ran, key=lambda report: report.rows_computed),
        rows_computed=computed,
        rows_reused=first.rows_total - computed - left_out,
        rows_skipped=left_out,
        seconds=seconds,
        images_per_second=round(sum(report.images_per_second * report.seconds for report in reports) / seconds, 1),
        bytes_written=sum(report.bytes_written for report in reports),
        started_from=sorted({layer for report in reports for layer in report.started_from}),
        waited={what: round(float(np.mean([r.waited.get(what, 0.0) for r in ran])), 3) for what in ran[0].waited},
        peak=round(sum(report.peak for report in ran), 1) if all(report.peak for report in ran) else 0.0,
        remarks=list(dict.fromkeys(remark for report in reports for remark in report.remarks)),
        note="; ".join(dict.fromkeys(report.note for report in ran if report.note)),
        skipped=skipped,
    )
