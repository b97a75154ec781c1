"""The images of a run: how many of each class, how they were split, some of them, copies, and what cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from layertap.report.pages import affordable, thumbnail_if_readable
from transfer.data.datasets import Dataset, Unreadable
from transfer.data.image_collection import ImageCollection
from transfer.data.images import Decoding
from transfer.hardware import cores

MOST_CLASSES = 30  # of which images are shown, the most frequent ones
OF_A_CLASS = 6  # images; without classes, four times as many
MOST_SHOWN, LEAST_SHOWN = 180, 48  # images, of small ones and of large ones
LONGEST = 64  # pixels of a side
MOST_ROWS = 100  # of a table
MOST_SPLITS = 20
MOST_OF_A_GROUP = 6  # names of copies


def data_view(
    dataset: Dataset,
    labels: np.ndarray | None,
    counts: Mapping[str, int],
    decoding: Decoding,
    *,
    folds: Sequence[Mapping[str, Any]] = (),
    test: int | None = None,
    digests: np.ndarray | None = None,
    skipped: Sequence[Unreadable] = (),
) -> dict[str, Any]:
    """What ``data_set.html`` shows.

    Parameters
    ----------
    dataset : Dataset
        The images that could be read.
    labels : ndarray of shape (n,), str, or None
        Their classes, if they have one each.
    counts : mapping of str to int
        How many images each class or label has; empty for numbers.
    folds : sequence of mapping
        The scores of each split (see `heads.evaluation.cross_validation.Evaluation`), which count its images.
    test : int, optional
        How many images were set aside.
    digests : ndarray of shape (n, 16), uint8, optional
        Of the content of the images, by which copies are found.
    skipped : sequence of Unreadable
        The images that were left out.
    """
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    most = max([count for _, count in ranked], default=1) or 1
    shown = list(some_of_each([name for name, _ in ranked], dataset, labels, decoding))
    return {
        "images": f"{len(dataset):,}",
        "classes": [[name, (f"{count:,}", f"{count / most:.3f}")] for name, count in ranked],
        "splits": _splits(folds, test),
        "shown": shown,
        "kind": "label" if labels is None else "class",
        "more_classes": len(counts) > len(shown) and labels is not None,
        "copies": [] if digests is None else _copies(dataset, labels, digests),
        "unreadable": [(one.id, one.reason) for one in skipped[:MOST_ROWS]],
        "unreadable_count": f"{len(skipped):,}",
    }


def some_of_each(
    ranked: Sequence[str],
    dataset: ImageCollection,
    labels: np.ndarray | None,
    decoding: Decoding,
    of_a_class: int = OF_A_CLASS,
    most_and_least: tuple[int, int] = (MOST_SHOWN, LEAST_SHOWN),
) -> Iterable[dict[str, Any]]:
    """Some images of the most frequent classes, or of the whole data set where it has none, evenly spread.

    Parameters
    ----------
    ranked : sequence of str
        The classes, the most frequent first.
    of_a_class : int
        How many images of a class are shown; without classes, four times as many.
    most_and_least : (int, int)
        How many images are shown in all where they are small, and where they are large.

    Yields
    ------
    dict
        ``name``, which is empty without classes, and ``images``: ``id`` and ``url`` of each.
    """
    groups = [("", np.arange(len(dataset)), 4 * of_a_class)]
    if labels is not None:
        classes = ranked[:MOST_CLASSES]
        each = min(of_a_class, max(1, affordable(dataset.sources, *most_and_least) // max(1, len(classes))))
        groups = [(name, np.flatnonzero(labels == name), each) for name in classes]
    chosen = [_spread(rows, most) for _, rows, most in groups]
    everything = [row for rows in chosen for row in rows]
    with ThreadPoolExecutor(len(cores())) as pool:
        read = pool.map(lambda row: thumbnail_if_readable(dataset.sources[row], LONGEST, decoding), everything)
        urls = dict(zip(everything, read, strict=True))
    for (name, _, _), rows in zip(groups, chosen, strict=True):
        images = [{"id": dataset.ids[row], "url": urls[row]} for row in rows if urls[row]]
        if images:
            yield {"name": name, "images": images}


def _spread(rows: np.ndarray, most: int) -> list[int]:
    """At most so many of the rows, evenly spread."""
    places = np.unique(np.linspace(0, len(rows) - 1, most).round().astype(int)) if len(rows) else rows
    chosen: list[int] = rows[places].tolist()
    return chosen


def _splits(folds: Sequence[Mapping[str, Any]], test: int | None) -> dict[str, Any]:
    rows = [[str(number), *_sizes(fold)] for number, fold in enumerate(folds[:MOST_SPLITS], 1)]
    more = f"The first {MOST_SPLITS} of {len(folds):,} splits." if len(folds) > MOST_SPLITS else ""
    return {"rows": rows, "more": more, "test": "" if test is None else f"{test:,}"}


def _sizes(fold: Mapping[str, Any]) -> list[str]:
    """How many images a split trained on, and how many it held out."""
    return [f"{fold[part]['n']:,}" if fold[part].get("n") is not None else "–" for part in ("train", "valid")]


def _copies(dataset: Dataset, labels: np.ndarray | None, digests: np.ndarray) -> list[list[str]]:
    """Groups of images with the same content, those of different classes first."""
    _, group, sizes = np.unique(digests, axis=0, return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(sizes)
    found = []
    for number in np.flatnonzero(sizes > 1):
        rows = order[ends[number] - sizes[number] : ends[number]].tolist()
        classes = {None if labels is None else str(labels[row]) for row in rows}
        found.append((len(classes) == 1, rows))
    found.sort()
    return [[_named(dataset, labels, rows), "yes" if same else "no"] for same, rows in found[:MOST_ROWS]]


def _named(dataset: Dataset, labels: np.ndarray | None, rows: Sequence[int]) -> str:
    names = [
        dataset.ids[row] if labels is None else f"{dataset.ids[row]} ({labels[row]})" for row in rows[:MOST_OF_A_GROUP]
    ]
    more = [f"and {len(rows) - MOST_OF_A_GROUP:,} more"] if len(rows) > MOST_OF_A_GROUP else []
    return "; ".join([*names, *more])
