"""The user's own heads: ``FILE.py:make_head``, run only when the user names it.

The file stands for itself: it is read once, its digest is kept in the run, and exactly the bytes that were digested are
run. A run that was made with it says so, and is read again only when the file is named again.
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

FUNCTION = "make_head"
MISTAKES = (Exception, SystemExit)  # of the user's code
PREFIX = "layertap_head_"  # of the modules, whose names end in the digest: so types in a head's file name their code


def is_file(name: str) -> bool:
    """Whether the head `name` is a file, or a function in a file."""
    return _split(name)[0].endswith(".py")


def digest(name: str) -> str:
    """The digest of the file.

    Raises
    ------
    InvalidChoice
        When it cannot be read.
    """
    return digest_bytes(_content(_split(name)[0])).hex()


def call(name: str) -> Any:
    """Run the file, unless it has been run, and call the function.

    Raises
    ------
    InvalidChoice
        When there is no such file or function, or its code raises anything.
    """
    file, function = _split(name)
    module = _module(file)
    functions = [key for key, value in vars(module).items() if inspect.isroutine(value)]
    if function not in functions:
        raise unknown(f"{file} has no function", function, functions)
    try:
        return getattr(module, function)()
    except MISTAKES as error:
        raise InvalidChoice(f"{name} failed{_told(error, file)}") from error


def require_named(name: str, recorded: str, made_by: str, run: Path) -> None:
    """Raise UnsafeFile unless the file and function `name` are those that made the head of `run`.

    Parameters
    ----------
    recorded : str
        The digest of the file that made it.
    made_by : str
        What the run says that made it.
    """
    if not is_file(name):
        raise InvalidChoice(f"`head_code` is a file of Python, FILE.py:FUNCTION; received {name!r}.")
    if digest(name) != recorded:
        raise UnsafeFile(f"the head of {run} was made by another file than {_split(name)[0]}; train it again.")
    if _split(name)[1] != _split(made_by)[1]:
        raise UnsafeFile(f"the head of {run} was made by the function {_split(made_by)[1]!r}, not by {name}.")


def types_of(estimator: Any) -> list[type]:
    """The classes of the file whose code `estimator`, or a part of it, is made of."""
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
    """A loader of bytes that have been read already; it neither reads nor writes compiled files."""

    def __init__(self, file: str, content: bytes) -> None:
        self._file = file
        self._content = content

    def get_filename(self, fullname: str) -> str:
        return self._file

    def get_data(self, path: str | bytes) -> bytes:
        return self._content


def _module(file: str) -> ModuleType:
    content = _content(file)
    name = PREFIX + digest_bytes(content).hex()
    if name in sys.modules:
        return sys.modules[name]
    loader = _Source(file, content)
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # classes look there for their module
    try:
        loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, MISTAKES):
            raise InvalidChoice(f"{file} cannot be run{_told(error, file)}") from error
        raise
    return module


def _split(name: str) -> tuple[str, str]:
    """File and function; the function is `make_head` where none is named."""
    file, sign, function = name.rpartition(":")
    return (file, function) if sign and file.endswith(".py") else (name, FUNCTION)


def _content(file: str) -> bytes:
    try:
        return read_bytes(Path(file))
    except OSError as error:
        raise InvalidChoice(f"the file {file!r} of the head cannot be read: {error.strerror or error}.") from error


def _told(error: BaseException, file: str) -> str:
    """What went wrong, and in which line of `file`."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if isinstance(error, SyntaxError):
        lines, text = [error.lineno], error.msg
    else:
        text = first_line(error) if str(error).strip() else ""
    where = f" in line {lines[-1]}" if lines else ""
    return f"{where} ({type(error).__name__}: {text}); mend it." if text else f"{where} ({type(error).__name__})."
