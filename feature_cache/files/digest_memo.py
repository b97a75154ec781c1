"""The memo of digests: an SQLite file that saves reading and decoding images again."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from feature_cache.files.checked import require_regular
from feature_cache.keys import DIGEST_BYTES

# A file changed this shortly before it was read may change again without a new time stamp.
RACY_NANOSECONDS = 2_000_000_000

FileStamp = tuple[str, int, int]  # absolute path, size in bytes, time of the last change in nanoseconds


class DigestMemo:
    """Remembers the digests of files by path, size and time, so that a second look reads nothing.

    It also remembers the digests of pixels, by the digest of the file and the way of decoding, so that images are not
    decoded again. The memo only saves work: where its file cannot be used, nothing is remembered. A table that earlier
    versions called ``memo`` is not read, since the digests of some kinds of files have changed.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def recall(self, stamps: Iterable[FileStamp]) -> dict[str, bytes]:
        """The digests of the files that have not changed since they were remembered, by path."""
        stamped = {path: (size, mtime) for path, size, mtime in stamps if _is_text(path)}
        if not self._file.exists():
            return {}
        found = {}
        try:
            with self._opened() as store:
                query = "SELECT path, size, mtime, digest FROM digests WHERE path IN ({})"
                for path, size, mtime, digest in _select(store, query, list(stamped)):
                    if stamped.get(path) == (size, mtime) and _is_digest(digest):  # a damaged index finds others
                        found[path] = digest
        except (sqlite3.Error, OSError, TypeError, UnicodeError):
            return {}
        return found

    def remember(self, digests: dict[FileStamp, bytes], seen: int | None = None) -> None:
        """Remember the digests of files that had not changed for long enough to be trusted.

        Parameters
        ----------
        seen : int, optional
            When the stamps were read, in nanoseconds since the epoch; by default now.
        """
        now = time.time_ns() if seen is None else seen
        settled = [
            (*stamp, digest)
            for stamp, digest in digests.items()
            if now - stamp[2] > RACY_NANOSECONDS and _is_text(stamp[0])
        ]
        self._write("digests", "(path TEXT PRIMARY KEY, size INT, mtime INT, digest BLOB)", settled)

    def recall_pixels(self, pixel_key: str, digests: Iterable[bytes]) -> dict[bytes, bytes]:
        """The digests of pixels that have been remembered, by the digests of the images that they were decoded from.

        Parameters
        ----------
        pixel_key : str
            Identifies the way of decoding (see `FeatureSpec.pixel_key`).
        """
        requested = set(digests)
        if not requested or not self._file.exists():
            return {}
        try:
            with self._opened() as store:
                query = "SELECT digest, pixels FROM pixels WHERE pixel_key = ? AND digest IN ({})"
                found = dict(_select(store, query, list(requested), pixel_key))
        except (sqlite3.Error, OSError, UnicodeError):
            return {}
        return {name: pixels for name, pixels in found.items() if name in requested and _is_digest(pixels)}

    def remember_pixels(self, pixel_key: str, pixels: Mapping[bytes, bytes]) -> None:
        """Remember the digests of pixels, by the digests of their images (see `recall_pixels`)."""
        columns = "(pixel_key TEXT, digest BLOB, pixels BLOB, PRIMARY KEY (pixel_key, digest)) WITHOUT ROWID"
        self._write("pixels", columns, [(pixel_key, *pair) for pair in pixels.items()])

    def _write(self, table: str, columns: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Put rows into a table, which is created where it is missing; nothing is done where that cannot be."""
        if not rows:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._opened() as store, store:
                store.execute(f"CREATE TABLE IF NOT EXISTS {table} {columns}")
                store.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({','.join('?' * len(rows[0]))})", rows)
        except (sqlite3.Error, OSError, UnicodeError):
            return

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """A connection to the file, which is created where it is missing.

        Raises
        ------
        OSError
            When the file, or one that sqlite keeps beside it, is no regular file.
        sqlite3.Error
            When it is no database, or holds views or triggers, which can compute without an end.
        """
        for end in ("", "-journal", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                require_regular(self._file.with_name(self._file.name + end))
        with closing(sqlite3.connect(self._file)) as store:
            if store.execute("SELECT count(*) FROM sqlite_master WHERE type IN ('view', 'trigger')").fetchone()[0]:
                raise sqlite3.DatabaseError("it is no memo of digests")
            yield store


def _is_digest(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == DIGEST_BYTES


def _is_text(path: str) -> bool:
    """Whether sqlite takes `path`: a name that is not Unicode comes with lone surrogates."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _select(
    store: sqlite3.Connection, query: str, values: Sequence[str | bytes], *first: str, chunk: int = 500
) -> Iterator[tuple]:
    """The rows of a query in which ``{}`` stands for a list of `values`; its parameters in `first` come before them."""
    for start in range(0, len(values), chunk):
        part = values[start : start + chunk]
        yield from store.execute(query.format(",".join("?" * len(part))), (*first, *part))
