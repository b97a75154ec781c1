"""Sharing: extractions that run at the same time leave to each other what each has done."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from feature_cache.space import segment_names
from transfer.extraction.lookup import Missing

LOOK_SECONDS = 5.0


class WorkQueue:
    """The images still to compute; rows that other processes commit meanwhile are left out.

    Whenever another process is seen to have written to the same spaces, the rest is gone through from another random
    place on, so that they work on different images. Iterating gives jobs (see `Missing`).

    Attributes
    ----------
    spaces : list of Space
        As their segments were when last looked at.
    dropped : int
        Jobs left out so far.
    """

    def __init__(self, missing: Missing) -> None:
        self._missing = missing
        # By name alone: opening the segments, and sorting their keys, is for when there is something new.
        self._known = [{part.name for part in space.index.listed} for space in missing.spaces]
        self._looked = time.monotonic()
        self._order = missing.jobs
        self._next = 0
        self.spaces = missing.spaces
        self.dropped = 0

    def __iter__(self) -> Iterator[int]:
        while True:
            if time.monotonic() - self._looked >= LOOK_SECONDS:
                self._look()
                self._looked = time.monotonic()
            if self._next >= len(self._order):
                return
            self._next += 1
            yield int(self._order[self._next - 1])

    def wrote(self, names: set[str]) -> None:
        """Tell which segments this process has written."""
        for known in self._known:
            known |= names

    def _look(self) -> None:
        now = [segment_names(space.folder) for space in self.spaces]
        if all(names <= known for names, known in zip(now, self._known, strict=True)):
            return
        self._known = [names | known for names, known in zip(now, self._known, strict=True)]
        self.spaces = [space.again() for space in self.spaces]
        rest = self._order[self._next :]
        lacking = np.any([~space.has(*self._missing.keys(rest)) for space in self.spaces], axis=0)
        rest, self.dropped = rest[lacking], self.dropped + int((~lacking).sum())
        if len(rest):
            rest = np.roll(rest, -int(np.random.default_rng().integers(len(rest))))
        self._order, self._next = rest, 0
