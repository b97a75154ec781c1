"""`BatchFeatures`: the features of what a RAMP workflow hands to a classifier, for the heads of its submission."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from feature_cache.cache import as_cache
from feature_cache.features import Features
from feature_cache.joined import Joined
from layertap.ramp.batch_rows import BatchRows, rows_for
from transfer.extraction.request import FeatureRequest
from transfer.nets.catalogue import Net


class BatchFeatures:
    """Cached features of batches of images, found by the images' pixels.

    It holds no features and no net, and can be pickled.

    Parameters
    ----------
    net : str
        One of ``layertap nets``, or the path of a ``.keras`` file.
    layer : str or sequence of str, optional
        By default the net's readout; the features of several are flattened and put side by side.
    pool : {'avg', 'max', 'flatten', 'none'}, optional
        What is done to the spatial axes; by default what is customary for the net.
    size : (height, width), optional
        Of the images; by default the net's own.
    weights : {'imagenet', 'none'} or path, optional
        By default ``imagenet``, or the net's own; ``none`` are random ones, by `seed`.
    preprocessing : {'none', 'unit', 'tf', 'torch', 'caffe'}, optional
        What the net expects pixels to become; by default the net's own.
    seed : int
        Of random weights.
    cache : path, optional
        The cache folder; by default ``$LAYERTAP_CACHE``, or ``./features``.

    Raises
    ------
    LayertapError
        When the net is not to be had, or a parameter has a value that is not allowed.
    """

    def __init__(
        self,
        net: str = "glyphnet",
        layer: str | Sequence[str] = (),
        *,
        pool: str | None = None,
        size: tuple[int, int] | None = None,
        weights: str | None = None,
        preprocessing: str | None = None,
        seed: int = 0,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        layers = (layer,) if isinstance(layer, str) else tuple(layer)
        request = FeatureRequest(Net(net, weights, seed, preprocessing), layers, pool, size)
        self.request = replace(request, layers=tuple(spec.layer for spec in request.specs))
        self.cache = cache
        self._rows: BatchRows | None = None

    @property
    def rows(self) -> BatchRows:
        """What finds and computes them, shared by all of this process who want the same."""
        if self._rows is None:
            self._rows = rows_for(self.request, as_cache(self.cache).root)
        return self._rows

    def at(self, layers: Sequence[str], pool: str) -> BatchFeatures:
        """The features of other layers of the same net."""
        other = copy.copy(self)
        other.request = replace(self.request, layers=tuple(layers), pooling=pool)
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None}

    def of_epoch(
        self, batches: Iterable[tuple[Any, Any]], count: int
    ) -> tuple[Features | Joined, np.ndarray, np.ndarray]:
        """Features, targets and contents of the `count` images of an epoch (see `BatchRows.of_epoch`)."""
        return self.rows.of_epoch(batches, count)

    def __call__(self, X: Any) -> np.ndarray:
        """The features of a batch: shape (n, ...), float32 (see `BatchRows.of_batch`)."""
        return self.rows.of_batch(X)
