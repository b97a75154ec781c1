"""Reading: images are decoded in threads, a bounded number ahead, and assembled into batches in reused buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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
from transfer.data.remote.announced import announced
from transfer.engines.batch import Batch
from transfer.extraction.lookup import Missing
from transfer.hardware import cores
from transfer.request import FeatureRequest

# Images that a thread decodes before it reports: handing over each of many small ones would cost more than decoding.
GROUP = 16
# The number of images that are decoded ahead at the start, while the engine is built, and their bytes.
FIRST_IMAGES = 128
FIRST_BYTES = 64 * 2**20

OnPixels = Callable[[bytes, np.ndarray], object]
_Decoded = tuple[int, int, bytes, np.ndarray | BadImage]  # position, view, digest, and the pixels or the error


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
    on_pixels: OnPixels | None = None,
) -> Iterator[Batch]:
    """Decode images in threads, a bounded number ahead, and assemble batches of one channel count.

    Parameters
    ----------
    jobs : iterable of int
        Images and views (see `transfer.extraction.lookup.Missing`); for a single view, positions in `dataset`.
    undecodable : dict
        Receives the error of each image that could not be decoded, by its position.
    remarks : Remarks, optional
        Receives what decoding has guessed or left out.
    stop : bool
        Begin with no further images once one cannot be decoded; those that are in preparation still come.
    on_pixels : callable, optional
        Called once for each image, in the thread that decodes it, with the digest of its content and its pixels.
    """
    height, width = request.specs[0].size
    threads = threads or len(cores())
    group_size = max(1, min(GROUP, batch_size // (2 * threads)))
    steady = max(2 * batch_size, 2 * threads)
    at_start = max(steady, min(FIRST_IMAGES, FIRST_BYTES // (3 * height * width)))
    depth, first = -(-steady // group_size) - 1, -(-at_start // group_size) - 1

    def groups() -> Iterator[list[int]]:
        upcoming = announced(dataset.sources, jobs, request.views)
        while not (stop and undecodable) and (group := list(islice(upcoming, group_size))):
            yield group

    decode, assembler = _Decoder(dataset, request, remarks, on_pixels), _Assembler(batch_size)
    for decoded in map_ahead(decode, groups(), threads=threads, depth=depth, first=first):
        for position, view, digest, pixels in decoded:
            if isinstance(pixels, BadImage):
                undecodable[position] = pixels
            elif batch := assembler.add(digest, view, pixels):
                yield batch
    yield from assembler.rest()


def read_rows(spaces: Sequence[Space], missing: Missing, jobs: Iterable[int], batch_size: int) -> Iterator[Batch]:
    """Batches of stored features in place of images, for a net that starts at their layers (`Backbone.cut_from`)."""
    upcoming = iter(jobs)
    while some := list(islice(upcoming, batch_size)):
        digests, views = missing.keys(np.array(some))
        rows = [np.asarray(space.rows(digests, views)) for space in spaces]
        joined = rows[0] if len(rows) == 1 else np.concatenate([part.reshape(len(part), -1) for part in rows], axis=1)
        yield Batch(digests, views, joined)


class _Decoder:
    """Decodes groups of images into the pixels of their views. Several threads call it at the same time."""

    def __init__(
        self, dataset: Dataset, request: FeatureRequest, remarks: Remarks | None, on_pixels: OnPixels | None
    ) -> None:
        self._dataset = dataset
        self._spec, self._views = request.specs[0], request.views
        self._augment = Augmentation.from_key(request.augmentation) if request.augmentation is not None else None
        self._remarks = remarks
        self._on_pixels = on_pixels

    def __call__(self, group: list[int]) -> list[_Decoded]:
        decoded: list[_Decoded] = []
        last, digest, plain = -1, b"", np.empty(0)
        for job in group:
            position, view = divmod(int(job), self._views)
            try:
                if position != last:  # the views of an image come one after another
                    (digest, plain), last = self._load(position), position
                pixels = self._augment(plain, digest, view) if self._augment else plain
                decoded.append((position, view, digest, pixels))
            except BadImage as error:
                decoded.append((position, view, b"", error.alone()))
        return decoded

    def _load(self, position: int) -> tuple[bytes, np.ndarray]:
        source = self._dataset.sources[position]
        digest, picture = source.load()
        pixels = pixels_for(picture, self._spec, str(source))
        if self._remarks is not None:
            self._remarks.add(picture.remarks, self._dataset.ids[position])
        if self._on_pixels:
            self._on_pixels(digest, pixels)
        return digest, pixels


class _Assembler:
    """Collects the pixels of images into batches, one for each number of channels."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._filling: dict[int, _Buffer] = {}
        self._free: dict[int, list[_Buffer]] = {}

    def add(self, digest: bytes, view: int, pixels: np.ndarray) -> Batch | None:
        """The batch that these pixels have filled, if they have filled one."""
        channels = pixels.shape[-1]
        if channels not in self._filling:
            free = self._free.setdefault(channels, [])
            self._filling[channels] = free.pop() if free else _Buffer(self._batch_size, pixels.shape, free)
        buffer = self._filling[channels]
        buffer.add(digest, view, pixels)
        return self._filling.pop(channels).batch() if buffer.full else None

    def rest(self) -> Iterator[Batch]:
        """The batches that are not full."""
        for buffer in self._filling.values():
            yield buffer.batch()


class _Buffer:
    """Memory for a batch; it is appended to `free` when the batch is released."""

    def __init__(self, size: int, shape: tuple[int, ...], free: list[_Buffer]) -> None:
        self._inputs = np.empty((size, *shape), np.uint8)
        self._digests = bytearray()
        self._views: list[int] = []
        self._free = free

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
        return Batch(digests, views, self._inputs[: len(views)], lambda: self._free.append(self))
