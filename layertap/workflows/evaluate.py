"""Scoring a run on labelled images."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache, as_cache
from feature_cache.errors import LayertapError
from feature_cache.files.digest_list import digest_keys
from heads.evaluation.cross_validation import Evaluation as HeldOutScores
from heads.evaluation.metrics import per_class, per_kind, per_label, with_columns_of
from heads.evaluation.tasks import task_of
from layertap.analysis.projections import project
from layertap.held_out import HeldOut
from layertap.progress import ProgressBar, progress_bars
from layertap.report.mistakes import TrainingImages
from layertap.report.run_pictures import RunResults, write_page
from layertap.report.tabs.feature_map import FeatureMapPicture
from layertap.results import Evaluation
from layertap.runs import Run, load_run
from layertap.workflows.load_dataset import Source, load_again, load_dataset
from layertap.workflows.predict import Applied, apply_run
from layertap.workflows.training.copies import count_seen, identify
from layertap.workflows.training.targets import ANOMALIES, CLASSES, MULTILABEL, REGRESSION, read_targets
from transfer.data.datasets import Dataset
from transfer.extraction.lookup import stored_features
from transfer.request import request_for


def evaluate(
    run: Run | str | Path,
    data: Source,
    *,
    cache: FeatureCache | str | Path | None = None,
    on_error: str = "fail",
    progress: bool | ProgressBar = True,
) -> Evaluation:
    """Score a run on labelled images, once the features that the cache lacks are computed.

    Parameters
    ----------
    run : Run, str or Path
        The run, or its folder.
    data : Dataset, or what `layertap.load_dataset` takes
        Images, with the targets that the run predicts.
    cache : FeatureCache, str or Path, optional
        The cache, or its folder.
    on_error : {'fail', 'skip'}
        What to do about an unreadable image.
    progress : bool or callable
        See `layertap.progress.progress_bars`.

    Returns
    -------
    Evaluation

    Raises
    ------
    BadData, InvalidChoice
        When the images lack the targets, or none of them can be read.
    DamagedFile
        When the head of the run cannot be applied.

    Examples
    --------
    >>> import layertap as lt
    >>> features = lt.extract("digits", "glyphnet", layers=["block4_pool"], progress=False)
    >>> run = lt.train_head("digits", features, "ridge", cv=3, progress=False)
    >>> lt.evaluate(run, "digits", progress=False).scores["accuracy"] > 0.9
    True
    """
    run = run if isinstance(run, Run) else load_run(run)
    dataset, bars = load_dataset(data), progress_bars(progress)
    read_known_targets(dataset, run)  # a data set without targets shows before any work
    applied = apply_run(run, dataset, as_cache(cache), on_error, bars)
    features = applied.features
    truth, unknown, notes = read_known_targets(features.dataset, run)
    seen = run.trained_on
    known = count_seen(seen, identify(features, bars)) if seen else 0
    warnings: tuple[str, ...] = ()
    if known:
        warnings = (f"{run.folder} was trained on {known:,} of these {len(truth):,} images: their scores say little.",)
    task = task_of(truth)
    scores = {
        **task.score(task.classes_of(run.head), truth, applied.outputs),
        "fit_seconds": run.config.head.fit_seconds,
        "predict_seconds": applied.seconds,
    }
    return Evaluation(
        scores,
        len(truth),
        _scores_of_each(run, features.dataset, truth, applied.outputs),
        unknown,
        tuple(features.skipped),
        (*notes, *applied.notes),
        warnings,
        partial(_write_page, _Evaluated(run, applied, truth, unknown, scores, as_cache(cache)), warnings),
    )


@dataclass(frozen=True, eq=False)
class _Evaluated:
    """What the page of an evaluation is made of."""

    run: Run
    applied: Applied
    truth: np.ndarray
    unknown: tuple[str, ...]
    scores: dict[str, Any]
    cache: FeatureCache


def _write_page(made: _Evaluated, notes: Sequence[str], file: Path) -> None:
    """Write the page of an evaluation."""
    run, truth, outputs, features = made.run, made.truth, made.applied.outputs, made.applied.features
    task, names = task_of(truth), run.targets
    classes = task.classes_of(run.head)
    predicted = task.predicted(classes, outputs)
    if run.task.name == CLASSES and classes is not None:
        names = tuple(sorted({*classes.tolist(), *made.unknown}))
        outputs = with_columns_of(np.array(names), classes, outputs)
    of_images = HeldOutScores(truth=[truth], predicted=[predicted], rows=[np.arange(len(truth))], outputs=[outputs])
    views, mapped = len(made.applied.rows) // len(truth), None
    if run.task.name == CLASSES and features.dataset.labels is not None:
        mapped = FeatureMapPicture(project(made.applied.rows, every=views))
    results = RunResults(
        features.dataset.name,
        str(run.folder or run.config.head.name),
        features.dataset,
        truth,
        names[:1] if run.task.name == ANOMALIES else names,
        made.applied.rows,
        of_images,
        {"test": {name: value for name, value in made.scores.items() if name != "fit_seconds"}},
        run.config,
        run.head,
        mapped,
        features.digests,
        features.skipped,
        _training_images(run, made.cache) if run.task.name == CLASSES else None,
        "the head of the run",
        HeldOut(tuple(features.dataset.ids), features.digests, truth, names, outputs, np.zeros(len(truth), np.int32)),
    )
    write_page(file, results, run.folder, notes)


def _training_images(run: Run, cache: FeatureCache) -> TrainingImages | None:
    """The images that the head was trained on and their features, where both are still there: none are computed."""
    with contextlib.suppress(LayertapError, OSError):
        data = load_again((run.config.data or {}).get("options"))
        if data is None or len(run.parts) > 1:
            return None
        request = request_for(run.spec, run.nets[0])
        features = stored_features(data.identify(cache), request, cache, on_error="skip")
        known = run.trained_on
        seen = np.flatnonzero([key in known for key in digest_keys(features.digests)])
        if len(seen):
            rows = features.plain_rows(run.spec.layer).take(seen)
            return TrainingImages(features.dataset.select(seen), rows, features.digests[seen])
    return None


def _scores_of_each(run: Run, dataset: Dataset, truth: np.ndarray, outputs: np.ndarray) -> tuple[dict[str, Any], ...]:
    """The scores of each class or label; none for numbers."""
    task = task_of(truth)
    classes = task.classes_of(run.head)
    predicted = task.predicted(classes, outputs)
    if run.task.name == CLASSES and classes is not None:
        return tuple(per_class(classes, truth, predicted))
    if run.task.name == ANOMALIES and dataset.labels is not None:
        return tuple(per_kind(dataset.labels, truth, predicted))
    if run.task.name == MULTILABEL:
        return tuple(per_label(run.task.labels, truth, predicted))
    return ()


def read_known_targets(dataset: Dataset, run: Run) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """The targets of `dataset` as the run has them, the classes or labels that it does not know, and notes.

    Raises
    ------
    BadData, InvalidChoice
        When the data set has no such targets.
    """
    normal = run.task.labels[0] if run.task.name == ANOMALIES else None
    targets = read_targets(dataset, run.task.name, run.task.columns, least=1, normal=normal)
    if targets.task in (REGRESSION, ANOMALIES):
        return targets.values, (), targets.notes
    unknown = tuple(sorted(set(targets.names) - set(run.targets)))
    if targets.task == CLASSES:
        return targets.values, unknown, targets.notes
    columns = dict(zip(targets.names, targets.values.T, strict=True))
    none = np.zeros(len(dataset), bool)
    member = np.stack([columns.get(label, none) for label in run.task.labels], axis=1)
    return member, unknown, targets.notes
