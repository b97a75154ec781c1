"""The page of a search: each query, and the images near to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from layertap.report.pages import fragment, thumbnail_if_readable, write_page
from transfer.data.dataset import Dataset
from transfer.data.images import DEFAULT, Decoding

MOST_SHOWN = 5  # queries that a notebook shows
MOST_QUERIES = 200  # of a page
LONGEST = 96  # pixels


def write(
    file: Path,
    facts: Sequence[tuple[str, str]],
    queries: Dataset,
    dataset: Dataset,
    positions: np.ndarray,
    captions: Sequence[Sequence[str]],
    notes: Sequence[str],
    decoding: Decoding,
) -> None:
    """Write the page (see `Matches.write_page`); of many queries, the first.

    Parameters
    ----------
    facts : sequence of (str, str)
        What was searched, and how.
    captions : sequence of sequence of str
        The distance of each image, as it is shown.
    notes : sequence of str
        Sentences above the images.
    """
    groups = _groups(queries, dataset, positions[:MOST_QUERIES], captions, decoding)
    if len(queries) > MOST_QUERIES:
        notes = [*notes, f"The first {MOST_QUERIES} of {len(queries):,} queries are shown."]
    title = f"Search in {dataset.name}"
    write_page(file, "matches.html", title=title, styles=["matches.css"], facts=facts, notes=notes, groups=groups)


def as_fragment(queries: Dataset, dataset: Dataset, positions: np.ndarray, captions: Sequence[Sequence[str]]) -> str:
    """The first queries and the images near to them, for a notebook."""
    groups = _groups(queries, dataset, positions[:MOST_SHOWN], captions, DEFAULT)
    return fragment("matches_table.html", groups=groups)


def _groups(
    queries: Dataset,
    dataset: Dataset,
    positions: np.ndarray,
    captions: Sequence[Sequence[str]],
    decoding: Decoding,
) -> list[dict[str, Any]]:
    return [
        {
            "query": shown(queries, number, decoding),
            "matches": [
                {**shown(dataset, position, decoding), "distance": distance}
                for position, distance in zip(line, captions[number], strict=True)
            ],
        }
        for number, line in enumerate(positions.tolist())
    ]


def shown(dataset: Dataset, position: int, decoding: Decoding = DEFAULT) -> dict[str, Any]:
    """An image of a data set as pages show it: its id, its label or "", and its thumbnail, or None."""
    url = thumbnail_if_readable(dataset.sources[position], LONGEST, decoding)
    label = "" if dataset.labels is None else str(dataset.labels[position])
    return {"id": dataset.ids[position], "label": label, "url": url}
