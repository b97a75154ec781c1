"""Modules that files written by earlier versions import, and that have moved: found under their former names.

A file that a user keeps, such as a submission to a RAMP kit, names modules of the version that wrote it. Each room
registers its own former modules; nothing in this repository imports them. A module that exists is always preferred.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds former modules, each as an empty package whose attributes are those of the module that has its names now.

    Attributes
    ----------
    names : dict of str to str
        The module that has the names now, by the former one.
    """

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.names:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def exec_module(self, module: ModuleType) -> None:
        now = self.names[module.__name__]

        def attribute(name: str) -> Any:
            if name.startswith("__"):  # what Python asks of every module
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            return getattr(importlib.import_module(now), name)

        vars(module)["__getattr__"] = attribute


_FINDER = _Finder()


def register(names: Mapping[str, str]) -> None:
    """Have former modules found.

    Parameters
    ----------
    names : mapping of str to str
        The full name of the module that has the names now, by the full name of the former one. It is imported when
        one of its names is first used.

    Examples
    --------
    >>> register({"feature_cache.former": "feature_cache.errors"})
    >>> from feature_cache.former import DamagedFile
    >>> DamagedFile.__module__
    'feature_cache.errors'
    """
    _FINDER.names.update(names)
    if _FINDER not in sys.meta_path:
        sys.meta_path.append(_FINDER)  # last: modules that exist come first
