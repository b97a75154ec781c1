"""The folder that exploring a data set writes: pictures of the images, and one page with all findings."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import printable
from feature_cache.files.atomic import whole_folder
from feature_cache.files.checked import read_json
from layertap.flags import with_flags
from layertap.report import panels
from layertap.report.background import Picture, draw
from layertap.report.explore.findings import facts, named
from layertap.report.explore.shapes import shapes
from layertap.report.pages import fragment, write_page
from layertap.report.pages.values import fact_rows, picture
from transfer.data.augment import rotated
from transfer.data.copies.duplicates import Copies
from transfer.data.survey import DatasetSurvey, pixels_as_net_input, thumbnail
from transfer.hardware import cores

PAGE, NUMBERS = "report.html", "explore.json"
IMAGES = "Images"  # the heading of the panels
# The part of the page that shows the pictures of a heading; all others are of copies.
TABS = {"Shapes": "numbers", IMAGES: "images", "Resolutions": "images", "Rotations": "images"}
MOST_PANELS = 24  # classes with a panel; of more classes, the most frequent
PANEL_SIDE = 4  # images in a row of a panel
PANEL_WIDTH = 3.4  # inches: two are side by side
FEW = 4  # images that are shown at several sizes, and rotated
SIDES = (8, 16, 32, 64)
ANGLES = (0, 30, 45, 60, 75)
MOST_PAIRS = 12
LONGEST = 240  # pixels of a side of an image
MOST_ROWS = 100  # of a table
MOST_CLASSES = 40  # that a notebook lists, the most frequent


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
    """Write the folder `out`: pictures, `report` as ``explore.json``, and the page."""
    with whole_folder(out, "report", is_report, overwrite=overwrite) as folder:
        pictures = _Pictures(folder, report["data"])
        if report["readable"]:
            _draw_shapes(pictures, report)
            _draw_classes(pictures, surveys[0])
            _draw_input_sizes(pictures, surveys[0])
            _draw_pairs(pictures, surveys, copies)
            pictures.write()
        with (folder / NUMBERS).open("w", encoding="utf-8") as stream:
            json.dump(report, stream, indent=2)
            stream.write("\n")
        _write_page(folder / PAGE, report, pictures.files)


class _Pictures:
    """The pictures of a data set.

    Parameters
    ----------
    folder : Path
        The folder that they are drawn into.
    name : str
        The name of the data set.

    Attributes
    ----------
    files : dict of str to list of Path
        The files by the heading that they have on the page.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.files: dict[str, list[Path]] = {}
        self._drawn: dict[Path, Picture] = {}

    def add(self, heading: str, file: str) -> Path:
        self.files.setdefault(heading, []).append(self.folder / file)
        return self.folder / file

    def panel(
        self,
        heading: str,
        file: str,
        images: Sequence[Callable[[], np.ndarray]],
        captions: Sequence[str],
        **layout: Any,
    ) -> None:
        """Draw images, which are read in threads; small ones are enlarged so that their pixels can be seen."""
        with ThreadPoolExecutor(len(cores())) as pool:
            shown = list(pool.map(lambda read: _enlarged(read()), images))
        self._drawn[self.add(heading, file)] = draw(partial(panels.panel, **layout), shown, captions)

    def write(self) -> None:
        """Write the panels, which another process draws, into their files."""
        for file, drawn in self._drawn.items():
            file.write_bytes(drawn.png())


def _draw_shapes(pictures: _Pictures, report: dict[str, Any]) -> None:
    counts = [(one["height"], one["width"], one["count"]) for one in report["shapes"]]
    if len(counts) > 1:
        height, width = report["size"]
        shapes(pictures.add("Shapes", "shapes.png"), counts, (height, width), f"{pictures.name}: height x width")


def _draw_classes(pictures: _Pictures, survey: DatasetSurvey) -> None:
    """Draw images of each class, or of the whole data set where it has no labels."""
    labels, everything = survey.dataset.labels, np.arange(len(survey.records))
    if labels is None:
        classes = [(pictures.name, everything)]
    else:
        names, counts = np.unique(labels, return_counts=True)
        most_frequent = np.sort(np.argsort(-counts, kind="stable")[:MOST_PANELS])
        classes = [(str(name), np.flatnonzero(labels == name)) for name in names[most_frequent]]
    for number, (name, members) in enumerate(classes, 1):
        chosen = _spread(members, PANEL_SIDE**2)
        pictures.panel(
            IMAGES,
            f"images-{number:02d}.png",
            [_thumbnail(survey, position) for position in chosen],
            [Path(survey.dataset.ids[position]).name for position in chosen],
            title=f"{name} ({len(members):,})",
            columns=PANEL_SIDE,
            width=PANEL_WIDTH,
        )


def _draw_input_sizes(pictures: _Pictures, survey: DatasetSurvey) -> None:
    """Draw a few images at several input sizes of nets, and rotated."""
    chosen, net = _spread(np.arange(len(survey.records)), FEW), survey.size
    sizes = sorted({*((side, side) for side in SIDES), net}, key=lambda size: (size[0] * size[1], size))
    images: list[Callable[[], np.ndarray]] = []
    captions: list[str] = []
    for position in chosen:
        height, width = survey.records[position].shape
        images += [
            _thumbnail(survey, position),
            *(partial(pixels_as_net_input, survey, position, size) for size in sizes),
        ]
        captions += [f"as it is, {height} x {width}", *(f"{high} x {wide}" for high, wide in sizes)]
    title = f"{pictures.name}: as nets of several input sizes see them"
    pictures.panel("Resolutions", "resolutions.png", images, captions, title=title, columns=len(sizes) + 1)

    plain = [pixels_as_net_input(survey, position, net) for position in chosen]
    images = [partial(rotated, pixels, angle) for pixels in plain for angle in ANGLES]
    captions = [f"{angle}°" for _ in plain for angle in ANGLES]
    title = f"{pictures.name}: rotated, at {net[0]} x {net[1]}"
    pictures.panel("Rotations", "rotations.png", images, captions, title=title, columns=len(ANGLES))


def _draw_pairs(pictures: _Pictures, surveys: Sequence[DatasetSurvey], copies: Copies) -> None:
    """Draw pairs of copies: within the data set, those of different classes apart, and between the two."""
    first = len(surveys[0].records)
    exact = [(group[0], other, 1.0) for group in copies.exact for other in group[1:]]

    def place(position: int) -> tuple[DatasetSurvey, int]:
        return (surveys[0], position) if position < first else (surveys[1], position - first)

    def label(position: int) -> str:
        survey, own = place(position)
        return "" if survey.dataset.labels is None else str(survey.dataset.labels[own])

    def draw(heading: str, file: str, chosen: Sequence[tuple[int, int, float]], title: str) -> None:
        images, captions = [], []
        for number, (left, right, alike) in enumerate(chosen[:MOST_PAIRS], 1):
            for letter, position in (("a", left), ("b", right)):
                survey, own = place(position)
                images.append(_thumbnail(survey, own))
                lines = [f"{number}{letter}: {alike:.3f}", survey.dataset.ids[own], label(position)]
                captions.append("\n".join(printable(line) for line in lines if line))
        if images:
            pictures.panel(heading, file, images, captions, title=f"{pictures.name}: {title}", columns=6)

    differ = [pair for pair in exact + copies.near if pair[1] < first and label(pair[0]) != label(pair[1])]
    same = [pair for pair in copies.near if pair[1] < first and label(pair[0]) == label(pair[1])]
    draw("Copies with different classes", "copies-differ.png", differ, "copies with different classes")
    draw("Near-duplicates", "copies-near.png", same, "near-duplicates")
    across = [pair for pair in exact + copies.near if pair[0] < first <= pair[1]]
    if across:
        draw("In both data sets", "copies-across.png", across, f"also in {surveys[1].dataset.name}")


def _spread(positions: np.ndarray, count: int) -> list[int]:
    """At most `count` of the positions, evenly spread."""
    return positions[np.unique(np.linspace(0, len(positions) - 1, count).round().astype(int))].tolist()


def _thumbnail(survey: DatasetSurvey, position: int) -> Callable[[], np.ndarray]:
    return partial(thumbnail, survey, position, LONGEST)


def _enlarged(pixels: np.ndarray) -> np.ndarray:
    """An image whose pixels are squares of pixels, so that its longer side is about `LONGEST`."""
    factor = max(1, LONGEST // max(pixels.shape[:2]))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def findings(report: dict[str, Any]) -> str:
    """The findings of a survey as HTML without pictures, of a size that has a limit: what a notebook shows."""
    names = (report["classes"] or {}).items()
    most_frequent = dict(sorted(names, key=lambda item: -item[1])[:MOST_CLASSES])
    found = _found({**report, "classes": most_frequent})
    rest = len(names) - len(most_frequent)
    return fragment("survey_fragment.html", found={**found, "classes_left_out": f"{rest:,}" if rest else ""})


def _write_page(file: Path, report: dict[str, Any], pictures: dict[str, list[Path]]) -> None:
    shown: dict[str, list[dict[str, Any]]] = {"numbers": [], "images": [], "copies": []}
    for heading, files in pictures.items():
        of_more = heading == IMAGES and sum(map(bool, (report["classes"] or {}).values())) > len(files)
        note = f"The {len(files)} most frequent classes." if of_more else ""
        one = {"heading": heading, "note": note, "pictures": [picture(heading, each) for each in files]}
        shown[TABS.get(heading, "copies")].append(one)
    write_page(
        file,
        "explore.html",
        title=f"{report['data']}: images",
        scripts=["tabs.js"],
        styles=["tabs.css", "wide.css"],
        found=_found(report),
        pictures=shown,
    )


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
    most = max(1, *classes.values()) if classes else 1
    return [[name, (f"{count:,}", f"{count / most:.3f}")] for name, count in classes.items()]


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
    return {"heading": f"{len(images):,} images of {name} cannot be read", "rows": rows}
