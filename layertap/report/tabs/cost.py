"""What a run has cost: seconds and bytes, as far as they were recorded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from layertap.run_config import RunConfig
from layertap.units import size_text, time_text
from transfer.nets.catalogue import NET_FILE, WEIGHTS_FILE

# Files of a run by what they hold; the rest are scores, pictures and pages.
FILES = {
    "The fitted head": ("head.npz", "head.skops", "head.keras", "classes.npy"),
    "The tuned net": (NET_FILE, WEIGHTS_FILE),
}


def cost_rows(
    config: RunConfig, metrics: Mapping[str, Any], features: Any, folder: Path | None
) -> list[tuple[str, str]]:
    """Times and sizes in words, by what they are of.

    Parameters
    ----------
    metrics : mapping
        The content of ``metrics.json``.
    features : array of shape (n * views, ...)
        The features that the head reads.
    folder : Path, optional
        Of the run.
    """
    return [
        *_times(config, metrics, len(features) // (config.views.count if config.views else 1)),
        *_sizes(features, folder),
    ]


def _times(config: RunConfig, metrics: Mapping[str, Any], images: int) -> Iterator[tuple[str, str]]:
    seconds = metrics.get("extraction_seconds")
    if seconds is not None:
        each = f", {1000 * seconds / images:.2g} ms for each" if images else ""
        yield "Extracting the features", f"{time_text(seconds)} for {images:,} images{each}"
    folds: Sequence[Mapping[str, Any]] = metrics.get("folds", ())
    fits = _known(folds, "train", "fit_seconds")
    if fits:
        yield "Training on the splits", f"{time_text(sum(fits))} for {len(fits):,}"
    if isinstance(config.head.fit_seconds, float | int):
        what = "Fine-tuning the final net" if config.fine_tuned else "Training the final head"
        yield what, time_text(config.head.fit_seconds)
    judged = [*folds, {"valid": metrics.get("test") or {}}]
    predicts, counts = _known(judged, "valid", "predict_seconds"), _known(judged, "valid", "n")
    if predicts and sum(counts):
        yield "Predicting, once features are there", f"{1000 * sum(predicts) / sum(counts):.2g} ms for an image"


def _known(folds: Sequence[Mapping[str, Any]], part: str, name: str) -> list[float]:
    values = [fold.get(part, {}).get(name) for fold in folds]
    return [value for value in values if value is not None]


def _sizes(features: Any, folder: Path | None) -> Iterator[tuple[str, str]]:
    width = math.prod(features.shape[1:])
    shape = " x ".join(str(length) for length in features.shape[1:])
    size = len(features) * width * features.dtype.itemsize
    yield "Features in the cache", f"{size_text(size)}: {len(features):,} times {shape} numbers as {features.dtype}"
    for what, names in FILES.items():
        files = [folder / name for name in names] if folder else []
        sizes = [file.stat().st_size for file in files if file.is_file()]
        if sizes:
            yield what, size_text(sum(sizes))
