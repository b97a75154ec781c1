"""Importing scikit-learn without packages that it imports at once and seldom uses.

Half of the time that scikit-learn 1.9 takes to import goes into `scipy.stats`, of which it calls a few functions, and
into pandas, which it can do without. A command that uses neither need not wait for them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

STATS = "scipy.stats"


@contextmanager
def light_imports() -> Iterator[None]:
    """While it is open, modules of scikit-learn are imported without `scipy.stats` and pandas.

    Functions of `scipy.stats` load it when they are called. Whoever else imports the two gets them as always.
    """
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Finds scikit-learn's modules where they are, and has them executed with stand-ins."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != "sklearn":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        loader: Any = spec and spec.loader
        if loader is not None:
            execute = loader.exec_module

            def execute_lightly(module: ModuleType) -> None:
                try:
                    with _stand_ins():
                        execute(module)
                except Exception:  # another version may need the real ones at once
                    execute(module)

            loader.exec_module = execute_lightly
        return spec


@contextmanager
def _stand_ins() -> Iterator[None]:
    """While it is open, `scipy.stats` is a stand-in and pandas is missing, unless they are loaded already."""
    modules: dict[str, Any] = {STATS: _Stats(STATS), "pandas": None}
    put = {name: module for name, module in modules.items() if name not in sys.modules}
    sys.modules.update(put)
    try:
        yield
    finally:
        for name in put:
            sys.modules.pop(name, None)
        if STATS in put and "scipy" in sys.modules:
            vars(sys.modules["scipy"]).pop("stats", None)  # scipy imports it when it is asked for


class _Stats(ModuleType):
    """A stand-in for `scipy.stats`, whose functions load it when they are called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Later(name)


class _Later:
    """A function, or a distribution, of `scipy.stats` that is not loaded yet."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._real()(*args, **kwargs)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._real(), attribute)

    def _real(self) -> Any:
        return getattr(importlib.import_module(STATS), self._name)
