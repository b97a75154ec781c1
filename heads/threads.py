"""Threads of the libraries under NumPy and scikit-learn, looked for once: that takes longer than many a fit."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any

from threadpoolctl import ThreadpoolController


def blas_threads() -> int:
    """How many threads BLAS may use now."""
    return max((found["num_threads"] for found in _libraries().info() if found["user_api"] == "blas"), default=1)


def limited(threads: int | None, *, openmp: bool = False) -> AbstractContextManager[Any]:
    """BLAS, and OpenMP if asked, kept to so many threads from now until the context ends; None leaves it as it is."""
    return _libraries().limit(limits=threads, user_api=None if openmp else "blas")


@functools.cache
def _libraries() -> ThreadpoolController:
    """Those that are loaded when a head is first used."""
    return ThreadpoolController()
