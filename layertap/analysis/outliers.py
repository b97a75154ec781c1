"""Outliers: images that are far from their neighbours in feature space.

The distance to the k-th nearest neighbours is a customary score (S. Ramaswamy, R. Rastogi and K. Shim, "Efficient
Algorithms for Mining Outliers from Large Data Sets", SIGMOD 2000). The mean over all k is less a matter of one image,
and the bound is where a box plot draws outliers in the logarithm of the distances, whose distribution is lopsided.
"""

from __future__ import annotations

import numpy as np

FENCE = 3.0  # interquartile ranges above the upper quartile: Tukey's "far out"


def outlier_scores(distances: np.ndarray) -> np.ndarray:
    """How far out each image is, of shape (n,): above 1 it is an outlier.

    Parameters
    ----------
    distances : ndarray of shape (n, k)
        The distances to the k nearest other images.

    Examples
    --------
    >>> scores = outlier_scores(np.array([[1.0], [1.1], [1.2], [0.9], [9.0]]))
    >>> (scores > 1).tolist()
    [False, False, False, False, True]
    """
    mean = distances.mean(axis=1)
    positive = mean[mean > 0]
    if not len(positive):
        return np.zeros(len(mean))
    low, high = np.quantile(np.log(positive), [0.25, 0.75])
    return mean / np.exp(high + FENCE * (high - low))
