"""Evaluation: fit a head on each split's training rows and score it on the rows held out.

Where several sets of features are offered (layers, say), each split chooses among them by inner
folds of its own training rows; the rows held out play no part in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from heads.metrics import score
from heads.registry import Head
from heads.splits import Split, inner_folds
from heads.views import Views

NewHead = Callable[[], Head]
PLAIN = Views()


@dataclass
class Evaluation:
    """Scores of a head over splits, and its predictions on the rows held out.

    Attributes
    ----------
    folds : list of dict
        For each split: ``features``, which set was chosen, and for ``train`` and ``valid`` the
        scores of `heads.metrics.score` with ``fit_seconds`` and ``predict_seconds``.
    truth, predicted : list of ndarray
        For each split: the labels of the rows held out, and what was predicted.
    """

    folds: list[dict[str, Any]] = field(default_factory=list)
    truth: list[np.ndarray] = field(default_factory=list)
    predicted: list[np.ndarray] = field(default_factory=list)

    def summary(self) -> dict[str, dict[str, dict[str, float]]]:
        """Mean and standard deviation over the splits of every score, for ``train`` and ``valid``."""
        return {
            part: {
                name: {
                    "mean": float(np.mean(values := [fold[part][name] for fold in self.folds])),
                    "std": float(np.std(values)),
                }
                for name in self.folds[0][part]
            }
            for part in ("train", "valid")
        }

    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Truth and predictions of all rows held out, split after split."""
        return np.concatenate(self.truth), np.concatenate(self.predicted)


def evaluate(
    candidates: Mapping[str, Any],
    labels: np.ndarray,
    contents: np.ndarray,
    splits: Iterable[Split],
    new_head: NewHead,
    *,
    seed: int = 0,
    views: Views = PLAIN,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score the head on every split.

    Parameters
    ----------
    candidates : mapping of str to array of shape (n * views.count, ...)
        Sets of features of the same images. With more than one, each split chooses.
    labels, contents : ndarray of shape (n,)
        See `heads.splits`.
    new_head : callable
        Gives a head that has not been fitted.
    progress : callable, optional
        Called with the number of splits done.
    """
    evaluation = Evaluation()
    for number, (train, held_out) in enumerate(splits, 1):
        chosen = choose(candidates, labels, contents, train, new_head, seed, views)
        features = candidates[chosen]
        head, fit_seconds = _timed(lambda: views.fit(new_head(), features, labels, train))  # noqa: B023
        fold: dict[str, Any] = {"features": chosen}
        for part, rows in (("train", train), ("valid", held_out)):
            probabilities, predict_seconds = _timed(lambda: views.predict_proba(head, features, rows))  # noqa: B023
            fold[part] = {
                **score(head.classes_, labels[rows], probabilities),
                "fit_seconds": fit_seconds,
                "predict_seconds": predict_seconds,
            }
        evaluation.folds.append(fold)
        evaluation.truth.append(labels[held_out])
        evaluation.predicted.append(head.classes_[np.argmax(probabilities, axis=1)])
        if progress:
            progress(number)
    return evaluation


def choose(
    candidates: Mapping[str, Any],
    labels: np.ndarray,
    contents: np.ndarray,
    rows: np.ndarray,
    new_head: NewHead,
    seed: int = 0,
    views: Views = PLAIN,
) -> str:
    """The candidate whose head has the best accuracy over inner folds of `rows`; ties go to the lower log-loss."""
    if len(candidates) == 1:
        return next(iter(candidates))
    folds = [(rows[train], rows[held_out]) for train, held_out in inner_folds(labels[rows], contents[rows], seed)]

    def quality(name: str) -> tuple[float, float]:
        features = candidates[name]
        scores = []
        for train, held_out in folds:
            head = views.fit(new_head(), features, labels, train)
            scores.append(score(head.classes_, labels[held_out], views.predict_proba(head, features, held_out)))
        return float(np.mean([s["accuracy"] for s in scores])), -float(np.mean([s["nll"] for s in scores]))

    return max(candidates, key=quality)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start
