"""The solvers: L-BFGS for one setting, pass by pass, and gradient descent for many settings at once, batch by batch.

The weights of a setting have the shape (k, d + 1): a row for each class, for features scaled to zero mean and unit
variance, with the intercept last. The loss is the mean log-loss of the softmax plus penalty / 2 times the sum of the
squared weights without the intercepts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

MEMORY = 5  # the number of steps that L-BFGS remembers
DECREASE = 1e-4  # the share of the decrease expected from the slope that a step has to reach (Armijo's condition)
NOISE = 1e-6  # relative differences of losses below this are rounding errors of float32
SHORTEST = 1e-3  # the shortest step, as a share of the full one
MOMENTUM = 0.9


@dataclass(frozen=True)
class Curvature:
    """A low-rank preconditioner: the main axes of scaled features, along which the loss is far steeper than elsewhere.

    The more the steepest axis differs from the flattest, the more passes L-BFGS takes, and the variances of the
    features of nets differ by a factor of 10,000. The gradient is divided by the curvature along the main axes. They
    come from a sample of the rows, not from a sketch as in Frangella, Tropp and Udell (2023).

    Attributes
    ----------
    axes : ndarray of shape (r, d), float32
    variances : ndarray of shape (r,), float32
        The variances along the axes, in descending order.
    """

    axes: np.ndarray
    variances: np.ndarray

    @classmethod
    def of(cls, sample: np.ndarray, rank: int) -> Curvature:
        """The main axes of a sample of scaled rows, of shape (m, d)."""
        m, d = sample.shape
        side = min(m, d)
        gram = (sample.T @ sample if d <= m else sample @ sample.T) / m
        values, vectors = eigh(gram, subset_by_index=(side - min(rank, side), side - 1), check_finite=False)
        variances, axes = np.maximum(values[::-1], 1e-6), vectors.T[::-1]
        if d > m:
            axes = axes @ sample / np.sqrt(m * variances)[:, None]
        return cls(np.ascontiguousarray(axes, np.float32), variances.astype(np.float32))

    def precondition(self, gradient: np.ndarray, penalty: float) -> np.ndarray:
        """`gradient`, of shape (k, d + 1), divided by the curvature that the loss has where all weights are zero."""
        k = len(gradient)
        steepness = (1 - 1 / k) / k  # the curvature of a softmax for which all classes are equally likely
        flattest = steepness * self.variances[-1] + penalty
        out = gradient / np.float32(flattest)
        out[:, -1] = gradient[:, -1] / np.float32(steepness)
        along = gradient[:, :-1] @ self.axes.T
        out[:, :-1] += (along * (1 / (steepness * self.variances + penalty) - 1 / flattest)) @ self.axes
        return out


class Lbfgs:
    """L-BFGS (Liu and Nocedal 1989) as an object that takes the loss at `point` and moves `point`, until it is `done`.

    Parameters
    ----------
    start : ndarray of shape (k, d + 1), float32
        The first point.
    penalty : float
        See the module.
    curvature : Curvature
        The preconditioner.
    tolerance : float
        The solver is done where the loss is expected to fall by no more than this share of it.

    Attributes
    ----------
    point : ndarray of shape (k, d + 1), float32
        The point at which the loss has to be computed next.
    best : ndarray of shape (k, d + 1), float32
        The point with the lowest loss.
    done : bool
    passes : int
        The number of points so far.
    """

    def __init__(self, start: np.ndarray, penalty: float, curvature: Curvature, tolerance: float) -> None:
        self.point = self.best = start
        self.done, self.passes = False, 0
        self._penalty = penalty
        self._curvature = curvature
        self._tolerance = tolerance
        self._loss = math.inf
        self._gradient = self._direction = self.best
        self._slope, self._step, self._scale = 0.0, 1.0, 1.0
        self._pairs: list[tuple[np.ndarray, np.ndarray, float]] = []

    def update(self, loss: float, gradient: np.ndarray) -> None:
        """Take the mean log-loss at `point` and its gradient, which is changed in place."""
        self.passes += 1
        weights = self.point[:, :-1]
        loss += self._penalty / 2 * _dot(weights, weights)
        gradient[:, :-1] += np.float32(self._penalty) * weights
        if not loss <= self._loss + DECREASE * self._step * self._slope + NOISE * abs(self._loss):
            self._shorten(loss)
            return
        if self._loss < math.inf:
            self._remember(self.point - self.best, gradient - self._gradient)
        self.best, self._loss, self._gradient = self.point, loss, gradient
        self._aim()

    def _remember(self, step: np.ndarray, change: np.ndarray) -> None:
        """Store a step, and the change of the gradient that it brought."""
        along = _dot(step, change)
        if along > 0:
            self._pairs = [*self._pairs[1 - MEMORY :], (step, change, along)]
            self._scale = along / _dot(change, self._curvature.precondition(change, self._penalty))

    def _aim(self) -> None:
        """Choose the next direction and take a full step."""
        direction = self._gradient.copy()
        shares = []
        for step, change, along in reversed(self._pairs):
            shares.append(_dot(step, direction) / along)
            direction -= np.float32(shares[-1]) * change
        direction = np.float32(-self._scale) * self._curvature.precondition(direction, self._penalty)
        for (step, change, along), share in zip(self._pairs, reversed(shares), strict=True):
            direction -= np.float32(share + _dot(change, direction) / along) * step
        self._slope, self._step, self._direction = _dot(self._gradient, direction), 1.0, direction
        self.point = self.best + direction
        # The decrease that is expected of a loss that is a parabola is half the slope.
        self.done = not -self._slope / 2 > self._tolerance * self._loss

    def _shorten(self, loss: float) -> None:
        """Take a shorter step: to the minimum of the parabola that fits the losses and the slope."""
        excess = loss - self._loss - self._step * self._slope
        minimum = -self._slope * self._step / (2 * excess) if excess < math.inf else 0.0
        self._step *= min(0.5, max(0.1, minimum))
        self.point = self.best + np.float32(self._step) * self._direction
        self.done = self._step < SHORTEST  # differences are only rounding errors then


class Nesterov:
    """Gradient descent with Nesterov's momentum, with rates that fall to 0 along a cosine (Loshchilov, Hutter 2017).

    Parameters
    ----------
    weights : ndarray of shape (S, k, d + 1), float32
        The weights of all settings; each step changes them in place.
    penalties, rates : ndarray of shape (S,)
        The penalty and the initial rate of each setting.
    steps : int
        The total number of steps.
    """

    def __init__(self, weights: np.ndarray, penalties: np.ndarray, rates: np.ndarray, steps: int) -> None:
        self._weights = weights
        self._velocity = np.zeros_like(weights)
        self._penalties, self._rates = penalties, rates
        self._steps, self._taken = steps, 0

    def step(self, gradient: np.ndarray) -> None:
        """Take a step down the gradient of the mean log-loss, of shape (S, k, d + 1), which is changed in place."""
        rates = self._rates * (1 + math.cos(math.pi * self._taken / self._steps)) / 2
        self._taken += 1
        gradient *= rates[:, None, None].astype(np.float32)
        self._velocity *= np.float32(MOMENTUM)
        self._velocity -= gradient
        gradient -= np.float32(MOMENTUM) * self._velocity
        self._weights -= gradient
        # The penalty is applied at the end of the step (a proximal step), which is stable for any penalty.
        shrink = 1 / (1 + rates * self._penalties / (1 - MOMENTUM))
        self._weights[:, :, :-1] *= shrink[:, None, None].astype(np.float32)


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.vdot(a, b))
