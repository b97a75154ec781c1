"""What heads share: the checks of features, of parameters and of targets that are numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from feature_cache.errors import BadData, InvalidChoice, LayertapError
from feature_cache.lazy_rows import LazyRows

ROWS = 256  # the rows that are read at a time
EPS = np.finfo(np.float64).eps


def as_rows(X: Any) -> Any:
    """`X` as an array of flat rows: features of shape (n, height, width, channels) become (n, d).

    Parameters
    ----------
    X : array of shape (n, ...)
        In memory or on disk. Anything else is returned as it is, for scikit-learn to check.

    Examples
    --------
    >>> as_rows(np.zeros((5, 2, 2, 3))).shape
    (5, 12)
    """
    if not hasattr(X, "shape"):
        return X
    if len(X.shape) <= 2:
        return np.asarray(X) if isinstance(X, LazyRows) else X
    return np.asarray(X).reshape(X.shape[0], -1)


def require(right: bool, name: str, value: Any, allowed: str) -> None:
    """Raise InvalidChoice unless `right`.

    Parameters
    ----------
    name, value
        The parameter of a head, and the value that was received.
    allowed : str
        What is allowed, as the end of a sentence: ``"at least 1"``.
    """
    if not right:
        raise InvalidChoice(f"{name} should be {allowed}; received {value}.")


@contextlib.contextmanager
def finite(features: Any) -> Iterator[None]:
    """A context in which the error of a head names the layer whose features are NaN or infinite.

    The features are only examined when a head raises a ValueError that is not one of ours.

    Parameters
    ----------
    features : Features, Joined or ndarray of shape (n, ...)
        The features that the head is given.

    Raises
    ------
    BadData
        In place of a ValueError, when some features are NaN or infinite.
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
    """Targets of a regression as float64, of shape (n,) or (n, k).

    Raises
    ------
    BadData
        When they are of another shape, or are not all finite numbers.
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
    """Targets of zero mean and unit variance, with the means and standard deviations that they had.

    A target that is constant, apart from rounding, is not divided, as in `StandardScaler`.

    Parameters
    ----------
    targets : ndarray of shape (n,) or (n, k), float64

    Returns
    -------
    targets : ndarray of shape (n,) or (n, k), float64
    mean, spread : ndarray of shape () or (k,), float64
        The spread of a constant target is 1.

    Raises
    ------
    BadData
        When the squares of the targets exceed the range of float64.

    Examples
    --------
    >>> [values.tolist() for values in standardised(np.array([1.0, 3.0]))]
    [[-1.0, 1.0], 2.0, 1.0]
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean, variance = np.asarray(targets.mean(0)), np.asarray(targets.var(0))
    if not np.isfinite(variance).all():
        raise BadData("targets should be smaller: their squares are too large for numbers.")
    constant = variance <= len(targets) * EPS * variance + (len(targets) * EPS * mean) ** 2
    spread = np.where(constant, 1.0, np.sqrt(variance))
    return (targets - mean) / spread, mean, spread


def _numbers(y: Any) -> np.ndarray:
    """`y` as float64."""
    try:
        values = np.asarray(y)
        if values.dtype.kind in "biufO":
            return np.asarray(values, np.float64)
        prefix = "Complex data not supported: " if values.dtype.kind == "c" else ""  # as scikit-learn says
    except (TypeError, ValueError):  # lists of several lengths, or objects that are no numbers
        prefix = ""
    raise BadData(f"{prefix}targets of a regression should be numbers; received something else.")
