"""Splits that come with the data: a name for each row says which part it is of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feature_cache.errors import BadData
from heads.splitting.splits import Split

TRAIN, VALID, TEST = "train", "valid", "test"
NAMES = {"training": TRAIN, "val": VALID, "validation": VALID, "dev": VALID, "testing": TEST}


@dataclass(frozen=True, eq=False)
class PredefinedSplit:
    """Parts by name.

    Parameters
    ----------
    column : str
        Where they come from.
    parts : ndarray of shape (n,), str
        Of each row ``train``, ``valid`` or ``test``, or the name of its fold, or ``test``; see `predefined_split`.
    names : tuple of str
        The parts that are held out in turn; with none, the rows that are no test are split some other way.
    """

    column: str
    parts: np.ndarray
    names: tuple[str, ...]

    def rows(self) -> Split:
        """Rows that are no test, and those that are."""
        return np.flatnonzero(self.parts != TEST), np.flatnonzero(self.parts == TEST)

    def splits(self) -> list[Split]:
        """One for each part that is held out; all others train, but the test."""
        usable = self.parts != TEST
        return [
            (np.flatnonzero(usable & (self.parts != name)), np.flatnonzero(self.parts == name)) for name in self.names
        ]

    def count_divided(self, groups: np.ndarray) -> int:
        """How many images are in one part, with a copy in another."""
        _, part = np.unique(self.parts, return_inverse=True)
        pairs = np.unique(np.stack([groups, part]), axis=1)
        of_several = pairs[0][np.flatnonzero(np.diff(pairs[0]) == 0)]
        return int(np.isin(groups, of_several).sum())


def predefined_split(column: str, cells: np.ndarray) -> PredefinedSplit:
    """Splits from the cells of a column, shape (n,), in any case: ``train``, ``valid`` and ``test``, or names of folds.

    Without ``valid`` nothing is held out but the test. With names of folds each is held out once.

    Raises
    ------
    BadData
        When the names make no split.
    """
    lower = [cell.lower() for cell in cells.tolist()]
    parts = np.array([NAMES.get(cell, cell) for cell in lower])
    found = sorted(set(parts.tolist()) - {TEST})
    if TRAIN in found or VALID in found:
        if TRAIN not in found or set(found) - {TRAIN, VALID}:
            shown = ", ".join(repr(name) for name in found[:4])
            raise BadData(f"the splits in {column!r} are {shown}: give train, valid and test, or a name for each fold.")
        return PredefinedSplit(column, parts, tuple(name for name in found if name == VALID))
    if len(found) < 2:
        raise BadData(
            f"the splits in {column!r} leave nothing to train on; give train and test, or at least two folds."
        )
    return PredefinedSplit(column, parts, tuple(found))
