"""From a CSV file to the table of its images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from feature_cache.errors import BadData, InvalidChoice, unknown
from transfer.data.containers import loading as containers
from transfer.data.containers.archive_folder import ArchiveFolder
from transfer.data.images import ArraySource, ImageSource
from transfer.data.remote.path import AnyPath
from transfer.data.remote.places import at, head, remote_folder
from transfer.data.tables import dialect, files, labels, pixels, rows

SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
PIXEL_CLASS_COLUMN = "label"


@dataclass(frozen=True)
class TableElsewhere:
    """A CSV file that is not on disk: inside an archive, or at a URL.

    Attributes
    ----------
    content : bytes
    image_folder : callable
        It returns the folder of the images, where the caller names none.
    """

    content: bytes
    image_folder: Callable[[], ArchiveFolder]


@dataclass(frozen=True)
class Table:
    """The images of a CSV file, with their ids, labels and columns.

    Attributes
    ----------
    ids : tuple of str
        The ids as written, or the numbers of the rows of a table that holds pixels and no ids.
    sources : tuple of ImageSource
        Files below the image folder or in an archive, or arrays.
    labels : ndarray of shape (n,), str, or None
    columns : dict of str to ndarray of shape (n,), object
        All columns but those of pixels, by name.
    notes : tuple of str
        What was guessed, a sentence each.
    """

    ids: tuple[str, ...]
    sources: tuple[ImageSource, ...]
    labels: np.ndarray | None
    columns: dict[str, np.ndarray]
    notes: tuple[str, ...] = ()


def kit_file(folder: AnyPath, part: str = "train") -> AnyPath | None:
    """The path of ``data/train.csv`` in a RAMP kit, or of another part; None where `folder` is no kit or lacks it.

    A folder with a ``problem.py`` is a kit; that file is not run.
    """
    file = folder / "data" / f"{part}.csv"
    return file if (folder / "problem.py").is_file() and file.is_file() else None


def other_kind(file: AnyPath) -> str | None:
    """The kind of a file that is no table, and what to do about it; None where its first bytes do not show it."""
    try:
        return dialect.other_kind(head(file, 4096))
    except OSError:
        return None


def is_known(file: AnyPath) -> bool:
    """Whether a file has the name of a table; a ``.txt`` file must not be an image or of another kind."""
    suffix = file.suffix.lower()
    if suffix == ".txt":
        return file.is_file() and other_kind(file) is None
    return suffix in SUFFIXES


def read(
    file: AnyPath,
    images: str | None,
    class_column: str,
    id_column: str,
    split: str | None = None,
    value_range: tuple[float, float] | None = None,
    elsewhere: TableElsewhere | None = None,
) -> Table:
    """The table of a CSV file; for the other parameters and errors see `transfer.data.datasets.load`.

    Parameters
    ----------
    file : Path or RemotePath
        Its path, which may lead into an archive where `elsewhere` is passed.
    elsewhere : TableElsewhere, optional
    """
    content = elsewhere.content if elsewhere else None
    source = dialect.recognised(file, (id_column, class_column, PIXEL_CLASS_COLUMN), content)
    first = next(source.rows(), (0, []))[1]
    header, notes = rows.column_names(file, first, (id_column, class_column))
    if names := pixels.without_header(first, (cells for _, cells in source.rows())):
        header, notes = names, [_about_names(file, names)]
    even = rows.even(file, source.rows(), header, source.delimiter)
    if not names:
        next(even, None)
    id_column, about_ids = rows.same_name(file, header, id_column)
    class_column, about_classes = rows.same_name(file, header, class_column)
    notes = [*source.notes, *notes, *about_ids, *about_classes]

    columns = Columns(class_column, id_column)
    has_ids = id_column in header
    row = list(islice(even, 1))
    even = chain(row, even)
    if row and (where := pixels.layout(header, row[0][1], has_ids, (class_column, id_column))):
        return _of_pixels(file, even, header, where, columns, split, value_range, notes)
    if first and not has_ids:
        raise _without_ids(file, header, id_column, row[0][1] if row else [])
    if value_range is not None:
        raise InvalidChoice(
            f"{file} names image files, and `value_range` goes with numbers in cells or arrays; leave it out."
        )
    return _of_files(rows.body(file, even, header or [id_column]), _Images(images, elsewhere), columns, split, notes)


def _about_names(file: AnyPath, names: Sequence[str]) -> str:
    """A note on how the cells of a table of pixels without a header are read."""
    if PIXEL_CLASS_COLUMN not in names:
        return f"{file} has no header; all of its cells are read as pixels."
    place, other = ("first", "last") if names[0] == PIXEL_CLASS_COLUMN else ("last", "first")
    return (
        f"{file} has no header; the {place} cell of a row is read as its class and the others as pixels. If the class "
        f"is the {other}, add a first line that names the columns ({names[0]} to {names[-1]} as it is read now)."
    )


@dataclass(frozen=True)
class _Images:
    """Where the images of a table are.

    Attributes
    ----------
    named : str or None
        The folder or archive that the caller names.
    elsewhere : TableElsewhere or None
        The table, where it is not on disk.
    """

    named: str | None
    elsewhere: TableElsewhere | None

    def folder(self, file: AnyPath) -> Path | ArchiveFolder:
        """The folder of the images: the named one, ``imgs`` beside the table, or the folder of the table.

        Raises
        ------
        InvalidChoice
            When there is no such folder.
        """
        if self.named is None and self.elsewhere:
            return self.elsewhere.image_folder()
        if self.named and (inside := containers.folder_in(at(self.named))):
            return inside
        beside_file = file.parent / "imgs"
        folder = at(self.named) if self.named else beside_file if beside_file.is_dir() else file.parent
        if not files.is_folder(folder):
            raise InvalidChoice(f"there is no image folder {folder}; name the one of {file.name} with `images`.")
        return folder if isinstance(folder, Path) else remote_folder(folder)


@dataclass(frozen=True)
class Columns:
    """The names of the columns of classes and of ids, as the caller passes them."""

    classes: str
    ids: str


def _of_files(table: rows.Body, images: _Images, names: Columns, split: str | None, notes: list[str]) -> Table:
    file = table.file
    chosen, about_parts = rows.part(table, split, names.classes)
    table, about_copies = rows.distinct(table.select(chosen), names.ids, names.classes)
    columns = table.columns()
    ids = columns[names.ids].tolist()
    if names.classes not in columns and names.classes != "class":
        raise unknown(f"{file} has no class column", names.classes, _shown(columns))
    classes, about_classes = _classes(table, columns, names.classes, ids)

    sources, about_files = files.find(file, ids, images.folder(file))
    notes = [*notes, *about_parts, *about_copies, *about_classes, *about_files]
    return Table(tuple(ids), tuple(sources), classes, columns, tuple(notes))


def _of_pixels(
    file: AnyPath,
    even: rows.Numbered,
    header: list[str],
    where: pixels.Layout,
    names: Columns,
    split: str | None,
    value_range: tuple[float, float] | None,
    notes: list[str],
) -> Table:
    places = set(where.positions)
    others = [name for place, name in enumerate(header) if place not in places]
    for name, usual, kind in ((names.classes, "class", "class"), (names.ids, "id", "id")):
        if name != usual and name not in others:
            raise unknown(f"{file} has no {kind} column", name, _shown(others))
    images, cells, lines, shape = pixels.read(file, even, header, where, value_range)
    table = rows.Body(file, others, cells, lines)
    dark = pixels.dark(images) if value_range is None else ""
    notes.append(f"{file} holds images as numbers, {shape} in each row{dark}.")

    digits = len(str(len(images) - 1))
    chosen, about_parts = rows.part(table, split, names.classes)
    table, images = table.select(chosen), images[chosen] if len(chosen) < len(images) else images
    columns = table.columns()
    if names.ids in columns:
        ids = columns[names.ids].tolist()
        _require_distinct(table, names.ids, ids)
    else:
        ids = [f"{number:0{digits}d}" for number in chosen]
    class_column, about_column = _class_of_pixels(file, columns, names)
    classes, about_classes = _classes(table, columns, class_column, ids)
    sources = tuple(ArraySource(image, f"image {name} of {file}") for image, name in zip(images, ids, strict=True))
    return Table(tuple(ids), sources, classes, columns, (*notes, *about_parts, *about_column, *about_classes))


def _class_of_pixels(file: AnyPath, columns: dict[str, np.ndarray], names: Columns) -> tuple[str, list[str]]:
    """The column of the classes in a table of pixels: the named one, ``label``, or the only one; and notes."""
    if names.classes in columns:
        return names.classes, []
    others = [name for name in columns if name != names.ids and name.lower() not in rows.SPLIT_COLUMNS]
    by_name = [name for name in others if name.lower() in (names.classes, PIXEL_CLASS_COLUMN)]
    chosen = by_name if len(by_name) == 1 else others
    if len(chosen) == 1:
        return chosen[0], [f"the column {chosen[0]!r} of {file} holds the classes."]
    if chosen:
        return names.classes, [f"{file} has no class column; name it with `class_column`: {', '.join(others[:12])}."]
    return names.classes, []


def _require_distinct(table: rows.Body, column: str, ids: list[str]) -> None:
    seen: dict[str, int] = {}
    for name, line in zip(ids, table.lines, strict=True):
        if not name:
            raise BadData(f"{table.file}, line {line}: the id is empty.")
        if name in seen:
            raise BadData(
                f"{table.file} has the id {name!r} in lines {seen[name]} and {line} of the column {column!r}; mend "
                "them, or leave out `id_column`: rows are then numbered."
            )
        seen[name] = line


def _classes(
    table: rows.Body, columns: dict[str, np.ndarray], name: str, ids: list[str]
) -> tuple[np.ndarray | None, list[str]]:
    if name in columns:
        return labels.classes(table.file, name, columns[name].tolist(), ids, table.lines)
    near = [repr(other) for other in columns if other.casefold() == name.casefold()]
    if near:
        return None, [f"{table.file} has no column {name!r}, but {' and '.join(near)}: name one with `class_column`."]
    return None, []


def _without_ids(file: AnyPath, header: Sequence[str], id_column: str, row: Sequence[str]) -> InvalidChoice:
    """The error for a table without ids.

    Parameters
    ----------
    row : sequence of str
        The row after the header.
    """
    named = [name for name in header if name]
    words = " ".join(named).split()
    if id_column.casefold() in [dialect.clean_name(cell).casefold() for cell in row]:
        hint = "The names of its columns are in a later line; remove the lines before it."
    elif len(header) == 1 and (len(words) > 1 or words and words[0].isdecimal() and len(" ".join(row).split()) > 1):
        hint = (
            "Its cells seem to have white space between them; put a comma or a tab there, and names of columns into "
            "the first line."
        )
    elif len(header) == 1 and not files.is_image_name(header[0]):
        hint = "It has a single column: cells have a comma, a semicolon, a tab or | between them"
        hint += ", and no quotation marks round whole lines." if any(d in header[0] for d in ",;|\t") else "."
    elif sum(name.replace(".", "").isdecimal() for name in named) > len(named) // 2:
        hint = "Its first line should name the columns, and has numbers; name columns of pixels pixel0, pixel1, ..."
    elif any(files.is_image_name(name) for name in named):
        hint = "Its first line should name the columns, and names an image: add a line such as id,class."
    else:
        hint = "Name it with `id_column`."
    return unknown(f"{file} has no id column", id_column, _shown(named), hint)


def _shown(names: Iterable[str]) -> list[str]:
    """The names of columns that an error compares and shows: a limited number of them, of limited length."""
    return [name[:60] for name in islice(names, 1000) if name]
