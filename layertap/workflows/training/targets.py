"""Targets: what a head learns to predict, as read from the labels or from the columns of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_cache.errors import BadData, InvalidChoice
from heads.registry import DETECTORS, TASKS
from transfer.data.columns import decimal_commas, label_sets, numbers
from transfer.data.datasets import Dataset, require_labels

CLASSES, REGRESSION, MULTILABEL, ANOMALIES = TASKS
NORMAL = "good"  # the class without defects, as the data sets of MVTec call it


@dataclass(frozen=True, eq=False)
class Targets:
    """The targets of a data set.

    Attributes
    ----------
    task : {'classes', 'regression', 'multilabel', 'anomalies'}
        See `heads.evaluation.tasks`.
    columns : tuple of str
        The columns of the table that the targets come from; empty for classes.
    values : ndarray
        Classes of shape (n,), str; numbers of shape (n,) or (n, k), float64; labels of shape (n, k), bool; or whether
        an image is an anomaly, of shape (n,), bool.
    names : tuple of str
        The names of the classes, of the numbers or of the labels; for anomalies the normal class alone.
    notes : tuple of str
        Sentences about what was read in another way than its owner may mean.
    """

    task: str
    columns: tuple[str, ...]
    values: np.ndarray
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def task_of_columns(regression: Sequence[str], multilabel: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The task, and its columns, by the two options that name columns.

    Raises
    ------
    InvalidChoice
        When both name some.

    Examples
    --------
    >>> task_of_columns(["width", "height"], [])
    ('regression', ('width', 'height'))
    """
    if regression and multilabel:
        raise InvalidChoice("a head predicts either numbers or labels; leave out `regression` or `multilabel`.")
    if regression:
        return REGRESSION, tuple(regression)
    return (MULTILABEL, tuple(multilabel)) if multilabel else (CLASSES, ())


def task_of_head(head: str | None, task: str, normal: str | None) -> str:
    """The task of a head by its name, where its options say `task`: a detector of anomalies has a task of its own.

    Raises
    ------
    InvalidChoice
        When the options are not those of the head.
    """
    if head not in DETECTORS:
        if normal is not None:
            raise InvalidChoice(
                f"`normal` is the class that {' or '.join(DETECTORS)} learns; name that head, or leave it out."
            )
        return task
    if task != CLASSES:
        raise InvalidChoice(f"the head {head!r} learns one class; leave out `{task}`.")
    return ANOMALIES


def require_classes(task: str, **options: Any) -> None:
    """Raise InvalidChoice where one of the `options`, which are about classes alone, is used for another task."""
    for name, value in options.items():
        if task != CLASSES and value:
            other = "a head that learns one class" if task == ANOMALIES else f"`{task}`"
            raise InvalidChoice(f"`{name}` is about classes; leave it out with {other}.")


def read_targets(
    dataset: Dataset, task: str = CLASSES, columns: Sequence[str] = (), *, least: int = 2, normal: str | None = None
) -> Targets:
    """What is to be predicted of each image.

    Parameters
    ----------
    dataset : Dataset
    task : {'classes', 'regression', 'multilabel', 'anomalies'}
    columns : sequence of str
        The columns that hold the numbers or the labels; unused for classes.
    least : int
        How many different values there have to be: 2 where something is to be learned, 1 where a head is scored.

    normal : str, optional
        The class whose images are no anomalies: `NORMAL` by default.

    Returns
    -------
    Targets

    Raises
    ------
    BadData, InvalidChoice
        When the data set has no such targets, or none that can be learned.

    Examples
    --------
    >>> from transfer.data.datasets import load
    >>> targets = read_targets(load("digits"))
    >>> targets.values.shape, targets.names[:3]
    ((1797,), ('0', '1', '2'))
    """
    columns = tuple(columns)
    if task == REGRESSION:
        values = numbers(dataset, list(columns))
        notes = tuple(
            f"the commas in the column {column!r} of {dataset.name} are read as points."
            for column in decimal_commas(dataset, list(columns))
        )
        _require_change(dataset, values, columns, least)
        return Targets(task, columns, values, columns, notes)
    if task == MULTILABEL:
        member, names = label_sets(dataset, list(columns))
        _require_change(dataset, member, names, least)
        return Targets(task, columns, member, names)
    if task == ANOMALIES:
        return _read_anomalies(dataset, NORMAL if normal is None else normal, least)
    labels = require_labels(dataset, least)
    return Targets(task, (), labels, tuple(np.unique(labels).tolist()))


def _read_anomalies(dataset: Dataset, normal: str, least: int) -> Targets:
    """Whether the class of each image is another than `normal`, which some image has where something is learned."""
    labels = require_labels(dataset, 1)
    if least > 1 and not (labels == normal).any():
        names = np.unique(labels)
        shown = ", ".join(names[:5].tolist()) + (", ..." if len(names) > 5 else "")
        raise BadData(
            f"{dataset.name} has no class {normal!r} to learn; name the class without defects by `normal`, one of: "
            f"{shown}."
        )
    return Targets(ANOMALIES, (), labels != normal, (normal,))


def _require_change(dataset: Dataset, values: np.ndarray, names: tuple[str, ...], least: int) -> None:
    """Raise BadData where a number is the same for all images, or where all labels are."""
    columns = zip(names, values.reshape(len(values), -1).T, strict=True)
    same = [name for name, column in columns if len(np.unique(column)) < least]
    if same and (values.dtype.kind == "f" or len(same) == len(names)):
        raise BadData(f"{dataset.name}: {', '.join(same[:3])} is the same for all images; there is nothing to learn.")
