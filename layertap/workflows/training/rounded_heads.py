"""What computing features in int8 costs a linear head: it is fitted on features in float32 and in int8, and judged."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from heads.ridge.classifier import RidgeHead
from heads.splitting.splits import stratified_folds
from transfer.quantisation.losses import Loss

FOLDS = 4
LEAST = 4  # images of each class, on average: of fewer, a head learns too little to be compared
WIDEST = 50_000  # numbers in a row: beyond that fitting takes too long for a remark


def head_notes(labels: np.ndarray | None, losses: Iterable[Loss]) -> tuple[str, ...]:
    """A sentence for each layer: the held-out accuracies of a ridge classifier on features in float32 and in int8.

    Parameters
    ----------
    labels : ndarray of shape (n,), str, or None
        The labels of the data set; without them, or with too few images of a class, there is nothing to say.
    losses : iterable of Loss
    """
    if labels is None:
        return ()
    return tuple(note for loss in losses if (note := _note(labels[loss.positions], loss)))


def _note(labels: np.ndarray, loss: Loss) -> str | None:
    exact, rounded = (rows.reshape(len(rows), -1) for rows in (loss.exact, loss.rounded))
    classes = len(np.unique(labels))
    if not 2 <= classes <= len(labels) / LEAST or exact.shape[1] > WIDEST:
        return None
    folds = stratified_folds(labels, FOLDS, 0)
    predictions = np.array([_held_out(rows, labels, folds) for rows in (exact, rounded)])
    (before, after), same = (predictions == labels).mean(1), (predictions[0] == predictions[1]).mean()
    return (
        f"int8: at {loss.layer}, a ridge classifier is right on {before:.1%} of the {len(labels)} images held out in "
        f"{FOLDS} folds in float32 and on {after:.1%} in int8; both say the same of {same:.1%}"
    )


def _held_out(rows: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """The prediction for each row by a head that is fitted on the other folds."""
    predictions = np.empty_like(labels)
    for fold in range(FOLDS):
        held = folds == fold
        predictions[held] = RidgeHead().fit(rows[~held], labels[~held]).predict(rows[held])
    return predictions
