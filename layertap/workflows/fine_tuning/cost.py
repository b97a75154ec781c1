"""What a fine-tuning will take at most, measured by a few steps before it begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from layertap.workflows.fine_tuning.plan import Plan
from layertap.workflows.fine_tuning.rows import TrainingRows

TIMED = 2  # steps that are timed, after one in which functions are traced


@dataclass(frozen=True)
class Cost:
    """The most that all trainings of a fine-tuning take together.

    Attributes
    ----------
    epochs : int
        The number of epochs, where none is saved by stopping early.
    seconds : float
        What they take, with the scores of held-out images, as fast as the timed steps were.
    """

    epochs: int
    seconds: float

    @property
    def epoch_seconds(self) -> float:
        """What an epoch takes on average."""
        return self.seconds / self.epochs


def measure_cost(plan: Plan, data: TrainingRows) -> Cost:
    """Time a few steps, at the learning rate 0, and conclude what all trainings take at most.

    The weights stay as they are; the variables of the optimizer are set when a training begins.
    """
    tuner, recipe = plan.tuner, plan.settings.recipe
    size, views = recipe.batch_size, plan.start.request.views
    parts = list(_parts(plan, data))
    rows = np.resize(data.kept, min(size, len(data.kept))) * views
    targets = np.eye(tuner.network.classes, dtype=np.float32)[np.arange(len(rows)) % tuner.network.classes]
    step = _seconds(lambda: tuner.network.step(data.rows[rows], targets, 0.0))
    judge = _seconds(lambda: tuner.network.logits(data.rows[rows]))
    steps, judged = (sum(-(-part[side] // size) for part in parts) for side in (0, 1))
    return Cost(recipe.epochs * len(parts), recipe.epochs * (steps * step + judged * judge))


def _parts(plan: Plan, data: TrainingRows) -> Iterator[tuple[int, int]]:
    """The numbers of images that train, and that are held out, in each training of as many epochs as may be."""
    recipe = plan.settings.recipe
    fits = [(len(train), recipe.inner) for train, _ in data.splits]
    if data.kept is not data.splits[0][0]:
        fits.append((len(data.kept), recipe.inner if len(data.splits) > 1 else 0.0))
    for images, share in fits:
        held_out = round(share * images)
        if held_out:
            yield images - held_out, held_out
        if not held_out or recipe.refit:
            yield images, 0


def _seconds(act: Callable[[], object]) -> float:
    """The seconds that something takes, after a first time that does not count."""
    act()
    start = time.perf_counter()
    for _ in range(TIMED):
        act()
    return (time.perf_counter() - start) / TIMED
