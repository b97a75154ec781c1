"""All files below a folder: which are images, which lie beside images, and which are litter.

**What is no image.** Hidden files, litter, and files that by their names lie beside images
(`transfer.data.folders.file_names`) are passed over and counted. A file that is called an image stays one, whether it
can be read or not. Only a file whose name says nothing is looked into: text is passed over, everything else is an
image.

**Links** to folders are followed, wherever they lead, but each real folder is read once, and first where it really is.
"""

from __future__ import annotations

import codecs
import heapq
import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from feature_cache.errors import BadData, BadImage, printable
from transfer.data.arrays import loading
from transfer.data.folders import file_names
from transfer.data.images import FileSource

_MOST = 3  # names of a list that a message shows
_HEAD = 512  # bytes that tell text from other content


@dataclass
class Tree:
    """All that is below a folder. Paths are relative to it and have slashes."""

    images: list[str] = field(default_factory=list)
    arrays: list[str] = field(default_factory=list)
    tops: list[str] = field(default_factory=list)  # folders directly in it
    beside: set[str] = field(default_factory=set)  # those of them that hold files which are no images
    litter: Counter[str] = field(default_factory=Counter)
    sidecars: Counter[str] = field(default_factory=Counter)
    links: list[str] = field(default_factory=list)  # not followed

    @cached_property
    def folders(self) -> dict[str, list[str]]:
        """The names of the folders in each folder, of those alone that hold images, however deep."""
        found: dict[str, set[str]] = {}
        for folder in self.holders:
            while folder:
                holder, _, name = folder.rpartition("/")
                found.setdefault(holder, set()).add(name)
                folder = holder
        return {folder: sorted(found[folder]) for folder in sorted(found)}

    @cached_property
    def holders(self) -> frozenset[str]:
        """The folders that hold images directly; empty is the root."""
        return frozenset(name.rpartition("/")[0] for name in self.images)

    def notes(self, folder: Path) -> tuple[str, ...]:
        """What was passed over, in a line for each reason."""
        found = []
        if self.litter:
            found.append(
                f"passed over in {folder}, as hidden or left behind by a program or system: "
                f"{file_names.counted(self.litter)}."
            )
        if self.sidecars:
            found.append(f"passed over in {folder}, as no images by their names: {file_names.counted(self.sidecars)}.")
        if self.links:
            found.append(
                f"links in {folder} that lead round in a circle, or to a folder that is read already, are not followed "
                f"({len(self.links):,}): {some(sorted(self.links))}."
            )
        return tuple(found)


def walk(root: Path) -> Tree:
    """All that is below `root`; of the files only those are opened whose names do not say what they are.

    Raises
    ------
    BadData
        When a folder cannot be read.
    """
    tree = Tree()
    real_root = os.path.realpath(root)
    visited = {real_root}
    folders = [("", real_root)]  # the path below the root with a slash after it, and where it really is
    links: list[tuple[str, str, str]] = []  # a key to sort by, the path below the root, and where the link really is
    while folders or links:
        if not folders:
            _, below, holder = heapq.heappop(links)
            real = os.path.realpath(root / below)
            if real in visited or _is_in(holder, real) or _is_in(real_root, real):
                tree.links.append(below)
                continue
            visited.add(real)
            folders.append((f"{below}/", real))
        start, real = folders.pop()
        for entry in _entries(root / start):
            name = start + entry.name
            if kind := file_names.litter(entry.name):
                tree.litter[kind] += 1
                continue
            what = _kind(entry)
            if what == "folder":
                inner = f"{real.rstrip(os.sep)}{os.sep}{entry.name}"
                if entry.is_symlink():
                    heapq.heappush(links, (_order(name), name, real))
                elif inner in visited:
                    tree.links.append(name)
                else:
                    visited.add(inner)
                    folders.append((f"{name}/", inner))
                if not start:
                    tree.tops.append(name)
            elif what == "file":
                _sort(tree, entry, name)
            else:
                tree.sidecars["pipes or devices"] += 1
    tree.images.sort(key=_order)
    tree.arrays.sort(key=_order)
    tree.tops.sort()
    return tree


def _sort(tree: Tree, entry: os.DirEntry[str], name: str) -> None:
    """Put a file where it belongs by its name, or, where that says nothing, by its first bytes."""
    suffix = file_names.suffix(entry.name)
    if suffix not in file_names.IMAGE_SUFFIXES:
        is_array = loading.is_known(Path(entry.name))
        if is_array or suffix in file_names.SIDECAR_SUFFIXES or _is_text(Path(entry.path)):
            tree.sidecars[suffix or "without suffix"] += 1
            if "/" in name:
                tree.beside.add(top(name))
            if is_array:
                tree.arrays.append(name)
            return
    tree.images.append(name)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise BadData(f"cannot read the folder {folder}: {error.strerror}.") from error


def _kind(entry: os.DirEntry[str]) -> str:
    """``folder``, ``file`` or ``other``; a link that leads nowhere is a file, which is reported when it is read."""
    if not entry.is_symlink():
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "other"
    try:
        mode = entry.stat().st_mode
    except OSError:
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def _is_text(path: Path) -> bool:
    """Whether a file begins as text does and is no image; some images are text, such as PPM with plain numbers."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except (OSError, UnicodeDecodeError):
        return False
    if not head or not all(character.isprintable() or character.isspace() for character in text):
        return False
    try:
        FileSource(path).load()
    except BadImage:
        return True
    return False


def folders_in(folder: Path) -> list[str]:
    """The names of the folders directly in `folder`, sorted, without litter."""
    names = (entry.name for entry in _entries(folder) if _kind(entry) == "folder")
    return sorted(name for name in names if not file_names.litter(name))


def some(names: list[str]) -> str:
    """The first of `names`, and how many more there are."""
    first = ", ".join(map(printable, names[:_MOST]))
    return first + (f" and {len(names) - _MOST:,} more" if len(names) > _MOST else "")


def top(name: str) -> str:
    """The first part of a path."""
    return name.partition("/")[0]


def _order(name: str) -> str:
    """Sorts folder by folder: a slash comes before all other characters."""
    return name.replace("/", "\0")


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
