"""Shards: the parts of a data set that several machines compute, each of them by itself."""

from __future__ import annotations

import numpy as np

from feature_cache.errors import InvalidChoice
from feature_cache.files.digest_memo import DigestMemo
from feature_cache.keys import DIGEST_BYTES, digest_bytes
from transfer.data.image_collection import ImageCollection, digests

# The most images of one size in bytes that a shard takes together, as a share of what it computes in all.
TOGETHER = 1 / 8
MOST_SHARDS = 1_000_000


def require_shard(shard: tuple[int, int]) -> None:
    """Raise InvalidChoice where `shard`, a number and a count, names no part.

    Examples
    --------
    >>> require_shard((7, 8))
    """
    pair = tuple(shard) if isinstance(shard, tuple | list) and len(shard) == 2 else ()
    if not pair or not all(isinstance(one, int | np.integer) and not isinstance(one, bool) for one in pair):
        raise InvalidChoice(f"`shard` is the number of a part and how many there are: (0, 8); received {shard!r:.80}.")
    number, count = shard
    if not 1 <= count <= MOST_SHARDS:
        raise InvalidChoice(
            f"`shard` divides the images into {count} parts; there are 1 to {MOST_SHARDS:,}, and the first is 0."
        )
    if not 0 <= number < count:
        raise InvalidChoice(
            f"there is no part {number} of {count}: parts are counted from 0, as by Slurm and Kubernetes, and the last "
            f"`shard` is {count - 1}/{count}."
        )


def shard_numbers(dataset: ImageCollection, count: int, memo: DigestMemo) -> np.ndarray:
    """The part that each image belongs to, which depends on the images alone: not on their order, nor on the cache.

    Copies, files of the same bytes, are in one part, and parts have about as many different images. That needs hardly
    any file to be read: copies are of one size, and all files of a size belong to one part, unless they are so many
    that the parts would be unequal. Those are read, and are divided by their content.

    Parameters
    ----------
    dataset : ImageCollection
    count : int
        The number of parts.
    memo : DigestMemo
        The memo that knows the digests of files, and is given those of the files that are read.

    Returns
    -------
    ndarray of shape (n,), int64
        From 0 to ``count - 1``.
    """
    keys, weights = _keys(dataset, count, memo)
    _, first, group = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    weight = weights[first]
    middle = 2 * np.cumsum(weight) - weight  # twice the middle of each group, in the order of keys, which is random
    return np.asarray((middle * count // max(1, 2 * weight.sum()))[group.reshape(-1)], np.int64)


def _keys(dataset: ImageCollection, count: int, memo: DigestMemo) -> tuple[np.ndarray, np.ndarray]:
    """A key for each image, (n, 16), equal for all that belong together, and how much there is to compute for a key."""
    stamps = (source.stamp() for source in dataset.sources)
    sizes = np.fromiter((0 if stamp is None else stamp[1] for stamp in stamps), np.int64, len(dataset))
    distinct, group, images = np.unique(sizes, return_inverse=True, return_counts=True)
    of_size = np.frombuffer(b"".join(digest_bytes(f"{size} bytes".encode()) for size in distinct), np.uint8)
    keys, weights = of_size.reshape(-1, DIGEST_BYTES)[group], images[group]
    # Arrays, missing files and rows of tables have no size.
    read = np.flatnonzero((sizes == 0) | (images[group] > max(1.0, TOGETHER * len(dataset) / count)))
    if len(read):
        part = dataset.select(read)
        keys[read], unreadable = digests(part, memo)
        weights[read] = 1  # copies are computed once
        names = {problem.id for problem in unreadable}
        for position, name in zip(read.tolist(), part.ids, strict=True) if names else ():
            if name in names:
                keys[position] = np.frombuffer(digest_bytes(name.encode("utf-8", "surrogateescape")), np.uint8)
    return keys, weights
