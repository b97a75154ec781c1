"""Processes that work for this one: each sends its progress, and then its result or an error, through a pipe.

They end when this process does, and keep what they have computed (see `feature_cache.process.lifeline`).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn

from feature_cache.errors import LayertapError, StorageFailure
from feature_cache.process.lifeline import Lifeline, end_with, main_module_hidden, restore_sigterm, signals_blocked

Progress = Callable[[int, int], None]  # is called with the number of items done, and of all
Workers = dict[Connection, tuple[str, BaseProcess]]


def results(
    work: Callable[..., Any], arguments: Mapping[str, tuple[Any, ...]], progress: Progress | None = None
) -> list[Any]:
    """What a function returns in several processes at the same time.

    A script has to call this under ``if __name__ == "__main__":``, since Python starts new processes by importing the
    script.

    Parameters
    ----------
    work : callable
        A function of a module. Its first argument is a `Link`, which it calls with its progress: the number of items
        done, and of all. It does not return a tuple.
    arguments : mapping of str to tuple
        For each process, what messages call it, and the other arguments.
    progress : callable, optional
        It is called with the sums over all processes.

    Raises
    ------
    LayertapError
        The error of a worker. The others are stopped; what they have computed is kept.
    StorageFailure
        If a worker was killed.
    """
    with _started(work, arguments) as workers:
        return _listen(workers, progress)


class Link:
    """What a worker has of the process that started it; called with its progress, the number of items done, and of all.

    Threads may use it at the same time.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()

    def __call__(self, done: int, total: int) -> None:
        self.send((done, total))

    def send(self, message: Any) -> None:
        """Send progress, an error or the result."""
        with self._lock:
            self._connection.send(message)

    def give_up(self, error: LayertapError) -> NoReturn:
        """End this process at once, whatever its other threads wait for; the error is raised in the other process."""
        with contextlib.suppress(OSError):
            self.send(error)
        os._exit(1)


@contextlib.contextmanager
def _started(work: Callable[..., Any], arguments: Mapping[str, tuple[Any, ...]]) -> Iterator[Workers]:
    context = multiprocessing.get_context("spawn")
    workers: Workers = {}
    with Lifeline(context) as line:
        try:
            for name, own in arguments.items():
                ours, theirs = context.Pipe(duplex=False)
                process: BaseProcess = context.Process(target=_work, args=(line.end, theirs, work, own), daemon=True)
                with signals_blocked(), main_module_hidden():
                    process.start()
                theirs.close()
                workers[ours] = name, process
            yield workers
        except BaseException:
            line.cut()  # the workers store what they have computed, and end
            raise
        finally:
            for connection, (_, process) in workers.items():
                process.join()
                connection.close()


def _work(line: Connection, connection: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """The work of a process."""
    end_with(line, keeping=True)
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):  # stopped, by people or with the process above
        link = Link(connection)
        try:
            result = work(link, *arguments)
        except LayertapError as error:
            link.send(error)
        else:
            link.send(result)
    restore_sigterm()


def _listen(workers: Workers, progress: Progress | None) -> list[Any]:
    """The results of all workers, in order."""
    found: dict[Connection, Any] = {}
    done = dict.fromkeys(workers, (0, 0))
    while len(found) < len(workers):
        for connection in wait([connection for connection in workers if connection not in found]):
            assert isinstance(connection, Connection)
            try:
                message = connection.recv()
            except EOFError:
                name, process = workers[connection]
                process.join()
                raise StorageFailure(
                    f"{name} ended (exit code {process.exitcode}) before its work was done. What was computed is kept; "
                    "run the same command again to go on."
                ) from None
            if isinstance(message, Exception):
                raise message
            if not isinstance(message, tuple):
                found[connection] = message
                continue
            done[connection] = message
            if progress:
                progress(sum(some for some, _ in done.values()), sum(total for _, total in done.values()))
    return [found[connection] for connection in workers]
