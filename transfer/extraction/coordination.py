"""Coordination: extractions that run at the same time do not compute the same rows."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from feature_cache.errors import Unreachable
from feature_cache.files.user_folder import user_folder
from feature_cache.space import segment_names
from transfer.extraction.lookup import Missing

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

LOOK_SECONDS, LONGEST_PAUSE = 5.0, 600.0  # between looks; the pause doubles while a bucket does not answer


class WorkQueue:
    """The images that are still to be computed; rows that other processes commit meanwhile are left out.

    When another process has written to the same spaces, the rest is continued from another random position, so that
    the processes work on different images. Iterating gives jobs (see `Missing`).

    Attributes
    ----------
    spaces : list of Space
        The spaces of the features, with the segments that they had when they were last looked at.
    dropped : int
        The number of jobs left out so far.
    """

    def __init__(self, missing: Missing) -> None:
        self._missing = missing
        # Only the names: segments are opened, and their keys sorted, once there are new ones.
        self._known = [{part.name for part in space.index.listed} for space in missing.spaces]
        self._looked, self._pause = time.monotonic(), LOOK_SECONDS
        self._order = missing.jobs
        self._next = 0
        self.spaces = missing.spaces
        self.dropped = 0

    def __iter__(self) -> Iterator[int]:
        while True:
            if time.monotonic() - self._looked >= self._pause:
                self._look()
                self._looked = time.monotonic()
            if self._next >= len(self._order):
                return
            self._next += 1
            yield int(self._order[self._next - 1])

    def wrote(self, names: set[str]) -> None:
        """Note the names of segments that this process has written."""
        for known in self._known:
            known |= names

    def _look(self) -> None:
        """Leave out what other processes have written since the last look."""
        rest = self._order[self._next :]
        pause, self._pause = self._pause, LOOK_SECONDS
        try:
            now = [segment_names(space.folder) for space in self.spaces]
            if all(names <= known for names, known in zip(now, self._known, strict=True)):
                return
            spaces = [space.again() for space in self.spaces]
            lacking = np.any([~space.has(*self._missing.keys(rest)) for space in spaces], axis=0)
        except Unreachable:  # of a cache in a bucket: there will be another look
            self._pause = min(2 * pause, LONGEST_PAUSE)
            return
        self._known = [names | known for names, known in zip(now, self._known, strict=True)]
        self.spaces = spaces
        rest, self.dropped = rest[lacking], self.dropped + int((~lacking).sum())
        if len(rest):
            rest = np.roll(rest, -int(np.random.default_rng().integers(len(rest))))
        self._order, self._next = rest, 0


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until no other process of this user, on this machine, is inside this context for the same cache folder.

    Folds that are computed at the same time have most images in common, and each computation takes all cores: so one
    of them computes the common images, and the next finds them in the cache. (`WorkQueue` divides long work on many
    machines; it begins when the first segment has been written.) The system releases the lock when a process ends,
    however it ends. Lock files that nobody holds are removed in the end.

    On systems without locks nobody waits: work may be done twice, and the cache stays correct.
    """
    name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:32]
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            locks = user_folder() / "turns"  # earlier versions lock the same files
            locks.mkdir(parents=True, exist_ok=True)
            stack.callback(_remove_free, locks)
            stack.enter_context(_locked(locks / name))
        yield


def _locked(path: Path) -> IO[str]:
    """The lock file at `path`, once no other process holds it."""
    while True:
        file = path.open("w")
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if not fcntl or os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # whoever had it has removed it: others lock a new one


def _remove_free(locks: Path) -> None:
    """Remove the lock files that no process holds, those of folders that are gone and of killed processes, too."""
    with contextlib.suppress(OSError):
        for path in locks.iterdir() if fcntl else ():
            with path.open("r") as file, contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
