r"""From the ids of a table to the files of its images, by the names in the image folder; no file is opened.

An id that is the path of a file below the folder is that file. Other ids are searched for by the longest end of their
path that is a path below the folder: with ``\\`` for ``/``, in another case of letters, without an extension, or with
leading folders that do not exist; and then as the end of the path of a file in a subfolder. Only a single match is
taken, and a path that leads out of the folder is refused. Paths are texts here, since a table may have a million.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
import urllib.parse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from feature_cache.errors import BadData
from transfer.data import split_names
from transfer.data.annotation.boxes import Box
from transfer.data.annotation.crop_source import CropSource
from transfer.data.containers.archive_folder import ArchiveFolder
from transfer.data.folders.file_names import IMAGE_SUFFIXES, suffix
from transfer.data.images import ImageSource
from transfer.data.remote.path import AnyPath
from transfer.data.tables.image_folders import ArchivedImages, ImageFolder, LocalImages
from transfer.data.tables.missing import MissingFile

MOST_CANDIDATES = 1000
LONGEST = 4096  # characters of an id that is searched for
# Where no file has that name, stack.tif#3 is a page, and a.jpg#10,20,30,40 a box: left, top, width and height.
_PART = re.compile(r"(.+)#(\d{1,6}|\d{1,7}(?:,\d{1,7}){3})", re.DOTALL)
_PREFIX = re.compile(r"[a-z][a-z0-9+.-]+://[^/]*/?|[a-z]:", re.IGNORECASE)  # https://host/, file:///, C:


def find(table: AnyPath, ids: Sequence[str], folder: Path | ArchiveFolder) -> tuple[list[ImageSource], list[str]]:
    """The image file of each id, and notes on ids that are not the path of a file as they are written.

    Parameters
    ----------
    table : Path or RemotePath
        The file of the table, for messages.
    ids : sequence of str
    folder : Path or ArchiveFolder
        The image folder.

    Returns
    -------
    sources : list of ImageSource
        An id for which there is no file has a `MissingFile`.
    notes : list of str

    Raises
    ------
    BadData
        When an id leads out of the folder or matches several files, two ids match one file, or no file exists.
    """
    image_folder: ImageFolder
    image_folder = LocalImages(str(folder), table) if isinstance(folder, Path) else ArchivedImages(folder, table)
    matches = [_exact_match(image_folder, name) for name in ids]
    unmatched = [row for row, match in enumerate(matches) if match is None]
    if not unmatched:
        return [match.source(image_folder) for match in matches if match], []
    search = _Search(table, ids, image_folder)
    for row in unmatched:
        matches[row] = search.match(ids[row])
    search.require_clear()
    _require_one_each(table, ids, matches)
    return search.sources(matches), search.notes()


class _Match(NamedTuple):
    """The file of an id, and the page of it, or the box in it, where the id names one."""

    path: str
    page: int | None = None
    box: Box | None = None

    @classmethod
    def part(cls, path: str, part: str) -> _Match:
        """A page or a box of a file, by what stands behind ``#``."""
        left, *others = map(int, part.split(","))
        return cls(path, None, (left, others[0], others[1], others[2])) if others else cls(path, left)

    def source(self, folder: ImageFolder) -> ImageSource:
        """The image."""
        source = folder.source(self.path, self.page)
        return source if self.box is None else CropSource(source, self.box)


def _exact_match(image_folder: ImageFolder, name: str) -> _Match | None:
    """The file that an id is the path of, or the page or box of a file; None where there is no such file."""
    if path := image_folder.exact(name):
        return _Match(path)
    if (named := _PART.fullmatch(name)) and (path := image_folder.exact(named[1])):
        return _Match.part(path, named[2])
    return None


class _Search:
    """The search for the files of ids that are no exact paths: what was found, and how, for notes and errors."""

    def __init__(self, table: AnyPath, ids: Sequence[str], folder: ImageFolder) -> None:
        self._table, self._ids, self._folder = table, ids, folder
        self._index = _Index(folder)
        self._ways: Counter[str] = Counter()
        self._example: tuple[str, str] | None = None
        self._missing: list[str] = []
        self._ambiguous: list[tuple[str, list[str]]] = []

    def match(self, name: str) -> _Match | None:
        """The only file that an id may mean; None where there are several, or none.

        Raises
        ------
        BadData
            When the id leads out of the folder.
        """
        part = ""
        fits, way = self._index.search(name)
        if not fits and (named := _PART.fullmatch(name)):
            (fits, way), part = self._index.search(named[1]), named[2]
        if len(fits) == 1:
            path = self._folder.path_of(fits[0])
            if fits[0] in self._index.links:
                self._folder.require_below(name, path)
            self._ways[way] += 1
            self._example = self._example or (name, fits[0])
            return _Match.part(path, part) if part else _Match(path)
        if self._folder.leads_out(name):
            raise self._folder.refusal(name)
        if fits:
            self._ambiguous.append((name, fits))
        else:
            self._missing.append(name)
        return None

    def require_clear(self) -> None:
        """Raise BadData where an id matches several files, or no id matches any."""
        if self._ambiguous:
            name, fits = self._ambiguous[0]
            more = f" ({len(self._ambiguous)} such ids)" if len(self._ambiguous) > 1 else ""
            raise BadData(
                f"{self._table}: {name!r} could be {' or '.join(fits[:3])} in {self._folder}{more}; write the path "
                "below the folder, or name another folder with `images`."
            )
        if len(self._missing) == len(self._ids):
            raise BadData(
                f"{self._table}: none of its {len(self._ids)} images is in the folder {self._folder}; the first is "
                f"{self._missing[0]!r}{self._cause()}. Name the folder of the images with `images`."
            )

    def notes(self) -> list[str]:
        if not self._example:
            return []
        ways = ", ".join(f"{way} ({count})" for way, count in self._ways.most_common())
        return [
            f"{self._ways.total()} of {len(self._ids)} ids in {self._table} name no file in {self._folder} as they "
            f"are; found {ways}, such as {self._example[1]} for {self._example[0]!r}."
        ]

    def sources(self, matches: Sequence[_Match | None]) -> list[ImageSource]:
        cause = self._cause() if self._missing else ""
        message = f"{len(self._missing)} of {len(self._ids)} ids in {self._table} name no file in {self._folder}"
        message += f", the first is {self._missing[0][:300]!r}{cause}" if self._missing else ""
        sources: list[ImageSource] = []
        for name, match in zip(self._ids, matches, strict=True):
            if match:
                sources.append(match.source(self._folder))
                continue
            reason = "no such file" + (cause if name == self._missing[0] else "")
            sources.append(MissingFile(Path(str(self._folder), name), message=message, reason=reason))
        return sources

    def _cause(self) -> str:
        """A clause on why the first missing file may be missing."""
        if not self._index.count:
            return ", and the folder holds no files"
        near = self._index.near(self._missing[0])
        return f" ({near})" if near else ""


def is_folder(path: AnyPath) -> bool:
    """Whether a path is a folder. `Path.is_dir` raises where a name is too long or a link leads to itself."""
    return posixpath.isdir(path) if isinstance(path, Path) else path.is_dir()


def is_image_name(name: str) -> bool:
    """Whether a file has the name of an image."""
    return suffix(name) in IMAGE_SUFFIXES


def _require_one_each(table: AnyPath, ids: Sequence[str], matches: Sequence[_Match | None]) -> None:
    """Raise BadData where two ids match the same file, or the same page or box of a file."""
    first: dict[_Match, str] = {}
    for name, match in zip(ids, matches, strict=True):
        other = first.setdefault(match, name) if match else name
        if match and other != name:
            raise BadData(
                f"{table}: {other!r} and {name!r} would both be {match.path}; write the paths of their files."
            )


class _Index:
    """All files below a folder, by their path without extension in small letters."""

    def __init__(self, folder: ImageFolder) -> None:
        self._folder_name = folder.name
        self.count = 0
        self.links: set[str] = set()
        self._by_path: dict[str, list[str]] = {}
        self._by_name: dict[str, list[str]] = {}
        for path, is_link in folder.files():
            self.count += 1
            if is_link:
                self.links.add(path)
            self._by_path.setdefault(_key(posixpath.splitext(path)[0]), []).append(path)

    def search(self, name: str) -> tuple[list[str], str]:
        """The files that an id may mean, as paths below the folder, and the way in which they were found."""
        parts = _parts(name)
        keys = _keys(parts[-1]) if parts else set()
        if keys.isdisjoint(self._names):
            return [], ""
        for start in range(len(parts)):
            if start and self._is_other_part(parts[start - 1]):
                continue
            fits = self._at("/".join(parts[start:]))
            if fits:
                way = _way(parts[start:], fits[0])
                if start:
                    way = "by the end of their path"
                elif "\\" in name and not way:
                    way = "with / in place of \\"
                return fits, way or "by their path"
        whole = "/".join(parts)
        candidates = {path for key in keys for path in self._names.get(key, [])}
        if len(candidates) > MOST_CANDIDATES:
            return sorted(candidates), ""
        fits = [path for path in candidates if _key(path).endswith("/" + _key(whole))]
        if not fits:
            fits = [path for path in candidates if _key(posixpath.splitext(path)[0]).endswith("/" + _key(whole))]
        return _narrowed(sorted(fits), whole), "in subfolders"

    def near(self, name: str) -> str:
        """A clause on a file that may be meant but does not match."""
        parts = _parts(name)
        if not parts:
            return ""
        stem = posixpath.splitext(parts[-1])[0]
        others = self._names.get(_key(stem), [])
        if others:
            same = _key(posixpath.basename(others[0])) == _key(parts[-1])
            place = "in another folder" if same else "with another extension"
            return f"{others[0]} is there, {place}"
        if stem.isdecimal():
            number = stem.lstrip("0")
            numbers = (paths[0] for key, paths in self._names.items() if key.isdecimal() and key.lstrip("0") == number)
            if path := next(numbers, None):
                return f"{path} is there: the table has lost the zeros in front"
        return ""

    @property
    def _names(self) -> dict[str, list[str]]:
        """The files by their name without folder and extension."""
        if not self._by_name:
            for paths in self._by_path.values():
                for path in paths:
                    self._by_name.setdefault(_key(posixpath.splitext(posixpath.basename(path))[0]), []).append(path)
        return self._by_name

    def _at(self, path: str) -> list[str]:
        """The files whose path equals `path` but for the case of letters, or does so without its extension."""
        key = _key(path)
        same = [other for other in self._by_path.get(_key(posixpath.splitext(path)[0]), []) if _key(other) == key]
        return _narrowed(same or self._by_path.get(key, []), path)

    def _is_other_part(self, dropped: str) -> bool:
        """Whether a leading folder of an id names another part of the data than this folder, such as test and train."""
        parts = {split_names.split_of(name) for name in (self._folder_name, dropped)}
        return len(parts) == 2 and None not in parts


def _parts(name: str) -> list[str]:
    """The parts of the path that an id names, without drive and host, and without . and .. ."""
    if len(name) > LONGEST:
        return []
    if "://" in name:
        name = urllib.parse.unquote(re.sub("[?#].*", "", name, flags=re.DOTALL))
    path = posixpath.normpath("/" + _PREFIX.sub("", name.strip().replace("\\", "/"), count=1))
    return [part for part in path.split("/") if part]


def _keys(last: str) -> set[str]:
    return {_key(last), _key(posixpath.splitext(last)[0])}


def _key(text: str) -> str:
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def _narrowed(paths: list[str], spelled: str) -> list[str]:
    """The only path that is spelled like the id, or that has the name of an image; all paths if there is no such."""
    for suits in (
        lambda path: path == spelled or posixpath.splitext(path)[0] == spelled,
        is_image_name,
    ):
        chosen = [path for path in paths if suits(path)]
        if len(paths) > 1 and len(chosen) == 1:
            return chosen
    return paths


def _way(parts: list[str], path: str) -> str:
    """The way in which the path that an id names matches `path`; empty where they are equal."""
    named = "/".join(parts)
    if path == named:
        return ""
    return "in another case of letters" if _key(path) == _key(named) else "without their extension"
