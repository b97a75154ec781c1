"""The options of a protocol: how images are split, and which ones stay together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_cache.errors import BadData, InvalidChoice
from heads.evaluation.protocol import Protocol
from heads.splitting.predefined import predefined_split
from transfer.data.columns import texts
from transfer.data.copies.groups import merge_groups
from transfer.data.datasets import Dataset

if TYPE_CHECKING:
    from heads.splitting.splits import Split

EXACT, NEAR, COPIES = "exact", "near", "copies"  # what stays on one side of every split
MOST = 5  # classes that a note lists


@dataclass(frozen=True)
class ProtocolOptions:
    """The options for judging heads, by their names on the command line and in Python.

    Parameters
    ----------
    cv : int, optional
        The number of stratified folds.
    valid : float, optional
        The share of the images that is held out: 0.2 where nothing else is chosen.
    per_class : int, optional
        The number of labelled images of each class to train on, drawn `draws` times; all others are held out.
    repeats : int
        How many times the folds of `cv` are made, each time by another seed.
    test : float, optional
        The share of the images that is set apart first, and scored once with the final head.
    splits : str, optional
        The column that holds the parts ``train``, ``valid`` and ``test``, or the name of each image's fold.
    groups : str, optional
        The column that holds the group of each image; the images of a group stay on one side of every split.
    together : {'exact', 'near', 'copies'}
        What else stays on one side: exact copies and the pages of a file; near-duplicates as well; or copies alone.
    curve : tuple of int
        The numbers of labelled images per class of a learning curve.
    seed : int

    Examples
    --------
    >>> ProtocolOptions(cv=5, seed=1)
    ProtocolOptions(cv=5, valid=None, per_class=None, draws=20, repeats=1, test=None, splits=None, groups=None, \
together='exact', curve=(), seed=1)
    """

    cv: int | None = None
    valid: float | None = None
    per_class: int | None = None
    draws: int = 20
    repeats: int = 1
    test: float | None = None
    splits: str | None = None
    groups: str | None = None
    together: str = EXACT
    curve: tuple[int, ...] = ()
    seed: int = 0

    def protocol(self, dataset: Dataset) -> Protocol:
        """The protocol for `dataset`, whose columns may hold the splits.

        Raises
        ------
        InvalidChoice, BadData
            When options contradict each other, or do not go with the data.
        """
        if self.repeats > 1 and self.cv is None:
            raise InvalidChoice("`repeats` makes the folds of `cv` several times; add `cv=K`.")
        if self.groups and (self.per_class or self.curve):
            raise InvalidChoice("`groups` keeps images together, of which `per_class` and `curve` draw single ones.")
        predefined = None
        if self.splits:
            predefined = predefined_split(self.splits, texts(dataset, self.splits))
            if self.test is not None:
                raise InvalidChoice("`splits` names the test images itself; leave out `test`.")
            chosen = [name for name in ("cv", "valid", "per_class") if getattr(self, name) is not None]
            if predefined.names and chosen:
                raise InvalidChoice(f"`splits` names what is held out itself; leave out `{chosen[0]}`.")
        return Protocol(self.cv, self.valid, self.per_class, self.draws, self.seed, self.test, self.repeats, predefined)

    def split_groups(self, dataset: Dataset, copies: np.ndarray) -> np.ndarray:
        """Numbers of shape (n,), equal for images that stay on the same side of every split.

        These are copies, the pages of a file unless `together` is ``copies``, and the images of a group of `groups`.

        Parameters
        ----------
        dataset : Dataset
        copies : ndarray of shape (n,)
            Equal for copies of an image (see `find_copies`).

        Raises
        ------
        InvalidChoice, BadData
            When the images that stay together leave nothing to split.
        """
        if self.together != COPIES and len(np.unique(files := dataset.page_groups())) < len(dataset):
            if self.per_class or self.curve:
                raise InvalidChoice(
                    "pages of one file, and boxes in one image, stay together, and `per_class` and `curve` draw single "
                    "ones; add `together='copies'` to have them apart."
                )
            if len(np.unique(files)) < 2:
                raise BadData(
                    f"all images of {dataset.name} are pages of one file, or boxes in one image, which stay together; "
                    "add `together='copies'` to have them on both sides of a split."
                )
            copies = merge_groups(copies, files)
        if not self.groups:
            return copies
        column = np.unique(texts(dataset, self.groups), return_inverse=True)[1]
        return merge_groups(copies, column)

    def to_json(self, protocol: Protocol) -> dict[str, Any]:
        """`protocol` as a run records it."""
        together = {"together": self.together} if self.together != EXACT else {}
        return {**protocol.as_dict(), **({"groups": self.groups} if self.groups else {}), **together}


def parted_notes(protocol: Protocol, groups: np.ndarray) -> tuple[str, ...]:
    """A note on the images that predefined splits have in one part, while images of their group are in another."""
    parted = protocol.predefined.count_divided(groups) if protocol.predefined else 0
    if not parted:
        return ()
    return (f"{parted} images have equals, or others of their group, in another part of the given splits.",)


def training_only_notes(labels: np.ndarray, splits: Sequence[Split]) -> tuple[str, ...]:
    """A note on the classes that no split holds out, because they have too few images for both sides.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        The class of each image.
    splits : sequence of (train, held_out)
        Positions of images.

    Examples
    --------
    >>> training_only_notes(np.array(["a", "a", "b"]), [(np.array([0, 2]), np.array([1]))])
    ("too few images for a score: 'b' (1). They are in training only.",)
    """
    scored = np.unique(np.concatenate([labels[held_out] for _, held_out in splits]))
    trained = np.concatenate([labels[train] for train, _ in splits[:1]])
    names, counts = np.unique(trained[~np.isin(trained, scored)], return_counts=True)
    if not len(names):
        return ()
    listed = ", ".join(f"{str(name)!r} ({count})" for name, count in zip(names[:MOST], counts, strict=False))
    more = f" and {len(names) - MOST} more classes" if len(names) > MOST else ""
    return (f"too few images for a score: {listed}{more}. They are in training only.",)
