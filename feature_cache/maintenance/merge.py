"""Merging: copying the segments of another cache folder into a cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field

from feature_cache.cache import FeatureCache
from feature_cache.errors import DamagedFile, DamagedSegment
from feature_cache.files import quantised_nets
from feature_cache.files.atomic import new_file
from feature_cache.maintenance.verify import check_segment
from feature_cache.remote import storage
from feature_cache.segments import segment_writer
from feature_cache.segments.layout import SEGMENTS
from feature_cache.segments.row_store import SegmentGone


@dataclass
class Merge:
    """The result of a merge: what was copied; `refused` names damaged files, with the reason."""

    spaces: list[str] = field(default_factory=list)
    segments: int = 0
    rows: int = 0
    bytes: int = 0
    already_here: int = 0
    refused: list[str] = field(default_factory=list)


def merge(cache: FeatureCache, other: FeatureCache, progress: Callable[[int, int], None] | None = None) -> Merge:
    """Copy into `cache` every segment of `other` that has rows which `cache` lacks.

    Each segment is read whole and checked before it is copied. A space is known by its spec: the names of
    folders in `other` play no part.

    Parameters
    ----------
    progress : callable, optional
        Called with the number of segments looked at and of all.

    Raises
    ------
    StorageFailure
        When there is no room. What was copied stays, and is not copied again.
    """
    done = Merge()
    files = [(name, path) for name in other.spaces() for path in storage.matching(other.root / name, SEGMENTS)]
    for number, (name, path) in enumerate(files, 1):
        try:
            source = other.open(name)
            part = check_segment(path, source)
        except (FileNotFoundError, SegmentGone):
            continue
        except DamagedFile as error:
            done.refused.append(error.description if isinstance(error, DamagedSegment) else str(error))
            continue
        space = cache[source.spec]
        if space.has(part.digests, part.views).all():
            done.already_here += 1
        else:
            space.create()
            if source.spec.calibration is not None:
                quantised_nets.copy(other.root, cache.root, source.spec.calibration)
            try:
                original = storage.opened(path)
            except FileNotFoundError:  # compacted since
                continue
            new = segment_writer.new_path(space.folder)
            with original, new_file(new) as copy:
                shutil.copyfileobj(original, copy, 2**20)
            storage.publish(new)
            done.segments, done.rows, done.bytes = done.segments + 1, done.rows + len(part), done.bytes + part.stamp[0]
            if space.folder.name not in done.spaces:
                done.spaces.append(space.folder.name)
        if progress:
            progress(number, len(files))
    return done
