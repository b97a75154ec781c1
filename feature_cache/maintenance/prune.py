"""Pruning: removal of spaces that are old, too large in sum, or named, and of the files that killed writers left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from feature_cache.cache import FeatureCache
from feature_cache.errors import DamagedFile, InvalidChoice, LayertapError, StorageFailure
from feature_cache.files import quantised_nets
from feature_cache.files.atomic import abandoned
from feature_cache.lineage import citations
from feature_cache.remote import storage
from feature_cache.segments.layout import GRAPH_FILES, INDEX_FILE, SEGMENTS, SET_ASIDE, SPEC_FILE, TEMPORARY, USED_FILE

# No writer pauses for as long as this: a temporary file that has not changed since belongs to a dead process.
DEAD_SECONDS = 3600
DAY = 24 * 3600


@dataclass(frozen=True)
class Removal:
    """Something that can be removed.

    Attributes
    ----------
    name : str
        A space, or files in one.
    reason : str
    files : list of Path
    bytes : int
    cited_by : list of str
        Kept runs that used rows of the space.
    """

    name: str
    reason: str
    files: list[Path]
    bytes: int
    cited_by: list[str] = field(default_factory=list)


def candidates(
    cache: FeatureCache,
    *,
    spaces: Collection[str] = (),
    older_than: float | None = None,
    max_bytes: float | None = None,
    cited: bool = False,
) -> list[Removal]:
    """The spaces and files that these criteria select for removal; nothing is removed.

    Temporary files that nothing has written to for an hour, segments that were set aside, and quantised nets that no
    space names any more are always among them.

    Parameters
    ----------
    spaces : collection of str
        Names of spaces.
    older_than : float, optional
        Spaces not used for this many days.
    max_bytes : float, optional
        The least recently used spaces, until the others have no more bytes than this.
    cited : bool
        Whether spaces that existing runs use will be removed too; otherwise their size counts as remaining.

    Raises
    ------
    InvalidChoice
        When there is no space of one of the names, or it is a link to another place.
    """
    for name in spaces:
        if cache.folder(name).is_symlink():
            raise InvalidChoice(f"{cache.root / name} is a link; remove it, and what it leads to, by hand.")
    runs: dict[str, list[str]] = {}
    for citation in citations(cache.root):
        runs.setdefault(citation.space, []).append(citation.run)
    own = [name for name in cache.spaces() if not (cache.root / name).is_symlink()]
    used = {name: storage.last_used(cache.root / name) for name in own}
    reasons = dict.fromkeys(spaces, "named")
    if older_than is not None:
        for name, when in used.items():
            days = (time.time() - when) / DAY
            if days > older_than:
                reasons.setdefault(name, f"not used for {days:.0f} days")
    if max_bytes is not None:
        staying = frozenset() if cited else runs.keys()
        reasons |= _over_budget(cache, used, max_bytes, reasons.keys(), staying)
    removals = []
    for name in sorted(reasons):
        files = _own_files(cache.root / name)
        removals.append(Removal(name, reasons[name], files, _bytes(files), runs.get(name, [])))
    rest = [cache.root, *(cache.root / name for name in used if name not in reasons)]
    leaving = {removal.name for removal in removals if cited or not removal.cited_by}
    nets = _unused_nets(cache, [name for name in cache.spaces() if name not in leaving])
    return [*removals, *(removal for folder in rest for removal in _leftovers(folder)), *nets]


def _unused_nets(cache: FeatureCache, staying: Collection[str]) -> list[Removal]:
    """The quantised nets that none of the spaces that stay names; one that is being put to use is left alone."""
    named = set()
    for name in staying:
        try:
            named.add(cache.open(name).spec.calibration)
        except DamagedFile:  # nobody knows which net it names
            return []
    removals = []
    for files in quantised_nets.files_of_others(cache.root, {text for text in named if text is not None}):
        if files and time.time() - max(map(storage.modified, files)) > DEAD_SECONDS:
            removals.append(Removal(files[0].parent.name, "quantised net that no space names", files, _bytes(files)))
    return removals


def _leftovers(folder: Path) -> list[Removal]:
    """The files in a folder that are of no use: temporary files of dead writers, and segments that were set aside."""
    leftovers = {
        "temporary files of dead writers": abandoned(folder, DEAD_SECONDS),
        "damaged segments set aside": _files(folder, SET_ASIDE),
    }
    return [Removal(folder.name, reason, files, _bytes(files)) for reason, files in leftovers.items() if files]


def _over_budget(
    cache: FeatureCache, used: dict[str, float], most: float, chosen: Collection[str], staying: Collection[str]
) -> dict[str, str]:
    """The least recently used spaces, with the reason, until those that are left have at most `most` bytes.

    Parameters
    ----------
    used : dict of str to float
        When each space was last used.
    chosen : collection of str
        Spaces that are selected already.
    staying : collection of str
        Spaces that are not removed, though they may be selected.
    """
    sizes = {name: _bytes(_own_files(cache.root / name)) for name in used}
    left = sum(size for name, size in sizes.items() if name not in chosen or name in staying)
    reasons = {}
    for name in sorted(used, key=used.__getitem__):
        if left > most and name not in chosen:
            reasons[name] = "over the budget, least recently used"
            left -= 0 if name in staying else sizes[name]
    return reasons


def remove(removals: Collection[Removal]) -> None:
    """Remove the files, and the folders of spaces that are empty then.

    Raises
    ------
    StorageFailure
        When one cannot be removed.
    """
    for removal in removals:
        for file in removal.files:
            try:
                storage.erase(file)
            except LayertapError:
                raise
            except OSError as error:
                raise StorageFailure(f"cannot remove {file}: {error.strerror}.") from error
        for folder in {file.parent for file in removal.files}:
            with contextlib.suppress(OSError):  # something else is in it
                folder.rmdir()


def _own_files(folder: Path) -> list[Path]:
    """The files of a space that the cache has written: segments first, the files that describe them last."""
    patterns = (SEGMENTS, SET_ASIDE, TEMPORARY, *GRAPH_FILES, INDEX_FILE, USED_FILE, SPEC_FILE)
    return _files(folder, *patterns)


def _files(folder: Path, *patterns: str) -> list[Path]:
    """The files in a folder that match one of the patterns, those of the first one first."""
    return [file for file in storage.matching(folder, *patterns) if not file.is_dir() or file.is_symlink()]


def _bytes(files: Collection[Path]) -> int:
    total = 0
    for file in files:
        with contextlib.suppress(OSError):
            total += storage.stamp(file)[0]
    return total
