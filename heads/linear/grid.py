"""Many softmax layers that are trained together: a grid of settings, on one or several sets of features.

The protocol is that of linear probing in DINOv2 (Oquab et al. 2023, arXiv:2304.07193): heads for all layers, poolings
and settings are trained at the same time, and held-out rows decide which is best. Each batch of rows is read once for
all settings. Apart from that they are independent: one that diverges does not affect the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from heads.linear.softmax_batch import Scale, WorkerThreads, hits_and_losses, loss_and_gradient, pieces
from heads.linear.solvers import Curvature, Lbfgs, Nesterov

# The number of rows from which the main axes of the features are computed, and the number of axes. With 32 axes, L-BFGS
# took the fewest passes for six sets of features, of glyphnet and synthetic ones like those of nets; with 1 axis it
# took up to 2.4 times as many, with 128 axes 1.5 times.
SAMPLE, RANK = 512, 32
# Scaled rows stay in memory for all passes of L-BFGS up to this size, because scaling takes longer than the rest of a
# pass.
KEPT_BYTES = 2**28
CHECK = 2  # each time after this many passes, settings that only overfit more are abandoned


@dataclass(eq=False)
class Fit:
    """The softmax layer of one set of features and one setting.

    Attributes
    ----------
    strength : float
        The strength of the regularisation: ``strength * n_features / 2`` times the sum of squared weights is added to
        the sum of the log-losses of scaled features. ``1 / (strength * n_features)`` is scikit-learn's C, and half of
        it for two classes, where scikit-learn penalises the difference of the two rows of weights.
    learning_rate : float or None
        The initial learning rate of gradient descent; None for L-BFGS.
    scale : Scale
        The scale of the features.
    weights : ndarray of shape (k, d + 1), float32
        The weights for scaled features; the last column is the intercept.
    epochs : int
        The number of passes over the training rows.
    accuracy, log_loss : float
        The scores on the held-out rows; 0 and infinity where the weights diverged.
    """

    strength: float
    learning_rate: float | None
    scale: Scale
    weights: np.ndarray
    epochs: int = 0
    accuracy: float = 0.0
    log_loss: float = math.inf

    def dense(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights of shape (k, d) and intercepts of shape (k,), float64, for features that are not scaled."""
        weights = self.weights[:, :-1] * self.scale.factor.astype(np.float64)
        return weights, self.weights[:, -1] - weights @ self.scale.mean.astype(np.float64)

    def logits(self, features: Any, rows: np.ndarray) -> np.ndarray:
        """The logits of these rows of the features: shape (m, k), float32."""
        return np.concatenate([self.scale.apply(features, part) @ self.weights.T for part in pieces(rows)])

    def on(self, scale: Scale) -> np.ndarray:
        """The weights of the same layer for features of another scale: shape (k, d + 1), float32."""
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
    floor: float = 0.0,
) -> list[list[Fit]]:
    """Fit every setting to every set of features, and score it on held-out rows.

    Parameters
    ----------
    sets : sequence of arrays of shape (n, ...)
        Sets of features of the same rows, in memory or `feature_cache.features.Features`, which are read in batches.
    target : ndarray of shape (n,), int
        The class of each row, from 0 to k - 1.
    train, held_out : ndarray of int
        Positions of the rows to fit to, and of those to score on, if any.
    strengths : sequence of float
        The strengths of the regularisation (see `Fit`).
    learning_rates : sequence of float, optional
        Without rates, L-BFGS finds the optimum of each strength in at most `epochs` passes, and the order of the rows
        does not matter. With rates, stochastic gradient descent takes `epochs` passes for each strength with each rate,
        in an order shuffled by `seed`.
    sample_weight : ndarray of shape (n,), optional
        The weights of the rows in the loss.
    batch_size : int
        The number of rows of a step of gradient descent.
    tolerance : float
        L-BFGS stops where the loss is expected to fall by no more than this share of it.
    start : Fit, optional
        A layer that was fitted to some of these rows. All settings begin with its weights, instead of zeros.
    floor : float
        How features are scaled (see `Scale.of`); by default to unit variance.

    Returns
    -------
    list of list of Fit
        The settings for each set: all rates of the first strength, then those of the next strength.

    Notes
    -----
    Besides the present batches, memory holds about twenty times the weights of all settings together.
    """
    rates: Sequence[float | None] = [None] if learning_rates is None else learning_rates
    settings = [(strength, rate) for strength in strengths for rate in rates]
    with WorkerThreads() as workers, np.errstate(all="ignore"):  # a setting that overflows gets the lowest score
        objective = Objective(np.asarray(target), np.sort(train), sample_weight, workers)
        feature_fits = []
        for features in sets:
            scale = Scale.of(features, objective.train, workers, floor)
            shape = int(np.max(target)) + 1, len(scale.mean) + 1
            first = np.zeros(shape, np.float32) if start is None else start.on(scale)
            fits = [Fit(*setting, scale, first) for setting in settings]
            feature_fits.append(FeatureFits(features, scale, fits))
        width = sum(len(each.scale.mean) + 1 for each in feature_fits)
        if learning_rates is None and 4 * width * (len(train) + len(held_out)) <= KEPT_BYTES:
            feature_fits = [replace(each, cached={}) for each in feature_fits]
        if learning_rates is None:
            _minimise(feature_fits, objective, np.sort(held_out), epochs, tolerance)
        else:
            _descend(feature_fits, objective, epochs, batch_size, np.random.default_rng(seed))
        _score(feature_fits, objective, np.sort(held_out))
    return [each.fits for each in feature_fits]


def best_of(fits: Sequence[Fit]) -> Fit:
    """The best setting of a set by its accuracy, averaged with that of the neighbouring strengths, and its log-loss.

    Neighbouring strengths give similar heads, and a few held-out rows separate them mostly by chance. An accuracy is
    replaced by the mean of itself, twice, and of its two neighbours. With this mean, the chosen head fell behind the
    best of the grid by 0.06 and 0.09 percentage points, and with the accuracy itself by 0.15 (means of two times 84
    problems with 190 to 2,250 held-out rows). A log-loss that is lower by 0.1 counts as much as 0.1 points; that
    changed nothing there, but decides between equals.
    """

    def quality(fit: Fit) -> float:
        line = sorted((one for one in fits if one.learning_rate == fit.learning_rate), key=lambda one: one.strength)
        at = line.index(fit)
        around = [line[max(at - 1, 0)], fit, fit, line[min(at + 1, len(line) - 1)]]
        accuracies = [one.accuracy if one.log_loss < math.inf else fit.accuracy for one in around]
        return sum(accuracies) / 4 - fit.log_loss / 100

    return max(fits, key=quality)


@dataclass(frozen=True)
class FeatureFits:
    """A set of features, and the fits of all settings to it; `cached` holds scaled rows, where they stay in memory."""

    features: Any
    scale: Scale
    fits: list[Fit]
    cached: dict[bytes, np.ndarray] | None = None

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        """These rows, scaled (see `Scale.apply`)."""
        if self.cached is None:
            return self.scale.apply(self.features, rows)
        key = rows.tobytes()
        if key not in self.cached:
            self.cached[key] = self.scale.apply(self.features, rows)
        return self.cached[key]

    def weights(self) -> np.ndarray:
        """The weights of all fits: shape (S, k, d + 1)."""
        return np.stack([fit.weights for fit in self.fits])


@dataclass(frozen=True)
class Objective:
    """The loss that all settings minimise: the classes and the weights of the rows, and which rows are for training."""

    target: np.ndarray
    train: np.ndarray
    sample_weight: np.ndarray | None
    workers: WorkerThreads

    @property
    def total(self) -> float:
        """The sum of the weights of the training rows."""
        if self.sample_weight is None:
            return float(len(self.train))
        return float(self.sample_weight[self.train].sum(dtype=np.float64))

    def penalties(self, feature_fits: FeatureFits) -> np.ndarray:
        """The strengths relative to the mean of the log-losses, instead of their sum: shape (S,)."""
        strengths = np.array([fit.strength for fit in feature_fits.fits])
        return strengths * len(feature_fits.scale.mean) / self.total

    def losses_and_gradients(
        self, feature_fits: list[FeatureFits], weights: list[np.ndarray], part: np.ndarray
    ) -> list[list[np.ndarray]]:
        """For each set of features the losses and gradients, summed over the rows `part`: (S,) and (S, k, d + 1)."""

        def work(piece: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
            sample_weight = None if self.sample_weight is None else self.sample_weight[piece]
            return [
                loss_and_gradient(some, each.scaled(piece), self.target[piece], sample_weight)
                for each, some in zip(feature_fits, weights, strict=True)
            ]

        sums = [[np.zeros(len(some)), np.zeros_like(some)] for some in weights]
        for result in self.workers.map(work, pieces(part)):
            for of_set, (loss, gradient) in zip(sums, result, strict=True):
                of_set[0] += loss
                of_set[1] += gradient
        return sums


class SettingSearch:
    """The search of L-BFGS for the optimum of one setting."""

    def __init__(self, fit: Fit, penalty: float, curvature: Curvature, tolerance: float) -> None:
        self.fit = fit
        self.solver = Lbfgs(fit.weights, penalty, curvature, tolerance)
        self.abandoned = False

    def update(self, loss: float, gradient: np.ndarray) -> None:
        """Take the mean log-loss and its gradient at the solver's point."""
        self.solver.update(loss, gradient)
        self.fit.weights, self.fit.epochs = self.solver.best, self.solver.passes


def _minimise(
    feature_fits: list[FeatureFits], objective: Objective, held_out: np.ndarray, epochs: int, tolerance: float
) -> None:
    """Run L-BFGS for all settings: each pass computes the loss and the gradient of each at its own point."""
    sample = objective.train[np.unique(np.linspace(0, len(objective.train) - 1, SAMPLE).astype(int))]
    searches = []
    for each in feature_fits:
        curvature = Curvature.of(each.scale.apply(each.features, sample)[:, :-1], RANK)
        settings = zip(each.fits, objective.penalties(each), strict=True)
        searches.append([SettingSearch(fit, penalty, curvature, tolerance) for fit, penalty in settings])
    for epoch in range(1, epochs + 1):
        left = [[search for search in some if not search.solver.done and not search.abandoned] for some in searches]
        active = [(each, some) for each, some in zip(feature_fits, left, strict=True) if some]
        if not active:
            break
        # All settings begin with the same weights, so the first gradient is computed only once.
        distinct = slice(1) if epoch == 1 else slice(None)
        points = [np.stack([search.solver.point for search in some[distinct]]) for _, some in active]
        sums = objective.losses_and_gradients([each for each, _ in active], points, objective.train)
        for (_, some), (losses, gradients) in zip(active, sums, strict=True):
            for number, search in enumerate(some):
                number %= len(losses)
                search.update(losses[number] / objective.total, gradients[number] / np.float32(objective.total))
        if epoch % CHECK == 0:
            _abandon_overfitting(active, objective, held_out)


def _abandon_overfitting(
    active: list[tuple[FeatureFits, list[SettingSearch]]], objective: Objective, held_out: np.ndarray
) -> None:
    """Abandon the settings that only overfit more: those with weak regularisation, which take the most passes.

    The loss of such a setting on the held-out rows has risen since the last check, and its accuracy is more than a
    standard error below the best of its set.
    """
    before = [[search.fit.log_loss for search in some] for _, some in active]
    _score([replace(each, fits=[search.fit for search in some]) for each, some in active], objective, held_out)
    for (each, some), losses in zip(active, before, strict=True):
        best = max(fit.accuracy for fit in each.fits)
        least = best - math.sqrt(best * (1 - best) / max(len(held_out), 1))
        for search, loss in zip(some, losses, strict=True):
            search.abandoned = search.fit.log_loss > loss and search.fit.accuracy < least


def _descend(
    feature_fits: list[FeatureFits], objective: Objective, epochs: int, batch_size: int, random: np.random.Generator
) -> None:
    """Run stochastic gradient descent: each batch is a step of every setting."""
    weights = [each.weights() for each in feature_fits]
    steps = epochs * len(pieces(objective.train, batch_size))
    solvers = []
    for each, some in zip(feature_fits, weights, strict=True):
        rates = np.array([fit.learning_rate for fit in each.fits])
        solvers.append(Nesterov(some, objective.penalties(each), rates, steps))
    mean_weight = objective.total / len(objective.train)
    for _ in range(epochs):
        for batch in pieces(random.permutation(objective.train), batch_size):
            # Rows are read faster in the order of the file, and their order within a batch does not matter.
            sums = objective.losses_and_gradients(feature_fits, weights, np.sort(batch))
            for solver, (_, gradient) in zip(solvers, sums, strict=True):
                solver.step(gradient / np.float32(len(batch) * mean_weight))
    for each, some in zip(feature_fits, weights, strict=True):
        for fit, final in zip(each.fits, some, strict=True):
            fit.weights, fit.epochs = final, epochs


def _score(feature_fits: list[FeatureFits], objective: Objective, held_out: np.ndarray) -> None:
    """Set the accuracy and the log-loss of every setting on the held-out rows, if there are any."""
    if not len(held_out):
        return
    weights = [each.weights() for each in feature_fits]

    def work(piece: np.ndarray) -> list[np.ndarray]:
        return [
            hits_and_losses(some, each.scaled(piece), objective.target[piece])
            for each, some in zip(feature_fits, weights, strict=True)
        ]

    sums = [np.zeros((2, len(each.fits))) for each in feature_fits]
    for result in objective.workers.map(work, pieces(held_out)):
        sums = [total + one for total, one in zip(sums, result, strict=True)]
    for each, (hits, losses) in zip(feature_fits, sums, strict=True):
        for fit, right, loss in zip(each.fits, hits / len(held_out), losses / len(held_out), strict=True):
            if math.isfinite(loss) and np.isfinite(fit.weights).all():
                fit.accuracy, fit.log_loss = float(right), float(loss)
