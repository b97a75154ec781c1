"""The images that a run mistakes, by the pair of their class and the predicted one, with images that they look like."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_cache.errors import BadImage
from heads.evaluation.cross_validation import Evaluation
from layertap.report.pages import thumbnail_url
from transfer.data.datasets import Dataset
from transfer.data.images import Decoding
from transfer.search.neighbors import nearest

MOST_SHOWN = 60  # images, each with its neighbors
MOST_OF_A_PAIR = 4
NEIGHBORS = 4
MOST_CANDIDATES = 40  # nearest images among which those are looked for that the head was trained on
WIDEST = 20_000  # numbers of a row of features; of wider ones, maps for instance, no neighbors are looked for
MOST_CLASSES = 30  # of a matrix; of more classes, the most frequent mistakes are listed
MOST_PAIRS = 60
LARGE, SMALL = 96, 48  # pixels


@dataclass(frozen=True)
class Confusions:
    """What the classes of images held out were taken for.

    Attributes
    ----------
    classes : tuple of str
    counts : ndarray of shape (k, k), int
        True classes by rows, predicted ones by columns.
    shown : list of dict
        Mistaken images as ``confusions.html`` shows them, those of the most frequent mistakes first.
    """

    classes: tuple[str, ...]
    counts: np.ndarray
    shown: list[dict[str, Any]]

    def matrix(self) -> list[dict[str, Any]]:
        """The rows of the matrix; no row where there are too many classes."""
        if len(self.classes) > MOST_CLASSES:
            return []
        opened = {one["pair"] for one in self.shown}
        most = self.counts.sum(1).clip(1)
        return [
            {
                "name": name,
                "cells": [
                    {
                        "count": f"{count:,}" if count else "",
                        "share": f"{count / most[row]:.3f}",
                        "pair": f"{row}-{column}" if f"{row}-{column}" in opened else "",
                        "right": row == column,
                        "title": f"{name} taken for {self.classes[column]}: {count:,}",
                    }
                    for column, count in enumerate(self.counts[row].tolist())
                ],
            }
            for row, name in enumerate(self.classes)
        ]

    def pairs(self) -> list[list[str]]:
        """The most frequent mistakes: true class, predicted class, and how often."""
        wrong = self.counts - np.diag(np.diag(self.counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
        chosen = [divmod(int(at), len(self.classes)) for at in order if wrong.flat[at]]
        return [[f"{self.classes[i]} → {self.classes[j]}", f"{wrong[i, j]:,}"] for i, j in chosen]


def confusions(
    dataset: Dataset, classes: tuple[str, ...], evaluation: Evaluation, features: Any, views: int, decoding: Decoding
) -> Confusions:
    """Count what the classes of images held out were taken for, and show mistaken images.

    Parameters
    ----------
    features : array of shape (n * views, ...)
        Of all images. Those that an image looks like are the nearest, by cosine, of the images that the head was
        trained on when it mistook the image.
    """
    names = np.array(classes)
    truth, predicted = (np.searchsorted(names, part) for part in evaluation.held_out())
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (truth, predicted), 1)
    rows, outputs = np.concatenate(evaluation.rows), np.concatenate(evaluation.outputs)
    splits = np.repeat(np.arange(len(evaluation.rows)), [len(part) for part in evaluation.rows])
    chosen = _chosen(rows, truth, predicted, outputs.max(1), counts)
    alike = _trained_on_nearby(features, views, evaluation, rows[chosen], splits[chosen])
    shown = []
    for at, near in zip(chosen.tolist(), alike, strict=True):
        row = int(rows[at])
        try:
            neighbors = [_image(dataset, other, SMALL, decoding) for other in near]
            image = _image(dataset, row, LARGE, decoding)
        except BadImage:  # it has been damaged or deleted since its features were computed
            continue
        said = f"predicted {classes[predicted[at]]} at {outputs[at].max():.2f}"
        pair = f"{truth[at]}-{predicted[at]}"
        shown.append({**image, "pair": pair, "said": said, "neighbors": neighbors})
    return Confusions(classes, counts, shown)


def _chosen(
    rows: np.ndarray, truth: np.ndarray, predicted: np.ndarray, confidence: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Positions of mistakes: the surest of each pair, the most frequent pairs first, every image once."""
    seen: set[int] = set()
    of_pair: Counter[tuple[int, int]] = Counter()
    chosen = []
    wrong = np.flatnonzero(truth != predicted)
    for at in wrong[np.argsort(-confidence[wrong], kind="stable")].tolist():
        pair = (int(truth[at]), int(predicted[at]))
        if int(rows[at]) not in seen and of_pair[pair] < MOST_OF_A_PAIR:
            seen.add(int(rows[at]))
            of_pair[pair] += 1
            chosen.append(at)
    order = sorted(chosen, key=lambda at: -int(counts[truth[at], predicted[at]]))
    return np.array(order[:MOST_SHOWN], int)


def _trained_on_nearby(
    features: Any, views: int, evaluation: Evaluation, rows: np.ndarray, splits: np.ndarray
) -> list[list[int]]:
    """The images nearest to each of `rows` among those that its split did not hold out."""
    if not len(rows) or math.prod(features.shape[1:]) > WIDEST:
        return [[] for _ in rows]
    plain = features if views == 1 else features[::views]
    near = nearest(plain, np.asarray(plain[np.asarray(rows)]), MOST_CANDIDATES).rows
    held_out = [set(part.tolist()) for part in evaluation.rows]
    return [
        [other for other in others if other not in held_out[split]][:NEIGHBORS]
        for others, split in zip(near.tolist(), splits.tolist(), strict=True)
    ]


def _image(dataset: Dataset, row: int, longest: int, decoding: Decoding) -> dict[str, Any]:
    label = "" if dataset.labels is None else str(dataset.labels[row])
    return {"id": dataset.ids[row], "class": label, "url": thumbnail_url(dataset.sources[row], longest, decoding)}
