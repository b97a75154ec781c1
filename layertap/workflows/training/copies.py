"""Copies of images: which ones are copies of each other, and which ones a net or a head was trained on."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

import numpy as np

from feature_cache.files.digest_list import digest_keys
from heads.splitting.splits import Split
from layertap.progress import ProgressBar, no_progress
from layertap.workflows.training.protocol_options import EXACT, NEAR
from transfer.data.copies.groups import copy_groups, count_label_conflicts, near_groups
from transfer.data.copies.pixel_digests import identity_digests
from transfer.extraction.feature_set import FeatureSet


@dataclass(frozen=True, eq=False)
class Copies:
    """Which images are copies of each other.

    Attributes
    ----------
    groups : ndarray of shape (n,), int64
        Equal for copies of an image.
    notes : tuple of str
        Sentences about copies with different labels, and about near-duplicates.
    """

    groups: np.ndarray
    notes: tuple[str, ...] = ()


def find_copies(
    features: FeatureSet,
    together: str = EXACT,
    labels: np.ndarray | None = None,
    progress: ProgressBar = no_progress,
) -> Copies:
    """Which images of `features` are exact copies or, where `together` is ``near``, near-duplicates.

    Parameters
    ----------
    features : FeatureSet
        Their specs say which pixels a net is given, by which copies are recognised.
    together : {'exact', 'near', 'copies'}
    labels : ndarray of shape (n,), str, optional
        The classes of the images: a note says how many copies differ in them.
    progress : ProgressBar, optional
        See `layertap.progress`.
    """
    notes = []
    with progress("images decoded") as show:
        exact = copy_groups(features.dataset, features.digests, features.specs, features.memo, show)
    if labels is not None and (mixed := count_label_conflicts(exact, labels)):
        notes.append(
            f"{mixed} images have an exact copy of another class; one of the labels is likely wrong "
            "(layertap explore shows them)."
        )
    if together != NEAR:
        return Copies(exact, tuple(notes))
    with progress("images compared") as show:
        near = near_groups(features.dataset, exact, features.specs[0], show)
    notes.append(
        f"{near.pairs} pairs of near-duplicates stay together: {near.images} images in {near.count} groups, the "
        f"largest of {near.largest}."
    )
    return Copies(near.groups, tuple(notes))


def identify(features: FeatureSet, progress: ProgressBar = no_progress) -> np.ndarray:
    """The digests that each image is recognised by, of shape (n, k, 16), uint8 (see `identity_digests`)."""
    with progress("images decoded") as show:
        return identity_digests(features.dataset, features.digests, features.specs, features.memo, show)


def count_seen(seen: Set[bytes], identities: np.ndarray) -> int:
    """How many of the images were among those that a net or a head was trained on.

    Parameters
    ----------
    seen : set of bytes
        What the images are recognised by that the net or head was trained on.
    identities : ndarray of shape (n, k, 16), uint8
        See `identify`.
    """
    return sum(not seen.isdisjoint(digest_keys(image)) for image in identities)


def seen_warnings(
    seen: Set[bytes], identities: np.ndarray, splits: list[Split], test_rows: np.ndarray
) -> tuple[str, ...]:
    """A warning where a net was trained on images that are held out, or that are of the test.

    Parameters
    ----------
    seen : set of bytes
        See `count_seen`.
    identities : ndarray of shape (n, k, 16), uint8
        See `identify`.
    splits : list of (train, held out)
        Positions of images.
    test_rows : ndarray of shape (m,), int
    """
    judged = np.unique(np.concatenate([test_rows, *(held_out for _, held_out in splits)]))
    known = count_seen(seen, identities[judged]) if seen else 0
    if not known:
        return ()
    return (f"the net was trained on {known} of the {len(judged)} images held out: their scores say little.",)
