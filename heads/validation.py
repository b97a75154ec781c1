"""What heads share: the shape of their input, and the checks of it and of their parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from feature_cache.errors import BadData, InvalidChoice, LayertapError

ROWS = 256  # that are read at a time


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
                    "--layer, or give the net the pixels that it expects with --preprocessing."
                ) from error
        raise
