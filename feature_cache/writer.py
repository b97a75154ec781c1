"""`SpaceWriter`: collects rows and commits them as segments, in a thread of its own."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np

from feature_cache import coding, segment
from feature_cache.keys import DIGEST_BYTES
from feature_cache.layout import rows_per_block
from feature_cache.spec import FeatureSpec

# A segment is committed when it is this large, or this old: what a kill can cost is bounded by both. In a
# long extraction the age may grow to a share of the time it has taken, so that segments do not become many.
SEGMENT_BYTES = 64 * 2**20
SEGMENT_SECONDS = 20.0
SEGMENT_SHARE = 0.02


class SpaceWriter:
    """Appends rows to a space; a context manager that commits what it holds, also on an error.

    While one segment is written, the next is collected; so up to two are held in memory.

    Parameters
    ----------
    provenance : dict
        Kept with every segment: versions, engine, when. Anything that JSON can hold.
    compress : bool
        See `feature_cache.segment.write`.
    parameters : dict of str to ndarray, optional
        Of the codes that rows are stored as (see `feature_cache.coding`).
    """

    def __init__(
        self,
        folder: Path,
        spec: FeatureSpec,
        provenance: dict,
        *,
        compress: bool = False,
        parameters: coding.Parameters | None = None,
    ) -> None:
        self._folder = folder
        self._spec = spec
        self._provenance = provenance
        self._compress = compress
        self._parameters = parameters
        self._row_shape: tuple[int, ...] = ()
        self._rows: _Rows | None = None
        self._spare: _Rows | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="layertap-writer")
        self._pending: Future[int] | None = None
        self._started = self._opened = time.monotonic()
        self._rounding = coding.Rounding()
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
        stored = coding.to_dtype(features, self._spec)
        start = 0
        while start < len(stored):
            if self._rows is None:
                self._rows = self._spare or _Rows(stored)
                self._spare, self._opened = None, time.monotonic()
            stop = start + self._rows.take(digests[start:], stored[start:], views[start:])
            if self._spec.dtype == "float16":
                self._rounding.add(features[start:stop], stored[start:stop])
            start = stop
            now = time.monotonic()
            age = max(SEGMENT_SECONDS, SEGMENT_SHARE * (now - self._started))
            if self._rows.full or now - self._opened >= age:
                self._hand_over()

    def commit(self) -> None:
        """Write the rows collected so far, and wait until they are on disk.

        Raises
        ------
        StorageFailure
            When the disk does not take them.
        """
        self._hand_over()
        self._wait()

    def _hand_over(self) -> None:
        """Let the thread write the rows collected so far, once it has written those before."""
        self._wait()
        rows, self._rows = self._rows, None
        if rows is None:
            return
        provenance = {
            **self._provenance,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "seconds": round(time.monotonic() - self._opened, 3),
        }
        if self._spec.dtype == "float16":
            provenance["rounding"], self._rounding = self._rounding.as_dict(), coding.Rounding()
        self._pending = self._thread.submit(self._write, rows, provenance)

    def _write(self, rows: _Rows, provenance: dict) -> int:
        path = segment.write(
            self._folder,
            self._spec,
            *rows.columns(),
            provenance,
            coding=self._parameters,
            compress=self._compress,
            check=rows.checks(),
        )
        self.written.add(path.name)
        rows.clear()
        self._spare = rows
        return path.stat().st_size

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


class _Rows:
    """Room for the rows of one segment; the system gives the memory as it is filled.

    Whole blocks are checked as they come, while they are in the caches of the processor.
    """

    def __init__(self, like: np.ndarray) -> None:
        row_bytes = like[:1].nbytes
        self._size = max(1, SEGMENT_BYTES // max(row_bytes, DIGEST_BYTES))
        self._block_rows = rows_per_block(row_bytes)
        self._features = np.empty((self._size, *like.shape[1:]), like.dtype)
        self._digests = np.empty((self._size, DIGEST_BYTES), np.uint8)
        self._views = np.empty(self._size, np.uint32)
        self._used = 0
        self._checks: list[np.ndarray] = []
        self._checked = 0

    @property
    def full(self) -> bool:
        return self._used == self._size

    def take(self, digests: np.ndarray, features: np.ndarray, views: np.ndarray) -> int:
        """Copy as many of these rows as there is room for, and say how many."""
        count = min(len(features), self._size - self._used)
        here = slice(self._used, self._used + count)
        self._features[here], self._digests[here], self._views[here] = features[:count], digests[:count], views[:count]
        self._used += count
        self._check(self._used // self._block_rows * self._block_rows)
        return count

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._features[: self._used], self._digests[: self._used], self._views[: self._used]

    def checks(self) -> np.ndarray:
        """The check of each block, the last of which may be shorter."""
        self._check(self._used)
        return np.concatenate(self._checks)

    def clear(self) -> None:
        self._used, self._checks, self._checked = 0, [], 0

    def _check(self, stop: int) -> None:
        """Check the blocks up to row `stop` that have not been."""
        self._checks.append(segment.checks(self._features[self._checked : stop], self._block_rows))
        self._checked = stop
