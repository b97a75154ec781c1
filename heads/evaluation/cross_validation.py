"""Cross-validation: a head is fitted to the training rows of each split and scored on the rows that are held out.

Where there are several sets of features, such as layers, or several values of parameters, each split chooses among them
by inner folds of its own training rows; the held-out rows play no part in the choice.
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
    """The choice of inner folds: a set of features by its name, and parameters of the head."""

    features: str
    params: dict[str, Any]


@dataclass
class Evaluation:
    """The scores of a head on splits, and its predictions for the rows that were held out.

    Attributes
    ----------
    folds : list of dict
        For each split: ``features``, the chosen set; ``params``, the chosen parameters of a grid; and ``train`` and
        ``valid``, the scores of `heads.evaluation.metrics` with ``fit_seconds`` and ``predict_seconds``.
    truth, predicted : list of ndarray
        For each split: the targets of the held-out rows, and the predicted targets.
    rows, outputs : list of ndarray
        For each split: the positions of the held-out rows, and their probabilities, with a column for each class, or
        the numbers that were predicted.
    trained : list of ndarray
        For each split: the positions of the rows that its head was trained on.
    """

    folds: list[dict[str, Any]] = field(default_factory=list)
    truth: list[np.ndarray] = field(default_factory=list)
    predicted: list[np.ndarray] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    outputs: list[np.ndarray] = field(default_factory=list)
    trained: list[np.ndarray] = field(default_factory=list)

    def summary(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """The mean and the standard deviation of every score over the splits, for ``train`` and ``valid``.

        Splits that do not define a score are left out; where no split does, both are None.
        """
        return {
            part: {
                name: mean_and_deviation([fold[part].get(name) for fold in self.folds])
                for name in dict.fromkeys(name for fold in self.folds for name in fold[part])
            }
            for part in ("train", "valid")
        }

    def bagged(self, targets: np.ndarray) -> list[dict[str, Any]]:
        """The scores of the mean predictions of the first 1, 2, ... splits (see `heads.evaluation.metrics.bagged`)."""
        task = task_of(targets)
        return bagged(
            targets, zip(self.rows, self.outputs, strict=True), partial(task.score, task.all_classes(targets))
        )

    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """The targets and the predicted targets of all held-out rows, split after split."""
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
        Sets of features of the same images, by name. If there are several, each split chooses one.
    targets : ndarray of shape (n,) or (n, k)
        The targets (see `heads.evaluation.tasks`).
    groups : ndarray of shape (n,)
        Equal for images that stay together (see `heads.splitting.splits`).
    splits : iterable of (train, held_out)
        Positions of images.
    new_head : callable
        Returns a head that is not fitted, given parameters of the grid.
    seed : int
        The seed of the inner folds.
    views : Views
        How the views of images are used.
    grid : sequence of dict
        Parameters of the head. If there are several, each split chooses one.
    progress : callable, optional
        Called with the number of splits that are done.

    Examples
    --------
    >>> from heads import make_head
    >>> X, y = np.arange(8.0)[:, None], np.repeat(["low", "high"], 4)
    >>> splits = [(np.array([0, 1, 2, 5, 6, 7]), np.array([3, 4]))]
    >>> result = evaluate({"pixels": X}, y, np.arange(8), splits, lambda: make_head("ridge"))
    >>> result.summary()["valid"]["accuracy"]
    {'mean': 1.0, 'std': 0.0}
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
        evaluation.trained.append(train)
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
    """The candidate with the best head on inner folds of `rows` (see `heads.evaluation.tasks.Task.quality`).

    Parameters
    ----------
    rows : ndarray of shape (m,), int
        The positions of the training images.
    candidates, targets, groups, new_head, seed, views, grid
        See `evaluate`.
    """
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
            outputs = views.outputs(head, features, held_out)
            scores.append(task.score(task.classes_of(head), targets[held_out], outputs))
        return task.quality(scores)

    return max(choices, key=quality)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result of `work`, and the seconds that it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start
