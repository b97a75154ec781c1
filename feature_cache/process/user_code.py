"""Functions in files of Python that the user names, ``FILE.py:FUNCTION``: they are run only because of that.

A file is read once, and exactly the bytes whose digest is recorded are executed.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from feature_cache.errors import InvalidChoice, first_line, unknown
from feature_cache.files.checked import read_bytes
from feature_cache.keys import digest_bytes

USER_ERRORS = (Exception, SystemExit)  # what the user's code may raise


@dataclass(frozen=True)
class UserCode:
    """Functions of one purpose in files of the user's.

    Attributes
    ----------
    purpose : str
        What the functions make, for messages.
    function : str
        The function that is called where a file is named without one.
    prefix : str
        What the names of the modules begin with. They end in the digest of the file, so that a type in it names the
        code that it comes from.
    """

    purpose: str
    function: str
    prefix: str

    def split(self, name: str) -> tuple[str, str]:
        """The file and the function that `name` stands for; the function is the usual one where none is named."""
        file, sign, function = name.rpartition(":")
        return (file, function) if sign and file.endswith(".py") else (name, self.function)

    def is_file(self, name: str) -> bool:
        """Whether `name` stands for a file of Python, or a function in it."""
        return self.split(name)[0].endswith(".py")

    def digest(self, name: str) -> str:
        """The digest of the file that `name` stands for, in hexadecimal.

        Raises
        ------
        InvalidChoice
            When the file cannot be read.
        """
        return digest_bytes(self.content(self.split(name)[0])).hex()

    def call(self, name: str) -> Any:
        """The result of the function `name`; its file is run first, unless it has been run.

        Raises
        ------
        InvalidChoice
            When there is no such file or function, or its code raises an exception.
        """
        file, function = self.split(name)
        return result(self.module(file), function, name, file)

    def module(self, file: str, content: bytes | None = None) -> ModuleType:
        """The module of a file, which is run unless the same bytes have been run before.

        Parameters
        ----------
        content : bytes, optional
            What is run, where the file has been read already.

        Raises
        ------
        InvalidChoice
            When the file cannot be read, or its code raises an exception.
        """
        content = self.content(file) if content is None else content
        name = self.prefix + digest_bytes(content).hex()
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
                raise InvalidChoice(f"{file} cannot be run{explanation(error, file)}") from error
            raise
        return module

    def content(self, file: str) -> bytes:
        """The bytes of the file.

        Raises
        ------
        InvalidChoice
            When it cannot be read.
        """
        try:
            return read_bytes(Path(file))
        except OSError as error:
            reason = error.strerror or error
            raise InvalidChoice(f"the file {file!r} of the {self.purpose} cannot be read: {reason}.") from error


class _Source(importlib.abc.SourceLoader):
    """A loader of source code that has been read already; it neither reads nor writes compiled files."""

    def __init__(self, file: str, content: bytes) -> None:
        self._file = file
        self._content = content

    def get_filename(self, fullname: str) -> str:
        return self._file

    def get_data(self, path: str | bytes) -> bytes:
        return self._content


def function_in(module: ModuleType, function: str, file: str) -> Callable[..., Any]:
    """A function of the user's module, by its name.

    Parameters
    ----------
    file : str
        What messages call the file of the module.

    Raises
    ------
    InvalidChoice
        When there is no such function.
    """
    functions = [key for key, value in vars(module).items() if inspect.isroutine(value)]
    if function not in functions:
        raise unknown(f"{file} has no function", function, functions)
    found: Callable[..., Any] = getattr(module, function)
    return found


def result(module: ModuleType, function: str, name: str, file: str) -> Any:
    """What a function of the user's module returns.

    Parameters
    ----------
    name, file : str
        What messages call the function, and its file.

    Raises
    ------
    InvalidChoice
        When there is no such function, or it raises an exception.
    """
    found = function_in(module, function, file)
    try:
        return found()
    except USER_ERRORS as error:
        raise InvalidChoice(f"{name} failed{explanation(error, file)}") from error


def explanation(error: BaseException, file: str) -> str:
    """The line of `file` in which `error` occurred, and its type and message, as the end of a sentence."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if isinstance(error, SyntaxError):
        lines, text = [error.lineno], error.msg
    else:
        text = first_line(error) if str(error).strip() else ""
    where = f" in line {lines[-1]}" if lines else ""
    return f"{where} ({type(error).__name__}: {text}); mend it." if text else f"{where} ({type(error).__name__})."
