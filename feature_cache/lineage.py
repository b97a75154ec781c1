"""Lineage: which runs use which rows, so that nothing an existing run was made of is removed unawares.

When a run is written, the cache records which rows it was made of, the file that describes the run, and the digest of
that file. The run counts as existing while that file is unaltered, or where it is on another machine, where nobody here
can look. Records of early versions name no file: their run exists while its `config.json` mentions the rows.
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

from feature_cache.errors import LayertapError
from feature_cache.features import Features
from feature_cache.files.atomic import new_file, new_folder
from feature_cache.files.checked import read_json, read_text, real_path
from feature_cache.files.sealed_folder import file_digest
from feature_cache.remote import storage
from feature_cache.segments.layout import RUNS_FOLDER

EARLY_FILE = "config.json"  # what describes a run whose record names no file
# Fields of the specs of what one pass through a net gives.
PASS = (
    "net", "weights", "size", "fit", "fill", "interpolation", "preprocessing", "precision", "calibration",
    "augmentation",
)  # fmt: skip


@dataclass(frozen=True)
class Used:
    """Rows of a space: their number, and the digest that identifies them (`Features.digest`)."""

    space: str
    rows: int
    digest: str


@dataclass(frozen=True)
class Citation(Used):
    """Rows that a run used, and where the run is.

    Attributes
    ----------
    run : str
        The folder of the run.
    host : str
        The name of the machine.
    file : str
        The name of the file that describes the run; empty in records of early versions.
    sha256 : str
        The digest of that file.
    """

    run: str
    host: str
    file: str = ""
    sha256: str = ""


def used(features: Features) -> Used:
    """The record of the rows that a run uses."""
    return Used(features.space.folder.name, len(features), features.digest)


def extraction_seconds(features: Any) -> float | None:
    """How long computing these rows took, or None where a segment does not record it.

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


def cite(root: Path, file: Path, rows: Iterable[Used]) -> None:
    """Record in the cache at `root`, if it can be written, that the run which `file` describes uses these rows."""
    run, host = str(real_path(file.parent)), socket.gethostname()
    digest = ""
    with contextlib.suppress(OSError):
        digest = file_digest(file)
    for part in rows:
        citation = Citation(part.space, part.rows, part.digest, run, host, file.name if digest else "", digest)
        name = hashlib.blake2b(repr((host, run, part.space)).encode(), digest_size=8).hexdigest()
        with contextlib.suppress(LayertapError, OSError):
            new_folder(root / RUNS_FOLDER)
            note = storage.new_path(root / RUNS_FOLDER / f"{name}.json")
            with new_file(note, "a note of the run", sync=False) as record:
                record.write(json.dumps(asdict(citation), indent=2).encode())
            storage.publish(note)


def citations(root: Path) -> list[Citation]:
    """The rows that existing runs use."""
    citations, files = [], storage.matching(root / RUNS_FOLDER, "*.json")
    storage.fetch_ahead(files)
    for file in files:
        with contextlib.suppress(OSError, ValueError, TypeError):
            citation = Citation(**read_json(file))
            if _exists(citation):
                citations.append(citation)
    return citations


def _exists(citation: Citation) -> bool:
    """Whether the run that a citation names exists."""
    if not all(isinstance(text, str) for name, text in asdict(citation).items() if name != "rows"):
        return False
    if citation.host != socket.gethostname():
        return True
    try:
        if citation.sha256:
            return file_digest(Path(citation.run) / citation.file) == citation.sha256
        return citation.digest in read_text(Path(citation.run) / EARLY_FILE)
    except (OSError, ValueError):  # a name with a null character, too
        return False
