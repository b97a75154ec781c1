"""What heads share: the shape of their input, and the check of their parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from feature_cache.errors import InvalidChoice


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
