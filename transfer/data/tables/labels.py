"""The labels of a table: the cells of the class column, and doubts about them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from feature_cache.errors import BadData
from transfer.data.remote.path import AnyPath

MISSING = ("nan", "NaN", "-nan", "<NA>", "NaT")  # as pandas and NumPy write what is missing
DOUBTFUL = ("NA", "N/A", "n/a", "#N/A", "NULL", "Null", "null", "None", "none")  # missing, or a class of that name
_LIST = re.compile(r"\[.*\]", re.DOTALL)
_WHOLE = re.compile(r"(-?\d+)(\.0*)?")


def classes(
    file: AnyPath, column: str, cells: Sequence[str], ids: Sequence[str], lines: Sequence[int]
) -> tuple[np.ndarray | None, list[str]]:
    """The class of each row, and notes on what was guessed.

    Whole numbers that are written as floats (``3.0``) in every cell are classes without the fraction.

    Parameters
    ----------
    file : Path or RemotePath
    column : str
        The name of the column.
    cells, ids : sequence of str
        The cell and the id of each row.
    lines : sequence of int
        The line of each row in the file.

    Returns
    -------
    labels : ndarray of shape (n,), str, or None
        None where the column is empty.
    notes : list of str

    Raises
    ------
    BadData
        When some labels are missing.

    Examples
    --------
    >>> from pathlib import Path
    >>> classes(Path("a.csv"), "class", ["1.0", "2.0"], ["a", "b"], [2, 3])[0].tolist()
    ['1', '2']
    """
    if not any(cell and cell not in MISSING for cell in cells):
        return None, [f"the column {column!r} of {file} is empty: its images have no labels."]
    _require_complete(file, cells, ids, lines)
    counts = Counter(cells)
    whole = _whole_numbers(counts)
    notes = _doubts(file, column, counts)
    if whole:
        cells = [whole[cell] for cell in cells]
        shown = next(cell for cell in counts if "." in cell)
        notes.insert(
            0, f"the column {column!r} of {file} holds whole numbers as floats: {shown} is the class {whole[shown]}."
        )
    return np.array(cells), notes


def _require_complete(file: AnyPath, cells: Sequence[str], ids: Sequence[str], lines: Sequence[int]) -> None:
    missing = [row for row, cell in enumerate(cells) if not cell or cell in MISSING]
    if not missing:
        return
    kinds = Counter(cells[row] or "empty" for row in missing)
    shown = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
    row = missing[0]
    raise BadData(
        f"{file}: {len(missing)} of {len(cells)} images have no label, the first is {ids[row]!r} in line "
        f"{lines[row]} ({shown}); give them one, or leave them out."
    )


def _whole_numbers(counts: Counter[str]) -> dict[str, str]:
    """Each cell without its fraction, where all are whole numbers and some are written as floats; else empty."""
    matches = {cell: _WHOLE.fullmatch(cell) for cell in counts}
    whole = {cell: match[1] for cell, match in matches.items() if match}
    return whole if len(whole) == len(counts) and any("." in cell for cell in counts) else {}


def _doubts(file: AnyPath, column: str, counts: Counter[str]) -> list[str]:
    """Notes on classes that may be mistakes."""
    notes = []
    doubtful = [f"{counts[cell]} of {cell!r}" for cell in DOUBTFUL if cell in counts]
    if doubtful:
        notes.append(
            f"the column {column!r} of {file} holds {', '.join(doubtful)}, taken for a class of that name; leave these "
            "rows out if it says that the label is missing."
        )
    if listed := next((cell for cell in counts if _LIST.fullmatch(cell)), None):
        notes.append(
            f"the column {column!r} of {file} holds lists such as {listed[:60]}; each is a class of its own, unless "
            f"`multilabel={column!r}` takes what they hold for labels."
        )
    first: dict[str, str] = {}
    for cell in sorted(counts):
        other = first.setdefault(cell.casefold(), cell)
        if other != cell:
            notes.append(f"the classes {other!r} and {cell!r} in {file} differ by the case of letters alone.")
            break
    return notes
