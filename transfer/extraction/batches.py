"""Reading: images decoded in threads, a bounded number ahead, and assembled into batches in buffers used again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from feature_cache.errors import BadImage
from feature_cache.keys import DIGEST_BYTES
from feature_cache.process.read_ahead import map_ahead
from feature_cache.space import Space
from transfer.data.augment import Augmentation
from transfer.data.datasets import Dataset
from transfer.data.images import pixels_for
from transfer.data.remarks import Remarks
from transfer.extraction.lookup import Missing
from transfer.extraction.request import FeatureRequest
from transfer.hardware import cores

# Images that a thread decodes before it reports: handing over each of many small ones would cost more than decoding.
GROUP = 16
# Images that are decoded ahead at the start, while the engine is made; and their bytes.
FIRST_IMAGES = 128
FIRST_BYTES = 64 * 2**20

_Decoded = tuple[int, int, bytes, np.ndarray | BadImage]  # position, view, digest, and pixels or why there are none


@dataclass
class Batch:
    """Inputs of one shape, ready for the net.

    Attributes
    ----------
    digests : ndarray of shape (n, 16), uint8
    views : ndarray of shape (n,), uint32
    inputs : ndarray of shape (n, height, width, channels), uint8; or of rows of a layer, float32
        Until the batch is released: then the next one may come to lie there.
    """

    digests: np.ndarray
    views: np.ndarray
    inputs: np.ndarray
    release: Callable[[], None] = field(default=lambda: None)


def read_batches(
    dataset: Dataset,
    jobs: Iterable[int],
    request: FeatureRequest,
    batch_size: int,
    undecodable: dict[int, BadImage],
    *,
    remarks: Remarks | None = None,
    threads: int | None = None,
    stop: bool = False,
    on_pixels: Callable[[bytes, np.ndarray], object] | None = None,
) -> Iterator[Batch]:
    """Decode images in threads, a bounded number ahead, and assemble batches of one channel count.

    Parameters
    ----------
    jobs : iterable of int
        Images and views (see `transfer.extraction.lookup.Missing`); for a single view, positions in `dataset`.
    undecodable : dict
        Where it is noted why an image could not be decoded, by its position.
    remarks : Remarks, optional
        Where it is noted what decoding has guessed or left out.
    stop : bool
        Begin with no further images once there is one such; those that are under way still come.
    on_pixels : callable, optional
        Called once for each image, in the thread that decodes it, with the digest of its content and its pixels.
    """
    spec = request.specs[0]
    augment = Augmentation.from_key(request.augmentation) if request.augmentation is not None else None

    def load(position: int) -> tuple[bytes, np.ndarray]:
        source = dataset.sources[position]
        digest, picture = source.load()
        pixels = pixels_for(picture, spec, str(source))
        if remarks is not None:
            remarks.add(picture.remarks, dataset.ids[position])
        if on_pixels:
            on_pixels(digest, pixels)
        return digest, pixels

    def decode(group: list[int]) -> list[_Decoded]:
        decoded: list[_Decoded] = []
        last, digest, plain = -1, b"", np.empty(0)
        for job in group:
            position, view = divmod(int(job), request.views)
            try:
                if position != last:  # the views of an image come one after another
                    (digest, plain), last = load(position), position
                pixels = augment(plain, digest, view) if augment else plain
                decoded.append((position, view, digest, pixels))
            except BadImage as error:
                decoded.append((position, view, b"", error.alone()))
        return decoded

    threads = threads or len(cores())
    group_size = max(1, min(GROUP, batch_size // (2 * threads)))
    steady = max(2 * batch_size, 2 * threads)
    most = max(steady, min(FIRST_IMAGES, FIRST_BYTES // (3 * spec.size[0] * spec.size[1])))
    depth, first = -(-steady // group_size) - 1, -(-most // group_size) - 1

    def groups() -> Iterator[list[int]]:
        upcoming = iter(jobs)
        while not (stop and undecodable) and (group := list(islice(upcoming, group_size))):
            yield group

    filling: dict[int, _Buffer] = {}
    rings: dict[int, list[_Buffer]] = {}
    for decoded in map_ahead(decode, groups(), threads=threads, depth=depth, first=first):
        for position, view, digest, pixels in decoded:
            if isinstance(pixels, BadImage):
                undecodable[position] = pixels
                continue
            channels = pixels.shape[-1]
            if channels not in filling:
                ring = rings.setdefault(channels, [])
                filling[channels] = ring.pop() if ring else _Buffer(batch_size, pixels.shape, ring)
            filling[channels].add(digest, view, pixels)
            if filling[channels].full:
                yield filling.pop(channels).batch()
    for buffer in filling.values():
        yield buffer.batch()


def read_rows(spaces: Sequence[Space], missing: Missing, jobs: Iterable[int], batch_size: int) -> Iterator[Batch]:
    """Batches of stored features, in place of images, for a net that starts from there (see `Backbone.cut_from`)."""
    upcoming = iter(jobs)
    while some := list(islice(upcoming, batch_size)):
        digests, views = missing.keys(np.array(some))
        rows = [np.asarray(space.rows(digests, views)) for space in spaces]
        joined = rows[0] if len(rows) == 1 else np.concatenate([part.reshape(len(part), -1) for part in rows], axis=1)
        yield Batch(digests, views, joined)


class _Buffer:
    """Room for a batch, which goes back to `ring` when the batch is released."""

    def __init__(self, size: int, shape: tuple[int, ...], ring: list[_Buffer]) -> None:
        self._inputs = np.empty((size, *shape), np.uint8)
        self._digests = bytearray()
        self._views: list[int] = []
        self._ring = ring

    @property
    def full(self) -> bool:
        return len(self._views) == len(self._inputs)

    def add(self, digest: bytes, view: int, pixels: np.ndarray) -> None:
        self._inputs[len(self._views)] = pixels
        self._digests += digest
        self._views.append(view)

    def batch(self) -> Batch:
        digests = np.frombuffer(bytes(self._digests), np.uint8).reshape(-1, DIGEST_BYTES)
        views = np.array(self._views, np.uint32)
        self._digests.clear()
        self._views.clear()
        return Batch(digests, views, self._inputs[: len(views)], lambda: self._ring.append(self))
