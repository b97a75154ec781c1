"""`RowStore`: the rows of a space as they are on disk, read in any order and checked when first touched."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from feature_cache.errors import DamagedFile
from feature_cache.process.memory import require_room
from feature_cache.remote import storage
from feature_cache.segments import compression, segment
from feature_cache.segments.encoding import Parameters
from feature_cache.segments.index import KeyIndex
from feature_cache.segments.layout import block_check
from feature_cache.segments.mapping import Window, map_file
from feature_cache.segments.segment import Segment, damaged
from feature_cache.spec import FeatureSpec

# How many times a space is looked up again when its segments are compacted at the same time.
MOST_ATTEMPTS = 10


class SegmentGone(Exception):
    """A segment is not what the index says any more: it was compacted, set aside or removed."""


class RowStore:
    """Rows by their id in an index. Segments are opened, and blocks checked, when first needed.

    Parameters
    ----------
    folder : Path
        The folder of the space.
    spec : FeatureSpec
    index : KeyIndex
        The segments of the space, and the keys of their rows.
    """

    def __init__(self, folder: Path, spec: FeatureSpec, index: KeyIndex) -> None:
        self._folder = folder
        self._spec = spec
        self._index = index
        self._lock = threading.RLock()
        self._segments: list[Segment | None] = [None] * len(index.listed)
        self._maps: list[np.ndarray | None] = [None] * len(index.listed)
        self._is_mapped = np.zeros(len(index.listed), bool)  # or cannot be
        self._maps_any = storage.is_mapped(folder, sum(part.size for part in index.listed))
        self._slots = np.full(len(index.listed), -1)  # number of a segment's map in the window
        self._window: Window | None = None
        self._first: Segment | None = None  # the first with rows that was opened: the others are to be like it
        self._checked = np.zeros(len(index), bool)
        self._placed: tuple[Window, np.ndarray] | None = None  # where every row is, once all are in one window

    def segment(self, number: int) -> Segment:
        """The opened segment.

        Raises
        ------
        SegmentGone, DamagedFile
        """
        part = self._segments[number]
        if part is None:
            with self._lock:
                part = self._segments[number]
                if part is None:
                    part = self._segments[number] = self._open(number)
        return part

    @property
    def coding(self) -> Parameters:
        """Parameters of the codes that rows are stored as; the same in all segments, as the spec names them."""
        part = next((part for part in self._segments if part is not None), None)
        return part.coding if part is not None else {}

    def gather(self, ids: np.ndarray) -> np.ndarray:
        """Copies of rows as they are stored, before decoding: shape (n, *row_shape).

        Raises
        ------
        SegmentGone
            When a segment is not there any more.
        DamagedFile
            When the bytes of a row are not those that were written.
        """
        if len(ids) and self._first:
            require_room(len(ids) * self._first.row_bytes, f"{len(ids):,} rows of features")
        if self._placed and self._first:
            all_rows, places = self._placed
            raw = all_rows.gather(places[ids])
            if not self._checked[ids].all():
                self._check(ids, *self._locate(ids), raw)
            return raw.view(self._first.dtype).reshape(len(ids), *self._first.row_shape)
        parts, numbers = self._locate(ids)
        first = self.segment(int(parts[0]))
        slots, window = self._slots[parts], self._window  # in this order: see _widen
        if (slots < 0).any():
            self._widen(np.unique(parts).tolist())
            slots, window = self._slots[parts], self._window
        if window is not None and (slots >= 0).all():
            raw = window.gather(window.places(slots, numbers))
        else:
            raw = np.empty((len(ids), first.row_bytes), np.uint8)
            for part in np.unique(parts).tolist():
                here = np.flatnonzero(parts == part)
                self._read(part, numbers[here], raw, here)
        self._check(ids, parts, numbers, raw)
        return raw.view(first.dtype).reshape(len(ids), *first.row_shape)

    def view(self, start: int, stop: int) -> np.ndarray | None:
        """The rows with ids `start` to `stop`, read-only and without a copy; None where they are not in one map."""
        starts = self._index.starts
        number = int(starts.searchsorted(start, side="right")) - 1
        part, rows = self.segment(number), self._mapped(number)
        if rows is None or stop > starts[number + 1]:
            return None
        first = int(starts[number])
        raw = rows[start - first : stop - first]
        if not self._checked[start:stop].all():
            ids = np.arange(start, stop)
            self._check(ids, np.full(len(ids), number), ids - first, raw)
        return raw.view(part.dtype).reshape(stop - start, *part.row_shape)

    def _locate(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each id, the number of its segment and the number of the row in that segment."""
        parts = np.searchsorted(self._index.starts, ids, side="right") - 1
        return parts, ids - self._index.starts[parts]

    def _open(self, number: int) -> Segment:
        path = self._folder / self._index.listed[number].name
        try:
            part = segment.read(path, self._spec)
            if not self._is_indexed(number, part):
                raise SegmentGone(path)
            if len(part):
                self._first = self._first or part
                if part.row_shape != self._first.row_shape:
                    raise DamagedFile(
                        f"{part.path} holds rows of shape {part.row_shape}, "
                        f"{self._first.path.name} rows of shape {self._first.row_shape}; "
                        "move the wrong one away."
                    )
        except FileNotFoundError as error:
            raise SegmentGone(path) from error
        return part

    def _is_indexed(self, number: int, part: Segment) -> bool:
        """Whether the index describes a segment as it is."""
        listed, start = self._index.listed[number], int(self._index.starts[number])
        rows = slice(start, start + listed.rows)
        return (
            part.stamp == (listed.size, listed.mtime)
            and np.array_equal(part.digests, self._index.digests[rows])
            and np.array_equal(part.views, self._index.views[rows])
        )

    def _mapped(self, number: int) -> np.ndarray | None:
        """The rows of a segment in its memory map; None where it has none.

        Raises
        ------
        SegmentGone
            When it is not there any more.
        """
        if not self._is_mapped[number]:
            with self._lock:
                part = self.segment(number)
                if self._maps_any and part.chunks is None and part.row_bytes and len(part):
                    try:
                        mapped = map_file(part.path, part.offset + len(part) * part.row_bytes)
                    except FileNotFoundError as error:
                        raise SegmentGone(part.path) from error
                    if mapped is not None:
                        self._maps[number] = mapped[part.offset :].reshape(len(part), part.row_bytes)
                self._is_mapped[number] = True
        return self._maps[number]

    def _widen(self, numbers: list[int]) -> None:
        """Open these segments, and add those that are mapped to the window."""
        if self._maps_any:
            storage.fetch_ahead([self._folder / self._index.listed[number].name for number in numbers])
        for number in numbers:
            self._mapped(number)
        with self._lock:
            new = [number for number in numbers if self._slots[number] < 0 and self._maps[number] is not None]
            in_window = self._window.rows if self._window else []
            wider = [*in_window, *(rows for number in new if (rows := self._maps[number]) is not None)]
            if new and Window.spans(wider):
                # First the window, then the slots: a thread that gathers meanwhile reads them the other way round.
                self._window = Window(wider)
                self._slots[new] = np.arange(len(in_window), len(wider))
                if (self._slots >= 0).all():  # finding rows is then one step
                    parts, rows = self._locate(np.arange(len(self._checked)))
                    self._placed = self._window, self._window.places(self._slots[parts], rows)

    def _read(self, number: int, numbers: np.ndarray, out: np.ndarray, places: np.ndarray) -> None:
        """Read rows of one segment into ``out[places]``."""
        part, rows = self.segment(number), self._mapped(number)
        if rows is not None:
            out[places] = rows[numbers]
        elif part.chunks is not None:
            self._read_chunks(part, part.chunks, numbers, out, places)
        elif part.row_bytes:
            with _opened(part) as handle:
                for place, row in zip(places.tolist(), numbers.tolist(), strict=True):
                    offset = part.offset + row * part.row_bytes
                    if os.preadv(handle, [out[place]], offset) != part.row_bytes:
                        raise damaged(part.path, "its features are cut short")

    def _read_chunks(
        self, part: Segment, chunks: np.ndarray, numbers: np.ndarray, out: np.ndarray, places: np.ndarray
    ) -> None:
        blocks, which = np.unique(numbers // part.block_rows, return_inverse=True)
        order = np.argsort(which, kind="stable")
        bounds = np.searchsorted(which[order], np.arange(len(blocks) + 1))
        with _opened(part) as handle:

            def load(number: int) -> None:
                block = int(blocks[number])
                offset, size = chunks[block].tolist()
                chunk = os.pread(handle, size, offset)
                # Checked each time: it costs little beside the decompression, which must not be given damaged input.
                if block_check(chunk) != part.check[block]:
                    raise _altered(part, block)
                try:
                    raw = compression.decompress(chunk, part.block_rows * part.row_bytes)
                except ValueError as error:
                    raise damaged(part.path, str(error)) from error
                rows = np.frombuffer(raw, np.uint8).reshape(part.block_rows, part.row_bytes)
                mine = order[bounds[number] : bounds[number + 1]]
                out[places[mine]] = rows[numbers[mine] - block * part.block_rows]

            compression.for_all(load, len(blocks))

    def _check(self, ids: np.ndarray, parts: np.ndarray, numbers: np.ndarray, raw: np.ndarray) -> None:
        """Compare the blocks of these rows, whose bytes are `raw`, with their checks, unless that has been done."""
        new = np.flatnonzero(~self._checked[ids])
        if not len(new):
            return
        for number in np.unique(parts[new]).tolist():
            part, mine = self.segment(number), new[parts[new] == number]
            start = int(self._index.starts[number])
            if part.chunks is not None or not part.row_bytes:
                self._checked[ids[mine]] = True  # chunks are checked whenever they are read
            elif part.block_rows == 1:
                sums = np.array([block_check(raw[place]) for place in mine.tolist()], np.uint64)
                altered = numbers[mine][sums != part.check[numbers[mine]]]
                if len(altered):
                    raise _altered(part, int(altered[0]))
                self._checked[ids[mine]] = True
            else:
                for block in np.unique(numbers[mine] // part.block_rows).tolist():
                    first, last = block * part.block_rows, min((block + 1) * part.block_rows, len(part))
                    if block_check(self._stored(number, first, last)) != part.check[block]:
                        raise _altered(part, block)
                    self._checked[start + first : start + last] = True

    def _stored(self, number: int, first: int, last: int) -> bytes | np.ndarray:
        """The bytes of rows `first` to `last` of one segment, as they are in the file."""
        part, rows = self.segment(number), self._mapped(number)
        if rows is not None:
            return rows[first:last]
        with _opened(part) as handle:
            return os.pread(handle, (last - first) * part.row_bytes, part.offset + first * part.row_bytes)


def _altered(part: Segment, block: int) -> DamagedFile:
    first, last = block * part.block_rows, min((block + 1) * part.block_rows, len(part)) - 1
    rows = f"row {first}" if first == last else f"rows {first} to {last}"
    return damaged(part.path, f"altered since it was written: {rows}")


@contextlib.contextmanager
def _opened(part: Segment) -> Iterator[int]:
    """A file descriptor of a segment; raises `SegmentGone` when its file has been removed."""
    try:
        stream = storage.opened(part.path)
    except FileNotFoundError as error:
        raise SegmentGone(part.path) from error
    with stream:
        yield stream.fileno()
