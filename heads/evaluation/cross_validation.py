"""Evaluation: fit a head on each split's training rows and score it on the rows held out.

Where several sets of features are offered (layers, say), or several values of parameters, each split chooses among
them by inner folds of its own training rows; the rows held out play no part in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from heads.evaluation.metrics import bagged, mean_and_deviation
from heads.evaluation.tasks import task_of
from heads.evaluation.views import Views
from heads.registry import Head
from heads.splitting.splits import Split, inner_folds

NewHead = Callable[..., Head]
PLAIN = Views()
NO_GRID: tuple[dict[str, Any], ...] = ({},)


@dataclass(frozen=True)
class Choice:
    """What inner folds have chosen: a set of features by its name, and parameters of the head."""

    features: str
    params: dict[str, Any]


@dataclass
class Evaluation:
    """Scores of a head over splits, and its predictions on the rows held out.

    Attributes
    ----------
    folds : list of dict
        For each split: ``features``, which set was chosen, ``params``, which parameters of a grid, and for
        ``train`` and ``valid`` the scores of `heads.evaluation.metrics` with ``fit_seconds`` and ``predict_seconds``.
    truth, predicted : list of ndarray
        For each split: the targets of the rows held out, and what was predicted.
    rows, outputs : list of ndarray
        For each split: the positions of the rows held out, and their probabilities, a column for each class, or the
        numbers that were predicted.
    """

    folds: list[dict[str, Any]] = field(default_factory=list)
    truth: list[np.ndarray] = field(default_factory=list)
    predicted: list[np.ndarray] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    outputs: list[np.ndarray] = field(default_factory=list)

    def summary(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """Mean and standard deviation over the splits of every score, for ``train`` and ``valid``.

        A score that some splits do not define is that of the others; where none does, both are None.
        """
        return {
            part: {
                name: mean_and_deviation([fold[part].get(name) for fold in self.folds])
                for name in dict.fromkeys(name for fold in self.folds for name in fold[part])
            }
            for part in ("train", "valid")
        }

    def bagged(self, targets: np.ndarray) -> list[dict[str, Any]]:
        """Scores after 1, 2, ... splits of the mean of what they predict (see `heads.evaluation.metrics.bagged`)."""
        task = task_of(targets)
        return bagged(
            targets, zip(self.rows, self.outputs, strict=True), partial(task.score, task.all_classes(targets))
        )

    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Truth and predictions of all rows held out, split after split."""
        return np.concatenate(self.truth), np.concatenate(self.predicted)


def evaluate(
    candidates: Mapping[str, Any],
    targets: np.ndarray,
    groups: np.ndarray,
    splits: Iterable[Split],
    new_head: NewHead,
    *,
    seed: int = 0,
    views: Views = PLAIN,
    grid: Sequence[dict[str, Any]] = NO_GRID,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score the head on every split.

    Parameters
    ----------
    candidates : mapping of str to array of shape (n * views.count, ...)
        Sets of features of the same images. With more than one, each split chooses.
    targets : ndarray of shape (n,) or (n, k)
        See `heads.evaluation.tasks`.
    groups : ndarray of shape (n,)
        See `heads.splitting.splits`.
    new_head : callable
        Gives a head that has not been fitted, by the parameters of the grid.
    grid : sequence of dict
        Parameters; with more than one, each split chooses.
    progress : callable, optional
        Called with the number of splits done.
    """
    evaluation = Evaluation()
    task = task_of(targets)
    for number, (train, held_out) in enumerate(splits, 1):
        choice = choose(candidates, targets, groups, train, new_head, seed, views, grid)
        features = candidates[choice.features]
        fitting = partial(views.fit, new_head(**choice.params), features, targets, train, groups)
        head, fit_seconds = _timed(fitting)
        fold: dict[str, Any] = {"features": choice.features, "params": choice.params}
        for part, rows in (("train", train), ("valid", held_out)):
            outputs, predict_seconds = _timed(partial(views.outputs, head, features, rows))
            fold[part] = {
                **task.score(task.classes_of(head), targets[rows], outputs),
                "fit_seconds": fit_seconds,
                "predict_seconds": predict_seconds,
            }
        evaluation.folds.append(fold)
        evaluation.truth.append(targets[held_out])
        evaluation.predicted.append(task.predicted(task.classes_of(head), outputs))
        evaluation.rows.append(held_out)
        evaluation.outputs.append(task.whole(targets, task.classes_of(head), outputs))
        if progress:
            progress(number)
    return evaluation


def choose(
    candidates: Mapping[str, Any],
    targets: np.ndarray,
    groups: np.ndarray,
    rows: np.ndarray,
    new_head: NewHead,
    seed: int = 0,
    views: Views = PLAIN,
    grid: Sequence[dict[str, Any]] = NO_GRID,
) -> Choice:
    """The candidate whose head is the best over inner folds of `rows` (see `heads.evaluation.tasks.Task.quality`)."""
    choices = [Choice(name, params) for name in candidates for params in grid]
    if len(choices) == 1:
        return choices[0]
    task = task_of(targets)
    folds = [
        (rows[train], rows[held_out]) for train, held_out in inner_folds(task.strata(targets[rows]), groups[rows], seed)
    ]

    def quality(choice: Choice) -> tuple[float, float]:
        features = candidates[choice.features]
        scores = []
        for train, held_out in folds:
            head = views.fit(new_head(**choice.params), features, targets, train, groups)
            said = views.outputs(head, features, held_out)
            scores.append(task.score(task.classes_of(head), targets[held_out], said))
        return task.quality(scores)

    return max(choices, key=quality)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start
