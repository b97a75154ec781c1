"""Verification: every segment is read completely and compared with its checks; damaged segments are set aside."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feature_cache.cache import FeatureCache, as_cache
from feature_cache.errors import DamagedFile, DamagedSegment, StorageFailure
from feature_cache.remote import storage
from feature_cache.segments import segment
from feature_cache.segments.index import KeyIndex, ListedSegment
from feature_cache.segments.layout import SEGMENTS
from feature_cache.segments.row_store import RowStore, SegmentGone
from feature_cache.space import Space

# Read at a time.
PIECE_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Damage:
    """A damaged segment, with the reason."""

    file: str
    reason: str


@dataclass(frozen=True)
class Verification:
    """The result of a verification: the rows and bytes that were read of a space, and its damaged segments."""

    space: str
    segments: int
    rows: int
    bytes: int
    damaged: list[Damage]


def verify(space: Space, progress: Callable[[int, int], None] | None = None) -> Verification:
    """Read every segment of `space` and compare each block of rows with what was written.

    Parameters
    ----------
    progress : callable, optional
        Called with the number of bytes read and of all.
    """
    sizes: dict[Path, int] = {}
    for path in storage.matching(space.folder, SEGMENTS):
        with contextlib.suppress(FileNotFoundError):
            sizes[path] = storage.stamp(path)[0]
    size = 0
    sound: list[segment.Segment] = []
    damaged: list[Damage] = []
    for path in sizes:
        try:
            sound.append(check_segment(path, space))
        except (FileNotFoundError, SegmentGone):  # compacted or removed meanwhile
            continue
        except DamagedFile as error:
            reason = error.description if isinstance(error, DamagedSegment) else str(error)
            damaged.append(Damage(path.name, reason.removeprefix(f"{storage.shown(path)} ")))
        size += sizes[path]
        if progress:
            progress(size, sum(sizes.values()))
    counts: Counter[tuple[int, ...]] = Counter()
    for part in sound:
        counts[part.row_shape] += len(part)
    for part in sound:
        if len(part) and part.row_shape != (usual := counts.most_common(1)[0][0]):
            damaged.append(Damage(part.path.name, f"holds rows of shape {part.row_shape}, the others of {usual}"))
    bad = {damage.file for damage in damaged}
    rows = sum(len(part) for part in sound if part.path.name not in bad)
    return Verification(space.folder.name, len({part.path.name for part in sound} | bad), rows, size, damaged)


def check_segment(path: Path, space: Space) -> segment.Segment:
    """Read the segment at `path` whole.

    Raises
    ------
    DamagedFile
        When it is not as it was written.
    FileNotFoundError, SegmentGone
        When it is not there.
    StorageFailure
        When other processes have its copy removed again and again before it is read.
    """
    for _ in range(storage.ATTEMPTS):
        try:
            return _check(path, space)
        except (FileNotFoundError, SegmentGone):
            if not storage.matching(path.parent, path.name):
                raise  # else its copy made room for others
    raise StorageFailure(
        f"the local copy of {path.name} was removed {storage.ATTEMPTS} times before it was read; let "
        "$LAYERTAP_MIRROR_SIZE be larger."
    )


def _check(path: Path, space: Space) -> segment.Segment:
    storage.bring_anew(path)
    part = segment.read(path, space.spec)
    index = KeyIndex.of([(ListedSegment(path.name, *part.stamp, len(part)), part.digests, part.views)])
    store = RowStore(path.parent, space.spec, index)
    step = max(1, PIECE_BYTES // max(part.row_bytes, 1) // part.block_rows) * part.block_rows
    for start in range(0, len(part), step):
        store.gather(np.arange(start, min(start + step, len(part))))
    return part


def repair(cache: FeatureCache | str | os.PathLike[str] | None = None) -> list[Verification]:
    """Verify all spaces of a cache, and set their damaged segments aside; the next extraction computes their rows.

    Parameters
    ----------
    cache : FeatureCache, path or None
        None is the default cache.

    Raises
    ------
    DamagedFile
        When a space cannot be read at all.
    StorageFailure
        When a segment cannot be renamed.

    Examples
    --------
    >>> import tempfile
    >>> repair(tempfile.mkdtemp())
    []
    """
    cache, results = as_cache(cache), []
    for name in cache.spaces():
        space = cache.open(name)
        results.append(verify(space))
        set_aside(space, results[-1].damaged)
    return results


def set_aside(space: Space, damaged: list[Damage]) -> None:
    """Rename damaged segments, so that they are no longer read, and their rows are missing and computed again.

    Raises
    ------
    StorageFailure
        When one cannot be renamed.
    """
    for damage in damaged:
        path = space.folder / damage.file
        try:
            with contextlib.suppress(FileNotFoundError):
                storage.rename(path, path.with_name(f"damaged-{path.name}"))
        except OSError as error:
            raise StorageFailure(f"cannot set {storage.shown(path)} aside: {error.strerror}.") from error
