"""Files of a cache by their paths, wherever the cache is: on disk, or in a bucket through its mirror on disk."""

from __future__ import annotations

import contextlib
import fnmatch
import io
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISREG
from typing import Any

from feature_cache.files.checked import open_regular
from feature_cache.remote.mirror import UNSENT, mirror_of
from feature_cache.segments.layout import SEGMENTS, SPEC_FILE, USED_FILE

AHEAD = 16  # segments of which the keys are held in memory
ATTEMPTS = 10  # at a copy that others remove as soon as it is there


def shown(path: Path) -> str:
    """A path for messages: in the mirror of a bucket, the URL that it stands for."""
    mirror = mirror_of(path)
    return mirror.shown(path) if mirror else str(path)


def matching(folder: Path, *patterns: str) -> list[Path]:
    """The files in a folder whose names match one of the patterns: sorted, those of the first pattern first.

    Of a cache in a bucket, the files in its mirror are among them that are not copies of segments.
    """
    mirror = mirror_of(folder)
    listed = mirror.listing(folder) if mirror else {}
    found: list[Path] = []
    for pattern in patterns:
        here = folder.glob(pattern)
        names = {path.name for path in here if not mirror or not fnmatch.fnmatchcase(path.name, "*segment-*.h5")}
        names |= {name for name in listed if fnmatch.fnmatchcase(name, pattern)}
        found += [folder / name for name in sorted(names)]
    return found


def segment_stamps(folder: Path) -> dict[str, tuple[int, int]] | None:
    """The stamps of the segments that a bucket lists in a space, by name; None for a space on disk."""
    if not (mirror := mirror_of(folder)):
        return None
    listed = mirror.listing(folder).items()
    return {name: (one.size, one.stamp) for name, one in listed if fnmatch.fnmatchcase(name, SEGMENTS)}


def space_names(root: Path) -> list[str]:
    """The names of the folders of a cache that have a spec or a segment, sorted."""
    if mirror := mirror_of(root):
        mirror.send_all()
        names = {name.partition("/")[0] for name in mirror.all() if not name.endswith(f"/{USED_FILE}")}
    else:
        names = {file.parent.name for pattern in (SPEC_FILE, SEGMENTS) for file in root.glob(f"*/{pattern}")}
    return sorted(name for name in names if not name.startswith("."))


def folders(folder: Path) -> list[Path]:
    """The folders in a folder of a cache, sorted."""
    names = {path.name for path in folder.glob("*") if path.is_dir() and not path.is_symlink()}
    if mirror := mirror_of(folder):
        start = mirror.name(folder) + "/"
        names |= {name.removeprefix(start).partition("/")[0] for name in mirror.all() if name.startswith(start)}
    return [folder / name for name in sorted(names)]


def nbytes(root: Path) -> int:
    """Bytes of all segments of a cache."""
    if mirror := mirror_of(root):
        return sum(one.size for name, one in mirror.all().items() if fnmatch.fnmatchcase(name, f"*/{SEGMENTS}"))
    total = 0
    for file in root.glob(f"*/{SEGMENTS}"):
        with contextlib.suppress(OSError):  # it may be removed meanwhile
            total += file.stat().st_size
    return total


def exists(path: Path) -> bool:
    """Whether there is a file, of which a bucket was last listed."""
    mirror = mirror_of(path)
    return path.exists() or bool(mirror and mirror.known(path))


def bring(path: Path) -> None:
    """Have a copy of a file that is elsewhere; none where it is gone.

    Raises
    ------
    LayertapError
        When the server does not give it.
    """
    if mirror := mirror_of(path):
        with contextlib.suppress(FileNotFoundError):
            mirror.fetch(path)


def bring_anew(path: Path) -> None:
    """Fetch a segment that is elsewhere again, so that the bytes there are read, and not those of an earlier copy."""
    if mirror := mirror_of(path):
        path.unlink(missing_ok=True)
        mirror.fetch(path)


def is_remote(path: Path) -> bool:
    """Whether a path stands for what is in a bucket."""
    return mirror_of(path) is not None


def looked_ahead(paths: list[Path]) -> Iterator[Path]:
    """The same paths, of which `looked_into` has some ready before they come, where they are elsewhere."""
    mirror = mirror_of(paths[0]) if paths else None
    for start in range(0, len(paths), AHEAD):
        part = paths[start : start + AHEAD]
        if mirror:
            mirror.look_ahead(part)
        yield from part


def fetch_ahead(paths: list[Path]) -> None:
    """Have copies of these files, which come together where they are elsewhere."""
    if paths and (mirror := mirror_of(paths[0])):
        mirror.fetch_all(paths)


def is_mapped(folder: Path, size: int) -> bool:
    """Whether segments of this size together are mapped into memory: copies that are mapped keep their place."""
    mirror = mirror_of(folder)
    return mirror is None or size <= mirror.most_bytes


def used(folder: Path) -> None:
    """Record that a space is in use, for other machines, too.

    Raises
    ------
    OSError
        When it cannot be recorded.
    """
    if mirror := mirror_of(folder):
        folder.mkdir(parents=True, exist_ok=True)  # of which there may be no copies
        (folder / USED_FILE).touch()
        mirror.touch(folder)
    else:
        (folder / USED_FILE).touch()


def last_used(folder: Path) -> float:
    """When a space was last used on this machine, or on another, in seconds since the epoch."""
    mirror = mirror_of(folder)
    last = mirror.last_used(folder) if mirror else 0.0
    for name in (USED_FILE,) if mirror else (USED_FILE, SPEC_FILE, "."):
        with contextlib.suppress(OSError):
            return max(last, (folder / name).stat().st_mtime)
    return last


def stamp(path: Path) -> tuple[int, int]:
    """The size of a file and what tells its versions apart: the time of its last change, in nanoseconds.

    Raises
    ------
    OSError
        When it is not there.
    """
    if (mirror := mirror_of(path)) and (listed := mirror.known(path)):
        return listed.size, listed.stamp
    status = path.lstat()
    return status.st_size, status.st_mtime_ns


def modified(path: Path) -> float:
    """When a file was written, in seconds since the epoch.

    Raises
    ------
    OSError
        When it is not there.
    """
    if (mirror := mirror_of(path)) and (listed := mirror.known(path)):
        return listed.modified
    return path.stat().st_mtime


def opened(path: Path) -> io.BufferedReader:
    """A regular file to read; it is fetched where there is no copy.

    Raises
    ------
    FileNotFoundError
        When it is gone.
    OSError
        As for `feature_cache.files.checked.open_regular`.
    """
    if mirror := mirror_of(path):
        for _ in range(ATTEMPTS):
            mirror.fetch(path)
            with contextlib.suppress(FileNotFoundError):  # others needed its place
                return open_regular(path)
    return open_regular(path)


@contextlib.contextmanager
def looked_into(path: Path) -> Iterator[tuple[Any, tuple[int, int]]]:
    """A file to read little of, and its stamp; of one that is not here, only the parts come that are read.

    Raises
    ------
    FileNotFoundError
        When it is gone.
    ValueError
        When it is no file.
    LayertapError
        When the server does not give it.
    """
    mirror = mirror_of(path)
    reader = mirror.reader(path) if mirror else None
    if reader is None:
        status = path.stat()
        if not S_ISREG(status.st_mode):  # a pipe would be waited for
            raise ValueError("not a file")
        with opened(path) as stream:
            yield stream, (status.st_size, status.st_mtime_ns)
        return
    try:
        yield reader, (reader.size, reader.stamp)
    except Exception:
        if reader.failure:
            raise reader.failure from None
        raise


def new_path(path: Path) -> Path:
    """The path under which a new segment, or a note of a run, is written that is to have this one."""
    return path.with_name(UNSENT + path.name) if mirror_of(path) else path


def publish(path: Path) -> Path:
    """Let others see what was written under `new_path`; the path that it has then.

    Raises
    ------
    LayertapError
        When the bucket does not take it; it is then sent when its space is next opened.
    """
    mirror = mirror_of(path)
    return mirror.send(path) if mirror else path


def hold(path: Path) -> None:
    """Leave a segment to its writer, which will publish it, though its space is opened in this process."""
    if mirror := mirror_of(path):
        mirror.held.add(path)


def release(path: Path) -> None:
    """Undo `hold`."""
    if mirror := mirror_of(path):
        mirror.held.discard(path)


def share(path: Path, *, replace: bool = False) -> None:
    """Let other machines see a file that was written to a cache.

    Raises
    ------
    LayertapError
        When the bucket does not take it.
    """
    if mirror := mirror_of(path):
        mirror.share(path, replace=replace)


def erase(path: Path) -> None:
    """Remove a file, which need not be there.

    Raises
    ------
    OSError, LayertapError
        When it cannot be removed.
    """
    if mirror := mirror_of(path):
        mirror.erase(path)
    else:
        path.unlink(missing_ok=True)


def rename(path: Path, new: Path) -> None:
    """Give a file another name in its folder.

    Raises
    ------
    FileNotFoundError
        When it is not there.
    OSError, LayertapError
        When it cannot be renamed.
    """
    if mirror := mirror_of(path):
        mirror.rename(path, new)
    else:
        path.rename(new)
