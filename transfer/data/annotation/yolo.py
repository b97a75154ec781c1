"""Data sets of YOLO: a ``data.yaml`` that names classes and splits, and a text file of boxes for each image.

Nothing in these files is trusted: they are of a limited size, their paths stay within the folder of the ``data.yaml``,
and lines that are none are left out and counted.
"""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import BadData, InvalidChoice, MissingDependency, one_line
from feature_cache.files.checked import read_text
from transfer.data import split_names
from transfer.data.annotation.annotated import Annotated
from transfer.data.annotation.names import is_name, shown
from transfer.data.folders.places import LocalFolder
from transfer.data.images import ImageSource
from transfer.data.tables import files
from transfer.data.tables.missing import MissingFile

MOST_YAML = 2**18  # bytes of a data.yaml, which take a second or two to read; 1,200 classes take 30,000
MOST_LABELS = 2**24  # bytes of the file of labels of an image
SPLITS = ("train", "val", "valid", "test")  # keys of a data.yaml
FARTHEST = 16.0  # from an image, in widths and heights of it, that a number is a share of them

_Boxes = list[tuple[int, list[float]]]  # class, and left, top, width and height as shares of the image


def read(file: Path, images: str | None, split: str | None) -> Annotated:
    """The images and boxes of a split of a YOLO data set.

    Parameters
    ----------
    file : Path
        The ``data.yaml``.
    images : str, optional
        The folder that its paths are below; by default the one that it names, or its own folder.
    split : str, optional

    Raises
    ------
    BadData
        When a file is damaged or too large, leads out of the folder, names no images, or has several splits and none is
        chosen.
    InvalidChoice
        When there is no such split, or no folder `images`.
    MissingDependency
        When PyYAML is not installed.
    """
    content = _content(file)
    names = _names(file, content.get("names"))
    root = _root(file, content.get("path"), images)
    parts = {key: content[key] for key in SPLITS if content.get(key)}
    if not parts:
        raise BadData(f"{file} names no images: it lacks train, val and test.")
    ids, sources, notes = _images(file, root, parts[_chosen(file, parts, split)])
    reader = _Labels(file, root, len(names), poses="kpt_shape" in content)
    found = [(image, *one) for image, name in enumerate(ids) for one in reader.read(name)]
    return Annotated(
        str(file),
        ids,
        sources,
        [None] * len(ids),
        names,
        np.array([image for image, _, _ in found], np.int64),
        np.array([category for _, category, _ in found], np.int64),
        np.array([box for *_, box in found], np.float64).reshape(-1, 4),
        np.zeros(len(found), bool),
        are_shares=True,
        notes=notes,
        left_out=reader.left_out,
    )


def _content(file: Path) -> dict[str, Any]:
    try:
        import yaml  # an optional package
    except ImportError as error:
        raise MissingDependency(f"reading {file} needs PyYAML: pip install 'layertap[yolo]'") from error
    try:
        content = yaml.safe_load(read_text(file, MOST_YAML))
    except (OSError, yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise BadData(f"{file} cannot be read ({reason}).") from error
    if not isinstance(content, dict) or "names" not in content:
        raise BadData(f"{file} is no data set of YOLO: it has no 'names' of classes.")
    return content


def _names(file: Path, value: Any) -> list[str]:
    """The names of the classes, which are a list or have their numbers as keys."""
    listed = dict(enumerate(value)) if isinstance(value, list) else value
    if not isinstance(listed, dict) or not listed:
        raise BadData(f"the 'names' of {file} are no list of classes.")
    try:
        numbered = {int(key): name for key, name in listed.items()}
    except (TypeError, ValueError, OverflowError):
        numbered = {}
    if sorted(numbered) != list(range(len(listed))):
        raise BadData(f"the 'names' of {file} are not numbered from 0 to {len(listed) - 1}.")
    for number, name in numbered.items():
        if isinstance(name, bool) or not isinstance(name, str | int) or not is_name(str(name)):
            raise BadData(
                f"name {number} in {file} is {shown(name)}, which is no text; put names such as 'no' into quotation "
                "marks."
            )
    return [str(numbered[number]).strip() for number in range(len(numbered))]


def _root(file: Path, value: Any, images: str | None) -> Path:
    """The folder that the paths of the file are below: the one that the caller names, or one in that of the file."""
    if images is not None:
        if not files.is_folder(Path(images)):
            raise InvalidChoice(f"there is no folder {images}; name the one that holds the images with `images`.")
        return Path(images)
    inside = _below(file.parent, value) if isinstance(value, str) and is_name(value) else None
    return inside if inside is not None and inside.is_dir() else file.parent


def _below(folder: Path, path: str) -> Path | None:
    """A path below a folder; None where it leads out of it. Tools write ``../train/images`` for what is beside a file.

    Examples
    --------
    >>> str(_below(Path("data"), "../train/images")), _below(Path("data"), "a/../../b")
    ('data/train/images', None)
    """
    while path.startswith(("./", "../")):
        path = path.partition("/")[2]
    return folder / path if _is_below(folder, folder / path) else None


def _is_below(folder: Path, path: Path) -> bool:
    """Whether a path is a folder or below it, links followed."""
    real, target = os.path.realpath(folder), os.path.realpath(path)
    return target == real or target.startswith(real.rstrip(os.sep) + os.sep)


def _chosen(file: Path, parts: dict[str, Any], split: str | None) -> str:
    if split is not None:
        return split_names.choose(split, list(parts), str(file))
    if len(parts) > 1:
        first = next(iter(parts))
        raise BadData(
            f"{file} is divided into splits ({', '.join(parts)}); name one, for instance with `split={first!r}`."
        )
    return next(iter(parts))


def _images(file: Path, root: Path, value: Any) -> tuple[list[str], list[ImageSource], list[str]]:
    """The paths of the images of a split below the root, their sources, and notes."""
    found: dict[str, ImageSource] = {}
    notes: list[str] = []
    for path in value if isinstance(value, list) else [value]:
        place = _below(root, path) if isinstance(path, str) and is_name(path) else None
        if place is None:
            raise BadData(
                f"{file} names {shown(path)}, which leads out of {root}; such a path is refused. Name "
                "the folder that holds the images with `images`."
            )
        if place.is_dir():
            tree = LocalFolder(place).tree()
            inner = Path(os.path.relpath(place, root)).as_posix()
            names = [posixpath.normpath(posixpath.join(inner, name)) for name in tree.images]
            sources: list[ImageSource] = list(LocalFolder(root).sources(names))
            beside = {suffix: count for suffix, count in tree.sidecars.items() if suffix not in (".txt", ".cache")}
            tree.sidecars = Counter(beside)
            notes += tree.notes(place)
        else:
            names = _listed(file, place)
            sources, about = files.find(place, names, root)
            names = [_found(root, name, source) for name, source in zip(names, sources, strict=True)]
            notes += about
        found |= {name: source for name, source in zip(names, sources, strict=True) if name not in found}
    if not found:
        raise BadData(f"{file}: there are no images in {root}, where it says that they are.")
    return list(found), list(found.values()), notes


def _found(root: Path, name: str, source: ImageSource) -> str:
    """The path below the root of the file that was found for an entry of a list; the entry where there is none."""
    return name if isinstance(source, MissingFile) else _path_from(root, str(source))


def _path_from(folder: Path, path: str | Path) -> str:
    """A path as seen from a folder that it is below, perhaps through links."""
    inner = os.path.relpath(path, folder)
    if Path(inner).parts[:1] == ("..",):
        inner = os.path.relpath(os.path.realpath(path), os.path.realpath(folder))
    return Path(inner).as_posix()


def _listed(file: Path, place: Path) -> list[str]:
    """The paths in a text file that lists images."""
    if place.suffix.lower() != ".txt" or not place.exists():
        raise BadData(
            f"{file} names {place}, which does not exist; name the folder that its paths are below with `images`."
        )
    try:
        lines = [line.strip().removeprefix("./") for line in read_text(place).splitlines()]
    except (OSError, UnicodeError) as error:
        raise BadData(f"{place} cannot be read ({getattr(error, 'strerror', None) or one_line(error)}).") from error
    names = list(dict.fromkeys(line for line in lines if line))
    if other := next((name for name in names if not is_name(name)), None):
        raise BadData(f"{place} names {shown(other)}, which is no path of an image.")
    return names


class _Labels:
    """The boxes in the label files of images.

    Attributes
    ----------
    left_out : Counter
        The number of lines that were left out, by what they are.
    """

    def __init__(self, file: Path, root: Path, classes: int, *, poses: bool) -> None:
        self._file, self._classes, self._poses = file, classes, poses
        # The root may be the folder ``images`` itself, to which one beside it, called ``labels``, corresponds.
        self._folder = file.parent if _is_below(file.parent, root) else root
        self._inner = _path_from(self._folder, root)
        self._inside: set[str] = set()  # folders that are known to be below that folder
        self.left_out: Counter[str] = Counter()

    def read(self, image: str) -> _Boxes:
        """The boxes in an image, none where there is no file of labels for it; each is listed once."""
        name = label_path(posixpath.normpath(posixpath.join(self._inner, image)))
        path = self._folder / name
        self._require_inside(name, path)
        try:
            text = read_text(path, MOST_LABELS)
        except FileNotFoundError:
            return []
        except (OSError, UnicodeError) as error:
            raise BadData(f"{path} cannot be read ({getattr(error, 'strerror', None) or one_line(error)}).") from error
        return [box for line in text.splitlines() if line.strip() for box in self._box(line)]

    def _require_inside(self, name: str, path: Path) -> None:
        """Raise BadData where a file of labels is outside the folder; a folder of files is looked at once."""
        holder = posixpath.dirname(name)
        unknown = [path] * path.is_symlink() + [path.parent] * (holder not in self._inside)
        if not all(_is_below(self._folder, place) for place in unknown):
            raise BadData(
                f"the labels {shown(name)} of an image of {self._file} lead out of {self._folder}; such a path is "
                "refused."
            )
        self._inside.add(holder)

    def _box(self, line: str) -> Iterator[tuple[int, list[float]]]:
        numbers = _numbers(line)
        if numbers is None or len(numbers) < 5 or not numbers[0].is_integer():
            self.left_out["lines that are no class and box"] += 1
        elif not 0 <= numbers[0] < self._classes:
            self.left_out["lines of classes that have no name"] += 1
        elif max(map(abs, numbers[1:])) > FARTHEST:
            self.left_out["boxes that are no shares of their images"] += 1
        elif len(numbers) == 5 or self._poses:
            across, down, width, height = numbers[1:5]
            yield int(numbers[0]), [across - width / 2, down - height / 2, width, height]
        elif len(numbers) % 2 and len(numbers) > 6:  # the corners of a shape
            xs, ys = numbers[1::2], numbers[2::2]
            yield int(numbers[0]), [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        else:
            self.left_out["lines that are no class and box"] += 1


def label_path(image: str) -> str:
    """The path of the labels of an image: with ``labels`` for the last folder ``images``, and the suffix ``.txt``.

    Examples
    --------
    >>> label_path("images/train/a.b.jpg"), label_path("train/a.png")
    ('labels/train/a.b.txt', 'train/a.txt')
    """
    *folders, name = image.split("/")
    for place in range(len(folders) - 1, -1, -1):
        if folders[place] == "images":
            folders[place] = "labels"
            break
    return "/".join([*folders, f"{posixpath.splitext(name)[0]}.txt"])


def _numbers(line: str) -> list[float] | None:
    """The numbers of a line; None where some part of it is none, or not finite."""
    try:
        numbers = [float(part) for part in line.split()]
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None
