"""`Features`: rows of a space in a requested order, read from disk when they are used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from feature_cache.errors import StorageFailure
from feature_cache.process.read_ahead import read_ahead
from feature_cache.remote.storage import shown
from feature_cache.representation import html_table, shape_text
from feature_cache.segments.row_store import MOST_ATTEMPTS, SegmentGone
from feature_cache.spec import FeatureSpec
from feature_cache.units import size_text


class Source(Protocol):
    """What `Features` need of the space that their rows are in (see `feature_cache.space.Space`)."""

    @property
    def folder(self) -> Path: ...
    @property
    def spec(self) -> FeatureSpec: ...
    @property
    def row_shape(self) -> tuple[int, ...] | None: ...
    @property
    def dtype(self) -> np.dtype: ...
    def again(self) -> Source: ...
    def locate(self, digests: np.ndarray, views: np.ndarray) -> np.ndarray: ...
    def seconds(self, digests: np.ndarray, views: np.ndarray) -> float | None: ...
    def read(self, ids: np.ndarray, *, view: bool = False) -> np.ndarray: ...


class Features:
    """A lazy, read-only array of shape (n, *row_shape).

    It has `len`, `shape`, `dtype`, `ndim`, and NumPy's indexing, with NumPy's exceptions: an integer or a
    slice gives a read-only array, a view of the file where the rows lie there in one piece; an integer array
    or a boolean array gives a copy; further indices apply to the rows. ``np.asarray`` reads everything.

    Every row is compared with the check that was written with it when it is first read; `DamagedFile` is raised
    where they disagree. Rows whose segments are compacted meanwhile are found again.

    Parameters
    ----------
    space : Space
    digests, views : ndarray of shape (n, 16), uint8, and (n,), uint32
        The keys of the rows, all in `space`.

    Examples
    --------
    >>> import tempfile
    >>> from feature_cache import FeatureCache, FeatureSpec
    >>> spec = FeatureSpec(net="example", weights="random-0", layer="last", size=(32, 32))
    >>> space = FeatureCache(tempfile.mkdtemp())[spec]
    >>> digests = np.arange(48, dtype=np.uint8).reshape(3, 16)  # of three images
    >>> with space.writer({}) as writer:
    ...     writer.append(digests, np.eye(3, dtype=np.float32))
    >>> features = space.again().rows(digests[::-1])
    >>> features  # doctest: +ELLIPSIS
    <Features of example/last, avg: 3 x 3, float32; ...example-last-avg-...>
    >>> features[:2]
    array([[0., 0., 1.],
           [0., 1., 0.]], dtype=float32)
    >>> features[features[:, 0] > 0].shape
    (1, 3)
    """

    def __init__(self, space: Source, digests: np.ndarray, views: np.ndarray) -> None:
        self._digests = digests
        self._views = views
        self._at = space, space.locate(digests, views)  # one attribute, since another thread may look the rows up again
        self.shape: tuple[int, ...] = (len(digests), *(space.row_shape or ()))
        self.dtype = space.dtype

    @property
    def space(self) -> Source:
        """The space that the rows are in."""
        return self._at[0]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row as it is read."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the array, were it read as a whole."""
        return len(self) * self.row_bytes

    @property
    def digest(self) -> str:
        """The digest that identifies these rows in any order: hexadecimal BLAKE2b of the spec and the distinct keys."""
        views = np.ascontiguousarray(self._views, "<u4")[:, None].view(np.uint8)
        keys = np.unique(np.concatenate([self._digests, views], axis=1), axis=0)
        return hashlib.blake2b(self.space.spec.to_json().encode() + keys.tobytes(), digest_size=16).hexdigest()

    def keys(self, positions: Any = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Digests and views of the rows at `positions`: shape (m, 16), uint8, and (m,), uint32."""
        return self._digests[positions], self._views[positions]

    def take(self, positions: np.ndarray) -> Features:
        """The features of some rows, in that order; nothing is read."""
        return Features(self.space, *self.keys(positions))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        try:
            return self._at_index(index)
        except (IndexError, TypeError, ValueError):
            np.broadcast_to(np.zeros((), np.int8), self.shape)[index]  # raises what NumPy has to say of this index
            raise

    def _at_index(self, index: Any) -> np.ndarray:
        first, rest = (index[0], index[1:]) if isinstance(index, tuple) and index else (index, ())
        if first is Ellipsis or first is None or (isinstance(index, tuple) and not index):
            return np.asarray(self)[index]
        if np.ndim(first) != 1 and not isinstance(first, slice) and np.asarray(first).dtype == bool:
            return np.asarray(self)[index]  # single elements, from anywhere; or an axis more
        rows = self._rows(_as_index(first))
        if not rest:
            return rows
        chosen = np.arange(len(self))[_as_index(first)]
        # Only now does NumPy see the index whole: its rules for several arrays are not those of one after another.
        inside = slice(None) if isinstance(first, slice) else np.arange(chosen.size).reshape(chosen.shape)[()]
        return np.reshape(rows, (chosen.size, *self.shape[1:]))[(inside, *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("features are on disk: an array of them is always a copy.")
        rows = self._rows(np.arange(len(self)))
        return rows if dtype is None else rows.astype(dtype, copy=False)

    def __repr__(self) -> str:
        spec = self.space.spec
        return (
            f"<Features of {spec.net}/{spec.layer}, {spec.pooling}: {shape_text(self.shape)}, {self.dtype}; "
            f"{shown(self.space.folder)}>"
        )

    def _repr_html_(self) -> str:
        spec = self.space.spec
        rows = [
            ("net", f"{spec.net}, {spec.weights}"),
            ("layer", spec.layer),
            ("pooling", spec.pooling),
            ("shape", shape_text(self.shape)),
            ("dtype", self.dtype),
            ("size", size_text(self.nbytes)),
            ("folder", shown(self.space.folder)),
        ]
        return html_table("Features", rows)

    def __reduce__(self) -> tuple[Any, ...]:
        """Other processes open the files themselves."""
        return Features, (self.space.again(), self._digests, self._views)

    def batches(
        self, size: int, *, shuffle: bool = False, seed: int = 0, prefetch: int = 1
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches of rows and their positions, each row once.

        Parameters
        ----------
        size : int
            Rows a batch; the last may be smaller.
        shuffle : bool
            In random order, the same for the same `seed`.
        prefetch : int
            The number of batches that a thread reads ahead; 0 reads each when it is requested.

        Yields
        ------
        rows : ndarray of shape (m, *row_shape)
            Read-only where not shuffled.
        positions : ndarray of shape (m,), int64
        """
        if size < 1:
            raise ValueError(f"a batch has at least 1 row; received {size}.")
        order = np.random.default_rng(seed).permutation(len(self)) if shuffle else np.arange(len(self))

        def load(start: int) -> tuple[np.ndarray, np.ndarray]:
            positions = order[start : start + size]
            return self[positions] if shuffle else self[start : start + size], positions

        yield from read_ahead(map(load, range(0, len(order), size)), prefetch)

    def _rows(self, index: Any) -> np.ndarray:
        for _ in range(MOST_ATTEMPTS):
            space, ids = self._at
            try:
                return space.read(ids[index], view=isinstance(index, slice | int | np.integer))
            except SegmentGone:
                space = space.again()
                self._at = space, space.locate(self._digests, self._views)
        raise StorageFailure(f"{shown(space.folder)} changes too fast to be read.")


def _as_index(index: Any) -> Any:
    """One index as NumPy sees it inside a tuple: sequences are arrays, and empty ones select nothing."""
    if not isinstance(index, list | tuple):
        return index
    array = np.asarray(index)
    return array if array.size else array.astype(np.intp)
