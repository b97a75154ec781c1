"""What several workflows need: data sets, and features from the cache."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from feature_cache.cache import FeatureCache
from feature_cache.errors import MissingFeatures
from layertap.progress import ProgressBar
from layertap.workflows.extract import extract_features
from layertap.workflows.load_dataset import Source, load_dataset
from transfer.data.datasets import Dataset
from transfer.extraction.feature_set import FeatureSet
from transfer.extraction.lookup import stored_features

if TYPE_CHECKING:
    from transfer.extraction.request import FeatureRequest


def as_dataset(data: Source) -> Dataset:
    """`data`, or the data set that `layertap.load_dataset` makes of it."""
    return load_dataset(data)


def stored(dataset: Dataset, request: FeatureRequest, cache: FeatureCache, *, on_error: str) -> FeatureSet:
    """The features of `dataset` in `cache`.

    Raises
    ------
    InvalidChoice
        When features are missing because the net has no such layer.
    MissingFeatures
        When some are missing for another reason.
    """
    try:
        return stored_features(dataset, request, cache, on_error=on_error)
    except MissingFeatures:
        net = request.net.without_weights()
        with contextlib.suppress(ModuleNotFoundError):
            replace(request, net=net).build()
        raise


def extracted(
    dataset: Dataset,
    request: FeatureRequest,
    cache: FeatureCache,
    *,
    on_error: str,
    progress: ProgressBar,
) -> tuple[FeatureSet, tuple[str, ...]]:
    """The features of `dataset`, once those that `cache` lacks are computed, and notes on decoding the images."""
    features = extract_features(dataset, request, cache, on_error=on_error, progress=progress)
    return features, tuple(features.report.remarks) if features.report else ()
