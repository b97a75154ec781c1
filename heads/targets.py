"""Targets that are numbers: how they are checked, and brought to zero mean and unit variance."""

from __future__ import annotations

from typing import Any

import numpy as np

from feature_cache.errors import BadData

EPS = np.finfo(np.float64).eps


def as_targets(y: Any) -> np.ndarray:
    """Targets of shape (n,) or (n, k) as float64.

    Raises
    ------
    BadData
        When they are of another shape, or not all finite numbers.
    """
    numbers = _numbers(y)
    if numbers.ndim not in (1, 2) or numbers.shape[-1] == 0:
        raise BadData(f"targets should be of shape (n,) or (n, k), with at least 1 of each; received {numbers.shape}.")
    finite = np.isfinite(numbers).reshape(len(numbers), -1).all(1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise BadData(f"targets should be finite; that of row {row} is {numbers[row]}.")
    return numbers


def standardised(targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets of zero mean and unit variance, their means and their standard deviations.

    A target that is constant but for rounding has the deviation 1, as `StandardScaler` has it.

    Parameters
    ----------
    targets : ndarray of shape (n,) or (n, k), float64

    Returns
    -------
    targets, mean, spread : ndarray of the same shape, and of shape () or (k,) twice; float64

    Raises
    ------
    BadData
        When they are too large for their squares.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean, variance = np.asarray(targets.mean(0)), np.asarray(targets.var(0))
    if not np.isfinite(variance).all():
        raise BadData("targets should be smaller: their squares are too large for numbers.")
    constant = variance <= len(targets) * EPS * variance + (len(targets) * EPS * mean) ** 2
    spread = np.where(constant, 1.0, np.sqrt(variance))
    return (targets - mean) / spread, mean, spread


def _numbers(y: Any) -> np.ndarray:
    try:
        given = np.asarray(y)
        if given.dtype.kind in "biufO":
            return np.asarray(given, np.float64)
        what = "Complex data not supported: " if given.dtype.kind == "c" else ""
    except (TypeError, ValueError):  # lists of several lengths, or objects that are no numbers
        what = ""
    raise BadData(f"{what}targets of a regression should be numbers; received something else.")
