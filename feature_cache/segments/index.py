"""The index of a space: which rows its segments hold, so that a look-up need not open them.

The index is stored in a file beside the segments, and rebuilt from them whenever that file is missing, damaged or out
of date. Segments never change, so an unchanged name, size and time mean an unchanged segment.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from feature_cache.errors import StorageFailure
from feature_cache.files.atomic import new_file
from feature_cache.files.checked import LARGEST_TEXT, open_regular
from feature_cache.keys import DIGEST_BYTES
from feature_cache.process.memory import compact
from feature_cache.segments.layout import FORMAT, INDEX_FILE

# The file is rewritten when this many segments, or rows, would otherwise have to be read at every look-up.
STALE_SEGMENTS = 8
STALE_ROWS = 200_000
BLOCK = 2**16  # keys that are looked up at a time


@dataclass(frozen=True)
class ListedSegment:
    """The name, size and time of a segment's file, by which a change would show, and the number of its rows."""

    name: str
    size: int
    mtime: int
    rows: int


@dataclass(frozen=True)
class KeyIndex:
    """The keys of all rows of some segments, segment after segment; a row's *id* is its place in them.

    Attributes
    ----------
    listed : tuple of ListedSegment
    digests : ndarray of shape (n, 16), uint8
    views : ndarray of shape (n,), uint32
    """

    listed: tuple[ListedSegment, ...]
    digests: np.ndarray
    views: np.ndarray

    @classmethod
    def of(cls, parts: list[tuple[ListedSegment, np.ndarray, np.ndarray]]) -> KeyIndex:
        """The index of segments, each with its digests and views."""
        return cls(
            tuple(listed for listed, _, _ in parts),
            np.concatenate([np.zeros((0, DIGEST_BYTES), np.uint8), *(digests for _, digests, _ in parts)]),
            np.concatenate([np.zeros(0, np.uint32), *(views for _, _, views in parts)]),
        )

    def __len__(self) -> int:
        return len(self.views)

    @cached_property
    def starts(self) -> np.ndarray:
        """The id of each segment's first row, and last the number of all: shape (segments + 1,), int64."""
        return np.concatenate([[0], np.cumsum([part.rows for part in self.listed], dtype=np.int64)]).astype(np.int64)

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """Short keys in ascending order, and the ids that they belong to."""
        short = _short_keys(self.digests, self.views)
        order = np.argsort(short, kind="stable")
        return short[order], compact(order)

    def find(self, digests: np.ndarray, views: np.ndarray) -> np.ndarray:
        """The id of each key, and -1 for keys that are not in the space.

        Parameters
        ----------
        digests : ndarray of shape (n, 16), uint8
        views : ndarray of shape (n,), uint32

        Returns
        -------
        ndarray of shape (n,), int64
        """
        found = np.full(len(digests), -1, np.int64)
        if len(self):
            for start in range(0, len(digests), BLOCK):  # what is needed meanwhile takes seven times as much memory
                block = slice(start, start + BLOCK)
                found[block] = self._find(digests[block], views[block])
        return found

    def _find(self, digests: np.ndarray, views: np.ndarray) -> np.ndarray:
        found = np.full(len(digests), -1, np.int64)
        short, ids = self._sorted
        keys = _short_keys(digests, views)
        pending = np.argsort(keys)  # in order: the search stays in the processor's caches
        places = np.searchsorted(short, keys[pending])
        # Different keys may have one short key, by chance or by malice: then the next places are tried.
        while len(pending):
            same = places < len(short)
            same[same] = short[places[same]] == keys[pending[same]]
            pending, places = pending[same], places[same]
            candidates = ids[places]
            equal = (self.digests[candidates] == digests[pending]).all(1) & (self.views[candidates] == views[pending])
            found[pending[equal]] = candidates[equal]
            pending, places = pending[~equal], places[~equal] + 1
        return found

    @cached_property
    def first(self) -> np.ndarray:
        """For each id, the smallest id with the same key: itself, unless an earlier row is a copy."""
        first = np.arange(len(self))
        short, ids = self._sorted
        like_next = short[1:] == short[:-1]
        shared = ids[np.concatenate([like_next, [False]]) | np.concatenate([[False], like_next])] if len(self) else ids
        first[shared] = self.find(self.digests[shared], self.views[shared])
        return first

    @property
    def distinct(self) -> np.ndarray:
        """The ids of all distinct keys, in ascending order."""
        return np.flatnonzero(self.first == np.arange(len(self)))

    def save(self, folder: Path, spec: str) -> None:
        """Store the index in `folder`, if the folder can be written."""
        listed = [[part.name, part.size, part.mtime, part.rows] for part in self.listed]
        head = json.dumps({"layertap_format": FORMAT, "spec": spec, "segments": listed}).encode()
        parts = [len(head).to_bytes(8, "little"), head, self.digests.tobytes(), self.views.astype("<u4").tobytes()]
        with contextlib.suppress(StorageFailure), new_file(folder / INDEX_FILE, "the index", sync=False) as file:
            file.write(_checksum(parts))
            for part in parts:
                file.write(part)


def load(folder: Path, spec: str) -> KeyIndex:
    """The index that is stored in `folder`; an empty index where no usable one is stored.

    The file is plain, not HDF5, so that only its head is parsed before its checksum is compared. Its size must be
    the one that follows from its head, so that a sparse file is not read.
    """
    try:
        with open_regular(folder / INDEX_FILE) as stream:
            size = os.fstat(stream.fileno()).st_size
            check, length = stream.read(16), stream.read(8)
            columns = 24 + int.from_bytes(length, "little")
            if columns > min(size, LARGEST_TEXT):
                raise ValueError("its head is larger than the file")
            text = stream.read(columns - 24)
            listed = _listed(json.loads(text), spec)
            rows = sum(part.rows for part in listed)
            views = DIGEST_BYTES * rows
            if size != columns + views + 4 * rows:
                raise ValueError("its size is not that of its rows")
            content = memoryview(stream.read())
        if check == _checksum([length, text, content]):
            return KeyIndex(
                listed,
                np.frombuffer(content[:views], np.uint8).reshape(rows, DIGEST_BYTES),
                np.frombuffer(content[views:], "<u4"),
            )
    except (OSError, ValueError, KeyError, TypeError, RecursionError, MemoryError):
        pass
    return KeyIndex.of([])


def _listed(head: dict[str, Any], spec: str) -> tuple[ListedSegment, ...]:
    """The segments that the head of the file names.

    Raises
    ------
    KeyError, TypeError, ValueError
        When it is no such head, or of another spec.
    """
    if (head["layertap_format"], head["spec"]) != (FORMAT, spec):
        raise ValueError("it is the index of another space")
    listed = tuple(ListedSegment(*entry) for entry in head["segments"])
    for part in listed:
        numbers = (part.size, part.mtime, part.rows)
        if not isinstance(part.name, str) or any(type(number) is not int for number in numbers):
            raise TypeError("it names segments by other types")
        if part.rows < 0 or part.rows * (DIGEST_BYTES + 4) > part.size:
            raise ValueError("it has more rows than a segment holds")
    if len({part.name for part in listed}) < len(listed):
        raise ValueError("it names a segment twice")
    return listed


def _short_keys(digests: np.ndarray, views: np.ndarray) -> np.ndarray:
    """64 bits of each key: digests are evenly distributed, and each view of an image gets another value."""
    heads = np.ascontiguousarray(digests[:, :8]).view("<u8").reshape(-1)
    return heads + views.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def _checksum(parts: Iterable[bytes | memoryview]) -> bytes:
    """XXH3-128 of the parts one after another, 16 bytes."""
    state = xxhash.xxh3_128()
    for part in parts:
        state.update(part)
    return state.digest()
