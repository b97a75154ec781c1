"""Looking up: what the cache holds of a data set, and what it lacks. Nothing is written or computed.

A stored row is that of an image where the space is of an equal `FeatureSpec`, and the digest of the image and the
number of its view are equal, too (`feature_cache.space.Space.has`). Only the memo of digests is brought up to date.
Keras is not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage, MissingFeatures
from feature_cache.process.memory import compact
from feature_cache.space import Space
from feature_cache.spec import FeatureSpec
from transfer.data.dataset import IdentifiedDataset
from transfer.data.datasets import Dataset, Unreadable
from transfer.data.images import pixels_for
from transfer.extraction.feature_set import FeatureSet
from transfer.quantisation.finding import found
from transfer.request import FeatureRequest

LOOKED_UP = 2**16  # images whose keys are looked up at a time

# What an error about an unreadable image advises to do; `FeatureExtractor` has another parameter for it.
REMEDY = "leave such images out with `on_error='skip'`"


@dataclass(frozen=True)
class Missing:
    """What a data set lacks in the cache.

    Attributes
    ----------
    digests : ndarray of shape (n, 16), uint8
        The digest of every image; zeros for the unreadable.
    jobs : ndarray of an unsigned type
        ``position * views + view``, for one image of each distinct content and each of its views that some space lacks.
    rows : list of int
        The number of rows to compute, for each space.
    spaces : list of Space
        The spaces of the request, as they were when they were looked at.
    unreadable : list of Unreadable
    views : int
        The number of views of each image.
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


def find_missing(
    dataset: Dataset, request: FeatureRequest, cache: FeatureCache, *, count_fillable: bool = False
) -> Missing:
    """Compare the images of `dataset` with what `cache` holds; no image is decoded.

    Parameters
    ----------
    count_fillable : bool
        Count rows of fewer bits as present where the full rows are, since they can be filled from those (see
        `transfer.extraction.fill`).
    """
    known = dataset.identify(cache)
    request = found(request, cache, known)
    spaces = [cache[spec] for spec in request.specs]
    full = [cache[space.spec.as_computed] for space in spaces] if count_fillable else spaces
    first, views = known.first_of_each, request.views
    lacking = np.empty((len(spaces), len(first) * views), bool)
    for start in range(0, len(first), LOOKED_UP):
        keys = keys_of(known.digests[first[start : start + LOOKED_UP]], views)
        for row, space, other in zip(lacking, spaces, full, strict=True):
            present = space.has(*keys) if other is space else space.has(*keys) | other.has(*keys)
            row[start * views : start * views + len(present)] = ~present
    places = np.flatnonzero(lacking.any(0))
    jobs = compact(first[places // views] * views + places % views)
    return Missing(known.digests, jobs, lacking.sum(1).tolist(), spaces, list(known.unreadable), views)


def stored_features(
    dataset: Dataset, request: FeatureRequest, cache: FeatureCache, *, on_error: str = "fail"
) -> FeatureSet:
    """The features of `dataset` as they are in `cache`.

    Parameters
    ----------
    on_error : {'fail', 'skip'}
        Whether an unreadable image is an error or is left out.

    Raises
    ------
    BadImage
        If an image is unreadable, unless such images are skipped.
    MissingFeatures
        If an image that can be read has no row.
    """
    known = dataset.identify(cache)
    request = found(request, cache, known)
    spaces = [cache[spec] for spec in request.specs]
    features = _read_spaces(known, spaces, cache, on_error, request.views)
    return replace(features, request=request)


def rows_of(dataset: Dataset, space: Space, cache: FeatureCache) -> FeatureSet:
    """The features of `dataset` in a space of `cache`, whichever net they come from; unreadable images are left out.

    Raises
    ------
    MissingFeatures
        If an image that can be read has no row.
    """
    return _read_spaces(dataset.identify(cache), [space], cache, "skip", 1)


def keys_of(images: np.ndarray, views: int) -> tuple[np.ndarray, np.ndarray]:
    """The keys of all views of some images, one image after another.

    Parameters
    ----------
    images : ndarray of shape (n, 16), uint8
        The digests of the images.

    Returns
    -------
    digests : ndarray of shape (n * views, 16), uint8
    views : ndarray of shape (n * views,), uint32
    """
    if views == 1:
        return images, np.zeros(len(images), np.uint32)
    return np.repeat(images, views, axis=0), np.tile(np.arange(views, dtype=np.uint32), len(images))


def _read_spaces(
    known: IdentifiedDataset, spaces: Sequence[Space], cache: FeatureCache, on_error: str, views: int
) -> FeatureSet:
    """The rows of the images in each space; images that cannot be decoded are skipped."""
    first = known.first_of_each
    lacking = np.array([~space.has(*keys_of(known.digests[first], views)) for space in spaces])
    lacking = lacking.reshape(len(spaces), len(first), views).sum(2)
    undecodable: dict[int, BadImage] = {}
    for position in first[lacking.any(0)].tolist():
        # An extraction leaves out a file whose header can be read and whose pixels cannot.
        try:
            _decode(known, position, spaces[0].spec)
        except BadImage as error:
            undecodable[position] = error.alone()
            continue
        raise MissingFeatures(
            f"{lacking.sum()} of {len(known) * len(spaces) * views} rows are not in the cache {cache}."
        )
    skipped = [*known.unreadable, *known.with_content_of(undecodable)]
    if skipped and on_error == "fail":
        raise refusal(skipped)
    skipped_ids = {problem.id for problem in skipped}
    readable = known.select(np.array([name not in skipped_ids for name in known.ids], bool)) if skipped else known
    features = {space.spec.layer: space.rows(*keys_of(readable.digests, views)) for space in spaces}
    return FeatureSet(readable, features, tuple(space.spec for space in spaces), cache, skipped)


def _decode(dataset: Dataset, position: int, spec: FeatureSpec) -> None:
    """Raise BadImage when the image cannot be decoded."""
    source = dataset.sources[position]
    _, picture = source.load()
    pixels_for(picture, spec, str(source))


def refusal(unreadable: Sequence[Unreadable]) -> BadImage:
    """The error for images that cannot be read: it names the first, and counts the others."""
    first = unreadable[0].message
    others = sum(problem.message != first for problem in unreadable)  # files that a table lacks have one for them all
    more = f" ({others} more like it so far)" if others else ""
    return BadImage(f"{first.rstrip('.')}{more}. What was computed is kept. Mend this, or {REMEDY}.")
