"""The columns of a table: numbers to predict, several labels of an image, groups, splits.

Each function takes a data set and the names of columns. It raises InvalidChoice where the data set has no column of
that name, and BadData where a cell does not hold what the function reads.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence

import numpy as np

from feature_cache.errors import BadData, InvalidChoice, unknown
from transfer.data.dataset import Dataset

YES, NO = ("1", "true", "yes"), ("", "0", "false", "no")
OPPOSITE = "-1"  # means no in columns of 1 and -1 alone; elsewhere it may mean that the answer is unknown
LEFT_OUT = ("", "none", "-")  # cells that name no label, in a single column of labels
MISSING = ("nan", "<na>")
MEND = "mend it, or leave the row out"
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_GROUPED = re.compile(r"[+-]?\d{1,3}([,. '_\u00a0\u202f]\d{3})+([.,]\d+)?")
_LIST = re.compile(r"\[.*\]|\(.*\)|\{.*\}|set\(\)", re.DOTALL)
_ITEM = re.compile(
    r"""(?:np\.\w+\()?                      # NumPy's own scalars: np.str_('a')
    (?:'((?:[^'\\]|\\.)*+)' | "((?:[^"\\]|\\.)*+)" | ([^\s,'"()\[\]{}:]+))
    \)?\s*+,?\s*+""",
    re.VERBOSE | re.DOTALL,
)


def texts(dataset: Dataset, name: str) -> np.ndarray:
    """The cells of a column, none of them empty: shape (n,), str.

    Examples
    --------
    >>> data = Dataset("table", ("a", "b"), (None, None), None, {"patient": np.array(["7", "8"], object)})
    >>> texts(data, "patient").tolist()
    ['7', '8']
    """
    values = _column(dataset, name)
    if (values == "").any():
        raise _bad(dataset, name, int(np.argmax(values == "")), "is empty")
    return values.astype(str)


def numbers(dataset: Dataset, names: Sequence[str]) -> np.ndarray:
    """Numbers of one column, shape (n,), or of several, shape (n, k); float64, all finite.

    Where the numbers of a column have decimal commas (``3,5``; see `decimal_commas`), these are read as such.

    Examples
    --------
    >>> data = Dataset("table", ("a", "b"), (None, None), None, {"age": np.array(["3,5", "4"], object)})
    >>> numbers(data, ["age"]).tolist()
    [3.5, 4.0]
    """
    return np.stack([_numbers(dataset, name) for name in names], axis=-1).squeeze(-1 if len(names) == 1 else ())


def decimal_commas(dataset: Dataset, names: Sequence[str]) -> list[str]:
    """The columns among `names` whose numbers have a comma before their fractions.

    A comma before exactly three digits may also separate thousands: a column where every comma does so is not listed.
    """
    return [name for name in names if _has_decimal_commas(_column(dataset, name).tolist())]


def label_sets(dataset: Dataset, names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The labels of each image, where an image may have several.

    Parameters
    ----------
    names : sequence of str
        A column for each label, with 1 where the image has the label and 0 or nothing where it has not, or with 1 and
        -1 alone. Or one column that lists the labels of an image, separated by ``;``, ``|`` or ``,``, or by spaces if
        no cell has one of these; or written as lists of Python, NumPy or JSON: ``['a', 'b']``, ``['a' 'b']``,
        ``["a", "b"]``.

    Returns
    -------
    member : ndarray of shape (n, k), bool
    labels : tuple of str
        The names of the k labels: sorted, or the columns in their order.

    Examples
    --------
    >>> data = Dataset("table", ("a", "b"), (None, None), None, {"tags": np.array(["cat;dog", "dog"], object)})
    >>> member, labels = label_sets(data, ["tags"])
    >>> labels, member.tolist()
    (('cat', 'dog'), [[True, True], [False, True]])
    """
    cells = _column(dataset, names[0]).tolist()
    if len(names) > 1 or {_plain(cell) for cell in cells} <= {*YES, *NO, OPPOSITE}:
        kinds = {_plain(cell) for name in names for cell in _column(dataset, name).tolist()}
        no = (OPPOSITE,) if OPPOSITE in kinds and kinds <= {*YES, OPPOSITE} else NO
        return np.stack([_yes_or_no(dataset, name, no) for name in names], axis=1), tuple(names)
    lone = [row for row, cell in enumerate(cells) if cell.lower() in MISSING]
    if lone:
        raise _bad(dataset, names[0], lone[0], f"is {cells[lone[0]]!r}", "empty it if the image has no label")
    if any(_LIST.fullmatch(cell) for cell in cells):
        sets = [set(_listed(dataset, names[0], row, cell)) - set(LEFT_OUT) for row, cell in enumerate(cells)]
    else:
        separator = r"[;|,]" if any(re.search(r"[;|,]", cell) for cell in cells) else r"\s+"
        sets = [{part.strip() for part in re.split(separator, cell)} - set(LEFT_OUT) for cell in cells]
    labels = tuple(sorted(set().union(*sets)))
    if not labels:
        raise BadData(f"{dataset.name}: the column {names[0]!r} names no label at all.")
    return np.array([[label in its for label in labels] for its in sets]), labels


def _column(dataset: Dataset, name: str) -> np.ndarray:
    if not dataset.columns:
        raise InvalidChoice(f"{dataset.name} has no columns; {name!r} would be one of a CSV file.")
    if name not in dataset.columns:
        raise unknown(f"{dataset.name} has no column", name, dataset.columns)
    return dataset.columns[name]


def _listed(dataset: Dataset, name: str, row: int, cell: str) -> list[str]:
    """The items of a list that is written as a program writes it."""
    if cell.lower() in LEFT_OUT:
        return []
    if not _LIST.fullmatch(cell):
        raise _bad(dataset, name, row, f"is {cell[:40]!r}, and others are lists,", "write them all alike")
    with contextlib.suppress(ValueError, RecursionError):
        items = json.loads(cell)
        if isinstance(items, list) and all(isinstance(item, str | int | float) for item in items):
            return [str(item).strip() for item in items]
    text = "" if cell == "set()" else cell[1:-1].strip()
    if "'" not in text and '"' not in text and "(" not in text and re.search("[,;|]", text):  # [new york, sea]
        return [part.strip() for part in re.split("[,;|]", text)]
    items, place = [], 0
    while place < len(text):
        match = _ITEM.match(text, place)
        if not match:
            raise _bad(dataset, name, row, f"is {cell[:40]!r}", "write a list as ['a', 'b']")
        quoted = match[1] if match[1] is not None else match[2]
        items.append(match[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL).strip())
        place = match.end()
    return items


def _numbers(dataset: Dataset, name: str) -> np.ndarray:
    values = np.empty(len(dataset))
    cells = _column(dataset, name).tolist()
    commas = _has_decimal_commas(cells)
    for row, cell in enumerate(cells):
        try:
            values[row] = np.nan if "_" in cell else float(cell.replace(",", ".") if commas else cell)
        except ValueError:
            values[row] = np.nan
        if not np.isfinite(values[row]):
            raise _bad(dataset, name, row, *_no_number(cell))
    return values


def _has_decimal_commas(cells: list[str]) -> bool:
    with_comma = [cell for cell in cells if "," in cell]
    return (
        bool(with_comma)
        and all(map(_DECIMAL_COMMA.fullmatch, with_comma))
        and not all(_GROUPED.fullmatch(cell) and not cell.lstrip("+-").startswith("0") for cell in with_comma)
    )


def _no_number(cell: str) -> tuple[str, str]:
    """The problem of a cell that should be a number, and the remedy."""
    if not cell:
        return "is empty", MEND
    if cell.endswith("%"):
        return f"is {cell[:40]!r}, a percentage,", "write the numbers without %"
    if _GROUPED.fullmatch(cell):
        return f"is {cell[:40]!r}", "write thousands without separators, and fractions with a point"
    return f"is {cell[:40]!r}, not a number,", MEND


def _yes_or_no(dataset: Dataset, name: str, no: tuple[str, ...]) -> np.ndarray:
    cells = [_plain(cell) for cell in _column(dataset, name).tolist()]
    for row, cell in enumerate(cells):
        if cell not in (*YES, *no):
            raise _bad(dataset, name, row, f"is {cell!r}, where 1 says that the image has the label and 0 that not")
    return np.array([cell in YES for cell in cells])


def _plain(cell: str) -> str:
    return cell.lower().removesuffix(".0")


def _bad(dataset: Dataset, name: str, row: int, problem: str, remedy: str = MEND) -> BadData:
    return BadData(f"{dataset.name}: the column {name!r} {problem} for {dataset.ids[row]!r}; {remedy}.")
