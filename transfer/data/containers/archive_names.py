"""Checks of the names that the files of an archive have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from feature_cache.errors import BadData, printable


def require_inside(archive: str, names: Iterable[str]) -> None:
    """Raise BadData where a name is a path that leads out of the archive.

    Examples
    --------
    >>> require_inside("a.zip", ["cat/1.png", "../2.png"])
    Traceback (most recent call last):
    ...
    feature_cache.errors.BadData: a.zip holds '../2.png', which leads out of the archive; such an archive is refused.
    """
    for name in names:
        if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/") or not name or "\0" in name:
            raise BadData(
                f"{archive} holds {printable(name)!r}, which leads out of the archive; such an archive is refused."
            )


def require_once(archive: str, names: Sequence[str]) -> None:
    """Raise BadData where two files of an archive have one name.

    Examples
    --------
    >>> require_once("a.zip", ["1.png", "1.png"])
    Traceback (most recent call last):
    ...
    feature_cache.errors.BadData: a.zip holds two files named '1.png'; pack it again with one of them.
    """
    hashes = np.fromiter(map(hash, names), np.int64, len(names))
    hashes.sort()  # a set of all names would take ten times the memory
    suspects = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    seen: set[str] = set()
    for name in names if suspects else ():
        if name in seen:
            raise BadData(f"{archive} holds two files named {printable(name)!r}; pack it again with one of them.")
        if hash(name) in suspects:
            seen.add(name)
