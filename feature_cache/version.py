"""The version of Layertap that is installed, for provenance and for ``layertap --version``."""

from __future__ import annotations


def own_version() -> str:
    """The version, or ``unknown`` in a checkout that is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # it imports much, such as e-mail, for few callers

    try:
        return version("layertap")
    except PackageNotFoundError:
        return "unknown"
