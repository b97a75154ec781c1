"""Images in the cells of a table: a column for each pixel, or a column that lists the pixels of an image.

Columns of pixels are numbered, row by row from the upper left corner (``pixel0`` ... ``pixel783``, ``0`` ... ``783``),
or named by row and column (``1x1`` ... ``28x28``). A table of whole numbers without a header, with 784 or 785 cells for
instance, holds pixels too; the class is the first of 785 cells, or the last (see `without_header`). The column
``pixels`` lists an image in each cell, with spaces between the numbers, as in FER2013. Numbers are whole, from 0
(black) to 255, or in the range that the user names.

A square number of pixels makes a square gray image; three times a square number makes a square RGB image. Its channels
are last or first: the order in which neighbouring pixels are more alike, if the difference is at least a fifth.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from feature_cache.errors import BadData
from transfer.data.remote.path import AnyPath

LEAST = 16  # pixels: fewer numbered columns are something else
LISTS = "pixels"
NAMES = ("pixel", "pixels", "px", "pix")
CLEARLY = 0.8  # of the roughness in one order of channels, which the other order must not exceed
_NUMBERED = re.compile(r"(.*?)[_ .-]?(\d{1,7})")
_GRID = re.compile(r"(.*?)(\d{1,5})\s*x\s*(\d{1,5})", re.IGNORECASE)
_VALUES = {str(value): value for value in range(256)}


@dataclass(frozen=True)
class Layout:
    """The place of an image's pixels in a row.

    Attributes
    ----------
    positions : tuple of int
        The numbers of the columns, in the order of the pixels; one column where a cell lists all pixels.
    shape : (height, width), optional
        The shape of the image, where the names of the columns say it.
    lists : bool
        Whether a single cell holds all pixels.
    """

    positions: tuple[int, ...]
    shape: tuple[int, int] | None = None
    lists: bool = False


def layout(header: Sequence[str], row: Sequence[str], has_ids: bool, others: Sequence[str] = ()) -> Layout | None:
    """The place of the pixels in a table with this header; None if it holds no pixels.

    Parameters
    ----------
    header : sequence of str
    row : sequence of str
        The first row: a column named ``pixels`` may also hold the number of pixels.
    has_ids : bool
        Whether the table has a column of ids: numbered columns are then pixels only if their name says so.
    others : sequence of str
        Columns that are no pixels, whatever their names are.

    Examples
    --------
    >>> layout(["label", *(f"pixel{number}" for number in range(784))], ["0"] * 785, False).positions[:2]
    (1, 2)
    """
    lower = [name.lower() for name in header]
    if LISTS in lower and len(_listed(row[lower.index(LISTS)])) >= LEAST:
        return Layout((lower.index(LISTS),), lists=True)
    grid: dict[tuple[int, int], int] = {}
    groups: dict[str, dict[int, int]] = {}
    for position, name in enumerate(lower):
        if header[position] in others:
            continue
        if match := _GRID.fullmatch(name):
            grid[int(match[2]), int(match[3])] = position
        elif match := _NUMBERED.fullmatch(name):
            groups.setdefault(match[1].strip(), {})[int(match[2])] = position
    if len(grid) >= LEAST:
        rows, columns = (sorted({cell[axis] for cell in grid}) for axis in (0, 1))
        if len(grid) == len(rows) * len(columns) and rows[0] in (0, 1) and columns[0] in (0, 1):
            return Layout(tuple(grid[cell] for cell in sorted(grid)), (len(rows), len(columns)))
    if not groups:
        return None
    prefix, numbered = max(groups.items(), key=lambda item: len(item[1]))
    first, count = min(numbered), len(numbered)
    if count < LEAST or first not in (0, 1) or max(numbered) - first + 1 != count:
        return None
    if prefix not in NAMES and (has_ids or not (_side(count) or _side(count / 3) or prefix == "")):
        return None
    return Layout(tuple(numbered[number] for number in sorted(numbered)))


def _listed(cell: str) -> list[str]:
    return cell.replace(",", " ").strip("[] ").split()


def without_header(cells: Sequence[str], rows: Iterable[Sequence[str]] = ()) -> list[str] | None:
    """Names for the columns of a table whose first row holds pixels already: ``label``, ``pixel0`` ...

    None where the first row is a header, or the number of cells is not that of a square image. Where there is one cell
    more, the first cell is the class; or the last cell, if the first is the same in all of `rows`, as a corner of the
    images may be.
    """
    count = len(cells)
    if count < LEAST or not all(cell.strip() in _VALUES for cell in cells):
        return None
    if [int(cell) for cell in cells] in (list(range(count)), list(range(1, count + 1))):
        return None  # these are the numbers of columns
    if _side(count):
        return [f"pixel{number}" for number in range(count)]
    if not _side(count - 1):
        return None
    names = [f"pixel{number}" for number in range(count - 1)]
    first, last = set(), set()
    for row in rows:
        first.add(row[0].strip())
        last.add(row[-1].strip())
    return [*names, "label"] if len(first) == 1 < len(last) else ["label", *names]


def read(
    file: AnyPath,
    rows: Iterable[tuple[int, list[str]]],
    header: Sequence[str],
    where: Layout,
    value_range: tuple[float, float] | None,
) -> tuple[np.ndarray, list[list[str]], list[int], str]:
    """The images of a table, and its other cells.

    Returns
    -------
    images : ndarray of shape (n, height, width) or (n, height, width, 3), uint8
    others : list of list of str
        The rows of the other columns, in the order of the header.
    lines : list of int
        The line that each row begins in.
    shape : str
        A description such as ``28 x 28 pixels``.

    Raises
    ------
    BadData
        When a cell is no number in the range, or the shape of the images is unclear.
    """
    values = bytearray()
    others: list[list[str]] = []
    lines: list[int] = []
    count = 0 if where.lists else len(where.positions)
    pixels = set(where.positions)
    rest = [position for position in range(len(header)) if position not in pixels]
    first, last = where.positions[0], where.positions[-1] + 1
    contiguous = not where.lists and where.positions == tuple(range(first, last))
    for line, cells in rows:
        if where.lists:
            numbers = _listed(cells[first])
            count = count or len(numbers)
            if len(numbers) != count:
                raise BadData(f"{file}, line {line}, lists {len(numbers)} pixels, and the first row {count}.")
        else:
            numbers = cells[first:last] if contiguous else [cells[position] for position in where.positions]
        try:
            if value_range is not None:
                raise KeyError
            values += bytes(map(_VALUES.__getitem__, numbers))
        except KeyError:
            names = [f"number {n + 1}" for n in range(count)] if where.lists else [header[p] for p in where.positions]
            values += _converted(file, line, numbers, names, value_range)
        others.append([cells[position].strip() for position in rest])
        lines.append(line)
    array = np.frombuffer(values, np.uint8).reshape(len(lines), count)
    images, shape = _shaped(file, array, where.shape)
    return images, others, lines, shape


def _converted(
    file: AnyPath, line: int, cells: Sequence[str], names: Sequence[str], value_range: tuple[float, float] | None
) -> bytes:
    """The numbers of a row as bytes, where some are not written as whole numbers from 0 to 255."""
    low, high = value_range or (0.0, 255.0)
    numbers = np.array([_number(cell) for cell in cells])
    wrong = ~((low <= numbers) & (numbers <= high))  # NaN, too
    if value_range is None:
        wrong |= numbers != np.rint(numbers)
    if wrong.any():
        place = int(np.argmax(wrong))
        cell, value = cells[place].strip(), numbers[place]
        expected = f"from {low:g} to {high:g}" if value_range else "a whole number from 0 (black) to 255"
        hint = "" if value_range or np.isnan(value) else "; name another range, as in `value_range=(0, 1)`"
        raise BadData(
            f"{file}, line {line}, column {names[place]!r} is {repr(cell[:20]) if cell else 'empty'}; a pixel is "
            f"{expected}{hint}."
        )
    return np.rint((numbers - low) * (255 / (high - low))).astype(np.uint8).tobytes()


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _shaped(file: AnyPath, values: np.ndarray, shape: tuple[int, int] | None) -> tuple[np.ndarray, str]:
    count = values.shape[1]
    side, colour = _side(count), _side(count / 3)
    if shape or side:
        height, width = shape or (side, side)
        return values.reshape(-1, height, width), f"{height} x {width} pixels"
    if not colour:
        raise BadData(
            f"{file} has {count} pixels in each row, which make no square image, gray or RGB; name a column "
            "of classes among them with `class_column`, or save the images as an .npz file with an array X of shape "
            "(n, height, width)."
        )
    last, first = values.reshape(-1, colour, colour, 3), values.reshape(-1, 3, colour, colour).transpose(0, 2, 3, 1)
    rough_last, rough_first = _roughness(last), _roughness(first)
    name = f"{colour} x {colour} pixels in RGB"
    if rough_last <= CLEARLY * rough_first:
        return last, f"{name}, the three channels of a pixel side by side"
    if rough_first <= CLEARLY * rough_last:
        return np.ascontiguousarray(first), f"{name}, all pixels of a channel side by side"
    raise BadData(
        f"{file} has {count} pixels in each row: {colour} x {colour} in RGB, and nothing tells whether the three "
        "channels of a pixel or all pixels of a channel are side by side; save the images as an .npz file with an "
        "array X of shape (n, height, width, 3)."
    )


def _roughness(images: np.ndarray) -> float:
    """The mean difference of neighbouring pixels in the first images."""
    sample = images[:1000].astype(np.int16)
    return float(np.abs(np.diff(sample, axis=1)).mean() + np.abs(np.diff(sample, axis=2)).mean())


def _side(count: float) -> int:
    """The side of a square of `count` pixels; 0 where there is no such square."""
    if count < LEAST or count != int(count):
        return 0
    side = math.isqrt(int(count))
    return side if side * side == count else 0


def dark(images: np.ndarray) -> str:
    """A clause for a note, where all images are so dark that 255 is hardly their white; otherwise empty."""
    highest = int(images.max(initial=0))
    return (
        f", none of them above {highest} (add `value_range=(0, {highest or 1})` if that is white)"
        if highest < 64
        else ""
    )
