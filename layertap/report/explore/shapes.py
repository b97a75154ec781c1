"""Plots of the shapes of the images of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from layertap.report.style import BLUE, GRAY, INK, WIDTH, File, grid, picture

MOST_BARS = 12


def shapes(file: File, counts: Sequence[tuple[int, int, int]], size: tuple[int, int], title: str) -> None:
    """Draw how many images there are of each height x width: bars for a few, points for many.

    Parameters
    ----------
    counts : sequence of (height, width, images)
        The most frequent first.
    size : (height, width)
        Of a net's input, which is marked among many.
    """
    if len(counts) > MOST_BARS:
        _points(file, counts, size, title)
        return
    from matplotlib.ticker import MaxNLocator  # slow to load

    with picture(file, WIDTH, 1.1 + 0.26 * len(counts), title) as figure:
        axes = figure.subplots()
        names = [f"{height} x {width}" for height, width, _ in counts]
        axes.barh(names, [count for *_, count in counts], height=0.7, color=BLUE)
        for row, (*_, count) in enumerate(counts):
            axes.annotate(f"{count:,}", (count, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set(xlabel="images", xlim=(0, 1.12 * counts[0][2]))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.invert_yaxis()
        axes.grid(axis="x")
        axes.tick_params(length=0)


def _points(file: File, counts: Sequence[tuple[int, int, int]], size: tuple[int, int], title: str) -> None:
    heights, widths, images = np.array(counts).T
    low, high = min(heights.min(), widths.min(), *size), max(heights.max(), widths.max(), *size)
    edge = (high / low) ** 0.04
    ends = low / edge, high * edge
    with picture(file, 5.4, 5.0, title) as figure:
        axes = figure.subplots()
        axes.plot(ends, ends, color=GRAY, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.scatter(widths, heights, s=12 + 160 * images / images.max(), color=BLUE, alpha=0.5, linewidths=0)
        axes.scatter(size[1], size[0], s=60, marker="x", color=INK, label="input of the net", zorder=3)
        for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
            getattr(axes, f"set_{name}scale")("log", base=2)
            axis.set_major_formatter("{x:,.0f}")
        axes.set(xlim=ends, ylim=ends, aspect="equal")
        axes.set(xlabel="width in pixels", ylabel="height in pixels")
        axes.legend(loc="best")
        grid(axes)
