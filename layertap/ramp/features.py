"""`BatchFeatures`: the features of the batches of images that a RAMP workflow passes to a classifier."""

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
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest, PrefixTokens


class BatchFeatures:
    """Cached features of batches of images, found by the images' pixels.

    An object of this class holds neither features nor a net, and can be pickled.

    Parameters
    ----------
    net : str
        One of ``layertap nets``, or the path of a file (see `Net`).
    layer : str or sequence of str, optional
        By default the net's readout; the features of several layers are flattened and joined.
    pool : {'avg', 'max', 'flatten', 'none', 'cls', 'cls+avg'}, optional
        How the spatial axes, or tokens, are pooled (see `layertap.extract`); by default as is customary for the net.
    prefix_tokens : int, optional
        How many tokens stand before those of the patches; by default what the net tells.
    size : (height, width), optional
        The size of the images; by default the net's own.
    weights : {'imagenet', 'none'} or path, optional
        By default ``imagenet``, or the weights in the net's file; ``none`` draws random ones by `seed`.
    preprocessing : {'none', 'unit', 'tf', 'torch', 'caffe'}, optional
        How pixels are scaled for the net; by default the net's own way.
    seed : int
        The seed of random weights.
    cache : path, optional
        The cache folder; by default ``$LAYERTAP_CACHE``, or ``./features``.

    Raises
    ------
    LayertapError
        When the net is not available, or a parameter has a value that is not allowed.

    Examples
    --------
    >>> features = BatchFeatures("glyphnet", "block4_pool", pool="avg", size=(32, 32), cache="features")
    >>> features.request.layers
    ('block4_pool',)
    >>> batch = np.zeros((2, 32, 32, 3), np.uint8)
    >>> features(batch).shape  # doctest: +SKIP
    (2, 256)
    """

    def __init__(
        self,
        net: str = "glyphnet",
        layer: str | Sequence[str] = (),
        *,
        pool: str | None = None,
        prefix_tokens: int | None = None,
        size: tuple[int, int] | None = None,
        weights: str | None = None,
        preprocessing: str | None = None,
        seed: int = 0,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        layers = (layer,) if isinstance(layer, str) else tuple(layer)
        tokens: PrefixTokens = "auto" if prefix_tokens is None else prefix_tokens
        request = FeatureRequest(Net(net, weights, seed, preprocessing), layers, pool, size, prefix_tokens=tokens)
        resolved, _ = request.resolve()
        self.request = replace(resolved, layers=tuple(spec.layer for spec in resolved.specs))
        self.cache = cache
        self._rows: BatchRows | None = None

    @property
    def rows(self) -> BatchRows:
        """The object that looks the rows up and computes them; one for all of the process that need the same."""
        if self._rows is None:
            self._rows = rows_for(self.request, as_cache(self.cache).root)
        return self._rows

    def at(self, layers: Sequence[str], pool: str) -> BatchFeatures:
        """The features of other layers of the same net; tokens are not told apart."""
        other = copy.copy(self)
        other.request = replace(self.request, layers=tuple(layers), pooling=pool, prefix_tokens=None)
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None}

    def of_epoch(
        self, batches: Iterable[tuple[Any, Any]], count: int
    ) -> tuple[Features | Joined, np.ndarray, np.ndarray]:
        """Features, targets and groups of the `count` images of an epoch (see `BatchRows.of_epoch`)."""
        return self.rows.of_epoch(batches, count)

    def __call__(self, X: Any) -> np.ndarray:
        """The features of a batch: shape (n, ...), float32 (see `BatchRows.of_batch`)."""
        return self.rows.of_batch(X)
