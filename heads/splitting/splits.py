"""Splits: which rows train and which are held out. Rows of one image content never part here.

Two files with the same bytes share their features, so one of them in training would give the other
away. Every split is made over distinct groups, by their label; copies go along. Where groups of images,
of one patient, say, are to stay together as well, they count as one content (see `united`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

from feature_cache.errors import BadData, InvalidChoice

MANY = 1000

Split = tuple[np.ndarray, np.ndarray]  # positions of the training rows, and of the held-out rows


def united(groups: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Contents that are equal for rows of the same image or the same group, and of those that these lead to.

    Parameters
    ----------
    groups, others : ndarray of shape (n,)

    Returns
    -------
    ndarray of shape (n,), int
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    content, group = (np.unique(values, return_inverse=True)[1] for values in (groups, others))
    size = content.max() + 1 + group.max() + 1
    links = coo_array((np.ones(len(content)), (content, content.max() + 1 + group)), (size, size))
    return connected_components(links, directed=False)[1][content]


def k_fold(labels: np.ndarray, groups: np.ndarray, k: int, seed: int) -> Iterator[Split]:
    """`k` stratified folds, shuffled by `seed`.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        All equal where nothing is to be balanced.
    groups : ndarray of shape (n,)
        Equal for rows of the same image, or group.

    Raises
    ------
    InvalidChoice
        When `k` is below 2.
    BadData
        When a class has fewer than `k` distinct images.
    """
    if k < 2:
        raise InvalidChoice(f"`cv` needs at least 2 folds; received {k}.")
    first, member = _distinct(groups)
    _require(labels, member, k, f"{k} folds need", "choose fewer with `cv`")
    if _are_mixed(labels, first, member):
        yield from StratifiedGroupKFold(k, shuffle=True, random_state=seed).split(labels, labels, member)
        return
    folds = StratifiedKFold(k, shuffle=True, random_state=seed)
    for train, held_out in folds.split(first, labels[first]):
        yield _rows(member, train), _rows(member, held_out)


def hold_out(labels: np.ndarray, groups: np.ndarray, share: float, seed: int, *, parameter: str = "valid") -> Split:
    """One stratified split that holds out `share` of the images, or about as many where groups are of several classes.

    Raises
    ------
    InvalidChoice
        When `share` is not between 0 and 1.
    BadData
        When there are too few images for both sides to hold every class.
    """
    if not 0 < share < 1:
        raise InvalidChoice(f"`{parameter}` is the share of images to hold out, between 0 and 1; received {share:g}.")
    first, member = _distinct(groups)
    _require(labels, member, 2, "a split needs", "add some")
    if _are_mixed(labels, first, member):
        fewer = min(share, 1 - share)
        most = int(_counts(labels, member)[1].min())
        folds = k_fold(labels, groups, max(2, min(round(1 / fewer), most)), seed)
        return next(folds) if share == fewer else next(folds)[::-1]
    classes = len(np.unique(labels))
    held = round(share * len(first))
    if min(held, len(first) - held) < classes:
        few = "without any" if classes == 1 else f"with fewer than one of each of the {classes} classes"
        raise BadData(
            f"holding out {share:g} of {len(first)} images leaves a side {few}; choose another `{parameter}`."
        )
    train, held_out = train_test_split(np.arange(len(first)), test_size=held, stratify=labels[first], random_state=seed)
    if any(len(np.unique(labels[first][side])) < classes for side in (train, held_out)):
        raise BadData(
            f"holding out {share:g} of {len(first)} images leaves a side without the rarest class; "
            f"choose another `{parameter}`."
        )
    return _rows(member, train), _rows(member, held_out)


def few_labels(labels: np.ndarray, groups: np.ndarray, per_class: int, seed: int) -> Split:
    """`per_class` images of each class, drawn by `seed`, train; all the rest are held out.

    Raises
    ------
    InvalidChoice
        When `per_class` is below 1.
    BadData
        When a class would have none left to be held out.
    """
    if per_class < 1:
        raise InvalidChoice(f"`per_class` needs at least 1 image of each class; received {per_class}.")
    first, member = _distinct(groups)
    needed = f"{per_class} labels per class need"
    _require(labels[first], np.arange(len(first)), per_class + 1, needed, "choose fewer with `per_class`")
    order = np.random.default_rng(seed).permutation(len(first))
    drawn = labels[first][order]
    train = np.concatenate([order[drawn == label][:per_class] for label in np.unique(drawn)])
    return _rows(member, train), _rows(member, np.setdiff1d(order, train))


def inner_folds(labels: np.ndarray, groups: np.ndarray, seed: int, k: int = 3) -> list[Split]:
    """Folds of training rows, for choosing among candidates: `k`, or as many as the rarest class allows.

    With `MANY` rows or more one fold is telling enough, and only the first is returned.

    Raises
    ------
    BadData
        When some class has a single distinct image.
    """
    _, member = _distinct(groups)
    _require(labels, member, 2, "choosing among training images needs", "name one layer, without `grid` or `calibrate`")
    folds = list(k_fold(labels, groups, min(k, int(_counts(labels, member)[1].min())), seed))
    return folds[:1] if len(labels) >= MANY else folds


def _distinct(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First row of each distinct content, in row order, and for every row the number of its content."""
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[member]


def _rows(member: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.isin(member, chosen))


def _are_mixed(labels: np.ndarray, first: np.ndarray, member: np.ndarray) -> bool:
    """Whether rows that stay together have different labels."""
    return bool((labels != labels[first][member]).any())


def _counts(labels: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes, and how many distinct groups have rows of each."""
    classes, column = np.unique(labels, return_inverse=True)
    pairs = np.unique(column * (member.max() + 1) + member)
    return classes, np.bincount(pairs // (member.max() + 1), minlength=len(classes))


def _require(labels: np.ndarray, member: np.ndarray, least: int, need: str, mend: str) -> None:
    classes, counts = _counts(labels, member)
    if counts.min() < least:
        rarest = int(counts.argmin())
        of_each, held = (" of each class", f"{str(classes[rarest])!r} has") if len(classes) > 1 else ("", "there are")
        once = ", as what stays together counts once" if member.max() + 1 < len(member) else ""
        raise BadData(f"{need} at least {least} distinct images{of_each}; {held} {counts[rarest]}{once}: {mend}.")
