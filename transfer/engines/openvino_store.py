"""Converted nets on disk, by what they compute: the second start needs neither a conversion nor Keras."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import xxhash

from feature_cache.errors import LayertapError
from feature_cache.files.checked import open_regular, read_text
from feature_cache.files.disks import disk_failure
from feature_cache.files.user_folder import user_folder
from transfer.engines.base import out_of_memory

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

# The least recently used are removed beyond this.
ROOM_BYTES = 4 * 2**30
NEW = ".new-"  # how the names of folders begin that are not complete, or on their way out
_NET, _CHECK, _REFUSAL, _NAME = "net.xml", "check", "refusal", "name"
_in_use: dict[Path, IO[bytes]] = {}  # files that this process has locked, by the folder of the net


class CannotConvert(Exception):
    """OpenVINO cannot run this net; the text says why."""


def folder() -> Path:
    """Where converted nets are kept: ``layertap/openvino`` in the user's own cache folder."""
    return user_folder() / "openvino"


def converted(what: dict[str, Any], convert: Callable[[Path], None]) -> Path:
    """The file of a converted net, which is converted if it is not there yet.

    Parameters
    ----------
    what : dict
        Everything that shapes what the net computes, as JSON can hold it.
    convert : callable
        Writes the converted net to the file that it is given.

    Raises
    ------
    CannotConvert
        When `convert` has failed, now or before.
    """
    place = _place(what)
    _use(place)  # before it is read, so that nobody removes it any more
    if _is_whole(place):
        with contextlib.suppress(OSError):
            os.utime(place)
        return place / _NET
    if (place / _REFUSAL).is_file():
        raise CannotConvert(read_text(place / _REFUSAL))
    try:
        folder().mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=NEW, dir=folder()))
    except OSError:  # no place for it: it is then converted each time
        place = aside = Path(tempfile.mkdtemp(prefix="layertap-"))
        atexit.register(shutil.rmtree, place, ignore_errors=True)
    try:
        try:
            convert(aside / _NET)
            (aside / _NAME).write_text(str(what.get("net", "")))
            (aside / _CHECK).write_text(_check(aside))
        except (LayertapError, OSError):
            raise
        except Exception as error:  # OpenVINO raises many types
            if out_of_memory(error):
                raise
            if full := disk_failure(error, aside):  # nothing is kept of that: it may have room the next time
                raise CannotConvert(f"there is no room for the converted net in {aside.parent}: {full}") from error
            reason = _shortened(str(error)) or type(error).__name__
            for file in aside.iterdir():
                file.unlink()
            (aside / _REFUSAL).write_text(reason)
            _put(aside, place)
            raise CannotConvert(reason) from error
        _put(aside, place)
        _use(place)
        _make_room(place)
        return place / _NET
    finally:
        if place != aside:
            shutil.rmtree(aside, ignore_errors=True)


def places() -> list[Path]:
    """The folders of all converted nets, and of those that cannot be converted."""
    with contextlib.suppress(OSError):
        return [place for place in folder().iterdir() if not place.name.startswith(".")]
    return []


def net_of(place: Path) -> str:
    """The name of the net in a folder; empty where it does not say."""
    try:
        return read_text(place / _NAME)
    except (OSError, ValueError):  # of an earlier version, or none of ours
        return ""


def is_free(place: Path) -> bool:
    """Whether no process uses the net in a folder."""
    with _alone(place) as alone:
        return alone


def remove(place: Path) -> None:
    """Remove the net in a folder, which is gone at once; nothing happens where a process uses it.

    Raises
    ------
    OSError
        When it cannot be removed.
    """
    with _alone(place) as alone:
        if alone:
            aside = place.with_name(f"{NEW}{place.name.removeprefix(NEW)}-old")
            place.rename(aside)
            shutil.rmtree(aside)


def _use(place: Path) -> None:
    """Hold a lock on a net, if it is there, until this process ends."""
    _leave(place)  # the lock may be on a net that has been replaced since
    if fcntl:
        with contextlib.suppress(OSError):
            file = (place / _CHECK).open("rb")
            _in_use[place] = file
            fcntl.flock(file, fcntl.LOCK_SH)


def _leave(place: Path) -> None:
    """Release the lock that this process holds on a net, if it does."""
    if file := _in_use.pop(place, None):
        file.close()


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[bool]:
    """Whether no process uses a net; for as long as this context is open, none begins to."""
    with contextlib.ExitStack() as stack:
        alone = True
        if fcntl:
            try:
                fcntl.flock(stack.enter_context((place / _CHECK).open("rb")), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                alone = False
            except OSError:  # no net is there, or the file system has no locks
                pass
        yield alone


def _put(aside: Path, place: Path) -> None:
    """Move a folder to its place, unless a whole net is there by now; what is damaged there, or a refusal, goes."""
    for _ in range(3):
        if place == aside or _is_whole(place):
            return
        try:
            aside.rename(place)
            return
        except OSError:
            if _is_whole(place):  # put there since, by another process that may already use it
                return
            with contextlib.suppress(OSError):
                place.rename(aside.with_name(f"{aside.name}-old"))
            shutil.rmtree(aside.with_name(f"{aside.name}-old"), ignore_errors=True)
    raise OSError(f"{place} changes too fast to be written.")


def _shortened(text: str) -> str:
    """The part of what OpenVINO says that tells people something, in one line."""
    text = " ".join(text.split()).partition(" To facilitate")[0]
    return text[text.find("No conversion rule") if "No conversion rule" in text else 0 :][:300].rstrip(" .;")


def is_kept(what: dict[str, Any]) -> bool:
    """Whether this net has been converted before."""
    return (_place(what) / _CHECK).is_file()


def _place(what: dict[str, Any]) -> Path:
    versions = {}
    for name in ("openvino", "keras", "tensorflow", "layertap"):
        with contextlib.suppress(PackageNotFoundError):  # TensorFlow goes by other names, too
            versions[name] = version(name)
    key = hashlib.sha256(json.dumps([what, versions], sort_keys=True).encode()).hexdigest()[:32]
    return folder() / key


def _check(place: Path) -> str:
    """XXH3-128 of the net and its weights."""
    state = xxhash.xxh3_128()
    for file in (place / _NET, (place / _NET).with_suffix(".bin")):
        with open_regular(file) as stream:
            while piece := stream.read(2**20):
                state.update(piece)
    return state.hexdigest()


def _is_whole(place: Path) -> bool:
    try:
        return read_text(place / _CHECK) == _check(place)
    except (OSError, ValueError):
        return False


def _make_room(newest: Path) -> None:
    """Remove the least recently used, but never the newest, nor one that another process uses."""
    with contextlib.suppress(OSError):
        used = 0
        for place in sorted(places(), key=lambda place: place.stat().st_mtime, reverse=True):
            used += sum(file.stat().st_size for file in place.glob("*"))
            if used > ROOM_BYTES and place != newest:
                _leave(place)  # what this process has read, it needs no more
                remove(place)
