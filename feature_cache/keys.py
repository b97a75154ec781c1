"""What identifies a row: the digest of an image's content, and the number of the view of it."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np

from feature_cache.files import require_regular

DIGEST_BYTES = 16
# A file changed this shortly before it was read may change again without a new time stamp.
RACY_NANOSECONDS = 2_000_000_000

FileStamp = tuple[str, int, int]  # absolute path, size in bytes, time of the last change in nanoseconds


def digest_bytes(encoded: bytes) -> bytes:
    """The digest of a file's bytes: BLAKE2b, 16 bytes long."""
    return hashlib.blake2b(encoded, digest_size=DIGEST_BYTES).digest()


def digest_array(array: np.ndarray) -> bytes:
    """The digest of an array: of its dtype, its shape and its values in C order."""
    head = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.blake2b(head + np.ascontiguousarray(array).tobytes(), digest_size=DIGEST_BYTES).digest()


def row_keys(digests: np.ndarray, views: np.ndarray) -> list[bytes]:
    """One hashable key per row.

    Parameters
    ----------
    digests : ndarray of shape (n, 16), uint8
    views : ndarray of shape (n,), uint32
    """
    packed = np.concatenate([digests, views.astype("<u4")[:, None].view(np.uint8)], axis=1)
    return packed.view(f"V{DIGEST_BYTES + 4}").ravel().tolist()


class DigestMemo:
    """Remembers the digests of files by path, size and time, so that a second look reads nothing.

    It only ever saves work: where its file cannot be used, nothing is remembered.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def recall(self, stamps: Iterable[FileStamp]) -> dict[str, bytes]:
        """The digests of the files that have not changed since they were remembered, by path."""
        wanted = {path: (size, mtime) for path, size, mtime in stamps if _is_text(path)}
        if not self._file.exists():
            return {}
        found = {}
        try:
            self._check()
            with closing(sqlite3.connect(self._file)) as store:
                _require_plain(store)
                for path, size, mtime, digest in _select(store, list(wanted)):
                    if wanted[path] == (size, mtime) and len(digest) == DIGEST_BYTES:
                        found[path] = bytes(digest)
        except (sqlite3.Error, OSError, TypeError, UnicodeError):
            return {}
        return found

    def remember(self, digests: dict[FileStamp, bytes], seen: int | None = None) -> None:
        """Keep the digests of files that had been quiet long enough to be trusted.

        Parameters
        ----------
        seen : int, optional
            When the stamps were taken, in nanoseconds since the epoch; by default now.
        """
        now = time.time_ns() if seen is None else seen
        settled = [
            (*stamp, digest)
            for stamp, digest in digests.items()
            if now - stamp[2] > RACY_NANOSECONDS and _is_text(stamp[0])
        ]
        if not settled:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._check()
            with closing(sqlite3.connect(self._file)) as store, store:
                _require_plain(store)
                store.execute(
                    "CREATE TABLE IF NOT EXISTS memo (path TEXT PRIMARY KEY, size INT, mtime INT, digest BLOB)"
                )
                store.executemany("INSERT OR REPLACE INTO memo VALUES (?, ?, ?, ?)", settled)
        except (sqlite3.Error, OSError, UnicodeError):
            return

    def _check(self) -> None:
        """Raise OSError where the file, or one that sqlite keeps beside it, is there and is no regular file."""
        for end in ("", "-journal", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                require_regular(self._file.with_name(self._file.name + end))


def _require_plain(store: sqlite3.Connection) -> None:
    """Raise sqlite3.Error where it holds views or triggers, which can compute without an end."""
    if store.execute("SELECT count(*) FROM sqlite_master WHERE type IN ('view', 'trigger')").fetchone()[0]:
        raise sqlite3.DatabaseError("it is no memo of digests")


def _is_text(path: str) -> bool:
    """Whether sqlite takes `path`: a name that is not Unicode comes with lone surrogates."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _select(store: sqlite3.Connection, paths: list[str], chunk: int = 500) -> Iterable[tuple]:
    for start in range(0, len(paths), chunk):
        part = paths[start : start + chunk]
        marks = ",".join("?" * len(part))
        yield from store.execute(f"SELECT path, size, mtime, digest FROM memo WHERE path IN ({marks})", part)
