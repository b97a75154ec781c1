"""The report of a run: one HTML file that needs nothing beside it, no network and no script."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from feature_cache.errors import BadData
from layertap.report.page import facts, image, table, text, write_page
from layertap.shown_scores import SCORES, ShownScore

REPORT_FILE = "report.html"
MOST_CLASSES = 30  # more are folded away, behind the worst
WORST = 15


def write_report(
    folder: Path,
    title: str,
    scores: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Mapping[str, Any]],
    per_class: Sequence[Mapping[str, Any]] = (),
    pictures: Mapping[str, Path] | None = None,
    notes: Iterable[str] = (),
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
    parts = [
        *(f"<p>{text(note)}</p>" for note in notes),
        "<h2>Scores</h2>",
        score_table(scores),
        "<h2>How it was made</h2>",
        '<div class="settings">',
        *(
            f"<section><h3>{text(heading)}</h3>{facts(values)}</section>"
            for heading, values in settings.items()
            if values
        ),
        "</div>",
    ]
    if per_class:
        parts += ["<h2>Classes</h2>", _classes(per_class)]
    for heading, file in (pictures or {}).items():
        parts.append(f"<h2>{text(heading)}</h2>{image(heading, file)}")
    path = folder / REPORT_FILE
    write_page(path, title, parts)
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
    figures = []
    for heading, file in pictures.items():
        with contextlib.suppress(OSError, BadData):
            figures.append(image(heading, file))
    table = score_table(scores) if scores else ""
    return f"<p>{text(title)}</p>{table}<details><summary>Pictures</summary>{''.join(figures)}</details>"


def score_table(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """A table of HTML: a row for each score, a column for each part (see `write_report`)."""
    named = dict.fromkeys(name for of_part in scores.values() for name in of_part)
    rows = []
    for name in [*(name for name in SCORES if name in named), *(name for name in named if name not in SCORES)]:
        score = SCORES.get(name, ShownScore(name.replace("_", " "), format=".4g"))
        cells = "".join(f'<td class="n">{_score(of_part.get(name), score.format)}</td>' for of_part in scores.values())
        rows.append(f'<tr><th scope="row">{text(score.label)}</th>{cells}</tr>')
    spread = any(isinstance(value, Mapping) for of_part in scores.values() for value in of_part.values())
    note = "<p>Mean ± standard deviation over the splits.</p>" if spread else ""
    return table(["", *scores], rows) + note


def _score(value: Any, form: str) -> str:
    if isinstance(value, Mapping):
        mean, deviation = value.get("mean"), value.get("std")
        spread = "" if mean is None else format(deviation, form)
        return _score(mean, form) + (f" ± {spread}" if spread.strip("0.") else "")
    return "–" if value is None else text(format(value, form))


def _classes(per_class: Sequence[Mapping[str, Any]]) -> str:
    if len(per_class) <= MOST_CLASSES:
        return _class_table(per_class)
    known = [of_class for of_class in per_class if of_class["f1"] is not None]
    worst = sorted(known, key=lambda of_class: of_class["f1"])[:WORST]
    return (
        f"<p>The {len(worst)} of {len(per_class):,} classes with the lowest F1.</p>{_class_table(worst)}"
        f"<details><summary>All {len(per_class):,} classes</summary>{_class_table(per_class)}</details>"
    )


def _class_table(per_class: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for of_class in per_class:
        shares = "".join(_share(of_class[name]) for name in ("precision", "recall", "f1"))
        name, support = text(of_class["class"]), f"{of_class['support']:,}"
        rows.append(f'<tr><th scope="row">{name}</th>{shares}<td class="n">{support}</td></tr>')
    return table(["class", "precision", "recall", "F1", "images"], rows)


def _share(value: float | None) -> str:
    if value is None:
        return '<td class="n">–</td>'
    return f'<td class="n bar" style="--share:{value:.3f}">{value:.3f}</td>'
