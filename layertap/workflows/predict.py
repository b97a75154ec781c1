"""Predicting images with a run, from features that `workflows.extract` takes from the cache or computes."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache, as_cache
from feature_cache.errors import DamagedFile, InvalidChoice, LayertapError, one_line
from feature_cache.files.atomic import check_free
from feature_cache.joined import Joined
from heads.evaluation.views import Views
from layertap.progress import ProgressBar, progress_bars
from layertap.report.heat_maps import OTHER, write_heat_maps
from layertap.results import Predictions
from layertap.runs import Run, load_run
from layertap.workflows.extract import extract_features
from layertap.workflows.load_dataset import Source, image_dataset
from layertap.workflows.training.targets import ANOMALIES, REGRESSION
from transfer.data.datasets import Dataset
from transfer.extraction.feature_set import FeatureSet
from transfer.request import request_for


def predict(
    run: Run | str | Path,
    images: Source,
    *,
    cache: FeatureCache | str | Path | None = None,
    on_error: str = "fail",
    heat_maps: str | Path | None = None,
    progress: bool | ProgressBar = True,
) -> Predictions:
    """Predict images, once the features that the cache lacks are computed.

    Parameters
    ----------
    run : Run, str or Path
        The run, or its folder.
    images : Dataset, or what `layertap.load_dataset` takes
        Image files, or one data set.
    cache : FeatureCache, str or Path, optional
        The cache, or its folder.
    on_error : {'fail', 'skip'}
        What to do about an unreadable image.
    heat_maps : str or Path, optional
        A new folder for a picture of each image that shows where it is anomalous, of a run that finds anomalies.
    progress : bool or callable
        See `layertap.progress.progress_bars`.

    Returns
    -------
    Predictions

    Raises
    ------
    InvalidChoice
        When there is no such image, or none that can be read; or when `heat_maps` exists already, or the run finds no
        anomalies.
    DamagedFile
        When the head of the run cannot be applied.

    Examples
    --------
    >>> import layertap as lt
    >>> features = lt.extract("digits", "glyphnet", layers=["block4_pool"], progress=False)
    >>> run = lt.train_head("digits", features, "ridge", cv=3, progress=False)
    >>> predictions = lt.predict(run, "digits", progress=False)
    >>> predictions.classes[:3], predictions.probabilities.shape
    (['0', '1', '2'], (1797, 10))
    """
    run = run if isinstance(run, Run) else load_run(run)
    if heat_maps is not None:
        _require_maps(run, Path(heat_maps))
    dataset = image_dataset(images)
    applied = apply_run(run, dataset, as_cache(cache), on_error, progress_bars(progress))
    features = applied.features
    if heat_maps is not None:
        write_heat_maps(Path(heat_maps), features.dataset, run.spec, partial(_heat, run, applied.rows))
    numbers = applied.outputs.reshape(len(features.dataset), -1)
    return Predictions(
        run.task.name, tuple(features.dataset.ids), run.targets, numbers, tuple(features.skipped), applied.notes
    )


def _require_maps(run: Run, folder: Path) -> None:
    """Raise InvalidChoice where the run has no heat maps, or they cannot be written to `folder`."""
    if run.task.name != ANOMALIES:
        raise InvalidChoice(
            "`heat_maps` show where images are anomalous, and this run finds no anomalies; leave it out, or train one "
            "with `head='patchcore'`."
        )
    check_free(folder, "heat maps", lambda _: False, overwrite=False, other=OTHER)


def _heat(run: Run, rows: Any, images: np.ndarray) -> np.ndarray:
    """Where the images at these positions are anomalous: shape (m, height, width), in pixels of the net's input."""
    head: Any = run.head
    every = run.views.count if run.views.average else 1  # the plain image is the first view
    heat: np.ndarray = head.anomaly_maps(rows[images * every], run.spec.size)
    return heat


@dataclass(frozen=True, eq=False)
class Applied:
    """The outputs of a run for images.

    Attributes
    ----------
    features : FeatureSet
        Of the images that can be read.
    outputs : ndarray
        See `heads.evaluation.views.Views.outputs`.
    rows : array of shape (n * views, ...)
        The features that the head reads.
    seconds : float
        How long it took to read the features and to apply the head.
    notes : tuple of str
        Sentences about how images were decoded.
    """

    features: FeatureSet
    outputs: np.ndarray
    rows: Any
    seconds: float
    notes: tuple[str, ...]


def apply_run(run: Run, dataset: Dataset, cache: FeatureCache, on_error: str, progress: ProgressBar) -> Applied:
    """Apply a run to `dataset`, once the features that `cache` lacks are computed by the spec that the run carries.

    Raises
    ------
    InvalidChoice
        When no image can be read.
    DamagedFile
        When the head cannot be applied to the features.
    """
    count = run.views.count if run.views.average else 1
    notes: tuple[str, ...] = ()
    feature_sets: list[FeatureSet] = []
    dataset = dataset.identify(cache)
    for (spec, _), net in zip(run.parts, run.nets, strict=True):
        request = request_for(spec, net, count)
        features = extract_features(dataset, request, cache, on_error=on_error, progress=progress)
        feature_sets.append(features)
        notes += tuple(features.report.remarks) if features.report else ()
    if not len(feature_sets[0].dataset):
        raise InvalidChoice(f"none of the {len(dataset)} images can be read.")
    parts = [each.features[spec.layer] for each, (spec, _) in zip(feature_sets, run.parts, strict=True)]
    rows = parts[0] if len(parts) == 1 else Joined(parts)
    outputs, seconds = _outputs(run, rows)
    return Applied(feature_sets[0], outputs, rows, seconds, notes)


def _outputs(run: Run, rows: Any) -> tuple[np.ndarray, float]:
    """The outputs of the head for images with these rows of features, and the seconds that reading and heads took."""
    width = math.prod(rows.shape[1:])
    if getattr(run.head, "n_features_in_", width) != width:
        raise DamagedFile(f"the head of {run.folder} does not take features of {run.spec.folder_name}; train it again.")
    views = Views(run.views.count if run.views.average else 1, run.views.average)
    images = np.arange(len(rows) // views.count)
    start = time.perf_counter()
    try:
        outputs = views.outputs(run.head, rows, images)
    except (LayertapError, MemoryError):
        raise
    except Exception as error:  # the head comes from a file, and may hold anything
        reason = one_line(error, with_type=True)
        raise DamagedFile(f"the head of {run.folder} cannot be applied ({reason}); train it again.") from error
    if run.task.name == REGRESSION and outputs.reshape(len(images), -1).shape[1] != len(run.task.columns):
        raise DamagedFile(f"the head of {run.folder} is of other columns than its config.json names; train it again.")
    return outputs, time.perf_counter() - start
