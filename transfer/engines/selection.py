"""Which engine runs a net. Keras is not imported here: a converted net does not need it."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from feature_cache.errors import InvalidChoice, MissingDependency
from feature_cache.process.keras_import import chosen_backend
from transfer.engines.openvino_import import import_openvino

ENGINES = ("auto", "keras", "openvino")
# There is a GPU, or a TPU, only where one of these is.
DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/accel0", "/dev/vfio")


def choose(engine: str, precision: str = "float32") -> str:
    """The engine to use: ``keras`` or ``openvino``.

    ``auto`` is OpenVINO where it is installed and nets are computed on the CPU, whatever the Keras backend: it was
    the fastest on every net of ``benchmarks/README.md``, by 1.3 to 4 times. XLA is never chosen: on CPUs it is
    slower on depthwise convolutions, several times. Below float32, OpenVINO is for processors that compute so.

    Raises
    ------
    InvalidChoice
        When `engine` is not one of `ENGINES`, or cannot be used with the processor in use.
    MissingDependency
        When OpenVINO is asked for and not installed.
    """
    if engine not in ENGINES:
        raise InvalidChoice(f"there is no engine {engine!r}; allowed: {', '.join(ENGINES)}.")
    if precision == "int8":
        return _of_int8(engine)
    if engine == "openvino":
        if find_spec("openvino") is None:
            raise MissingDependency("the engine openvino needs the package openvino: pip install openvino")
        if not _has(precision):
            raise InvalidChoice(f"OpenVINO does not compute in {precision} on this processor; use `engine='keras'`.")
    if engine != "auto":
        return engine
    if find_spec("openvino") is None or accelerated(keras_backend()):
        return "keras"
    return "openvino" if _has(precision) else "keras"


def require_openvino(engine: str, precision: str, name: str) -> None:
    """Raise where the net of a file for OpenVINO, called `name`, cannot be computed as is asked for.

    Raises
    ------
    InvalidChoice
        When `engine` is another one, or the processor does not compute in `precision`.
    MissingDependency
        When OpenVINO is not installed.
    """
    if engine not in ("auto", "openvino"):
        raise InvalidChoice(f"`engine={engine!r}` does not compute {name}, a file for OpenVINO; leave it out.")
    if find_spec("openvino") is None:
        raise MissingDependency(f"{name} is computed by OpenVINO, which is not installed: pip install openvino")
    if not _has(precision):
        raise InvalidChoice(
            f"OpenVINO does not compute in {precision} on this processor, and nothing else computes {name}; use "
            "`precision='float32'`."
        )


def _of_int8(engine: str) -> str:
    """OpenVINO on the CPU, which alone computes in int8; an error where another engine is asked for, or is faster."""
    if engine == "keras":
        raise InvalidChoice("int8 is computed by OpenVINO; leave out `engine='keras'`, or use another `precision`.")
    if find_spec("openvino") is None:
        raise MissingDependency("`precision='int8'` needs the package openvino: pip install 'layertap[int8]'")
    if engine == "auto" and accelerated(keras_backend()):
        raise InvalidChoice(
            "int8 is for CPUs, and there is a GPU: use `precision='float16'` on it, or `engine='openvino'` on the CPU."
        )
    return "openvino"


def _has(precision: str) -> bool:
    """Whether OpenVINO computes so on this processor; it is asked only for less than float32."""
    if precision in ("float32", "int8"):
        return True
    name = {"bfloat16": "BF16", "float16": "FP16"}[precision]
    return name in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def keras_backend() -> str:
    """The name of the backend that Keras uses, or would use."""
    if "keras" in sys.modules:
        return str(sys.modules["keras"].backend.backend())
    return chosen_backend()


def accelerated(backend: str) -> bool:
    """Whether the Keras backend computes on something else than the CPU; it is asked only where there may be such."""
    apple = sys.platform == "darwin" and backend == "torch"
    if not apple and not any(Path(device).exists() for device in DEVICES):
        return False
    match backend:
        case "tensorflow":
            import tensorflow  # slow to load

            return bool(tensorflow.config.list_physical_devices("GPU"))
        case "jax":
            import jax  # optional, and slow to load

            return bool(jax.default_backend() != "cpu")
        case "torch":
            import torch  # optional, and slow to load

            return bool(torch.cuda.is_available() or torch.backends.mps.is_available())
    return False
