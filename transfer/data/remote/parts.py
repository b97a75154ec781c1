"""`identified_parts`: a data set elsewhere in parts, each of which is fetched once.

Features are looked up by the content of an image, and so all images would be fetched to see which are known, and those
that are not a second time for their pixels. A part is small enough to be kept until it has been computed, while the
next one is identified.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.process.read_ahead import map_ahead
from transfer.data.containers.container import MemberSource
from transfer.data.dataset import Dataset, IdentifiedDataset
from transfer.data.image_collection import ImageCollection
from transfer.data.images.sources import ImageSource
from transfer.data.remote.pieces import KEPT_BYTES

FIRST_IMAGES, MOST_IMAGES = 256, 4096
MOST_BYTES = KEPT_BYTES // 4  # two parts are kept at a time, with what is read ahead


def has_parts(dataset: Dataset) -> bool:
    """Whether a data set is elsewhere, and its images are recognised without fetching them again."""
    if isinstance(dataset, IdentifiedDataset) or len(dataset) <= FIRST_IMAGES:
        return False
    ends = dataset.sources[0], dataset.sources[len(dataset) - 1]
    return all(_is_elsewhere(source) and source.stamp() for source in ends)


def is_elsewhere(images: ImageCollection) -> bool:
    """Whether images have to be fetched, as the first one tells."""
    return len(images) > 0 and _is_elsewhere(images.sources[0])


def _is_elsewhere(source: ImageSource) -> bool:
    return isinstance(source, MemberSource) and bool(source.announce())


def identified_parts(dataset: Dataset, cache: FeatureCache) -> Iterator[IdentifiedDataset]:
    """The parts of a data set in order, each identified while the caller works on the one before."""
    return map_ahead(lambda part: dataset.select(part).identify(cache), _divided(dataset), depth=1)


def _divided(dataset: Dataset) -> Iterator[np.ndarray]:
    """The positions of the images of each part: few in the first, so that computing begins soon, then ever more."""
    start, most, images, size = 0, FIRST_IMAGES, len(dataset), 0
    for position in range(images):
        source = dataset.sources[position]
        size += source.container.size(source.position) if isinstance(source, MemberSource) else 0
        if position + 1 - start >= most or size >= MOST_BYTES or position + 1 == images:
            yield np.arange(start, position + 1)
            start, size, most = position + 1, 0, min(2 * most, MOST_IMAGES)
