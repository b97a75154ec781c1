"""Training: the protocol that judges a head, and the head that is kept at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from heads import splits
from heads.evaluation import NO_GRID, PLAIN, Evaluation, choose, evaluate
from heads.metrics import score
from heads.registry import Head, make_head
from heads.views import Views


@dataclass(frozen=True)
class Protocol:
    """How rows are split; of `cv`, `valid` and `per_class` one counts.

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
    """

    cv: int | None = None
    valid: float | None = None
    per_class: int | None = None
    draws: int = 20
    seed: int = 0
    test: float | None = None

    def splits(self, labels: np.ndarray, contents: np.ndarray) -> list[splits.Split]:
        """The splits of these rows (see `heads.splits`)."""
        if self.cv is not None:
            return list(splits.k_fold(labels, contents, self.cv, self.seed))
        if self.per_class is not None:
            return [splits.few_labels(labels, contents, self.per_class, self.seed + draw) for draw in range(self.draws)]
        return [splits.hold_out(labels, contents, 0.2 if self.valid is None else self.valid, self.seed)]

    def as_dict(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}


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
        Scores on the rows set aside (see `heads.metrics.score`), with ``fit_seconds`` and ``predict_seconds``.
    """

    head: Head
    features: str
    params: dict[str, Any]
    fit_seconds: float
    evaluation: Evaluation
    test: dict[str, Any] | None


def train(
    candidates: Mapping[str, Any],
    labels: np.ndarray,
    contents: np.ndarray,
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
        folds of its own training rows (see `heads.evaluation`).
    grid
        See `heads.evaluation.evaluate`; it adds to `params`.
    labels, contents : ndarray of shape (n,)
        See `heads.splits`.
    progress : callable, optional
        Called with the number of splits done and of all.
    """

    def new_head(**chosen: Any) -> Head:
        return make_head(name, {**(params or {}), **chosen})

    rows, aside = np.arange(len(labels)), np.arange(0)
    if protocol.test is not None:
        rows, aside = splits.hold_out(labels, contents, protocol.test, protocol.seed, option="--test")
    made = [(rows[train], rows[held_out]) for train, held_out in protocol.splits(labels[rows], contents[rows])]
    evaluation = evaluate(
        candidates,
        labels,
        contents,
        made,
        new_head,
        seed=protocol.seed,
        views=views,
        grid=grid,
        progress=progress and (lambda done: progress(done, len(made))),
    )
    choice = choose(candidates, labels, contents, rows, new_head, protocol.seed, views, grid)
    features = candidates[choice.features]
    start = time.perf_counter()
    head = views.fit(new_head(**choice.params), features, labels, rows)
    fitted = time.perf_counter() - start
    test = None
    if len(aside):
        start = time.perf_counter()
        probabilities = views.predict_proba(head, features, aside)
        seconds = time.perf_counter() - start
        test = score(head.classes_, labels[aside], probabilities)
        test |= {"fit_seconds": fitted, "predict_seconds": seconds}
    return Trained(head, choice.features, choice.params, fitted, evaluation, test)


def learning_curve(
    features: Any,
    labels: np.ndarray,
    contents: np.ndarray,
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
        made = replace(protocol, cv=None, valid=None, per_class=count).splits(labels, contents)
        evaluation = evaluate(
            {name: features},
            labels,
            contents,
            made,
            lambda: make_head(name, params),
            views=views,
            progress=progress and partial(_shifted, progress, number * len(made), len(counts) * len(made)),
        )
        points.append({"per_class": count, **evaluation.summary()["valid"]})
    return points


def _shifted(progress: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    progress(before + done, total)
