"""Looking up: what the cache holds of a data set, and what it lacks. Nothing is computed, and Keras is not needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage, MissingFeatures
from feature_cache.features import Features
from feature_cache.keys import DigestMemo, row_keys
from feature_cache.maintenance.shrink import base_spec
from feature_cache.maintenance.shrink import complete as fill
from feature_cache.space import Space
from feature_cache.spec import FeatureSpec
from transfer.data.datasets import Dataset, Unreadable, digests
from transfer.data.groups import copy_groups, merge_groups, page_groups
from transfer.data.images import pixels_for
from transfer.extraction.request import FeatureRequest

# How the command line leaves unreadable images out; others who extract have their own ways.
REMEDY = "leave such images out with --on-error skip"


@dataclass(frozen=True)
class Missing:
    """What a data set lacks in the cache.

    Attributes
    ----------
    digests : ndarray of shape (n, 16), uint8
        Of every image; zeros for the unreadable.
    jobs : ndarray of int64
        ``position * views + view``, for one image of each distinct content and each of its views that some space lacks.
    rows : list of int
        Rows to compute, for each space.
    unreadable : list of Unreadable
    views : int
        Of each image.
    """

    digests: np.ndarray
    jobs: np.ndarray
    rows: list[int]
    spaces: list[Space]
    unreadable: list[Unreadable]
    views: int = 1

    def keys(self, jobs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Digests and views of some jobs: shapes (n, 16), uint8, and (n,), uint32."""
        return self.digests[jobs // self.views], (jobs % self.views).astype(np.uint32)


@dataclass(frozen=True)
class FeatureSet:
    """Features that are in the cache, with the images that they belong to.

    Attributes
    ----------
    dataset : Dataset
        Without the skipped images.
    digests : ndarray of shape (n, 16), uint8
        Of the images.
    features : dict of str to Features
        By layer; rows in the order of `dataset`, all views of an image one after another.
    specs : tuple of FeatureSpec
        Of the features: they say which pixels the nets are given.
    memo : DigestMemo
    skipped : list of Unreadable
    """

    dataset: Dataset
    digests: np.ndarray
    features: dict[str, Features]
    specs: tuple[FeatureSpec, ...]
    memo: DigestMemo
    skipped: list[Unreadable]

    @cached_property
    def groups(self) -> np.ndarray:
        """Numbers of shape (n,), int64, equal for copies of an image, and the pages of a file (`data.groups`)."""
        copies = copy_groups(self.dataset, self.digests, self.specs, self.memo)
        return merge_groups(copies, page_groups(self.dataset))


def find_missing(
    dataset: Dataset,
    request: FeatureRequest,
    cache: FeatureCache,
    *,
    complete: bool = False,
    compress: bool = False,
    plan: bool = False,
) -> Missing:
    """Compare the images of `dataset` with what `cache` holds; no image is decoded.

    Parameters
    ----------
    complete, compress : bool
        First fill spaces of fewer bits from the full rows that there are, compressed or not.
    plan : bool
        Count rows that could be filled so as there, and fill nothing.
    """
    keys, unreadable = digests(dataset, cache.memo)
    spaces = [cache[spec] for spec in request.specs]
    first, count = _first_of_each(dataset, keys, unreadable), request.views
    jobs = (first[:, None] * count + np.arange(count)).reshape(-1)
    missing = Missing(keys, jobs, [], spaces, unreadable, count)
    wanted = missing.keys(jobs)
    if complete:
        for spec in request.specs:
            if spec != base_spec(spec):
                fill(cache, spec, *wanted, compress=compress)
            elif spec.augmentation is not None:
                _take_plain(cache, spec, keys[first], compress)
        spaces = [space.again() for space in spaces]
    present = np.array([space.has(*wanted) for space in spaces]).reshape(len(spaces), len(jobs))
    if plan:
        present |= np.array([cache[base_spec(space.spec)].has(*wanted) for space in spaces]).reshape(present.shape)
    return replace(missing, jobs=jobs[~present.all(0)], rows=(~present).sum(1).tolist(), spaces=spaces)


def _take_plain(cache: FeatureCache, spec: FeatureSpec, digests: np.ndarray, compress: bool) -> None:
    """Add view 0, the plain image, to the space of augmented views from that of plain images."""
    target, plain = cache[spec], cache[replace(spec, augmentation=None)]
    wanted = digests[~target.has(digests) & plain.has(digests)]
    source = plain.any_segment()
    if len(wanted) and source:
        with target.writer({"net": source.provenance.get("net")}, compress=compress) as writer:
            for rows, positions in plain.rows(wanted).batches(256):
                writer.append(wanted[positions], rows)


def stored_features(
    dataset: Dataset, request: FeatureRequest, cache: FeatureCache, *, on_error: str = "fail"
) -> FeatureSet:
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
    return _in_spaces(dataset, [cache[spec] for spec in request.specs], cache, on_error, request.views)


def rows_of(dataset: Dataset, space: Space, cache: FeatureCache) -> FeatureSet:
    """The features of `dataset` in a space of `cache`, whichever net they come from; unreadable images are left out.

    Raises
    ------
    MissingFeatures
        When some readable image has no row.
    """
    return _in_spaces(dataset, [space], cache, "skip", 1)


def _in_spaces(dataset: Dataset, spaces: list[Space], cache: FeatureCache, on_error: str, count: int) -> FeatureSet:
    keys, unreadable = digests(dataset, cache.memo)
    first = _first_of_each(dataset, keys, unreadable)

    def all_views(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.repeat(images, count, axis=0), np.tile(np.arange(count, dtype=np.uint32), len(images))

    lacking = np.array([~space.has(*all_views(keys[first])) for space in spaces])
    lacking = lacking.reshape(len(spaces), len(first), count).sum(2)
    undecodable: dict[int, BadImage] = {}
    for position in first[lacking.any(0)].tolist():
        # A file whose header reads but whose pixels do not was left out by an extraction, too.
        try:
            _decode(dataset, position, spaces[0].spec)
        except BadImage as error:
            undecodable[position] = error.alone()
            continue
        raise MissingFeatures(
            f"{lacking.sum()} of {len(dataset) * len(spaces) * count} rows are not in the cache {cache.root}."
        )
    skipped = unreadable + with_copies(dataset, keys, undecodable)
    if skipped and on_error == "fail":
        raise refusal(skipped)
    unread = {problem.id for problem in skipped}
    kept = np.array([name not in unread for name in dataset.ids], bool)
    features = {space.spec.layer: space.rows(*all_views(keys[kept])) for space in spaces}
    specs = tuple(space.spec for space in spaces)
    return FeatureSet(dataset.select(kept), keys[kept], features, specs, cache.memo, skipped)


def _first_of_each(dataset: Dataset, digests: np.ndarray, unreadable: list[Unreadable]) -> np.ndarray:
    """The position of the first image of each content, in order; the unreadable left out."""
    unread = {problem.id for problem in unreadable}
    packed = row_keys(digests, np.zeros(len(digests), np.uint32))
    distinct: dict[bytes, int] = {}
    for position, (key, name) in enumerate(zip(packed, dataset.ids, strict=True)):
        if name not in unread:
            distinct.setdefault(key, position)
    return np.array(list(distinct.values()), dtype=np.int64)


def _decode(dataset: Dataset, position: int, spec: FeatureSpec) -> None:
    """Raise BadImage when the image cannot be decoded."""
    source = dataset.sources[position]
    _, picture = source.load()
    pixels_for(picture, spec, str(source))


def with_copies(dataset: Dataset, digests: np.ndarray, undecodable: dict[int, BadImage]) -> list[Unreadable]:
    """Every image of `dataset` with the content of one that could not be decoded.

    Parameters
    ----------
    digests : ndarray of shape (n, 16), uint8
    undecodable : dict of int to BadImage
        Why, by position.
    """
    if not undecodable:
        return []
    keys = row_keys(digests, np.zeros(len(digests), np.uint32))
    errors = {keys[position]: error for position, error in undecodable.items()}
    found = [(name, errors[key]) for name, key in zip(dataset.ids, keys, strict=True) if key in errors]
    return [Unreadable(name, error.reason, str(error)) for name, error in found]


def refusal(unreadable: list[Unreadable]) -> BadImage:
    first = unreadable[0].message
    others = sum(problem.message != first for problem in unreadable)  # files that a table lacks have one for them all
    more = f" ({others} more like it so far)" if others else ""
    return BadImage(f"{first.rstrip('.')}{more}. What was computed is kept. Mend this, or {REMEDY}.")
