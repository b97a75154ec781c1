"""Importing Keras: without the messages of its backend, and with one clear error where the backend is missing.

Keras itself is not imported here: the rooms above do that inside `importing_keras`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from feature_cache.errors import MissingDependency
from feature_cache.files.checked import read_json
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
    if (backend := chosen_backend()) != "tensorflow":  # which is Keras's own choice
        os.environ["KERAS_BACKEND"] = backend
    try:
        with native_stderr_silenced():  # TensorFlow prints messages when it is imported
            yield
    except ModuleNotFoundError as error:
        if (missing := missing_backend(error)) is None:
            raise
        raise missing from error


def chosen_backend() -> str:
    """The backend that the user has chosen for Keras; else the first that is installed.

    OpenVINO stands in where no other is installed; with it nets compute and cannot be trained. What Keras itself notes
    in ``keras.json``, TensorFlow, is no choice.
    """
    if named := os.environ.get("KERAS_BACKEND"):
        return named
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if (named := str(read_json(home / "keras.json")["backend"])) != BACKENDS[0]:
            return named
    installed = [name for name in (*BACKENDS, "openvino") if find_spec(name)]
    return installed[0] if installed else BACKENDS[0]


def require_training() -> None:
    """Raise MissingDependency where Keras has no backend that can train."""
    if chosen_backend() == "openvino":
        raise MissingDependency(
            "training a net needs TensorFlow, JAX or PyTorch: pip install 'layertap[tensorflow]', and leave "
            "KERAS_BACKEND unset."
        )


def missing_backend(error: BaseException) -> MissingDependency | None:
    """The error that says how to install a backend, where `error` says that Keras found none; None for others."""
    if not isinstance(error, ModuleNotFoundError) or error.name not in BACKENDS:
        return None
    choices = ", ".join(BACKENDS)
    return MissingDependency(
        f"Keras needs {error.name}: pip install 'layertap[{error.name}]', or set KERAS_BACKEND to another of {choices}."
    )
