"""Plots of scores: confusions, reliability, learning curves, and quality against cost."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from heads.evaluation.metrics import Reliability
from layertap.report.style import (
    BLUE,
    COLOURS,
    GRAY,
    INK,
    MARKERS,
    WIDTH,
    File,
    arrange,
    fitted,
    grid,
    label,
    picture,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

MOST_CLASSES_WITH_NUMBERS = 25
MOST_CLASSES_WITH_NAMES = 40
MOST_CELLS = 300  # of a confusion matrix, along a side: more are too small to be seen
MOST_LABELLED = 15
MOST_NUMBERS = 9
SIDES = [(across, up) for up in (1, 0, -1) for across in (-1, 0, 1) if across or up]  # of a point, for its name


def confusion(file: File, classes: Sequence[str], counts: np.ndarray, title: str) -> None:
    """Draw a confusion matrix: colour is the share of the true class, numbers are counts.

    Parameters
    ----------
    counts : ndarray of shape (k, k), int
        True class by row, predicted class by column.
    """
    from matplotlib.colors import PowerNorm  # slow to load

    k = len(classes)
    named, group = k <= MOST_CLASSES_WITH_NAMES, -(-k // MOST_CELLS)
    if group > 1:
        starts = np.arange(0, k, group)
        counts = np.add.reduceat(np.add.reduceat(counts, starts, axis=0), starts, axis=1)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [fitted(name, 1.3, 8) for name in classes] if named else []
    margin = 0.7 + 0.065 * max(map(len, names), default=5)
    side = min(WIDTH, max(3.4, margin + 0.4 * k))
    with picture(file, side, side if k <= MOST_CLASSES_WITH_NUMBERS else side - 0.9, title) as figure:
        axes = figure.subplots()
        end = k - 0.5
        # The square root: a class that is mistaken once in fifty times is worth seeing.
        image = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.5, 0, 1), extent=(-0.5, end, end, -0.5))
        axes.spines[:].set_visible(True)
        if named:
            turned = 90 if max(map(len, names)) * 0.07 > (side - margin) / k else 0
            size = 8 if k <= MOST_CLASSES_WITH_NUMBERS else 7
            axes.set_xticks(range(k), names, rotation=turned, fontsize=size)
            axes.set_yticks(range(k), names, fontsize=size)
            axes.tick_params(length=0)
        many = "" if named else f" class: {k:,} in order" + (f", {group} to a cell" if group > 1 else "")
        axes.set_xlabel(f"predicted{many}")
        axes.set_ylabel(f"true{many}")
        if k > MOST_CLASSES_WITH_NUMBERS or not _write_counts(figure, axes, counts, share):
            bar = figure.colorbar(image, ax=axes, shrink=0.5, aspect=30, ticks=[0, 0.01, 0.1, 0.25, 0.5, 1])
            bar.ax.set_yticklabels(["0", "1%", "10%", "25%", "50%", "100%"])
            bar.set_label("of the true class")
            bar.outline.set_visible(False)


def _write_counts(figure: Figure, axes: Axes, counts: np.ndarray, share: np.ndarray) -> bool:
    """Write the counts into their cells, unless these are too small for them."""
    arrange(figure)
    points = axes.get_window_extent().width / figure.dpi * 72 / len(counts)
    size = min(9, 0.85 * points / (0.64 * len(str(counts.max(initial=0)))))
    if size < 4.5:
        return False
    for row, column in np.argwhere(counts > 0):
        colour = "white" if share[row, column] > 0.35 else INK
        number = axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=size, color=colour)
        number.set_in_layout(False)  # it is inside, and there are many
    return True


def reliability(file: File, measured: Reliability, title: str) -> None:
    """Draw accuracy by confidence, with 95 % intervals, above the histogram of confidences."""
    some = measured.count > 0
    n, confidence, accuracy = (of[some] for of in (measured.count, measured.confidence, measured.accuracy))
    low, high = (of[some] for of in measured.interval)
    with picture(file, 5.0, 5.4, title) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        upper.plot([0, 1], [0, 1], color=GRAY, linewidth=1, linestyle=(0, (4, 3)))
        upper.plot(confidence, accuracy, color=BLUE, linewidth=1.2, marker="o", markersize=5, clip_on=False)
        upper.vlines(confidence, low, high, color=BLUE, alpha=0.45, clip_on=False)
        upper.text(0.98, 0.04, "too sure", ha="right", color=GRAY, fontsize=8)
        upper.text(0.02, 0.93, "not sure enough", color=GRAY, fontsize=8)
        upper.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="share that is right")
        shares, left = n / n.sum(), measured.edges[:-1][some]
        lower.bar(left, shares, np.diff(measured.edges)[some], align="edge", color=BLUE, edgecolor="white")
        lower.set(xlabel="confidence: probability of the class predicted", ylabel=f"share of {n.sum():,}")
        lower.set_title(
            f"accuracy {accuracy @ shares:.3f}, mean confidence {confidence @ shares:.3f}, "
            f"calibration error {measured.ece:.3f}",
            fontsize=8,
            loc="left",
        )
        grid(upper)
        grid(lower, "y")


def learning_curves(
    file: File, per_class: Sequence[int], curves: Mapping[str, Sequence[tuple[float, float]]], title: str
) -> None:
    """Draw accuracy against labelled images per class.

    Parameters
    ----------
    curves : mapping of str to sequence of (mean, standard deviation)
        One pair for each number in `per_class`.
    """
    few = len(curves) <= 4
    rows = 0 if few else -(-len(curves) // 2)
    with picture(file, WIDTH, 4.2 + 0.2 * rows, title) as figure:
        axes = figure.subplots()
        styles = itertools.cycle(itertools.product(MARKERS, COLOURS))
        for (marker, colour), (name, points) in zip(styles, curves.items(), strict=False):
            mean, deviation = np.array(points).T
            axes.plot(per_class, mean, marker=marker, markersize=4.5, color=colour, label=label(name, 2.7))
            low, high = np.clip([mean - deviation, mean + deviation], 0, 1)
            if len(mean) == 1:
                axes.vlines(per_class, low, high, color=colour, alpha=0.4)
            axes.fill_between(per_class, low, high, color=colour, alpha=0.15 if few else 0.07, linewidth=0)
        axes.set_xscale("log")
        axes.set_xticks(_apart(per_class), [f"{number:,}" for number in _apart(per_class)])
        axes.minorticks_off()
        axes.set(xlabel="labelled images per class", ylabel="accuracy on all the rest")
        grid(axes)
        if few:
            axes.legend(loc="best")
        else:
            figure.legend(loc="outside lower center", ncols=2)


def training_curves(file: File, stages: Sequence[Sequence[Mapping[str, float]]], title: str) -> None:
    """Draw the losses of a training by epoch, and the accuracy on the rows held out.

    Losses are on a logarithmic axis: those of the rows that train end far below those of the others.

    Parameters
    ----------
    stages : sequence of sequence of mapping
        Of the choice of the number of epochs, and of the training that counts (see `FineTuner.stages_`).
    """
    chosen, last = stages
    with picture(file, WIDTH, 3.6, title) as figure:
        left, right = figure.subplots(1, 2)
        lines = (
            (left, chosen, "valid_loss", BLUE, "held out, while choosing"),
            (left, chosen, "loss", GRAY, "training, while choosing"),
            (left, last, "loss", INK, "training of all images"),
            (right, chosen, "valid_accuracy", BLUE, "held out, while choosing"),
        )
        for axes, epochs, name, colour, text in lines:
            points = [(epoch["epoch"], epoch[name]) for epoch in epochs if name in epoch]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, color=colour, label=text, clip_on=False)
        for axes, text in ((left, "loss"), (right, "accuracy")):
            axes.set(xlabel="epoch", ylabel=text)
            axes.xaxis.get_major_locator().set_params(integer=True)
            grid(axes)
        losses = np.concatenate([line.get_ydata() for line in left.lines] or [np.ones(1)])
        if losses.min() > 0:
            left.set_yscale("log", subs=[])
            _logarithmic(left.yaxis, losses.max() / losses.min())
        seen = [epoch["valid_accuracy"] for epoch in chosen if "valid_accuracy" in epoch]
        least = min(seen, default=0.0)
        right.set_ylim(max(0.0, least - (0.1 * (1 - least) or 0.01)), 1)
        if last:
            for axes in (left, right):
                axes.axvline(len(last), color=INK, linewidth=1, linestyle=":", label="epochs chosen")
        if left.lines:
            left.legend(loc="best")


def _apart(numbers: Sequence[int]) -> list[int]:
    """Those of the `numbers` that have room for their own label on a logarithmic axis."""
    ordered = sorted(set(numbers))
    room = np.log(ordered[-1] / ordered[0]) / 16
    spaced = ordered[:1]
    for number in ordered[1:]:
        if np.log(number / spaced[-1]) >= room:
            spaced.append(number)
    return spaced


def predictions(file: File, truth: np.ndarray, predicted: np.ndarray, names: Sequence[str], title: str) -> None:
    """Draw predicted numbers against the true ones, with the line where they are equal.

    Parameters
    ----------
    truth, predicted : ndarray of shape (n,) or (n, k)
    names : sequence of str
        The k numbers; each has its own axes, the first `MOST_NUMBERS` of them.
    """
    columns = min(3, len(names), MOST_NUMBERS)
    shown = list(zip(names, truth.reshape(len(truth), -1).T, predicted.reshape(len(truth), -1).T, strict=True))
    shown = shown[:MOST_NUMBERS]
    rows = -(-len(shown) // columns)
    side = 4.2 if columns == 1 else WIDTH / columns
    with picture(file, max(side * columns, 4.2), side * rows + 0.3, title) as figure:
        places = figure.subplots(rows, columns, squeeze=False).reshape(-1)
        for axes in places[len(shown) :]:
            axes.remove()
        for axes, (name, true, estimated) in zip(places, shown, strict=False):
            low, high = min(true.min(), estimated.min()), max(true.max(), estimated.max())
            edge = 0.04 * (high - low) or 1.0
            axes.plot([low - edge, high + edge], [low - edge, high + edge], color=GRAY, linewidth=0.8)
            size = float(np.clip(6000 / len(true), 4, 24))
            axes.scatter(true, estimated, s=size, color=BLUE, alpha=0.5, linewidths=0)
            axes.set(xlim=(low - edge, high + edge), ylim=(low - edge, high + edge), aspect="equal")
            axes.set(xlabel=f"true {label(name, 2.0)}", ylabel="predicted")
            grid(axes)


def anomaly_scores(file: File, scores: np.ndarray, truth: np.ndarray, normal: str, title: str) -> None:
    """Draw histograms of the anomaly scores of normal images and of anomalies, and the threshold.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Above 1 for what the head calls an anomaly.
    truth : ndarray of shape (n,), bool
        Whether an image is an anomaly.
    normal : str
        The class of the normal images.
    """
    with picture(file, WIDTH, 3.0, title) as figure:
        axes = figure.subplots()
        bins = np.linspace(min(0.0, scores.min()), max(1.2, scores.max()), 60).tolist()
        for colour, name, rows in ((BLUE, label(normal, 2.0), ~truth), (COLOURS[2], "anomalies", truth)):
            if rows.any():
                axes.hist(scores[rows], bins, color=colour, alpha=0.6, label=f"{name} ({rows.sum():,})")
        axes.axvline(1, color=INK, linewidth=1, linestyle=(0, (4, 3)), label="threshold")
        axes.set(xlabel="anomaly score", ylabel="images")
        axes.legend(loc="best")
        grid(axes, "y")


def pareto(cost: Sequence[float] | np.ndarray, quality: Sequence[float] | np.ndarray) -> np.ndarray:
    """Positions of the choices that no other one beats, by rising cost.

    A choice is beaten by one that is at least as good and costs no more, and is better or cheaper. Of equal
    choices all stay; one whose cost or quality is NaN does not.
    """
    costs, qualities = np.asarray(cost, np.float64), np.asarray(quality, np.float64)
    known = ~(np.isnan(costs) | np.isnan(qualities))
    front: list[int] = []
    best = (np.nan, -np.inf)
    for position in np.lexsort((-qualities, costs)):
        here = costs[position], qualities[position]
        if known[position] and (here[1] > best[1] or here == best):
            front.append(position)
            best = here
    return np.array(front, np.int64)


def tradeoff(
    file: File,
    names: Sequence[str],
    cost: Sequence[float],
    quality: Sequence[float],
    title: str,
    cost_label: str = "cost",
    quality_label: str = "accuracy",
) -> None:
    """Draw quality against cost, with a line through the choices that no other one beats (see `pareto`).

    The points on the line are named where there is room for it; the others only where there are few of them.
    """
    x, y = np.asarray(cost, np.float64), np.asarray(quality, np.float64)
    front = pareto(x, y)
    others = np.setdiff1d(np.flatnonzero(~np.isnan(x + y)), front)
    with picture(file, WIDTH, 4.6, title) as figure:
        axes = figure.subplots()
        axes.scatter(x[others], y[others], s=22, color="#b4b8bd")
        axes.plot(x[front], y[front], drawstyle="steps-post", color=BLUE, linewidth=1.2, alpha=0.6)
        axes.scatter(x[front], y[front], s=34, color=BLUE, zorder=3)
        if len(front) and x[front].min() > 0 and np.nanmax(x) > 10 * np.nanmin(x):
            axes.set_xscale("log", subs=[])
            _logarithmic(axes.xaxis, np.nanmax(x) / np.nanmin(x))
        axes.margins(0.08, 0.1)
        axes.set(xlabel=fitted(cost_label, 6, 9), ylabel=fitted(quality_label, 3.8, 9))
        grid(axes)
        _name(figure, axes, x, y, names, front, others if len(names) <= MOST_LABELLED else others[:0])


def _logarithmic(axis: Axis, ratio: float) -> None:
    """Numbers along an axis on which the largest is `ratio` times the smallest."""
    from matplotlib.ticker import LogLocator  # slow to load

    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < 300 else (1,)))
    axis.set_major_formatter("{x:,.10g}")


def _name(
    figure: Figure,
    axes: Axes,
    x: np.ndarray,
    y: np.ndarray,
    names: Sequence[str],
    front: np.ndarray,
    others: np.ndarray,
) -> None:
    """Write the name of each point close to it, where it covers no point, line or other name; leave out the others."""
    from matplotlib.transforms import Bbox  # slow to load

    arrange(figure, for_good=True)
    inside = axes.get_window_extent()
    points = axes.transData.transform(np.column_stack([x, y])[~np.isnan(x + y)])
    taken = [Bbox.from_bounds(across - 6, up - 6, 12, 12) for across, up in points]
    steps = axes.transData.transform(np.column_stack([x[front], y[front]]))
    for (left, low), (right, high) in itertools.pairwise(steps):
        taken += [Bbox([[left, low - 1], [right, low + 1]]), Bbox([[right - 1, low], [right + 1, high]])]
    for number in [*front, *others]:
        text = axes.annotate(
            shortened(names[number], 36), (x[number], y[number]), (0, 0), textcoords="offset points", fontsize=8
        )
        best = number in front
        text.set_color(INK if best else GRAY)
        sides = sorted(SIDES, key=lambda side: side[0] - side[1] if best else side[1] - side[0])  # off the line
        for away, (across, up) in itertools.product((5, 16, 28, 42), sides):
            text.xyann = (across * away, up * away)
            text.set(ha=("center", "left", "right")[across], va=("center", "bottom", "top")[up])
            box = text.get_window_extent()
            whole = inside.x0 < box.x0 and box.x1 < inside.x1 and inside.y0 < box.y0 and box.y1 < inside.y1
            if whole and not box.count_overlaps(taken):
                taken.append(box.padded(3))
                if away > 5:
                    to_point = {"arrowstyle": "-", "color": GRAY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
                    axes.annotate("", text.xy, text.xyann, textcoords="offset points", arrowprops=to_point)
                break
        else:
            text.remove()
