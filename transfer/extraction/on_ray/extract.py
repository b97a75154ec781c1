"""Extraction by the workers of a Ray cluster.

A process of its own is connected to Ray, which writes to stderr, and may wait without end or end the process. It looks
up what is missing, and hands tasks to workers, of which there is one for each GPU or machine. Each task is an
extraction of its own, into the cache folder that all machines share. Ray starts lost workers again and repeats their
tasks, of which only the rest is computed then.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage, LayertapError, StorageFailure, one_line
from feature_cache.files.atomic import remove_abandoned, temporary_path
from feature_cache.process.worker_processes import Link, results
from transfer.data.dataset import IdentifiedDataset
from transfer.data.datasets import Dataset, Unreadable
from transfer.data.remote.parts import has_parts
from transfer.extraction.extract import Progress, extract
from transfer.extraction.fill import fill_from_stored
from transfer.extraction.lookup import Missing, find_missing, refusal
from transfer.extraction.on_ray.cluster import AUTO, GO_ON, connected, places, require_ray
from transfer.extraction.on_ray.tasks import Task, divide
from transfer.extraction.on_ray.workers import Board, Setting, Work, Worker
from transfer.extraction.report import Report, one_after_another, side_by_side
from transfer.request import FeatureRequest

TRIES = 4  # of a task whose worker is lost; for the pauses between them see `cluster.PAUSES`
POLL_SECONDS = 0.5
MACHINES_SECONDS = 10.0  # how often it is looked whether machines have been added
SILENCE_SECONDS = 600.0  # without a sign of life of any worker
STOP_SECONDS = 15.0  # for workers to store what they have computed
SEEN_SECONDS = 60.0  # until files that other machines have written are seen on this one

Results = list[tuple[str, Report]]  # of tasks, with the names of the workers


def address_of(ray: bool | str | None) -> str | None:
    """The address that a parameter names; None where Ray is not to be used.

    Raises
    ------
    InvalidChoice
        When it is no address.
    MissingDependency
        When Ray is not installed.
    """
    if ray is None or ray is False:
        return None
    address = AUTO if ray is True else str(ray)
    require_ray(address)
    return address


def extract_on_ray(
    address: str,
    dataset: Dataset,
    request: FeatureRequest,
    cache: FeatureCache,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Report:
    """As `transfer.extraction.extract.extract`, by the workers of a Ray cluster.

    A script has to call this under ``if __name__ == "__main__":``, since Python starts new processes by importing the
    script.

    Parameters
    ----------
    address : str
        That of `address_of`.
    options
        The options of `extract`.

    Raises
    ------
    LayertapError
        The error of a worker. The others are stopped; what they have computed is kept.
    Unreachable
        When there is no cluster at the address.
    StorageFailure
        When the head of the cluster is lost, or workers are lost at the same images again and again.
    """
    mark = temporary_path(cache.root.absolute() / "shared")
    try:
        work = (address, dataset, request, mark, options)
        [report] = results(_drive, {"the connection to Ray": work}, progress)
    finally:
        with contextlib.suppress(OSError):
            mark.unlink(missing_ok=True)
    assert isinstance(report, Report)
    return report


def _drive(
    link: Link, address: str, dataset: Dataset, request: FeatureRequest, mark: Path, options: dict[str, Any]
) -> Report:
    """The report of the process that is connected to Ray."""
    with _silence():
        cache, start = FeatureCache(mark.parent), time.perf_counter()
        if request.precision != "int8" and has_parts(dataset):  # each part is identified by the worker that fetches it
            views = np.full(len(dataset), request.views)
            work = Work(dataset, request, mark, options, cache.url)
            found = _by_workers(link, address, work, np.arange(len(dataset)), views)
            return _on_parts(found, extract(dataset.identify(cache), request, cache, **options), start)
        known = dataset.identify(cache)
        fill_from_stored(known, request, cache, compress=options.get("compress", False))
        missing = find_missing(known, request, cache)
        if not len(missing.jobs):
            return extract(known, request, cache, **options)
        if missing.unreadable and options.get("on_error", "fail") == "fail":
            raise refusal(missing.unreadable)
        work = Work(known, request, mark, options, cache.url)
        found = _by_workers(link, address, work, *np.unique(missing.jobs // missing.views, return_counts=True))
        skipped = _skipped(known, found)
        return _report(found, known, missing, _seen(known, request, cache, skipped), skipped, start)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drop what Ray writes to stdout and stderr, also in threads of native code; a bug keeps its traceback."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
    try:
        yield
    except LayertapError:
        raise
    except Exception:
        os.write(kept, traceback.format_exc().encode())
        raise


def _by_workers(link: Link, address: str, work: Work, positions: np.ndarray, views: np.ndarray) -> Results:
    """What workers report on the images at some positions, of each of which some views are missing."""
    try:
        work.root.mkdir(parents=True, exist_ok=True)
        remove_abandoned(work.root)
        work.mark.touch()
    except OSError as error:
        raise StorageFailure(f"cannot write the features {work.root}: {error.strerror or error}.") from error
    with connected(address, link) as ray:
        return _Crew(ray, work, link).run(positions, views)


class _Crew:
    """The workers in a cluster, and the tasks that are handed to them."""

    def __init__(self, ray: Any, work: Work, link: Link) -> None:
        from ray.util import ActorPool  # optional

        self._ray, self._link, self._mark, self._memo = ray, link, work.mark, work.cache.memo
        self._work = [ray.put(work)]
        self._board = ray.remote(Board).options(num_cpus=0, max_restarts=-1).remote()
        self._pool = ActorPool([])
        self._places: set[tuple[str, int]] = set()
        self._looked = self._sign = time.monotonic()
        self._signs = 0
        self._running: dict[int, Task] = {}
        self._done = self._total = 0

    def run(self, positions: np.ndarray, views: np.ndarray) -> Results:
        """The results of all tasks, in any order."""
        self._add_workers()
        tasks = deque(enumerate(divide(positions, views, max(1, len(self._places)))))
        self._total = int(views.sum())
        found: Results = []
        try:
            while tasks or self._running:
                while tasks and self._pool.has_free():
                    self._hand_out(*tasks.popleft())
                while not tasks and self._pool.has_free():
                    self._ray.kill(self._pool.pop_idle())  # perhaps one that was lost waits for its place
                if (one := self._next()) is not None:
                    found.append(one)
                self._look()
        except BaseException:
            self._stop()
            raise
        return found

    def _hand_out(self, number: int, task: Task) -> None:
        self._running[number] = task
        self._pool.submit(lambda worker, _: worker.extract.remote(number, task.positions), None)

    def _next(self) -> tuple[str, Report] | None:
        """The result of a task that has ended, if one does now."""
        try:
            number, outcome = self._pool.get_next_unordered(timeout=POLL_SECONDS)
        except StopIteration:  # there is no worker yet
            time.sleep(POLL_SECONDS)
            return None
        except TimeoutError:
            return None
        except self._ray.exceptions.RayError as error:
            raise StorageFailure(
                f"`ray`: {_lost(error, self._ray.exceptions.ActorUnavailableError)}. {GO_ON}"
            ) from None
        if isinstance(outcome, LayertapError):
            raise outcome
        self._sign = time.monotonic()
        self._done += self._running.pop(number).jobs
        if outcome is None:
            return None
        name, report, known = outcome
        self._memo.remember(known)  # else all that workers have fetched would be fetched again, to be looked up
        return name, report

    def _add_workers(self) -> None:
        """Make a worker for every place that has none yet."""
        worker = self._ray.remote(Worker)
        for place, options in places(self._ray).items():
            if place not in self._places:
                self._places.add(place)
                made = worker.options(max_restarts=-1, max_task_retries=TRIES - 1, **options)
                self._pool.push(made.remote(self._work, self._board, Setting.here()))

    def _look(self) -> None:
        """Look at the board, and pass the progress on; from time to time look for new machines."""
        now = time.monotonic()
        with contextlib.suppress(self._ray.exceptions.RayError):  # the board may be on a machine that is lost
            signs, done = self._ray.get(self._board.look.remote(), timeout=POLL_SECONDS)
            if signs != self._signs:
                self._signs, self._sign = signs, now
            running = sum(min(done.get(number, 0), task.jobs) for number, task in self._running.items())
            if self._done + running:
                self._link(self._done + running, self._total)
        if now - self._looked > MACHINES_SECONDS:
            self._looked = now
            with contextlib.suppress(OSError):
                self._mark.touch()  # an old one would be taken for abandoned
            self._add_workers()
        if now - self._sign > SILENCE_SECONDS:
            raise StorageFailure(
                f"`ray`: no worker of the cluster has said anything for {SILENCE_SECONDS / 60:.0f} minutes; look "
                f"whether it has free machines: ray status. {GO_ON}"
            )

    def _stop(self) -> None:
        """Let workers store what they have computed."""
        end = time.monotonic() + STOP_SECONDS
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.get(self._board.stop.remote(), timeout=STOP_SECONDS)
        while self._pool.has_next() and time.monotonic() < end:
            with contextlib.suppress(TimeoutError, self._ray.exceptions.RayError):
                self._pool.get_next_unordered(timeout=POLL_SECONDS)


def _lost(error: Exception, ended: type[Exception]) -> str:
    """What became of a worker, in a line: an error of the kind `ended` says that it has ended, and no more."""
    if isinstance(error, ended):
        return f"a worker ended {TRIES} times at the same images; perhaps its machine lacks memory"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]  # with a traceback
    return f"a worker is lost: {one_line(type(error)(' '.join(dict.fromkeys([lines[0], lines[-1]]))))}"


def _skipped(known: IdentifiedDataset, found: Results) -> list[Unreadable]:
    """All images that cannot be read: workers know one of each content."""
    place = {name: position for position, name in enumerate(known.ids)}
    undecodable = {
        place[image.id]: BadImage(image.message, image.reason) for _, report in found for image in report.skipped
    }
    return [*known.unreadable, *known.with_content_of(undecodable)]


def _seen(
    known: IdentifiedDataset, request: FeatureRequest, cache: FeatureCache, skipped: Sequence[Unreadable]
) -> Missing:
    """What is missing once workers have computed all but `skipped`: network folders show new files after a while."""
    names = {image.id for image in skipped}
    end = time.monotonic() + SEEN_SECONDS
    while True:
        missing = find_missing(known, request, cache)
        if all(known.ids[position] in names for position in (missing.jobs // missing.views).tolist()):
            return missing
        if time.monotonic() > end:
            raise StorageFailure(
                f"`ray`: {len(missing.jobs):,} rows that workers have computed are not in {cache}; look whether "
                f"all machines have the same folder there. {GO_ON}"
            )
        time.sleep(1.0)


def _joined(found: Results, views: int, start: float) -> Report:
    """One report of all workers, in which the numbers of rows are still to be set."""
    by_worker = itertools.groupby(sorted(found, key=lambda one: one[0]), key=lambda one: one[0])
    report = side_by_side([one_after_another([one for _, one in group]) for _, group in by_worker], views)
    images = sum(one.images_per_second * one.seconds for _, one in found)
    seconds = time.perf_counter() - start
    return replace(report, seconds=round(seconds, 3), images_per_second=round(images / seconds, 1))


def _report(
    found: Results,
    known: IdentifiedDataset,
    before: Missing,
    after: Missing,
    skipped: list[Unreadable],
    start: float,
) -> Report:
    """The report where it is known what was missing before and after: what lost workers have computed counts, too."""
    spaces = [space.place for space in before.spaces]
    total, left_out = (count * len(spaces) * before.views for count in (len(known), len(skipped)))
    computed = sum(before.rows) - sum(after.rows)
    return replace(
        _joined(found, before.views, start),
        rows_total=total,
        rows_computed=computed,
        rows_reused=total - computed - left_out,
        rows_skipped=left_out,
        spaces=spaces,
        skipped=skipped,
    )


def _on_parts(found: Results, whole: Report, start: float) -> Report:
    """The report of workers that have looked up what was missing in their parts."""
    computed = sum(report.rows_computed for _, report in found) + whole.rows_computed
    return replace(
        _joined(found, 1, start),
        rows_total=whole.rows_total,
        rows_computed=computed,
        rows_reused=whole.rows_total - computed - whole.rows_skipped,
        rows_skipped=whole.rows_skipped,
        spaces=whole.spaces,
        skipped=whole.skipped,
    )
