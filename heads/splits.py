"""Splits: which rows train and which are held out. Rows of one image content never part.

Two files with the same bytes share their features, so one of them in training would give the other
away. Every split is made over distinct contents, by the label of the first; copies go along.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

from feature_cache.errors import BadData, InvalidChoice

MANY = 1000

Split = tuple[np.ndarray, np.ndarray]  # positions of the training rows, and of the held-out rows


def k_fold(labels: np.ndarray, contents: np.ndarray, k: int, seed: int) -> Iterator[Split]:
    """`k` stratified folds, shuffled by `seed`.

    Parameters
    ----------
    labels : ndarray of shape (n,)
    contents : ndarray of shape (n,)
        Equal for rows of the same image.

    Raises
    ------
    InvalidChoice
        When `k` is below 2.
    BadData
        When a class has fewer than `k` distinct images.
    """
    if k < 2:
        raise InvalidChoice(f"--cv needs at least 2 folds; received {k}.")
    first, member = _distinct(contents)
    _require(labels[first], k, f"{k} folds need at least {k} distinct images of each class", "choose fewer with --cv")
    folds = StratifiedKFold(k, shuffle=True, random_state=seed)
    for train, held_out in folds.split(first, labels[first]):
        yield _rows(member, train), _rows(member, held_out)


def hold_out(labels: np.ndarray, contents: np.ndarray, share: float, seed: int, *, option: str = "--valid") -> Split:
    """One stratified split that holds out `share` of the images.

    Raises
    ------
    InvalidChoice
        When `share` is not between 0 and 1.
    BadData
        When there are too few images for both sides to hold every class.
    """
    if not 0 < share < 1:
        raise InvalidChoice(f"{option} is the share of images to hold out, between 0 and 1; received {share:g}.")
    first, member = _distinct(contents)
    _require(labels[first], 2, "a split needs at least 2 distinct images of each class", "add some")
    classes = len(np.unique(labels))
    held = round(share * len(first))
    if min(held, len(first) - held) < classes:
        raise BadData(
            f"holding out {share:g} of {len(first)} images leaves a side with fewer than one of each of the "
            f"{classes} classes; choose another {option}."
        )
    train, held_out = train_test_split(np.arange(len(first)), test_size=held, stratify=labels[first], random_state=seed)
    if any(len(np.unique(labels[first][side])) < classes for side in (train, held_out)):
        raise BadData(
            f"holding out {share:g} of {len(first)} images leaves a side without the rarest class; "
            f"choose another {option}."
        )
    return _rows(member, train), _rows(member, held_out)


def few_labels(labels: np.ndarray, contents: np.ndarray, per_class: int, seed: int) -> Split:
    """`per_class` images of each class, drawn by `seed`, train; all the rest are held out.

    Raises
    ------
    InvalidChoice
        When `per_class` is below 1.
    BadData
        When a class would have none left to be held out.
    """
    if per_class < 1:
        raise InvalidChoice(f"--per-class needs at least 1 image of each class; received {per_class}.")
    first, member = _distinct(contents)
    needed = f"{per_class} labels per class need at least {per_class + 1} distinct images of each class"
    _require(labels[first], per_class + 1, needed, "choose fewer with --per-class")
    order = np.random.default_rng(seed).permutation(len(first))
    drawn = labels[first][order]
    train = np.concatenate([order[drawn == label][:per_class] for label in np.unique(drawn)])
    return _rows(member, train), _rows(member, np.setdiff1d(order, train))


def inner_folds(labels: np.ndarray, contents: np.ndarray, seed: int, k: int = 3) -> list[Split]:
    """Folds of training rows, for choosing among candidates: `k`, or as many as the rarest class allows.

    With `MANY` rows or more one fold is telling enough, and only the first is returned.

    Raises
    ------
    BadData
        When some class has a single distinct image.
    """
    first, _ = _distinct(contents)
    _, counts = np.unique(labels[first], return_counts=True)
    _require(
        labels[first],
        2,
        "choosing needs at least 2 distinct training images of each class",
        "name one layer, without --grid or --calibrate",
    )
    folds = list(k_fold(labels, contents, min(k, int(counts.min())), seed))
    return folds[:1] if len(labels) >= MANY else folds


def _distinct(contents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First row of each distinct content, in row order, and for every row the number of its content."""
    _, first, member = np.unique(contents, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[member]


def _rows(member: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.isin(member, chosen))


def _require(labels: np.ndarray, least: int, need: str, mend: str) -> None:
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < least:
        rarest = int(counts.argmin())
        raise BadData(f"{need}; {str(classes[rarest])!r} has {counts[rarest]}: {mend}.")
