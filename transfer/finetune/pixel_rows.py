"""Pixels of images as a lazy array, whose rows are decoded when they are read: a whole net is trained on them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_cache.errors import BadImage
from transfer.data.augment import NUMBERS, Augmentation
from transfer.data.datasets import Dataset
from transfer.data.images import pixels_for
from transfer.hardware import cores
from transfer.request import FeatureRequest


@dataclass(frozen=True)
class AugmentInputs:
    """Pixels of plain images, and the numbers by which the network makes views of them (see `Augment`).

    Attributes
    ----------
    pixels : ndarray of shape (m, height, width, 3), uint8
    numbers : ndarray of shape (m, 8), float32
        See `Augmentation.numbers`.
    """

    pixels: np.ndarray
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: Any) -> AugmentInputs:
        return AugmentInputs(self.pixels[index], self.numbers[index])


class PixelRows:
    """A lazy, read-only array of shape (n * views, height, width, 3), uint8: the pixels of each view of each image.

    Rows are in the order of the cache, all views of an image one after another, and have the same keys (see
    `feature_cache.features.Features`). Gray images are repeated in all three channels. Where the request has an
    augmentation, reading rows gives `AugmentInputs`.

    Parameters
    ----------
    dataset : Dataset
    request : FeatureRequest
        It gives the size of the images, how they are fitted to it, and their views.
    digests : ndarray of shape (n, 16), uint8
        The digests of the images.
    positions : ndarray of int, optional
        The rows, as ``image * views + view``; by default all.
    pool : ThreadPoolExecutor, optional
        The threads that decode; by default one for each core.
    """

    def __init__(
        self,
        dataset: Dataset,
        request: FeatureRequest,
        digests: np.ndarray,
        positions: np.ndarray | None = None,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        self._dataset = dataset
        self._request = request
        self._digests = digests
        views = request.views
        self._positions = np.arange(len(dataset) * views) if positions is None else positions
        self._augment = Augmentation.from_key(request.augmentation) if request.augmentation is not None else None
        self.shape = (len(self._positions), *request.specs[0].size, 3)
        self.dtype, self.ndim = np.dtype(np.uint8), 4
        self._pool = pool or ThreadPoolExecutor(len(cores()), thread_name_prefix="layertap-decode")

    @property
    def nbytes(self) -> int:
        """The size of the array in bytes, if it was read as a whole."""
        return int(np.prod(self.shape, dtype=np.int64))

    def keys(self, positions: Any = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Digests and views of the rows at `positions`: shape (m, 16), uint8, and (m,), uint32."""
        image, view = np.divmod(self._positions[positions], self._request.views)
        return self._digests[image], view.astype(np.uint32)

    def take(self, positions: np.ndarray) -> PixelRows:
        """The rows at `positions`, in that order; nothing is read."""
        return PixelRows(self._dataset, self._request, self._digests, self._positions[positions], self._pool)

    def batches(self, size: int, **options: Any) -> Iterator[tuple[np.ndarray | AugmentInputs, np.ndarray]]:
        """Batches of rows and their positions, in order."""
        for start in range(0, len(self), size):
            rows = np.arange(start, min(start + size, len(self)))
            yield self[rows], rows

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray | AugmentInputs:
        """The rows of a slice, an integer array or a boolean array, decoded in threads.

        Raises
        ------
        BadImage
            When an image cannot be decoded, or has changed since its digest was computed.
        """
        images, views = np.divmod(self._positions[index], self._request.views)
        pixels = np.empty((len(images), *self.shape[1:]), np.uint8)
        numbers = np.empty((len(images), NUMBERS), np.float32)

        def fill(row: int) -> None:
            image = int(images[row])
            pixels[row] = self._decode(image)
            if self._augment:
                numbers[row] = self._augment.numbers(self._digests[image].tobytes(), int(views[row]), *self.shape[1:3])

        list(self._pool.map(fill, range(len(images))))
        return AugmentInputs(pixels, numbers) if self._augment else pixels

    def _decode(self, position: int) -> np.ndarray:
        source = self._dataset.sources[position]
        digest, picture = source.load()
        if digest != self._digests[position].tobytes():
            raise BadImage(f"{source} has changed since it was first read; run the command again.")
        return pixels_for(picture, self._request.specs[0], str(source))
