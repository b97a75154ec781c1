"""What is measured of a head's predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

NLL_FLOOR = 1e-15  # probabilities are clipped here before the logarithm, so that one certain mistake is finite


def score(classes: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Accuracy, balanced accuracy and log-loss.

    Parameters
    ----------
    classes : ndarray of shape (k,)
        Sorted; those of the head.
    labels : ndarray of shape (n,)
        The truth. A label that the head does not know counts as a mistake, with the floor for its
        probability.
    probabilities : ndarray of shape (n, k)

    Returns
    -------
    dict
        ``accuracy`` and ``balanced_accuracy`` (the mean of the recalls of the classes present), both
        0 to 1; ``nll``, the mean negative natural logarithm of the probability of the true class;
        ``n``, the number of rows.
    """
    right = classes[np.argmax(probabilities, axis=1)] == labels
    present, member = np.unique(labels, return_inverse=True)
    recall = np.bincount(member, weights=right) / np.bincount(member)

    column = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    of_truth = np.where(classes[column] == labels, probabilities[np.arange(len(labels)), column], 0)
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(recall.mean()),
        "nll": float(-np.log(np.clip(of_truth, NLL_FLOOR, 1)).mean()),
        "n": len(labels),
    }


def confusion(classes: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Counts of shape (k, k), int64: true class by row, predicted class by column."""
    index = {label: number for number, label in enumerate(classes.tolist())}
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, ([index[label] for label in labels.tolist()], [index[label] for label in predicted.tolist()]), 1)
    return counts
