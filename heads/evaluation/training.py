"""Training: a head is scored on the splits of a protocol, then fitted to all rows but those of the test."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from heads.evaluation.cross_validation import NO_GRID, PLAIN, Evaluation, choose, evaluate
from heads.evaluation.protocol import Protocol
from heads.evaluation.tasks import task_of
from heads.evaluation.views import Views
from heads.registry import Head, make_head


@dataclass(frozen=True)
class Trained:
    """A head that is fitted to all rows but the test rows, and the scores of such heads on the splits.

    Attributes
    ----------
    head : Head
    features : str
        The name of the set of features that the head was fitted to.
    params : dict
        The parameters that were chosen from the grid.
    fit_seconds : float
    evaluation : Evaluation
        The scores on the splits.
    test : dict or None
        The scores on the test rows (see `heads.evaluation.metrics`), with ``fit_seconds`` and ``predict_seconds``.
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
    """Score the head called `name` on the splits of `protocol`, then fit it to all rows but the test rows.

    Parameters
    ----------
    candidates : mapping of str to array of shape (n * views.count, ...)
        Sets of features of the same images, by name. Every split, and the final fit, chooses one by inner folds of its
        own training rows (see `heads.evaluation.cross_validation`).
    targets : ndarray of shape (n,) or (n, k)
        The targets (see `heads.evaluation.tasks`).
    groups : ndarray of shape (n,)
        Equal for images that stay together (see `heads.splitting.splits`).
    name, params
        The head and its parameters (see `heads.registry.make_head`).
    progress : callable, optional
        Called with the number of splits that are done, and of all splits.
    views : Views
        How the views of images are used.
    grid : sequence of dict
        Parameters among which every split chooses, in addition to `params`.
    """
    task = task_of(targets)

    def new_head(**chosen: Any) -> Head:
        return make_head(name, {**(params or {}), **chosen}, task.name)

    parts, rows, test_rows = protocol.divide(targets, groups)
    evaluation = evaluate(
        candidates,
        targets,
        groups,
        parts,
        new_head,
        seed=protocol.seed,
        views=views,
        grid=grid,
        progress=progress and (lambda done: progress(done, len(parts))),
    )
    choice = choose(candidates, targets, groups, rows, new_head, protocol.seed, views, grid)
    features = candidates[choice.features]
    start = time.perf_counter()
    head = views.fit(new_head(**choice.params), features, targets, rows, groups)
    fit_seconds = time.perf_counter() - start
    test = None
    if len(test_rows):
        start = time.perf_counter()
        outputs = views.outputs(head, features, test_rows)
        predict_seconds = time.perf_counter() - start
        test = task.score(task.classes_of(head), targets[test_rows], outputs)
        test |= {"fit_seconds": fit_seconds, "predict_seconds": predict_seconds}
    return Trained(head, choice.features, choice.params, fit_seconds, evaluation, test)


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
    """The scores by the number of labelled images per class, each over the draws of `protocol`.

    Parameters
    ----------
    features : array of shape (n * views.count, ...)
    labels, groups : ndarray of shape (n,)
    counts : sequence of int
        Numbers of labelled images of each class.
    protocol, name, params, views, progress
        See `train`.

    Returns
    -------
    list of dict
        For each of `counts`: ``per_class``, and the scores of the held-out images as in `Evaluation.summary`.
    """
    points: list[dict[str, Any]] = []
    for number, count in enumerate(counts):
        predefined = protocol.predefined and replace(protocol.predefined, names=())  # whose test rows stay set aside
        drawing = replace(protocol, cv=None, valid=None, per_class=count, predefined=predefined)
        parts = drawing.splits(labels, groups)
        evaluation = evaluate(
            {name: features},
            labels,
            groups,
            parts,
            lambda: make_head(name, params),
            views=views,
            progress=progress and partial(_shifted, progress, number * len(parts), len(counts) * len(parts)),
        )
        points.append({"per_class": count, **evaluation.summary()["valid"]})
    return points


def _shifted(progress: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    """Report the splits that are done, after `before` others."""
    progress(before + done, total)
