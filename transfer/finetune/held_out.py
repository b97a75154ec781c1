"""What images held out say of a training: their log-loss, at the temperature that suits them, and whether to go on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

HIGHEST_TEMPERATURE = 20.0
# The shares of the steps after which the training is looked at, besides the ends of epochs. At the last of them it is
# ended where it is hopeless.
LOOKS = (0.05, 0.1)


def log_losses(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The log-loss of each row, of shape (n,).

    Parameters
    ----------
    logits : ndarray of shape (n, n_classes)
    target : ndarray of shape (n,), int
        The column of each row's class.
    """
    losses: np.ndarray = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(target)), target]
    return losses


def find_temperature(logits: np.ndarray, target: np.ndarray) -> float:
    """The number from 1 on by which logits are to be divided for the lowest log-loss.

    A net that has been trained until it makes no more mistakes on its training images is too sure on others (Guo et al.
    2017, "On calibration of modern neural networks"). A temperature below 1, which a few rows that are all predicted
    right would have, is not given.

    Parameters
    ----------
    logits : ndarray of shape (n, n_classes)
    target : ndarray of shape (n,), int
        The column of each row's class.

    Examples
    --------
    >>> sure = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    >>> find_temperature(sure, np.array([0, 0, 0, 1]))
    1.0
    >>> round(find_temperature(sure, np.array([0, 0, 1, 1])), 1)  # the odds are 3 to 1, and their logarithm is 1.1
    3.6
    """

    def loss(logarithm: float) -> float:
        return float(log_losses(logits / np.exp(logarithm), target).mean())

    found = float(minimize_scalar(loss, bounds=(0.0, np.log(HIGHEST_TEMPERATURE)), method="bounded").x)
    return float(np.exp(found)) if loss(found) < loss(0.0) else 1.0


def steps_to_look(steps: int) -> list[int]:
    """The numbers of steps, of all, after which a training is looked at, in order.

    Examples
    --------
    >>> steps_to_look(300)
    [15, 30]
    """
    return [max(1, round(share * steps)) for share in LOOKS]


def is_hopeless(start: float, looks: Sequence[np.ndarray], target: np.ndarray, groups: np.ndarray) -> bool:
    """Whether the early looks say that the training will not come back to where it started.

    It is hopeless when the log-loss is above that before the first step and, besides, either not clearly below that of
    guessing by the shares of the classes, or more than half of the way there and not falling. A loss that rises for a
    while, before the net has found its way, stays far below.

    Parameters
    ----------
    start : float
        The log-loss before the first step.
    looks : sequence of ndarray of shape (n,)
        The log-loss of each image at each look.
    target : ndarray of shape (n,), int
        The classes of the images held out.
    groups : ndarray of shape (n,)
        Equal for images that depend on each other.

    Examples
    --------
    >>> target, groups = np.array([0, 1, 0, 1]), np.arange(4)  # guessing has a log-loss of 0.69
    >>> [is_hopeless(0.2, [np.full(4, one), np.full(4, two)], target, groups) for one, two in ((0.6, 0.5), (0.5, 0.6))]
    [False, True]
    >>> is_hopeless(0.69, [np.full(4, 0.7)], target, groups)
    True
    """
    guessing = -np.log(np.bincount(target) / len(target))[target]
    *before, last = (float(look.mean()) for look in looks)
    if last <= start:
        return False
    falls = any(last < one for one in before)
    return not exceeds_its_error(guessing - looks[-1], groups) or (
        last > (start + float(guessing.mean())) / 2 and not falls
    )


def epochs_without_progress(losses: Sequence[float], rising: int) -> int:
    """The number of epochs since the lowest log-loss, or since the warm-up.

    The loss before the first epoch does not count: the first steps may raise the loss before it falls.

    Parameters
    ----------
    losses : sequence of float
        The log-loss before the first epoch and after each.
    rising : int
        The number of epochs of the warm-up.

    Examples
    --------
    >>> epochs_without_progress([0.5, 0.9, 0.8, 0.7], rising=1)
    0
    >>> epochs_without_progress([0.5, 0.9, 0.95, 0.97], rising=1), epochs_without_progress([0.5, 0.9, 0.95], rising=4)
    (2, 0)
    """
    _, *later = losses
    return max(0, len(later) - max(rising, 1 + int(np.argmin(later)))) if later else 0


def exceeds_its_error(values: np.ndarray, groups: np.ndarray) -> bool:
    """Whether the mean of some values is above its standard error, where the values of a group depend on each other.

    Parameters
    ----------
    values, groups : ndarray of shape (n,)

    Examples
    --------
    >>> exceeds_its_error(np.array([1.0, 1.1, 0.9]), np.arange(3))
    True
    >>> exceeds_its_error(np.array([1.0, -0.9]), np.arange(2))
    False
    """
    _, number = np.unique(groups, axis=0, return_inverse=True)
    deviations = np.bincount(number.reshape(-1), values - values.mean())
    if len(deviations) < 2:
        return False
    error = np.sqrt(np.square(deviations).sum() * len(deviations) / (len(deviations) - 1)) / len(values)
    return bool(values.mean() > error)
