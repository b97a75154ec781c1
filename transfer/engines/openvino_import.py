"""Importing OpenVINO without its tools that convert models, which take as long to import as OpenVINO itself."""

from __future__ import annotations

import importlib
import sys
from typing import Any

_TOOLS = "openvino.tools.ovc"


def import_openvino() -> Any:
    """The package ``openvino``.

    Its function ``convert_model``, which Layertap does not use, is there for others, and imports those tools when it is
    called.
    """
    if "openvino" in sys.modules or _TOOLS in sys.modules:
        return importlib.import_module("openvino")
    sys.modules[_TOOLS] = None  # type: ignore[assignment]  # importing it fails, and OpenVINO does without
    try:
        openvino: Any = importlib.import_module("openvino")
    finally:
        del sys.modules[_TOOLS]
    if not hasattr(openvino, "convert_model"):
        openvino.convert_model = _convert_model
    return openvino


def _convert_model(*arguments: Any, **options: Any) -> Any:
    """OpenVINO's own function of this name."""
    return importlib.import_module(_TOOLS).convert_model(*arguments, **options)
