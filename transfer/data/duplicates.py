"""Images that are copies of one another: exact ones, and those that differ by little.

Near-duplicates are looked for by a difference hash, dHash (N. Krawetz, "Kind of Like That", The Hacker Factor Blog,
2013, https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html): whether each of 8 x 8 places is
lighter than the one to its left and, here, than the one above it, 128 bits in all. Even areas and similar shapes have
similar hashes, so that these only propose pairs: what decides is the correlation of the gray pixels, shrunk to 32 x 32.
Copies that were compressed, resized, lightened or marked are above `ALIKE`; parts of an image, and mirrored or turned
ones, are not found. Images without contrast have nothing to correlate, and only their exact copies count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from feature_cache.keys import digest_pixels
from transfer.data.images import to_pixels
from transfer.hardware import cores

if TYPE_CHECKING:
    from transfer.data.survey import Survey

HASH_SIDE = 8
HASH_BITS = 2 * HASH_SIDE**2
GRAY_SIDE = 32
MOST_BITS = 24  # that the hashes of near-duplicates differ in, of 128
ALIKE = 0.99  # least correlation, which 8 of the 1.6 million pairs of scikit-learn's digits (8 x 8 pixels) have
LEAST_CONTRAST = 2.0  # standard deviation, of 255
MOST_PAIRS = 10_000  # that are kept, the most alike
_ROWS, _COLUMNS = 512, 4096  # of a block of pairs


@dataclass(frozen=True)
class Copies:
    """Copies among the images of a data set, or of two, the second one's positions following the first one's.

    Attributes
    ----------
    exact : list of list of int
        Groups of images with the same bytes, or the same shape and the same pixels.
    near : list of (int, int, float)
        Pairs of other images that are alike, in the order of their positions, and their correlation; the most alike
        first. Of exact copies the first one stands for all.
    near_total : int
        How many pairs there are: no more than `MOST_PAIRS` are in `near`.
    """

    exact: list[list[int]]
    near: list[tuple[int, int, float]]
    near_total: int


def difference_hash(gray: Image.Image) -> np.ndarray:
    """The hash of an image of mode L: shape (128,), bool."""
    side = HASH_SIDE
    across = np.asarray(gray.resize((side + 1, side), Image.Resampling.BILINEAR))
    down = np.asarray(gray.resize((side, side + 1), Image.Resampling.BILINEAR))
    return np.concatenate([(across[:, 1:] > across[:, :-1]).ravel(), (down[1:] > down[:-1]).ravel()])


def find_copies(first: Survey, second: Survey | None = None) -> Copies:
    """Copies among the images of `first`, and between these and those of `second`; in `second` alone, exact ones.

    A JPEG that is decoded at a part of its size and its copy in another format are near, not exact ones.
    """
    surveys = [first, second] if second else [first]
    looks = [look for one in surveys for look in one.records]
    grays = np.concatenate([one.grays for one in surveys]).reshape(-1, GRAY_SIDE**2)
    hashes = np.concatenate([one.hashes for one in surveys])
    sources = [source for one in surveys for source in one.dataset.sources]
    by_bytes = _groups([look.digest for look in looks])
    # Images with the same pixels have the same small ones; those that have are decoded again, and compared in full.
    suspects = [
        group for group in _groups([(looks[one[0]].shape, grays[one[0]].tobytes()) for one in by_bytes]) if group[1:]
    ]

    def pixels(number: int) -> bytes:
        position = by_bytes[number][0]
        picture = sources[position].load()[1]
        return digest_pixels(to_pixels(picture, looks[position].shape, decoding=first.decoding))

    keys: list[Hashable] = list(range(len(by_bytes)))
    numbers = [number for group in suspects for number in group]
    with ThreadPoolExecutor(len(cores())) as pool:
        for number, digest in zip(numbers, pool.map(pixels, numbers), strict=True):
            keys[number] = digest
    groups = [sorted(position for number in group for position in by_bytes[number]) for group in _groups(keys)]
    heads = np.array([group[0] for group in groups], np.int64)  # in order
    near, total = near_pairs(hashes[heads], grays[heads], int((heads < len(first.records)).sum()))
    pairs = [(int(heads[left]), int(heads[right]), alike) for left, right, alike in near]
    return Copies([group for group in groups if group[1:]], pairs, total)


def near_pairs(hashes: np.ndarray, grays: np.ndarray, rows: int) -> tuple[list[tuple[int, int, float]], int]:
    """Pairs of images of which one is among the first `rows`, that are alike.

    All pairs are compared, in blocks, by products of matrices: 10,000 images take a second or a few.

    Parameters
    ----------
    hashes : ndarray of shape (n, 128), bool
    grays : ndarray of shape (n, 1024), uint8

    Returns
    -------
    pairs : list of (int, int, float)
        The most alike first; at most `MOST_PAIRS`.
    total : int
    """
    kept = np.empty(0, [("left", np.int64), ("right", np.int64), ("alike", np.float32)])
    total = 0
    for left, right, alike in _alike(hashes, grays, rows):
        total += len(left)
        found = np.empty(len(left), kept.dtype)
        found["left"], found["right"], found["alike"] = left, right, alike
        kept = np.concatenate([kept, found])
        if len(kept) > MOST_PAIRS:
            kept = kept[np.argpartition(-kept["alike"], MOST_PAIRS)[:MOST_PAIRS]]
    kept = kept[np.lexsort((kept["right"], kept["left"], -kept["alike"]))]
    return [(int(left), int(right), min(1.0, float(alike))) for left, right, alike in kept], total


def link_near_duplicates(hashes: np.ndarray, grays: np.ndarray) -> tuple[np.ndarray, int]:
    """Groups of images that pairs of near-duplicates lead to, one pair to the next; for parameters see `near_pairs`.

    All pairs count, however many there are.

    Returns
    -------
    groups : ndarray of shape (n,), int
        Numbers, equal for images of a group.
    total : int
        How many pairs there are.
    """
    groups, total = np.arange(len(hashes)), 0
    for left, right, _ in _alike(hashes, grays, len(hashes)):
        links = coo_array((np.ones(len(left), bool), (groups[left], groups[right])), (len(hashes), len(hashes)))
        groups = connected_components(links, directed=False)[1][groups]
        total += len(left)
    return groups, total


def _alike(hashes: np.ndarray, grays: np.ndarray, rows: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The pairs of `near_pairs`, some at a time: positions of both, and their correlation."""
    lively = np.flatnonzero([gray.std() >= LEAST_CONTRAST for gray in grays])
    rows = int((lively < rows).sum())
    signs = np.where(hashes[lively], np.float32(1), np.float32(-1))  # products: the bits less twice those that differ
    for top in range(0, rows, _ROWS):
        bottom = min(top + _ROWS, rows)
        for start in range(top, len(signs), _COLUMNS):
            close = signs[top:bottom] @ signs[start : start + _COLUMNS].T >= HASH_BITS - 2 * MOST_BITS
            if start < bottom:  # each pair once
                close &= np.arange(top, bottom)[:, None] < np.arange(start, start + close.shape[1])
            left, right = np.flatnonzero(close.any(axis=1)), np.flatnonzero(close.any(axis=0))
            if not len(left):
                continue
            alike = _standardised(grays[lively[top + left]]) @ _standardised(grays[lively[start + right]]).T
            one, other = np.nonzero((alike >= ALIKE) & close[np.ix_(left, right)])
            if len(one):
                yield lively[top + left[one]], lively[start + right[other]], alike[one, other]


def _standardised(grays: np.ndarray) -> np.ndarray:
    """Rows of mean 0 and length 1, of which the product is the correlation."""
    values = grays.astype(np.float32)
    values -= values.mean(1, keepdims=True)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values


def _groups(keys: Sequence[Hashable]) -> list[list[int]]:
    """Positions of equal keys, in the order of the first of each."""
    found: defaultdict[Hashable, list[int]] = defaultdict(list)
    for position, key in enumerate(keys):
        found[key].append(position)
    return list(found.values())
