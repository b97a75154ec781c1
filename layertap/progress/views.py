"""Where progress is shown: plain lines, a line of a terminal that is rewritten, or the output of a notebook's cell."""

from __future__ import annotations

import html
import os
import sys
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console

WIDEST_BAR, NARROWEST_BAR = 40, 8  # characters
GAP = "  "


@dataclass(frozen=True)
class Line:
    """What is to be shown: how many items are done, as a number and as a text, and two texts that may be empty."""

    done: int
    total: int
    count: str
    rate: str
    left: str

    @property
    def percent(self) -> str:
        return f"{100 * self.done // self.total if self.total else 100} %"

    @property
    def text(self) -> str:
        """All of it, in one line."""
        return GAP.join(filter(None, (self.count, self.percent, self.rate, self.left)))


class View(Protocol):
    """A place where progress is shown.

    Attributes
    ----------
    pause : float
        The seconds between two lines.
    shows_end : bool
        Whether the last line is shown without a pause.
    """

    pause: float
    shows_end: bool

    def show(self, line: Line) -> None:
        """Show a line in place of the one before."""

    def close(self) -> None:
        """Leave the place as if nothing had been shown, but for plain lines."""


def choose_view() -> View:
    """The view for where this process runs."""
    if _in_notebook():
        return NotebookView()
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return TerminalView(sys.stderr)
    return PlainView()


class PlainView:
    """A line on stderr now and then."""

    pause = 10.0
    shows_end = False

    def show(self, line: Line) -> None:
        print(line.text, file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


class TerminalView:
    """A line with a bar, which is rewritten, and erased in the end.

    The cursor stays visible, and no thread draws: a process that is killed leaves the terminal as it should be.

    Parameters
    ----------
    stream : text stream
        The terminal.
    """

    pause = 0.1
    shows_end = True

    def __init__(self, stream: IO[str]) -> None:
        # Here, because it takes a while to import, and only terminals need it.
        from rich.console import Console

        self._stream = stream
        self._console: Console = Console(file=stream, highlight=False, markup=False, emoji=False)

    def show(self, line: Line) -> None:
        self._stream.write(f"\r{self._drawn(line)}\033[K")
        self._stream.flush()

    def close(self) -> None:
        self._stream.write("\r\033[K")
        self._stream.flush()

    def _drawn(self, line: Line) -> str:
        """The line for the terminal's width of now, with its codes for colours."""
        from rich.progress_bar import ProgressBar  # loaded with the console
        from rich.text import Text

        bar, texts = fit(line, self._console.width - 1)  # a full line would make the terminal go on to the next
        parts: list[Any] = []
        if bar:
            parts.append(ProgressBar(line.total or 1, line.done, bar, complete_style="cyan", finished_style="cyan"))
        for text in texts:
            secondary = text in (line.rate, line.left) and not self._console.no_color
            parts.append(Text((GAP if parts else "") + text, "dim" if secondary else "", end=""))
        with self._console.capture() as drawn:
            self._console.print(*parts, sep="", end="")
        return drawn.get()


def fit(line: Line, width: int) -> tuple[int, list[str]]:
    """How wide the bar is, 0 for none, and the texts beside it that there is room for.

    Where there is little, the rate goes first, then the bar, and the count last of all.
    """
    percent = line.percent.rjust(len("100 %"))
    texts = [text for text in (percent, line.count, line.rate, line.left) if text]
    for dropped in ((), (line.rate,), (line.rate, line.left), (line.rate, line.left, line.count)):
        kept = [text for text in texts if text not in dropped]
        room = width - sum(len(GAP) + len(text) for text in kept)
        if room >= NARROWEST_BAR:
            return min(room, WIDEST_BAR), kept
    return 0, [percent] if len(percent) <= width else []


class NotebookView:
    """A bar in the output of a notebook's cell, which is empty again in the end."""

    pause = 0.2
    shows_end = True

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, line: Line) -> None:
        self._put(_Bar(line))

    def close(self) -> None:
        if self._handle is not None:
            self._put(_Bar(None))

    def _put(self, bar: _Bar) -> None:
        from IPython.display import display  # is there, because a notebook runs this

        if self._handle is None:
            self._handle = display(bar, display_id=True)
        else:
            self._handle.update(bar)


class _Bar:
    """A line as notebooks show it; nothing for None."""

    def __init__(self, line: Line | None) -> None:
        self._line = line

    def __repr__(self) -> str:
        return "" if self._line is None else self._line.text

    def _repr_html_(self) -> str:
        if self._line is None:
            return ""
        line = self._line
        return f'<progress value="{line.done}" max="{line.total or 1}"></progress> {html.escape(line.text)}'


def _in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this; IPython in a terminal is none."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
