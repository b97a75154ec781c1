"""`Mirror`: the folder on this disk through which a cache in a bucket is read and written.

What is in the bucket is the cache. The mirror holds copies of segments, of which the least recently used are removed
when they become too large together; the index and the memo, which other machines do not see; and segments that are
complete and not sent yet, under names of their own, until the bucket has them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from feature_cache.errors import BadData, InvalidChoice, LayertapError, StorageFailure, Unsent, printable
from feature_cache.files.atomic import new_file, new_folder, remove, remove_abandoned, replacement
from feature_cache.files.checked import read_json
from feature_cache.files.urls import shown
from feature_cache.files.user_folder import user_folder
from feature_cache.remote.bucket import Bucket, Listed
from feature_cache.remote.ranges import RangeReader
from feature_cache.segments.layout import RUNS_FOLDER, SEGMENTS, SPEC_FILE, USED_FILE
from feature_cache.units import parsed_size

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

VARIABLE = "LAYERTAP_MIRROR_SIZE"  # of the environment: the size of all copies together
MOST_BYTES = 100e9  # where it is not set or empty
FOLDER = "mirrors"
MARKER = "bucket.json"  # tells processes that are given a path of which bucket it is the mirror
UNSENT = "unsent-"  # the beginning of the names of segments that the bucket does not have yet
WHOLE_BYTES = 4 * 2**20  # smaller segments are fetched whole where only their keys are needed
THREADS = 8  # that fetch together
USED_SECONDS = 3600.0  # for which a space counts as just used
GONE_SECONDS = 60.0
AGAIN_SECONDS = 60.0  # until what could not be sent is sent again by one who reads
COUNT_SECONDS = 60.0  # until the copies are counted again, which other processes add to
SPARE = 0.1  # of the limit is made free where it is reached

# The objects of a cache; others are not looked at. A name may hold anything but the end of a line.
_OURS = re.compile(
    r"(?P<space>[^/]*)/(segment-[^/]*\.h5|damaged-segment-[^/]*\.h5|spec\.json|\.used)"
    r"|\.runs/[0-9a-f]+\.json|\.nets/[0-9a-f]+/(net\.xml|net\.bin|calibration\.json)",
    re.DOTALL,
)
_LEAVING = {"", ".", ".."}


class Mirror:
    """The mirror of a cache in a bucket.

    Parameters
    ----------
    bucket : Bucket
    root : Path
        The folder; it need not exist.

    Attributes
    ----------
    held : set of Path
        Segments that are not sent yet, and that their writers in this process will send.
    """

    def __init__(self, bucket: Bucket, root: Path) -> None:
        self.bucket, self.root = bucket, root
        self._known: dict[str, Listed] = {}  # objects, as they were last listed
        self._readers: dict[str, RangeReader] = {}
        self._touched: dict[str, float] = {}
        self.held: set[Path] = set()
        self._failed = -math.inf  # when something was last sent in vain that no writer waits for
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The URL of the cache."""
        return self.bucket.url

    @property
    def most_bytes(self) -> float:
        """The most bytes of all copies on this machine.

        Raises
        ------
        InvalidChoice
            When the variable for it is no size.
        """
        text = os.environ.get(VARIABLE) or ""
        try:
            return parsed_size(text) if text else MOST_BYTES
        except ValueError:
            raise InvalidChoice(f"${VARIABLE} is {text!r}, which is not a size; set it as 20GB or 500MB.") from None

    def name(self, path: Path) -> str:
        """The name of the object that a path in the mirror stands for."""
        return path.relative_to(self.root).as_posix()

    def shown(self, path: Path) -> str:
        """The URL that a path in the mirror stands for."""
        name = self.name(path)
        return self.url if name == "." else f"{self.url}/{name}"

    def all(self) -> dict[str, Listed]:
        """The objects of the cache by their names, as the bucket lists them now."""
        return self._list("")

    def listing(self, folder: Path) -> dict[str, Listed]:
        """The objects in a folder by their names in it, as the bucket lists them now.

        Segments of it that are not sent are sent before, and copies of what is not listed any more are removed.
        """
        if folder == self.root:  # where there are only folders
            return {}
        self.send_all([folder, self.root / RUNS_FOLDER])
        begun, name = time.time(), self.name(folder)
        found = {path.removeprefix(f"{name}/"): listed for path, listed in self._list(name).items()}
        with contextlib.suppress(OSError):
            if found:  # the index will be there, which needs no copies
                new_folder(folder)
            for copy in folder.glob(SEGMENTS):  # one that was sent meanwhile is younger
                if copy.name not in found and copy.stat().st_ctime < begun - GONE_SECONDS:
                    remove(copy)
        return found

    def _list(self, folder: str) -> dict[str, Listed]:
        found = self.bucket.listing(folder)
        ours = {}
        for name, listed in found.items():
            parts = name.split("/")
            if not _OURS.fullmatch("/".join(parts[-2:])) and not _OURS.fullmatch(name):
                continue
            if (
                not _LEAVING.isdisjoint(parts)
                or "\0" in name
                or "\\" in name
                or max(map(len, name.encode().split(b"/"))) > 255
            ):
                raise BadData(f"{self.url} holds {printable(name)!r}, which is no path below it; remove that object.")
            if (match := _OURS.fullmatch(name)) and not (match["space"] or "").startswith("."):
                ours[name] = listed
        start = f"{folder}/" if folder else ""
        with self._lock:
            self._known = {name: one for name, one in self._known.items() if not name.startswith(start)} | ours
        return ours

    def known(self, path: Path) -> Listed | None:
        """An object, as it was last listed."""
        return self._known.get(self.name(path))

    def known_names(self) -> list[str]:
        """The names of the objects, as they were last listed."""
        return list(self._known)

    def has_copy(self, path: Path) -> bool:
        """Whether there is a copy of this version of an object; it is then in use."""
        listed = self.known(path)
        try:
            status = path.stat()
            if listed and (status.st_size, status.st_mtime_ns) != (listed.size, listed.stamp):
                return False
            os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))
        except OSError:
            return False
        return True

    def fetch(self, path: Path) -> None:
        """Have a copy of an object, which may be removed again when others need its place.

        Raises
        ------
        FileNotFoundError
            When there is no such object.
        StorageFailure, Unreachable
            When it cannot be had.
        """
        if self.has_copy(path):
            return
        listed = self.known(path) or self.bucket.look(self.name(path))
        try:
            new_folder(path.parent)
        except OSError as error:
            raise _unwritable(path, error) from error
        if path.match(SEGMENTS):
            self._make_room(listed.size)
        with replacement(path) as temporary:
            self.bucket.fetch(self.name(path), temporary)
            if temporary.stat().st_size != listed.size:  # it was replaced, which segments are not
                listed = self.bucket.look(self.name(path))
            os.utime(temporary, ns=(time.time_ns(), listed.stamp))
        with self._lock:
            self._known[self.name(path)] = listed
        self._count(path)

    def fetch_all(self, paths: Iterable[Path]) -> None:
        """Have copies of several objects, of which some come together; those that are gone are left out."""

        def fetch(path: Path) -> None:
            with contextlib.suppress(FileNotFoundError):
                self.fetch(path)

        _for_all(fetch, [path for path in paths if not self.has_copy(path)])

    def look_ahead(self, paths: Iterable[Path]) -> None:
        """Fetch the parts of segments that their keys are in, several together, for `reader`."""

        def look(path: Path) -> None:
            with contextlib.suppress(FileNotFoundError):
                listed = self.known(path) or self.bucket.look(self.name(path))
                if listed.size <= WHOLE_BYTES:
                    self.fetch(path)
                else:
                    self._readers[self.name(path)] = self._new_reader(path, listed)

        _for_all(look, [path for path in paths if not self.has_copy(path)])

    def reader(self, path: Path) -> RangeReader | None:
        """A segment as a stream of the parts that are read of it; None where there is a copy of the whole.

        Raises
        ------
        FileNotFoundError
            When there is no such object.
        """
        if self.has_copy(path):
            return None
        if reader := self._readers.pop(self.name(path), None):
            return reader
        listed = self.known(path) or self.bucket.look(self.name(path))
        if listed.size <= WHOLE_BYTES:
            self.fetch(path)
            return None
        return self._new_reader(path, listed)

    def _new_reader(self, path: Path, listed: Listed) -> RangeReader:
        name = self.name(path)
        return RangeReader(lambda start, end: self.bucket.read(name, start, end), listed.size, listed.stamp)

    def send(self, unsent: Path, *, wait: bool = True) -> Path:
        """Put a complete segment, or a note of a run, into the bucket; the path that it has then.

        Parameters
        ----------
        wait : bool
            For another process that is sending it; otherwise it is left to that one.

        Raises
        ------
        InvalidChoice, StorageFailure, Unreachable
            When the bucket does not take it. It then stays, and is sent when its space is next opened.
        """
        path = unsent.with_name(unsent.name.removeprefix(UNSENT))
        with contextlib.suppress(FileNotFoundError), _locked(unsent, wait) as mine:  # else another process has sent it
            if mine:
                is_note = path.parent.name == RUNS_FOLDER
                listed = self.bucket.put(self.name(path), unsent, replace=is_note)
                os.utime(unsent, ns=(time.time_ns(), listed.stamp))
                unsent.rename(path)
                with self._lock:
                    self._known[self.name(path)] = listed
                self._count(path)
        return path

    def send_all(self, folders: Iterable[Path] | None = None) -> None:
        """Send what processes have completed in these folders, by default in all, and not sent.

        What the bucket does not take stays, with a warning once, and is tried again after a while.
        """
        if time.monotonic() - self._failed < AGAIN_SECONDS:
            return
        for folder in self.root.glob("*/") if folders is None else folders:
            unsent = [path for path in sorted(folder.glob(f"{UNSENT}*")) if path not in self.held]
            spec = [folder / SPEC_FILE] if unsent and (folder / SPEC_FILE).exists() else []
            for path in [*spec, *unsent]:
                try:
                    self.send(path, wait=False) if path in unsent else self.share(path)
                except LayertapError as error:
                    if self._failed < 0:
                        text = f"{path} is not in {self.url} yet, and is sent by a later command"
                        warnings.warn(f"{text}: {error}", Unsent, stacklevel=2)
                    self._failed = time.monotonic()
                    if not isinstance(error, StorageFailure):  # others would fail alike
                        return

    def share(self, path: Path, *, replace: bool = False) -> None:
        """Put a small file of the mirror into the bucket, unless that has it.

        Raises
        ------
        InvalidChoice, StorageFailure, Unreachable
            When the bucket does not take it.
        """
        listed = None
        if not replace:
            with contextlib.suppress(FileNotFoundError):
                listed = self.bucket.look(self.name(path))
        if listed is None:
            listed = self.bucket.put(self.name(path), path, replace=replace)
            os.utime(path, ns=(time.time_ns(), listed.stamp))
        with self._lock:
            self._known[self.name(path)] = listed

    def touch(self, folder: Path) -> None:
        """Let other machines know that a space is in use, about once an hour, where the bucket can be written."""
        now, path = time.time(), folder / USED_FILE
        listed = self.known(path)
        last = max(self._touched.get(folder.name, 0.0), listed.modified if listed else 0.0)
        if now - last > USED_SECONDS and any(name.startswith(f"{folder.name}/") for name in self.known_names()):
            self._touched[folder.name] = now
            self.bucket.touch(self.name(path), path)

    def last_used(self, folder: Path) -> float:
        """When any machine has used a space, in seconds since the epoch; 0 where nothing is known of it."""
        return max((one.modified for name, one in self._known.items() if name.startswith(f"{folder.name}/")), default=0)

    def erase(self, path: Path) -> None:
        """Remove an object and its copy; neither need be there."""
        if _OURS.fullmatch(self.name(path)):
            self.bucket.remove(self.name(path))
        path.unlink(missing_ok=True)
        with self._lock:
            self._known.pop(self.name(path), None)

    def rename(self, path: Path, new: Path) -> None:
        """Give an object another name; its copy is removed."""
        self.bucket.rename(self.name(path), self.name(new))
        path.unlink(missing_ok=True)
        with self._lock:
            self._known.pop(self.name(path), None)

    def _count(self, path: Path) -> None:
        """Take note of a new copy, and make room for it."""
        if path.match(SEGMENTS):
            with contextlib.suppress(OSError), _counting:  # others may have needed its place
                counted = _counted.get(self.root.parent, _NOT_COUNTED)
                _counted[self.root.parent] = counted._replace(size=counted.size + path.stat().st_size)
            self._make_room(0, keep=path)  # others may have come at the same time

    def _make_room(self, size: int, keep: Path | None = None) -> None:
        """Remove the copies that were not used for longest, but for one, until `size` bytes more are not too many.

        They are listed only from time to time, and where those that this process knows of seem to be too many. Then a
        little more is removed than has to be, so that the next copies do not need it.
        """
        base, most = self.root.parent, self.most_bytes
        with _counting:
            counted = _counted.get(base, _NOT_COUNTED)
            if time.monotonic() - counted.when < COUNT_SECONDS and counted.size + size <= most:
                return
            copies = _copies_in(base)
            left = sum(bytes_ for _, bytes_, _ in copies) + size
            least = most if left <= most else most * (1 - SPARE)
            for _, bytes_, copy in sorted(copies):
                if left <= least:
                    break
                if copy != keep:
                    remove(copy)
                    left -= bytes_
            _counted[base] = _Counted(left - size, time.monotonic())

    def mark(self) -> None:
        """Make the folder, and say in it which bucket it is the mirror of.

        Raises
        ------
        StorageFailure
            When it cannot be made.
        """
        try:
            new_folder(self.root)
            if not (self.root / MARKER).exists():
                with new_file(self.root / MARKER, "what it is the mirror of", sync=False) as file:
                    file.write(json.dumps({"url": self.url}).encode())
        except StorageFailure:
            raise
        except OSError as error:
            raise _unwritable(self.root, error) from error


class _Counted(NamedTuple):
    """The bytes of all copies in a folder of mirrors, as this process knows of them, and when they were listed."""

    size: int
    when: float


_NOT_COUNTED = _Counted(0, -math.inf)
_counted: dict[Path, _Counted] = {}
_counting = threading.Lock()
_mirrors: dict[Path, Mirror] = {}


def mirrors_folder() -> Path:
    """The folder that all mirrors of this user are in."""
    return (user_folder() / FOLDER).absolute()


def mirror_at(url: str) -> Mirror:
    """The mirror of the cache under a URL.

    Raises
    ------
    MissingDependency, InvalidChoice, BadData
        When the URL cannot be used.
    StorageFailure
        When there can be no mirror on this disk.
    """
    bucket = Bucket(url)
    digest = hashlib.sha256(f"{bucket.url} {bucket.endpoint}".encode()).hexdigest()[:32]
    root = mirrors_folder() / digest
    if root not in _mirrors:
        mirror = Mirror(bucket, root)
        mirror.most_bytes  # noqa: B018 # a bad value is told of before anything is computed
        mirror.mark()
        _mirrors[root] = mirror
    return _mirrors[root]


def mirror_of(path: Path) -> Mirror | None:
    """The mirror that a path is in or that it is itself; None for one that is of no bucket.

    Raises
    ------
    InvalidChoice
        When it is the mirror of a bucket that is not known, or that is elsewhere by the settings of this process.
    MissingDependency, InvalidChoice, BadData, StorageFailure
        As for `mirror_at`.
    """
    for folder in (path, *path.parents):
        if folder in _mirrors:
            return _mirrors[folder]
    base = mirrors_folder()
    if base not in path.parents:
        return None
    root = base / path.relative_to(base).parts[0]
    try:
        url = read_json(root / MARKER)["url"]
    except (OSError, ValueError, KeyError, TypeError):
        url = None
    if isinstance(url, str) and (mirror := mirror_at(url)).root == root:
        return mirror
    what = f"of {shown(url)} with other settings" if isinstance(url, str) else "of a bucket that is not known"
    raise InvalidChoice(f"{root} is for copies of a cache {what}; name the cache by its URL.")


def _copies_in(base: Path) -> list[tuple[int, int, Path]]:
    """When each copy in a folder of mirrors was last used, and its size; what killed processes left is removed."""
    copies = []
    for folder in base.glob("*/*/"):
        remove_abandoned(folder)
        for copy in folder.glob(SEGMENTS):
            with contextlib.suppress(OSError):
                status = copy.stat()
                copies.append((status.st_atime_ns, status.st_size, copy))
    return copies


def _for_all(function: object, paths: list[Path]) -> None:
    """Call the function with each path, in several threads."""
    if paths:
        with ThreadPoolExecutor(THREADS, thread_name_prefix="layertap-fetch") as pool:
            list(pool.map(function, paths))  # type: ignore[arg-type]


@contextlib.contextmanager
def _locked(path: Path, wait: bool) -> Iterator[bool]:
    """Whether this process has a file for itself. The system gives it free when the process ends, however it ends."""
    with path.open("r+b") as file:
        try:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # a file system without locks
            pass
        yield True


def _unwritable(path: Path, error: OSError) -> StorageFailure:
    return StorageFailure(
        f"cannot keep copies of a cache in {path}: {error.strerror or error}; set $XDG_CACHE_HOME to another folder."
    )
