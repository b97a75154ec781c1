"""Images of a data set as its page shows them: as nets get them, rotated, and pairs of copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from feature_cache.errors import BadImage
from layertap.report.pages import data_url
from transfer.data.augment import rotated
from transfer.data.copies.duplicates import Copies
from transfer.data.images import thumbnail
from transfer.data.survey import DatasetSurvey, pixels_as_net_input
from transfer.hardware import cores

FEW = 4  # images that are shown at several sizes, and rotated
SIDES = (8, 16, 32, 64)
ANGLES = (0, 30, 45, 60, 75)
MOST_PAIRS = 24
LONGEST, OF_A_PAIR = 224, 192  # pixels of a side

Cells = list[
    list[tuple[str, str]]
]  # by rows: the text and the URL of a picture, which is empty where it cannot be read


def input_sizes(survey: DatasetSurvey) -> Cells:
    """A few images as they are and, beside that, as nets of several input sizes get them."""
    net = survey.size
    sizes = sorted({*((side, side) for side in SIDES), net}, key=lambda size: (size[0] * size[1], size))
    rows = []
    for position in _few(survey):
        height, width = survey.records[position].shape
        whole = partial(thumbnail, survey.dataset.sources[position], LONGEST, survey.decoding)
        as_input = [partial(pixels_as_net_input, survey, position, size) for size in sizes]
        texts = [f"as it is, {height} x {width}", *(f"{high} x {wide}" for high, wide in sizes)]
        rows.append(list(zip(texts, [whole, *as_input], strict=True)))
    return _cells(rows)


def rotations(survey: DatasetSurvey) -> Cells:
    """A few images as nets get them, rotated."""

    def pixels(position: int, angle: float) -> np.ndarray:
        return rotated(pixels_as_net_input(survey, position, survey.size), angle)

    return _cells([[(f"{angle}°", partial(pixels, position, angle)) for angle in ANGLES] for position in _few(survey)])


def copies_by_heading(surveys: Sequence[DatasetSurvey], copies: Copies) -> list[dict[str, Any]]:
    """Pairs of copies: within the data set, those of different classes apart, and between two data sets."""
    first = len(surveys[0].records)
    pairs = [(group[0], other, 1.0) for group in copies.exact for other in group[1:]] + list(copies.near)
    read = partial(_image, surveys)
    within = [pair for pair in pairs if pair[1] < first]
    near = [pair for pair in copies.near if pair[1] < first]
    headings = [
        ("Copies with different classes", [pair for pair in within if _differ(surveys, pair)]),
        ("Near-duplicates", [pair for pair in near if not _differ(surveys, pair)]),
    ]
    if len(surveys) > 1:
        also = f"In {surveys[0].dataset.name} and in {surveys[1].dataset.name}"
        headings.append((also, [pair for pair in pairs if pair[0] < first <= pair[1]]))
    return [
        {
            "heading": f"{heading}: {len(chosen):,}",
            "note": f"The first {MOST_PAIRS} are shown." if len(chosen) > MOST_PAIRS else "",
            "pairs": [
                {
                    "images": [read(left), read(right)],
                    "alike": f"{alike:.3f}",
                    "differ": _differ(surveys, (left, right)),
                }
                for left, right, alike in chosen[:MOST_PAIRS]
            ],
        }
        for heading, chosen in headings
        if chosen
    ]


def place_of(surveys: Sequence[DatasetSurvey], position: int) -> tuple[DatasetSurvey, int]:
    """The survey of an image, and its position there; positions are counted on from one survey to the next."""
    first = len(surveys[0].records)
    return (surveys[0], position) if position < first else (surveys[1], position - first)


def _differ(surveys: Sequence[DatasetSurvey], pair: Iterable[Any]) -> bool:
    left, right, *_ = pair
    return _label(surveys, left) != _label(surveys, right)


def _label(surveys: Sequence[DatasetSurvey], position: int) -> str:
    survey, own = place_of(surveys, position)
    return "" if survey.dataset.labels is None else str(survey.dataset.labels[own])


def _image(surveys: Sequence[DatasetSurvey], position: int) -> dict[str, str]:
    survey, own = place_of(surveys, position)
    url = _url(partial(thumbnail, survey.dataset.sources[own], OF_A_PAIR, survey.decoding), OF_A_PAIR)
    return {"id": survey.dataset.ids[own], "label": _label(surveys, position), "url": url}


def _few(survey: DatasetSurvey) -> list[int]:
    """Some of the images, evenly spread."""
    chosen: list[int] = np.unique(np.linspace(0, len(survey.records) - 1, FEW).round().astype(int)).tolist()
    return chosen


def _cells(rows: Sequence[Sequence[tuple[str, Callable[[], np.ndarray]]]]) -> Cells:
    """Pictures with their texts, which are read in threads."""
    with ThreadPoolExecutor(len(cores())) as pool:
        urls: Iterator[str] = pool.map(_url, [read for row in rows for _, read in row])
        return [[(text, next(urls)) for text, _ in row] for row in rows]


def _url(read: Callable[[], np.ndarray], longest: int = LONGEST) -> str:
    """A picture in which the pixels of a small image are squares of pixels, so that they can be seen."""
    try:
        pixels = read()
    except BadImage:  # it has been damaged or deleted since it was looked at
        return ""
    factor = max(1, longest // max(pixels.shape[:2]))
    return data_url(pixels.repeat(factor, axis=0).repeat(factor, axis=1))
