"""`SpaceWriter`: collects rows and commits them as segments."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

import numpy as np

from feature_cache import segment
from feature_cache.spec import FeatureSpec

# A segment is committed when it is this large, or this old: what a kill can cost is bounded by both. In a
# long extraction the age may grow to a share of the time it has taken, so that segments do not become many.
SEGMENT_BYTES = 256 * 2**20
SEGMENT_SECONDS = 20.0
SEGMENT_SHARE = 0.02


class SpaceWriter:
    """Appends rows to a space; a context manager that commits what it holds, also on an error.

    Parameters
    ----------
    provenance : dict
        Kept with every segment: versions, engine, when. Anything that JSON can hold.
    """

    def __init__(self, folder: Path, spec: FeatureSpec, provenance: dict) -> None:
        self._folder = folder
        self._spec = spec
        self._provenance = provenance
        self._features: list[np.ndarray] = []
        self._digests: list[np.ndarray] = []
        self._bytes = 0
        self._started = self._opened = time.monotonic()
        self.bytes_written = 0

    def append(self, digests: np.ndarray, features: np.ndarray) -> None:
        """Add rows.

        Parameters
        ----------
        digests : ndarray of shape (n, 16), uint8
        features : ndarray of shape (n, *row_shape)
            Stored in the spec's dtype.
        """
        if len(digests) != len(features):
            raise ValueError(f"received {len(digests)} digests for {len(features)} rows of features.")
        if not len(digests):
            return
        if not self._features:
            self._opened = time.monotonic()
        self._digests.append(np.array(digests, np.uint8))  # a copy: engines reuse their buffers
        self._features.append(np.array(features, self._spec.dtype))
        self._bytes += self._features[-1].nbytes
        now = time.monotonic()
        age = max(SEGMENT_SECONDS, SEGMENT_SHARE * (now - self._started))
        if self._bytes >= SEGMENT_BYTES or now - self._opened >= age:
            self.commit()

    def commit(self) -> None:
        """Write the rows collected so far as one segment.

        Raises
        ------
        StorageFailure
            When the disk does not take them.
        """
        if not self._features:
            return
        digests = np.concatenate(self._digests)
        features = np.concatenate(self._features)
        self._features, self._digests, self._bytes = [], [], 0
        provenance = {
            **self._provenance,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "seconds": round(time.monotonic() - self._opened, 3),
        }
        path = segment.write(self._folder, self._spec, features, digests, np.zeros(len(digests), np.uint32), provenance)
        self.bytes_written += path.stat().st_size

    def __enter__(self) -> SpaceWriter:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.commit()
