"""What heads share: the checks of features, of parameters and of targets that are numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from feature_cache.errors import BadData, InvalidChoice, LayertapError

ROWS = 256  # that are read at a time
EPS = np.finfo(np.float64).eps


def as_rows(X: Any) -> Any:
    """`X` as an array of rows: features of shape (n, height, width, channels) become (n, d)."""
    if not hasattr(X, "shape"):
        return X
    if len(X.shape) <= 2:
        return np.asarray(X) if hasattr(X, "batches") else X
    return np.asarray(X).reshape(X.shape[0], -1)


def require(right: bool, name: str, value: Any, allowed: str) -> None:
    """Raise InvalidChoice unless `right`: the parameter `name` has a `value` that is not `allowed`."""
    if not right:
        raise InvalidChoice(f"{name} should be {allowed}; received {value}.")


@contextlib.contextmanager
def finite(features: Any) -> Iterator[None]:
    """Where heads refuse `features` that are infinite or not numbers, say of which layer these are.

    Nothing is read unless a head raises a ValueError that is not one of ours.

    Parameters
    ----------
    features : Features, Joined or ndarray of shape (n, ...)

    Raises
    ------
    BadData
        In place of a ValueError, when some are.
    """
    try:
        yield
    except LayertapError:
        raise
    except ValueError as error:
        parts = [part for part in getattr(features, "parts", [features]) if np.dtype(part.dtype).kind == "f"]
        for part in parts:
            starts = range(0, len(part), ROWS)
            bad = sum(int((~np.isfinite(as_rows(part[start : start + ROWS])).all(1)).sum()) for start in starts)
            if bad:
                layer = f" of {part.space.spec.layer}" if hasattr(part, "space") else ""
                raise BadData(
                    f"the features{layer} are infinite or not numbers in {bad} of {len(part)} rows; read an earlier "
                    "layer with `layers`, or give the net the pixels that it expects with `preprocessing`."
                ) from error
        raise


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
    are_finite = np.isfinite(numbers).reshape(len(numbers), -1).all(1)
    if not are_finite.all():
        row = int(np.argmin(are_finite))
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
