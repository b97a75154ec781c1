"""Extraction: the one visible loop from images to cached features, and the plan that precedes it."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from feature_cache.errors import BadImage, MissingFeatures
from feature_cache.keys import row_keys
from feature_cache.reader import Features
from feature_cache.space import Cache, Space
from transfer.datasets import DataSet, Unreadable, digests
from transfer.images import to_pixels
from transfer.request import Request

Progress = Callable[[int, int], None]  # images done, images in all


class Engine(Protocol):
    """Something that computes features of a batch of pixels, one array for each readout."""

    def __call__(self, pixels: np.ndarray) -> list[np.ndarray]: ...


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


@dataclass(frozen=True)
class Missing:
    """What a data set lacks in the cache.

    Attributes
    ----------
    digests : ndarray of shape (n, 16), uint8
        Of every image; zeros for the unreadable.
    positions : ndarray of int64
        One image for each distinct content that some space lacks.
    rows : int
        Rows to compute, over all spaces.
    unreadable : list of Unreadable
    """

    digests: np.ndarray
    positions: np.ndarray
    rows: int
    spaces: list[Space]
    unreadable: list[Unreadable]


@dataclass(frozen=True)
class Report:
    """What an extraction did. Rows are counted over all spaces; computed, reused and skipped make up the total."""

    rows_total: int
    rows_computed: int
    rows_reused: int
    rows_skipped: int
    seconds: float
    images_per_second: float
    bytes_written: int
    spaces: list[str]
    skipped: list[Unreadable] = field(default_factory=list)


@dataclass(frozen=True)
class Cached:
    """Features that are in the cache, with the images that they belong to.

    Attributes
    ----------
    dataset : DataSet
        Without the skipped images.
    features : dict of str to Features
        By layer; rows in the order of `dataset`.
    contents : ndarray of shape (n,), int64
        Equal for images of the same content.
    skipped : list of Unreadable
    """

    dataset: DataSet
    features: dict[str, Features]
    contents: np.ndarray
    skipped: list[Unreadable]


def find_missing(dataset: DataSet, request: Request, cache: Cache) -> Missing:
    """Compare the images of `dataset` with what `cache` holds; no image is decoded."""
    keys, unreadable = digests(dataset, cache.memo)
    unread = {problem.id for problem in unreadable}
    readable = np.array([name not in unread for name in dataset.ids], bool)
    spaces = [cache.space(spec) for spec in request.specs]

    packed = row_keys(keys, np.zeros(len(keys), np.uint32))
    distinct = {key: position for position, key in reversed(list(enumerate(packed))) if readable[position]}
    first = np.array(sorted(distinct.values()), dtype=np.int64)
    lacking = np.array([~space.has(keys[first]) for space in spaces]).reshape(len(spaces), len(first))
    return Missing(keys, first[lacking.any(0)], int(lacking.sum()), spaces, unreadable)


def cached_features(dataset: DataSet, request: Request, cache: Cache, *, on_error: str = "fail") -> Cached:
    """The features of `dataset` as they are in `cache`; nothing is computed, and Keras is not needed.

    Parameters
    ----------
    on_error : {'fail', 'skip'}
        What to do about an unreadable image.

    Raises
    ------
    BadImage
        For an unreadable image, unless they are skipped.
    MissingFeatures
        When some readable image has no row.
    """
    missing = find_missing(dataset, request, cache)
    skipped = list(missing.unreadable)
    if len(missing.positions):
        # A file whose header reads but whose pixels do not was left out by an extraction, too.
        for _ in read_batches(dataset, missing.positions, request, 1, skipped):
            raise MissingFeatures(
                f"{missing.rows} of {len(dataset) * len(missing.spaces)} rows are not in the cache {cache.root}."
            )
    if skipped and on_error == "fail":
        raise _refusal(skipped)
    unread = {problem.id for problem in skipped}
    kept = np.array([name not in unread for name in dataset.ids], bool)
    digests_kept = missing.digests[kept]
    features = {space.spec.layer: space.features(digests_kept) for space in missing.spaces}
    _, contents = np.unique(digests_kept, axis=0, return_inverse=True)
    return Cached(dataset.select(kept), features, contents.reshape(-1), skipped)


def extract(
    dataset: DataSet,
    request: Request,
    cache: Cache,
    *,
    batch_size: int | None = None,
    on_error: str = "fail",
    progress: Progress | None = None,
) -> Report:
    """Compute what `cache` lacks of the features of `dataset`, and keep it.

    Parameters
    ----------
    batch_size : int, optional
        By default chosen from the input size. It does not change the features.
    on_error : {'fail', 'skip'}
        What to do about an unreadable image: raise, keeping what was computed, or leave it out.

    Raises
    ------
    BadImage
        For the first unreadable image, unless they are skipped.
    LayertapError
        When the net or the layer is not to be had, or the cache cannot be written.
    """
    start = time.perf_counter()
    missing = find_missing(dataset, request, cache)
    skipped = list(missing.unreadable)
    if skipped and on_error == "fail":
        raise _refusal(skipped)

    computed = written = 0
    if len(missing.positions):
        size = request.specs[0].size
        batch_size = batch_size or default_batch_size(size)
        engines = Engines(request, batch_size)
        with ExitStack() as stack:
            writers = [stack.enter_context(space.writer(engines.provenance)) for space in missing.spaces]
            done = 0
            for batch in read_batches(dataset, missing.positions, request, batch_size, skipped):
                for space, writer, features in zip(missing.spaces, writers, engines.run(batch), strict=True):
                    new = ~space.has(batch.digests)
                    writer.append(batch.digests[new], features[new])
                    computed += int(new.sum())
                done += len(batch.digests)
                if progress:
                    progress(done, len(missing.positions))
                if len(skipped) > len(missing.unreadable) and on_error == "fail":
                    raise _refusal(skipped)
            if len(skipped) > len(missing.unreadable) and on_error == "fail":
                raise _refusal(skipped)
        written = sum(writer.bytes_written for writer in writers)

    seconds = time.perf_counter() - start
    total = len(dataset) * len(missing.spaces)
    left_out = len(skipped) * len(missing.spaces)
    return Report(
        rows_total=total,
        rows_computed=computed,
        rows_reused=total - computed - left_out,
        rows_skipped=left_out,
        seconds=round(seconds, 3),
        images_per_second=round(len(missing.positions) / seconds, 1) if computed else 0.0,
        bytes_written=written,
        spaces=[str(space.folder) for space in missing.spaces],
        skipped=skipped,
    )


def read_batches(
    dataset: DataSet,
    positions: np.ndarray,
    request: Request,
    batch_size: int,
    skipped: list[Unreadable],
    threads: int | None = None,
) -> Iterator[Batch]:
    """Decode images in threads, a bounded number ahead, and assemble batches of one channel count.

    Unreadable images are appended to `skipped`.
    """
    size = request.specs[0].size

    def decode(position: int) -> tuple[bytes, np.ndarray]:
        source = dataset.sources[position]
        digest, image = source.load()
        return digest, to_pixels(image, size, request.fit, request.interpolation, str(source))

    waiting: dict[int, list[tuple[bytes, np.ndarray]]] = {}
    ahead: deque[tuple[int, Future]] = deque()
    upcoming = iter(positions.tolist())
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
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
                    skipped.append(Unreadable(dataset.ids[position], str(error)))
                    continue
                bucket = waiting.setdefault(decoded[1].shape[-1], [])
                bucket.append(decoded)
                if len(bucket) == batch_size:
                    yield _assemble(bucket)
                    bucket.clear()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    for bucket in waiting.values():
        if bucket:
            yield _assemble(bucket)


class Engines:
    """The engine for gray and the one for colour images, each made when its first batch comes."""

    def __init__(self, request: Request, batch_size: int) -> None:
        self._request = request
        self._backbone = request.backbone
        from transfer.engines.keras_engine import KerasEngine  # after the backbone, which loads Keras

        self._make = lambda model: KerasEngine(model, batch_size)
        self._engines: dict[int, Engine] = {}
        self.provenance: dict[str, Any] = {
            **KerasEngine.describe(),
            "layertap": _own_version(),
            "numpy": np.__version__,
            "batch_size": batch_size,
        }

    def run(self, batch: Batch) -> list[np.ndarray]:
        """Features of `batch`, one array for each spec of the request."""
        channels = batch.pixels.shape[-1]
        if channels not in self._engines:
            readouts = [(self._backbone.find(spec.layer), spec.pooling) for spec in self._request.specs]
            model = self._backbone.cut(readouts, self._request.specs[0].preprocessing, channels)
            self._engines[channels] = self._make(model)
        return self._engines[channels](batch.pixels)


def default_batch_size(size: tuple[int, int]) -> int:
    """The power of two, 1 to 256, that gives a batch at most as many pixels as 32 images of 224 x 224."""
    room = 32 * 224 * 224 // (size[0] * size[1])
    return 2 ** max(0, min(8, room.bit_length() - 1))


def _assemble(decoded: list[tuple[bytes, np.ndarray]]) -> Batch:
    joined = b"".join(digest for digest, _ in decoded)
    return Batch(np.frombuffer(joined, np.uint8).reshape(len(decoded), -1), np.stack([pixels for _, pixels in decoded]))


def _refusal(unreadable: list[Unreadable]) -> BadImage:
    more = f" ({len(unreadable) - 1} more like it so far)" if len(unreadable) > 1 else ""
    return BadImage(
        f"{unreadable[0].reason.rstrip('.')}{more}. What was computed is kept. Mend or remove the file, "
        "or leave such images out with --on-error skip."
    )


def _own_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("layertap")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
