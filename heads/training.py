"""Training: the protocol that judges a head, and the head that is kept at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from heads import splits
from heads.evaluation import PLAIN, Evaluation, choose, evaluate
from heads.registry import Head, make_head
from heads.views import Views


@dataclass(frozen=True)
class Protocol:
    """How rows are split; exactly one of `cv`, `valid` and `per_class` counts.

    Parameters
    ----------
    cv : int, optional
        Stratified folds.
    valid : float, optional
        Share that is held out.
    per_class : int, optional
        Labelled images of each class, drawn `draws` times; all others are held out.
    seed : int
    """

    cv: int | None = None
    valid: float | None = None
    per_class: int | None = None
    draws: int = 20
    seed: int = 0

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
    """A head fitted on all rows, and how heads like it did on the splits.

    Attributes
    ----------
    features : str
        The candidate that it was fitted on.
    """

    head: Head
    features: str
    fit_seconds: float
    evaluation: Evaluation


def train(
    candidates: Mapping[str, Any],
    labels: np.ndarray,
    contents: np.ndarray,
    protocol: Protocol,
    name: str,
    params: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    views: Views = PLAIN,
) -> Trained:
    """Judge the head called `name` by `protocol`, then fit it on all rows.

    Parameters
    ----------
    candidates : mapping of str to array of shape (n * views.count, ...)
        Sets of features of the same images; every split, and the fit on all rows, chooses one by inner
        folds of its own training rows (see `heads.evaluation`).
    labels, contents : ndarray of shape (n,)
        See `heads.splits`.
    progress : callable, optional
        Called with the number of splits done and of all.
    """

    def new_head() -> Head:
        return make_head(name, params)

    made = protocol.splits(labels, contents)
    evaluation = evaluate(
        candidates,
        labels,
        contents,
        made,
        new_head,
        seed=protocol.seed,
        views=views,
        progress=progress and (lambda done: progress(done, len(made))),
    )
    chosen = choose(candidates, labels, contents, np.arange(len(labels)), new_head, protocol.seed, views)
    start = time.perf_counter()
    head = views.fit(new_head(), candidates[chosen], labels)
    return Trained(head, chosen, time.perf_counter() - start, evaluation)
