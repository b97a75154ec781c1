"""What several workflows need: data sets, features from the cache, and progress bars."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from feature_cache.cache import FeatureCache
from feature_cache.errors import MissingFeatures
from layertap.workflows.load_dataset import Source, load_dataset
from transfer.data.datasets import Dataset
from transfer.extraction.extract import extract
from transfer.extraction.lookup import FeatureSet, stored_features

if TYPE_CHECKING:
    from transfer.extraction.request import FeatureRequest

ProgressBar = Callable[[str], AbstractContextManager[Callable[[int, int], None] | None]]


def no_progress(what: str) -> AbstractContextManager[None]:
    """A `ProgressBar` that shows nothing.

    Parameters
    ----------
    what : str
        What is counted, in the plural: ``images``.
    """
    return nullcontext()


def progress_bars(progress: bool | ProgressBar) -> ProgressBar:
    """What shows the progress of a workflow.

    Parameters
    ----------
    progress : bool or callable
        Whether bars are shown, or a callable that shows them: given what is counted, it returns a context manager that
        gives a callable of (done, total).
    """
    return no_progress if isinstance(progress, bool) else progress


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
        net = request.net if request.net.is_file else replace(request.net, weights="none")  # names need no weights
        with contextlib.suppress(ModuleNotFoundError):
            _ = replace(request, net=net).backbone
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
    with progress("images") as show:
        report = extract(dataset, request, cache, on_error=on_error, progress=show)
    return stored_features(dataset, request, cache, on_error=on_error), tuple(report.remarks)
