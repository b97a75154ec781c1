"""Worker processes that end when the process that started them does, however that ends.

The parent alone holds one end of a pipe, and each worker waits for the other in a thread of its own: the system closes
it when the parent ends, even by SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext

ENDING = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}
PATIENCE_SECONDS = 20.0  # that a worker may take to keep what it has computed


class Lifeline:
    """A context manager at whose end workers end, if they have not.

    Attributes
    ----------
    end : Connection
        What workers are given, for `end_with`.
    """

    def __init__(self, context: BaseContext) -> None:
        self.end, self._ours = context.Pipe(duplex=False)

    def cut(self) -> None:
        """End the workers now."""
        self._ours.close()

    def __enter__(self) -> Lifeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self.end.close()


def end_with(line: Connection, *, keeping: bool = False) -> None:
    """Have this process, a worker, end when its parent lets go of `line`.

    Ctrl-C of a terminal reaches all its processes; workers leave the answer to their parent.

    Parameters
    ----------
    keeping : bool
        Raise KeyboardInterrupt in the main thread first, so that what was computed is kept; the process ends after
        `PATIENCE_SECONDS` all the same.
    """
    for number in ENDING - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler if keeping else signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    threading.Thread(target=_watch, args=(line, keeping), name="layertap-lifeline", daemon=True).start()


def restore_sigterm() -> None:
    """Let SIGTERM end this process at once, without an exception, for a worker that has nothing left to store."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _watch(line: Connection, keeping: bool) -> None:
    with contextlib.suppress(EOFError, OSError):
        line.recv_bytes()  # nothing is ever sent
    if keeping:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE_SECONDS)
    os._exit(1)


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Block the signals that end a process, so that one that is started in this block gets all its arguments.

    New processes inherit that, and unblock the signals by `end_with`.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # starting it unblocks the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def main_module_hidden() -> Iterator[None]:
    """Let processes that are spawned in this block not run the user's script again.

    A spawned process imports the main module of its parent, for functions that are defined there. Our workers run
    functions of ours alone, and a script without ``if __name__ == "__main__"`` would start all over in each of them.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
