"""Filling a space from rows that are stored in other spaces: nothing is decoded, and no net is needed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from feature_cache.cache import FeatureCache
from feature_cache.keys import DIGEST_BYTES
from feature_cache.maintenance.shrink import complete as encode_rows
from feature_cache.spec import FeatureSpec
from transfer.data.dataset import IdentifiedDataset
from transfer.extraction.lookup import keys_of
from transfer.request import FeatureRequest

ROWS = 256  # rows that are copied at a time


def fill_from_stored(
    dataset: IdentifiedDataset, request: FeatureRequest, cache: FeatureCache, *, compress: bool = False
) -> None:
    """Add the rows of `dataset` that can be taken from other spaces to the spaces of `request`.

    Rows of fewer bits are encoded from the full rows. The plain view of augmented images is copied from the space of
    images without augmentation.

    Parameters
    ----------
    compress : bool
        Whether new segments are compressed.
    """
    filled = [spec for spec in request.specs if spec != spec.as_computed or spec.augmentation is not None]
    images = dataset.digests[dataset.first_of_each] if filled else np.empty((0, DIGEST_BYTES), np.uint8)
    for spec in filled:
        if spec != spec.as_computed:
            encode_rows(cache, spec, *keys_of(images, request.views), compress=compress)
        else:
            _copy_plain_view(cache, spec, images, compress)


def _copy_plain_view(cache: FeatureCache, spec: FeatureSpec, images: np.ndarray, compress: bool) -> None:
    """Add view 0, the plain image, to the space of augmented views from that of plain images."""
    target, plain = cache[spec], cache[replace(spec, augmentation=None)]
    lacking = images[~target.has(images) & plain.has(images)]
    segment = plain.any_segment()
    if len(lacking) and segment:
        with target.writer({"net": segment.provenance.get("net")}, compress=compress) as writer:
            for rows, positions in plain.rows(lacking).batches(ROWS):
                writer.append(lacking[positions], rows)
