"""The rows of a table: names of columns, rows of equal length, the rows of one part, no row twice."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from feature_cache.errors import BadData, InvalidChoice
from transfer.data import split_names
from transfer.data.remote.path import AnyPath
from transfer.data.tables.dialect import DELIMITERS, clean_name

MOST_CELLS = 50_000_000  # without pixels; so many take about 3 GB
MOST_COLUMNS = 1_000_000
SPLIT_COLUMNS = (
    "split",
    "set",
    "subset",
    "partition",
    "usage",
)  # columns that may name parts
Numbered = Iterator[tuple[int, list[str]]]  # the number of the line that a row begins in, and its cells


@dataclass(frozen=True)
class Body:
    """The cells of a table, stripped, and the line that each row begins in."""

    file: AnyPath
    header: Sequence[str]
    cells: list[list[str]]
    lines: list[int]

    def __post_init__(self) -> None:
        if not self.cells:
            raise BadData(f"{self.file} has no rows; the first line names the columns, then comes one line per image.")

    def select(self, chosen: list[int]) -> Body:
        return Body(self.file, self.header, [self.cells[n] for n in chosen], [self.lines[n] for n in chosen])

    def columns(self) -> dict[str, np.ndarray]:
        """The columns that have a name: arrays of shape (n,), object."""
        values = zip(*self.cells, strict=True)
        return {name: np.array(cells, object) for name, cells in zip(self.header, values, strict=True) if name}


def column_names(file: AnyPath, cells: Sequence[str], needed: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names of the columns, and notes; a column has the name ``""`` where its name is missing or repeated."""
    if len(cells) > MOST_COLUMNS:
        raise BadData(f"{file} has {len(cells)} columns, more than {MOST_COLUMNS}: no table of images.")
    names = [clean_name(cell) for cell in cells]
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    for name in twice:
        if name in needed:
            places = [str(place + 1) for place, other in enumerate(names) if other == name]
            raise BadData(f"{file} names its columns {' and '.join(places[:3])} {name!r}; rename all but one.")
    notes = []
    if twice:
        notes.append(f"{file} has several columns named {', '.join(map(repr, twice[:3]))}; they are passed over.")
    return ["" if name in twice else name for name in names], notes


def same_name(file: AnyPath, header: Sequence[str], name: str) -> tuple[str, list[str]]:
    """The column that `name` means: itself, or the only one that differs by case or spaces; and notes."""
    if name in header:
        return name, []
    alike = [other for other in header if _letters(other) == _letters(name)]
    if len(alike) != 1:
        return name, []
    return alike[0], [f"{file} has no column {name!r}; the column {alike[0]!r} is read in its place."]


def _letters(name: str) -> str:
    return "".join(name.casefold().split())


def even(file: AnyPath, rows: Numbered, header: Sequence[str], delimiter: str) -> Numbered:
    """The rows that have as many cells as the header; further cells are dropped where they are empty.

    Raises
    ------
    BadData
        After the last row, where some rows have another length.
    """
    width, equal, uneven, first = len(header), 0, 0, (0, 0)
    for line, cells in rows:
        if len(cells) > width and not any(map(str.strip, cells[width:])):
            cells = cells[:width]
        if len(cells) == width:
            equal += 1
            yield line, cells
        else:
            first = first if uneven else (line, len(cells))
            uneven += 1
    if uneven:
        line, count = first
        more = f" ({_counted(uneven - 1, 'more row')} of another length than the header)" if uneven > 1 else ""
        mend = (
            f"put quotation marks round a cell that holds {DELIMITERS.get(delimiter, delimiter)}"
            if count > width
            else "add what is missing, with nothing between delimiters for an empty cell"
        )
        if count > width and equal < 2:  # the header may be wrong: R writes no name for the column of row names
            mend = f"its first line should name every column, the one of row names too; or {mend}"
        raise BadData(
            f"{file}, line {line}, has {_counted(count, 'cell')}, and the header {_counted(width, 'column')}{more}; "
            f"{mend}."
        )


def body(file: AnyPath, rows: Iterable[tuple[int, list[str]]], header: Sequence[str]) -> Body:
    """All rows of a table as its body."""
    most = MOST_CELLS // len(header)
    cells: list[list[str]] = []
    lines: list[int] = []
    for line, row in rows:
        cells.append([sys.intern(cell.strip()) for cell in row])  # repeated texts share their memory
        lines.append(line)
        if len(cells) > most:
            raise BadData(f"{file} has over {most} rows of {len(header)} columns, too many; leave out columns or rows.")
    return Body(file, header, cells, lines)


def part(table: Body, split: str | None, class_column: str) -> tuple[list[int], list[str]]:
    """The positions of the rows of one split, or of all rows without a split; and notes.

    Raises
    ------
    InvalidChoice
        When there is no such part, or no column that says which part a row belongs to.
    """
    every = list(range(len(table.cells)))
    names = [name.lower() for name in table.header]
    place = next((n for n, name in enumerate(names) if name in SPLIT_COLUMNS and name != class_column.lower()), None)
    if place is None:
        if split is None:
            return every, []
        raise InvalidChoice(
            f"{table.file} has no column named split or set, and so has no splits; leave out `split={split!r}`."
        )
    column = table.header[place]
    counts = Counter(row[place] for row in table.cells)
    shown = ", ".join(f"{name or 'empty'} {count}" for name, count in counts.most_common(5))
    if split is None:
        if len(counts) > 1 and any(split_names.split_of(name) in ("train", "test") for name in counts):
            text = f"{table.file} has parts in the column {column!r} ({shown}) and all are read; name one with `split`."
            return every, [text]
        return every, []
    parts = {name for name in counts if name.casefold() == split.casefold()}
    if not parts and split_names.split_of(split) in {split_names.split_of(name) for name in counts} - {None}:
        parts = {split_names.choose(split, list(counts), f"the column {column!r} of {table.file}")}
    if not parts:
        raise InvalidChoice(f"{table.file} has no part {split!r} in its column {column!r}, which holds {shown}.")
    return [n for n in every if table.cells[n][place] in parts], []


def distinct(table: Body, id_column: str, class_column: str) -> tuple[Body, list[str]]:
    """The table without rows that repeat another row, so that each id occurs once; and notes.

    Raises
    ------
    BadData
        When an id is empty, or two rows of the same id differ.
    """
    place = table.header.index(id_column)
    seen: dict[str, int] = {}
    unique = []
    for number, row in enumerate(table.cells):
        name = row[place]
        if not name:
            raise BadData(f"{table.file}, line {table.lines[number]}: the id is empty.")
        other = seen.setdefault(name, number)
        if other == number:
            unique.append(number)
        elif table.cells[other] != row:
            raise _different(table, name, other, number, class_column)
    if len(unique) == len(table.cells):
        return table, []
    return table.select(unique), [
        f"{len(table.cells) - len(unique)} rows of {table.file} repeat another; they are left out."
    ]


def _different(table: Body, name: str, one: int, two: int, class_column: str) -> BadData:
    """The error for two different rows of the same id."""
    first, second = table.cells[one], table.cells[two]
    columns = [n for n, cells in enumerate(zip(first, second, strict=True)) if cells[0] != cells[1]]
    column = next((n for n in columns if table.header[n] == class_column), columns[0])
    several = ", or list its labels in one cell for `multilabel`" if table.header[column] == class_column else ""
    return BadData(
        f"{table.file} names the image {name!r} twice: in the column {table.header[column]!r} line {table.lines[one]} "
        f"has {first[column]!r}, and line {table.lines[two]} {second[column]!r}; keep one row for it{several}."
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
