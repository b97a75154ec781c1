"""Names of files and folders that are like one that does not exist: a slip of the pen, most often."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from feature_cache.errors import did_you_mean, nearest

MOST = 10_000  # names of a folder that are compared


def near_paths(path: str | os.PathLike[str]) -> list[str]:
    """The paths beside one that does not exist whose names are most like its own, written as it is.

    Names are compared without suffixes, by which all images would be alike.

    Examples
    --------
    >>> near_paths("no such folder/photos")
    []
    """
    given = Path(path)
    try:
        with os.scandir(given.parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, MOST) if not entry.name.startswith(".")]
    except (OSError, ValueError):
        return []
    by_stem = {Path(name).stem: name for name in sorted(names)}
    return [str(given.with_name(by_stem[stem])) for stem in nearest(given.stem, by_stem)] if given.name else []


def suggestion(path: str | os.PathLike[str]) -> str:
    """The question whether a path beside is meant, after a semicolon; empty where none is like it."""
    near = near_paths(path)
    return f"; {did_you_mean(near)}" if near else ""
