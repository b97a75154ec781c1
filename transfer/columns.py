"""Columns of a CSV file beside the class: numbers to predict, several labels of an image, groups, splits.

Each function takes a data set and the names of columns, and raises InvalidChoice where the data set has none of that
name, and BadData where a cell is not what the column should hold.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from feature_cache.errors import BadData, InvalidChoice, unknown
from transfer.datasets import DataSet

YES, NO = ("1", "true", "yes"), ("", "0", "false", "no")
LEFT_OUT = ("", "none", "-")  # cells of a single column that name no label


def texts(dataset: DataSet, name: str) -> np.ndarray:
    """The cells of a column: shape (n,), str, none empty."""
    values = _column(dataset, name)
    if (values == "").any():
        raise _bad(dataset, name, int(np.argmax(values == "")), "is empty")
    return values.astype(str)


def numbers(dataset: DataSet, names: Sequence[str]) -> np.ndarray:
    """Numbers of one column, shape (n,), or of several, shape (n, k); float64, all finite."""
    return np.stack([_numbers(dataset, name) for name in names], axis=-1).squeeze(-1 if len(names) == 1 else ())


def label_sets(dataset: DataSet, names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Which labels each image has.

    Parameters
    ----------
    names : sequence of str
        A column for each label, with 1 where the image has it and 0 or nothing where not; or one column that lists the
        labels of an image, with ``;``, ``|`` or ``,`` between them, or spaces if no cell has one of these.

    Returns
    -------
    member : ndarray of shape (n, k), bool
    labels : tuple of str
        The k labels, sorted, or the columns in their order.
    """
    cells = _column(dataset, names[0]).tolist()
    if len(names) > 1 or {cell.lower() for cell in cells} <= set(YES + NO):
        return np.stack([_yes_or_no(dataset, name) for name in names], axis=1), tuple(names)
    separator = r"[;|,]" if any(re.search(r"[;|,]", cell) for cell in cells) else r"\s+"
    sets = [{part.strip() for part in re.split(separator, cell)} - set(LEFT_OUT) for cell in cells]
    labels = tuple(sorted(set().union(*sets)))
    if not labels:
        raise BadData(f"{dataset.name}: the column {names[0]!r} names no label at all.")
    return np.array([[label in its for label in labels] for its in sets]), labels


def _column(dataset: DataSet, name: str) -> np.ndarray:
    if not dataset.columns:
        raise InvalidChoice(f"{dataset.name} has no columns; {name!r} would be one of a CSV file.")
    if name not in dataset.columns:
        raise unknown(f"{dataset.name} has no column", name, dataset.columns)
    return dataset.columns[name]


def _numbers(dataset: DataSet, name: str) -> np.ndarray:
    values = np.empty(len(dataset))
    for row, cell in enumerate(_column(dataset, name).tolist()):
        try:
            values[row] = float(cell)
        except ValueError:
            values[row] = np.nan
        if not np.isfinite(values[row]):
            raise _bad(dataset, name, row, f"is {cell!r}, not a number" if cell else "is empty")
    return values


def _yes_or_no(dataset: DataSet, name: str) -> np.ndarray:
    cells = [cell.lower().removesuffix(".0") for cell in _column(dataset, name).tolist()]
    for row, cell in enumerate(cells):
        if cell not in YES + NO:
            raise _bad(dataset, name, row, f"is {cell!r}, where 1 says that the image has the label and 0 that not")
    return np.array([cell in YES for cell in cells])


def _bad(dataset: DataSet, name: str, row: int, what: str) -> BadData:
    return BadData(
        f"{dataset.name}: the column {name!r} {what} for {dataset.ids[row]!r}; mend it, or leave the row out."
    )
