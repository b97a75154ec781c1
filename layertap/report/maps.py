"""Maps of features: rows of many dimensions as points of two, coloured by class."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from feature_cache.errors import BadData, MissingDependency, unknown
from heads.validation import as_rows, finite
from layertap.report.style import COLOURS, MARKERS, WIDTH, File, label, picture

METHODS = ("pca", "umap")
MOST_ROWS = 5000
MOST_CLASSES = 20  # with colours of their own
FEWEST_FOR_UMAP = 5
OTHERS = "#d5d7da"


@dataclass(frozen=True)
class Projection:
    """Rows of features in two dimensions.

    Attributes
    ----------
    rows : ndarray of shape (m,)
        Which ones, sorted.
    points : ndarray of shape (m, 2)
    axes : tuple of str
        What the two dimensions are.
    """

    rows: np.ndarray
    points: np.ndarray
    axes: tuple[str, str]


def project(features: Any, method: str = "pca", seed: int = 0, every: int = 1) -> Projection:
    """Features in two dimensions, all of them or `MOST_ROWS` drawn by `seed`.

    Parameters
    ----------
    features : array of shape (n, ...)
    method : {"pca", "umap"}
        Principal components, by scikit-learn's randomised algorithm (Halko et al. 2011), or UMAP (McInnes et al.
        2018) with its default 15 neighbours.
    every : int
        Take only rows 0, `every`, 2 `every`, ...: the plain images, where they have that many views.

    Raises
    ------
    MissingDependency
        When the package of the method is not installed.
    InvalidChoice
        When there is no such method.
    BadData
        When there are too few rows for it, or features are infinite or not numbers.
    """
    require_method(method)
    reduce = _umap if method == "umap" else _pca
    n = -(-len(features) // every)
    rows = np.arange(n)
    if n > MOST_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(n, MOST_ROWS, replace=False))
    with finite(features):
        return Projection(rows, *reduce(as_rows(features[rows * every]).astype(np.float32), seed))


def feature_map(
    file: File, projection: Projection, labels: Sequence[Any] | np.ndarray, title: str, seed: int = 0
) -> None:
    """Draw features in two dimensions, coloured by class; of more than 20 classes the 20 most frequent.

    Parameters
    ----------
    projection : Projection
        See `project`.
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


def _pca(rows: np.ndarray, seed: int) -> tuple[np.ndarray, tuple[str, str]]:
    from sklearn.utils.extmath import randomized_svd  # scikit-learn is slow to load

    centred = rows - rows.mean(0)
    variance = float(np.square(centred, dtype=np.float64).sum())
    points, shares = np.zeros((len(rows), 2)), [0.0, 0.0]
    if variance:
        count = min(2, *rows.shape)
        _, _, axes = randomized_svd(centred, count, random_state=seed)
        points[:, :count] = centred @ axes.T
        shares[:count] = (points[:, :count].astype(np.float64) ** 2).sum(0) / variance
    first, second = (f"component {number}: {share:.0%} of the variance" for number, share in enumerate(shares, 1))
    return points, (first, second)


def require_method(method: str) -> None:
    """Raise InvalidChoice when there is no such map, and MissingDependency when it lacks a package."""
    if method not in METHODS:
        raise unknown("there is no map by", method, METHODS)
    # Looked for and not imported, which takes seconds.
    if method == "umap" and (sys.modules["umap"] if "umap" in sys.modules else find_spec("umap")) is None:
        raise MissingDependency("maps by UMAP need the package umap-learn: pip install 'layertap[umap]'")


def _umap(rows: np.ndarray, seed: int) -> tuple[np.ndarray, tuple[str, str]]:
    from umap import UMAP  # optional, and slow to load

    if len(rows) < FEWEST_FOR_UMAP:
        raise BadData(f"a map by UMAP needs at least {FEWEST_FOR_UMAP} images; received {len(rows)}: choose pca.")
    # A seed means one thread, which UMAP would warn of; and few rows have no spectrum to start from.
    start = "spectral" if len(rows) > 50 else "random"
    model = UMAP(n_neighbors=min(15, len(rows) - 1), init=start, random_state=seed, n_jobs=1)
    return model.fit_transform(rows), ("UMAP 1", "UMAP 2")
