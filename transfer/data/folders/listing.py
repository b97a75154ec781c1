"""Folders of images: which files in them are images, of which classes, and of which split.

The subfolders of a folder are its classes, and every image below a subfolder, in folders by year or camera too, is of
that class. Subfolders whose names are those of splits (`transfer.data.split_names`) are never classes: one of them is
chosen and read as a folder of its own. Splits below each class (``cats/train``, ``cats/test``) are chosen alike.

`transfer.data.folders.walk` decides which files are images, and which links are followed.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

import numpy as np

from feature_cache.errors import BadData, InvalidChoice
from transfer.data import split_names
from transfer.data.folders import file_names
from transfer.data.folders.places import Place
from transfer.data.folders.walk import Tree, some, top


@dataclass(frozen=True)
class Folder:
    """The images of a folder and their classes.

    Attributes
    ----------
    path : Place
        The folder itself, or the folder of the chosen split.
    ids : tuple of str
        The paths of the images below `path`, with slashes.
    labels : ndarray of shape (n,), str, or None
    empty_classes : tuple of str
        Names of class folders that hold no file.
    notes : tuple of str
    split : str or None
        The split that is still to be chosen, in a folder of arrays or tables.
    holds_arrays, holds_tables : bool
        Whether the folder holds files of arrays, or Parquet files, and no image.
    """

    path: Place
    ids: tuple[str, ...]
    labels: np.ndarray | None = None
    empty_classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    split: str | None = None
    holds_arrays: bool = False
    holds_tables: bool = False


def read(folder: Place, split: str | None = None) -> Folder:
    """The images of a folder, or of a split of it.

    Raises
    ------
    InvalidChoice
        When there is no such split, or there are no splits at all.
    BadData
        When the folder holds no image, is divided into splits and no split is named, or mixes layouts.
    """
    while isinstance(result := _read(folder, split), tuple):
        folder, split = result
    return result


# A folder to be read instead of another one, and its split that is still to be chosen.
_Instead = tuple[Place, str | None]


def _read(folder: Place, split: str | None) -> Folder | _Instead:
    if parts := split_names.find(folder.folders()):
        return _split_folder(folder, parts, split), None
    tree = folder.tree()
    if not tree.images:
        return _without_images(folder, tree, split)
    tops = sorted({top(name) for name in tree.images if "/" in name})
    loose = [name for name in tree.images if "/" not in name]
    if len(tops) == 1 and not loose and (inner := _lone(folder, tops[0], tree, split)):
        return inner
    if not tops:
        _require_no_split(split, f"{folder} is a folder of images without subfolders")
        return Folder(folder, tuple(loose), notes=tree.notes(folder))
    if loose:
        raise _loose(folder, loose)
    _require_classes(folder, tops)
    ids = tuple(tree.images)
    if divided := _divided(tree):
        ids = _choose_below(folder, divided, tree, split)
        tops_read = {top(name) for name in ids}
        empty = [name for name in tops if name not in tops_read]
    else:
        _require_no_split(split, f"the folders of {folder} are classes ({some(tops)})")
        empty = [name for name in tree.tops if name not in {*tops, *tree.beside, *tree.links}]
    labels = np.array([top(name) for name in ids])
    return Folder(folder, ids, labels, tuple(empty), (*tree.notes(folder), *_doubts(folder, tops, tree, bool(divided))))


def _split_folder(folder: Place, parts: list[str], split: str | None) -> Place:
    if split is None:
        if len(parts) == 1:
            what, name = f"holds the split {parts[0]} alone, which is no class", "name it"
        else:
            what, name = f"is divided into splits ({', '.join(parts)}), which are no classes", "name one, for instance"
        raise BadData(f"{folder} {what}; {name} with `split={parts[0]!r}`, or give its folder, {folder / parts[0]}.")
    return folder / split_names.choose(split, parts, str(folder))


def _lone(folder: Place, name: str, tree: Tree, split: str | None) -> _Instead | None:
    """The folder to read where the only subfolder is no class but a split, or is divided into splits."""
    inner = name
    while True:  # the images may be as deep as data/archive/chest
        if split_names.find((folder / inner).folders()):
            return folder / inner, split
        if posixpath.basename(inner).lower() in split_names.IMAGE_FOLDERS:
            return folder / inner, split
        below = tree.folders.get(inner, [])
        if len(below) != 1 or inner in tree.holders:
            break
        inner = f"{inner}/{below[0]}"
    below = tree.folders.get(name, [])
    if below and split_names.split_of(name) and split_names.split_of(name) == split_names.split_of(folder.name):
        return folder / name, split  # an archive may hold a folder of its own name: seg_train/seg_train/street
    if split_names.is_plain(name) and (below or split):
        return _split_folder(folder, [name], split), None
    return None


def _require_classes(folder: Place, tops: list[str]) -> None:
    """Raise BadData where the folders are no classes: one of images, and others of files that belong to them."""
    images = [name for name in tops if name.lower() in split_names.IMAGE_FOLDERS]
    beside = [name for name in tops if name.lower() in split_names.BESIDE_IMAGES]
    if images and beside and len(images) + len(beside) == len(tops):
        raise BadData(
            f"{folder} holds images in {images[0]}, and what belongs to them in {', '.join(beside)}: these are no "
            f"classes; give {folder / images[0]}."
        )


def _without_images(folder: Place, tree: Tree, split: str | None) -> Folder:
    holders = sorted({name.rpartition("/")[0] for name in tree.arrays})
    if "" in holders or len(holders) == 1:
        return Folder(folder if "" in holders else folder / holders[0], (), split=split, holds_arrays=True)
    if holders:
        raise BadData(f"{folder} holds no images, but files of arrays in {some(holders)}; give one of these folders.")
    if tree.sidecars[".parquet"] and folder.opens_files:
        return Folder(folder, (), split=split, holds_tables=True)
    if tree.sidecars:
        unpack = _about_containers(folder, tree)
        raise BadData(
            f"the folder {folder} holds no images by their names, only other files: "
            f"{file_names.counted(tree.sidecars)}; {unpack}put images in it, or in a subfolder for each class."
        )
    beyond = f" that is read (links are not followed: {some(tree.links)})" if tree.links else ""
    raise BadData(f"the folder {folder} holds no files{beyond}; put images in it, or in a subfolder for each class.")


def _about_containers(folder: Place, tree: Tree) -> str:
    """What to do about archives and tables that may hold the images, as the beginning of a clause."""
    read = next((kind for kind in (".tar", ".zip", ".parquet") if kind in tree.sidecars), None)
    if read:
        return f"give one of these files, or several by a pattern such as '{folder}/*{read}', or "
    return "unpack the archives, or " if tree.sidecars.keys() & file_names.ARCHIVES else ""


def _loose(folder: Place, loose: list[str]) -> BadData:
    for name in loose:
        if target := folder.broken_link(name):
            return BadData(
                f"{folder / name} is a link that leads nowhere, to {target}; make what it leads to available, or "
                "remove the link."
            )
    return BadData(
        f"{folder} holds both class folders and loose images ({loose[0]}, {len(loose)} in all); "
        "move the images into a class folder, or away."
    )


def _divided(tree: Tree) -> dict[str, list[str]]:
    """The folders that are divided into splits, at any depth, and the names of their splits."""
    parts = {folder: split_names.find(names) for folder, names in tree.folders.items() if folder}
    return {folder: parts[folder] for folder in sorted(parts) if parts[folder]}


def _choose_below(folder: Place, divided: dict[str, list[str]], tree: Tree, split: str | None) -> tuple[str, ...]:
    """The images of one split where each class is divided into the same splits."""
    names = split_names.in_order({name for parts in divided.values() for name in parts})
    steps = [name.split("/") for name in tree.images]
    if any("/" in holder for holder in divided) or any(len(step) != 3 or step[1] not in names for step in steps):
        holder = next(iter(divided))
        raise BadData(
            f"{folder / holder} is divided into splits ({', '.join(divided[holder])}), and its neighbours in another "
            f"way or with folders below; give one of them, for instance {folder / holder} with "
            f"`split={divided[holder][0]!r}`."
        )
    if split is None:
        raise BadData(
            f"the classes of {folder} are divided into splits ({next(iter(divided))}: {', '.join(names)}); name one, "
            f"for instance with `split={names[0]!r}`."
        )
    chosen = split_names.choose(split, names, str(folder))
    return tuple(name for name, step in zip(tree.images, steps, strict=True) if step[1].lower() == chosen.lower())


def _require_no_split(split: str | None, what: str) -> None:
    if split is not None:
        raise InvalidChoice(f"there is no split {split!r}: {what}; leave out `split`.")


def _doubts(folder: Place, tops: list[str], tree: Tree, divided: bool) -> list[str]:
    """Notes on a layout that may have been meant in another way."""
    if divided:
        return []
    below = {name: tree.folders.get(name, []) for name in tops}
    first = below[tops[0]]
    if len(tops) == 1:
        inner = tops[0]
        while len(tree.folders.get(inner, [])) == 1 and inner not in tree.holders:
            inner = f"{inner}/{tree.folders[inner][0]}"
        if len(names := tree.folders.get(inner, [])) > 1:
            return [
                f"{folder} holds a single class, {tops[0]}; if the folders in {inner} ({some(names)}) are the classes, "
                f"give {folder / inner}."
            ]
    if len(first) > 1 and all(names == first for names in below.values()):
        return [
            f"each class of {folder} ({some(tops)}) holds the same folders ({some(first)}), which are read as parts of "
            "their class."
        ]
    plain = [name for name in tops if split_names.is_plain(name)]
    others = [name for name in tops if name not in plain]
    if len(plain) == 1 and not any(below[name] for name in others) and (len(below[plain[0]]) > 1 or not others):
        return [f"{folder / plain[0]} is read as a class; if it is a split, give that folder alone."]
    named = [name for name in tops if split_names.split_of(name)]
    if len({split_names.split_of(name) for name in named}) > 1:
        return [f"{some(named)} in {folder} are read as classes; if they are splits, give one of these folders alone."]
    return []
