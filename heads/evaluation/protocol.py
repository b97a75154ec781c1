"""The protocol of a training: how images are split, and which ones are set apart for the test."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from heads.evaluation.tasks import task_of
from heads.splitting import splits
from heads.splitting.predefined import PredefinedSplit
from heads.splitting.splits import Split


@dataclass(frozen=True)
class Protocol:
    """How images are split, by one of `cv`, `valid`, `per_class` and the parts that `predefined` holds out.

    Parameters
    ----------
    cv : int, optional
        The number of stratified folds.
    valid : float, optional
        The share of the images that is held out; 0.2 where nothing else is chosen.
    per_class : int, optional
        The number of labelled images of each class to train on; all others are held out.
    draws : int
        How many times the images of `per_class` are drawn.
    seed : int
        The seed of all random choices.
    test : float, optional
        The share of the images that is set aside first, and scored once with the final head.
    repeats : int
        How many times the folds of `cv` are made, each time with another seed.
    predefined : PredefinedSplit, optional
        The splits that come with the data.

    Examples
    --------
    >>> labels = np.repeat(["cat", "dog"], 6)
    >>> [(len(train), len(held_out)) for train, held_out in Protocol(cv=3).splits(labels, np.arange(12))]
    [(8, 4), (8, 4), (8, 4)]
    """

    cv: int | None = None
    valid: float | None = None
    per_class: int | None = None
    draws: int = 20
    seed: int = 0
    test: float | None = None
    repeats: int = 1
    predefined: PredefinedSplit | None = None

    def divide(self, targets: np.ndarray, groups: np.ndarray) -> tuple[list[Split], np.ndarray, np.ndarray]:
        """The splits, the rows that the final head is fitted to, and the test rows.

        Rows that no head may be fitted to (see `heads.evaluation.tasks.Task.learnable`) are held out by every split,
        unless the data say where they belong.

        Parameters
        ----------
        targets : ndarray of shape (n,) or (n, k)
        groups : ndarray of shape (n,)
            Equal for rows that stay together (see `heads.splitting.splits`).

        Returns
        -------
        splits : list of (train, held_out)
            Positions of rows.
        rows, test_rows : ndarray of int
            The test rows are in no split.

        Raises
        ------
        InvalidChoice, BadData
            When the rows cannot be split in this way.
        """
        task = task_of(targets)
        labels, learnable = task.strata(targets), task.learnable(targets)
        rows, test_rows = np.arange(len(labels)), np.arange(0)
        if self.predefined is not None:
            rows, test_rows = self.predefined.rows()
            if self.predefined.names:
                given = [(train[learnable[train]], held_out) for train, held_out in self.predefined.splits()]
                return given, rows[learnable[rows]], test_rows
        elif self.test is not None:
            rows, test_rows = splits.hold_out(labels, groups, self.test, self.seed, parameter="test")
        rows, others = rows[learnable[rows]], rows[~learnable[rows]]
        parts = self._splits(labels[rows], groups[rows])
        return [(rows[train], np.append(rows[held_out], others)) for train, held_out in parts], rows, test_rows

    def splits(self, targets: np.ndarray, groups: np.ndarray) -> list[Split]:
        """The splits of `divide`."""
        return self.divide(targets, groups)[0]

    def _splits(self, labels: np.ndarray, groups: np.ndarray) -> list[Split]:
        """The splits of the rows that are not test rows."""
        if self.cv is not None:
            seeds = range(self.seed, self.seed + self.repeats)
            return [split for seed in seeds for split in splits.k_fold(labels, groups, self.cv, seed)]
        if self.per_class is not None:
            return [splits.few_labels(labels, groups, self.per_class, self.seed + draw) for draw in range(self.draws)]
        return [splits.hold_out(labels, groups, 0.2 if self.valid is None else self.valid, self.seed)]

    def as_dict(self) -> dict[str, Any]:
        """The parameters that are set, as config.json records them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        predefined = values.pop("predefined")
        if predefined is not None:
            values["given"] = predefined.column  # the key in all runs since version 0.1
        if self.repeats == 1:
            del values["repeats"]
        return {key: value for key, value in values.items() if value is not None}
