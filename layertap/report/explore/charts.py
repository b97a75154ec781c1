"""Charts of the shapes of the images of a data set, and of the levels of their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layertap.report.pages.charts import LEFT, RIGHT, WIDTH, Axis, Line, chart

FEW = 2  # different shapes, which need no chart
LARGEST, SMALLEST = 9.0, 2.0  # radius of a dot
EDGE = 1.08  # beyond the largest shape
MOST_LINEAR = 8  # the ratio of the longest side to the shortest, above which axes are logarithmic
SQUARE = WIDTH - LEFT - RIGHT + 46  # the height of a chart whose frame is a square
LEVELS = 4  # that are counted together
CHANNELS = (("third", "red"), ("fifth", "green"), ("first", "blue"))


def shape_chart(counts: Sequence[tuple[int, int, int]], size: tuple[int, int]) -> dict[str, Any] | None:
    """A dot for each height x width, by how many images have it; None where there are few.

    Parameters
    ----------
    counts : sequence of (height, width, images)
    size : (height, width)
        Of a net's input, which is marked.
    """
    if len(counts) <= FEW:
        return None
    sides = [side for height, width, _ in counts for side in (height, width)]
    low, high = min(*sides, *size) / EDGE, max(*sides, *size) * EDGE
    most = max(images for *_, images in counts)
    spots = [
        (width, height, max(SMALLEST, LARGEST * (images / most) ** 0.5), f"{height} x {width}: {images:,}")
        for height, width, images in counts
    ]
    lines = [Line([(low, low), (high, high)], "guide"), Line([(size[1], size[0])], "other", dots=True)]
    axes = [Axis(f"{what} in pixels", low, high, log=high > MOST_LINEAR * low) for what in ("width", "height")]
    label = f"Shapes of the images: {len(counts):,} kinds"
    return chart(label, axes[0], axes[1], lines, spots=spots, height=SQUARE)


def level_chart(histogram: np.ndarray) -> dict[str, Any]:
    """How often pixels have each level, with a line for each channel that differs from the others.

    Parameters
    ----------
    histogram : ndarray of shape (3, 256), int
        How often each level occurs in red, green and blue.

    Returns
    -------
    dict
        ``chart``, and ``legend``: pairs of a kind of line and a name.
    """
    shares = histogram.reshape(3, -1, LEVELS).sum(2) / max(1, histogram[0].sum())
    gray = (shares == shares[0]).all()
    channels = (("main", "gray"),) if gray else CHANNELS
    middles = (np.arange(shares.shape[1]) * LEVELS + (LEVELS - 1) / 2).tolist()
    lines = [
        Line(zip(middles, share.tolist(), strict=True), kind)
        for (kind, _), share in zip(channels, shares, strict=False)
    ]
    across = Axis("level of a pixel", 0.0, 255.0, marks=(0, 51, 102, 153, 204, 255))
    up = Axis("share of the pixels", 0.0, float(shares.max()) * 1.05 or 1.0)
    return {"chart": chart("Levels of the pixels", across, up, lines), "legend": channels}
