"""The folder that exploring a data set writes: one page with all findings, and the numbers as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.files.atomic import whole_folder
from feature_cache.files.checked import read_json
from layertap.flags import with_flags
from layertap.report.explore.charts import level_chart, shape_chart
from layertap.report.explore.findings import facts, named
from layertap.report.explore.galleries import copies_by_heading, input_sizes, rotations
from layertap.report.explore.pixel_map import pixel_map
from layertap.report.map_page import SCRIPTS as MAP_SCRIPTS
from layertap.report.map_page import map_data, map_texts
from layertap.report.pages import fragment, write_page
from layertap.report.pages.values import fact_rows
from layertap.report.tabs.data_set import some_of_each
from transfer.data.copies.duplicates import Copies
from transfer.data.survey import DatasetSurvey

PAGE, NUMBERS = "report.html", "explore.json"
OF_A_CLASS = 12  # images
MOST_SHOWN, LEAST_SHOWN = 360, 96  # images of all classes, small ones and large ones
MOST_MAP_BYTES = 2_000_000  # of the thumbnails of its map
MOST_ROWS = 100  # of a table
MOST_CLASSES = 40  # that a notebook lists, the most frequent
MANY = 30  # classes; of more, a page folds all but the first away


def is_report(folder: Path) -> bool:
    """Whether a folder was written by `write`."""
    try:
        numbers = read_json(folder / NUMBERS)
    except (OSError, ValueError):
        return False
    return isinstance(numbers, dict) and {"data", "shapes", "copies"} <= numbers.keys()


def write(
    out: Path, report: dict[str, Any], surveys: Sequence[DatasetSurvey], copies: Copies, *, overwrite: bool = False
) -> None:
    """Write the folder `out`: `report` as ``explore.json``, and the page."""
    with whole_folder(out, "report", is_report, overwrite=overwrite) as folder:
        with (folder / NUMBERS).open("w", encoding="utf-8") as stream:
            json.dump(report, stream, indent=2)
            stream.write("\n")
        _write_page(folder / PAGE, report, surveys, copies)


def findings(report: dict[str, Any]) -> str:
    """The findings of a survey as HTML without pictures, of a size that has a limit: what a notebook shows."""
    names = (report["classes"] or {}).items()
    most_frequent = dict(sorted(names, key=lambda item: -item[1])[:MOST_CLASSES])
    found = _found({**report, "classes": most_frequent})
    rest = len(names) - len(most_frequent)
    return fragment("survey_fragment.html", found={**found, "classes_left_out": f"{rest:,}" if rest else ""})


def _write_page(file: Path, report: dict[str, Any], surveys: Sequence[DatasetSurvey], copies: Copies) -> None:
    readable = report["readable"] > 0
    content = pixel_map(surveys, copies) if readable else None
    write_page(
        file,
        "explore.html",
        title=f"{report['data']}: images",
        scripts=[*(MAP_SCRIPTS if content else ()), "tabs.js"],
        styles=["charts.css", *(["map.css"] if content else []), "tabs.css", "wide.css", "explore.css"],
        data={"map": map_data(content, most_bytes=MOST_MAP_BYTES)} if content else {},
        found=_found(report),
        **_charts(report, surveys[0]),
        images=_images(surveys[0]) if readable else None,
        map=map_texts(content) if content else None,
        map_notes=content.notes if content else (),
        pairs=copies_by_heading(surveys, copies) if readable else [],
    )


def _charts(report: dict[str, Any], survey: DatasetSurvey) -> dict[str, Any]:
    if not report["readable"]:
        return {"shapes": None, "levels": None}
    counts = [(one["height"], one["width"], one["count"]) for one in report["shapes"]]
    return {"shapes": shape_chart(counts, survey.size), "levels": level_chart(survey.histogram)}


def _images(survey: DatasetSurvey) -> dict[str, Any]:
    """Images of each class, or of the whole data set where it has no labels; some at several sizes, and rotated."""
    dataset = survey.dataset
    names, counts = np.unique([] if dataset.labels is None else dataset.labels, return_counts=True)
    ranked = names[np.argsort(-counts, kind="stable")].tolist()
    most = (MOST_SHOWN, LEAST_SHOWN)
    shown = list(some_of_each(ranked, dataset, dataset.labels, survey.decoding, OF_A_CLASS, most))
    return {
        "shown": shown,
        "more_classes": len(ranked) > len(shown),
        "sizes": input_sizes(survey),
        "rotations": rotations(survey),
        "size": " x ".join(map(str, survey.size)),
    }


def _found(report: dict[str, Any]) -> dict[str, Any]:
    """The findings as ``findings.html`` shows them."""
    return {
        "images": f"{report['images']:,}",
        "readable": f"{report['readable']:,}",
        "classes": _class_rows(report["classes"] or {}),
        "classes_left_out": "",
        "facts": fact_rows(facts(report)) if report["readable"] else [],
        "remarks": [with_flags(remark) for remark in report["remarks"]] if report["readable"] else [],
        "copies": _copies(report["copies"], ""),
        "unreadable": _unreadable(report["data"], report["unreadable"]),
        "against": _against(report["against"]) if report["against"] else None,
    }


def _against(against: dict[str, Any]) -> dict[str, Any]:
    """What is in the other data set too."""
    return {
        "heading": f"Also in {against['data']}",
        "summary": f"{against['leaks']['images']:,} of its {against['images']:,} images.",
        "copies": _copies(against["leaks"], " in both"),
        "unreadable": _unreadable(against["data"], against["unreadable"]),
    }


def _class_rows(classes: dict[str, int]) -> list[list[Any]]:
    """The classes with their bars; where there are many, the most frequent first."""
    most, items = max([1, *classes.values()]), list(classes.items())
    if len(items) > MANY:
        items.sort(key=lambda item: -item[1])
    return [[name, (f"{count:,}", f"{count / most:.3f}")] for name, count in items]


def _copies(groups: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """Tables of groups and of pairs, those of different classes first."""
    tables = []
    for heading, kind in (("Exact copies", "exact"), ("Near-duplicates", "near")):
        rows = [
            ["; ".join(named(image) for image in one["images"]), f"{one['alike']:.3f}"]
            for one in sorted(groups[kind], key=lambda one: not one["classes_differ"])[:MOST_ROWS]
        ]
        first = f", the first {MOST_ROWS} here" if len(groups[kind]) > MOST_ROWS else ""
        if rows:
            tables.append({"heading": f"{heading}{where}: {len(groups[kind]):,}{first}", "rows": rows})
    return tables


def _unreadable(name: str, images: Sequence[dict[str, str]]) -> dict[str, Any]:
    rows = [(one["id"], with_flags(one["reason"])) for one in images[:MOST_ROWS]]
    count = "1 image" if len(images) == 1 else f"{len(images):,} images"
    return {"heading": f"{count} of {name} cannot be read", "rows": rows}
