"""What workflows take in several forms: data sets, caches, features and progress bars."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from feature_cache.cache import FeatureCache
from feature_cache.errors import MissingFeatures
from transfer.data.datasets import Dataset, load
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


def as_dataset(data: Dataset | str | Path) -> Dataset:
    """`data`, or the data set that it names (see `transfer.data.datasets.load`)."""
    return data if isinstance(data, Dataset) else load(str(data))


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
