"""Modules of kits and submissions: loaded from a source that is read once, and identified by all their code."""

from __future__ import annotations

import importlib.abc
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from feature_cache.errors import BadData, MissingDependency
from feature_cache.files.checked import read_bytes
from feature_cache.process.source_digest import source_digest
from feature_cache.spec import PIXEL_RECIPE

FITTED_RECIPE = 2  # the version of `layertap.ramp.images.fitted`: raise it with any change that can alter a pixel
# The first version of Layertap from which on everything else that a transform may call makes the same of an image.
# The version that is installed would do as well, but every new one would have all transformed images made again.
ALIKE_SINCE = "0.1.0"


class BadSubmission(BadData):
    """A submission that cannot be loaded or run, or returns values of the wrong kind."""


class _Loader(importlib.abc.InspectLoader):
    """Runs a source that has been read before, so that it does not matter if the file changes meanwhile."""

    def __init__(self, source: bytes, file: Path) -> None:
        self._source, self._file = source, file

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self._source)

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self._source, str(self._file))


def load(file: Path, source: bytes | None = None, name: str = "") -> ModuleType:
    """The module in `file`, which is read unless `source` is passed.

    Raises
    ------
    BadSubmission
        When the file cannot be read, is not Python, or raises an error.
    """
    try:
        loader = _Loader(read_bytes(file) if source is None else source, file)
        spec = importlib.util.spec_from_loader(name or file.stem, loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        module.__file__ = str(file)
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BadSubmission(error_line(error, file)) from error
    return module


def called(function: Callable[[Any], Any], value: Any, file: Path | None) -> Any:
    """The result of a function of the module in `file`.

    Raises
    ------
    BadSubmission
        When the function raises an error; the message names its line.
    """
    try:
        return function(value)
    except Exception as error:
        raise BadSubmission(error_line(error, file)) from error


def place(function: Any) -> str:
    """The file, the line and the name of a function or a method, as far as they are known."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    name = getattr(function, "__name__", str(function))
    return name if code is None else f"{code.co_filename}:{code.co_firstlineno}: {name}"


def ramp_workflow() -> Any:
    """The package of ramp-workflow.

    Raises
    ------
    MissingDependency
        When it is not installed.
    """
    try:
        import rampwf  # optional, and slow to load

        return rampwf
    except ImportError as error:
        raise MissingDependency("RAMP kits need ramp-workflow: pip install 'layertap[ramp]'") from error


def environment_of_programs() -> dict[str, str]:
    """An environment for child processes in which they find the modules that this process finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def error_line(error: BaseException, file: Path | None) -> str:
    """An error as one line, with the file and the line that raised it, preferably one in the folder of `file`."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    what = " ".join(plain(what).split())
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    if isinstance(error, FileNotFoundError) and file is not None and Path(error.filename or "").parent == file.parent:
        return f"{error.filename}: there is no such file."
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if file is not None and Path(frame.filename).parent == file.parent]
    if own:
        return f"{own[-1].filename}:{own[-1].lineno}: {what}"
    return f"{file}: {what}" if file is not None else what


def plain(text: str) -> str:
    """A text without the codes by which terminals show it in bold or in colour."""
    return re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", text)


def digest(source: bytes) -> str:
    """The digest of a module's source, of the local modules that it imports, and of the versions of other packages."""
    return source_digest(source, f"{ALIKE_SINCE} {PIXEL_RECIPE} {FITTED_RECIPE}")
