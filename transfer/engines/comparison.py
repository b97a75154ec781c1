"""Comparing the features of two engines: what a lower precision of the computation may change."""

from __future__ import annotations

import numpy as np

from feature_cache.errors import InvalidChoice
from transfer.engines.base import Engine
from transfer.request import FeatureRequest

# What computing in less than float32 may change in a feature, as a share of the largest one.
TOLERANCE = 0.1


def require_like_float32(engine: Engine, exact: Engine, inputs: np.ndarray, request: FeatureRequest) -> None:
    """Raise InvalidChoice where an engine gives quite other features than one that computes in float32.

    Parameters
    ----------
    exact : Engine
        The one that computes in float32.
    inputs : ndarray of shape (n, ...)
        That both are given.
    """
    for expected, found in zip(exact.start(inputs)(), engine.start(inputs)(), strict=True):
        difference, scale = float(np.abs(expected - found).max(initial=0)), float(np.abs(expected).max(initial=0))
        if not difference <= TOLERANCE * scale:
            raise InvalidChoice(
                f"{request.net.name} in {request.precision} gives other features than in float32 (they differ by "
                f"{difference:.3g} and reach {scale:.3g}); use another `precision`."
            )
