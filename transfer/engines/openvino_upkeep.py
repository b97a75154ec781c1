"""What is kept of converted nets, and the removal of what is old, too large in sum, or left by killed processes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from feature_cache.errors import StorageFailure
from feature_cache.maintenance.prune import DAY, DEAD_SECONDS, Removal
from transfer.engines import openvino_store

NEW = f"{openvino_store.NEW}*"


@dataclass(frozen=True)
class Conversion:
    """A converted net on disk, or the note that it cannot be converted.

    Attributes
    ----------
    folder : Path
    net : str
        The name of the net; empty where an earlier version kept it.
    bytes : int
    last_used : float
        In seconds since 1970.
    """

    folder: Path
    net: str
    bytes: int
    last_used: float


def kept() -> list[Conversion]:
    """All converted nets of this user, the most recently used first."""
    found = []
    for place in openvino_store.places():
        with contextlib.suppress(OSError):  # removed since
            size = sum(file.stat().st_size for file in place.iterdir())
            found.append(Conversion(place, openvino_store.net_of(place), size, place.stat().st_mtime))
    return sorted(found, key=lambda one: -one.last_used)


def candidates(*, older_than: float | None = None, max_bytes: float | None = None) -> list[Removal]:
    """The converted nets that these criteria select for removal, and what killed processes left; nothing is removed.

    A net that a process uses is never among them.

    Parameters
    ----------
    older_than : float, optional
        Nets not used for this many days.
    max_bytes : float, optional
        The least recently used nets, until the others have no more bytes than this.
    """
    removals, used = [], 0
    for one in kept():
        used += one.bytes
        days = (time.time() - one.last_used) / DAY
        reason = ""
        if older_than is not None and days > older_than:
            reason = f"not used for {days:.0f} days"
        elif max_bytes is not None and used > max_bytes:
            reason = "over the budget, least recently used"
        if reason and openvino_store.is_free(one.folder):
            used -= one.bytes
            removals.append(_removal(f"converted {one.net or one.folder.name[:8]}", reason, [one.folder]))
    return [*removals, *_leftovers()]


def remove(removals: Collection[Removal]) -> None:
    """Remove what `candidates` selected, but for nets that a process uses by now.

    Raises
    ------
    StorageFailure
        When one cannot be removed.
    """
    for place in dict.fromkeys(file.parent for removal in removals for file in removal.files):
        try:
            openvino_store.remove(place)
        except OSError as error:
            raise StorageFailure(f"cannot remove {place}: {error.strerror}.") from error


def _leftovers() -> list[Removal]:
    """Unfinished conversions of dead processes."""
    dead = []
    with contextlib.suppress(OSError):
        for place in openvino_store.folder().glob(NEW):
            if time.time() - place.stat().st_mtime > DEAD_SECONDS:
                dead.append(place)
    return [_removal("converted nets", "unfinished files of dead processes", dead)] if dead else []


def _removal(name: str, reason: str, folders: list[Path]) -> Removal:
    files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]
    return Removal(name, reason, files, sum(file.lstat().st_size for file in files))
