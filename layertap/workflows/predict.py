"""Predicting images with a run."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache, as_cache
from feature_cache.errors import DamagedFile, InvalidChoice, LayertapError, one_line
from feature_cache.joined import Joined
from heads.evaluation.tasks import outputs as outputs_of
from heads.validation import finite
from layertap.progress import ProgressBar, progress_bars
from layertap.results import Predictions
from layertap.runs import Run, load_run
from layertap.workflows.extract import extract_features
from layertap.workflows.load_dataset import Source, image_dataset
from layertap.workflows.training.targets import REGRESSION
from transfer.data.datasets import Dataset
from transfer.extraction.feature_set import FeatureSet
from transfer.request import request_for


def predict(
    run: Run | str | Path,
    images: Source,
    *,
    cache: FeatureCache | str | Path | None = None,
    on_error: str = "fail",
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
    progress : bool or callable
        See `layertap.progress.progress_bars`.

    Returns
    -------
    Predictions

    Raises
    ------
    InvalidChoice
        When there is no such image, or none that can be read.
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
    dataset = image_dataset(images)
    applied = apply_run(run, dataset, as_cache(cache), on_error, progress_bars(progress))
    features = applied.features
    numbers = applied.outputs.reshape(len(features.dataset), -1)
    return Predictions(
        run.task.name, features.dataset.ids, run.targets, numbers, tuple(features.skipped), applied.notes
    )


@dataclass(frozen=True, eq=False)
class Applied:
    """The outputs of a run for images.

    Attributes
    ----------
    features : FeatureSet
        Of the images that can be read.
    outputs : ndarray
        See `heads.evaluation.views.Views.outputs`.
    seconds : float
        How long the head took.
    notes : tuple of str
        Sentences about how images were decoded.
    """

    features: FeatureSet
    outputs: np.ndarray
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
    outputs, seconds = _outputs(run, parts[0] if len(parts) == 1 else Joined(parts))
    return Applied(feature_sets[0], outputs, seconds, notes)


def _outputs(run: Run, rows: Any) -> tuple[np.ndarray, float]:
    """The outputs of the head for these rows of features, and the seconds that it took."""
    width = math.prod(rows.shape[1:])
    if getattr(run.head, "n_features_in_", width) != width:
        raise DamagedFile(f"the head of {run.folder} does not take features of {run.spec.folder_name}; train it again.")
    features = rows[:]
    start = time.perf_counter()
    try:
        with finite(rows):
            outputs = outputs_of(run.head, features)
    except (LayertapError, MemoryError):
        raise
    except Exception as error:  # the head comes from a file, and may hold anything
        reason = one_line(error, with_type=True)
        raise DamagedFile(f"the head of {run.folder} cannot be applied ({reason}); train it again.") from error
    if run.task.name == REGRESSION and outputs.reshape(len(features), -1).shape[1] != len(run.task.columns):
        raise DamagedFile(f"the head of {run.folder} is of other columns than its config.json names; train it again.")
    if run.views.average:
        outputs = run.views.mean(outputs)
    return outputs, time.perf_counter() - start
