"""Several files by one name: globs, and ranges in braces such as ``train-{000..099}.tar``."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from feature_cache.errors import BadData, InvalidChoice
from feature_cache.files.urls import shown
from transfer.data.remote.path import AnyPath, ask_together
from transfer.data.remote.places import at

MOST_FILES = 100_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def is_pattern(name: str) -> bool:
    """Whether a name stands for several files.

    Examples
    --------
    >>> is_pattern("train-{000..099}.tar"), is_pattern("train-*.parquet"), is_pattern("train.tar")
    (True, True, False)
    """
    return glob.has_magic(name) or bool(_BRACES.search(name))


def expand(name: str) -> list[str]:
    """The names that ranges and lists in braces stand for, in order.

    Examples
    --------
    >>> expand("a-{08..10}.tar")
    ['a-08.tar', 'a-09.tar', 'a-10.tar']
    >>> expand("{train,val}.tar")
    ['train.tar', 'val.tar']
    """
    match = _BRACES.search(name)
    if not match:
        return [name]
    if span := _RANGE.fullmatch(match[1]):
        first, last = int(span[1]), int(span[2])
        if not 0 <= last - first < MOST_FILES:
            raise InvalidChoice(f"{match[0]} in {name!r} stands for no files, or more than {MOST_FILES:,}.")
        parts = [str(number).zfill(len(span[1])) for number in range(first, last + 1)]
    else:
        parts = match[1].split(",")
    return [whole for part in parts for whole in expand(name[: match.start()] + part + name[match.end() :])]


def files(name: str) -> list[AnyPath]:
    """The files that a pattern stands for.

    Raises
    ------
    BadData
        When one of the names in braces is no file, or nothing matches a glob.
    """
    matches = [(one, _matches(one)) for one in expand(name)]
    found = [path for _, paths in matches for path in paths]
    ask_together(found)
    for one, paths in matches:
        if not paths or not all(path.is_file() for path in paths):
            raise BadData(f"{shown(name)!r} stands for {shown(one)!r}, and there is no such file.")
    return found


def _matches(name: str) -> list[AnyPath]:
    path = at(name)
    if not glob.has_magic(str(path)):
        return [path]
    return list(map(Path, sorted(glob.glob(name)))) if isinstance(path, Path) else list(path.glob())  # noqa: PTH207 (`Path.glob` takes no absolute ones)
