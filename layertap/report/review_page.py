"""The page of a review: what was noticed of which image, and a choice for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layertap.report.pages import thumbnail_if_readable, write_page

if TYPE_CHECKING:
    from layertap.workflows.review import Finding, Review

PAGE, TABLE = "review.html", "review.csv"
MOST_SHOWN = 2000  # images of a page; the table has all
LONGEST = 96  # pixels of a thumbnail
HEADINGS = {
    "label": ("Labels that are likely wrong", "Accept a suggestion by choosing relabel, or write another label."),
    "ambiguous": ("Images that could be of another class", "Look twice: the label may be right."),
    "copy": ("Copies", "The same file as another image of the data set."),
    "near-duplicate": ("Near-duplicates", "Mirrored, cropped, resized or recompressed versions of another image."),
    "outlier": ("Images unlike all others", "Perhaps no images of what the data set is about."),
    "decided": ("Decided before", "These decisions are part of the table, and hold unless you change them."),
}


def is_review(folder: Path) -> bool:
    """Whether a folder holds a review, which may be replaced."""
    return (folder / PAGE).is_file() and (folder / TABLE).is_file()


def write_review(file: Path, review: Review) -> None:
    """Write the page of a review, which appears whole or not at all.

    Raises
    ------
    StorageFailure
        When the folder does not take it.
    """
    shown = review.findings[:MOST_SHOWN]
    rest = len(review.findings) - len(shown)
    noticed = len(review.findings) - review.counts["decided"]
    classes = [] if review.data.labels is None else sorted(set(review.data.labels.tolist()))
    write_page(
        file,
        "review.html",
        title=f"{review.data.name}: review",
        scripts=["review.js"],
        styles=["review.css"],
        data={"review": {"columns": list(review.columns), "rows": [finding.row() for finding in review.findings]}},
        summary=f"{len(review.data):,} images, {noticed:,} of which are worth a look.",
        notes=[*review.notes, *([f"The last {rest:,} are in {TABLE} alone."] if rest else [])],
        classes=classes,
        sections=list(_sections(review, shown)),
    )


def _sections(review: Review, shown: tuple[Finding, ...]) -> Iterator[dict[str, Any]]:
    """The images of each kind, with the numbers of their rows."""
    sources = dict(zip(review.data.ids, review.data.sources, strict=True))

    def picture(name: str) -> str:
        known = name in sources  # not so if it was dropped before
        return (thumbnail_if_readable(sources[name], LONGEST, review.decoding) if known else None) or ""

    for kind, (heading, advice) in HEADINGS.items():
        items = [
            {"number": number, "finding": finding, "url": picture(finding.id), "other_url": picture(finding.other)}
            for number, finding in enumerate(shown)
            if finding.kind == kind
        ]
        if items:
            yield {"kind": kind, "heading": heading, "advice": advice, "items": items}
