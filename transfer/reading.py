"""Reading: images decoded in threads, a bounded number ahead, and assembled into batches."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from feature_cache.errors import BadImage
from transfer.datasets import DataSet
from transfer.images import to_pixels
from transfer.request import Request


@dataclass(frozen=True)
class Batch:
    """Images of one channel count, ready for the net.

    Attributes
    ----------
    digests : ndarray of shape (n, 16), uint8
    pixels : ndarray of shape (n, height, width, channels), uint8
    """

    digests: np.ndarray
    pixels: np.ndarray


def read_batches(
    dataset: DataSet,
    positions: Iterable[int],
    request: Request,
    batch_size: int,
    undecodable: dict[int, str],
    threads: int | None = None,
) -> Iterator[Batch]:
    """Decode images in threads, a bounded number ahead, and assemble batches of one channel count.

    Why an image could not be decoded is noted in `undecodable`, by its position.
    """
    size = request.specs[0].size

    def decode(position: int) -> tuple[bytes, np.ndarray]:
        source = dataset.sources[position]
        digest, image = source.load()
        return digest, to_pixels(image, size, request.fit, request.interpolation, str(source))

    waiting: dict[int, list[tuple[bytes, np.ndarray]]] = {}
    ahead: deque[tuple[int, Future]] = deque()
    upcoming = iter(positions)
    pool = ThreadPoolExecutor(threads or os.cpu_count() or 1)
    try:
        while True:
            while len(ahead) < 2 * batch_size and (position := next(upcoming, None)) is not None:
                ahead.append((position, pool.submit(decode, position)))
            if not ahead:
                break
            position, future = ahead.popleft()
            try:
                decoded = future.result()
            except BadImage as error:
                undecodable[position] = str(error)
                continue
            bucket = waiting.setdefault(decoded[1].shape[-1], [])
            bucket.append(decoded)
            if len(bucket) == batch_size:
                yield _assemble(bucket)
                bucket.clear()
    finally:
        pool.shutdown(cancel_futures=True)
    for bucket in waiting.values():
        if bucket:
            yield _assemble(bucket)


def default_batch_size(size: tuple[int, int]) -> int:
    """The power of two, 1 to 256, that gives a batch at most as many pixels as 32 images of 224 x 224."""
    room = 32 * 224 * 224 // (size[0] * size[1])
    return 2 ** max(0, min(8, room.bit_length() - 1))


def _assemble(decoded: list[tuple[bytes, np.ndarray]]) -> Batch:
    joined = b"".join(digest for digest, _ in decoded)
    return Batch(np.frombuffer(joined, np.uint8).reshape(len(decoded), -1), np.stack([pixels for _, pixels in decoded]))
