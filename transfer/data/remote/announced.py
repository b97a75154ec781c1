"""`announced`: images that will be read are announced to what holds them, so that they come before they are needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from transfer.data.images import EncodedSource, ImageSource
from transfer.data.remote.pieces import KEPT_BYTES

MOST_IMAGES = 64  # that are announced and not read yet
MOST_BYTES = KEPT_BYTES // 2


def announced(sources: Sequence[ImageSource], jobs: Iterable[int], views: int = 1) -> Iterator[int]:
    """The same jobs in the same order, of which each was announced a while before it comes.

    Parameters
    ----------
    sources : sequence of ImageSource
        Those on disk are not announced.
    jobs : iterable of int
        Images and views: the position of the image is ``job // views``.

    Examples
    --------
    >>> from pathlib import Path
    >>> from transfer.data.images import FileSource
    >>> list(announced([FileSource(Path("a.png"))], [0, 1, 2], views=3))
    [0, 1, 2]
    """
    waiting: deque[tuple[int, int]] = deque()
    fetched, last, size = 0, -1, 0
    for job in jobs:
        position = int(job) // views
        if position != last:
            source, last = sources[position], position
            size = source.announce() if isinstance(source, EncodedSource) else 0
        else:
            size = 0  # another view of the same image
        waiting.append((job, size))
        fetched += size
        while waiting and (not fetched or len(waiting) > MOST_IMAGES or fetched > MOST_BYTES):
            job, size = waiting.popleft()
            fetched -= size
            yield job
    for job, _ in waiting:
        yield job
