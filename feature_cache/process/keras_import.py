"""Importing Keras: without the messages of its backend, and with one clear error where the backend is missing.

Keras itself is not imported here: the rooms above do that inside `importing_keras`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from feature_cache.errors import MissingDependency
from feature_cache.process.native_output import native_stderr_silenced
from feature_cache.process.telemetry import keep_off

BACKENDS = ("tensorflow", "jax", "torch")


@contextlib.contextmanager
def importing_keras() -> Iterator[None]:
    """A block in which Keras, or what imports it, is imported.

    Raises
    ------
    MissingDependency
        When the backend of Keras is not installed.

    Examples
    --------
    >>> with importing_keras():
    ...     import keras
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    keep_off()  # OpenVINO may be the backend
    try:
        with native_stderr_silenced():  # TensorFlow prints messages when it is imported
            yield
    except ModuleNotFoundError as error:
        if (missing := missing_backend(error)) is None:
            raise
        raise missing from error


def missing_backend(error: BaseException) -> MissingDependency | None:
    """The error that says how to install a backend, where `error` says that Keras found none; None for others."""
    if not isinstance(error, ModuleNotFoundError) or error.name not in BACKENDS:
        return None
    choices = ", ".join(BACKENDS)
    return MissingDependency(
        f"Keras needs {error.name}: pip install 'layertap[{error.name}]', or set KERAS_BACKEND to another of {choices}."
    )
