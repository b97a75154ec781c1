"""The splits that files are of by their names: ``data-train-000.tar``, ``train-00000-of-00004.parquet``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from feature_cache.errors import BadData, InvalidChoice
from transfer.data import split_names
from transfer.data.remote.path import AnyPath

P = TypeVar("P", bound=AnyPath)

# How the Hugging Face hub names the files of a split, whatever the split is called.
_OF_HUB = re.compile(r"(.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?")


def split_of_file(path: AnyPath) -> str | None:
    """The split that the name of a file says, or else the name of its folder; None where neither does.

    Examples
    --------
    >>> from pathlib import Path
    >>> split_of_file(Path("data/unsupervised-00000-of-00004.parquet")), split_of_file(Path("cats-val-07.tar"))
    ('unsupervised', 'val')
    >>> split_of_file(Path("default/train/0000.parquet")), split_of_file(Path("cats.tar"))
    ('train', None)
    """
    stem = path.name.partition(".")[0]
    if match := _OF_HUB.fullmatch(stem):
        return match[1]
    if split := split_names.split_of(stem):
        return split
    folder = path.parent.name
    return folder if split_names.is_plain(folder) else None


def splits_of(paths: Sequence[AnyPath]) -> dict[AnyPath, str | None]:
    """The split of each file by its name."""
    return {path: split_of_file(path) for path in paths}


def are_divided(splits: Mapping[P, str | None]) -> bool:
    """Whether the files are of several splits."""
    return len({name for name in splits.values() if name}) > 1


def choose(data: str, splits: Mapping[P, str | None], split: str | None) -> list[P]:
    """The files of a split; all files without one.

    Parameters
    ----------
    data : str
        The name of the data set in messages.
    splits : mapping of Path to str or None
        The split of each file.
    split : str, optional

    Raises
    ------
    InvalidChoice
        When no file is of that split.
    """
    if split is None:
        return list(splits)
    names = split_names.in_order({name for name in splits.values() if name})
    if not names:
        raise InvalidChoice(
            f"there is no split {split!r}: the names of the files of {data} say none; leave out `split`."
        )
    chosen = split_names.choose(split, names, data)
    return [path for path, name in splits.items() if name == chosen]


def require_named(data: str, splits: Mapping[P, str | None], split: str | None) -> None:
    """Raise BadData where files are of several splits, and none is named."""
    if split is None and are_divided(splits):
        names = split_names.in_order({name for name in splits.values() if name})
        raise BadData(
            f"{data} is divided into splits ({', '.join(names)}); name one, for instance with `split={names[0]!r}`."
        )
