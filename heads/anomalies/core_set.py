"""A core-set of points: few of them, such that every point is close to one, by greedy k-centre selection.

Each step adds the point that is furthest from all points chosen so far (Gonzalez, "Clustering to minimize the maximum
intercluster distance", 1985), on a random projection that keeps distances approximately (Johnson and Lindenstrauss
1984), as in algorithm 1 of Roth et al., "Towards total recall in industrial anomaly detection" (CVPR 2022).
"""

from __future__ import annotations

import numpy as np

PRUNED = 0.5  # with fewer candidates than this share of the points, gathering them costs less than measuring all


def core_set(points: np.ndarray, count: int, n_components: int, seed: int) -> np.ndarray:
    """Positions of the chosen points, in the order in which they were chosen.

    Parameters
    ----------
    points : ndarray of shape (n, d)
    count : int
        How many are chosen; fewer where all others equal a chosen one.
    n_components : int
        The dimensions of the random projection; points of no more dimensions are used as they are.
    seed : int
        Of the projection and of the first point.

    Returns
    -------
    ndarray of shape (m,), int64

    Examples
    --------
    >>> core_set(np.array([[0.0], [0.1], [5.0], [9.0], [9.1]]), 3, n_components=128, seed=0).tolist()
    [4, 0, 2]
    """
    random = np.random.default_rng(seed)
    points = points - points.mean(0)  # smaller squares, so that less is lost when they are subtracted
    if points.shape[1] > n_components:
        points = points @ random.standard_normal((points.shape[1], n_components), dtype=np.float64).astype(points.dtype)
    return _greedy_k_centre(points, min(count, len(points)), int(random.integers(len(points))))


def _greedy_k_centre(points: np.ndarray, count: int, first: int) -> np.ndarray:
    """`count` positions, from `first` on, each of which is furthest from those before it.

    A point whose centre is at least twice as far from the new centre as from the point cannot be nearer to the new one,
    by the triangle inequality, so its distance is not computed (Elkan, "Using the triangle inequality to accelerate
    k-means", 2003). The choice is the same.
    """
    squares = np.einsum("ij,ij->i", points, points)
    noise = np.finfo(points.dtype).eps * float(squares.max(initial=0)) * 4  # of a difference of squares
    nearest = np.full(len(points), np.inf, points.dtype)  # squared distances to the nearest centre
    owner = np.zeros(len(points), np.int64)  # the number of that centre
    centres = np.empty((count, points.shape[1]), points.dtype)
    chosen = np.empty(count, np.int64)
    furthest = first
    for number in range(count):
        if number and nearest[furthest] <= noise:
            return chosen[:number]
        chosen[number], centres[number] = furthest, points[furthest]
        centre, square = points[furthest], squares[furthest]
        to_centres = np.square(centres[: number + 1] - centre).sum(1)
        candidates = np.flatnonzero(to_centres[owner] < 4 * nearest + noise)
        if len(candidates) < PRUNED * len(points):
            distances = squares[candidates] - 2 * (points[candidates] @ centre) + square
        else:
            candidates = np.arange(len(points))
            distances = squares - 2 * (points @ centre) + square
        closer = distances < nearest[candidates]
        nearest[candidates[closer]] = distances[closer]
        owner[candidates[closer]] = number
        nearest[furthest] = 0
        furthest = int(nearest.argmax())
    return chosen
