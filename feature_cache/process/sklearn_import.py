"""Importing scikit-learn without packages that it imports at once and seldom uses.

Half of the time that scikit-learn 1.9 takes to import goes into `scipy.stats`, of which it calls a few functions, and
into pandas, which it can do without. joblib imports asyncio, which loads OpenSSL, for functions of coroutines; and
SciPy and scikit-learn copy NumPy's namespace with the submodules in it, f2py and the tools for tests. A command that
uses none of these need not wait for them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

Execute = Callable[[ModuleType], None]

SCIKIT_LEARN = "sklearn"
# What is postponed while a module is executed, by its name; "sklearn" stands for all other modules of scikit-learn.
# Of these, pandas is missing: scikit-learn asks whether it is there.
POSTPONED: dict[str, tuple[str, ...]] = {
    SCIKIT_LEARN: ("scipy.stats", "pandas"),
    "joblib.memory": ("asyncio",),
    "scipy._lib.array_api_compat.numpy": ("numpy.f2py", "numpy.testing"),
    "sklearn.externals.array_api_compat.numpy": ("numpy.f2py", "numpy.testing"),
}
MISSING = ("pandas",)


@contextmanager
def light_imports() -> Iterator[None]:
    """While it is open, scikit-learn, and some of joblib and SciPy, are imported without what is `POSTPONED`.

    Functions of a module that is postponed load it when they are called. Whoever else imports it gets it as always.
    """
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def is_light() -> bool:
    """Whether `light_imports` is open."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


class _Finder(MetaPathFinder):
    """Finds these modules where they are, and has them executed with stand-ins."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package = fullname.partition(".")[0]
        postponed = POSTPONED.get(fullname, POSTPONED[SCIKIT_LEARN] if package == SCIKIT_LEARN else None)
        if postponed is None:
            return None

        def execute_lightly(execute: Execute, module: ModuleType) -> None:
            try:
                with _stand_ins(postponed):
                    execute(module)
            except Exception:  # another version may need the real ones at once
                execute(module)

        return spec_executed_by(execute_lightly, fullname, path, target)


def spec_executed_by(
    how: Callable[[Execute, ModuleType], None], fullname: str, path: Sequence[str] | None, target: ModuleType | None
) -> ModuleSpec | None:
    """The spec of a module where it is, which is executed in a way of the caller's; None where it is not found.

    Parameters
    ----------
    how : callable
        Is given what executes the module otherwise, and the module.
    fullname, path, target
        As `MetaPathFinder.find_spec` is given them.
    """
    spec = PathFinder.find_spec(fullname, path, target)
    loader: Any = spec and spec.loader
    if loader is not None:
        loader.exec_module = partial(how, loader.exec_module)
    return spec


@contextmanager
def _stand_ins(names: Sequence[str]) -> Iterator[None]:
    """While it is open, these modules are stand-ins, or missing, unless they are loaded already."""
    put: dict[str, Any] = {
        name: None if name in MISSING else _Postponed(name) for name in names if name not in sys.modules
    }
    for name, module in put.items():
        sys.modules[name] = module
        package, _, attribute = name.rpartition(".")
        if module is not None and package in sys.modules:
            setattr(sys.modules[package], attribute, module)  # as if it had been imported
    try:
        yield
    finally:
        for name, module in put.items():
            if sys.modules.get(name) is module:
                sys.modules.pop(name, None)
            package, _, attribute = name.rpartition(".")
            if package in sys.modules and vars(sys.modules[package]).get(attribute) is module:
                delattr(sys.modules[package], attribute)  # the package imports it when it is asked for


class _Postponed(ModuleType):
    """A stand-in for a module, whose functions load it when they are called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Later(self.__name__, name)


class _Later:
    """A function, a class or the like of a module that is not loaded yet."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._real()(*args, **kwargs)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._real(), attribute)

    def _real(self) -> Any:
        return getattr(importlib.import_module(self._module), self._name)
