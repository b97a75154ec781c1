"""What runs on the machines of a Ray cluster: workers, which keep a net loaded, and the board with their progress."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache, as_cache
from feature_cache.errors import InvalidChoice, LayertapError
from feature_cache.files.digest_memo import FileStamp
from feature_cache.process import trusted
from feature_cache.version import __version__
from transfer.data.dataset import IdentifiedDataset
from transfer.data.datasets import Dataset
from transfer.data.images import FileSource
from transfer.extraction.extract import Runners, extract
from transfer.extraction.report import Report
from transfer.request import FeatureRequest, SharedNet

PASSED_ON = ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL", trusted.VARIABLE)  # variables of the environment
TELL_SECONDS = 1.0

Known = dict[FileStamp, bytes]  # digests
# The report on a task with the name of the worker and what it learned, the error, or None where the work was stopped.
Outcome = tuple[str, Report, Known] | LayertapError | None


@dataclass(frozen=True)
class Work:
    """What all tasks are about.

    Attributes
    ----------
    mark : Path
        A file in the folder of the cache, by which workers know that it is the one of the command.
    options : dict
        Those of `transfer.extraction.extract.extract`.
    url : str
        The URL of a cache in a bucket, for which each machine has a mirror; empty for a folder.
    """

    dataset: Dataset
    request: FeatureRequest
    mark: Path
    options: dict[str, Any]
    url: str = ""

    @property
    def root(self) -> Path:
        """The folder of the cache, which all machines share."""
        return self.mark.parent

    @property
    def cache(self) -> FeatureCache:
        """The cache, as it is on this machine."""
        return as_cache(self.url or self.root)


@dataclass(frozen=True)
class Setting:
    """Where and how the command was started, which workers take over."""

    folder: str
    variables: dict[str, str]
    version: str

    @classmethod
    def here(cls) -> Setting:
        """That of this process."""
        known = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return cls(str(Path.cwd()), known, __version__)


class Board:
    """Where workers tell their progress, and read whether to go on. Ray makes an actor of it."""

    def __init__(self) -> None:
        self._stopped = False
        self._signs = 0
        self._done: dict[int, int] = {}

    def tell(self, task: int, done: int) -> bool:
        """Note what was done of a task; whether to go on with it."""
        self._signs += 1
        self._done[task] = max(done, self._done.get(task, 0))  # a retry counts anew
        return not self._stopped

    def look(self) -> tuple[int, dict[int, int]]:
        """How many signs of life there were, and what was done of each task."""
        return self._signs, self._done

    def stop(self) -> None:
        """Have workers store what they have computed, and end their tasks."""
        self._stopped = True


class Worker:
    """Computes features of some images after the other by the same net. Ray makes actors of it.

    What could go wrong is left to the tasks, whose retries Ray counts: a worker that cannot be made would be made again
    and again.

    Parameters
    ----------
    work : list of ObjectRef
        The `Work`, alone in a list, so that it is fetched once.
    board : ActorHandle
        The `Board`.
    """

    def __init__(self, work: list[Any], board: Any, setting: Setting) -> None:
        self._reference, self._board, self._setting = work, board, setting
        self._work: Work | None = None
        self._net: SharedNet | None = None
        self._runners: Runners = {}

    def extract(self, task: int, positions: np.ndarray) -> tuple[int, Outcome]:
        """The number of a task, which computes the images at some positions, and what became of it.

        Some of them may have been computed by a worker that was lost; the others are computed.
        """
        with _Telling(self._board, task) as telling:
            try:
                return task, (_name(), self._report(positions, telling), self._known(positions))
            except LayertapError as error:
                return task, error
            except KeyboardInterrupt:
                return task, None

    def _report(self, positions: np.ndarray, telling: _Telling) -> Report:
        work = self._prepared()
        options: dict[str, Any] = {**work.options, "net": self._net, "runners": self._runners, "progress": telling}
        images = work.dataset.select(positions)
        report = extract(images, work.request, work.cache, **options)
        _require_files(images, report)
        return report

    def _known(self, positions: np.ndarray) -> Known:
        """The digests of images that this worker has fetched, which the machine of the command does not know."""
        work = self._prepared()
        if not work.url or isinstance(work.dataset, IdentifiedDataset):
            return {}
        stamps = [stamp for position in positions if (stamp := work.dataset.sources[position].stamp())]
        known = work.cache.memo.recall(stamps)
        return {stamp: known[stamp[0]] for stamp in stamps if stamp[0] in known}

    def _prepared(self) -> Work:
        """What the tasks are about, with the net by its name; the first time, this process is made ready for it."""
        if self._work is not None:
            return self._work
        import ray  # optional

        setting, machine = self._setting, socket.gethostname()
        if setting.version != __version__:
            raise InvalidChoice(
                f"`ray`: {machine} has Layertap {__version__}, and the command is of {setting.version}; install the "
                "same version on all machines."
            )
        os.environ.update(setting.variables)
        if os.environ.get("OMP_NUM_THREADS") == "1":  # set by Ray, for workers that share a machine
            del os.environ["OMP_NUM_THREADS"]
        with contextlib.suppress(OSError):
            os.chdir(setting.folder)  # paths may be relative
        work: Work = ray.get(self._reference[0])
        if not work.url and not work.mark.exists():
            raise InvalidChoice(
                f"`ray`: {machine} has another folder {work.root} than the machine of the command. Choose one that all "
                "machines share under the same path, as `cache`."
            )
        request, backbone = work.request.resolve()
        self._net = SharedNet(request, backbone)
        self._work = replace(work, request=request)
        return self._work


def _require_files(images: Dataset, report: Report) -> None:
    """Raise InvalidChoice where images were skipped that this machine lacks; the command has read them on its own."""
    skipped = {image.id for image in report.skipped}
    for image, source in zip(images.ids, images.sources, strict=True) if skipped else ():
        if image in skipped and isinstance(source, FileSource) and not source.path.exists():
            raise InvalidChoice(
                f"`ray`: {socket.gethostname()} has no file {source.path}, which the machine of the command has read. "
                "Images have to be under the same paths on all machines."
            )


def _name() -> str:
    """What tells this worker from others in the report."""
    return f"{socket.gethostname()} {os.getpid()}"


class _Telling:
    """Tells the board, from a thread of its own, what was done of a task; called with it, and raises once stopped."""

    def __init__(self, board: Any, task: int) -> None:
        self._board, self._task = board, task
        self._done = 0
        self._goes_on = True
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="layertap-tell", daemon=True)

    def __call__(self, done: int, total: int) -> None:
        self._done = done
        if not self._goes_on:
            raise KeyboardInterrupt

    def _tell(self) -> None:
        import ray  # optional

        while True:
            with contextlib.suppress(ray.exceptions.RayError):  # the board may be on a machine that is lost
                self._goes_on = ray.get(self._board.tell.remote(self._task, self._done), timeout=10 * TELL_SECONDS)
            if self._ended.wait(TELL_SECONDS):
                return

    def __enter__(self) -> _Telling:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
