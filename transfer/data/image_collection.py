"""A collection of images as most of this room sees it, and the digests by which a cache knows its images.

Modules that work on any collection import this one and not `transfer.data.dataset`, which imports them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from feature_cache.errors import BadImage
from feature_cache.files.digest_memo import DigestMemo, FileStamp
from feature_cache.keys import DIGEST_BYTES
from feature_cache.process.read_ahead import map_ahead
from transfer.data.annotation.crop_source import CroppedPicture
from transfer.data.images import ImageSource
from transfer.data.remote.announced import announced

CHUNK = 4096  # images whose stamps are looked up at a time
READY = 16  # images that are submitted at a time, for each thread


class ImageCollection(Protocol):
    """Images with their ids and, perhaps, labels; for the attributes see `transfer.data.dataset.Dataset`."""

    @property
    def name(self) -> str: ...
    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def sources(self) -> Sequence[ImageSource]: ...
    @property
    def labels(self) -> np.ndarray | None: ...
    @property
    def class_counts(self) -> dict[str, int] | None: ...
    def __len__(self) -> int: ...
    def select(self, chosen: np.ndarray) -> ImageCollection:
        """The images at these positions, or where a boolean array is true."""


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be read.

    Attributes
    ----------
    id : str
    reason : str
        Why it cannot be read, without the name of the file.
    message : str
        The same as a sentence that names the file.
    """

    id: str
    reason: str
    message: str


def digests(dataset: ImageCollection, memo: DigestMemo, threads: int = 4) -> tuple[np.ndarray, list[Unreadable]]:
    """The content digest of every image; files that have not changed since the last time are not read.

    Parameters
    ----------
    dataset : Dataset
    memo : DigestMemo
        The memo that knows the digests of files, and is given those that it lacks.
    threads : int

    Returns
    -------
    digests : ndarray of shape (n, 16), uint8
        The digest of an unreadable image is all zeros.
    unreadable : list of Unreadable
        Files that are missing, empty or not images at all. Damage further inside a file shows only when the image is
        decoded.
    """
    out, errors = source_digests(dataset.sources, memo, threads)
    return out, [Unreadable(dataset.ids[place], error.reason, str(error)) for place, error in errors.items()]


def source_digests(
    sources: Sequence[ImageSource], memo: DigestMemo, threads: int = 4
) -> tuple[np.ndarray, dict[int, BadImage]]:
    """The content digest of every source, and the errors of the unreadable by their positions; see `digests`.

    The memo is given the digests of images in which boxes are, too, since these are known by then.
    """
    out = np.zeros((len(sources), DIGEST_BYTES), np.uint8)
    errors: dict[int, BadImage] = {}

    def compute(position: int) -> tuple[bytes, tuple[FileStamp | None, bytes] | None] | BadImage:
        try:
            digest, picture = sources[position].load()
        except BadImage as error:
            return error
        return digest, picture.whole if isinstance(picture, CroppedPicture) else None

    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(sources), CHUNK):  # stamps of all images would take more memory than the digests
            seen = time.time_ns()
            stamps = [source.stamp() for source in sources[start : start + CHUNK]]
            known = memo.recall(stamp for stamp in stamps if stamp)
            to_read = []
            for position, stamp in enumerate(stamps, start):
                if stamp and stamp[0] in known:
                    out[position] = np.frombuffer(known[stamp[0]], np.uint8)
                else:
                    to_read.append(position)
            fresh: dict[FileStamp, bytes] = {}
            ahead = announced(sources, to_read)
            results = map_ahead(compute, ahead, depth=READY * threads, pool=pool)
            try:
                for position, result in zip(to_read, results, strict=True):
                    if isinstance(result, BadImage):
                        errors[position] = result
                        continue
                    digest, whole = result
                    out[position] = np.frombuffer(digest, np.uint8)
                    if stamp := stamps[position - start]:
                        fresh[stamp] = digest
                    if whole and whole[0]:
                        fresh[whole[0]] = whole[1]
            finally:  # what was read until a server fails need not be read again
                memo.remember(fresh, seen)
    return out, errors
