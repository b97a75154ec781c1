"""Images that are copies of one another: exact copies, and near-duplicates, which differ by little.

Near-duplicates are proposed by their difference hashes (see `image_hash`). Even areas and similar shapes
have similar hashes, and so what decides is the correlation of the gray pixels, shrunk to 32 x 32. Copies that were
compressed, resized, lightened or marked correlate by more than `LEAST_CORRELATION`; parts of an image, and mirrored or
rotated images, are not found. Images without contrast have nothing to correlate: only their exact copies count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from feature_cache.keys import digest_pixels
from transfer.data.copies.image_hash import GRAY_SIDE, HASH_BITS
from transfer.data.images import to_pixels
from transfer.data.survey import DatasetSurvey
from transfer.hardware import cores

MOST_BITS = 24  # of 128, in which the hashes of near-duplicates differ
LEAST_CORRELATION = 0.99  # exceeded by 8 of the 1.6 million pairs of scikit-learn's digits (8 x 8 pixels)
LEAST_CONTRAST = 2.0  # standard deviation of the levels, of 255
MOST_PAIRS = 10_000  # that are returned, the most alike
_BLOCK_ROWS, _BLOCK_COLUMNS = 512, 4096  # of the block of pairs that is compared at a time


@dataclass(frozen=True)
class Copies:
    """Copies among the images of a data set, or of two, whose positions are counted on from one to the next.

    Attributes
    ----------
    exact : list of list of int
        Groups of images with the same bytes, or with the same shape and the same pixels.
    near : list of (int, int, float)
        Pairs of near-duplicates, the positions in order, and their correlation; the most alike first. Of images that
        are exact copies, the first one stands for all.
    near_total : int
        How many such pairs there are. At most `MOST_PAIRS` of them are in `near`.
    """

    exact: list[list[int]]
    near: list[tuple[int, int, float]]
    near_total: int


def find_copies(first: DatasetSurvey, second: DatasetSurvey | None = None) -> Copies:
    """Copies among the images of `first`, and between the images of `first` and those of `second`.

    Within `second`, only exact copies are found. A JPEG that is decoded at a part of its size and its copy in another
    format are near-duplicates, not exact copies.

    Examples
    --------
    >>> from transfer.data.datasets import load
    >>> from transfer.data.survey import survey
    >>> digits = load("digits")
    >>> twice = survey(digits.select(np.array([0, 1, 0])), (8, 8))
    >>> find_copies(twice).exact
    [[0, 2]]
    """
    surveys = [first, second] if second else [first]
    grays = np.concatenate([survey.grays for survey in surveys]).reshape(-1, GRAY_SIDE**2)
    hashes = np.concatenate([survey.hashes for survey in surveys])
    groups = _exact_groups(surveys, grays)
    leaders = np.array([group[0] for group in groups], np.int64)  # in order
    near, total = near_pairs(hashes[leaders], grays[leaders], int((leaders < len(first.records)).sum()))
    pairs = [(int(leaders[left]), int(leaders[right]), correlation) for left, right, correlation in near]
    return Copies([group for group in groups if group[1:]], pairs, total)


def _exact_groups(surveys: Sequence[DatasetSurvey], grays: np.ndarray) -> list[list[int]]:
    """Groups of the positions of exact copies, images without a copy among them, in the order of their first image."""
    records = [record for survey in surveys for record in survey.records]
    sources = [source for survey in surveys for source in survey.dataset.sources]
    decoding = surveys[0].decoding
    by_bytes = _equal_groups([record.digest for record in records])
    # Images with the same pixels have the same small gray version: only where that is so are they decoded again.
    first_records = [(records[group[0]].shape, grays[group[0]].tobytes()) for group in by_bytes]
    suspects = [number for group in _equal_groups(first_records) if group[1:] for number in group]

    def pixel_digest(number: int) -> bytes:
        position = by_bytes[number][0]
        picture = sources[position].load()[1]
        return digest_pixels(to_pixels(picture, records[position].shape, decoding=decoding))

    keys: list[Hashable] = list(range(len(by_bytes)))
    with ThreadPoolExecutor(len(cores())) as pool:
        for number, digest in zip(suspects, pool.map(pixel_digest, suspects), strict=True):
            keys[number] = digest
    return [sorted(position for number in group for position in by_bytes[number]) for group in _equal_groups(keys)]


def near_pairs(hashes: np.ndarray, grays: np.ndarray, rows: int) -> tuple[list[tuple[int, int, float]], int]:
    """Pairs of near-duplicates of which at least one is among the first `rows` images.

    All pairs are compared, in blocks, by products of matrices: 10,000 images take a second or a few.

    Parameters
    ----------
    hashes : ndarray of shape (n, 128), bool
    grays : ndarray of shape (n, 1024), uint8
    rows : int

    Returns
    -------
    pairs : list of (int, int, float)
        Two positions and the correlation, the most alike first; at most `MOST_PAIRS`.
    total : int
        The number of all pairs.
    """
    best = np.empty(0, [("left", np.int64), ("right", np.int64), ("correlation", np.float32)])
    total = 0
    for left, right, correlation in _blocks_of_pairs(hashes, grays, rows):
        total += len(left)
        block = np.empty(len(left), best.dtype)
        block["left"], block["right"], block["correlation"] = left, right, correlation
        best = np.concatenate([best, block])
        if len(best) > MOST_PAIRS:
            best = best[np.argpartition(-best["correlation"], MOST_PAIRS)[:MOST_PAIRS]]
    best = best[np.lexsort((best["right"], best["left"], -best["correlation"]))]
    return [(int(left), int(right), min(1.0, float(correlation))) for left, right, correlation in best], total


def link_near_duplicates(hashes: np.ndarray, grays: np.ndarray) -> tuple[np.ndarray, int]:
    """Groups of images that pairs of near-duplicates connect, one pair to the next; all pairs count.

    Parameters
    ----------
    hashes : ndarray of shape (n, 128), bool
    grays : ndarray of shape (n, 1024), uint8

    Returns
    -------
    groups : ndarray of shape (n,), int
        Numbers, equal for images of a group.
    total : int
        The number of pairs.
    """
    # SciPy's graphs are slow to import, and most commands look for no near-duplicates.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    groups, total = np.arange(len(hashes)), 0
    for left, right, _ in _blocks_of_pairs(hashes, grays, len(hashes)):
        links = coo_array((np.ones(len(left), bool), (groups[left], groups[right])), (len(hashes), len(hashes)))
        groups = connected_components(links, directed=False)[1][groups]
        total += len(left)
    return groups, total


def _blocks_of_pairs(
    hashes: np.ndarray, grays: np.ndarray, rows: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The pairs of `near_pairs`, some at a time: the positions of both images, and their correlation."""
    with_contrast = np.flatnonzero([gray.std() >= LEAST_CONTRAST for gray in grays])
    rows = int((with_contrast < rows).sum())
    # The product of two hashes of signs is the number of equal bits less the number of different ones.
    signs = np.where(hashes[with_contrast], np.float32(1), np.float32(-1))
    for top in range(0, rows, _BLOCK_ROWS):
        bottom = min(top + _BLOCK_ROWS, rows)
        for start in range(top, len(signs), _BLOCK_COLUMNS):
            close = signs[top:bottom] @ signs[start : start + _BLOCK_COLUMNS].T >= HASH_BITS - 2 * MOST_BITS
            if start < bottom:  # each pair once
                close &= np.arange(top, bottom)[:, None] < np.arange(start, start + close.shape[1])
            left, right = np.flatnonzero(close.any(axis=1)), np.flatnonzero(close.any(axis=0))
            if not len(left):
                continue
            left_rows = _standardized(grays[with_contrast[top + left]])
            correlation = left_rows @ _standardized(grays[with_contrast[start + right]]).T
            row, column = np.nonzero((correlation >= LEAST_CORRELATION) & close[np.ix_(left, right)])
            if len(row):
                positions = with_contrast[top + left[row]], with_contrast[start + right[column]]
                yield *positions, correlation[row, column]


def _standardized(grays: np.ndarray) -> np.ndarray:
    """Rows of mean 0 and length 1, of which the product is the correlation."""
    values = grays.astype(np.float32)
    values -= values.mean(1, keepdims=True)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values


def _equal_groups(keys: Sequence[Hashable]) -> list[list[int]]:
    """Positions of equal keys, in the order of the first position of each."""
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    for position, key in enumerate(keys):
        groups[key].append(position)
    return list(groups.values())
