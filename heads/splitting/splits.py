"""Splits: which rows train a head and which are held out. Rows of one group always stay on the same side.

Copies of an image share their features: a copy among the training rows would give away the one that is held out. So
copies are a group, and every split is made over the distinct groups, stratified by their labels. Images of one patient,
or pages of one file, may be a group as well.

A class of one or two groups may be too small for both sides. Its rows are for training only then, unless all classes
are so small.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from feature_cache.errors import BadData, InvalidChoice

FEW = 2  # a class of at most so many groups may be for training only
MANY = 1000  # training rows from which a single inner fold is reliable enough

Split = tuple[np.ndarray, np.ndarray]  # positions of the training rows, and of the held-out rows


def k_fold(labels: np.ndarray, groups: np.ndarray, k: int, seed: int) -> Iterator[Split]:
    """`k` stratified folds, shuffled by `seed`.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        The class of each row; all equal where there are no classes to balance.
    groups : ndarray of shape (n,)
        Equal for rows that stay on the same side.

    Yields
    ------
    train, held_out : ndarray of int
        Positions of rows.

    Raises
    ------
    InvalidChoice
        When `k` is below 2.
    BadData
        When a class has fewer than `k` distinct groups, but more than `FEW`.
    """
    if k < 2:
        raise InvalidChoice(f"`cv` needs at least 2 folds; received {k}.")
    first, member = _distinct(groups)
    apart = _training_only(labels, member, least=k)
    if len(apart):
        rest = np.setdiff1d(np.arange(len(labels)), apart)
        for split in k_fold(labels[rest], groups[rest], k, seed):
            yield with_training_only(split, rest, apart)
        return
    _require(labels, member, k, f"{k} folds need", "choose fewer with `cv`")
    if _are_mixed(labels, first, member):
        from sklearn.model_selection import StratifiedGroupKFold  # slow to load, and seldom needed

        yield from StratifiedGroupKFold(k, shuffle=True, random_state=seed).split(labels, labels, member)
        return
    fold = stratified_folds(labels[first], k, seed)
    for number in range(k):
        yield _rows(member, np.flatnonzero(fold != number)), _rows(member, np.flatnonzero(fold == number))


def hold_out(labels: np.ndarray, groups: np.ndarray, share: float, seed: int, *, parameter: str = "valid") -> Split:
    """One stratified split that holds out `share` of the images.

    Where the rows of a group are of several classes, about this share is held out.

    Parameters
    ----------
    labels, groups : ndarray of shape (n,)
        See `k_fold`.
    share : float
        Between 0 and 1.
    parameter : str
        The name that the caller's user knows `share` by, for error messages.

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
    apart = _training_only(labels, member, least=1 / min(share, 1 - share))
    if len(apart):
        rest = np.setdiff1d(np.arange(len(labels)), apart)
        return with_training_only(hold_out(labels[rest], groups[rest], share, seed, parameter=parameter), rest, apart)
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
    train, held_out = stratified(labels[first], held, seed)
    if any(len(np.unique(labels[first][side])) < classes for side in (train, held_out)):
        raise BadData(
            f"holding out {share:g} of {len(first)} images leaves a side without the rarest class; "
            f"choose another `{parameter}`."
        )
    return _rows(member, train), _rows(member, held_out)


def with_training_only(split: Split, rest: np.ndarray, apart: np.ndarray) -> Split:
    """The split of all rows, from that of the rows `rest`; the other rows, `apart`, are for training."""
    train, held_out = split
    return np.union1d(rest[train], apart), rest[held_out]


def stratified(labels: np.ndarray, held: int, seed: int) -> Split:
    """The rows of one split that holds out `held` rows, of each class its share.

    It draws as scikit-learn's ``train_test_split(..., stratify=labels, random_state=seed)`` does, and gives the same
    rows; that function takes half a second to import.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        The class of each row. Every class has two rows, and both sides have room for all classes.

    Examples
    --------
    >>> [rows.tolist() for rows in stratified(np.array(["a", "b"] * 4), 2, seed=0)]
    [[6, 1, 5, 4, 2, 3], [7, 0]]
    """
    random = np.random.RandomState(seed)
    _, member = np.unique(labels, return_inverse=True)
    counts = np.bincount(member)
    kept = _shares(counts, len(labels) - held, random)
    left_out = _shares(counts - kept, held, random)
    sides: tuple[list[int], list[int]] = [], []
    of_class = np.split(np.argsort(member, kind="stable"), np.cumsum(counts)[:-1])
    for rows, first, second in zip(of_class, kept, left_out, strict=True):
        rows = rows[random.permutation(len(rows))]
        sides[0].extend(rows[:first])
        sides[1].extend(rows[first : first + second])
    return random.permutation(sides[0]), random.permutation(sides[1])


def stratified_folds(labels: np.ndarray, k: int, seed: int) -> np.ndarray:
    """The number of each row's fold: those of scikit-learn's ``StratifiedKFold(k, shuffle=True, random_state=seed)``.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        The class of each row.

    Examples
    --------
    >>> stratified_folds(np.array(["a", "b", "b", "a"]), 2, seed=0).tolist()
    [1, 0, 1, 0]
    """
    random = np.random.RandomState(seed)
    _, first, member = np.unique(labels, return_index=True, return_inverse=True)
    member = np.argsort(np.argsort(first))[member]  # classes in the order in which they occur
    in_order = np.sort(member)
    allotted = np.array([np.bincount(in_order[start::k], minlength=len(first)) for start in range(k)])
    fold = np.empty(len(labels), np.int64)
    for number in range(len(first)):
        folds = np.arange(k).repeat(allotted[:, number])
        random.shuffle(folds)
        fold[member == number] = folds
    return fold


def _shares(counts: np.ndarray, draws: int, random: np.random.RandomState) -> np.ndarray:
    """How many of `draws` rows are of each class: shares that are rounded to the right sum; `random` settles ties."""
    exact = counts / counts.sum() * draws
    shares = np.floor(exact)
    remainder = exact - shares
    missing = int(draws - shares.sum())
    for value in np.sort(np.unique(remainder))[::-1] if missing else ():
        tied = np.flatnonzero(remainder == value)
        chosen = random.choice(tied, size=min(len(tied), missing), replace=False)
        shares[chosen] += 1
        missing -= len(chosen)
        if not missing:
            break
    return shares.astype(int)


def few_labels(labels: np.ndarray, groups: np.ndarray, per_class: int, seed: int) -> Split:
    """`per_class` images of each class, drawn by `seed`, for training; all others are held out.

    Parameters
    ----------
    labels, groups : ndarray of shape (n,)
        See `k_fold`.

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
    """Folds of the training rows by which candidates are compared: `k`, or as many as the rarest class allows.

    The only image of a class is in the training rows of all folds. From `MANY` rows on, one fold is reliable enough,
    and only the first is returned.

    Parameters
    ----------
    labels, groups : ndarray of shape (n,)
        See `k_fold`; of the training rows alone.

    Raises
    ------
    BadData
        When all classes have a single distinct image.
    """
    _, member = _distinct(groups)
    counts = _counts(labels, member)[1]
    if counts.max() < 2:
        _require(
            labels, member, 2, "choosing among training images needs", "name one layer, without `grid` or `calibrate`"
        )
    folds = list(k_fold(labels, groups, min(k, int(counts[counts > 1].min())), seed))
    return folds[:1] if len(labels) >= MANY else folds


def _distinct(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each distinct group, in the order of the rows, and the number of every row's group."""
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[member]


def _rows(member: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Positions of all rows of the `chosen` groups."""
    return np.flatnonzero(np.isin(member, chosen))


def _are_mixed(labels: np.ndarray, first: np.ndarray, member: np.ndarray) -> bool:
    """Whether the rows of some group have different labels."""
    return bool((labels != labels[first][member]).any())


def _counts(labels: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes, and the number of distinct groups that have rows of each class."""
    classes, column = np.unique(labels, return_inverse=True)
    pairs = np.unique(column * (member.max() + 1) + member)
    return classes, np.bincount(pairs // (member.max() + 1), minlength=len(classes))


def _training_only(labels: np.ndarray, member: np.ndarray, least: float) -> np.ndarray:
    """The rows of classes with at most `FEW` groups that are fewer than `least`, and of the groups that they belong to.

    There are none where all classes are so small.
    """
    classes, counts = _counts(labels, member)
    small = (counts <= FEW) & (counts < least)
    rows = np.flatnonzero(np.isin(member, member[np.isin(labels, classes[small])]))
    return rows[:0] if len(rows) == len(labels) else rows


def _require(labels: np.ndarray, member: np.ndarray, least: int, need: str, remedy: str) -> None:
    """Raise BadData where a class has fewer than `least` distinct groups."""
    classes, counts = _counts(labels, member)
    if counts.min() < least:
        rarest = int(counts.argmin())
        of_each, held = (" of each class", f"{str(classes[rarest])!r} has") if len(classes) > 1 else ("", "there are")
        once = ", as what stays together counts once" if member.max() + 1 < len(member) else ""
        raise BadData(f"{need} at least {least} distinct images{of_each}; {held} {counts[rarest]}{once}: {remedy}.")
