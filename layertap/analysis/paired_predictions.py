"""Two classifiers on the same images: how often they agree, and whether one is better by more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, chi2, norm

from feature_cache.errors import BadData

MOST_EXACT = 10_000  # images on which the two differ, for the exact test


@dataclass(frozen=True, eq=False)
class PairedComparison:
    """What two classifiers predict of the same images.

    Attributes
    ----------
    images : int
    accuracy : (float, float)
    difference : float
        The second accuracy minus the first.
    interval : (float, float)
        The 95 % confidence interval of the difference of paired proportions (Wald; Agresti 2013, section 11.1.1).
    agreement : float
        The share of images of which both predict the same class.
    kappa : float
        Cohen's kappa of the predictions (1960): the agreement beyond what the frequencies of classes give by chance.
    only_first, only_second : ndarray of int64
        Positions of the images that only the first, or only the second, predicts correctly.
    p_value : float
        Of McNemar's test (1947) that both are as accurate; two-sided, exact by the binomial distribution.
    """

    images: int
    accuracy: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    agreement: float
    kappa: float
    only_first: np.ndarray
    only_second: np.ndarray
    p_value: float

    def sentence(self, first: str, second: str) -> str:
        """What the test says of two classifiers of these names, in a sentence."""
        if self.p_value >= 0.05:
            return f"The difference may be chance: McNemar's test gives p = {self.p_value:.2g}."
        better = second if self.difference > 0 else first
        return f"{better} is better by more than chance explains: McNemar's test gives p = {self.p_value:.2g}."


def compare_predictions(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> PairedComparison:
    """Compare the predictions of two classifiers of the same images.

    Parameters
    ----------
    truth, first, second : ndarray of shape (n,)
        True and predicted classes.

    Raises
    ------
    BadData
        When there is no image, or the lengths differ.

    Examples
    --------
    >>> truth = np.array(["a"] * 10)
    >>> found = compare_predictions(truth, np.array(["a"] * 4 + ["b"] * 6), truth)
    >>> found.p_value, found.only_second.tolist()
    (0.03125, [4, 5, 6, 7, 8, 9])
    """
    if not len(truth) == len(first) == len(second) or not len(truth):
        raise BadData(f"predictions of the same images are compared; received {len(first)} and {len(second)}.")
    right, right_too = first == truth, second == truth
    only_first, only_second = np.flatnonzero(right & ~right_too), np.flatnonzero(~right & right_too)
    n, b, c = len(truth), len(only_first), len(only_second)
    difference = (c - b) / n
    error = float(norm.ppf(0.975)) * np.sqrt(max(0.0, (b + c) / n - difference**2) / n)
    return PairedComparison(
        n,
        (float(right.mean()), float(right_too.mean())),
        difference,
        (float(difference - error), float(difference + error)),
        float((first == second).mean()),
        cohen_kappa(first, second),
        only_first,
        only_second,
        mcnemar(b, c),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, corrected for their number by Holm's method (1979); they are at most 1.

    Examples
    --------
    >>> [round(p_value, 4) for p_value in holm([0.04, 0.01, 0.5])]
    [0.08, 0.03, 0.5]
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return [float(p_value) for p_value in corrected]


def mcnemar(b: int, c: int) -> float:
    """The two-sided p-value of McNemar's test, for `b` and `c` images that only one of two classifiers gets right.

    It is exact; of more than 10,000 such images, chi-squared with a correction for continuity (Edwards 1948).

    Examples
    --------
    >>> mcnemar(0, 6)
    0.03125
    """
    if b + c == 0:
        return 1.0
    if b + c <= MOST_EXACT:
        return float(binomtest(b, b + c).pvalue)
    return float(chi2.sf((abs(b - c) - 1) ** 2 / (b + c), 1))


def cohen_kappa(first: np.ndarray, second: np.ndarray) -> float:
    """Cohen's kappa of two series of classes; 1 where both are one and the same class throughout.

    Examples
    --------
    >>> cohen_kappa(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    0.5
    """
    names, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    counts = [np.bincount(half, minlength=len(names)) / len(first) for half in np.split(codes, 2)]
    chance, agreed = float(counts[0] @ counts[1]), float((first == second).mean())
    return 1.0 if chance == 1 else (agreed - chance) / (1 - chance)
