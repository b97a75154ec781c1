"""Groups: images that a net cannot tell apart, whatever files they are in, so that no split may part them.

The bytes of a file say too little: the same pixels are in a PNG written anew, in a BMP beside it, or in a JPEG with
other metadata. What counts is the digest of the pixels that a net is given. It is taken where images are decoded
anyway and kept in the memo of the cache; what is missing there is decoded again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from feature_cache.errors import BadImage
from feature_cache.keys import DIGEST_BYTES, DigestMemo, digest_bytes, digest_pixels
from feature_cache.spec import FeatureSpec
from transfer.data.datasets import Dataset
from transfer.data.images import FileSource, ImageSource, decoding_of, pixels_for
from transfer.hardware import cores

CHUNK = 512  # images that are decoded at a time
WRITTEN = 4096  # digests that are written at a time


class PixelDigests:
    """Digests of pixels that the memo is to keep: taken in the threads that decode, and written many at a time.

    Parameters
    ----------
    spec : FeatureSpec
        Of features of these pixels.
    """

    def __init__(self, memo: DigestMemo, spec: FeatureSpec) -> None:
        self._memo = memo
        self._pixel_key = spec.pixel_key
        self._fresh: deque[tuple[bytes, bytes]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether there are enough of them for `save` to be worth its while."""
        return len(self._fresh) >= WRITTEN

    def add(self, digest: bytes, pixels: np.ndarray) -> bytes:
        """Take, and return, the digest of the pixels of the image whose content has this `digest`."""
        digest_of_pixels = digest_pixels(pixels)
        self._fresh.append((digest, digest_of_pixels))
        return digest_of_pixels

    def save(self) -> None:
        """Have the memo keep those taken so far; other threads may add more meanwhile."""
        self._memo.remember_pixels(self._pixel_key, dict(self._fresh.popleft() for _ in range(len(self._fresh))))


def copy_groups(
    dataset: Dataset,
    digests: np.ndarray,
    specs: Iterable[FeatureSpec],
    memo: DigestMemo,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Numbers that are equal for images of the same bytes, or of the same pixels for one of `specs`.

    Pixels are those that the net is given: decoded, upright and resized. A gray image equals the same one in RGB. A
    JPEG that is decoded at a part of its size differs a little from its copy in another format, which is no copy then.

    Parameters
    ----------
    digests : ndarray of shape (n, 16), uint8
        Of the contents of the images.
    memo : DigestMemo
        Pixels whose digests it lacks are decoded, and remembered there.
    progress : callable, optional
        Called with the number of images decoded, and of all that have to be.

    Returns
    -------
    ndarray of shape (n,), int64

    Raises
    ------
    BadImage
        When a file is no longer the one that `digests` were taken of.
    """
    groups = _numbers(digests)
    for spec in {spec.pixel_key: spec for spec in specs}.values():
        groups = merge_groups(groups, _numbers(pixel_digests(dataset, digests, spec, memo, progress)))
    return groups


def pixel_digests(
    dataset: Dataset,
    digests: np.ndarray,
    spec: FeatureSpec,
    memo: DigestMemo,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """The digest of the pixels of each image, as `spec` has them; for parameters see `copy_groups`.

    Returns
    -------
    ndarray of shape (n, 16), uint8
        The digest of its content for an image that cannot be decoded.
    """
    contents = [digest.tobytes() for digest in digests]
    known = memo.recall_pixels(spec.pixel_key, dict.fromkeys(contents))
    lacking = {content: position for position, content in enumerate(contents) if content not in known}
    fresh = PixelDigests(memo, spec)

    def decode(position: int) -> bytes:
        try:
            digest, pixels = _pixels(dataset.sources[position], spec)
        except BadImage:  # the cache may have rows of it from a time when it could be read
            return contents[position]
        if digest != contents[position]:
            source = dataset.sources[position]
            raise BadImage(f"{source} has changed since it was first read; run the command again.")
        return fresh.add(digest, pixels)

    positions = list(lacking.values())
    try:
        with ThreadPoolExecutor(len(cores()), thread_name_prefix="layertap-decode") as pool:
            for start in range(0, len(positions), CHUNK):
                chunk = positions[start : start + CHUNK]
                for done, (position, digest) in enumerate(zip(chunk, pool.map(decode, chunk), strict=True), start + 1):
                    known[contents[position]] = digest
                    if progress:
                        progress(done, len(positions))
                if fresh.is_full:
                    fresh.save()
    finally:
        fresh.save()
    return np.frombuffer(b"".join(known[content] for content in contents), np.uint8).reshape(-1, DIGEST_BYTES)


def identity_digests(
    dataset: Dataset,
    digests: np.ndarray,
    specs: Iterable[FeatureSpec],
    memo: DigestMemo,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """What each image is known again by, in this file or in another; for parameters see `copy_groups`.

    Returns
    -------
    ndarray of shape (n, 1 + k, 16), uint8
        The digest of its content and, for each of the `k` different ways to make pixels, a digest of these and the way.
    """
    known = [digests]
    for spec in {spec.pixel_key: spec for spec in specs}.values():
        pixels = pixel_digests(dataset, digests, spec, memo, progress)
        keyed = b"".join(digest_bytes(spec.pixel_key.encode() + digest.tobytes()) for digest in pixels)
        known.append(np.frombuffer(keyed, np.uint8).reshape(-1, DIGEST_BYTES))
    return np.stack(known, axis=1)


def merge_groups(groups: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Numbers that are equal where `groups` or `others` are, and for all that these lead to, in the order of `groups`.

    Parameters
    ----------
    groups, others : ndarray of shape (n,), int
        From 0 on.

    Returns
    -------
    ndarray of shape (n,), int64
    """
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
    return _numbers(first[joined])


@dataclass(frozen=True)
class NearGroups:
    """Groups of copies and of near-duplicates (see `transfer.data.duplicates`).

    Attributes
    ----------
    groups : ndarray of shape (n,), int64
        Equal for images of a group.
    pairs : int
        Of near-duplicates; of copies one stands for all.
    images, count, largest : int
        In the groups that such pairs lead to: the images in them, how many groups there are, and the images in the
        largest one.
    """

    groups: np.ndarray
    pairs: int
    images: int
    count: int
    largest: int


def near_groups(
    dataset: Dataset, copies: np.ndarray, spec: FeatureSpec, progress: Callable[[int, int], None] | None = None
) -> NearGroups:
    """Put near-duplicates into one group, and what is a near-duplicate of these, and so on.

    Parameters
    ----------
    copies : ndarray of shape (n,), int
        Equal for copies of an image (see `copy_groups`).
    spec : FeatureSpec
        How stored values become pixels: transparency, pages and window.
    progress : callable, optional
        Called with the number of images looked at, and of all; each is decoded once.
    """
    from transfer.data.duplicates import GRAY_SIDE, link_near_duplicates
    from transfer.data.survey import survey

    _, first, number = np.unique(copies, return_index=True, return_inverse=True)
    looked = survey(dataset.select(first), decoding=decoding_of(spec), progress=progress)
    near, pairs = link_near_duplicates(looked.hashes, looked.grays.reshape(-1, GRAY_SIDE**2))
    readable = set(looked.dataset.ids)
    labels = len(first) + np.arange(len(first))  # what cannot be read any more stays in a group of its own
    labels[[dataset.ids[position] in readable for position in first]] = near
    groups = merge_groups(number, _numbers(labels)[number])
    sizes = np.bincount(groups)
    grown = np.bincount(groups[first]) > 1
    return NearGroups(groups, pairs, int(sizes[grown].sum()), int(grown.sum()), int(sizes[grown].max(initial=0)))


def page_groups(dataset: Dataset) -> np.ndarray:
    """Numbers of shape (n,), int64, from 0 on, that are equal for the pages of one file.

    Slices of one volume, or frames of one film, are alike, though no two of them are equal.
    """
    numbers: dict[object, int] = {}
    keys = (
        source.path if isinstance(source, FileSource) and source.page is not None else position
        for position, source in enumerate(dataset.sources)
    )
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def count_label_conflicts(groups: np.ndarray, labels: np.ndarray) -> int:
    """How many images have another label than some image of their group.

    Parameters
    ----------
    groups, labels : ndarray of shape (n,)
    """
    pairs = np.unique(np.stack([_numbers(groups), _numbers(labels)]), axis=1)
    of_several = np.flatnonzero(np.bincount(pairs[0]) > 1)
    return int(np.isin(_numbers(groups), of_several).sum())


def _numbers(keys: np.ndarray) -> np.ndarray:
    """The rank of each of `keys` among the different ones: shape (n,), int64."""
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)


def _pixels(source: ImageSource, spec: FeatureSpec) -> tuple[bytes, np.ndarray]:
    """The digest of an image's content, and its pixels as the net is given them."""
    digest, picture = source.load()
    return digest, pixels_for(picture, spec, str(source))
