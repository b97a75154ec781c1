"""Several files by one name: globs, and ranges in braces such as ``train-{000..099}.tar``."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from feature_cache.errors import BadData, InvalidChoice

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


def files(name: str) -> list[Path]:
    """The files that a pattern stands for.

    Raises
    ------
    BadData
        When one of the names in braces is no file, or nothing matches a glob.
    """
    found: list[Path] = []
    for one in expand(name):
        matches = sorted(glob.glob(one)) if glob.has_magic(one) else [one]  # noqa: PTH207 (`Path.glob` takes no absolute ones)
        if not matches or not all(Path(match).is_file() for match in matches):
            raise BadData(f"{name!r} stands for {one!r}, and there is no such file.")
        found += map(Path, matches)
    return found
