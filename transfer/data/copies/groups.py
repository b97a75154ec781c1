"""Groups of images that no split may separate: copies of one image, near-duplicates, and pages of one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from feature_cache.files.digest_memo import DigestMemo
from feature_cache.spec import FeatureSpec
from transfer.data.copies.duplicates import link_near_duplicates
from transfer.data.copies.image_hash import GRAY_SIDE
from transfer.data.copies.pixel_digests import pixel_digests
from transfer.data.image_collection import ImageCollection, source_digests
from transfer.data.images import EncodedSource, ImageSource, decoding_of
from transfer.data.survey import survey


def copy_groups(
    dataset: ImageCollection,
    digests: np.ndarray,
    specs: Iterable[FeatureSpec],
    memo: DigestMemo,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Group numbers: equal for images of the same bytes, or of the same pixels for one of `specs`.

    The pixels are those that the net is given: decoded, upright and resized. A gray image equals the same image in RGB.
    A JPEG that is decoded at a part of its size differs a little from its copy in another format, which is then not
    counted as a copy.

    Parameters
    ----------
    dataset : ImageCollection
    digests : ndarray of shape (n, 16), uint8
        The digest of each image's content.
    specs : iterable of FeatureSpec
    memo : DigestMemo
        It is given the digests of pixels that it lacks, for which images are decoded.
    progress : callable, optional
        Called with the number of images decoded, and the number of all that have to be.

    Returns
    -------
    ndarray of shape (n,), int64

    Raises
    ------
    BadImage
        When a file has changed since `digests` were computed.
    """
    groups = _group_numbers(digests)
    for spec in {spec.pixel_key: spec for spec in specs}.values():
        groups = merge_groups(groups, _group_numbers(pixel_digests(dataset, digests, spec, memo, progress)))
    return groups


def merge_groups(groups: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Group numbers that are equal where `groups` or `others` are equal, and wherever a chain of such links leads.

    Parameters
    ----------
    groups, others : ndarray of shape (n,), int
        Group numbers, from 0 on.

    Returns
    -------
    ndarray of shape (n,), int64
        The new groups are numbered in the order of `groups`.

    Examples
    --------
    >>> merge_groups(np.array([0, 0, 1, 2, 3]), np.array([0, 1, 1, 2, 3])).tolist()
    [0, 0, 0, 1, 2]
    """
    # SciPy's graphs are slow to import, and not every command groups images.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(groups):
        return groups
    offset = groups.max() + 1
    size = offset + others.max() + 1
    links = coo_array((np.ones(len(groups), bool), (groups, offset + others)), (size, size))
    joined = connected_components(links, directed=False)[1][groups]
    first = np.full(size, size)
    np.minimum.at(first, joined, groups)
    return _group_numbers(first[joined])


@dataclass(frozen=True)
class NearGroups:
    """Groups of copies and of near-duplicates (see `transfer.data.copies.duplicates`).

    Attributes
    ----------
    groups : ndarray of shape (n,), int64
        Group numbers, equal for images of a group.
    pairs : int
        The number of pairs of near-duplicates; one of several exact copies stands for all.
    images : int
        The number of images in groups that such pairs connect.
    count : int
        The number of these groups.
    largest : int
        The number of images in the largest of these groups.
    """

    groups: np.ndarray
    pairs: int
    images: int
    count: int
    largest: int


def near_groups(
    dataset: ImageCollection, copies: np.ndarray, spec: FeatureSpec, progress: Callable[[int, int], None] | None = None
) -> NearGroups:
    """Groups of near-duplicates: an image, its near-duplicates, the near-duplicates of these, and so on.

    Parameters
    ----------
    dataset : ImageCollection
    copies : ndarray of shape (n,), int
        Group numbers of copies (see `copy_groups`).
    spec : FeatureSpec
        It says how stored values become pixels: transparency, pages and window.
    progress : callable, optional
        Called with the number of images decoded, and the number of all; each is decoded once.
    """
    _, first, number = np.unique(copies, return_index=True, return_inverse=True)
    surveyed = survey(dataset.select(first), decoding=decoding_of(spec), progress=progress)
    near, pairs = link_near_duplicates(surveyed.hashes, surveyed.grays.reshape(-1, GRAY_SIDE**2))
    readable = set(surveyed.dataset.ids)
    keys = len(first) + np.arange(len(first))  # an image that can no longer be read stays in a group of its own
    keys[[dataset.ids[position] in readable for position in first]] = near
    groups = merge_groups(number, _group_numbers(keys)[number])
    sizes = np.bincount(groups)
    grown = np.bincount(groups[first]) > 1
    return NearGroups(groups, pairs, int(sizes[grown].sum()), int(grown.sum()), int(sizes[grown].max(initial=0)))


def page_groups(dataset: ImageCollection, memo: DigestMemo | None = None) -> np.ndarray:
    """Group numbers of shape (n,), int64, from 0 on: equal for a file, its pages, and the boxes in it.

    Slices of one volume, frames of one film and things in one photograph look alike, though no two of them are equal.

    Parameters
    ----------
    dataset : ImageCollection
    memo : DigestMemo, optional
        By what it knows of them, files of the same content count as one. It knows the files of images that were
        identified; others are read if another file has their size.
    """
    if not any(isinstance(source, EncodedSource) and source.is_part for source in dataset.sources):
        return np.arange(len(dataset), dtype=np.int64)
    numbers: dict[object, int] = {}
    files: list[ImageSource] = []
    groups = np.zeros(len(dataset), np.int64)
    for position, source in enumerate(dataset.sources):
        key = source.whole if isinstance(source, EncodedSource) else position
        groups[position] = numbers.setdefault(key, len(numbers))
        if len(files) < len(numbers):
            files.append(source.file if isinstance(source, EncodedSource) else source)
    return groups if memo is None else merge_groups(groups, _same_files(files, memo)[groups])


def _same_files(files: Sequence[ImageSource], memo: DigestMemo) -> np.ndarray:
    """Numbers of shape (n,), int64, that are equal for files of the same content."""
    stamps = [source.stamp() for source in files]
    counts = Counter(stamp[1] for stamp in stamps if stamp)
    alike = [place for place, stamp in enumerate(stamps) if stamp and counts[stamp[1]] > 1]  # copies are of one size
    contents, unreadable = source_digests([files[place] for place in alike], memo)
    first: dict[bytes, int] = {}
    numbers = np.arange(len(files))
    for number, place in enumerate(alike):
        if number not in unreadable:
            numbers[place] = first.setdefault(contents[number].tobytes(), place)
    return numbers


def count_label_conflicts(groups: np.ndarray, labels: np.ndarray) -> int:
    """The number of images that are in a group with images of another label.

    Parameters
    ----------
    groups, labels : ndarray of shape (n,)

    Examples
    --------
    >>> count_label_conflicts(np.array([0, 0, 1, 1]), np.array(["cat", "dog", "cat", "cat"]))
    2
    """
    pairs = np.unique(np.stack([_group_numbers(groups), _group_numbers(labels)]), axis=1)
    mixed = np.flatnonzero(np.bincount(pairs[0]) > 1)
    return int(np.isin(_group_numbers(groups), mixed).sum())


def _group_numbers(keys: np.ndarray) -> np.ndarray:
    """The rank of each key among the different keys: shape (n,), int64."""
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
