"""Extraction: the one visible loop from images to cached features."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import PIL

from feature_cache.cache import FeatureCache
from feature_cache.compression import zstandard
from feature_cache.errors import BadData
from feature_cache.version import own_version
from transfer.datasets import DataSet, Unreadable
from transfer.lookup import find_missing, refusal, with_copies
from transfer.reading import Batch, default_batch_size, read_batches
from transfer.request import Request
from transfer.sharing import Todo

Progress = Callable[[int, int], None]  # images done, images in all


class Engine(Protocol):
    """Something that computes features of a batch of pixels, one array for each readout."""

    def __call__(self, pixels: np.ndarray) -> list[np.ndarray]: ...


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


def extract(
    dataset: DataSet,
    request: Request,
    cache: FeatureCache,
    *,
    batch_size: int | None = None,
    on_error: str = "fail",
    compress: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Compute what `cache` lacks of the features of `dataset`, and keep it.

    Several processes, on several machines, may do this at the same time: they share the work.

    Parameters
    ----------
    batch_size : int, optional
        By default chosen from the input size. It does not change the features.
    compress : bool
        Whether new segments are compressed.
    on_error : {'fail', 'skip'}
        What to do about an unreadable image: raise, keeping what was computed, or leave it out.

    Raises
    ------
    BadImage
        For the first unreadable image, unless they are skipped.
    LayertapError
        When the net or the layer is not to be had, or the cache cannot be written.
    """
    if request.coding:
        return _extract_shrunk(dataset, request, cache, batch_size, on_error, compress, progress)
    if compress:
        zstandard()
    start = time.perf_counter()
    missing = find_missing(dataset, request, cache, complete=True, compress=compress)
    if missing.unreadable and on_error == "fail":
        raise refusal(missing.unreadable)

    undecodable: dict[int, str] = {}
    computed = written = done = 0
    if len(missing.positions):
        batch_size = min(batch_size or default_batch_size(request.specs[0].size), len(missing.positions))
        engines = Engines(request, batch_size)
        todo = Todo(missing)
        with ExitStack() as stack:
            writers = [
                stack.enter_context(space.writer(engines.provenance, compress=compress)) for space in missing.spaces
            ]
            for batch in read_batches(dataset, todo, request, batch_size, undecodable):
                for space, writer, features in zip(todo.spaces, writers, engines.run(batch), strict=True):
                    new = ~space.has(batch.digests)
                    writer.append(batch.digests[new], features[new])
                    computed += int(new.sum())
                    todo.wrote(writer.written)
                done += len(batch.digests)
                if progress:
                    progress(done + todo.dropped, len(missing.positions))
                if undecodable and on_error == "fail":
                    break
        written = sum(writer.bytes_written for writer in writers)
    skipped = missing.unreadable + with_copies(dataset, missing.digests, undecodable)
    if skipped and on_error == "fail":
        raise refusal(skipped)

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


def _extract_shrunk(
    dataset: DataSet,
    request: Request,
    cache: FeatureCache,
    batch_size: int | None,
    on_error: str,
    compress: bool,
    progress: Progress | None,
) -> Report:
    """Features in a shrunk copy of a space: what it lacks is computed in full, and then encoded as the copy is."""
    missing = find_missing(dataset, request, cache, complete=True, compress=compress)
    lacking = np.any([~space.has(missing.digests) for space in missing.spaces], axis=0)
    full = replace(request, dtype="float32", coding=None)
    report = extract(
        dataset.select(lacking),
        full,
        cache,
        batch_size=batch_size,
        on_error=on_error,
        compress=compress,
        progress=progress,
    )
    after = find_missing(dataset, request, cache, complete=True, compress=compress)
    return replace(
        report,
        rows_total=len(dataset) * len(after.spaces),
        rows_reused=len(dataset) * len(after.spaces) - report.rows_computed - report.rows_skipped,
        spaces=[str(space.folder) for space in after.spaces],
    )


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
            "layertap": own_version(),
            "numpy": np.__version__,
            "pillow": PIL.__version__,
            "batch_size": batch_size,
            "net": request.net.as_config(),
        }

    def run(self, batch: Batch) -> list[np.ndarray]:
        """Features of `batch`, one array for each spec of the request."""
        channels = batch.pixels.shape[-1]
        if channels not in self._engines:
            readouts = [(self._backbone.find(spec.layer), spec.pooling) for spec in self._request.specs]
            model = self._backbone.cut(readouts, self._request.specs[0].preprocessing, channels)
            self._engines[channels] = self._make(model)
            try:
                return self._engines[channels](batch.pixels)
            except Exception as error:  # a user's net can be such that the backend does not compile it
                if not self._request.net.is_file:
                    raise
                cause: BaseException = error
                while cause.__cause__ or cause.__context__:
                    cause = cause.__cause__ or cause.__context__ or cause
                reason = " ".join(str(cause).split())[:200] or type(cause).__name__
                raise BadData(f"Keras cannot run the net {self._request.net.name}: {reason}") from error
        return self._engines[channels](batch.pixels)
