"""The number of threads that the libraries under NumPy and scikit-learn use.

The libraries are searched for only once, because the search takes longer than many heads take to be fitted.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any

from threadpoolctl import ThreadpoolController


def blas_threads() -> int:
    """The number of threads that BLAS may use at present."""
    infos = _libraries().info()
    return max((library["num_threads"] for library in infos if library["user_api"] == "blas"), default=1)


def limited(threads: int | None, *, openmp: bool = False) -> AbstractContextManager[Any]:
    """A context that limits BLAS to a number of threads, from this call until the context ends.

    Parameters
    ----------
    threads : int or None
        None changes nothing.
    openmp : bool
        Whether OpenMP is limited as well.
    """
    return _libraries().limit(limits=threads, user_api=None if openmp else "blas")


@functools.cache
def _libraries() -> ThreadpoolController:
    """The libraries that are loaded when a head is first used."""
    return ThreadpoolController()
