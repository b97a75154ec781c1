"""Predicting images with a run."""

from __future__ import annotations

import csv
import io
import itertools
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.cache import FeatureCache, as_cache
from feature_cache.errors import DamagedFile, InvalidChoice, LayertapError, one_line
from feature_cache.files.atomic import new_file
from feature_cache.joined import Joined
from heads.evaluation.tasks import outputs as outputs_of
from heads.validation import finite
from layertap.progress import ProgressBar, progress_bars
from layertap.report.page import table, text
from layertap.runs import Run, load_run
from layertap.workflows.extract import extract_features
from layertap.workflows.load_dataset import Source, load_dataset
from layertap.workflows.targets import CLASSES, MULTILABEL, REGRESSION
from transfer.data.datasets import BUILT_IN, Dataset, Unreadable, from_files, is_dataset
from transfer.extraction.feature_set import FeatureSet
from transfer.request import request_for

MOST_SHOWN = 10  # images that a notebook shows
THRESHOLD = 0.5  # the probability above which an image has a label
# What a row of predictions holds beside its id and its numbers, and what these are.
CONTENT = {
    CLASSES: ("class", "probabilities"),
    MULTILABEL: ("labels", "probabilities"),
    REGRESSION: ("", "numbers"),
}


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a run predicts of images.

    Attributes
    ----------
    task : {'classes', 'regression', 'multilabel'}
    ids : tuple of str
        The images that could be read.
    names : tuple of str
        The classes, the labels or the columns of the numbers: the names of the columns of `outputs`.
    outputs : ndarray of shape (n, k)
        Probabilities of the classes or labels, or the predicted numbers.
    skipped : tuple of Unreadable
        The images that were left out, with the reasons.
    notes : tuple of str
        Sentences about how images were decoded.
    """

    task: str
    ids: tuple[str, ...]
    names: tuple[str, ...]
    outputs: np.ndarray
    skipped: tuple[Unreadable, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"<Predictions of {len(self)} images: {CONTENT[self.task][1]} of {', '.join(self.names[:5])}>"

    def _repr_html_(self) -> str:
        head, *rows = self.rows(MOST_SHOWN)
        cells = ["".join(f"<td>{text(cell)}</td>" for cell in row) for row in rows]
        more = f"<p>The first {len(rows)} of {len(self)} images.</p>" if len(self) > len(rows) else ""
        return table(head, [f"<tr>{row}</tr>" for row in cells]) + more

    @property
    def probabilities(self) -> np.ndarray:
        """Probabilities of the classes or labels, shape (n, k).

        Raises
        ------
        InvalidChoice
            When the run predicts numbers.
        """
        if self.task == REGRESSION:
            raise InvalidChoice("this run predicts numbers, which have no probabilities; take `numbers`.")
        return self.outputs

    @property
    def numbers(self) -> np.ndarray:
        """The predicted numbers, shape (n, k).

        Raises
        ------
        InvalidChoice
            When the run predicts classes or labels.
        """
        if self.task != REGRESSION:
            raise InvalidChoice("this run predicts no numbers; take `probabilities`.")
        return self.outputs

    @property
    def classes(self) -> list[str]:
        """The most probable class of each image; empty for other tasks."""
        return [self.names[column] for column in self.outputs.argmax(1)] if self.task == CLASSES else []

    @property
    def labels(self) -> list[list[str]]:
        """The labels of each image that are more probable than not; empty for other tasks."""
        if self.task != MULTILABEL:
            return []
        return [[self.names[column] for column in member.nonzero()[0]] for member in self.outputs > THRESHOLD]

    def to_json(self) -> dict[str, Any]:
        """Predictions and skipped images as JSON can hold them."""
        key, values = CONTENT[self.task]
        chosen: Sequence[Any] = self.classes or self.labels or [None] * len(self)
        rows = [
            {"id": name, **({key: one} if key else {}), values: dict(zip(self.names, row.tolist(), strict=True))}
            for name, one, row in zip(self.ids, chosen, self.outputs, strict=True)
        ]
        return {"predictions": rows, "skipped": skipped_to_json(self.skipped)}

    def rows(self, most: int | None = None) -> list[list[str]]:
        """The cells of a table, headings first: the id, the class or the labels, and the numbers.

        Numbers have the fewest digits that give the same number again: the scores of the table are those of the
        predictions.

        Parameters
        ----------
        most : int, optional
            How many images are listed; by default all.
        """
        key = CONTENT[self.task][0]
        cells = [["id", *([key] if key else []), *self.names]]
        chosen = self.classes or [";".join(labels) for labels in self.labels] or [""] * len(self)
        for name, one, row in itertools.islice(zip(self.ids, chosen, self.outputs, strict=True), most):
            cells.append([name, *([one] if key else []), *map(str, row)])
        return cells

    def to_csv(self, file: str | Path) -> None:
        """Write the predictions as a CSV file, which appears whole or not at all.

        Raises
        ------
        StorageFailure
            When it cannot be written.
        """
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(self.rows())
        with new_file(Path(file), "the predictions", sync=False) as raw:
            raw.write(text.getvalue().encode("utf-8", "backslashreplace"))


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


def image_dataset(images: Source) -> Dataset:
    """A data set of `images`, which may be one already, or name one, or be image files.

    Raises
    ------
    InvalidChoice
        When one of the files does not exist.
    """
    if isinstance(images, Dataset):
        return images
    paths = [images] if isinstance(images, str | os.PathLike) else list(images)
    if names_dataset(paths):
        return load_dataset(paths[0])
    for path in map(Path, paths):
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise InvalidChoice(f"the image {str(path)!r} {what}; give image files, or one data set.")
    return from_files([Path(path) for path in paths])


def names_dataset(paths: Sequence[str | os.PathLike[str]]) -> bool:
    """Whether `paths` name a single data set, and not image files."""
    if len(paths) != 1:
        return False
    path = Path(paths[0])
    return path.is_dir() or str(paths[0]) in BUILT_IN or is_dataset(path)


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
        raise DamagedFile(f"the head of {run.folder} does not take features of {run.spec.folder}; train it again.")
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


def skipped_to_json(skipped: Sequence[Unreadable]) -> list[dict[str, str]]:
    """Images that were left out, as JSON can hold them."""
    return [{"id": image.id, "reason": image.reason} for image in skipped]
