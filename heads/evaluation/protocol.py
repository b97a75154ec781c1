"""Training: the protocol that judges a head, and the head that is kept at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

from heads.evaluation.cross_validation import NO_GRID, PLAIN, Evaluation, choose, evaluate
from heads.evaluation.tasks import task_of
from heads.evaluation.views import Views
from heads.registry import Head, make_head
from heads.splitting import splits
from heads.splitting.predefined import PredefinedSplit
from heads.splitting.splits import Split


@dataclass(frozen=True)
class Protocol:
    """How rows are split; of `cv`, `valid`, `per_class` and the held-out names of `predefined` one counts.

    Parameters
    ----------
    cv : int, optional
        Stratified folds.
    valid : float, optional
        Share that is held out.
    per_class : int, optional
        Labelled images of each class, drawn `draws` times; all others are held out.
    seed : int
    test : float, optional
        Share that is set aside before anything else, and scored once with the head that is kept.
    repeats : int
        Times that all folds are made, each time by another seed.
    predefined : PredefinedSplit, optional
        Splits that came with the data.
    """

    cv: int | None = None
    valid: float | None = None
    per_class: int | None = None
    draws: int = 20
    seed: int = 0
    test: float | None = None
    repeats: int = 1
    predefined: PredefinedSplit | None = None

    def divide(self, targets: np.ndarray, groups: np.ndarray) -> tuple[list[Split], np.ndarray, np.ndarray]:
        """The splits, the rows that they are made of, and the rows set aside for the test (`heads.splitting.splits`).

        Raises
        ------
        InvalidChoice, BadData
            When the rows cannot be split so.
        """
        labels = task_of(targets).strata(targets)
        rows, aside = np.arange(len(labels)), np.arange(0)
        if self.predefined is not None:
            rows, aside = self.predefined.rows()
            if self.predefined.names:
                return self.predefined.splits(), rows, aside
        elif self.test is not None:
            rows, aside = splits.hold_out(labels, groups, self.test, self.seed, parameter="test")
        made = self._splits(labels[rows], groups[rows])
        return [(rows[train], rows[held_out]) for train, held_out in made], rows, aside

    def splits(self, targets: np.ndarray, groups: np.ndarray) -> list[Split]:
        """The splits alone."""
        return self.divide(targets, groups)[0]

    def _splits(self, labels: np.ndarray, groups: np.ndarray) -> list[Split]:
        if self.cv is not None:
            seeds = range(self.seed, self.seed + self.repeats)
            return [split for seed in seeds for split in splits.k_fold(labels, groups, self.cv, seed)]
        if self.per_class is not None:
            return [splits.few_labels(labels, groups, self.per_class, self.seed + draw) for draw in range(self.draws)]
        return [splits.hold_out(labels, groups, 0.2 if self.valid is None else self.valid, self.seed)]

    def as_dict(self) -> dict[str, Any]:
        """What was chosen, for JSON."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        predefined = values.pop("predefined")
        if predefined is not None:
            values["given"] = predefined.column  # the name that runs have for it since version 0.1
        if self.repeats == 1:
            del values["repeats"]
        return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True)
class Trained:
    """A head fitted on all rows but those of the test, and how heads like it did on the splits.

    Attributes
    ----------
    features : str
        The candidate that it was fitted on.
    params : dict
        What was chosen of the grid.
    test : dict or None
        Scores on the rows set aside (see `heads.evaluation.metrics`), with ``fit_seconds`` and ``predict_seconds``.
    """

    head: Head
    features: str
    params: dict[str, Any]
    fit_seconds: float
    evaluation: Evaluation
    test: dict[str, Any] | None


def train(
    candidates: Mapping[str, Any],
    targets: np.ndarray,
    groups: np.ndarray,
    protocol: Protocol,
    name: str,
    params: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    views: Views = PLAIN,
    *,
    grid: Sequence[dict[str, Any]] = NO_GRID,
) -> Trained:
    """Judge the head called `name` by `protocol`, then fit it on all rows but those of the test.

    Parameters
    ----------
    candidates : mapping of str to array of shape (n * views.count, ...)
        Sets of features of the same images; every split, and the fit on all rows, chooses one by inner
        folds of its own training rows (see `heads.evaluation.cross_validation`).
    grid
        See `heads.evaluation.cross_validation.evaluate`; it adds to `params`.
    targets : ndarray of shape (n,) or (n, k)
        See `heads.evaluation.tasks`.
    groups : ndarray of shape (n,)
        See `heads.splitting.splits`.
    progress : callable, optional
        Called with the number of splits done and of all.
    """
    task = task_of(targets)

    def new_head(**chosen: Any) -> Head:
        return make_head(name, {**(params or {}), **chosen}, task.name)

    made, rows, aside = protocol.divide(targets, groups)
    evaluation = evaluate(
        candidates,
        targets,
        groups,
        made,
        new_head,
        seed=protocol.seed,
        views=views,
        grid=grid,
        progress=progress and (lambda done: progress(done, len(made))),
    )
    choice = choose(candidates, targets, groups, rows, new_head, protocol.seed, views, grid)
    features = candidates[choice.features]
    start = time.perf_counter()
    head = views.fit(new_head(**choice.params), features, targets, rows, groups)
    fitted = time.perf_counter() - start
    test = None
    if len(aside):
        start = time.perf_counter()
        outputs = views.outputs(head, features, aside)
        seconds = time.perf_counter() - start
        test = task.score(task.classes_of(head), targets[aside], outputs)
        test |= {"fit_seconds": fitted, "predict_seconds": seconds}
    return Trained(head, choice.features, choice.params, fitted, evaluation, test)


def learning_curve(
    features: Any,
    labels: np.ndarray,
    groups: np.ndarray,
    counts: Sequence[int],
    protocol: Protocol,
    name: str,
    params: dict[str, Any],
    views: Views = PLAIN,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Scores by the number of labelled images per class, each over the draws of `protocol`.

    Returns
    -------
    list of dict
        For each of `counts`: ``per_class`` and, as in `Evaluation.summary`, the scores of the images held out.
    """
    points: list[dict[str, Any]] = []
    for number, count in enumerate(counts):
        predefined = protocol.predefined and replace(protocol.predefined, names=())  # whose test rows stay set aside
        made = replace(protocol, cv=None, valid=None, per_class=count, predefined=predefined).splits(labels, groups)
        evaluation = evaluate(
            {name: features},
            labels,
            groups,
            made,
            lambda: make_head(name, params),
            views=views,
            progress=progress and partial(_shifted, progress, number * len(made), len(counts) * len(made)),
        )
        points.append({"per_class": count, **evaluation.summary()["valid"]})
    return points


def _shifted(progress: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    progress(before + done, total)
