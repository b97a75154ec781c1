"""Heads of the user's own code, ``FILE.py:make_head``, which is run only when the user names it.

A run with such a head is read only when the user names the file again (see `feature_cache.process.user_code`).
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

from feature_cache.errors import InvalidChoice, UnsafeFile
from feature_cache.process.user_code import UserCode

PREFIX = "layertap_head_"
_CODE = UserCode("head", "make_head", PREFIX)


def is_file(name: str) -> bool:
    """Whether `name` stands for a file of Python, or a function in it, and not for a head of ours.

    Examples
    --------
    >>> is_file("my_head.py:make_head"), is_file("ridge")
    (True, False)
    """
    return _CODE.is_file(name)


def digest(name: str) -> str:
    """The digest of the file that `name` stands for, in hexadecimal.

    Raises
    ------
    InvalidChoice
        When the file cannot be read.
    """
    return _CODE.digest(name)


def call(name: str) -> Any:
    """The result of the function `name`; its file is run first, unless it has been run.

    Raises
    ------
    InvalidChoice
        When there is no such file or function, or its code raises an exception.
    """
    return _CODE.call(name)


def require_named(name: str, recorded: str, made_by: str, run: Path) -> None:
    """Raise UnsafeFile unless the file and the function `name` are those that made the head of `run`.

    Parameters
    ----------
    recorded : str
        The digest of the file that made the head, according to the run.
    made_by : str
        The file and the function that made the head, according to the run.
    """
    if not is_file(name):
        raise InvalidChoice(f"`head_code` is a file of Python, FILE.py:FUNCTION; received {name!r}.")
    file, function = _CODE.split(name)
    if digest(name) != recorded:
        raise UnsafeFile(f"the head of {run} was made by another file than {file}; train it again.")
    if function != (made := _CODE.split(made_by)[1]):
        raise UnsafeFile(f"the head of {run} was made by the function {made!r}, not by {name}.")


def types_of(estimator: Any) -> list[type]:
    """The classes of the user's file that `estimator` comes from, or a part of it does; none for other estimators."""
    parts = [estimator, *(estimator.get_params().values() if hasattr(estimator, "get_params") else ())]
    modules = {type(part).__module__ for part in parts} & sys.modules.keys()
    return [
        kind
        for module in sorted(modules)
        if module.startswith(PREFIX)
        for kind in vars(sys.modules[module]).values()
        if inspect.isclass(kind) and kind.__module__ == module
    ]
