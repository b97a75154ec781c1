"""Tables of images: CSV files with a row for each image, and RAMP kits, which hold such files."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feature_cache.errors import BadData, InvalidChoice, unknown
from feature_cache.files import real_path

SUFFIXES = (".csv", ".tsv")


@dataclass(frozen=True)
class Table:
    """What a CSV file says of its images.

    Attributes
    ----------
    ids : tuple of str
    files : tuple of Path
        Each below the image folder, or a link from there to a file that is.
    labels : ndarray of shape (n,), str, or None
    columns : dict of str to ndarray of shape (n,), object
        All of them, by name.
    """

    ids: tuple[str, ...]
    files: tuple[Path, ...]
    labels: np.ndarray | None
    columns: dict[str, np.ndarray]


def kit_file(folder: Path, part: str = "train") -> Path | None:
    """``data/train.csv`` of a RAMP kit, or another part of it; None where `folder` is no kit or lacks it.

    The kit's ``problem.py`` shows that it is one, and is not run.
    """
    file = folder / "data" / f"{part}.csv"
    return file if (folder / "problem.py").is_file() and file.is_file() else None


def read(file: Path, images: str | None, class_column: str, id_column: str) -> Table:
    """The rows of a CSV file; for the parameters and errors see `transfer.datasets.load`."""
    rows, columns = _read_csv(file)
    if id_column not in columns:
        raise unknown(f"{file} has no id column", id_column, columns, "Name it with --id-column.")
    labels = None
    if class_column in columns:
        labels = np.array([row[class_column].strip() for row in rows])
    elif class_column != "class":
        raise unknown(f"{file} has no class column", class_column, columns)
    ids = [row[id_column].strip() for row in rows]
    _check_rows(file, ids, labels)

    folder = Path(images) if images else file.parent / "imgs" if (file.parent / "imgs").is_dir() else file.parent
    if not folder.is_dir():
        raise InvalidChoice(f"there is no image folder {folder}; name the one of {file.name} with --images.")
    inside = real_path(folder)
    files = []
    for name in ids:
        path = folder / name
        if not _is_below(path, inside):
            raise BadData(
                f"{file} names {name!r}, which leads out of the image folder {folder}; such a path is refused."
            )
        files.append(path)
    cells = {name: np.array([row[name].strip() for row in rows], object) for name in columns if name}
    return Table(tuple(ids), tuple(files), labels, cells)


def _is_below(path: Path, folder: Path) -> bool:
    if "\0" in str(path):
        return False
    return Path(os.path.realpath(path)).is_relative_to(folder)


def _read_csv(file: Path) -> tuple[list[dict[str, str]], list[str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, delimiter="\t" if file.suffix.lower() == ".tsv" else ",", restval="")
            columns = list(reader.fieldnames or [])
            rows = [row for row in reader if any(value for value in row.values())]
    except (OSError, UnicodeError, csv.Error) as error:
        raise BadData(f"cannot read {file} as a CSV file in UTF-8: {error}.") from error
    if not rows:
        raise BadData(f"{file} has no rows; the first line names the columns, then comes one line per image.")
    return rows, columns


def _check_rows(file: Path, ids: list[str], labels: np.ndarray | None) -> None:
    if "" in ids:
        raise BadData(f"{file}, row {ids.index('') + 1}: the id is empty.")
    if labels is not None and (labels == "").any():
        bare = np.flatnonzero(labels == "")
        raise BadData(
            f"{file}: {len(bare)} of {len(ids)} images have no label, the first is {ids[bare[0]]!r}; "
            "give them one, or leave them out."
        )
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise BadData(f"{file} names the image {name!r} twice; keep one row for it.")
        seen.add(name)
