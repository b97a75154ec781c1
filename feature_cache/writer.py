"""`SpaceWriter` collects rows and commits them as segments, in a thread of its own."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np

from feature_cache.errors import StorageFailure, Unreachable
from feature_cache.keys import DIGEST_BYTES
from feature_cache.remote import storage
from feature_cache.segments import encoding
from feature_cache.segments.segment_writer import CompressedSegment, NewSegment, PlainSegment, timestamp
from feature_cache.spec import FeatureSpec

# A segment is committed when it is this large, or this old: what a kill can cost is bounded by both. In a
# long extraction the age may grow to a share of the time it has taken, so that segments do not become many.
SEGMENT_BYTES = 256 * 2**20
COLLECTED_BYTES = 64 * 2**20  # the size where rows are collected in memory, to be compressed
SEGMENT_SECONDS = 20.0
SEGMENT_SHARE = 0.02


class SpaceWriter:
    """Appends rows to a space; a context manager that commits what it holds, also on an error.

    Plain rows go to disk as they come. Those to be compressed are collected in memory, up to two segments of them:
    while one is written, the next is collected.

    Parameters
    ----------
    provenance : dict
        Stored with every segment: versions, engine, date, and whatever else JSON can hold.
    compress : bool
        See `feature_cache.segments.segment_writer.write`.
    parameters : dict of str to ndarray, optional
        The parameters of the codes that rows are stored as (see `feature_cache.segments.encoding`).
    since : float, optional
        When the work on the rows began, by `time.monotonic`; by default now. Segments record how long their rows took.
    """

    def __init__(
        self,
        folder: Path,
        spec: FeatureSpec,
        provenance: dict,
        *,
        compress: bool = False,
        parameters: encoding.Parameters | None = None,
        since: float | None = None,
    ) -> None:
        self._folder = folder
        self._spec = spec
        self._provenance = provenance
        self._compress = compress
        self._parameters = parameters
        self._row_shape: tuple[int, ...] = ()
        self._new: NewSegment | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="layertap-writer")
        self._pending: Future[int] | None = None
        self._started = self._opened = time.monotonic()
        self._since = self._started if since is None else since
        self._rounding = encoding.Rounding()
        self._unpublished: list[Path] = []
        self.bytes_written = 0
        self.written: set[str] = set()  # names of the segments

    def append(self, digests: np.ndarray, features: np.ndarray, views: np.ndarray | None = None) -> None:
        """Add rows.

        Parameters
        ----------
        digests : ndarray of shape (n, 16), uint8
        features : ndarray of shape (n, *row_shape)
            Stored in the spec's dtype.
        views : ndarray of shape (n,), uint32, optional
            View numbers; all 0 if left out.

        Raises
        ------
        BadData
            When a feature is beyond the range of the spec's dtype.
        StorageFailure
            When the disk did not take rows that were added before.
        """
        views = np.zeros(len(digests), np.uint32) if views is None else views
        if len(digests) != len(features):
            raise ValueError(f"received {len(digests)} digests for {len(features)} rows of features.")
        if digests.shape[1:] != (DIGEST_BYTES,) or views.shape != (len(digests),):
            raise ValueError(f"received digests of shape {digests.shape} and views of shape {views.shape}.")
        self._row_shape = self._row_shape or features.shape
        if features.shape[1:] != self._row_shape[1:]:
            raise ValueError(f"received rows of shape {features.shape[1:]}, after others of {self._row_shape[1:]}.")
        stored = encoding.to_dtype(features, self._spec)
        start = 0
        while start < len(stored):
            if self._new is None:
                self._new, self._opened = self._begin(stored), time.monotonic()
            try:
                stop = start + self._new.take(digests[start:], stored[start:], views[start:])
            except StorageFailure:
                self._new = None
                raise
            if self._spec.dtype == "float16":
                self._rounding.add(features[start:stop], stored[start:stop])
            start = stop
            now = time.monotonic()
            age = max(SEGMENT_SECONDS, SEGMENT_SHARE * (now - self._started))
            if self._new.full or now - self._opened >= age:
                self._hand_over()

    def _begin(self, like: np.ndarray) -> NewSegment:
        kind = CompressedSegment if self._compress else PlainSegment
        size = min(SEGMENT_BYTES, COLLECTED_BYTES) if self._compress else SEGMENT_BYTES
        room = max(1, size // max(like[:1].nbytes, DIGEST_BYTES))
        return kind(self._folder, self._spec, like, room, self._parameters)

    def commit(self) -> None:
        """Write the rows collected so far, and wait until they are on disk, and in the bucket that the cache is in.

        Raises
        ------
        StorageFailure
            When the disk does not take them.
        Unreachable
            When the bucket does not take them. They are on disk, and are sent when the space is next opened.
        """
        self._hand_over()
        self._wait()
        self._publish()

    def _hand_over(self) -> None:
        """Let the thread finish the current segment, once it has finished the one before."""
        self._wait()
        new, self._new = self._new, None
        if new is None:
            return
        now = time.monotonic()
        provenance = {**self._provenance, "finished": timestamp(), "seconds": round(now - self._since, 3)}
        self._since = now
        if self._spec.dtype == "float16":
            provenance["rounding"], self._rounding = self._rounding.as_dict(), encoding.Rounding()
        self._pending = self._thread.submit(self._finish, new, provenance)

    def _finish(self, new: NewSegment, provenance: dict) -> int:
        storage.hold(new.path)
        path = new.finish(provenance)
        size = path.stat().st_size
        self._unpublished.append(path)
        with contextlib.suppress(Unreachable):  # tried again with the next segment, and at the commit
            self._publish()
        return size

    def _publish(self) -> None:
        """Publish the segments that are complete and that no other machine sees yet."""
        while self._unpublished:
            self.written.add(storage.publish(self._unpublished[0]).name)
            storage.release(self._unpublished.pop(0))

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            self.bytes_written += pending.result()

    def __enter__(self) -> SpaceWriter:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.commit()
        finally:
            self._thread.shutdown()
            for path in self._unpublished:
                storage.release(path)
