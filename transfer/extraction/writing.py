"""Parts of the extraction loop: writing in a thread, and a timer of what the loop waits for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from feature_cache.space import Space
from feature_cache.writer import SpaceWriter
from transfer.engines.batch import Batch
from transfer.engines.runner import BatchRunner

Item = TypeVar("Item")
# Calls that may be waiting for the thread: the loop goes on while the disk is slow for a moment, and no longer.
WAITING = 4


class BackgroundWriter:
    """Does calls one after another in a thread; a context manager that waits for the last of them.

    The error of a call is raised by a later one, or at the end. The calls that came after it are not done.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="layertap-write")
        self._pending: deque[Future] = deque()
        self._failed = False

    def do(self, call: Callable[..., object], *args: Any) -> None:
        """Call this in the thread, after the calls before it."""
        while len(self._pending) >= WAITING:
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(self._call, call, args))

    def _call(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        if self._failed:
            return
        try:
            call(*args)
        except BaseException:
            self._failed = True
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            while self._pending:
                self._pending.popleft().result()
        finally:
            self._thread.shutdown(cancel_futures=True)


class FeatureWriter:
    """Writes the features of batches into their spaces, in a thread; rows that a space has are left out.

    A context manager that commits what it holds, also on an error.

    Parameters
    ----------
    runner : BatchRunner
        The runner that computes the features; segments keep its provenance.
    spaces : callable
        The spaces of the features, in the order of the specs, as they are known at the time.
    compress : bool
        Whether new segments are compressed.

    Attributes
    ----------
    rows : int
        The number of rows handed over so far, over all spaces.
    """

    def __init__(self, runner: BatchRunner, spaces: Callable[[], Sequence[Space]], *, compress: bool = False) -> None:
        self._runner = runner
        self._spaces = spaces
        self._compress = compress
        self._writers: list[SpaceWriter] = []
        self._stack = ExitStack()
        self._begun = 0.0
        self.rows = 0

    def __enter__(self) -> Self:
        # The thread has to be done with its calls before the writers that it calls are closed.
        self._open_writers = self._stack.enter_context(ExitStack())
        self._background = self._stack.enter_context(BackgroundWriter())
        self._begun = time.monotonic()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, batch: Batch, features: Sequence[np.ndarray]) -> None:
        """Write the rows of a batch; `features` has an array for each space.

        Raises
        ------
        StorageFailure
            When the disk did not take rows that were handed over before.
        """
        spaces = self._spaces()
        if not self._writers:  # only now: a net that cannot be run leaves no empty spaces
            self._open(spaces)
        for space, writer, rows in zip(spaces, self._writers, features, strict=True):
            new = ~space.has(batch.digests, batch.views)
            self._background.do(writer.append, batch.digests[new], rows[new], batch.views[new])
            self.rows += int(new.sum())

    def do(self, call: Callable[[], object]) -> None:
        """Have something else done in the thread that writes."""
        self._background.do(call)

    @property
    def segments(self) -> set[str]:
        """The names of the segments that have been written."""
        return {name for writer in self._writers for name in writer.written}

    @property
    def bytes_written(self) -> int:
        return sum(writer.bytes_written for writer in self._writers)

    def _open(self, spaces: Sequence[Space]) -> None:
        options: dict[str, Any] = {"compress": self._compress, "since": self._begun + self._runner.making}
        writers = [space.writer(self._runner.provenance, **options) for space in spaces]
        self._writers = [self._open_writers.enter_context(writer) for writer in writers]


class StageTimer:
    """Seconds that the loop waited, by what it waited for."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.seconds = {"prepare": 0.0, "decode": 0.0, "compute": 0.0, "write": 0.0}

    @property
    def total(self) -> float:
        """Seconds since the timer was made."""
        return time.perf_counter() - self._start

    def lap(self, stage: str) -> None:
        """Count the time since the last lap for `stage`."""
        now = time.perf_counter()
        self.seconds[stage] += now - self._last
        self._last = now

    def timed(self, stage: str, items: Iterable[Item]) -> Iterator[Item]:
        """`items`: the time until each of them comes is counted for `stage`, and the time before that for computing."""
        iterator = iter(items)
        while True:
            self.lap("compute")
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.lap(stage)
            yield item

    def move(self, source: str, target: str, seconds: float) -> None:
        """Count seconds for `target` that were counted for `source`."""
        seconds = min(seconds, self.seconds[source])
        self.seconds[source] -= seconds
        self.seconds[target] += seconds
