"""Which engine runs a net. Keras is not imported here: a converted net does not need it."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from feature_cache.errors import InvalidChoice, MissingDependency
from feature_cache.files.checked import read_json

ENGINES = ("auto", "keras", "openvino")


def choose(engine: str, precision: str = "float32") -> str:
    """The engine to use: ``keras`` or ``openvino``.

    ``auto`` is OpenVINO where nets are computed on the CPU and TensorFlow is there to convert them: it was
    the fastest on every net of ``benchmarks/README.md``, by 1.3 to 4 times. XLA is never chosen: on CPUs it is
    slower on depthwise convolutions, several times. Below float32, OpenVINO is for processors that compute so.

    Raises
    ------
    InvalidChoice
        When `engine` is not one of `ENGINES`, or cannot be used with the Keras backend or the processor in use.
    MissingDependency
        When OpenVINO is asked for and not installed.
    """
    if engine not in ENGINES:
        raise InvalidChoice(f"there is no engine {engine!r}; allowed: {', '.join(ENGINES)}.")
    backend = keras_backend()
    if engine == "openvino":
        if find_spec("openvino") is None:
            raise MissingDependency("the engine openvino needs the package openvino: pip install openvino")
        if backend != "tensorflow":
            raise InvalidChoice(
                f"OpenVINO converts nets by way of TensorFlow, and the Keras backend is {backend}; "
                "set KERAS_BACKEND=tensorflow, or use `engine='keras'`."
            )
        if not _has(precision):
            raise InvalidChoice(f"OpenVINO does not compute in {precision} on this processor; use `engine='keras'`.")
    if engine != "auto":
        return engine
    if backend == "tensorflow" and find_spec("openvino") and find_spec("tensorflow") and not has_gpu():
        return "openvino" if _has(precision) else "keras"
    return "keras"


def _has(precision: str) -> bool:
    """Whether OpenVINO computes so on this processor; it is asked only for less than float32."""
    if precision == "float32":
        return True
    import openvino

    name = {"bfloat16": "BF16", "float16": "FP16"}[precision]
    return name in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def keras_backend() -> str:
    """The name of the backend that Keras uses, or would use."""
    if "keras" in sys.modules:
        return str(sys.modules["keras"].backend.backend())
    if named := os.environ.get("KERAS_BACKEND"):
        return named
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        return str(read_json(home / "keras.json")["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow"


def has_gpu() -> bool:
    """Whether TensorFlow would compute on a GPU; it is asked only where there may be one."""
    if not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")):
        return False
    import tensorflow

    return bool(tensorflow.config.list_physical_devices("GPU"))


def accelerated(backend: str) -> bool:
    """Whether the Keras backend computes on something else than the CPU; this imports it."""
    match backend:
        case "jax":
            import jax

            return jax.default_backend() != "cpu"
        case "torch":
            import torch

            return torch.cuda.is_available() or torch.backends.mps.is_available()
    return has_gpu()
