"""What a net had to be built for is remembered: the names of its layers, and how many tokens are no patches.

Without it, every command that looks features of such a net up would build the net, which takes seconds, although all
that it wants may be stored. The memo only saves work: where it cannot be used, the net is built.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from feature_cache.files.atomic import replacement
from feature_cache.files.checked import read_json
from feature_cache.files.user_folder import user_folder
from feature_cache.version import own_version
from transfer.nets.catalogue import Net

MOST = 500  # entries; the ones that were added first go
_FORM = 2  # is raised when other layers, or other numbers of tokens, are found in the same net

Counts = tuple[tuple[str, int | None], ...]


def key_of(net: Net, size: tuple[int, int] | None, asked: Sequence[Any]) -> str | None:
    """What the layers of a net depend on, as a digest; None for a net that is built anyway to identify it.

    Parameters
    ----------
    size : (height, width), optional
        Of the net's input.
    asked : sequence
        The other parts of the request that matter, as JSON can hold them.
    """
    if net.is_code:
        return None
    try:
        keras = version("keras")
    except PackageNotFoundError:
        keras = ""
    parts = [_FORM, own_version(), keras, net.net_id, net.weights_id, size, *asked]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def recall(key: str) -> tuple[tuple[str, ...], Counts | None] | None:
    """The names of the layers, and for each the number of tokens that are no patches; None where none are remembered.

    The numbers are None where they were not asked for.
    """
    try:
        layers, counts = _entries()[key]
        names = tuple(str(name) for name in layers)
        return names, None if counts is None else tuple((str(name), _count(count)) for name, count in counts)
    except (KeyError, TypeError, ValueError):
        return None


def remember(key: str, layers: Sequence[str], counts: Counts | None) -> None:
    """Keep what was found in a net that has been built."""
    entries = _entries()
    entries.pop(key, None)
    entries[key] = [list(layers), counts]
    kept = dict(list(entries.items())[-MOST:])
    with contextlib.suppress(OSError):  # no place for it
        _file().parent.mkdir(parents=True, exist_ok=True)
        with replacement(_file()) as temporary:
            temporary.write_text(json.dumps(kept))


def _file() -> Path:
    return user_folder() / "layers.json"


def _entries() -> dict[str, Any]:
    try:
        entries = read_json(_file())
    except (OSError, ValueError):  # not there, or damaged
        return {}
    return entries if isinstance(entries, dict) else {}


def _count(value: Any) -> int | None:
    if value is not None and (type(value) is not int or value < 0):
        raise ValueError("not a number of tokens")
    return value
