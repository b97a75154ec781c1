r"""From the ids of a table to the files of its images, by the names in the image folder; no file is opened.

An id that is the path of a file below the folder is that file. What is left over is looked for by the longest end of
its path that is one below the folder: with ``\\`` for ``/``, in another case of letters, without its extension, or with
folders in front that are not there; and then as the end of the path of a file in a subfolder. Only what fits a single
file is taken, and whatever leads out of the folder is refused. Paths are texts here, as a table may have a million.
"""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from feature_cache.errors import BadData
from transfer.data import split_names
from transfer.data.folders.file_names import IMAGE_SUFFIXES, suffix
from transfer.data.images import FileSource
from transfer.data.tables.missing import MissingFile

MOST_FILES = 4_000_000  # that are looked through for what an id may mean
MOST_CANDIDATES = 1000
LONGEST = 4096  # characters of an id that is looked for
_FILE, _LINK, _FOLDER = range(3)
_PAGE = re.compile(r"(.+)#(\d{1,6})", re.DOTALL)  # stack.tif#3, where no file has that name
_DOTS = {"", ".", ".."}
_PREFIX = re.compile(r"[a-z][a-z0-9+.-]+://[^/]*/?|[a-z]:", re.IGNORECASE)  # https://host/, file:///, C:


def find(table: Path, ids: Sequence[str], folder: Path) -> tuple[list[FileSource], list[str]]:
    """The file of each id, and sentences about those that are no path of a file as they stand.

    What is not found at all is a `MissingFile`.

    Raises
    ------
    BadData
        When an id leads out of the folder or fits several files, two ids fit one file, or none is there.
    """
    inside = _Folder(str(folder), table)
    paths: list[str | None] = [inside.exact(name) for name in ids]
    pages: list[int | None] = [None] * len(ids)
    for row in [row for row, path in enumerate(paths) if path is None]:
        if (named := _PAGE.fullmatch(ids[row])) and (path := inside.exact(named[1])):
            paths[row], pages[row] = path, int(named[2])
    lost = [row for row, path in enumerate(paths) if path is None]
    if not lost:
        return [FileSource(Path(path), page) for path, page in zip(paths, pages, strict=True) if path is not None], []

    index = _Index(inside.path)
    ways: Counter[str] = Counter()
    example: tuple[str, str] | None = None
    missing: list[str] = []
    several: list[tuple[str, list[str]]] = []
    for row in lost:
        fits, way = index.search(ids[row])
        if not fits and (named := _PAGE.fullmatch(ids[row])):
            (fits, way), pages[row] = index.search(named[1]), int(named[2])
        if len(fits) == 1:
            paths[row] = posixpath.join(folder, fits[0])
            if fits[0] in index.links:
                inside.require_below(ids[row], paths[row])
            ways[way] += 1
            example = example or (ids[row], fits[0])
        elif inside.leads_out(ids[row]):
            raise inside.refusal(ids[row])
        elif fits:
            several.append((ids[row], fits))
        else:
            missing.append(ids[row])
    if several:
        name, fits = several[0]
        more = f" ({len(several)} such ids)" if len(several) > 1 else ""
        raise BadData(
            f"{table}: {name!r} could be {' or '.join(fits[:3])} in {folder}{more}; write the path below the folder, "
            "or name another folder with `images`."
        )
    if len(missing) == len(ids):
        raise BadData(
            f"{table}: none of its {len(ids)} images is in the folder {folder}; the first is {missing[0]!r}"
            f"{_cause(index, missing[0])}. Name the folder of the images with `images`."
        )
    _require_one_each(table, ids, paths, pages)
    notes = []
    if example:
        by = ", ".join(f"{way} ({count})" for way, count in ways.most_common())
        notes.append(
            f"{sum(ways.values())} of {len(ids)} ids in {table} name no file in {folder} as they are; found {by}, "
            f"such as {example[1]} for {example[0]!r}."
        )
    cause = _cause(index, missing[0]) if missing else ""
    message = f"{len(missing)} of {len(ids)} ids in {table} name no file in {folder}"
    message += f", the first is {missing[0][:300]!r}{cause}" if missing else ""
    sources: list[FileSource] = []
    for name, path, page in zip(ids, paths, pages, strict=True):
        if path is None:
            reason = "no such file" + (cause if name == missing[0] else "")
            sources.append(MissingFile(Path(folder, name), message=message, reason=reason))
        else:
            sources.append(FileSource(Path(path), page))
    return sources, notes


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder; unlike `Path.is_dir` also where its name is too long, or a link leads to itself."""
    return posixpath.isdir(path)


def is_image_name(name: str) -> bool:
    """Whether a file is an image by its name."""
    return suffix(name) in IMAGE_SUFFIXES


def _require_one_each(
    table: Path, ids: Sequence[str], paths: Sequence[str | None], pages: Sequence[int | None]
) -> None:
    """Raise BadData where two ids have come to the same file, or page of one."""
    seen: dict[tuple[str, int | None], str] = {}
    for name, path, page in zip(ids, paths, pages, strict=True):
        other = seen.setdefault((path, page), name) if path is not None else name
        if other != name:
            raise BadData(f"{table}: {other!r} and {name!r} would both be {path}; write the paths of their files.")


def _cause(index: _Index, name: str) -> str:
    """A clause on why there may be no file of that name."""
    if not index.count:
        return ", and the folder holds no files"
    near = index.near(name)
    return f" ({near})" if near else ""


@dataclass
class _Folder:
    """The image folder: what lies directly under the paths that ids give. Each of its folders is listed once."""

    folder: str
    table: Path
    path: str = ""
    listings: dict[str, dict[str, int] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.path = os.path.realpath(self.folder)

    def exact(self, name: str) -> str | None:
        """The path of the file that `name` is the path of, below the folder; None where there is none.

        Raises
        ------
        BadData
            When it is there, and is a link that leads out of the folder.
        """
        path = f"{self.folder}/{name}"
        if not _DOTS.isdisjoint(name.split("/")):  # absolute, or by way of other folders
            path = posixpath.join(self.folder, name)
            real = os.path.realpath(path)
            return path if self._is_below(real) and posixpath.isfile(real) else None
        parent, _, last = name.rpartition("/")
        if parent not in self.listings:
            self.listings[parent] = self._listing(parent)
        entries = self.listings[parent]
        if entries is None:
            raise self.refusal(name)
        kind = entries.get(last)
        if kind == _LINK:
            self.require_below(name, path)
            return None if posixpath.isdir(path) else path
        return path if kind == _FILE else None

    def leads_out(self, name: str) -> bool:
        """Whether an id that `exact` has not found is the path of something outside."""
        if _DOTS.isdisjoint(name.split("/")):  # the folder that it would be in is inside
            return False
        return not self._is_below(os.path.realpath(posixpath.join(self.folder, name)))

    def require_below(self, name: str, path: str | None) -> None:
        if path is None or not self._is_below(os.path.realpath(path)):
            raise self.refusal(name)

    def refusal(self, name: str) -> BadData:
        return BadData(
            f"{self.table} names {name!r}, which leads out of the image folder {self.folder}; such a path is "
            "refused. Name the folder that holds the images with `images`."
        )

    def _is_below(self, real: str) -> bool:
        return real == self.path or real.startswith(self.path.rstrip("/") + "/")

    def _listing(self, parent: str) -> dict[str, int] | None:
        """What a folder holds; None where it lies outside."""
        path = posixpath.join(self.folder, parent)
        if not self._is_below(os.path.realpath(path)):
            return None
        try:
            with os.scandir(path) as entries:
                return {entry.name: _kind(entry) for entry in entries}
        except OSError:
            return {}


def _kind(entry: os.DirEntry[str]) -> int:
    return _LINK if entry.is_symlink() else _FOLDER if entry.is_dir(follow_symlinks=False) else _FILE


class _Index:
    """All files below a folder, by their path without extension, in small letters."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.count = 0
        self.links: set[str] = set()
        self._by_path: dict[str, list[str]] = {}
        self._by_name: dict[str, list[str]] = {}
        for path in self._walk():
            self.count += 1
            self._by_path.setdefault(_key(posixpath.splitext(path)[0]), []).append(path)

    def search(self, name: str) -> tuple[list[str], str]:
        """The files that an id may mean, as paths below the folder, and how they were found; one if it is clear."""
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
        """A clause on a file that may be meant, but is not taken."""
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
            wanted = stem.lstrip("0")
            numbers = (paths[0] for key, paths in self._names.items() if key.isdecimal() and key.lstrip("0") == wanted)
            if path := next(numbers, None):
                return f"{path} is there: the table has lost the zeros in front"
        return ""

    @property
    def _names(self) -> dict[str, list[str]]:
        """The same files by their name without extension."""
        if not self._by_name:
            for paths in self._by_path.values():
                for path in paths:
                    self._by_name.setdefault(_key(posixpath.splitext(posixpath.basename(path))[0]), []).append(path)
        return self._by_name

    def _at(self, path: str) -> list[str]:
        """The files at that path below the folder but for the case of letters; or that are so without extension."""
        key = _key(path)
        same = [other for other in self._by_path.get(_key(posixpath.splitext(path)[0]), []) if _key(other) == key]
        return _narrowed(same or self._by_path.get(key, []), path)

    def _is_other_part(self, dropped: str) -> bool:
        """Whether a folder in front of an id is another part of the data than this folder: ``test/`` for ``train``."""
        parts = {split_names.split_of(name) for name in (posixpath.basename(self.folder), dropped)}
        return len(parts) == 2 and None not in parts

    def _walk(self) -> Iterator[str]:
        """The path of every file below the folder; links to folders are not followed."""
        waiting, count = [""], 0
        while waiting:
            parent = waiting.pop()
            try:
                with os.scandir(posixpath.join(self.folder, parent)) as listing:
                    entries = sorted((entry.name, _kind(entry)) for entry in listing)
            except OSError:  # a folder that may not be listed holds nothing that could be read
                continue
            count += len(entries)
            if count > MOST_FILES:
                raise BadData(
                    f"{self.folder} holds more than {MOST_FILES} files, too many to look for what the ids of a table "
                    "mean; write the paths of the images below that folder."
                )
            for name, kind in entries:
                path = f"{parent}/{name}" if parent else name
                if kind == _FOLDER:
                    waiting.append(path)
                    continue
                if kind == _LINK:
                    self.links.add(path)
                yield path


def _parts(name: str) -> list[str]:
    """The path that an id names, without drive, host, and what points to the folder itself."""
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
    """Those spelled alike, or that have the name of an image, where that leaves a single one."""
    for suits in (
        lambda path: path == spelled or posixpath.splitext(path)[0] == spelled,
        is_image_name,
    ):
        chosen = [path for path in paths if suits(path)]
        if len(paths) > 1 and len(chosen) == 1:
            return chosen
    return paths


def _way(parts: list[str], path: str) -> str:
    """In which way `path` is found by the path that an id names."""
    named = "/".join(parts)
    if path == named:
        return ""
    return "in another case of letters" if _key(path) == _key(named) else "without their extension"
