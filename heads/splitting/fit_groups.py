"""Groups in `fit`: rows of one image, or of one patient, stay together in the splits that a head makes by itself.

A head that splits its training rows takes ``fit(X, y, groups=None)``, with groups of shape (n,) that are equal for rows
which belong together. A setting or a temperature that is chosen on copies of the fitted rows would favour whatever
memorises its training rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_consistent_length, has_fit_parameter

from feature_cache.errors import BadData
from heads.splitting.splits import Split, hold_out, stratified, with_training_only


def encode_groups(groups: Any, targets: np.ndarray) -> np.ndarray | None:
    """The groups as numbers from 0, in the order of their first rows; None where every group is a single row.

    Parameters
    ----------
    groups : array of shape (n,) or None
        Values of any type, equal for rows of one group.
    targets : ndarray of shape (n,) or (n, k)
        Only their number of rows is compared with that of the groups.

    Examples
    --------
    >>> encode_groups(["patient 7", "patient 3", "patient 7"], np.zeros(3)).tolist()
    [0, 1, 0]
    """
    if groups is None:
        return None
    groups = column_or_1d(groups)
    check_consistent_length(groups, targets)
    first, member = np.unique(groups, return_index=True, return_inverse=True)[1:]
    return None if len(first) == len(groups) else np.argsort(np.argsort(first))[member]


def fit_params(estimator: Any, groups: np.ndarray | None) -> dict[str, np.ndarray]:
    """The keyword arguments for the `fit` of `estimator`: ``groups``, where it takes them and there are any."""
    return {"groups": groups} if groups is not None and has_fit_parameter(estimator, "groups") else {}


def inner_split(target: np.ndarray, share: float, seed: int, groups: np.ndarray | None = None) -> Split | None:
    """A stratified split of the training rows, by which a head chooses its settings or its number of epochs.

    At least one row of each class is held out, unless a group has rows of several classes. The only row, or group, of a
    class is for training.

    Parameters
    ----------
    target : ndarray of shape (n,), int
        The number of each row's class.
    share : float
        The share of the rows that is held out.
    groups : ndarray of shape (n,), optional
        As `encode_groups` gives them. Every group is on one side, and counts as a single row.

    Returns
    -------
    tuple of ndarray, or None
        Positions of the rows to train on, and of those held out. None where `share` is 0, or where there are too few
        rows, or groups, for two classes to be on both sides.
    """
    counts = np.bincount(target)
    if share <= 0:
        return None
    if groups is None and counts.min() == 1 and (counts > 1).sum() > 1:
        alone, rest = np.flatnonzero(counts[target] == 1), np.flatnonzero(counts[target] > 1)
        inner = inner_split(np.unique(target[rest], return_inverse=True)[1], share, seed)
        return inner and with_training_only(inner, rest, alone)
    if groups is not None:
        least = len(counts) / (groups.max() + 1)
        try:
            train, held_out = hold_out(target, groups, max(share, min(least, 0.5)), seed)
        except BadData:
            return None
        complete = len(np.unique(target[train])) == len(counts) and len(np.unique(target[held_out])) > 1
        return (train, held_out) if complete else None
    count = max(len(counts), round(share * len(target)))
    if counts.min() < 2 or len(target) - count < len(counts):
        return None
    return stratified(target, count, seed)
