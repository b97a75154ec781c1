"""Public names of a package that are imported when they are first used, so that importing the package stays light."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package whose names are imported when they are first used.

    Parameters
    ----------
    package : str
        Its name: ``__name__``.
    homes : mapping of str to str
        The module that each public name comes from.

    Examples
    --------
    >>> find = lazy_names("feature_cache", {"OrderedDict": "collections"})
    >>> find("OrderedDict").__name__
    'OrderedDict'
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)  # found at once from now on
        return value

    return find
