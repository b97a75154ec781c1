"""Pictures drawn by another process, while this one computes.

matplotlib takes a second to import, and about as long to draw the pictures of a run. A process of its own does both on
another core: it is started once, early (`prepare`), and kept for all pictures of this process. Where there is a single
core, or no process can be started, pictures are drawn here, and look the same.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from feature_cache.process.lifeline import Lifeline, end_with, main_module_hidden, signals_blocked
from layertap.report.style import picture
from transfer.hardware import cores

Drawing = Callable[..., None]  # it takes the file to write a PNG to, and the rest of its arguments


@dataclass(frozen=True)
class Picture:
    """A picture that is being drawn, or waits for it."""

    drawing: Drawing
    details: tuple[Any, ...]
    future: Future[bytes] | None

    def png(self) -> bytes:
        """The picture, once it is drawn: the bytes of a PNG file."""
        if self.future is not None:
            with contextlib.suppress(BrokenProcessPool):  # the other process was killed
                return self.future.result()
        return _draw(self.drawing, *self.details)


def prepare() -> None:
    """Start the process that draws, unless it is there, so that it imports matplotlib in the meantime."""
    _process_of_this_one()


def draw(drawing: Drawing, *details: Any) -> Picture:
    """Have a picture drawn.

    Parameters
    ----------
    drawing : callable
        A function of a module, which writes a PNG to the file that is its first argument.
    details
        The rest of its arguments, which are sent to the other process.

    Examples
    --------
    >>> import numpy
    >>> from layertap.report import plots
    >>> draw(plots.confusion, ["cat", "dog"], numpy.array([[5, 0], [1, 4]]), "pets").png()[1:4]
    b'PNG'
    """
    process = _process_of_this_one()
    return Picture(drawing, details, process.submit(drawing, details) if process else None)


def stop() -> None:
    """End the process that draws, and what it is drawing. `draw` starts another."""
    global _process
    process, _process = _process, None
    if process is not None and process.owner == os.getpid():
        process.end()


class _Process:
    """The process that draws.

    Attributes
    ----------
    owner : int
        The process that started it. A fork of that one has no part in it.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.owner = os.getpid()
        self._line = Lifeline(context)
        self._pool = ProcessPoolExecutor(1, context, _begin, (self._line.end,))
        try:
            with signals_blocked(), main_module_hidden():
                self._pool.submit(_warm_up)  # the process is started by the first job
        except BaseException:
            self.end()
            raise

    def submit(self, drawing: Drawing, details: tuple[Any, ...]) -> Future[bytes] | None:
        with contextlib.suppress(BrokenProcessPool):
            return self._pool.submit(_draw, drawing, *details)
        return None

    def end(self) -> None:
        self._line.cut()
        self._line.end.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


_process: _Process | None = None


def _process_of_this_one() -> _Process | None:
    """The process that draws; None where pictures are drawn here."""
    global _process
    if (_process is None or _process.owner != os.getpid()) and len(cores()) > 1:
        _process = None
        # Whatever is lacking, memory, semaphores or the right to have children, this process can draw.
        with contextlib.suppress(OSError, ImportError, NotImplementedError, AssertionError, RuntimeError):
            _process = _Process()
    return _process


def _begin(line: Connection) -> None:
    end_with(line)


def _warm_up() -> None:
    """Import what draws, and have it find its fonts."""
    with picture(io.BytesIO(), 1, 1, "") as figure:
        figure.subplots()


def _draw(drawing: Drawing, *details: Any) -> bytes:
    file = io.BytesIO()
    drawing(file, *details)
    return file.getvalue()
