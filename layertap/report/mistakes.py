"""The images that a run mistakes, by the pair of their class and the predicted one, with images that they look like."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from dataclasses import dataclass, field
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
MOST_UNSURE = 2  # right predictions of a class
NEIGHBORS = 4
AT_ONCE = 2**24  # numbers of the features of the images that a head was trained on, all of which are compared
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
    unsure : list of dict
        Images of each class that are predicted right, with the least confidence.
    """

    classes: tuple[str, ...]
    counts: np.ndarray
    shown: list[dict[str, Any]]
    unsure: list[dict[str, Any]] = field(default_factory=list)

    def summary(self) -> str:
        """A sentence that counts the mistakes."""
        total, right = int(self.counts.sum()), int(np.trace(self.counts))
        return f"{total - right:,} of {total:,} predictions are mistaken." if total else ""

    def matrix(self) -> list[dict[str, Any]]:
        """The rows of the matrix; no row where there are too many classes."""
        if len(self.classes) > MOST_CLASSES:
            return []
        opened = {one["pair"] for one in (*self.shown, *self.unsure)}
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
                        "title": f"{name} {'predicted right' if row == column else f'taken for {other}'}: {count:,}",
                    }
                    for column, (other, count) in enumerate(zip(self.classes, self.counts[row].tolist(), strict=True))
                ],
            }
            for row, name in enumerate(self.classes)
        ]

    def pairs(self) -> list[dict[str, str]]:
        """The most frequent mistakes: true class, predicted class, how often, and the pair whose images are shown."""
        wrong = self.counts - np.diag(np.diag(self.counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
        chosen = [divmod(int(at), len(self.classes)) for at in order if wrong.flat[at]]
        opened = {one["pair"] for one in self.shown}
        return [
            {
                "name": f"{self.classes[i]} → {self.classes[j]}",
                "title": f"{self.classes[i]} taken for {self.classes[j]}: {wrong[i, j]:,}",
                "count": f"{wrong[i, j]:,}",
                "pair": f"{i}-{j}" if f"{i}-{j}" in opened else "",
            }
            for i, j in chosen
        ]


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """The images of a training, among which those are looked for that others look like.

    Attributes
    ----------
    dataset : Dataset
    rows : array of shape (n, ...)
        Their features.
    digests : ndarray of shape (n, 16), uint8
        Of their content, by which an image is not shown as one that it looks like itself.
    """

    dataset: Dataset
    rows: Any
    digests: np.ndarray


def confusions(
    dataset: Dataset,
    classes: tuple[str, ...],
    evaluation: Evaluation,
    features: Any,
    views: int,
    decoding: Decoding,
    training: TrainingImages | None = None,
    digests: np.ndarray | None = None,
) -> Confusions:
    """Count what the classes of images held out were taken for, and show mistaken images.

    Parameters
    ----------
    features : array of shape (n * views, ...)
        Of all images. Those that an image looks like are the nearest, by cosine, of the images that the head was
        trained on when it mistook the image.
    training : TrainingImages, optional
        Of the head; by default those that `evaluation` says each split trained on.
    digests : ndarray of shape (n, 16), uint8, optional
        Of the content of the images.
    """
    names = np.array(classes)
    truth, predicted = (np.searchsorted(names, part) for part in evaluation.held_out())
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (truth, predicted), 1)
    rows, outputs = np.concatenate(evaluation.rows), np.concatenate(evaluation.outputs)
    splits = np.repeat(np.arange(len(evaluation.rows)), [len(part) for part in evaluation.rows])
    chosen = _chosen(rows, truth, predicted, outputs.max(1), counts)
    plain = features if views == 1 else features[::views]
    if training is None:
        alike = _trained_on_nearby(plain, evaluation, rows[chosen], splits[chosen])
    else:
        alike = _others_nearby(training, plain, rows[chosen], digests)
    trained_on = dataset if training is None else training.dataset
    shown = []
    for at, near in zip(chosen.tolist(), alike, strict=True):
        row = int(rows[at])
        try:
            own, said = classes[truth[at]], classes[predicted[at]]
            neighbors = [_image(trained_on, other, SMALL, decoding) for other in near]
            image = _image(dataset, row, LARGE, decoding)
        except BadImage:  # it has been damaged or deleted since its features were computed
            continue
        for one in neighbors:
            one["kind"] = {own: "own", said: "said"}.get(one["class"], "")
        pair = f"{truth[at]}-{predicted[at]}"
        shown.append(
            {**image, "pair": pair, "said": f"predicted {said} at {outputs[at].max():.2f}", "neighbors": neighbors}
        )
    if len(classes) > MOST_CLASSES:
        return Confusions(classes, counts, shown)
    right = truth == predicted
    return Confusions(classes, counts, shown, _unsure(dataset, classes, rows, truth, outputs.max(1), right, decoding))


def _unsure(
    dataset: Dataset,
    classes: tuple[str, ...],
    rows: np.ndarray,
    truth: np.ndarray,
    confidence: np.ndarray,
    right: np.ndarray,
    decoding: Decoding,
) -> list[dict[str, Any]]:
    """The images of each class that are predicted right, with the least confidence."""
    shown = []
    for number in range(len(classes)):
        of_class = np.flatnonzero(right & (truth == number))
        order = of_class[np.argsort(confidence[of_class], kind="stable")]
        _, first = np.unique(rows[order], return_index=True)  # an image may be held out by several splits
        for at in order[np.sort(first)][:MOST_UNSURE].tolist():
            with contextlib.suppress(BadImage):
                image = _image(dataset, int(rows[at]), LARGE, decoding)
                shown.append({**image, "pair": f"{number}-{number}", "said": f"at {confidence[at]:.2f}"})
    return shown


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


def _trained_on_nearby(plain: Any, evaluation: Evaluation, rows: np.ndarray, splits: np.ndarray) -> list[list[int]]:
    """The images nearest to each of `rows` among those that the head of its split was trained on."""
    found: list[list[int]] = [[] for _ in rows]
    for split, trained in enumerate(evaluation.trained):
        chosen = np.flatnonzero(splits == split)
        if not len(chosen):
            continue
        if len(trained) * math.prod(plain.shape[1:]) <= AT_ONCE:
            near = [trained[others].tolist() for others in _nearby(plain[trained], plain, rows[chosen], NEIGHBORS)]
        else:  # they are not all read into memory
            known = set(trained.tolist())
            wide = _nearby(plain, plain, rows[chosen], MOST_CANDIDATES)
            near = [[other for other in others if other in known][:NEIGHBORS] for others in wide]
        for at, others in zip(chosen.tolist(), near, strict=True):
            found[at] = others
    return found


def _others_nearby(
    training: TrainingImages, plain: Any, rows: np.ndarray, digests: np.ndarray | None
) -> list[list[int]]:
    """The images of the training nearest to each of `rows`, without those of the same content."""
    near = _nearby(training.rows, plain, rows, MOST_CANDIDATES)
    if digests is None:
        return [others[:NEIGHBORS] for others in near]
    return [
        [other for other in others if (training.digests[other] != digests[row]).any()][:NEIGHBORS]
        for others, row in zip(near, rows.tolist(), strict=True)
    ]


def _nearby(features: Any, others: Any, rows: np.ndarray, count: int) -> list[list[int]]:
    """The features nearest to some rows of others; none where they are too wide to be compared."""
    if not len(rows) or math.prod(features.shape[1:]) > WIDEST:
        return [[] for _ in rows]
    found: list[list[int]] = nearest(features, np.asarray(others[rows]), count).rows.tolist()
    return found


def _image(dataset: Dataset, row: int, longest: int, decoding: Decoding) -> dict[str, Any]:
    label = "" if dataset.labels is None else str(dataset.labels[row])
    return {"id": dataset.ids[row], "class": label, "url": thumbnail_url(dataset.sources[row], longest, decoding)}
