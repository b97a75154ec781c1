"""The pages of comparisons: how alike layers are, and runs beside each other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from layertap.report.pages import thumbnail_if_readable, write_page
from layertap.report.pages.charts import Axis, Line, axis_of, chart
from layertap.report.run_report import score_rows
from layertap.report.style import shortened
from layertap.units import time_text

if TYPE_CHECKING:
    from layertap.workflows.compare import Similarity
    from layertap.workflows.comparing.runs import RunComparison

MOST_SHOWN = 200  # images that only one of two runs gets right, of each run
MOST_OF_SEVERAL = 60  # images of a kind, where there are more runs
MOST_POINTS = 100  # of a line
# Lines: a colour for each of six runs, and for more the same colours with gaps.
COLOURS = ("first", "second", "third", "fourth", "fifth", "sixth")
KINDS = tuple(f"{colour} {gaps}".strip() for gaps in ("", "dashed", "dotted") for colour in COLOURS)
PAIR_COLUMNS = ("", "difference in accuracy", "95 % from", "to", "p-value", "agreement")
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
    title = f"{found.data}: layers compared"
    write_page(file, "compare.html", title=title, columns=["", *found.spaces], tables=tables)


def pair_rows(found: RunComparison) -> list[tuple[str, ...]]:
    """A row for each pair of runs: the difference of their accuracies with its interval, p-value, and agreement."""
    return [
        (
            f"{second} - {first}",
            f"{pair.difference:+.4f}",
            *(f"{end:+.4f}" for end in pair.interval),
            f"{pair.p_value:.4g}",
            f"{pair.agreement:.4f}",
        )
        for (first, second), pair in zip(itertools.combinations(found.runs, 2), found.pairs, strict=True)
    ]


def write_runs(file: Path, found: RunComparison) -> None:
    """Write the page of a comparison of runs (see `RunComparison.write_page`)."""
    truth = found.data.labels
    assert truth is not None
    right = np.stack([predicted == truth for predicted in found.predictions])
    write_page(
        file,
        "compare_runs.html",
        title=_title(found),
        scripts=["tabs.js"],
        styles=["tabs.css", "wide.css", "charts.css"],
        notes=found.notes,
        scores=score_rows(dict(zip(found.runs, found.scores, strict=True))),
        facts=run_facts(found) if len(found.runs) == 2 else [],
        pair_columns=PAIR_COLUMNS,
        pairs=pair_rows(found) if len(found.runs) > 2 else [],
        run_columns=["", *found.runs],
        made=_made(found),
        runs=[(KINDS[at % len(KINDS)], name) for at, name in enumerate(found.runs)],
        charts=_charts(found, right),
        classes=_recall(found, right),
        sides=[*_sides(found, right)],
    )


def _title(found: RunComparison) -> str:
    runs = " and ".join(found.runs) if len(found.runs) == 2 else f"{len(found.runs)} runs"
    return f"{found.data.name}: {runs}"


def _made(found: RunComparison) -> list[list[str]]:
    """How the runs were made, by what differs among them or matters most."""
    rows = []
    for name in ("net", "weights", "layer", "pooling", "size", "precision"):
        values = [[getattr(part.spec, name) for part in config.parts] for config in found.configs]
        rows.append([name, *(", ".join(dict.fromkeys(shortened(_word(one), 18) for one in each)) for each in values)])
    rows.append(["head", *(config.head.name for config in found.configs)])
    rows.append(["fine-tuned", *("yes" if config.fine_tuned else "no" for config in found.configs)])
    images = [(config.data or {}).get("images") for config in found.configs]
    rows.append(["images of the training", *("–" if count is None else f"{count:,}" for count in images)])
    seconds = [config.head.fit_seconds for config in found.configs]
    rows.append(["training the head", *(time_text(each) if isinstance(each, float) else "–" for each in seconds)])
    return rows


def _word(value: Any) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _charts(found: RunComparison, right: np.ndarray) -> list[dict[str, Any]]:
    """The accuracy of each run on the images that it is surest of, by their share."""
    lines, lowest = [], 1.0
    for at, outputs in enumerate(found.outputs):
        order = np.argsort(-outputs.max(1), kind="stable")
        share = np.arange(1, len(order) + 1) / len(order)
        accuracy = np.cumsum(right[at, order]) / np.arange(1, len(order) + 1)
        kept = np.unique(np.linspace(len(order) // 50, len(order) - 1, MOST_POINTS).astype(int))
        lowest = min(lowest, float(accuracy[kept].min()))
        lines.append(Line(zip(share[kept].tolist(), accuracy[kept].tolist(), strict=True), KINDS[at % len(KINDS)]))
    up = axis_of("share of answers that are right", [lowest], 0.95)
    return [chart("Accuracy by the share of images answered", Axis("share of images answered"), up, lines, height=260)]


def _recall(found: RunComparison, right: np.ndarray) -> list[list[Any]]:
    """The recall of each class by run, where the runs differ most first."""
    rows, labels = [], np.asarray(found.data.labels)
    for name in found.classes:
        members = labels == name
        if members.any():
            shares = right[:, members].mean(1)
            cells = [(f"{share:.3f}", f"{share:.3f}") for share in shares.tolist()]
            rows.append((float(shares.min() - shares.max()), [name, *cells, f"{members.sum():,}"]))
    return [row for _, row in sorted(rows, key=lambda row: row[0])]


def _sides(found: RunComparison, right: np.ndarray) -> Iterator[dict[str, Any]]:
    """Images that only one of the runs predicts correctly, and of more than two also those that only one mistakes."""
    several = len(found.runs) > 2
    for at, name in enumerate(found.runs):
        places = np.flatnonzero(right[at] & (right.sum(0) == 1))
        yield _side(found, right, places, f"Predicted correctly by {name} alone")
    for at, name in enumerate(found.runs if several else ()):
        places = np.flatnonzero(~right[at] & (right.sum(0) == len(right) - 1))
        yield _side(found, right, places, f"Mistaken by {name} alone")
    if several:
        yield _side(found, right, np.flatnonzero(~right.any(0)), "All are mistaken")


def _side(found: RunComparison, right: np.ndarray, places: np.ndarray, heading: str) -> dict[str, Any]:
    """Images with their class, and what those runs take them for that are wrong."""
    labels, most = found.data.labels, MOST_SHOWN if len(found.runs) == 2 else MOST_OF_SEVERAL
    assert labels is not None
    images = []
    for place in places[:most].tolist():
        wrong = dict.fromkeys(
            predicted[place] for predicted, known in zip(found.predictions, right, strict=True) if not known[place]
        )
        if url := thumbnail_if_readable(found.data.sources[place], LONGEST, found.decoding):
            lines = [labels[place], *(f"not {name}" for name in wrong)]
            images.append({"id": found.data.ids[place], "url": url, "lines": lines})
    note = f"The first {most} are shown." if len(places) > most else ""
    return {"heading": f"{heading}: {len(places):,}", "note": note, "images": images}


def _cell(value: float) -> tuple[str, str]:
    """A similarity with its share of a bar."""
    return f"{value:.3f}", f"{min(1.0, max(0.0, np.nan_to_num(value))):.3f}"
