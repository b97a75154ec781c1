"""Features as points of two dimensions: principal components, or UMAP."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from feature_cache.errors import BadData, MissingDependency, unknown
from feature_cache.process.native_output import import_quietly
from heads.validation import as_rows, finite

METHODS = ("pca", "umap")
MOST_ROWS = 5000
MOST_FITTED = 20_000  # rows that the axes are computed of
BLOCK = 4096  # rows that are read at once
FEWEST_FOR_UMAP = 5
UMAP_DIMENSIONS = 50  # more than these are reduced to so many principal components before UMAP


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
    rows = _some(-(-len(features) // every), MOST_ROWS, seed)
    with finite(features):
        return Projection(rows, *reduce(as_rows(features[rows * every]).astype(np.float32), seed))


def project_all(features: Any, method: str = "pca", seed: int = 0, every: int = 1) -> Projection:
    """All features in two dimensions, however many there are: the axes are those of `MOST_FITTED` rows at most.

    For the parameters and errors see `project`. UMAP takes all rows, by their first 50 principal components.

    Examples
    --------
    >>> project_all(np.eye(4, dtype=np.float32)).points.shape
    (4, 2)
    """
    require_method(method)
    n = -(-len(features) // every)
    with finite(features):
        if method == "pca":
            points, shares = _on_axes(features, n, every, 2, seed)
            return Projection(np.arange(n), points, _axis_names(shares))
        if len(features) and np.prod(features.shape[1:]) > UMAP_DIMENSIONS < n:
            rows, _ = _on_axes(features, n, every, UMAP_DIMENSIONS, seed)
        else:
            rows = as_rows(features[::every]).astype(np.float32)
        return Projection(np.arange(n), *_umap(rows, seed))


def clusters(features: Any, count: int, seed: int = 0, every: int = 1) -> np.ndarray:
    """The number of the cluster of each row, by k-means in mini-batches (Sculley 2010), on 50 principal components.

    Parameters
    ----------
    features : array of shape (n, ...)
    count : int
        How many clusters there are.
    seed, every : int
        See `project`.

    Returns
    -------
    ndarray of shape (n,), int32
        Clusters are numbered by their sizes: 0 is the largest one.
    """
    from sklearn.cluster import MiniBatchKMeans  # scikit-learn is slow to load

    n = -(-len(features) // every)
    rows, _ = _on_axes(features, n, every, UMAP_DIMENSIONS, seed)
    found = MiniBatchKMeans(min(count, n), random_state=seed, n_init=3).fit_predict(rows.astype(np.float32))
    order = np.argsort(-np.bincount(found), kind="stable")
    return np.argsort(order).astype(np.int32)[found]


def _some(n: int, most: int, seed: int) -> np.ndarray:
    """The numbers of all rows, or of `most` of them, drawn by `seed`, in order."""
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def _on_axes(features: Any, n: int, every: int, dimensions: int, seed: int) -> tuple[np.ndarray, list[float]]:
    """The plain rows on their first principal axes, (n, dimensions), and the shares of the variance that these have."""
    from sklearn.utils.extmath import randomized_svd  # scikit-learn is slow to load

    sample = as_rows(features[_some(n, MOST_FITTED, seed) * every]).astype(np.float32)
    mean = sample.mean(0)
    sample -= mean
    count = min(dimensions, *sample.shape)
    _, values, axes = randomized_svd(sample, count, random_state=seed)
    points = np.zeros((n, dimensions), np.float32)
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        block = as_rows(features[start * every : stop * every : every]).astype(np.float32)
        points[start:stop, :count] = (block - mean) @ axes.T
    variance = float(np.square(sample, dtype=np.float64).sum()) or 1.0
    return points, [float(value) ** 2 / variance for value in values] + [0.0] * (dimensions - count)


def _axis_names(shares: list[float]) -> tuple[str, str]:
    first, second = (f"component {number}: {share:.0%} of the variance" for number, share in enumerate(shares[:2], 1))
    return first, second


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
    return points, _axis_names(shares)


def require_method(method: str) -> None:
    """Raise InvalidChoice when there is no such map, and MissingDependency when it lacks a package."""
    if method not in METHODS:
        raise unknown("there is no map by", method, METHODS)
    # Looked for and not imported, which takes seconds.
    if method == "umap" and (sys.modules["umap"] if "umap" in sys.modules else find_spec("umap")) is None:
        raise MissingDependency("maps by UMAP need the package umap-learn: pip install 'layertap[umap]'")


def _umap(rows: np.ndarray, seed: int) -> tuple[np.ndarray, tuple[str, str]]:
    if "umap" not in sys.modules:
        import_quietly("tensorflow")  # which umap-learn imports where it is installed, and which prints messages
    from umap import UMAP  # optional, and slow to load

    if len(rows) < FEWEST_FOR_UMAP:
        raise BadData(f"a map by UMAP needs at least {FEWEST_FOR_UMAP} images; received {len(rows)}: choose pca.")
    # A seed means one thread, which UMAP would warn of; and few rows have no spectrum to start from.
    start = "spectral" if len(rows) > 50 else "random"
    model = UMAP(n_neighbors=min(15, len(rows) - 1), init=start, random_state=seed, n_jobs=1)
    return model.fit_transform(rows), ("UMAP 1", "UMAP 2")
