"""Discriminant analysis of what ridge regression predicts, which tells classes apart that lie between others.

Regression on indicators of classes hardly ever predicts a class whose features lie between those of others (Hastie,
Tibshirani and Friedman 2009, "The elements of statistical learning", section 4.2). Linear discriminant analysis of its
predictions does (Hastie, Buja and Tibshirani 1995, "Penalized discriminant analysis"), and it takes into account how
frequent classes are. Both together are linear in the features.
"""

from __future__ import annotations

import numpy as np

from heads.splitting.splits import Split
from heads.temperature import log_losses

FEWEST = 3  # rows of a class, on average, from which the covariance of scores is estimated
LEAST = 1e-6  # share of all variance that is added to that within classes, which may be none
CONSTANT = 1e-12  # variance of scores, which are near -1 and 1, that is rounding

# The weights, of shape (n_classes, n_classes), and the biases, of shape (n_classes,), that make logits of predictions.
Discriminant = tuple[np.ndarray, np.ndarray]


def held_out_logits(scores: np.ndarray, target: np.ndarray, folds: list[Split]) -> np.ndarray | None:
    """The logits of the rows held out, by discriminants of the scores of the other rows.

    Parameters
    ----------
    scores : ndarray of shape (n, n_classes), float64
        What ridge regression predicts of each row that had no part in its fit (see `with_one_intercept`).
    target : ndarray of shape (n,), int
        The number of each row's class.
    folds : list of (train, held_out)
        Positions of rows.

    Returns
    -------
    ndarray of shape (m, n_classes), or None
        Fold after fold. None where the scores do not vary, or tell no more than how frequent classes are; for two
        classes; and where a fold trains on fewer than 3 rows of a class on average, or lacks one.
    """
    classes = scores.shape[1]
    trained = [np.unique(target[train], return_counts=True)[1] for train, _ in folds]
    if classes < 3 or any(len(counts) < classes or counts.mean() < FEWEST for counts in trained):
        return None
    if scores.var(axis=0).mean() < CONSTANT:
        return None
    logits = np.concatenate(
        [applied(discriminant(scores[train], target[train]), scores[rows]) for train, rows in folds]
    )
    truth = target[np.concatenate([rows for _, rows in folds])]
    frequencies = np.tile(np.log(np.bincount(target, minlength=classes)), (len(truth), 1))
    return logits if is_clearly_lower(log_losses(logits, truth), log_losses(frequencies, truth), 1) else None


def is_clearly_lower(some: np.ndarray, others: np.ndarray, errors: float) -> bool:
    """Whether losses are lower by so many standard errors of the difference; not so where they are not numbers."""
    gain = others - some
    return bool(gain.mean() > errors * gain.std() / np.sqrt(len(gain)))


def with_one_intercept(predictions: np.ndarray, targets: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Leave-one-out predictions as if all fits had the intercept of all rows.

    The intercept of a fit without a row is the mean of the others' targets: higher, the lower the target of the row. It
    is a small part of a prediction, but one that tells its class, if something learns from predictions and targets.

    Parameters
    ----------
    predictions, targets : ndarray of shape (n, k)
    groups : ndarray of shape (n,), int, optional
        Rows that were left out together (see `heads.ridge.chunks.RowChunks`).

    Examples
    --------
    >>> targets = np.array([[-1.0], [-1.0], [1.0], [1.0]])
    >>> without = (targets.sum() - targets) / 3  # predictions by nothing but the intercept
    >>> with_one_intercept(without, targets).ravel().round(9).tolist()
    [0.0, 0.0, 0.0, 0.0]
    """
    deviations, sizes = targets - targets.mean(axis=0), np.ones(len(targets))
    if groups is not None and groups.any():
        sums = np.zeros((groups.max() + 1, targets.shape[1]))
        np.add.at(sums, groups, deviations)
        deviations, sizes = sums[groups], np.bincount(groups)[groups].astype(np.float64)
    return predictions + deviations / (len(targets) - sizes)[:, None]


def discriminant(scores: np.ndarray, target: np.ndarray) -> Discriminant:
    """The linear discriminant of classes with one covariance (see `shrunk_covariance`).

    Examples
    --------
    >>> weights, biases = discriminant(np.array([[0.0], [1.0], [4.0], [5.0]]), np.array([0, 0, 1, 1]))
    >>> (np.array([[2.0], [3.0]]) @ weights.T + biases).argmax(axis=1).tolist()
    [0, 1]
    """
    counts = np.bincount(target)
    means = np.stack([scores[target == label].mean(axis=0) for label in range(len(counts))])
    covariance = shrunk_covariance(scores - means[target])
    covariance += LEAST * scores.var(axis=0).mean() * np.eye(len(covariance))
    weights = means @ np.linalg.pinv(covariance, hermitian=True)
    return weights, np.log(counts / counts.sum()) - 0.5 * np.einsum("kj,kj->k", weights, means)


def shrunk_covariance(centred: np.ndarray) -> np.ndarray:
    """The covariance of centred rows, shrunk towards a multiple of the identity.

    The amount is that of Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance
    matrices", equation 14. That of scikit-learn is the same; its module takes longer to import than a head to fit.

    Parameters
    ----------
    centred : ndarray of shape (n, k)

    Returns
    -------
    ndarray of shape (k, k)
    """
    count, width = centred.shape
    covariance = centred.T @ centred / count
    mean = np.trace(covariance) / width
    distance = np.sum(covariance**2) - width * mean**2
    error = (np.sum(np.sum(centred**2, axis=1) ** 2) / count - np.sum(covariance**2)) / count
    share = min(error, distance) / distance if distance > 0 else 0.0
    return (1 - share) * covariance + share * mean * np.eye(width)


def applied(found: Discriminant, scores: np.ndarray) -> np.ndarray:
    """The logits of scores, of shape (m, n_classes)."""
    weights, biases = found
    return scores @ weights.T + biases
