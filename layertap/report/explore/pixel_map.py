"""The images of a data set as points, by their pixels alone: no features have been computed of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from layertap.analysis.projections import Projection, project
from layertap.report.explore.galleries import place_of
from layertap.report.map_page import MapContent, selection_command
from layertap.report.pages import affordable
from transfer.data.copies.duplicates import Copies
from transfer.data.survey import DatasetSurvey, ImageRecord

FEWEST = 5  # images
MOST_MAPPED, LEAST_MAPPED = 2000, 300  # images, small ones and large ones
ALIKE = "has about the same gray pixels, at 32 x 32"
HINT = "No net has seen them; layertap map places images by what a net sees."


def pixel_map(surveys: Sequence[DatasetSurvey], copies: Copies) -> MapContent | None:
    """The images of one or two data sets as points, copies before all others; None where there are very few."""
    sources = [source for survey in surveys for source in survey.dataset.sources]
    ids = [name for survey in surveys for name in survey.dataset.ids]
    kinds = _kinds(len(ids), copies)
    if len(ids) < FEWEST:
        return None
    order = np.random.default_rng(0).permutation(len(ids))
    order = order[np.argsort(kinds[order] == "", kind="stable")]
    rows = np.sort(order[: affordable(sources, MOST_MAPPED, LEAST_MAPPED)])
    grays = np.concatenate([survey.grays for survey in surveys])[rows]
    places = project(grays.reshape(len(rows), -1).astype(np.float32))
    notes: tuple[str, ...] = (HINT,)
    if len(rows) < len(ids):
        notes += (f"{len(rows):,} of {len(ids):,} images are shown, copies before all others.",)
    shown = [place_of(surveys, row) for row in rows.tolist()]
    columns = {**_columns(shown, kinds[rows]), "lightness": grays.mean((1, 2)).astype(np.float64)}
    if len(surveys) > 1:
        names = [survey.dataset.name for survey in surveys]
        if len(set(names)) < len(names):
            names = [f"{name} ({at})" for at, name in enumerate(names, 1)]
        first = rows < len(surveys[0].records)
        columns = {"data set": np.where(first, *names), **columns}
    return MapContent(
        surveys[0].dataset.name,
        Projection(np.arange(len(rows)), places.points, places.axes),
        [ids[row] for row in rows],
        [sources[row] for row in rows],
        columns,
        selection_command(surveys[0].dataset) if len(surveys) == 1 else "",
        surveys[0].decoding,
        notes,
        alike=ALIKE,
    )


def _kinds(count: int, copies: Copies) -> np.ndarray:
    """What is a copy, and of which kind; empty for all other images."""
    kinds = np.full(count, "", dtype="<U14")
    for *pair, _ in copies.near:
        kinds[pair] = "near-duplicate"
    for group in copies.exact:
        kinds[list(group)] = "exact copy"
    return kinds


def _columns(shown: Sequence[tuple[DatasetSurvey, int]], kinds: np.ndarray) -> dict[str, np.ndarray]:
    """What is known of the images that are shown, where it differs among them."""
    records = [survey.records[own] for survey, own in shown]
    labels = ["" if survey.dataset.labels is None else str(survey.dataset.labels[own]) for survey, own in shown]
    columns: dict[str, Iterable[Any]] = {}
    if any(labels):
        columns["class"] = labels
    columns |= {
        "copies": np.where(kinds == "", "no copy", kinds),
        "format": [record.format for record in records],
        "mode": [record.mode for record in records],
        "height": [float(record.shape[0]) for record in records],
        "width": [float(record.shape[1]) for record in records],
        "kB": [_kilobytes(record) for record in records],
    }
    arrays = {name: np.array(values) for name, values in columns.items()}
    return {name: values for name, values in arrays.items() if name == "class" or len(np.unique(values)) > 1}


def _kilobytes(record: ImageRecord) -> float:
    return np.nan if record.bytes is None else record.bytes / 1000
