"""The page of a map that one can touch: every image a point, with what is known of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import printable
from layertap.analysis.projections import Projection
from layertap.report.pages import sprite_sheets, thumbnail_if_readable, write_page
from layertap.report.pages.page import packed
from transfer.data.annotation.crop_source import CropSource
from transfer.data.image_collection import ImageCollection
from transfer.data.images import DEFAULT, Decoding, FileSource, ImageSource

MOST_SPRITE_BYTES = 16_000_000  # of all thumbnails, so that a page of 60,000 images stays below 25 MB
MOST_ROWS = 300  # of a table
MOST_SHOWN = 24  # of the surest mistakes
NOT_PREDICTED = "not predicted"
SCRIPTS = ("map_points.js", "map_draw.js", "map_side.js", "map.js")


@dataclass(frozen=True, eq=False)
class MapContent:
    """What the page of a map shows.

    Attributes
    ----------
    title : str
    projection : Projection
        The places of the points.
    ids : sequence of str
    sources : sequence of ImageSource
        The images, in the order of the points.
    columns : mapping of str to ndarray of shape (n,)
        What points are coloured by: texts are categories, and numbers (float, perhaps NaN) are shades.
    command : str
        What one does with the list of selected images, which the page calls ``selection.csv``; empty where there is no
        such command.
    decoding : Decoding
        How the images are decoded.
    notes : tuple of str
        Sentences below the title.
    worst : sequence of int
        Points whose images are shown below the map: the surest mistakes first.
    alike : str
        What is said of points that are near.
    """

    title: str
    projection: Projection
    ids: Sequence[str]
    sources: Sequence[ImageSource]
    columns: Mapping[str, np.ndarray]
    command: str
    decoding: Decoding = DEFAULT
    notes: tuple[str, ...] = ()
    worst: Sequence[int] = field(default=())
    alike: str = "is alike to the net"


def write_map(file: Path, content: MapContent, progress: Callable[[int, int], None] | None = None) -> None:
    """Write the page, which appears whole or not at all.

    Parameters
    ----------
    progress : callable, optional
        It is called with the number of thumbnails that have been made, and that of all.

    Raises
    ------
    StorageFailure
        When the folder does not take it.
    """
    write_page(
        file,
        "map.html",
        title=content.title,
        scripts=SCRIPTS,
        styles=["map.css"],
        data={"map": map_data(content, progress)},
        **map_texts(content),
        notes=content.notes,
        tables=list(_tables(content)),
        worst_heading="Surest mistakes (look at their labels)",
        worst=list(_worst(content)),
    )


def map_texts(content: MapContent) -> dict[str, str]:
    """The texts of ``map_part.html``, with the sentence above it."""
    count = f"{len(content.ids):,}"
    return {
        "count": count,
        "summary": f"{count} images, each a point: what lies near {content.alike}.",
        "axes": f"Across: {content.projection.axes[0]}. Up: {content.projection.axes[1]}.",
        "command_label": "With the CSV in the working folder:" if content.command else "",
    }


def map_data(
    content: MapContent,
    progress: Callable[[int, int], None] | None = None,
    most_bytes: int = MOST_SPRITE_BYTES,
) -> dict[str, Any]:
    """What the scripts of a map read: places, columns, ids and thumbnails of about `most_bytes` at most."""
    places, aspect = _places(content.projection.points)
    sheets = sprite_sheets(content.sources, most_bytes, content.decoding, progress)
    return {
        "places": packed(places),
        "aspect": aspect,
        "ids": [printable(name) for name in content.ids],
        "columns": [_column(name, values) for name, values in content.columns.items()],
        "sheets": vars(sheets),
        "command": content.command,
    }


def prediction_columns(
    labels: np.ndarray | None, names: Sequence[str], outputs: np.ndarray, splits: np.ndarray
) -> dict[str, np.ndarray]:
    """What a run predicts of images, as columns of a map.

    Parameters
    ----------
    labels : ndarray of shape (n,), str, or None
    names : sequence of str
        The classes of the columns of `outputs`.
    outputs : ndarray of shape (n, k)
        Probabilities; NaN of images that nothing was predicted of.
    splits : ndarray of shape (n,), int
        The split that held an image out, from 0 on; negative where none did.
    """
    known = ~np.isnan(outputs).any(1)
    predicted = np.where(known, np.array(names)[outputs.argmax(1)], NOT_PREDICTED)
    columns = {"prediction": predicted}
    if labels is not None:
        columns["result"] = np.where(known, np.where(predicted == labels, "right", "wrong"), NOT_PREDICTED)
    held_out = [f"held out by split {split + 1}" if split >= 0 else "not held out" for split in splits.tolist()]
    return columns | {"confidence": outputs.max(1).astype(np.float64), "split": np.array(held_out)}


def _places(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Places from 0 to 65535 on both axes, (n, 2), and the width of the map by its height."""
    low, high = points.min(0), points.max(0)
    extent = np.where(high > low, high - low, 1.0)
    places = np.rint((points - low) / extent * 65535).astype(np.uint16)
    return places, round(float(np.clip(extent[0] / extent[1], 0.4, 2.5)), 4)


def _column(name: str, values: np.ndarray) -> dict[str, Any]:
    """A column as the scripts read it: categories by number, the most frequent names first, or numbers."""
    if values.dtype.kind == "f":
        return {"name": printable(name), "values": packed(values.astype(np.float32))}
    names, codes = np.unique(values, return_inverse=True)
    return {
        "name": printable(name),
        "names": [printable(each) for each in names.tolist()],
        "values": packed(codes.astype(np.uint16)),
    }


def _tables(content: MapContent) -> list[dict[str, Any]]:
    """How many images each class has, or each cluster where there are no classes, and how many of them are right."""
    name = "class" if "class" in content.columns else next(iter(content.columns), None)
    if name is None or content.columns[name].dtype.kind == "f":
        return []
    values, results = content.columns[name], content.columns.get("result")
    names, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    most = int(counts.max())
    rows = []
    for at in order[:MOST_ROWS]:
        row: list[Any] = [names[at], (f"{counts[at]:,}", f"{counts[at] / most:.3f}")]
        if results is not None:
            known = results[values == names[at]]
            right, judged = int((known == "right").sum()), int(np.isin(known, ["right", "wrong"]).sum())
            row.append((f"{right / judged:.3f}", f"{right / judged:.3f}") if judged else "–")
        rows.append(row)
    heading = "Classes" if name == "class" else f"Images by {name}"
    note = f"The {MOST_ROWS} most frequent of {len(names):,}." if len(names) > MOST_ROWS else ""
    columns = [name, "images", "predicted right"][: len(rows[0])]
    return [{"heading": heading, "note": note, "columns": columns, "rows": rows}]


def _worst(content: MapContent) -> list[dict[str, Any]]:
    shown = []
    for at in content.worst[:MOST_SHOWN]:
        facts = [f"{name}: {content.columns[name][at]}" for name in ("class", "prediction") if name in content.columns]
        if url := thumbnail_if_readable(content.sources[at], 96, content.decoding):
            shown.append({"url": url, "id": content.ids[at], "lines": facts})
    return shown


def selection_command(dataset: ImageCollection) -> str:
    """A command line that looks at the images of ``selection.csv``, a table of some of the images of `dataset`."""
    if (folder := _image_folder(dataset)) is not None:
        return f"layertap explore selection.csv --images {shlex.quote(folder)} --out selection"
    crops = ", crops=True" if any(isinstance(source, CropSource) for source in dataset.sources[:1]) else ""
    code = (
        "import csv, layertap as lt, numpy as np; "
        f"data = lt.load_dataset({json.dumps(dataset.name)}{crops}); "
        'ids = [row["id"] for row in csv.DictReader(open("selection.csv"))]; '
        'lt.explore(data.select(np.isin(data.ids, ids)), out="selection")'
    )
    return f"python -c {shlex.quote(code)}"


def _image_folder(dataset: ImageCollection) -> str | None:
    """The folder to which all ids are paths, or boxes in such files; None where there is no such folder."""
    folder: str | None = None
    for name, source in zip(dataset.ids, dataset.sources, strict=True):
        if isinstance(source, CropSource):
            name, source = name.rpartition("#")[0], source.source
        if not isinstance(source, FileSource) or source.page is not None:
            return None
        path = source.path.as_posix()
        if not path.endswith(f"/{name}") or folder not in (None, path[: -len(name) - 1]):
            return None
        folder = path[: -len(name) - 1]
    return folder
