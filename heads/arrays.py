"""Shapes: what heads make of features that still have spatial axes."""

from __future__ import annotations

from typing import Any

import numpy as np


def as_rows(X: Any) -> Any:
    """`X` as an array of rows: features of shape (n, height, width, channels) become (n, d)."""
    if not hasattr(X, "shape"):
        return X
    if len(X.shape) <= 2:
        return np.asarray(X) if hasattr(X, "batches") else X
    return np.asarray(X).reshape(X.shape[0], -1)
