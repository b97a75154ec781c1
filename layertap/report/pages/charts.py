"""Charts that are parts of a page, as SVG in its colours: they can be read at every width, in the dark and on paper."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 360
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 36  # beside the frame, for numbers and names
STEPS = (1, 2, 2.5, 5, 10)  # between numbers on an axis, times a power of ten
MOST_STEPS = 5
Points = Iterable[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes
    ----------
    points : iterable of (float, float)
    kind : {'main', 'other', 'guide'}
        Its colour; a guide is dashed.
    dots : bool
        Whether its points are marked.
    """

    points: Points
    kind: str = "main"
    dots: bool = False


@dataclass(frozen=True)
class Axis:
    """An axis: its name, and the numbers at its ends.

    Attributes
    ----------
    log : bool
        Whether equal distances are equal factors.
    marks : tuple of float
        The numbers that are written along it; by default round ones.
    """

    name: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    marks: tuple[float, ...] = ()

    def share(self, value: float) -> float:
        """Where a value is, from 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def numbers(self) -> tuple[float, ...]:
        """The numbers along the axis.

        Examples
        --------
        >>> Axis("accuracy", 0.9, 1.0).numbers()
        (0.9, 0.92, 0.94, 0.96, 0.98, 1.0)
        """
        if self.marks:
            return self.marks
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if self.high / self.low < 300 else (1,)
            values = (step * 10.0**power for power in powers for step in steps)
            return tuple(value for value in values if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9))
        least = (self.high - self.low) / MOST_STEPS
        unit = 10.0 ** math.floor(math.log10(least))
        step = next(step * unit for step in STEPS if step * unit >= least * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return tuple(round(number * step, 10) for number in range(first, last + 1))


def axis_of(name: str, values: Sequence[float], least: float, most: float = 1.0) -> Axis:
    """An axis up to `most` that begins at a round number below all values, but not above `least`.

    Examples
    --------
    >>> axis_of("accuracy", [0.93, 0.99], 0.95)
    Axis(name='accuracy', low=0.93, high=1.0, log=False, marks=())
    """
    low = min([*values, least])
    unit = 10.0 ** math.floor(math.log10(max(most - low, 1e-6)))
    return Axis(name, max(0.0, round(most - math.ceil((most - low) / unit - 1e-9) * unit, 10)), most)


def chart(
    label: str,
    across: Axis,
    up: Axis,
    lines: Sequence[Line] = (),
    *,
    bars: Iterable[tuple[float, float, float]] = (),
    ranges: Iterable[tuple[float, float, float]] = (),
    spots: Iterable[tuple[float, float, float, str]] = (),
    height: int = 210,
    name: str = "",
) -> dict[str, Any]:
    """A chart as the macro of ``chart.html`` draws it.

    Parameters
    ----------
    label : str
        What it shows, for those who do not see it.
    across, up : Axis
    lines : sequence of Line
    bars : iterable of (left, right, height)
    ranges : iterable of (across, low, high)
        Vertical lines, such as intervals of confidence.
    spots : iterable of (across, up, radius, text)
        Discs, whose texts are shown under the mouse.
    name : str
        The id of the chart, by which a script finds it.
    """
    frame = (LEFT, TOP, WIDTH - RIGHT, height - BOTTOM)

    def x(value: float) -> float:
        return round(frame[0] + (frame[2] - frame[0]) * across.share(value), 1)

    def y(value: float) -> float:
        return round(frame[3] - (frame[3] - frame[1]) * up.share(value), 1)

    drawn = []
    for line in lines:
        places = [(x(a), y(b)) for a, b in line.points]
        text = " ".join(f"{a:g},{b:g}" for a, b in places)
        drawn.append({"kind": line.kind, "points": text, "dots": places if line.dots else []})
    return {
        "label": label,
        "name": name,
        "width": WIDTH,
        "height": height,
        "frame": frame,
        "limits": " ".join(f"{value:g}" for value in (*frame, across.low, across.high, up.low, up.high)),
        "across": {"name": across.name, "numbers": [(x(number), f"{number:g}") for number in across.numbers()]},
        "up": {"name": up.name, "numbers": [(y(number), f"{number:g}") for number in up.numbers()]},
        "lines": drawn,
        "bars": [
            (x(left), y(high), round(x(right) - x(left), 1), round(y(up.low) - y(high), 1))
            for left, right, high in bars
        ],
        "ranges": [(x(at), y(low), y(high)) for at, low, high in ranges],
        "spots": [(x(at), y(value), f"{radius:.1f}", text) for at, value, radius, text in spots],
    }
