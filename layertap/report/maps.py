"""Maps of features: rows of many dimensions as points of two, coloured by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from layertap.analysis.projections import Projection
from layertap.report.style import COLOURS, MARKERS, WIDTH, File, label, picture

MOST_CLASSES = 20  # with colours of their own
OTHERS = "#d5d7da"


def feature_map(
    file: File, projection: Projection, labels: Sequence[Any] | np.ndarray, title: str, seed: int = 0
) -> None:
    """Draw features in two dimensions, coloured by class; of more than 20 classes the 20 most frequent.

    Parameters
    ----------
    projection : Projection
        See `layertap.analysis.projections.project`.
    labels : sequence of length n
        The classes of all images, of which the projection may show a part.
    seed : int
        The seed of the order in which points are drawn.
    """
    names = np.array([str(label) for label in labels])[projection.rows]
    counts = Counter(names.tolist())
    coloured = sorted(sorted(counts), key=lambda name: -counts[name])[:MOST_CLASSES]
    others = len(counts) - len(coloured)
    style = {name: (COLOURS[i % len(COLOURS)], MARKERS[i // len(COLOURS)]) for i, name in enumerate(sorted(coloured))}
    shown = {name: label(name, 1.7) for name in style}
    columns = max(1, min(5, 95 // (5 + max(map(len, shown.values())))))
    size = float(np.clip(9000 / len(names), 18 if others else 7, 36))
    with picture(file, WIDTH, 5.2 + 0.17 * -(-len(style) // columns), title) as figure:
        axes = figure.subplots()
        order = np.random.default_rng(seed).permutation(len(names))  # no class lies on top of all others
        x, y = projection.points.T
        rest = order[~np.isin(names[order], coloured)]
        if others:
            axes.scatter(x[rest], y[rest], s=size / 3, color=OTHERS, linewidths=0)
        for marker in MARKERS:
            of_marker = [name for name, (_, its) in style.items() if its == marker]
            chosen = order[np.isin(names[order], of_marker)]
            colours = [style[name][0] for name in names[chosen]]
            axes.scatter(x[chosen], y[chosen], s=size, c=colours, marker=marker, linewidths=0, alpha=0.75)
        for name, (colour, marker) in style.items():
            axes.scatter([], [], s=28, color=colour, marker=marker, linewidths=0, label=shown[name])
        if others:
            axes.scatter([], [], s=28, color=OTHERS, linewidths=0, label=f"{others:,} other classes")
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(xlabel=projection.axes[0], ylabel=projection.axes[1], xticks=[], yticks=[])
        drawn = "" if len(names) == len(labels) else f"{len(names):,} of {len(labels):,} images"
        axes.set_title(drawn, fontsize=8, loc="right")
        figure.legend(loc="outside lower center", ncols=columns, handletextpad=0.2, columnspacing=1.2)
