"""The report of a run: one HTML file that needs nothing beside it, and no network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_cache.errors import BadData
from layertap.report.map_page import SCRIPTS as MAP_SCRIPTS
from layertap.report.map_page import MapContent, map_data, map_texts
from layertap.report.pages import fragment, write_page
from layertap.report.pages.values import fact_rows, picture, share_cell
from layertap.shown_scores import SCORES, ShownScore

if TYPE_CHECKING:
    from layertap.report.mistakes import Confusions

REPORT_FILE = "report.html"
JUDGE = "heads that were not trained on the images"
MOST_MAP_BYTES = 2_000_000  # of the thumbnails of its map
MOST_CLASSES = 30  # more are folded away, behind the worst
WORST = 15
CLASS_COLUMNS = ("class", "precision", "recall", "F1", "images")


@dataclass(frozen=True, eq=False)
class Tabs:
    """What the page of a run shows beside its scores; what there is none of is left out.

    Attributes
    ----------
    mistakes : Confusions, optional
        What classes were taken for: a matrix whose cells open their images.
    confidence : pair of dict, optional
        What `layertap.report.tabs.confidence` returns: for the page, and for its script.
    map : MapContent, optional
        The images as points.
    data_set : dict, optional
        See `layertap.report.tabs.data_set.data_view`.
    cost : sequence of (str, str)
        See `layertap.report.tabs.cost.cost_rows`.
    recipe : dict, optional
        See `layertap.report.tabs.recipe.recipe_view`.
    curve : dict, optional
        See `layertap.report.tabs.curves.learning_curve`.
    worst : (str, sequence of dict)
        A heading, and mistaken images below it, where there is no matrix: ``id``, ``url`` and ``lines``.
    anomalies : sequence of dict
        See `layertap.report.tabs.anomalies.heat_view`.
    pictures : mapping of str to mapping of str to Path
        PNG files by their headings, by the tab that shows them: ``map``.
    judge : str
        Whose predictions these are.
    """

    mistakes: Confusions | None = None
    confidence: tuple[dict[str, Any], dict[str, Any]] | None = None
    map: MapContent | None = None
    data_set: dict[str, Any] | None = None
    cost: Sequence[tuple[str, str]] = ()
    recipe: dict[str, Any] | None = None
    curve: dict[str, Any] | None = None
    worst: tuple[str, Sequence[dict[str, Any]]] = ("", ())
    anomalies: Sequence[dict[str, Any]] = ()
    pictures: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    judge: str = JUDGE


NO_TABS = Tabs()


def write_report(
    folder: Path,
    title: str,
    scores: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Mapping[str, Any]],
    per_class: Sequence[Mapping[str, Any]] = (),
    pictures: Mapping[str, Path] | None = None,
    notes: Iterable[str] = (),
    *,
    tabs: Tabs = NO_TABS,
    name: str = REPORT_FILE,
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
        PNG files, by heading, in the order in which they are shown below the scores.
    notes : iterable of str
        Sentences below the title.
    tabs : Tabs
        The rest of the page.
    name : str
        Of the file.

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
    worst, path = _worst(per_class), folder / name
    shown = {"scores": pictures or {}, "map": {}, **tabs.pictures}
    write_page(
        path,
        "run.html",
        title=title,
        **_parts(tabs),
        scores=score_rows(scores),
        settings=[(heading, fact_rows(values)) for heading, values in settings.items() if values],
        class_columns=CLASS_COLUMNS,
        classes=[_class_row(of_class) for of_class in per_class],
        worst=[_class_row(of_class) for of_class in worst],
        count=f"{len(per_class):,}",
        pictures={tab: [picture(*named) for named in files.items()] for tab, files in shown.items()},
        notes=list(notes),
    )
    return path


def _parts(tabs: Tabs) -> dict[str, Any]:
    """The values of the templates of all tabs but the first, with the scripts and styles that these need."""
    found, data, scripts, styles = None, {}, [], []
    if tabs.mistakes is not None:
        found = {
            "summary": tabs.mistakes.summary(),
            "matrix": tabs.mistakes.matrix(),
            "pairs": tabs.mistakes.pairs(),
            "shown": tabs.mistakes.shown,
            "unsure": tabs.mistakes.unsure,
        }
        scripts.append("confusions.js")
        styles.append("confusions.css")
    if tabs.confidence is not None:
        data["confidence"] = tabs.confidence[1]
        scripts.append("confidence.js")
    if tabs.map is not None:
        data["map"] = map_data(tabs.map, most_bytes=MOST_MAP_BYTES)
        scripts += MAP_SCRIPTS
        styles.append("map.css")
    if tabs.anomalies:
        styles.append("anomalies.css")
    if found or tabs.confidence or tabs.data_set:
        scripts.append("tabs.js")  # the last one: maps and charts are there when their tab is closed
        styles += ["charts.css", "tabs.css", "wide.css"]
    return {
        "scripts": scripts,
        "styles": styles,
        "data": data,
        "found": found,
        "confidence": tabs.confidence and tabs.confidence[0],
        "map": tabs.map and map_texts(tabs.map),
        "map_notes": tabs.map.notes if tabs.map else (),
        "data_set": tabs.data_set,
        "cost": tabs.cost,
        "recipe": tabs.recipe,
        "curve": tabs.curve,
        "gallery_heading": tabs.worst[0],
        "gallery": tabs.worst[1],
        "anomalies": tabs.anomalies,
        "judge": tabs.judge,
    }


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
    rows = score_rows(scores) if scores else None
    return fragment("run_fragment.html", title=title, scores=rows, pictures=shown)


def score_table(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """A table of HTML: a row for each score, a column for each part (see `write_report`)."""
    return fragment("scores.html", scores=score_rows(scores))


def score_rows(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A table of scores as the macro `scores` of ``parts.html`` shows it (see `write_report`)."""
    named = dict.fromkeys(name for of_part in scores.values() for name in of_part)
    rows = []
    for name in [*(name for name in SCORES if name in named), *(name for name in named if name not in SCORES)]:
        score = SCORES.get(name, ShownScore(name.replace("_", " "), format=".4g"))
        rows.append([score.label, *(_score(of_part.get(name), score.format) for of_part in scores.values())])
    values = [value for of_part in scores.values() for value in of_part.values() if isinstance(value, Mapping)]
    spread = any(value.get("std") for value in values)  # which a single split has not
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
    shares = [share_cell(of_class[name]) for name in ("precision", "recall", "f1")]
    return [of_class["class"], *shares, f"{of_class['support']:,}"]
