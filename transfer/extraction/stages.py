"""Parts of the extraction loop: work that is done behind it in a thread, and a clock of what it waits for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

Item = TypeVar("Item")
# Calls that may be waiting for the thread: the loop goes on while the disk is slow for a moment, and no longer.
WAITING = 4


class BackgroundWriter:
    """Does calls one after another in a thread; a context manager that waits for the last of them.

    The error of a call is raised by a later one, or at the end; what came after it is not done then.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="layertap-behind")
        self._pending: deque[Future] = deque()
        self._failed = False

    def do(self, call: Callable[..., object], *args: Any) -> None:
        """Have this done, when those before it are."""
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

    def __enter__(self) -> BackgroundWriter:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            while self._pending:
                self._pending.popleft().result()
        finally:
            self._thread.shutdown(cancel_futures=True)


class StageTimer:
    """Seconds by what was waited for."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.seconds = {"prepare": 0.0, "decode": 0.0, "compute": 0.0, "write": 0.0}

    @property
    def total(self) -> float:
        return time.perf_counter() - self._start

    def lap(self, what: str) -> None:
        """Count the time since the last lap for `what`."""
        now = time.perf_counter()
        self.seconds[what] += now - self._last
        self._last = now

    def timed(self, what: str, items: Iterable[Item]) -> Iterator[Item]:
        """`items`, the time that each takes to come counted for `what`, and the time before that for computing."""
        iterator = iter(items)
        while True:
            self.lap("compute")
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.lap(what)
            yield item

    def move(self, source: str, target: str, seconds: float) -> None:
        """Count seconds for `target` that were counted for `source`."""
        seconds = min(seconds, self.seconds[source])
        self.seconds[source] -= seconds
        self.seconds[target] += seconds
