"""`Joined`: several features of the same images, side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from feature_cache.features import Features
from feature_cache.representation import html_table, shape_text

PART_HEAD = ("net", "layer", "shape", "dtype")


class Joined:
    """A lazy, read-only array of shape (n, d): the flattened rows of all parts, one after another.

    It has `len`, `shape`, `dtype` and `ndim`; a slice, an integer array or a boolean array gives rows, and
    ``np.asarray`` reads everything.

    Parameters
    ----------
    parts : sequence of Features
        All of the same keys in the same order.

    Raises
    ------
    ValueError
        When their keys differ.
    """

    def __init__(self, parts: Sequence[Features]) -> None:
        keys = [part.keys() for part in parts]
        if not parts or any(
            not np.array_equal(one, other) for key in keys for one, other in zip(key, keys[0], strict=True)
        ):
            raise ValueError("features are joined where they are of the same images, in the same order.")
        self.parts = list(parts)
        self.shape = len(parts[0]), sum(int(np.prod(part.shape[1:], dtype=np.int64)) for part in parts)
        self.dtype = np.result_type(*(part.dtype for part in parts))
        self.ndim = 2

    def __repr__(self) -> str:
        sides = " + ".join(f"{part.space.spec.net}/{part.space.spec.layer}" for part in self.parts)
        return f"<Joined features of {sides}: {shape_text(self.shape)}, {self.dtype}>"

    def _repr_html_(self) -> str:
        rows = [(part.space.spec.net, part.space.spec.layer, shape_text(part.shape), part.dtype) for part in self.parts]
        return html_table(f"Joined features: {shape_text(self.shape)}, {self.dtype}", rows, PART_HEAD)

    @property
    def digest(self) -> str:
        """The digest that identifies these rows (see `Features.digest`)."""
        return hashlib.blake2b("".join(part.digest for part in self.parts).encode(), digest_size=16).hexdigest()

    def keys(self, positions: Any = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Digests and views of the rows at `positions` (see `Features.keys`)."""
        return self.parts[0].keys(positions)

    def take(self, positions: np.ndarray) -> Joined:
        """The features of some rows, in that order; nothing is read."""
        return Joined([part.take(positions) for part in self.parts])

    @property
    def nbytes(self) -> int:
        """Bytes of the array, were it read as a whole."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        if isinstance(index, tuple) or (not isinstance(index, slice) and np.ndim(index) != 1):
            return np.asarray(self)[index]
        return _side_by_side([part[index] for part in self.parts])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("features are on disk: an array of them is always a copy.")
        rows = self[:]
        return rows if dtype is None else rows.astype(dtype, copy=False)

    def batches(self, size: int, **options: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches of rows and their positions (see `Features.batches`)."""
        for parts in zip(*(part.batches(size, **options) for part in self.parts), strict=True):
            yield _side_by_side([rows for rows, _ in parts]), parts[0][1]


def _side_by_side(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([rows.reshape(len(rows), int(np.prod(rows.shape[1:]))) for rows in parts], axis=1)
