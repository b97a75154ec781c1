"""`Space`: all segments of one feature spec, as they are listed, read and added to."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import DamagedFile, LayertapError, MissingFeatures, StorageFailure, one_line
from feature_cache.features import Features
from feature_cache.files.atomic import new_file, new_folder, remove_abandoned
from feature_cache.files.checked import read_text
from feature_cache.remote import storage
from feature_cache.representation import shape_text
from feature_cache.segments import encoding, index, segment
from feature_cache.segments.index import STALE_ROWS, STALE_SEGMENTS, KeyIndex, ListedSegment
from feature_cache.segments.layout import SEGMENTS, SPEC_FILE
from feature_cache.segments.row_store import MOST_ATTEMPTS, RowStore, SegmentGone
from feature_cache.spec import FeatureSpec
from feature_cache.units import size_text
from feature_cache.writer import SpaceWriter


@dataclass(frozen=True)
class Space:
    """The rows of one spec: a snapshot of the complete segments that its folder holds when it is first looked at.

    Parameters
    ----------
    folder : Path
        It need not exist.
    spec : FeatureSpec

    Examples
    --------
    >>> import tempfile
    >>> from feature_cache import FeatureCache
    >>> spec = FeatureSpec(net="example", weights="random-0", layer="last", size=(32, 32))
    >>> space = FeatureCache(tempfile.mkdtemp())[spec]
    >>> digests = np.arange(48, dtype=np.uint8).reshape(3, 16)  # of three images
    >>> with space.writer({}) as writer:
    ...     writer.append(digests[:2], np.ones((2, 5), np.float32))
    >>> space = space.again()
    >>> space  # doctest: +ELLIPSIS
    <Space example-last-avg-...: 2 rows of 5, float32, ... kB; ...>
    >>> space.has(digests).tolist()
    [True, True, False]
    """

    folder: Path
    spec: FeatureSpec

    def __repr__(self) -> str:
        try:
            rows = f"{len(self):,} rows of {shape_text(self.row_shape or ())}, {self.dtype}, {size_text(self.nbytes)}"
        except (LayertapError, OSError) as error:
            rows = one_line(error)
        return f"<Space {self.spec.folder_name}: {rows}; {storage.shown(self.folder.parent)}>"

    @property
    def place(self) -> str:
        """The folder for messages; of a space in a bucket, its URL."""
        return storage.shown(self.folder)

    @cached_property
    def index(self) -> KeyIndex:
        """The keys of all rows. Only segments that the index file does not list are opened.

        Raises
        ------
        DamagedFile
            When one of those cannot be read.
        """
        spec_file = self.folder / SPEC_FILE
        if spec_file.exists() and read_spec(spec_file) != self.spec:
            raise DamagedFile(f"{self.place} holds features of another spec than its name says; move it away.")
        for _ in range(MOST_ATTEMPTS):
            with contextlib.suppress(FileNotFoundError):  # compacted between listing and opening: list again
                return self._updated_index()
        raise StorageFailure(f"{self.place} changes too fast to be read.")

    def _updated_index(self) -> KeyIndex:
        """The stored index, brought up to date with the segments that are in the folder now."""
        files = _segment_files(self.folder)
        stored = index.load(self.folder, self.spec.to_json()) if files else KeyIndex.of([])
        known = [number for number, part in enumerate(stored.listed) if files.get(part.name) == (part.size, part.mtime)]
        names = {stored.listed[number].name for number in known}
        paths = [self.folder / name for name in sorted(files.keys() - names)]
        fresh = [segment.read(path, self.spec) for path in storage.looked_ahead(paths)]
        dropped = len(stored.listed) - len(known)
        if not fresh and not dropped:
            return stored
        starts = stored.starts
        updated = KeyIndex.of(
            [
                (stored.listed[n], stored.digests[starts[n] : starts[n + 1]], stored.views[starts[n] : starts[n + 1]])
                for n in known
            ]
            + [(ListedSegment(part.path.name, *part.stamp, len(part)), part.digests, part.views) for part in fresh]
        )
        if len(fresh) + dropped >= STALE_SEGMENTS or sum(map(len, fresh)) >= STALE_ROWS:
            updated.save(self.folder, self.spec.to_json())
        return updated

    @cached_property
    def _store(self) -> RowStore:
        return RowStore(self.folder, self.spec, self.index)

    def again(self) -> Space:
        """The space as its segments are now."""
        return Space(self.folder, self.spec)

    def __len__(self) -> int:
        """The number of different rows."""
        return len(self.index.distinct)

    @property
    def segments(self) -> list[segment.Segment]:
        """The segments as they are now, opened.

        Raises
        ------
        DamagedFile
            When one cannot be read.
        """
        space = self
        for _ in range(MOST_ATTEMPTS):
            try:
                return space.opened()
            except SegmentGone:
                space = space.again()
        raise StorageFailure(f"{self.place} changes too fast to be read.")

    def opened(self) -> list[segment.Segment]:
        """The segments of this snapshot, opened, in the order of `index`.

        Raises
        ------
        SegmentGone
            When a segment has been removed.
        DamagedFile
            When one cannot be read.
        """
        return [self._store.segment(number) for number in range(len(self.index.listed))]

    @cached_property
    def row_shape(self) -> tuple[int, ...] | None:
        """Shape of one row, or None while the space is empty."""
        part = self.any_segment()
        return None if part is None else part.row_shape

    def any_segment(self) -> segment.Segment | None:
        """One of the segments that have rows, opened, or None while the space is empty.

        Raises
        ------
        DamagedFile
            When it cannot be read.
        """
        for number, listed in enumerate(self.index.listed):
            if listed.rows:
                try:
                    return self._store.segment(number)
                except SegmentGone:
                    return self.again().any_segment()
        return None

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the rows as they are read; codes are decoded."""
        return encoding.decoded_dtype(self.spec)

    @property
    def nbytes(self) -> int:
        """Bytes on disk of the segments."""
        return sum(part.size for part in self.index.listed)

    def has(self, digests: np.ndarray, views: np.ndarray | None = None) -> np.ndarray:
        """Which rows are in the space: a boolean array of shape (n,), for digests of shape (n, 16)."""
        return self.index.find(digests, _views(digests, views)) >= 0

    def rows(self, digests: np.ndarray, views: np.ndarray | None = None) -> Features:
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
        self.touch()
        return Features(self, digests, _views(digests, views))

    def all_rows(self) -> Features:
        """Every row once, in the order of the segments."""
        return self.rows(*self.keys())

    def keys(self) -> tuple[np.ndarray, np.ndarray]:
        """Digests and views of all rows, each key once."""
        ids = self.index.distinct
        return self.index.digests[ids], self.index.views[ids]

    def locate(self, digests: np.ndarray, views: np.ndarray) -> np.ndarray:
        """Ids of rows, for `read`: shape (n,), int64.

        Raises
        ------
        MissingFeatures
            When some are not in the cache.
        """
        ids = self.index.find(digests, views)
        missing = int((ids < 0).sum())
        if missing:
            raise MissingFeatures(
                f"{missing} of {len(digests)} rows of {self.spec.folder_name} are not in "
                f"{storage.shown(self.folder.parent)}."
            )
        return ids

    def seconds(self, digests: np.ndarray, views: np.ndarray | None = None) -> float | None:
        """How long computing these rows took: the time of each segment, in proportion to its rows that are among these.

        Returns
        -------
        float or None
            None where a segment does not record its time, or has been removed.

        Raises
        ------
        MissingFeatures
            When some are not in the cache.
        """
        ids = np.unique(self.locate(digests, _views(digests, views)))
        numbers, counts = np.unique(np.searchsorted(self.index.starts, ids, "right") - 1, return_counts=True)
        total = 0.0
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            try:
                part = self._store.segment(number)
            except SegmentGone:
                return None
            seconds = part.provenance.get("seconds")
            if not isinstance(seconds, int | float) or "shrunk_from" in part.provenance:
                return None
            total += seconds * count / len(part)
        return total

    def read(self, ids: np.ndarray, *, view: bool = False) -> np.ndarray:
        """The rows with these ids: shape (*ids.shape, *row_shape).

        Parameters
        ----------
        view : bool
            Read-only, and without a copy where the rows lie in one piece.

        Raises
        ------
        SegmentGone
            When a segment has been removed.
        DamagedFile
            When a segment or a row is not as it was written.
        """
        flat = np.reshape(ids, -1)
        rows = None
        if not len(flat):
            return np.empty((*np.shape(ids), *(self.row_shape or ())), self.dtype)
        if view and (flat[1:] - flat[:-1] == 1).all():
            rows = self._store.view(int(flat[0]), int(flat[-1]) + 1)
        if rows is None:
            rows = self.stored(flat)
        rows = encoding.decode(rows, self.spec, self._store.coding)
        if view:
            rows.flags.writeable = False
        return rows if np.ndim(ids) == 1 else rows.reshape((*np.shape(ids), *rows.shape[1:]))[()]

    def stored(self, ids: np.ndarray) -> np.ndarray:
        """Copies of the rows with these ids as they are stored, before decoding.

        Raises
        ------
        SegmentGone, DamagedFile
            As for `read`.
        """
        return self._store.gather(ids)

    def writer(self, provenance: dict, **options: Any) -> SpaceWriter:
        """A writer that adds segments to this space, creating its folder; see `SpaceWriter` for the options.

        Raises
        ------
        StorageFailure
            When the folder cannot be made.
        """
        self.create()
        return SpaceWriter(self.folder, self.spec, provenance, **options)

    def create(self) -> None:
        """Make the folder and its `spec.json`, unless they exist.

        Raises
        ------
        StorageFailure
            When they cannot be made.
        """
        try:
            new_folder(self.folder)
            if not (self.folder / SPEC_FILE).exists():
                with new_file(self.folder / SPEC_FILE) as file:
                    file.write(self.spec.to_json().encode())
            storage.share(self.folder / SPEC_FILE)
            remove_abandoned(self.folder)
        except StorageFailure:
            raise
        except OSError as error:
            raise StorageFailure(
                f"cannot write to the cache folder {self.folder}: {error.strerror}; choose another with `cache`."
            ) from error
        self.touch()

    def touch(self) -> None:
        """Record that the space is in use, if its folder can be written."""
        with contextlib.suppress(OSError):
            storage.used(self.folder)

    @property
    def last_used(self) -> float:
        """When the space was last read or written, in seconds since the epoch."""
        return storage.last_used(self.folder)


def read_spec(file: Path) -> FeatureSpec:
    """The spec of a space, from its `spec.json`.

    Raises
    ------
    DamagedFile
        When it cannot be read.
    """
    storage.bring(file)
    try:
        return FeatureSpec.from_json(read_text(file))
    except (DamagedFile, OSError, UnicodeError) as error:
        raise DamagedFile(f"{storage.shown(file)} cannot be read: {error}") from error


def _segment_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Sizes and times of the segments in a folder, by name.

    Raises
    ------
    FileNotFoundError
        When one vanishes meanwhile.
    """
    if (listed := storage.segment_stamps(folder)) is not None:
        return listed
    names = segment_names(folder)
    for _ in range(MOST_ATTEMPTS):  # a listing may miss a file that appears or disappears while it is read
        before, names = names, segment_names(folder)
        if names == before:
            break
    else:
        names |= before  # a file that has been removed raises, and the caller lists the folder again
    return {name: segment.file_stamp(folder / name) for name in sorted(names)}


def segment_names(folder: Path) -> set[str]:
    """The names of the segments that are in a folder now."""
    listed = storage.segment_stamps(folder)
    return {path.name for path in folder.glob(SEGMENTS)} if listed is None else set(listed)


def _views(digests: np.ndarray, views: np.ndarray | None) -> np.ndarray:
    return np.zeros(len(digests), np.uint32) if views is None else views
