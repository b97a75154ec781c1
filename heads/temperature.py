"""The temperature of a softmax that makes probabilities of logits: the one with the lowest log-loss.

Temperature scaling: Guo et al., "On calibration of modern neural networks", ICML 2017. The log-loss is convex in the
inverse of the temperature, the factor of the logits, so that Newton's method finds the optimum in a few steps; a
bracket keeps it from leaving for good where the loss is flat.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

MOST_STEPS = 60
TOLERANCE = 1e-6  # of the logarithm of the factor; a step of Newton as short as this is nearly exact
WIDEST = 10.0  # the largest logarithm of a factor, of logits whose root mean square is 1


def inverse_temperature(
    logits: np.ndarray,
    target: np.ndarray,
    *,
    mistakes_among_all: bool = False,
    bounds: tuple[float, float] | None = None,
) -> float:
    """The factor for `logits` with the lowest log-loss; 1 where they are all equal, or not finite.

    A mistake in 1 of n + 2 rows is expected even where there was none (Laplace's rule of succession): a few rows that
    are all predicted right are no proof of certainty, and would lead to the largest factor otherwise.

    Parameters
    ----------
    logits : ndarray of shape (n, n_classes)
    target : ndarray of shape (n,), int
        The column of each row's class.
    mistakes_among_all : bool
        Whether these mistakes are spread over all classes, the true one too. By default they are spread over the
        others: the true class has the probability (n + 1) / (n + 2), as in Platt, "Probabilistic outputs for support
        vector machines" (1999).
    bounds : (float, float), optional
        The smallest and the largest factor; by default exp(-10) and exp(10), for logits divided by their root mean
        square.

    Examples
    --------
    >>> certain, wrong = np.array([[0.0, 9.0], [9.0, 0.0], [0.0, 9.0]]), np.array([1, 0, 0])
    >>> bool(inverse_temperature(certain, np.array([1, 0, 1])) > inverse_temperature(certain, wrong))
    True
    """
    n, k = logits.shape
    logits = logits - logits.mean(1, keepdims=True)
    unit = float(np.sqrt(np.mean(logits**2)))
    if unit == 0 or not np.isfinite(unit):
        return 1.0
    error_rate = 1 / (n + 2)
    of_truth = 1 - error_rate if mistakes_among_all else 1 - error_rate - error_rate / (k - 1)
    # The mean logit by the expected probabilities; those of a row sum to 0.
    expected = of_truth * float(np.mean(logits[np.arange(n), target]))
    low, high = np.log(bounds) if bounds else np.array([-WIDEST, WIDEST]) - np.log(unit)
    if expected <= 0:  # no better than chance: the loss rises from the smallest factor on
        return float(np.exp(low))
    return float(np.exp(_minimum(logits, expected, low, high, min(max(-np.log(unit), low), high))))


def _minimum(logits: np.ndarray, expected: float, low: float, high: float, start: float) -> float:
    """The logarithm of the factor, from `low` to `high`, at which the mean logit by the softmax is as expected."""
    below = logits - logits.max(1, keepdims=True)  # nothing overflows, and no logarithm of 0 is taken
    expected -= float(np.mean(logits.max(1)))
    position = start
    for _ in range(MOST_STEPS):
        slope, curvature = _derivatives(below, expected, float(np.exp(position)))
        low, high = (low, position) if slope > 0 else (position, high)
        following = position - slope / curvature if curvature > 0 else np.inf
        if not low < following < high:
            following = (low + high) / 2
        if abs(following - position) < TOLERANCE:
            return following
        position = following
    return position


def _derivatives(below: np.ndarray, expected: float, factor: float) -> tuple[float, float]:
    """The slope of the log-loss in the factor, and the slope's own in the factor's logarithm."""
    shares = np.exp(factor * below)
    totals = shares.sum(1)
    shares *= below
    means = shares.sum(1) / totals
    shares *= below
    variances = shares.sum(1) / totals - means**2
    return float(np.mean(means)) - expected, factor * float(np.mean(variances))


def log_losses(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The log-loss of each row, at the best temperature of all.

    Parameters
    ----------
    logits : ndarray of shape (n, n_classes)
    target : ndarray of shape (n,), int
        The column of each row's class.

    Examples
    --------
    >>> log_losses(np.zeros((1, 2)), np.array([0])).round(3).tolist()
    [0.693]
    """
    logits = logits * inverse_temperature(logits, target)
    return np.asarray(logsumexp(logits, axis=1) - logits[np.arange(len(target)), target])
