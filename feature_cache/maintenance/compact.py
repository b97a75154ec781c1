"""Compaction: small segments and copies of rows become few large segments, while other processes read and write."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_cache.errors import StorageFailure
from feature_cache.keys import DIGEST_BYTES
from feature_cache.remote import storage
from feature_cache.segments import segment_writer
from feature_cache.segments.row_store import MOST_ATTEMPTS, SegmentGone
from feature_cache.segments.segment import Segment
from feature_cache.space import Space

# The size of the segments that are written; a segment of less than half of it counts as small.
SEGMENT_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Compaction:
    """The result of a compaction; bytes are those of the files."""

    rows: int
    copies_dropped: int
    segments_before: int
    segments_after: int
    bytes_before: int
    bytes_after: int


def compact(space: Space, *, compress: bool | None = None) -> Compaction:
    """Merge small segments of `space`, and those that share rows, into new ones.

    Segments are removed only once all their rows are in segments that this call has written itself: what another
    process writes, merges or removes meanwhile can then never leave a row without a segment. Readers
    that had them open go on reading; others look the rows up again.

    Parameters
    ----------
    compress : bool, optional
        Whether everything is stored compressed, or everything plain; by default each new segment is stored as most of
        its sources are.

    Raises
    ------
    DamagedFile
        When a segment is not as it was written; nothing is removed then.
    StorageFailure
        When there is no room for the new segments.
    """
    for _ in range(MOST_ATTEMPTS):
        space = space.again()
        try:
            return _compact(space, compress)
        except SegmentGone:  # another compaction is at work here
            continue
    raise StorageFailure(f"{storage.shown(space.folder)} changes too fast to be compacted.")


def _compact(space: Space, compress: bool | None) -> Compaction:
    index, segments = space.index, space.opened()
    is_copy = index.first != np.arange(len(index))
    owner = np.repeat(np.arange(len(segments)), [len(part) for part in segments])
    shared = set(np.unique(owner[is_copy]).tolist()) | set(np.unique(owner[index.first[is_copy]]).tolist())
    small = {number for number, part in enumerate(segments) if len(part) * part.row_bytes < SEGMENT_BYTES // 2}
    other = {number for number, part in enumerate(segments) if compress not in (None, part.chunks is not None)}
    chosen = sorted(shared | other | (small if len(small) > 1 else set()), key=lambda number: _age(segments[number]))
    if chosen:
        sources = [segments[number] for number in chosen]
        if compress is None:
            compress = 2 * sum(part.chunks is not None for part in sources) > len(sources)
        starts = index.starts
        ids = np.concatenate([np.arange(starts[number], starts[number + 1]) for number in chosen])
        _rewrite(space, ids[~is_copy[ids]], sources, compress)
        for part in sources:
            with contextlib.suppress(FileNotFoundError):
                storage.erase(part.path)
    after = space.again()
    after.index.save(after.folder, after.spec.to_json())
    return Compaction(
        rows=int((~is_copy).sum()),
        copies_dropped=int(is_copy.sum()),
        segments_before=len(segments),
        segments_after=len(after.index.listed),
        bytes_before=space.nbytes,
        bytes_after=after.nbytes,
    )


def _rewrite(space: Space, ids: np.ndarray, sources: list[Segment], compress: bool) -> None:
    """Write the rows with these ids as new segments."""
    size = max(1, SEGMENT_BYTES // max(sources[0].row_bytes, DIGEST_BYTES))
    provenance = _common([part.provenance for part in sources])
    for start in range(0, len(ids), size):
        part = ids[start : start + size]
        segment_writer.write(
            space.folder,
            space.spec,
            space.stored(part),
            space.index.digests[part],
            space.index.views[part],
            provenance,
            coding=sources[0].coding,
            compress=compress,
        )


def _common(provenances: list[dict[str, Any]]) -> dict[str, Any]:
    """The entries that all of these provenances share, with a note that the segments were merged."""
    common = {
        key: value for key, value in provenances[0].items() if all(other.get(key) == value for other in provenances)
    }
    common.setdefault("net", next((each["net"] for each in provenances if each.get("net")), None))
    common.pop("seconds", None)
    seconds = [one for each in provenances if isinstance(one := each.get("seconds"), int | float)]
    if len(seconds) == len(provenances):
        common["seconds"] = round(sum(seconds), 3)
    rounding = [each["rounding"] for each in provenances if "rounding" in each]
    if rounding:
        common["rounding"] = {name: max(each[name] for each in rounding) for name in rounding[0]}
    return {**common, "finished": segment_writer.timestamp(), "compacted_from": len(provenances)}


def _age(part: Segment) -> tuple[str, str]:
    """A sort key that keeps rows in the order in which they were computed."""
    return str(part.provenance.get("finished", "")), part.path.name
