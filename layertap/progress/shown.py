"""`ShownProgress`: the progress of some work, shown where people see it."""

from __future__ import annotations

import sys
import time

from layertap.progress.pace import Pace, left_text, rate_text
from layertap.progress.views import Line, View, choose_view
from layertap.units import size_text


class ShownProgress:
    """Progress in a notebook, on a terminal or as plain lines on stderr; a context manager, and called with numbers.

    Nothing is shown before the first item is done.

    Parameters
    ----------
    what : str
        What is counted, in the plural; ``bytes`` are shown in larger units.
    quiet : bool
        Show nothing.
    headlines : list of str, optional
        Lines to print once the first item is done, by which time the command is known to be without mistakes. They
        are removed from the list.
    """

    def __init__(self, what: str, quiet: bool = False, headlines: list[str] | None = None) -> None:
        self._what = what
        self._quiet = quiet
        self._headlines = [] if headlines is None else headlines
        self._pace = Pace()
        self._view: View | None = None
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        self._pace.add(done, total, now)
        if self._quiet:
            return
        while self._headlines:
            print(self._headlines.pop(0), file=sys.stderr, flush=True)
        if self._view is None:
            self._view = choose_view()
        if now - self._last >= self._view.pause or (self._view.shows_end and done == total):
            self._last = now
            self._view.show(self._line(done, total))

    def _line(self, done: int, total: int) -> Line:
        rate, left = self._pace.rate, self._pace.left
        if self._what == "bytes":
            count, speed = f"{size_text(done)} of {size_text(total)}", rate and f"{size_text(rate)}/s"
        else:
            count, speed = f"{done:,}/{total:,} {self._what}", rate and rate_text(rate)
        return Line(done, total, count, speed or "", "" if left is None else left_text(left))

    def __enter__(self) -> ShownProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._view is not None:
            self._view.close()
            self._view = None
