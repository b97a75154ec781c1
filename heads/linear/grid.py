"""Many softmax layers trained together: a grid of settings, on several sets of features, in one pass over the rows.

The protocol is that of linear probing in DINOv2 (Oquab et al. 2023, arXiv:2304.07193): heads for all layers, poolings
and settings learn at the same time, and held-out rows tell which is best. Each batch of rows is read once for all of
them. Settings do not see each other otherwise: one that diverges harms no other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from heads.linear.softmax_batch import Scale, WorkerThreads, hits_and_losses, loss_and_gradient, pieces
from heads.linear.solvers import Curvature, Lbfgs, Nesterov

# Rows that tell the main axes of the features, and how many axes are kept: with 32, L-BFGS took the fewest passes for
# six sets of features, of glyphnet and made like those of nets; with 1 as many as 2.4 times more, with 128 1.5 times.
SAMPLE, RANK = 512, 32
# Scaled rows of so many bytes together are kept for all passes of L-BFGS: scaling takes longer than the rest of a pass.
KEPT_BYTES = 2**28
# Passes after which settings that only overfit more are given up.
CHECK = 2


@dataclass(eq=False)
class Fit:
    """The softmax layer of one set of features and one setting.

    Attributes
    ----------
    strength : float
        Of the regularisation: ``strength * n_features / 2`` times the sum of squared weights is added to the sum of
        the log-losses of scaled features; ``1 / (strength * n_features)`` is scikit-learn's C, and half of it for two
        classes, where scikit-learn penalises the difference of the two rows of weights.
    learning_rate : float or None
    weights : ndarray of shape (k, d + 1), float32
        For scaled features; the last column is the intercept.
    epochs : int
        Passes over the training rows.
    accuracy, log_loss : float
        On the held-out rows; 0 and infinity where the weights diverged.
    """

    strength: float
    learning_rate: float | None
    scale: Scale
    weights: np.ndarray
    epochs: int = 0
    accuracy: float = 0.0
    log_loss: float = math.inf

    def dense(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights of shape (k, d) and intercepts of shape (k,), float64, for features as they come."""
        weights = self.weights[:, :-1] * self.scale.factor.astype(np.float64)
        return weights, self.weights[:, -1] - weights @ self.scale.mean.astype(np.float64)

    def on(self, scale: Scale) -> np.ndarray:
        """The same layer for features of another scale: shape (k, d + 1), float32."""
        weights, intercept = self.dense()
        factor = scale.factor.astype(np.float64)
        scaled = np.divide(weights, factor, out=np.zeros_like(weights), where=factor > 0)
        return np.column_stack([scaled, intercept + weights @ scale.mean]).astype(np.float32)


def train_grid(
    sets: Sequence[Any],
    target: np.ndarray,
    train: np.ndarray,
    held_out: np.ndarray,
    *,
    strengths: Sequence[float],
    learning_rates: Sequence[float] | None = None,
    sample_weight: np.ndarray | None = None,
    epochs: int = 30,
    batch_size: int = 256,
    seed: int = 0,
    tolerance: float = 1e-4,
    start: Fit | None = None,
) -> list[list[Fit]]:
    """Fit every setting to every set of features, and score it.

    Parameters
    ----------
    sets : sequence of arrays of shape (n, ...)
        Features of the same rows, in memory or `feature_cache.Features`, which are read batch by batch.
    target : ndarray of shape (n,), int
        Classes from 0 to k - 1.
    train, held_out : ndarray of int
        Positions of the rows to fit to, and of those to score on, if any.
    learning_rates : sequence of float, optional
        Without them L-BFGS finds the optimum of each strength, within `epochs` passes; the order of the rows does not
        matter. With them, stochastic gradient descent takes `epochs` passes, shuffled by `seed`, for each strength
        with each rate.
    sample_weight : ndarray of shape (n,), optional
        Weights of the rows in the loss.
    batch_size : int
        Rows of a step of gradient descent.
    tolerance : float
        L-BFGS ends where the loss can be expected to fall by no more than this share.
    start : Fit, optional
        Of one set, fitted to some of these rows: what all its settings begin with, instead of zeros.

    Returns
    -------
    list of list of Fit
        For each set the settings: all rates of the first strength, then those of the next.

    Notes
    -----
    Beside the batches at work, memory holds some twenty times the weights of all settings together.
    """
    rates: Sequence[float | None] = [None] if learning_rates is None else learning_rates
    settings = [(strength, rate) for strength in strengths for rate in rates]
    with WorkerThreads() as workers, np.errstate(all="ignore"):  # what overflows has lost
        rows = Objective(np.asarray(target), np.sort(train), sample_weight, workers)
        banks = []
        for features in sets:
            scale = Scale.of(features, rows.train, workers)
            shape = int(np.max(target)) + 1, len(scale.mean) + 1
            first = np.zeros(shape, np.float32) if start is None else start.on(scale)
            fits = [Fit(*setting, scale, first) for setting in settings]
            banks.append(FeatureFits(features, scale, fits))
        width = sum(len(bank.scale.mean) + 1 for bank in banks)
        if learning_rates is None and 4 * width * (len(train) + len(held_out)) <= KEPT_BYTES:
            banks = [replace(bank, kept={}) for bank in banks]
        if learning_rates is None:
            _minimise(banks, rows, np.sort(held_out), epochs, tolerance)
        else:
            _descend(banks, rows, epochs, batch_size, np.random.default_rng(seed))
        _score(banks, rows, np.sort(held_out))
    return [bank.fits for bank in banks]


def best_of(fits: Sequence[Fit]) -> Fit:
    """The most accurate of a set's settings, accuracies averaged along the strengths, and little log-loss preferred.

    Next strengths give much the same head, and few held-out rows tell them apart mostly by luck. With the mean of an
    accuracy (twice) and its neighbours' instead of the accuracy, what was chosen fell behind the best of the grid by
    0.06 and 0.09 points and not 0.15, on the means of twice 84 problems with 190 to 2,250 held-out rows. A log-loss
    that is lower by 0.1 makes up for 0.1 points, which changed nothing there but decides between equals.
    """

    def quality(fit: Fit) -> float:
        line = sorted((one for one in fits if one.learning_rate == fit.learning_rate), key=lambda one: one.strength)
        at = line.index(fit)
        around = [line[max(at - 1, 0)], fit, fit, line[min(at + 1, len(line) - 1)]]
        known = [one.accuracy if one.log_loss < math.inf else fit.accuracy for one in around]
        return sum(known) / 4 - fit.log_loss / 100

    return max(fits, key=quality)


@dataclass(frozen=True)
class FeatureFits:
    """A set of features and its settings; `kept` holds scaled rows, where they are to be kept."""

    features: Any
    scale: Scale
    fits: list[Fit]
    kept: dict[bytes, np.ndarray] | None = None

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        """These rows (see `Scale.apply`)."""
        if self.kept is None:
            return self.scale.apply(self.features, rows)
        key = rows.tobytes()
        if key not in self.kept:
            self.kept[key] = self.scale.apply(self.features, rows)
        return self.kept[key]

    def weights(self) -> np.ndarray:
        """Shape (S, k, d + 1)."""
        return np.stack([fit.weights for fit in self.fits])


@dataclass(frozen=True)
class Objective:
    """What all sets share: the class of every row and its weight in the loss, and which rows train."""

    target: np.ndarray
    train: np.ndarray
    sample_weight: np.ndarray | None
    workers: WorkerThreads

    @property
    def total(self) -> float:
        """The weight of the training rows together."""
        if self.sample_weight is None:
            return float(len(self.train))
        return float(self.sample_weight[self.train].sum(dtype=np.float64))

    def penalties(self, bank: FeatureFits) -> np.ndarray:
        """The strengths as they stand beside the mean of the log-losses: shape (S,)."""
        return np.array([fit.strength for fit in bank.fits]) * len(bank.scale.mean) / self.total

    def losses_and_gradients(
        self, banks: list[FeatureFits], weights: list[np.ndarray], part: np.ndarray
    ) -> list[list[np.ndarray]]:
        """For each bank its losses and gradients, summed over these rows: shapes (S,) and (S, k, d + 1)."""

        def work(piece: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
            sample_weight = None if self.sample_weight is None else self.sample_weight[piece]
            return [
                loss_and_gradient(some, bank.scaled(piece), self.target[piece], sample_weight)
                for bank, some in zip(banks, weights, strict=True)
            ]

        sums = [[np.zeros(len(some)), np.zeros_like(some)] for some in weights]
        for result in self.workers.map(work, pieces(part)):
            for of_bank, (loss, gradient) in zip(sums, result, strict=True):
                of_bank[0] += loss
                of_bank[1] += gradient
        return sums


class SettingSearch:
    """L-BFGS of one setting."""

    def __init__(self, fit: Fit, penalty: float, curvature: Curvature, tolerance: float) -> None:
        self.fit = fit
        self.solver = Lbfgs(fit.weights, penalty, curvature, tolerance)
        self.abandoned = False

    def update(self, loss: float, gradient: np.ndarray) -> None:
        """The mean log-loss and its gradient at the solver's point."""
        self.solver.update(loss, gradient)
        self.fit.weights, self.fit.epochs = self.solver.best, self.solver.passes


def _minimise(banks: list[FeatureFits], rows: Objective, held_out: np.ndarray, epochs: int, tolerance: float) -> None:
    """L-BFGS: a pass tells each setting the loss and its gradient at the point where that setting is."""
    sample = rows.train[np.unique(np.linspace(0, len(rows.train) - 1, SAMPLE).astype(int))]
    searches = []
    for bank in banks:
        curvature = Curvature.of(bank.scale.apply(bank.features, sample)[:, :-1], RANK)
        settings = zip(bank.fits, rows.penalties(bank), strict=True)
        searches.append([SettingSearch(fit, penalty, curvature, tolerance) for fit, penalty in settings])
    for epoch in range(1, epochs + 1):
        left = [[search for search in some if not search.solver.done and not search.abandoned] for some in searches]
        active = [(bank, some) for bank, some in zip(banks, left, strict=True) if some]
        if not active:
            break
        # All begin with the same weights, whose gradient is then computed once.
        apart = slice(1) if epoch == 1 else slice(None)
        points = [np.stack([search.solver.point for search in some[apart]]) for _, some in active]
        sums = rows.losses_and_gradients([bank for bank, _ in active], points, rows.train)
        for (_, some), (losses, gradients) in zip(active, sums, strict=True):
            for number, search in enumerate(some):
                number %= len(losses)
                search.update(losses[number] / rows.total, gradients[number] / np.float32(rows.total))
        if epoch % CHECK == 0:
            _abandon_overfitting(active, rows, held_out)


def _abandon_overfitting(
    active: list[tuple[FeatureFits, list[SettingSearch]]], rows: Objective, held_out: np.ndarray
) -> None:
    """Give up those settings that only overfit more: weak ones, which would take the most passes of all.

    The loss of such a setting on the held-out rows has risen since they were last looked at, and its accuracy is
    below the best of its set by more than a standard error.
    """
    before = [[search.fit.log_loss for search in some] for _, some in active]
    _score([replace(bank, fits=[search.fit for search in some]) for bank, some in active], rows, held_out)
    for (bank, some), losses in zip(active, before, strict=True):
        best = max(fit.accuracy for fit in bank.fits)
        least = best - math.sqrt(best * (1 - best) / max(len(held_out), 1))
        for search, loss in zip(some, losses, strict=True):
            search.abandoned = search.fit.log_loss > loss and search.fit.accuracy < least


def _descend(
    banks: list[FeatureFits], rows: Objective, epochs: int, batch_size: int, random: np.random.Generator
) -> None:
    """Stochastic gradient descent: each batch is a step of every setting."""
    weights = [bank.weights() for bank in banks]
    steps = epochs * len(pieces(rows.train, batch_size))
    solvers = []
    for bank, some in zip(banks, weights, strict=True):
        rates = np.array([fit.learning_rate for fit in bank.fits])
        solvers.append(Nesterov(some, rows.penalties(bank), rates, steps))
    mean_weight = rows.total / len(rows.train)
    for _ in range(epochs):
        for batch in pieces(random.permutation(rows.train), batch_size):
            # In the order of the file within a batch, where that does not matter.
            for solver, (_, gradient) in zip(
                solvers, rows.losses_and_gradients(banks, weights, np.sort(batch)), strict=True
            ):
                solver.step(gradient / np.float32(len(batch) * mean_weight))
    for bank, some in zip(banks, weights, strict=True):
        for fit, found in zip(bank.fits, some, strict=True):
            fit.weights, fit.epochs = found, epochs


def _score(banks: list[FeatureFits], rows: Objective, held_out: np.ndarray) -> None:
    """Accuracy and log-loss of every setting on these rows, if there are any."""
    if not len(held_out):
        return
    weights = [bank.weights() for bank in banks]

    def work(piece: np.ndarray) -> list[np.ndarray]:
        return [
            hits_and_losses(some, bank.scaled(piece), rows.target[piece])
            for bank, some in zip(banks, weights, strict=True)
        ]

    sums = [np.zeros((2, len(bank.fits))) for bank in banks]
    for result in rows.workers.map(work, pieces(held_out)):
        sums = [total + one for total, one in zip(sums, result, strict=True)]
    for bank, (hits, losses) in zip(banks, sums, strict=True):
        for fit, right, loss in zip(bank.fits, hits / len(held_out), losses / len(held_out), strict=True):
            if math.isfinite(loss) and np.isfinite(fit.weights).all():
                fit.accuracy, fit.log_loss = float(right), float(loss)
