"""Pictures of a run. Matplotlib is imported only when one is drawn."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

INK = "#222222"
COLOURS = ("#1b6ca8", "#d1495b", "#8d96a3", "#66a182", "#edae49")
MOST_CLASSES_WITH_NUMBERS = 25


def confusion(file: Path, classes: Sequence[str], counts: np.ndarray, title: str) -> None:
    """Draw a confusion matrix: colour is the share of the true class, numbers are counts.

    Parameters
    ----------
    counts : ndarray of shape (k, k), int
        True class by row, predicted class by column.
    """
    plt = _pyplot()
    k = len(classes)
    side = min(12.0, 2.4 + 0.42 * k)
    figure, axes = plt.subplots(figsize=(side, side), layout="constrained")
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if k <= MOST_CLASSES_WITH_NUMBERS:
        for row, column in np.argwhere(counts > 0):
            colour = "white" if share[row, column] > 0.5 else INK
            axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", fontsize=8, color=colour)
    if k <= 60:
        printable = [name.encode(errors="backslashreplace").decode() for name in classes]
        names = [name if len(name) <= 16 else name[:15] + "…" for name in printable]
        turned = 90 if max(map(len, names)) > 3 else 0
        axes.set_xticks(range(k), names, fontsize=8, rotation=turned)
        axes.set_yticks(range(k), names, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title.encode(errors="backslashreplace").decode()[-60:], fontsize=10)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def learning_curves(
    file: Path, per_class: Sequence[int], curves: Mapping[str, Sequence[tuple[float, float]]], title: str
) -> None:
    """Draw accuracy against labelled images per class.

    Parameters
    ----------
    curves : mapping of str to sequence of (mean, standard deviation)
        One pair for each number in `per_class`.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for colour, (name, points) in zip(itertools.cycle(COLOURS), curves.items(), strict=False):
        mean, deviation = np.array(points).T
        axes.plot(per_class, mean, marker="o", markersize=4, color=colour, label=name)
        axes.fill_between(per_class, mean - deviation, mean + deviation, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks(per_class, [str(number) for number in per_class])
    axes.minorticks_off()
    axes.set_xlabel("labelled images per class")
    axes.set_ylabel("accuracy on all the rest")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    axes.set_title(title, fontsize=10)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def panel(file: Path, images: Sequence[np.ndarray], captions: Sequence[str], title: str, columns: int = 10) -> None:
    """Draw images in a grid.

    Parameters
    ----------
    images : sequence of ndarray of shape (height, width, 1 or 3), uint8
    """
    plt = _pyplot()
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * 0.8, rows * 0.95 + 0.4), layout="constrained")
    for cell in np.ravel(axes):
        cell.axis("off")
    for cell, image, caption in zip(np.ravel(axes), images, captions, strict=False):
        cell.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
        cell.set_title(caption, fontsize=8, pad=2, color=INK)
    figure.suptitle(title, fontsize=10)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def _pyplot():  # type: ignore[no-untyped-def]  # a module, imported late
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["text.parse_math"] = False  # a class may be called "$"
    return plt
