"""All files below a folder: which are images, which are other files, and which are litter.

Hidden files, litter, and files with the names of other kinds (`transfer.data.folders.file_names`) are skipped and
counted. A file with the name of an image is one, whether it can be read or not. Only a file whose name says nothing is
opened: text is skipped, everything else is an image.

Links to folders are followed, wherever they lead, but each real folder is read once, and at its real place first.
"""

from __future__ import annotations

import codecs
import heapq
import os
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from feature_cache.errors import BadData, BadImage, printable
from transfer.data.arrays import loading
from transfer.data.folders import file_names
from transfer.data.images import FileSource, ImageSource

_MOST_NAMES = 3  # of a list in a message
_HEAD = 512  # bytes by which text is recognised


@dataclass
class Tree:
    """The files and folders below a folder. Paths are relative to it and have slashes.

    Attributes
    ----------
    images, arrays : list of str
    tops : list of str
        The folders directly in the folder.
    beside : set of str
        Those of `tops` that hold files which are no images.
    litter, sidecars : Counter
        The number of skipped files, by their names in notes and by their extensions.
    links : list of str
        Links that are not followed.
    """

    images: list[str] = field(default_factory=list)
    arrays: list[str] = field(default_factory=list)
    tops: list[str] = field(default_factory=list)
    beside: set[str] = field(default_factory=set)
    litter: Counter[str] = field(default_factory=Counter)
    sidecars: Counter[str] = field(default_factory=Counter)
    links: list[str] = field(default_factory=list)

    @cached_property
    def folders(self) -> dict[str, list[str]]:
        """The names of the folders in each folder, where they hold images at any depth."""
        names: dict[str, set[str]] = {}
        for folder in self.holders:
            while folder:
                holder, _, name = folder.rpartition("/")
                names.setdefault(holder, set()).add(name)
                folder = holder
        return {folder: sorted(names[folder]) for folder in sorted(names)}

    @cached_property
    def holders(self) -> frozenset[str]:
        """The folders that hold images directly; the empty text is the root."""
        return frozenset(name.rpartition("/")[0] for name in self.images)

    def notes(self, folder: object) -> tuple[str, ...]:
        """Notes on what was skipped, one for each reason."""
        notes = []
        if self.litter:
            notes.append(
                f"passed over in {folder}, as hidden or left behind by a program or system: "
                f"{file_names.counted(self.litter)}."
            )
        if self.sidecars:
            notes.append(f"passed over in {folder}, as no images by their names: {file_names.counted(self.sidecars)}.")
        if self.links:
            notes.append(
                f"links in {folder} that lead round in a circle, or to a folder that is read already, are not followed "
                f"({len(self.links):,}): {some(sorted(self.links))}."
            )
        return tuple(notes)


def walk(root: Path) -> Tree:
    """The files and folders below `root`; only files whose names do not say what they are are opened.

    Raises
    ------
    BadData
        When a folder cannot be read.
    """
    walker = _Walker(root)
    while (folder := walker.next_folder()) is not None:
        walker.read(*folder)
    tree = walker.tree
    tree.images.sort(key=order)
    tree.arrays.sort(key=order)
    tree.tops.sort()
    return tree


class _Walker:
    """A walk through the folders below `root`, in which each real folder is read once: links come last."""

    def __init__(self, root: Path) -> None:
        self.tree = Tree()
        self._root = root
        self._real_root = os.path.realpath(root)
        self._visited = {self._real_root}
        self._folders = [("", self._real_root)]  # the path below the root with a slash after it, and the real path
        # A key to sort by, the path below the root, and the real path of the folder that holds the link.
        self._links: list[tuple[str, str, str]] = []

    def next_folder(self) -> tuple[str, str] | None:
        """The next folder to read: its path below the root, and its real path; None at the end."""
        while not self._folders:
            if not self._links:
                return None
            _, path, holder = heapq.heappop(self._links)
            real = os.path.realpath(self._root / path)
            if real in self._visited or _is_in(holder, real) or _is_in(self._real_root, real):
                self.tree.links.append(path)
                continue
            self._visited.add(real)
            return f"{path}/", real
        return self._folders.pop()

    def read(self, start: str, real: str) -> None:
        """Sort the entries of a folder, and put its subfolders on the list."""
        for entry in _entries(self._root / start):
            name = start + entry.name
            if kind := file_names.litter(entry.name):
                self.tree.litter[kind] += 1
                continue
            kind = _kind(entry)
            if kind == "folder":
                self._add_folder(entry, name, real)
                if not start:
                    self.tree.tops.append(name)
            elif kind == "file":
                _sort(self.tree, entry, name)
            else:
                self.tree.sidecars["pipes or devices"] += 1

    def _add_folder(self, entry: os.DirEntry[str], name: str, real: str) -> None:
        inner = f"{real.rstrip(os.sep)}{os.sep}{entry.name}"
        if entry.is_symlink():
            heapq.heappush(self._links, (order(name), name, real))
        elif inner in self._visited:
            self.tree.links.append(name)
        else:
            self._visited.add(inner)
            self._folders.append((f"{name}/", inner))


def _sort(tree: Tree, entry: os.DirEntry[str], name: str) -> None:
    """Count a file as image, array or other file."""
    if not count_file(tree, name, lambda: _is_text(Path(entry.path))) and loading.names_array(entry.name):
        tree.arrays.append(name)


def count_file(tree: Tree, path: str, is_text: Callable[[], bool]) -> bool:
    """Count a file as an image or another file: by its name or, where that says nothing, by whether it is text.

    Parameters
    ----------
    path : str
        The path below the folder, with slashes.
    is_text : callable
        It reads the file, and is called only where the name says nothing.

    Returns
    -------
    bool
        Whether it is an image.
    """
    name = path.rpartition("/")[2]
    suffix = file_names.suffix(name)
    is_other = suffix in file_names.SIDECAR_SUFFIXES or loading.names_array(name)
    if suffix in file_names.IMAGE_SUFFIXES or not (is_other or is_text()):
        tree.images.append(path)
        return True
    tree.sidecars[suffix or "without suffix"] += 1
    if "/" in path:
        tree.beside.add(top(path))
    return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise BadData(f"cannot read the folder {folder}: {error.strerror}.") from error


def _kind(entry: os.DirEntry[str]) -> str:
    """``folder``, ``file`` or ``other``; a link to nothing is a file, which is reported when it is read."""
    if not entry.is_symlink():
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "other"
    try:
        mode = entry.stat().st_mode
    except OSError:
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def _is_text(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    return is_text(head, FileSource(path))


def is_text(head: bytes, source: ImageSource) -> bool:
    """Whether a file begins like a text and is no image; images can be texts, such as a PPM of plain numbers."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return False
    if not head or not all(character.isprintable() or character.isspace() for character in text):
        return False
    try:
        source.load()
    except BadImage:
        return True
    return False


def folders_in(folder: Path) -> list[str]:
    """The names of the folders directly in `folder`, sorted, without litter."""
    names = (entry.name for entry in _entries(folder) if _kind(entry) == "folder")
    return sorted(name for name in names if not file_names.litter(name))


def some(names: list[str]) -> str:
    """The first of `names`, and the number of the others."""
    first = ", ".join(map(printable, names[:_MOST_NAMES]))
    return first + (f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else "")


def top(name: str) -> str:
    """The first part of a path."""
    return name.partition("/")[0]


def order(name: str) -> str:
    """A key that sorts paths folder by folder: a slash comes before all other characters."""
    return name.replace("/", "\0")


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
