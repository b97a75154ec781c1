"""Heads of the user's own code, ``FILE.py:make_head``, which is run only when the user names it.

The file is read once, and exactly the bytes whose digest is recorded in the run are executed. A run with such a head is
read only when the user names the file again.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from feature_cache.errors import InvalidChoice, UnsafeFile, first_line, unknown
from feature_cache.files.checked import read_bytes
from feature_cache.keys import digest_bytes

FUNCTION = "make_head"  # the function where none is named
USER_ERRORS = (Exception, SystemExit)  # what the user's code may raise
# The names of the modules end in the digest of the file, so that a type in a head's file names the code it comes from.
PREFIX = "layertap_head_"


def is_file(name: str) -> bool:
    """Whether `name` stands for a file of Python, or a function in it, and not for a head of ours.

    Examples
    --------
    >>> is_file("my_head.py:make_head"), is_file("ridge")
    (True, False)
    """
    return _split(name)[0].endswith(".py")


def digest(name: str) -> str:
    """The digest of the file that `name` stands for, in hexadecimal.

    Raises
    ------
    InvalidChoice
        When the file cannot be read.
    """
    return digest_bytes(_content(_split(name)[0])).hex()


def call(name: str) -> Any:
    """The result of the function `name`; its file is run first, unless it has been run.

    Raises
    ------
    InvalidChoice
        When there is no such file or function, or its code raises an exception.
    """
    file, function = _split(name)
    module = _module(file)
    functions = [key for key, value in vars(module).items() if inspect.isroutine(value)]
    if function not in functions:
        raise unknown(f"{file} has no function", function, functions)
    try:
        return getattr(module, function)()
    except USER_ERRORS as error:
        raise InvalidChoice(f"{name} failed{_explanation(error, file)}") from error


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
    if digest(name) != recorded:
        raise UnsafeFile(f"the head of {run} was made by another file than {_split(name)[0]}; train it again.")
    if _split(name)[1] != _split(made_by)[1]:
        raise UnsafeFile(f"the head of {run} was made by the function {_split(made_by)[1]!r}, not by {name}.")


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


class _Source(importlib.abc.SourceLoader):
    """A loader of source code that has been read already; it neither reads nor writes compiled files."""

    def __init__(self, file: str, content: bytes) -> None:
        self._file = file
        self._content = content

    def get_filename(self, fullname: str) -> str:
        return self._file

    def get_data(self, path: str | bytes) -> bytes:
        return self._content


def _module(file: str) -> ModuleType:
    """The module of the file, which is run unless the same bytes have been run before."""
    content = _content(file)
    name = PREFIX + digest_bytes(content).hex()
    if name in sys.modules:
        return sys.modules[name]
    loader = _Source(file, content)
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where the classes of the file look for their module
    try:
        loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, USER_ERRORS):
            raise InvalidChoice(f"{file} cannot be run{_explanation(error, file)}") from error
        raise
    return module


def _split(name: str) -> tuple[str, str]:
    """The file and the function that `name` stands for; the function is `FUNCTION` where none is named."""
    file, sign, function = name.rpartition(":")
    return (file, function) if sign and file.endswith(".py") else (name, FUNCTION)


def _content(file: str) -> bytes:
    """The bytes of the file."""
    try:
        return read_bytes(Path(file))
    except OSError as error:
        raise InvalidChoice(f"the file {file!r} of the head cannot be read: {error.strerror or error}.") from error


def _explanation(error: BaseException, file: str) -> str:
    """The line of `file` in which `error` occurred, and its type and message, as the end of a sentence."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if isinstance(error, SyntaxError):
        lines, text = [error.lineno], error.msg
    else:
        text = first_line(error) if str(error).strip() else ""
    where = f" in line {lines[-1]}" if lines else ""
    return f"{where} ({type(error).__name__}: {text}); mend it." if text else f"{where} ({type(error).__name__})."
