"""A RAMP kit on disk: its problem, its data, and the images that cannot be used."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from feature_cache.errors import BadData, BadImage, unknown
from feature_cache.files.checked import read_bytes, require_regular
from layertap.ramp.images import read_image, scikit_image
from layertap.ramp.kit import PROBLEM_FILE, SUBMISSIONS, require_kit
from layertap.ramp.transforms.code_loading import error_line, load, ramp_workflow
from layertap.ramp.trials.generators import paths_of
from transfer.hardware import cores

NEEDED = ("problem_title", "Predictions", "workflow", "score_types", "get_cv", "get_train_data", "get_test_data")
EXTERNAL = "external_imports"  # a folder of modules that submissions may import


@dataclass
class Part:
    """The training or the test data of a kit, without images that cannot be used.

    Attributes
    ----------
    X
        The value that the workflow takes; for image kits, a folder and an array of ids.
    y : ndarray of shape (n,), or None where it is secret
    bad_positions : list of int
        The positions of the images that were left out.
    bad : list of str
        A line for each of them: where it is named, and why it cannot be used.
    """

    X: Any
    y: Any
    bad_positions: list[int]
    bad: list[str]


class Kit:
    """The kit in a folder. Creating this object runs the kit's ``problem.py``.

    Parameters
    ----------
    folder : Path
    checked : dict, optional
        The positions of images that cannot be used, under ``bad``, for each part; by default all images are read.

    Raises
    ------
    InvalidChoice
        When there is no ``problem.py``.
    BadData
        When ``problem.py`` raises an error, or lacks a name.
    MissingDependency
        When ramp-workflow is not installed.
    """

    def __init__(self, folder: Path, checked: dict[str, Any] | None = None) -> None:
        self._checked = checked
        self.folder = folder.resolve()  # kits join its path to names more than once
        self.notes: list[str] = []
        file = self.folder / PROBLEM_FILE
        require_kit(folder)
        _require_regular(self.folder / "data")
        ramp_workflow()
        if (self.folder / EXTERNAL).is_dir():
            sys.path.append(str(self.folder / EXTERNAL))
        with self._unsigned_images(file):
            self.problem: ModuleType = load(file, name="problem")
        for name in NEEDED:
            if not hasattr(self.problem, name):
                raise BadData(f"{file} lacks {name}; see the kits of ramp-workflow.")

    def train(self) -> Part:
        """The training data."""
        return self._part("train")

    def test(self) -> Part | None:
        """The test data, or None for a kit without any."""
        return self._part("test")

    def submission(self, name: str) -> Path:
        """The folder of a submission.

        Raises
        ------
        InvalidChoice
            When there is no submission of this name.
        """
        names = self.submissions()
        if name not in names:
            raise unknown(f"{self.folder} has no submission", name, names)
        return self.folder / SUBMISSIONS / name

    def submissions(self) -> list[str]:
        return submissions(self.folder)

    def digest(self, train: Part, test: Part | None) -> str:
        """A digest of what scores depend on besides the submission: problem, data (sizes of images) and folds."""
        state = hashlib.sha256(read_bytes(self.folder / PROBLEM_FILE))
        for file in sorted((self.folder / EXTERNAL).rglob("*.py")):
            state.update(read_bytes(file))
        for part in (train, test):
            if part is not None:
                ids = _sizes(*part.X) if _is_of_images(part.X) else []
                state.update(json.dumps([ids, np.asarray(part.y).astype(str).tolist()]).encode())
                if isinstance(part.X, np.ndarray) and not part.X.dtype.hasobject:
                    state.update(np.ascontiguousarray(part.X).tobytes())
        for fold in self.problem.get_cv(train.X, train.y):
            state.update(json.dumps([np.asarray(rows).tolist() for rows in fold]).encode())
        return state.hexdigest()[:16]

    def _part(self, name: str) -> Any:
        with self._unsigned_images(self.folder / PROBLEM_FILE):
            try:
                X, y = getattr(self.problem, f"get_{name}_data")(path=str(self.folder))
            except Exception as error:
                raise BadData(error_line(error, self.folder / PROBLEM_FILE)) from error
        if X is None:
            return None
        if not _is_of_images(X):
            return Part(X, y, [], [])
        if not len(X[1]):
            raise BadData(f"{PROBLEM_FILE}: get_{name}_data names no images; list some, as in data/{name}.csv.")
        wrong: dict[int, str] = {}
        if self._checked is None:
            wrong, signed = _looked_at(X[0], X[1], self.folder / "data" / f"{name}.csv", self.folder)
            positions = list(wrong)
            if signed:
                self._note(
                    f"{X[0]} holds images of int8; submissions of ramp init take their shades, from 0 to 127, as "
                    "uint8: better write them so."
                )
        else:
            positions = self._checked["bad"][name]
        if len(positions) == len(X[1]):
            raise BadData(
                f"no image of the {name} data can be used; put the kit's images where problem.py says. The first: "
                f"{next(iter(wrong.values()), '')}"
            )
        if not positions:
            return Part(X, y, [], [])
        good = np.delete(np.arange(len(X[1])), positions)
        ids, labels = np.asarray(X[1])[good], None if y is None else np.asarray(y)[good]
        return Part((X[0], ids), labels, positions, list(wrong.values()))

    def _note(self, line: str) -> None:
        line = line.replace(f"{self.folder}{os.sep}", "")
        if line not in self.notes:
            self.notes.append(line)

    @contextlib.contextmanager
    def _unsigned_images(self, file: Path) -> Iterator[None]:
        """Write images as uint8 where a kit writes them as int8, which today's writers and readers refuse."""
        if b"imsave" not in read_bytes(file):
            yield
            return
        io = scikit_image()

        def imsave(name: Any, image: Any, *args: Any, **options: Any) -> Any:
            image = np.asarray(image)
            if image.dtype == np.int8 and image.min(initial=0) >= 0:
                self._note(
                    f"{file} writes images of int8, which today's readers refuse; they are written as uint8 instead."
                )
                image = image.astype(np.uint8)
            return original(name, image, *args, **{"check_contrast": False, **options})

        original, io.imsave = io.imsave, imsave
        try:
            yield
        finally:
            io.imsave = original


def _require_regular(folder: Path) -> None:
    """Raise BadData for a table of a kit that is no regular file: ``problem.py`` might read it for ever."""
    for table in sorted(folder.glob("*.csv")):
        try:
            require_regular(table)
        except OSError as error:
            raise BadData(
                f"{table} cannot be read: {error.strerror or error}; write the kit's tables again."
            ) from error


def _sizes(folder: str, ids: np.ndarray) -> list[tuple[str, int]]:
    return [(str(name), Path(path).stat().st_size) for name, path in zip(ids, paths_of(folder, ids), strict=True)]


def submissions(folder: Path) -> list[str]:
    """The names of the submissions of the kit in a folder."""
    root = folder / SUBMISSIONS
    folders = root.iterdir() if root.is_dir() else iter(())
    return sorted(one.name for one in folders if one.is_dir() and not one.name.startswith((".", "_")))


def _is_of_images(X: Any) -> bool:
    return isinstance(X, tuple) and len(X) == 2 and isinstance(X[0], (str, os.PathLike))


def _looked_at(folder: str, ids: np.ndarray, table: Path, root: Path) -> tuple[dict[int, str], bool]:
    """A line about each image that cannot be read, by position, and whether any other image is of int8."""

    def look(name: Any) -> tuple[str | None, bool]:
        try:
            [path] = paths_of(folder, [name])
            return None, read_image(path).dtype == np.int8
        except (BadData, BadImage) as error:
            return str(error).replace(f"{root}{os.sep}", "").rstrip("."), False

    with ThreadPoolExecutor(len(cores())) as pool:
        looked_at = list(pool.map(look, ids))
    reasons = {number: why for number, (why, _) in enumerate(looked_at) if why is not None}
    lines = _lines(table) if reasons else {}
    wrong = {}
    for number, why in reasons.items():
        name = str(ids[number])
        at = lines.get(name, [])
        where = f"{table.relative_to(root)}:{at.pop(0)}" if at else name
        wrong[number] = f"{where}: {why}; it is left out."
    return wrong, any(signed for _, signed in looked_at)


def _lines(table: Path) -> dict[str, list[int]]:
    """The line numbers of each id in a table; an empty dict where the table cannot be read."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            column = next(reader).index("id")
            lines: dict[str, list[int]] = {}
            for row in reader:
                if len(row) > column:
                    lines.setdefault(row[column], []).append(reader.line_num)
            return lines
    except (OSError, ValueError, StopIteration, csv.Error):
        return {}
