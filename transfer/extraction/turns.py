"""Taking turns: extractions of one user on one machine that would compute the same rows go one after another."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from transfer.engines import openvino_store

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def own_turn(folder: Path) -> Iterator[None]:
    """Wait until nobody else who takes turns works for this cache folder.

    Folds that are computed at the same time have most images in common, and each takes all cores: one of them computes
    what they share, and the next one finds it. (`transfer.extraction.coordination` divides long work on many machines;
    it begins when the first segment is there.) The system ends a turn when a process ends, however it does.

    Where there are no locks, nobody waits: work may be done twice, and the cache is right all the same.
    """
    name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:32]
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            place = openvino_store.folder().parent / "turns"
            place.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((place / name).open("w"))
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
