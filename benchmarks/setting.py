"""What a benchmark was run on, for the line above its table."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version


def setting(*packages: str) -> str:
    """The machine, and the versions of Python and of these packages."""
    versions = (f"{name} {version(name)}" for name in packages)
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {', '.join(versions)}"
