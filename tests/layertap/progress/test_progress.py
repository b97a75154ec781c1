"""Progress: numbers that mean something, and a terminal that is left as it was found."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from terminals import on_a_terminal

from layertap.progress import progress_bar
from layertap.progress.pace import Pace
from layertap.progress.shown import ShownProgress
from layertap.progress.views import Line, NotebookView, fit

ROOT = Path(__file__).resolve().parents[3]
WORK = """
import sys, time
from layertap.progress.shown import ShownProgress
with ShownProgress("images", headlines=["Extracting."]) as progress:
    for done in range(0, 25, 4):
        progress(done, 24)
        time.sleep(0.11)
    if "wait" in sys.argv:
        print("waiting", flush=True)
        time.sleep(60)
print("rich" in sys.modules)
"""


def pace_of(reports: Sequence[tuple[float, int]], total: int) -> Pace:
    pace = Pace()
    for now, done in reports:
        pace.add(done, total, now)
    return pace


def test_the_rate_is_told_once_it_is_known_and_is_that_of_the_last_seconds() -> None:
    slow_start = [(30.0, 1), (60.0, 2), (62.0, 3), (64.0, 4)]
    for known in (1, 2, 3):
        assert (pace_of(slow_start[:known], 6).rate, pace_of(slow_start[:known], 6).left) == (None, None)
    assert pace_of(slow_start, 6).rate == pytest.approx(3 / 34)
    later = [*slow_start, *((64.0 + 2 * step, 4 + step) for step in range(1, 20))]
    assert pace_of(later, 40).rate == pytest.approx(0.5)  # what was slow is forgotten
    assert pace_of(later, 40).left == pytest.approx((40 - 23) / 0.5)
    assert pace_of(later, 23).left is None  # all is done


def test_no_estimate_is_made_of_an_instant() -> None:
    many = [(0.001 * step, step) for step in range(500)]
    assert pace_of(many, 10_000).rate is None
    assert pace_of([(0.05 * step, step) for step in range(60)], 100).rate == pytest.approx(20)


def test_other_work_has_a_rate_of_its_own() -> None:
    first = [(float(second), 10 * second) for second in range(5)]
    assert pace_of([*first, (5.0, 1)], 50).rate is None


@pytest.mark.parametrize("width", [100, 79, 59, 49, 39, 29, 19, 9, 5, 3])
def test_a_line_fits_the_terminal(width: int) -> None:
    line = Line(512, 1797, "512/1,797 images", "210/s", "6 s left")
    bar, texts = fit(line, width)
    assert bar + sum(2 * (bar > 0) + len(text) for text in texts) <= width
    assert (" 28 %" in texts) == (width >= 5)
    assert ("512/1,797 images" in texts) == (width >= 39)
    assert ("6 s left" in texts) == (width >= 49)


@pytest.mark.parametrize("columns", [80, 24])
def test_a_terminal_shows_a_bar_which_is_erased(columns: int) -> None:
    status, written = on_a_terminal(["-c", WORK], columns)
    assert status == 0
    assert written.startswith("Extracting.\r\n\r")
    assert "\033[36m━" in written
    assert "\033[?25l" not in written, "the cursor is hidden, and a killed process would leave it so"
    *frames, erased, last = written.removeprefix("Extracting.\r\n").split("\r")[1:]
    plain = [re.sub(r"\033\[[\d;]*[mK]", "", frame) for frame in frames]
    assert max(map(len, plain)) < columns
    assert "100 %" in plain[-1]
    assert ("24/24 images" in plain[-1]) == (columns == 80)
    assert (erased, last) == ("\033[KTrue", "\n")


def test_an_interrupted_terminal_is_left_in_order() -> None:
    status, written = on_a_terminal(["-c", WORK, "wait"], 80, interrupt=True)
    assert status == -signal.SIGINT
    # The interrupt may come before the end of the line with "waiting".
    assert re.match(r"(\r\n)?\r\033\[KTraceback", written.partition("waiting")[2])


def test_no_colours_and_dumb_terminals() -> None:
    _, plain = on_a_terminal(["-c", WORK], 80, NO_COLOR="1")
    assert "━" in plain
    assert not re.search(r"\033\[[\d;]*m", plain)
    _, dumb = on_a_terminal(["-c", WORK], 80, TERM="dumb")
    assert dumb == "Extracting.\r\nFalse\r\n"


def test_elsewhere_lines_are_plain_and_rich_is_not_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORK.replace('progress(done, 24)', 'progress._last -= 10; progress(done, 24)')],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert done.stdout == "False\n"
    lines = done.stderr.splitlines()
    assert lines[:3] == ["Extracting.", "0/24 images  0 %", "4/24 images  16 %"]
    assert lines[-1] == "24/24 images  100 %"


def test_bytes_are_shown_in_larger_units(capsys: pytest.CaptureFixture[str]) -> None:
    with ShownProgress("bytes") as progress:
        progress._last -= 10
        progress(1_500_000, 3_000_000)
    assert capsys.readouterr().err == "1.5 MB of 3.0 MB  50 %\n"


def test_a_notebook_shows_a_bar_which_is_empty_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from IPython import display  # slow to load, and no other test needs it

    shown: list[str] = []

    class Handle:
        def update(self, bar: object) -> None:
            shown.append(bar._repr_html_())  # type: ignore[attr-defined]

    def show(bar: object, display_id: bool) -> Handle:
        assert display_id
        handle = Handle()
        handle.update(bar)
        return handle

    monkeypatch.setattr(display, "display", show)
    view = NotebookView()
    view.show(Line(1, 4, "1/4 <images>", "", ""))
    view.show(Line(4, 4, "4/4 <images>", "", ""))
    view.close()
    assert shown == [
        '<progress value="1" max="4"></progress> 1/4 &lt;images&gt;  25 %',
        '<progress value="4" max="4"></progress> 4/4 &lt;images&gt;  100 %',
        "",
    ]


def test_nothing_is_shown_of_no_work(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("images"):
        pass
    with ShownProgress("images", quiet=True) as progress:
        progress._last -= 10
        progress(1, 2)
    assert capsys.readouterr() == ("", "")
