"""Digests of pixels, by which copies of an image are recognised whatever file they are in.

The bytes of a file do not tell all copies: a PNG that was saved again, a BMP of the same image and a JPEG with other
metadata hold the same pixels. The digests of the pixels that a net is given tell them. They are computed where images
are decoded anyway, and are stored in the memo of the cache; images whose digests the memo lacks are decoded again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from feature_cache.errors import BadImage
from feature_cache.files.digest_memo import DigestMemo
from feature_cache.keys import DIGEST_BYTES, digest_bytes, digest_pixels
from feature_cache.process.read_ahead import map_ahead
from feature_cache.spec import FeatureSpec
from transfer.data.image_collection import READY, ImageCollection
from transfer.data.images import ImageSource, pixels_for
from transfer.data.remote.announced import announced
from transfer.hardware import cores

CHUNK = 512  # images after which digests may be written down


WRITTEN_TOGETHER = 4096  # digests


class PixelDigests:
    """Digests of pixels on their way into the memo: computed in the threads that decode, written many at a time.

    Parameters
    ----------
    memo : DigestMemo
    spec : FeatureSpec
        The spec of the features that are computed from these pixels.
    """

    def __init__(self, memo: DigestMemo, spec: FeatureSpec) -> None:
        self._memo = memo
        self._pixel_key = spec.pixel_key
        self._fresh: deque[tuple[bytes, bytes]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether so many digests are waiting that `save` should be called."""
        return len(self._fresh) >= WRITTEN_TOGETHER

    def add(self, digest: bytes, pixels: np.ndarray) -> bytes:
        """The digest of `pixels`, which is also put on the way to the memo.

        Parameters
        ----------
        digest : bytes
            The digest of the image's content.
        pixels : ndarray of uint8
            The pixels that a net is given of it.
        """
        pixel_digest = digest_pixels(pixels)
        self._fresh.append((digest, pixel_digest))
        return pixel_digest

    def save(self) -> None:
        """Write the digests that are waiting into the memo; other threads may add more meanwhile."""
        self._memo.remember_pixels(self._pixel_key, dict(self._fresh.popleft() for _ in range(len(self._fresh))))


def pixel_digests(
    dataset: ImageCollection,
    digests: np.ndarray,
    spec: FeatureSpec,
    memo: DigestMemo,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """The digest of the pixels of each image, as `spec` has them; for parameters see `copy_groups`.

    Returns
    -------
    ndarray of shape (n, 16), uint8
        An image that cannot be decoded has the digest of its content.
    """
    contents = [digest.tobytes() for digest in digests]
    known = memo.recall_pixels(spec.pixel_key, dict.fromkeys(contents))
    missing = {content: position for position, content in enumerate(contents) if content not in known}
    fresh = PixelDigests(memo, spec)

    def decode(position: int) -> bytes:
        try:
            digest, pixels = _pixels(dataset.sources[position], spec)
        except BadImage:  # the cache may hold rows of it from a time when it could be read
            return contents[position]
        if digest != contents[position]:
            source = dataset.sources[position]
            raise BadImage(f"{source} has changed since it was first read; run the command again.")
        return fresh.add(digest, pixels)

    positions = list(missing.values())
    try:
        with ThreadPoolExecutor(len(cores()), thread_name_prefix="layertap-decode") as pool:
            for start in range(0, len(positions), CHUNK):
                chunk = positions[start : start + CHUNK]
                ahead = announced(dataset.sources, chunk)
                results = map_ahead(decode, ahead, depth=READY * len(cores()), pool=pool)
                for done, (position, digest) in enumerate(zip(chunk, results, strict=True), start + 1):
                    known[contents[position]] = digest
                    if progress:
                        progress(done, len(positions))
                if fresh.is_full:
                    fresh.save()
    finally:
        fresh.save()
    return np.frombuffer(b"".join(known[content] for content in contents), np.uint8).reshape(-1, DIGEST_BYTES)


def identity_digests(
    dataset: ImageCollection,
    digests: np.ndarray,
    specs: Iterable[FeatureSpec],
    memo: DigestMemo,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Digests by which copies of an image are recognised later, in any file; for parameters see `copy_groups`.

    Returns
    -------
    ndarray of shape (n, 1 + k, 16), uint8
        The digest of the image's content and, for each of the `k` different ways in which `specs` make pixels, the
        digest of these pixels together with the way.
    """
    columns = [digests]
    for key, spec in {spec.pixel_key.encode(): spec for spec in specs}.items():
        pixels = pixel_digests(dataset, digests, spec, memo, progress)
        keyed = b"".join(digest_bytes(key + digest.tobytes()) for digest in pixels)
        columns.append(np.frombuffer(keyed, np.uint8).reshape(-1, DIGEST_BYTES))
    return np.stack(columns, axis=1)


def _pixels(source: ImageSource, spec: FeatureSpec) -> tuple[bytes, np.ndarray]:
    """The digest of an image's content, and its pixels as the net is given them."""
    digest, picture = source.load()
    return digest, pixels_for(picture, spec, str(source))
