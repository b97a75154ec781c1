"""Looking up: what the cache holds of a data set, and what it lacks. Nothing is computed, and Keras is not needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feature_cache.errors import BadImage, MissingFeatures
from feature_cache.keys import row_keys
from feature_cache.reader import Features
from feature_cache.space import Cache, Space
from transfer.datasets import DataSet, Unreadable, digests
from transfer.reading import read_batches
from transfer.request import Request


@dataclass(frozen=True)
class Missing:
    """What a data set lacks in the cache.

    Attributes
    ----------
    digests : ndarray of shape (n, 16), uint8
        Of every image; zeros for the unreadable.
    positions : ndarray of int64
        One image for each distinct content that some space lacks.
    rows : int
        Rows to compute, over all spaces.
    unreadable : list of Unreadable
    """

    digests: np.ndarray
    positions: np.ndarray
    rows: int
    spaces: list[Space]
    unreadable: list[Unreadable]


@dataclass(frozen=True)
class Cached:
    """Features that are in the cache, with the images that they belong to.

    Attributes
    ----------
    dataset : DataSet
        Without the skipped images.
    features : dict of str to Features
        By layer; rows in the order of `dataset`.
    contents : ndarray of shape (n,), int64
        Equal for images of the same content.
    skipped : list of Unreadable
    """

    dataset: DataSet
    features: dict[str, Features]
    contents: np.ndarray
    skipped: list[Unreadable]


def find_missing(dataset: DataSet, request: Request, cache: Cache) -> Missing:
    """Compare the images of `dataset` with what `cache` holds; no image is decoded."""
    keys, unreadable = digests(dataset, cache.memo)
    unread = {problem.id for problem in unreadable}
    readable = np.array([name not in unread for name in dataset.ids], bool)
    spaces = [cache.space(spec) for spec in request.specs]

    packed = row_keys(keys, np.zeros(len(keys), np.uint32))
    distinct = {key: position for position, key in reversed(list(enumerate(packed))) if readable[position]}
    first = np.array(sorted(distinct.values()), dtype=np.int64)
    lacking = np.array([~space.has(keys[first]) for space in spaces]).reshape(len(spaces), len(first))
    return Missing(keys, first[lacking.any(0)], int(lacking.sum()), spaces, unreadable)


def cached_features(dataset: DataSet, request: Request, cache: Cache, *, on_error: str = "fail") -> Cached:
    """The features of `dataset` as they are in `cache`; nothing is computed, and Keras is not needed.

    Parameters
    ----------
    on_error : {'fail', 'skip'}
        What to do about an unreadable image.

    Raises
    ------
    BadImage
        For an unreadable image, unless they are skipped.
    MissingFeatures
        When some readable image has no row.
    """
    missing = find_missing(dataset, request, cache)
    undecodable: dict[int, str] = {}
    if len(missing.positions):
        # A file whose header reads but whose pixels do not was left out by an extraction, too.
        for _ in read_batches(dataset, missing.positions, request, 1, undecodable):
            raise MissingFeatures(
                f"{missing.rows} of {len(dataset) * len(missing.spaces)} rows are not in the cache {cache.root}."
            )
    skipped = missing.unreadable + with_copies(dataset, missing.digests, undecodable)
    if skipped and on_error == "fail":
        raise refusal(skipped)
    unread = {problem.id for problem in skipped}
    kept = np.array([name not in unread for name in dataset.ids], bool)
    digests_kept = missing.digests[kept]
    features = {space.spec.layer: space.features(digests_kept) for space in missing.spaces}
    _, contents = np.unique(digests_kept, axis=0, return_inverse=True)
    return Cached(dataset.select(kept), features, contents.reshape(-1), skipped)


def with_copies(dataset: DataSet, digests: np.ndarray, undecodable: dict[int, str]) -> list[Unreadable]:
    """Every image of `dataset` with the content of one that could not be decoded.

    Parameters
    ----------
    digests : ndarray of shape (n, 16), uint8
    undecodable : dict of int to str
        Reasons, by position.
    """
    if not undecodable:
        return []
    keys = row_keys(digests, np.zeros(len(digests), np.uint32))
    reasons = {keys[position]: reason for position, reason in undecodable.items()}
    return [Unreadable(name, reasons[key]) for name, key in zip(dataset.ids, keys, strict=True) if key in reasons]


def refusal(unreadable: list[Unreadable]) -> BadImage:
    more = f" ({len(unreadable) - 1} more like it so far)" if len(unreadable) > 1 else ""
    return BadImage(
        f"{unreadable[0].reason.rstrip('.')}{more}. What was computed is kept. Mend or remove the file, "
        "or leave such images out with --on-error skip."
    )
