"""What images held out say of a training: their log-loss, at the temperature that suits them, and whether to go on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

HIGHEST_TEMPERATURE = 20.0
EARLY = 0.1  # the share of the steps after which a hopeless training is ended


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


def is_hopeless(start: float, look: np.ndarray, target: np.ndarray, groups: np.ndarray) -> bool:
    """Whether an early look says that the training will not come back to where it started.

    It is hopeless when the log-loss is above that before the first step and not clearly below that of guessing by the
    shares of the classes. A net that finds its way later on may come close: on 680 digits of MNIST EfficientNet-Lite0
    went from 0.2 to 1.8, where guessing has 2.3, and became better than at the start.

    Parameters
    ----------
    start : float
        The log-loss before the first step.
    look : ndarray of shape (n,)
        The log-loss of each image.
    target : ndarray of shape (n,), int
        The classes of the images held out.
    groups : ndarray of shape (n,)
        Equal for images that depend on each other.

    Examples
    --------
    >>> target, groups = np.array([0, 1, 0, 1]), np.arange(4)  # guessing has a log-loss of 0.69
    >>> [is_hopeless(0.2, np.full(4, loss), target, groups) for loss in (0.1, 0.6, 0.7)]
    [False, False, True]
    """
    guessing = -np.log(np.bincount(target) / len(target))[target]
    return bool(look.mean() > start) and not exceeds_its_error(guessing - look, groups)


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
