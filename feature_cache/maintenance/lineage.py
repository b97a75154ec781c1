"""Lineage: which runs use which rows, so that nothing a kept run was made of is removed unawares.

A run says in its `config.json` which rows it used, by one digest; the cache keeps a note of where the run is. A run
counts as kept while its `config.json` holds the digest, or when it was made on another machine, where
nobody here can look.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from feature_cache.errors import StorageFailure
from feature_cache.features import Features
from feature_cache.files.atomic import new_file, new_folder
from feature_cache.files.checked import read_json, read_text, real_path
from feature_cache.files.run_folder import CONFIG_FILE
from feature_cache.segments.layout import RUNS_FOLDER

# Fields of the specs of what one pass through a net gives.
PASS = "net", "weights", "size", "fit", "interpolation", "preprocessing", "precision", "augmentation"


@dataclass(frozen=True)
class Used:
    """Rows of a space: how many, and the digest that identifies them (`Features.digest`)."""

    space: str
    rows: int
    digest: str


@dataclass(frozen=True)
class Citation(Used):
    """Rows that a run used, and where the run is."""

    run: str
    host: str


def used(features: Features) -> Used:
    """What to record of the rows that a run uses."""
    return Used(features.space.folder.name, len(features), features.digest)


def extraction_seconds(features: Any) -> float | None:
    """How long computing these rows took, or None where some segment does not tell.

    Layers that only differ in name and pooling are taken to come from one pass, which took as long as the longest.

    Parameters
    ----------
    features : Features or Joined
    """
    passes: dict[tuple[Any, ...], float] = {}
    for part in getattr(features, "parts", [features]):
        seconds = part.space.seconds(*part.keys())
        if seconds is None:
            return None
        key = tuple(getattr(part.space.spec, name) for name in PASS)
        passes[key] = max(passes.get(key, 0.0), seconds)
    return sum(passes.values())


def cite(root: Path, run: Path, rows: Iterable[Used]) -> None:
    """Note in the cache at `root`, if it can be written, that the run in folder `run` uses these rows."""
    for part in rows:
        citation = Citation(part.space, part.rows, part.digest, str(real_path(run)), socket.gethostname())
        name = hashlib.blake2b(repr((citation.host, citation.run, part.space)).encode(), digest_size=8).hexdigest()
        with contextlib.suppress(StorageFailure, OSError):
            new_folder(root / RUNS_FOLDER)
            with new_file(root / RUNS_FOLDER / f"{name}.json", "a note of the run", sync=False) as file:
                file.write(json.dumps(asdict(citation), indent=2).encode())


def citations(root: Path) -> list[Citation]:
    """What runs that are kept use."""
    found = []
    for file in sorted((root / RUNS_FOLDER).glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            citation = Citation(**read_json(file))
            if _is_kept(citation):
                found.append(citation)
    return found


def _is_kept(citation: Citation) -> bool:
    if not all(isinstance(text, str) for text in (citation.space, citation.digest, citation.run, citation.host)):
        return False
    if citation.host != socket.gethostname():
        return True
    try:
        return citation.digest in read_text(Path(citation.run) / CONFIG_FILE)
    except (OSError, ValueError):  # a name with a null character, too
        return False
