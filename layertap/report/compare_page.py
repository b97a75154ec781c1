"""The pages of comparisons: how alike layers are, and what only one of two runs gets right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from layertap.report.pages import thumbnail_if_readable, write_page

if TYPE_CHECKING:
    from layertap.workflows.compare import RunComparison, Similarity

MOST_SHOWN = 200  # images that only one run gets right, of each run
LONGEST = 96  # pixels


def space_tables(found: Similarity) -> list[tuple[str, np.ndarray]]:
    """The tables of a comparison of layers, with their headings."""
    return [
        (f"Linear CKA, {found.images:,} images", found.cka),
        (f"Linear CKA by the unbiased estimator, {found.sample:,} images", found.unbiased_cka),
        (f"RSA (Spearman), {found.sample:,} images", found.rsa),
    ]


def run_facts(found: RunComparison) -> list[tuple[str, str]]:
    """The numbers of a comparison of two runs, with their names."""
    numbers = found.comparison
    low, high = numbers.interval
    return [
        ("images", f"{numbers.images:,}"),
        *((f"accuracy of {name}", f"{value:.4f}") for name, value in zip(found.runs, numbers.accuracy, strict=True)),
        ("difference", f"{numbers.difference:+.4f} (95 % from {low:+.4f} to {high:+.4f})"),
        ("p-value of McNemar's test", f"{numbers.p_value:.4g}"),
        ("agreement", f"{numbers.agreement:.4f}"),
        ("Cohen's kappa", f"{numbers.kappa:.4f}"),
    ]


def write_spaces(file: Path, found: Similarity) -> None:
    """Write the page of a comparison of layers (see `Similarity.write_page`)."""
    tables = [
        {
            "heading": heading,
            "rows": [(name, *map(_cell, line)) for name, line in zip(found.spaces, table.tolist(), strict=True)],
        }
        for heading, table in space_tables(found)
    ]
    content: dict[str, Any] = {"facts": [], "notes": [], "tables": tables, "sides": []}
    write_page(file, "compare.html", title=f"{found.data}: layers compared", columns=["", *found.spaces], **content)


def write_runs(file: Path, found: RunComparison) -> None:
    """Write the page of a comparison of two runs (see `RunComparison.write_page`)."""
    title = f"{found.data.name}: {' and '.join(found.runs)}"
    sides = [_side(found, number) for number in (0, 1)]
    write_page(file, "compare.html", title=title, facts=run_facts(found), notes=found.notes, tables=[], sides=sides)


def _side(found: RunComparison, number: int) -> dict[str, Any]:
    """The images that only one of the runs predicts correctly, with what the other one takes them for."""
    labels, wrong = found.data.labels, found.predictions[1 - number]
    assert labels is not None
    right = found.predictions[number] == labels
    places = np.flatnonzero(right & (wrong != labels))
    images = [
        {"id": found.data.ids[place], "url": url, "lines": [labels[place], f"not {wrong[place]}"]}
        for place in places[:MOST_SHOWN].tolist()
        if (url := thumbnail_if_readable(found.data.sources[place], LONGEST, found.decoding))
    ]
    note = f"The first {MOST_SHOWN} are shown." if len(places) > MOST_SHOWN else ""
    heading = f"Only {found.runs[number]} predicts correctly: {len(places):,}"
    return {"heading": heading, "note": note, "images": images}


def _cell(value: float) -> tuple[str, str]:
    """A similarity with its share of a bar."""
    return f"{value:.3f}", f"{min(1.0, max(0.0, np.nan_to_num(value))):.3f}"
