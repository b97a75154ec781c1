"""The version of Layertap that is installed, for provenance and for ``layertap --version``.

Importing this takes longer than importing ``layertap`` does, which looks the version up when it is asked for.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """The version, or ``unknown`` in a checkout that is not installed."""
    try:
        return version("layertap")
    except PackageNotFoundError:
        return "unknown"


__version__ = own_version()
