"""The labels of a table: cells of the class column as classes, and what may be wrong with them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from feature_cache.errors import BadData

MISSING = ("nan", "NaN", "-nan", "<NA>", "NaT")  # as pandas and NumPy write what is missing
DOUBTFUL = ("NA", "N/A", "n/a", "#N/A", "NULL", "Null", "null", "None", "none")  # or a class of that name
_LIST = re.compile(r"\[.*\]", re.DOTALL)
_WHOLE = re.compile(r"(-?\d+)(\.0*)?")


def classes(
    file: Path, column: str, cells: Sequence[str], ids: Sequence[str], lines: Sequence[int]
) -> tuple[np.ndarray | None, list[str]]:
    """The class of each row, shape (n,), str, or None where the column is empty; and sentences on what was guessed.

    Whole numbers that are written as floats (``3.0``) in every cell are classes without the fraction.

    Raises
    ------
    BadData
        When some labels are missing.
    """
    missing = [row for row, cell in enumerate(cells) if not cell or cell in MISSING]
    if len(missing) == len(cells):
        return None, [f"the column {column!r} of {file} is empty: its images have no labels."]
    if missing:
        kinds = Counter(cells[row] or "empty" for row in missing)
        shown = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
        row = missing[0]
        raise BadData(
            f"{file}: {len(missing)} of {len(cells)} images have no label, the first is {ids[row]!r} in line "
            f"{lines[row]} ({shown}); give them one, or leave them out."
        )
    notes = []
    counts = Counter(cells)
    matches = {cell: _WHOLE.fullmatch(cell) for cell in counts}
    whole = {cell: match[1] for cell, match in matches.items() if match}
    if len(whole) == len(counts) and any("." in cell for cell in counts):
        shown = next(cell for cell in counts if "." in cell)
        notes.append(
            f"the column {column!r} of {file} holds whole numbers as floats: {shown} is the class {whole[shown]}."
        )
        cells = [whole[cell] for cell in cells]
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
    alike: dict[str, str] = {}
    for cell in sorted(counts):
        other = alike.setdefault(cell.casefold(), cell)
        if other != cell:
            notes.append(f"the classes {other!r} and {cell!r} in {file} differ by the case of letters alone.")
            break
    return np.array(cells), notes
