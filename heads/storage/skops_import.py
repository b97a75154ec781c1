"""Importing skops without all of scikit-learn, which it imports to learn the names of the types that it trusts.

A command that reads a head needs a few of them. While `light_imports` is open, skops is imported with empty lists of
estimators and functions. Names of estimators in a file are then looked up in the public modules of scikit-learn that
they come from, which are among those that skops searches, and for any other name skops makes its lists after all. So
no type is trusted that skops would not trust.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import sklearn.utils
from sklearn.base import BaseEstimator

from feature_cache.process.sklearn_import import Execute, is_light, spec_executed_by

LISTS = "skops.io._trusted_types"
LIST_NAMES = (
    "SKLEARN_ESTIMATOR_TYPE_NAMES",
    "SKLEARN_INTERNAL_TYPE_NAMES",
    "SCIPY_UFUNC_TYPE_NAMES",
    "NUMPY_UFUNC_TYPE_NAMES",
)
# What scikit-learn's own search for estimators passes over.
PASSED_OVER = {"tests", "externals", "setup", "conftest", "experimental", "estimator_checks"}
# skops trusts a type of this module if it can import it, and loads all ensembles for that; we trust it by its name.
ENSEMBLES = "sklearn.ensemble._hist_gradient_boosting.binning"

_state = {"whole": True}  # whether skops has its lists


def skops_io() -> Any:
    """`skops.io`, with empty lists where it was imported lightly (see `trusted_by_skops`)."""
    if "skops.io" not in sys.modules and is_light():
        finder = _Finder()
        sys.meta_path.insert(0, finder)
        try:
            import skops.io  # heavy
        finally:
            sys.meta_path.remove(finder)
    import skops.io  # heavy: it loads nearly all of scikit-learn

    return skops.io


def trusted_by_skops(names: Iterable[str]) -> set[str]:
    """Those of these types, which skops refuses, that it would not if it had its lists.

    Parameters
    ----------
    names : iterable of str
        Types by their modules and names, from a file that nobody trusts.
    """
    names = set(names)
    if _state["whole"] or not names:
        return set()
    found = {name for name in names if _is_public_estimator(name)}
    if found != names:
        lists = _whole_lists()
        found |= names & set(itertools.chain.from_iterable(getattr(lists, name, ()) for name in LIST_NAMES))
    return found


def _is_public_estimator(name: str) -> bool:
    """Whether a type is an estimator that the public module above it, or its own, holds by its name."""
    module, _, own_name = name.rpartition(".")
    parts = module.split(".")
    if parts[0] != "sklearn" or own_name.startswith("_") or PASSED_OVER & set(parts):
        return False
    public = itertools.takewhile(lambda part: not part.startswith("_"), parts)
    try:
        kind = getattr(importlib.import_module(".".join(public)), own_name, None)
    except (ImportError, ValueError):
        return False
    if not inspect.isclass(kind) or not issubclass(kind, BaseEstimator) or kind is BaseEstimator:
        return False
    return not inspect.isabstract(kind) and f"{kind.__module__}.{kind.__name__}" == name


def _whole_lists() -> ModuleType:
    """A module with the lists of skops, which its own code makes."""
    spec = PathFinder.find_spec(LISTS, sys.modules["skops.io"].__path__)  # not the one of the light import
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Finder(MetaPathFinder):
    """Finds the module that makes the lists, and has it make empty ones."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != LISTS:
            return None

        def execute_lightly(execute: Execute, module: ModuleType) -> None:
            with _searches_that_find_nothing():
                execute(module)
            _state["whole"] = False

        return spec_executed_by(execute_lightly, fullname, path, target)


@contextmanager
def _searches_that_find_nothing() -> Iterator[None]:
    """While it is open, what skops searches scikit-learn, SciPy and NumPy by finds nothing."""
    utils = sys.modules["skops.io._utils"]
    searches = [(sklearn.utils, "all_estimators"), (utils, "get_public_type_names")]
    before = [(module, name, getattr(module, name)) for module, name in searches if hasattr(module, name)]
    put = ENSEMBLES not in sys.modules
    if put:
        sys.modules[ENSEMBLES] = None  # type: ignore[assignment]
    for module, name, _ in before:
        setattr(module, name, lambda **_: [])
    try:
        yield
    finally:
        for module, name, search in before:
            setattr(module, name, search)
        if put:
            del sys.modules[ENSEMBLES]
