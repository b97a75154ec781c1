"""`layertap.explore`: what a data set holds, before any features are computed of it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_cache.files.atomic import check_free
from feature_cache.files.urls import is_url
from layertap.progress import ProgressBar, progress_bars
from layertap.report.explore import findings, page
from layertap.workflows.load_dataset import Source, load_dataset
from transfer.data import tables
from transfer.data.copies.duplicates import Copies, find_copies
from transfer.data.datasets import Dataset
from transfer.data.images import Decoding
from transfer.data.survey import SIZE, DatasetSurvey, survey


@dataclass(frozen=True, repr=False)
class Survey:
    """The result of `explore`.

    Attributes
    ----------
    data : DatasetSurvey
        The data set: its readable images and what was kept of each of them.
    against : DatasetSurvey or None
        The data set that it was compared with.
    copies : Copies
        Copies and near-duplicates within `data`, and between `data` and `against`.
    report : dict
        All findings as numbers, texts, lists and dicts of these: what ``layertap explore --json`` prints.
    folder : Path or None
        The folder that the page and its numbers were written to.
    """

    data: DatasetSurvey
    against: DatasetSurvey | None
    copies: Copies
    report: dict[str, Any]
    folder: Path | None = None

    def __repr__(self) -> str:
        classes, copies = self.report["classes"], self.report["copies"]
        parts = [
            repr(self.data.dataset.name),
            _counted(self.report["images"], "image", "images"),
            f"{len(self.data.unreadable):,} unreadable",
            "no labels" if classes is None else _counted(len(classes), "class", "classes"),
            _counted(len(copies["exact"]), "group of copies", "groups of copies"),
            _counted(len(copies["near"]), "pair of near-duplicates", "pairs of near-duplicates"),
        ]
        if self.against:
            leaks = _counted(self.report["against"]["leaks"]["images"], "image", "images")
            parts.append(f"{leaks} of {self.against.dataset.name!r} too")
        return f"Survey({', '.join(parts)})"

    def _repr_html_(self) -> str:
        """What a notebook shows: classes, facts about files and pixels, copies and unreadable images."""
        return page.findings(self.report)


def explore(
    data: Source,
    *,
    against: Source | None = None,
    size: tuple[int, int] = SIZE,
    alpha: str = "white",
    window: str | None = None,
    pages: str = "first",
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: bool | ProgressBar = True,
) -> Survey:
    """Look at every image of a data set once: shapes, modes, file sizes, levels, copies and damage.

    Parameters
    ----------
    data : Dataset, or what `layertap.load_dataset` takes
    against : Dataset, or what `layertap.load_dataset` takes, optional
        Another data set, whose images are looked for in `data`. By default it is the test set, where `data` is the
        path of a RAMP kit.
    size : (height, width)
        The input size of a net, for the statistics of pixels.
    alpha : {'white', 'black', 'ignore'}
        The level that transparent pixels are laid over.
    window : str, optional
        The values that become black and white in images of more than 8 bits: ``"0,4095"``, or ``"percentiles"``.
    pages : {'first', 'channels'}
        Whether a file of several pages is its first page, or one image whose channels the pages are.
    out : path, optional
        A folder to write, with one page that shows all findings, and their numbers as ``explore.json``.
    overwrite : bool
        Whether to replace a report that `out` holds already.
    progress : bool or callable
        See `layertap.progress.progress_bars`.

    Raises
    ------
    InvalidChoice
        When an option has a value that is not allowed, or `out` is taken.
    BadData
        When a data set cannot be loaded.

    Examples
    --------
    >>> import layertap as lt
    >>> digits = lt.load_dataset("digits")
    >>> lt.explore(digits.select(digits.labels == "0"), size=(8, 8), progress=False)
    Survey('digits', 178 images, 0 unreadable, 1 class, 0 groups of copies, 0 pairs of near-duplicates)
    """
    folder = None if out is None else Path(out)
    if folder:
        check_free(folder, "report", page.is_report, overwrite=overwrite)
    start, decoding = time.monotonic(), Decoding(alpha, pages, window)
    other = kit_test_set(data) if against is None else against
    loaded = [load_dataset(source) for source in (data, other) if source is not None]
    surveys = [_survey(dataset, size, decoding, progress_bars(progress)) for dataset in loaded]
    copies = find_copies(*surveys)
    report = findings.report(surveys, copies)
    report["seconds"] = round(time.monotonic() - start, 3)
    if folder:
        page.write(folder, report, surveys, copies, overwrite=overwrite)
    return Survey(surveys[0], surveys[1] if len(surveys) > 1 else None, copies, report, folder)


def kit_test_set(data: Source) -> Path | None:
    """The table of the test set, where `data` is the path of a RAMP kit on disk that has one."""
    if not isinstance(data, str | os.PathLike) or is_url(os.fspath(data)):
        return None
    file = tables.kit_file(Path(data), "test")
    return file if isinstance(file, Path) else None


def _survey(dataset: Dataset, size: tuple[int, int], decoding: Decoding, bars: ProgressBar) -> DatasetSurvey:
    with bars("images") as show:
        return survey(dataset, size, decoding=decoding, progress=show)


def _counted(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"
