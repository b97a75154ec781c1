"""Splits that come with the data: a column names the part that each row belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feature_cache.errors import BadData
from heads.splitting.splits import Split

TRAIN, VALID, TEST = "train", "valid", "test"
NAMES = {"training": TRAIN, "val": VALID, "validation": VALID, "dev": VALID, "testing": TEST}


@dataclass(frozen=True, eq=False)
class PredefinedSplit:
    """The parts of a data set by their names.

    Parameters
    ----------
    column : str
        The column that the parts come from.
    parts : ndarray of shape (n,), str
        The part of each row: ``train``, ``valid`` or ``test``; or the name of its fold, or ``test``.
    names : tuple of str
        The parts that are held out in turn. Where there are none, the rows outside the test part are split otherwise.
    """

    column: str
    parts: np.ndarray
    names: tuple[str, ...]

    def rows(self) -> Split:
        """Positions of the rows outside the test part, and of those in it."""
        return np.flatnonzero(self.parts != TEST), np.flatnonzero(self.parts == TEST)

    def splits(self) -> list[Split]:
        """One split for each part that is held out: all other parts but the test part train."""
        usable = self.parts != TEST
        return [
            (np.flatnonzero(usable & (self.parts != name)), np.flatnonzero(self.parts == name)) for name in self.names
        ]

    def count_divided(self, groups: np.ndarray) -> int:
        """The number of rows whose group has rows in several parts.

        Parameters
        ----------
        groups : ndarray of shape (n,), int
        """
        _, part = np.unique(self.parts, return_inverse=True)
        pairs = np.unique(np.stack([groups, part]), axis=1)
        divided = pairs[0][np.flatnonzero(np.diff(pairs[0]) == 0)]
        return int(np.isin(groups, divided).sum())


def predefined_split(column: str, cells: np.ndarray) -> PredefinedSplit:
    """The split that the cells of a column describe.

    Parameters
    ----------
    column : str
        Its name.
    cells : ndarray of shape (n,), str
        In lower or upper case: ``train``, ``valid`` and ``test`` (or ``training``, ``val``, ``validation``, ``dev``,
        ``testing``); or, for every row, the name of its fold, or ``test``. Without ``valid`` only the test rows are
        held out. Every fold is held out once.

    Raises
    ------
    BadData
        When the names describe no split.

    Examples
    --------
    >>> predefined_split("part", np.array(["train", "Val", "train", "test"])).splits()
    [(array([0, 2]), array([1]))]
    """
    lower = [cell.lower() for cell in cells.tolist()]
    parts = np.array([NAMES.get(cell, cell) for cell in lower])
    names = sorted(set(parts.tolist()) - {TEST})
    if TRAIN in names or VALID in names:
        if TRAIN not in names or set(names) - {TRAIN, VALID}:
            shown = ", ".join(repr(name) for name in names[:4])
            raise BadData(f"the splits in {column!r} are {shown}: give train, valid and test, or a name for each fold.")
        return PredefinedSplit(column, parts, tuple(name for name in names if name == VALID))
    if len(names) < 2:
        raise BadData(
            f"the splits in {column!r} leave nothing to train on; give train and test, or at least two folds."
        )
    return PredefinedSplit(column, parts, tuple(names))
