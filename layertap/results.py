"""What evaluating, predicting and exporting return: plain objects, which a notebook shows."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import InvalidChoice
from feature_cache.files.atomic import new_file
from layertap.report.pages import fragment
from layertap.report.run_report import score_table
from layertap.shown_scores import ANOMALIES, CLASSES, HEADLINES, MULTILABEL, REGRESSION
from transfer.data.datasets import Unreadable

MOST_SHOWN = 10  # images that a notebook shows
THRESHOLD = 0.5  # the probability above which an image has a label
ANOMALOUS = 1.0  # the anomaly score above which an image is an anomaly
# What a row of predictions holds beside its id and its numbers, and what these are.
CONTENT = {
    CLASSES: ("class", "probabilities"),
    MULTILABEL: ("labels", "probabilities"),
    REGRESSION: ("", "numbers"),
    ANOMALIES: ("class", "scores"),
}


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The scores of a run on labelled images.

    Attributes
    ----------
    scores : dict
        See `heads.evaluation.metrics`; with ``fit_seconds`` and ``predict_seconds``.
    images : int
        How many images were scored.
    classes : tuple of dict
        The scores of each class or label (see `heads.evaluation.metrics.per_class`); empty for numbers.
    unknown : tuple of str
        Classes or labels of these images that the head does not know.
    skipped : tuple of Unreadable
        The images that were left out, with the reasons.
    notes, warnings : tuple of str
        Sentences about how the data was read, and about scores that are too good to be relied on.
    page : callable, optional
        What writes the page of the evaluation to a file (see `write_page`).
    """

    scores: dict[str, Any]
    images: int
    classes: tuple[dict[str, Any], ...] = ()
    unknown: tuple[str, ...] = ()
    skipped: tuple[Unreadable, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    page: Callable[[Path], None] | None = field(default=None, compare=False)

    def write_page(self, file: str | Path) -> None:
        """Write the page that a run has, of these images; it needs no file beside it, and no network.

        Raises
        ------
        InvalidChoice
            When the evaluation was not made by `layertap.evaluate`.
        StorageFailure
            When it cannot be written.
        """
        if self.page is None:
            raise InvalidChoice("this evaluation knows no images; take what layertap.evaluate returns.")
        self.page(Path(file))

    def __repr__(self) -> str:
        names = [name for names in HEADLINES.values() for name in names if name in self.scores]
        return f"<Evaluation on {self.images} images: {', '.join(f'{name} {self.scores[name]:.4f}' for name in names)}>"

    def _repr_html_(self) -> str:
        return score_table({"test": self.shown})

    @property
    def shown(self) -> dict[str, Any]:
        """The scores that people are shown: how long the head was trained is no matter of these images."""
        return {name: value for name, value in self.scores.items() if name != "fit_seconds"}


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a run predicts of images.

    Attributes
    ----------
    task : {'classes', 'regression', 'multilabel', 'anomalies'}
    ids : tuple of str
        The images that could be read.
    names : tuple of str
        The classes, the labels or the columns of the numbers: the names of the columns of `outputs`; for anomalies
        the normal class, and what others are called.
    outputs : ndarray of shape (n, k)
        Probabilities of the classes or labels, or the predicted numbers; or anomaly scores, of shape (n, 1).
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
        head, *rows = self.rows(MOST_SHOWN, rounded=True)
        more = f"The first {len(rows)} of {len(self)} images." if len(self) > len(rows) else ""
        return fragment("predictions.html", columns=head, rows=rows, more=more)

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
        if self.task == ANOMALIES:
            raise InvalidChoice("this run finds anomalies, which have no probabilities; take `scores`.")
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
    def scores(self) -> np.ndarray:
        """The anomaly scores, shape (n,): above 1 for anomalies.

        Raises
        ------
        InvalidChoice
            When the run finds no anomalies.
        """
        if self.task != ANOMALIES:
            raise InvalidChoice("this run finds no anomalies; take `outputs`.")
        return self.outputs[:, 0]

    @property
    def classes(self) -> list[str]:
        """The most probable class of each image, or whether it is normal; empty for other tasks."""
        if self.task == ANOMALIES:
            return [self.names[int(score > ANOMALOUS)] for score in self.scores]
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
            {"id": name, **({key: one} if key else {}), values: dict(zip(self._columns, row.tolist(), strict=True))}
            for name, one, row in zip(self.ids, chosen, self.outputs, strict=True)
        ]
        return {"predictions": rows, "skipped": skipped_to_json(self.skipped)}

    def rows(self, most: int | None = None, *, rounded: bool = False) -> list[list[str]]:
        """The cells of a table, headings first: the id, the class or the labels, and the numbers.

        Parameters
        ----------
        most : int, optional
            How many images are listed; by default all.
        rounded : bool
            Whether numbers are rounded for people. Otherwise they have the fewest digits that give the same number
            again: the scores of the table are those of the predictions.
        """
        form = "" if not rounded else ".6g" if self.task == REGRESSION else ".4f"
        key = CONTENT[self.task][0]
        cells = [["id", *([key] if key else []), *self._columns]]
        chosen = self.classes or [";".join(labels) for labels in self.labels] or [""] * len(self)
        for name, one, row in itertools.islice(zip(self.ids, chosen, self.outputs, strict=True), most):
            cells.append(
                [name, *([one] if key else []), *(format(value, form) if form else str(value) for value in row)]
            )
        return cells

    @property
    def _columns(self) -> tuple[str, ...]:
        """The names of the columns of `outputs`."""
        return ("score",) if self.task == ANOMALIES else self.names

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


@dataclass(frozen=True)
class Comparison:
    """The comparison of a model with its run.

    Attributes
    ----------
    images : int
        How many images the two were compared on.
    source : str
        Where these images came from: ``random images``, or ``images of`` a data set.
    difference : float
        The largest difference between the probabilities of the two (see `largest_difference`).
    """

    images: int
    source: str
    difference: float


@dataclass(frozen=True)
class Exported:
    """A model that was written and compared with its run.

    Attributes
    ----------
    files : tuple of Path
        The model first, then the files that belong to it, and last the description.
    description : dict
        The content of the description file: among others ``classes``, ``size``, the feature spec, ``difference`` and
        the digests of the other files.
    compared : Comparison
        How near the model is to the run.
    """

    files: tuple[Path, ...]
    description: dict[str, Any]
    compared: Comparison

    @property
    def model(self) -> Path:
        """The file or folder of the model."""
        return self.files[0]


def skipped_to_json(skipped: Sequence[Unreadable]) -> list[dict[str, str]]:
    """Images that were left out, as JSON can hold them."""
    return [{"id": image.id, "reason": image.reason} for image in skipped]
