"""The cache folder, and the spaces in it: all segments of one feature spec."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from feature_cache import segment
from feature_cache.errors import DamagedFile, MissingFeatures, StorageFailure
from feature_cache.keys import DigestMemo, row_keys
from feature_cache.reader import Features
from feature_cache.spec import FeatureSpec
from feature_cache.writer import SpaceWriter

SPEC_FILE = "spec.json"
MEMO_FILE = "digests.sqlite"


@dataclass(frozen=True)
class Cache:
    """A cache folder, ``./features`` unless the user says otherwise. It need not exist yet."""

    root: Path

    @property
    def memo(self) -> DigestMemo:
        """What is known of the digests of files on this machine."""
        return DigestMemo(self.root / MEMO_FILE)

    def space(self, spec: FeatureSpec) -> Space:
        """The space of `spec`, as its segments are now."""
        return Space(self.root / spec.folder, spec)

    def spaces(self) -> list[str]:
        """The names of the spaces in the cache, sorted."""
        return sorted(file.parent.name for file in self.root.glob(f"*/{SPEC_FILE}"))

    def open(self, name: str) -> Space:
        """The space called `name`.

        Raises
        ------
        DamagedFile
            When its spec cannot be read.
        """
        return Space(self.root / name, _read_spec(self.root / name / SPEC_FILE))


@dataclass(frozen=True)
class Space:
    """The rows of one spec: a snapshot of the folder's complete segments when first looked at."""

    folder: Path
    spec: FeatureSpec

    @cached_property
    def segments(self) -> list[segment.Segment]:
        """The complete segments, in the order of their names.

        Raises
        ------
        DamagedFile
            When one cannot be read, or holds rows of another shape than the first.
        """
        if not self.folder.is_dir():
            return []
        if (self.folder / SPEC_FILE).exists() and _read_spec(self.folder / SPEC_FILE) != self.spec:
            raise DamagedFile(f"{self.folder} holds features of another spec than its name says; move it away.")
        found = [segment.read(path, self.spec) for path in sorted(self.folder.glob(segment.PATTERN))]
        for other in found[1:]:
            if other.row_shape != found[0].row_shape:
                raise DamagedFile(
                    f"{other.path} holds rows of shape {other.row_shape}, {found[0].path.name} "
                    f"of {found[0].row_shape}; move the wrong one away."
                )
        return [part for part in found if len(part)]

    @cached_property
    def index(self) -> dict[bytes, tuple[int, int]]:
        """Segment number and row number of every key."""
        where: dict[bytes, tuple[int, int]] = {}
        for number, part in enumerate(self.segments):
            for row, key in enumerate(row_keys(part.digests, part.views)):
                where[key] = (number, row)
        return where

    @property
    def row_shape(self) -> tuple[int, ...] | None:
        """Shape of one row, or None while there is none."""
        return self.segments[0].row_shape if self.segments else None

    @property
    def nbytes(self) -> int:
        """Bytes on disk of the segments."""
        return sum(part.path.stat().st_size for part in self.segments)

    def has(self, digests: np.ndarray, views: np.ndarray | None = None) -> np.ndarray:
        """Which rows are here: a boolean array of shape (n,) for digests of shape (n, 16)."""
        index = self.index
        return np.fromiter((key in index for key in row_keys(digests, _views(digests, views))), bool, len(digests))

    def features(self, digests: np.ndarray, views: np.ndarray | None = None) -> Features:
        """The rows of these images, in this order, read from disk as they are used.

        Parameters
        ----------
        digests : ndarray of shape (n, 16), uint8
        views : ndarray of shape (n,), uint32, optional
            View numbers; all 0 if left out.

        Raises
        ------
        MissingFeatures
            When some are not in the cache.
        """
        keys = row_keys(digests, _views(digests, views))
        index = self.index
        missing = sum(key not in index for key in keys)
        if missing:
            raise MissingFeatures(
                f"{missing} of {len(keys)} rows of {self.spec.folder} are not in {self.folder.parent}."
            )
        places = np.array([index[key] for key in keys], dtype=np.int64).reshape(len(keys), 2)
        return Features(self.segments, places, np.dtype(self.spec.dtype))

    def writer(self, provenance: dict) -> SpaceWriter:
        """A writer that adds segments to this space, creating its folder.

        Raises
        ------
        StorageFailure
            When the folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / SPEC_FILE).exists():
                aside = self.folder / f".{SPEC_FILE}.{uuid.uuid4().hex}.tmp"
                aside.write_text(self.spec.to_json())
                aside.replace(self.folder / SPEC_FILE)
            segment.remove_abandoned(self.folder)
        except OSError as error:
            raise StorageFailure(
                f"cannot write to the cache folder {self.folder}: {error.strerror}; choose another with --cache."
            ) from error
        return SpaceWriter(self.folder, self.spec, provenance)


def _views(digests: np.ndarray, views: np.ndarray | None) -> np.ndarray:
    return np.zeros(len(digests), np.uint32) if views is None else views


def _read_spec(file: Path) -> FeatureSpec:
    try:
        return FeatureSpec.from_json(file.read_text())
    except (DamagedFile, OSError, UnicodeError) as error:
        raise DamagedFile(f"{file} cannot be read: {error}") from error
