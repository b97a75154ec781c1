"""The report of a run: one HTML file that needs nothing beside it, and no network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_cache.errors import BadData
from layertap.report.pages import fragment, write_page
from layertap.report.pages.values import fact_rows, picture
from layertap.shown_scores import SCORES, ShownScore

if TYPE_CHECKING:
    from layertap.report.mistakes import Confusions

REPORT_FILE = "report.html"
MOST_CLASSES = 30  # more are folded away, behind the worst
WORST = 15
CLASS_COLUMNS = ("class", "precision", "recall", "F1", "images")


def write_report(
    folder: Path,
    title: str,
    scores: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Mapping[str, Any]],
    per_class: Sequence[Mapping[str, Any]] = (),
    pictures: Mapping[str, Path] | None = None,
    notes: Iterable[str] = (),
    mistakes: Confusions | None = None,
) -> Path:
    """Write ``report.html`` into `folder`. Texts are shown as they are, whatever they hold.

    Parameters
    ----------
    scores : mapping of str to mapping
        For each part, ``train``, ``valid``, ``test``: scores by name, each a number, None, or ``mean`` and ``std``
        over splits (see `heads.evaluation.cross_validation.Evaluation.summary`).
    settings : mapping of str to mapping
        How the run was made, by heading: ``{"Features": {"net": "vgg16", ...}, "Head": {...}}``. Values are numbers,
        texts, None, or lists and mappings of these.
    per_class : sequence of mapping
        See `heads.evaluation.metrics.per_class`.
    pictures : mapping of str to Path, optional
        PNG files, by heading, in the order in which they are shown.
    notes : iterable of str
        Sentences below the title.
    mistakes : Confusions, optional
        What classes were taken for: a matrix whose cells open their images.

    Returns
    -------
    Path
        Of the report.

    Raises
    ------
    BadData
        When a picture is not a PNG file.
    StorageFailure
        When the folder does not take the report.
    """
    worst, found = _worst(per_class), None
    if mistakes is not None:
        found = {"matrix": mistakes.matrix(), "pairs": mistakes.pairs(), "shown": mistakes.shown}
    path = folder / REPORT_FILE
    write_page(
        path,
        "run.html",
        title=title,
        scripts=["confusions.js"] if found else (),
        styles=["confusions.css"] if found else (),
        found=found,
        notes=list(notes),
        scores=_score_rows(scores),
        settings=[(heading, fact_rows(values)) for heading, values in settings.items() if values],
        class_columns=CLASS_COLUMNS,
        classes=[_class_row(of_class) for of_class in per_class],
        worst=[_class_row(of_class) for of_class in worst],
        count=f"{len(per_class):,}",
        pictures=[picture(heading, file) for heading, file in (pictures or {}).items()],
    )
    return path


def run_fragment(title: str, scores: Mapping[str, Mapping[str, Any]], pictures: Mapping[str, Path]) -> str:
    """HTML that shows a run in a notebook: its scores and its pictures.

    Parameters
    ----------
    scores : mapping of str to mapping
        As for `write_report`.
    pictures : mapping of str to Path
        PNG files, by heading; those that cannot be read are left out.
    """
    shown = []
    for heading, file in pictures.items():
        with contextlib.suppress(OSError, BadData):
            shown.append(picture(heading, file))
    rows = _score_rows(scores) if scores else None
    return fragment("run_fragment.html", title=title, scores=rows, pictures=shown)


def score_table(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """A table of HTML: a row for each score, a column for each part (see `write_report`)."""
    return fragment("scores.html", scores=_score_rows(scores))


def _score_rows(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    named = dict.fromkeys(name for of_part in scores.values() for name in of_part)
    rows = []
    for name in [*(name for name in SCORES if name in named), *(name for name in named if name not in SCORES)]:
        score = SCORES.get(name, ShownScore(name.replace("_", " "), format=".4g"))
        rows.append([score.label, *(_score(of_part.get(name), score.format) for of_part in scores.values())])
    spread = any(isinstance(value, Mapping) for of_part in scores.values() for value in of_part.values())
    return {"columns": ["", *scores], "rows": rows, "spread": spread}


def _score(value: Any, form: str) -> str:
    if isinstance(value, Mapping):
        mean, deviation = value.get("mean"), value.get("std")
        spread = "" if mean is None else format(deviation, form)
        return _score(mean, form) + (f" ± {spread}" if spread.strip("0.") else "")
    return "–" if value is None else format(value, form)


def _worst(per_class: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of many classes those with the lowest F1, which are shown before all others."""
    if len(per_class) <= MOST_CLASSES:
        return []
    known = [of_class for of_class in per_class if of_class["f1"] is not None]
    return sorted(known, key=lambda of_class: of_class["f1"])[:WORST]


def _class_row(of_class: Mapping[str, Any]) -> list[Any]:
    shares = [_share(of_class[name]) for name in ("precision", "recall", "f1")]
    return [of_class["class"], *shares, f"{of_class['support']:,}"]


def _share(value: float | None) -> str | tuple[str, str]:
    """A cell with a bar."""
    return "–" if value is None else (f"{value:.3f}", f"{value:.3f}")
