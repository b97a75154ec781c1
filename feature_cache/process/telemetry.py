"""OpenVINO's telemetry, which stays off unless the user has turned it on.

The package ``openvino_telemetry`` comes with OpenVINO. When OpenVINO is imported, it reports that to a server, unless
the user has opted out or it finds itself in CI, and it makes a folder ``intel`` in the home folder, or warns that it
cannot. Here consent is what the user gave, by ``opt_in_out --opt_in``, and not what was never refused.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

PACKAGE = "openvino_telemetry"


def keep_off() -> None:
    """Let OpenVINO, when it is imported from now on, do without telemetry, unless the user has turned that on."""
    if PACKAGE not in sys.modules and not _turned_on():
        sys.modules[PACKAGE] = None  # type: ignore[assignment]  # importing it fails, and OpenVINO has a stub for that


def _turned_on() -> bool:
    """Whether the file of consent that ``opt_in_out`` writes says so."""
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # there may be no home folder
        if sys.platform == "win32":
            folder = Path(os.environ.get("LOCALAPPDATA", ""), "Intel Corporation")
        else:
            folder = Path.home() / "intel"
        return (folder / PACKAGE).read_text(encoding="utf-8").strip() == "1"
    return False
