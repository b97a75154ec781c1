"""The modules of Python whose code the user trusts: files may name what is in them."""

from __future__ import annotations

import os
from collections.abc import Iterable

VARIABLE = "LAYERTAP_TRUST"  # of the environment, so that processes that are started know it too: names with commas


def trust(modules: Iterable[str]) -> None:
    """Trust these modules, and no others, from now on in this process and those that it starts."""
    os.environ[VARIABLE] = ",".join(modules)


def is_trusted(module: str) -> bool:
    """Whether a module is trusted, or the package that it is in.

    Examples
    --------
    >>> trust(["mylayers"])
    >>> is_trusted("mylayers.blocks"), is_trusted("mylayers2"), is_trusted("os")
    (True, False, False)
    >>> trust([])
    """
    return any(module == name or module.startswith(f"{name}.") for name in trusted_modules())


def trusted_modules() -> tuple[str, ...]:
    """The names of all trusted modules."""
    return tuple(filter(None, map(str.strip, os.environ.get(VARIABLE, "").split(","))))
