"""Data sets that are arrays: an ``.npz``, ``.npy`` or IDX file, or a folder of such files.

The names of the arrays say which of them holds images and which holds labels, and of which part of the data: ``X`` and
``y``, ``images`` and ``labels``, ``x_train`` and ``y_train``, ``val_images`` and ``val_labels``, and MNIST's
``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte``. One part is read: the one that the user names, or else the
part without a name, or the training part; the arrays that are not read are noted. For shapes and numbers see
`transfer.data.arrays.images`. Labels are whole numbers, booleans or texts of shape (n,) or (n, 1). No pickled content
is read.

The images of an ``.npy`` file are read when they are used; all other arrays are held in memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from feature_cache.errors import BadData, InvalidChoice
from transfer.data import split_names
from transfer.data.arrays import files
from transfer.data.arrays.files import IdxFile, NpyFile, StoredArray, TextFile
from transfer.data.arrays.images import Range, to_images

# Words in a name that say what an array holds, the likelier first.
IMAGES = ("x", "images", "image", "imgs", "img", "pixels", "data")
LABELS = ("y", "labels", "label", "lbls", "lbl", "targets", "target")
_FILLERS = {"set", "array", "class"}
_GLUED = re.compile(r"([xy])(train|training|tr|val|valid|dev|test|te)")  # names such as xtrain
_IDX = re.compile(r"[-.]idx(\d)-ubyte(\.gz)?$", re.IGNORECASE)
_MOST_LISTED = 8  # arrays in a message


@dataclass(frozen=True)
class Arrays:
    """Images and their labels.

    Attributes
    ----------
    images : sequence of ndarray of shape (height, width), (height, width, 3) or (height, width, 4), uint8
    labels : ndarray of shape (n,), str, or None
    notes : tuple of str
        What was guessed or not read, a sentence each.
    """

    images: Sequence[np.ndarray]
    labels: np.ndarray | None
    notes: tuple[str, ...] = ()


class _Name(NamedTuple):
    """The meaning of an array's name: ``train_images`` holds the images of the part ``train``."""

    role: tuple[str, ...]  # IMAGES or LABELS
    part: str  # empty where the name has none
    rank: int  # place of the word in `role`: the lower, the likelier


def is_known(file: Path) -> bool:
    """Whether `file` has the name of a file of arrays."""
    return names_array(file.name)


def names_array(name: str) -> bool:
    """Whether a file of arrays has such a name.

    Examples
    --------
    >>> names_array("train.npz"), names_array("a.png")
    (True, False)
    """
    return name.lower().endswith((".npz", ".npy")) or _IDX.search(name) is not None


def read(path: Path, split: str | None = None, value_range: Range | None = None) -> Arrays:
    """The images and labels of a file, or of the files in a folder, or of one of their parts.

    Raises
    ------
    InvalidChoice
        When there is no such split, or a range is passed and not needed.
    BadData
        When a file is damaged, or does not hold images as this module describes them.
    """
    if path.is_dir():
        return _read_folder(path, split, value_range)
    if path.suffix.lower() == ".npz":
        return _choose(files.npz(path), f"{path}", split, value_range)
    if split is not None:
        raise InvalidChoice(f"{path} is a single array and has no splits; leave out `split`, or give its folder.")
    return _with_labels_beside(path, value_range)


@dataclass(frozen=True)
class _InMemory:
    """A `StoredArray` that is in memory."""

    array: np.ndarray

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def read(self) -> np.ndarray:
        if self.array.dtype.hasobject:
            raise BadData("X holds Python objects; images are arrays of numbers, or a list of such arrays.")
        return self.array


def of_arrays(images: np.ndarray, labels: Any, value_range: Range | None = None) -> Arrays:
    """Images and labels in memory, read as those of a file are.

    Parameters
    ----------
    images : ndarray of shape (n, height, width), or (n, height, width, channels)
    labels : array-like of length n, or None
    value_range : (float, float), optional
        The numbers that are black and white.

    Raises
    ------
    BadData
        When they are no images, or not as many labels.
    InvalidChoice
        When a range is passed and the dtype has a range of its own.
    """
    if images.ndim == 3 and images.shape[2] in (1, 3, 4):
        raise BadData(f"X of shape {images.shape} looks like a single image; put it in a list.")
    if not len(images):
        raise BadData("X holds 0 images; there must be at least 1.")
    found, notes = to_images(_InMemory(images), "X", value_range)
    return Arrays(found, None if labels is None else labels_of(labels, len(found)), notes)


def labels_of(labels: Any, count: int) -> np.ndarray:
    """Labels in memory, of `count` images, as texts of shape (n,).

    Raises
    ------
    BadData
        When there are more or fewer, or they are neither whole numbers nor texts.
    """
    values = np.asarray(labels)
    if values.dtype.kind == "O" and all(isinstance(value, str) for value in values.ravel()):
        values = values.astype(str)
    return _labels(values, count, "y")


def _read_folder(folder: Path, split: str | None, value_range: Range | None) -> Arrays:
    paths = sorted(file for file in folder.iterdir() if is_known(file) and file.is_file())
    idx = [file for file in paths if _IDX.search(file.name)]
    npy = [file for file in paths if file.suffix.lower() == ".npy"]
    if any(_is_idx_images(file) for file in idx):
        stored: dict[str, StoredArray] = {}
        for file in idx:  # a plain file comes before its compressed copy
            name = re.sub(r"\.gz$", "", file.name, flags=re.IGNORECASE)
            if name not in stored:
                stored[name] = files.idx(file, _axes(file))
        return _choose(stored, str(folder), split, value_range)
    if npy:
        arrays: dict[str, StoredArray] = {file.stem: files.npy(file) for file in npy}
        large = [file for file in npy if len(arrays[file.stem].shape) > 2]
        if len(large) == 1 and not _parse(large[0].stem):  # cells.npy and cells_labels.npy
            return read(large[0], split, value_range)
        texts = {file.stem: files.text(file) for file in _texts(folder) if file.stem not in arrays}
        return _choose({**texts, **arrays}, str(folder), split, value_range)
    if len(paths) == 1:
        return read(paths[0], split, value_range)
    if not paths:
        raise BadData(f"{folder} holds no images and no arrays; give a folder that does.")
    names = split_names.in_order(file.name for file in paths)
    if split is None:
        training = [name for name in names if split_names.split_of(Path(name).stem) == "train"]
        if len(training) != 1:
            raise BadData(
                f"{folder} holds several files of arrays ({', '.join(names[:_MOST_LISTED])}); give one of them."
            )
        arrays_read = read(folder / training[0], None, value_range)
        rest = ", ".join(name for name in names if name not in training)
        note = f"of {folder}, {training[0]} is read; not read: {rest}."
        return replace(arrays_read, notes=(*arrays_read.notes, note))
    stems = {Path(name).stem: name for name in names}
    return read(folder / stems[split_names.choose(split, list(stems), str(folder))], None, value_range)


def _choose(stored: Mapping[str, StoredArray], what: str, split: str | None, value_range: Range | None) -> Arrays:
    """One part of named arrays."""
    names = {key: _parse(key) for key in stored}
    images, labels = (_by_part(names, role) for role in (IMAGES, LABELS))
    images = {part: key for part, key in images.items() if _is_part(part) or len(stored[key].shape) > 2}
    if not images:
        raise BadData(
            f"{what} holds {_listed(stored)}, and no images by their names; call them X or images, and the labels y or "
            "labels, or x_train and y_train."
        )
    part = _part(list(images), what, split)
    image_key = images[part]
    label_key = labels.get(part)
    if label_key and isinstance(stored[label_key], TextFile) and stored[label_key].shape != stored[image_key].shape[:1]:
        label_key = None  # a list of the classes
    if label_key is None and split_names.split_of(part) in (None, "train"):  # X with y_train, x_train with y
        other = next((key for name, key in labels.items() if not name or split_names.split_of(name) == "train"), None)
        if other is not None and stored[other].shape[:1] == stored[image_key].shape[:1]:
            label_key = other
    if stored[image_key].shape[:1] == (0,):
        raise BadData(f"{what} holds 0 images in {image_key}; there must be at least 1.")
    image_list, notes = to_images(stored[image_key], f"{image_key} of {what}", value_range)
    classes = None
    if label_key is not None:
        classes = _labels(stored[label_key].read(), len(image_list), f"{label_key} of {what}")
    rest = [key for key in stored if key not in (image_key, label_key)]
    if split is None and rest:
        others = [name for name in images if name and name != part]
        hint = f"; `split` chooses another part ({', '.join(split_names.in_order(others))})" if others else ""
        used = image_key if label_key is None else f"{image_key} with {label_key}"
        notes = (*notes, f"of {what}, {used} is read; not read: {', '.join(rest[:_MOST_LISTED])}{_more(rest)}{hint}.")
    return Arrays(image_list, classes, notes)


def _part(parts: list[str], what: str, split: str | None) -> str:
    """The part that `split` means; without a split the part without a name, the training part, or the only part."""
    named = [part for part in parts if part]
    training = [part for part in named if split_names.split_of(part) == "train"]
    if split is not None:
        if not named:
            raise InvalidChoice(f"{what} has no splits, only one array of images; leave out `split`.")
        if "" in parts and not training and split_names.split_of(split) == "train":
            return ""  # X beside X_test
        return split_names.choose(split, split_names.in_order(named), what)
    if "" in parts:
        return ""
    if len(named) == 1 or len(training) == 1:
        return (training or named)[0]
    raise BadData(f"{what} holds several parts ({', '.join(split_names.in_order(named))}); name one with `split`.")


def _by_part(names: Mapping[str, _Name | None], role: tuple[str, ...]) -> dict[str, str]:
    """The array of this role in each part: the one with the likeliest name."""
    best: dict[str, tuple[int, str]] = {}
    for key, name in names.items():
        if name and name.role == role and (name.part not in best or name.rank < best[name.part][0]):
            best[name.part] = name.rank, key
    return {part: key for part, (_, key) in best.items()}


def _parse(key: str) -> _Name | None:
    words = [word for word in split_names.words(_IDX.sub("", key)) if word not in _FILLERS]
    if len(words) == 1 and (glued := _GLUED.fullmatch(words[0])):
        words = list(glued.groups())
    for role in (LABELS, IMAGES):  # image_labels are labels
        if held := [word for word in words if word in role]:
            part = "_".join(word for word in words if word not in (*IMAGES, *LABELS))
            return _Name(role, part, role.index(held[0]))
    return None


def _is_part(part: str) -> bool:
    return not part or split_names.split_of(part) is not None


def _with_labels_beside(file: Path, value_range: Range | None) -> Arrays:
    """The images of an ``.npy`` or IDX file, and the labels from a file beside it with a matching name."""
    is_idx = _IDX.search(file.name) is not None
    if is_idx and not _is_idx_images(file):
        raise BadData(f"{file} is not named as images; name the file of the images, such as train-images-idx3-ubyte.")
    stored: IdxFile | NpyFile = files.idx(file, 3) if is_idx else files.npy(file)
    if is_idx and not all(stored.shape[1:]):
        raise BadData(f"{file} holds images of {stored.shape[1]} x {stored.shape[2]} pixels; they must have some.")
    if not stored.shape or not stored.shape[0]:
        raise BadData(f"{file} holds 0 images; there must be at least 1.")
    images, notes = to_images(stored, str(file), value_range)
    beside = _labels_beside(file, is_idx)
    if beside is None:
        return Arrays(images, None, notes)
    labels: StoredArray = files.idx(beside, 1) if is_idx else _npy_or_text(beside)
    if labels.shape[:1] != (len(images),):
        if isinstance(labels, TextFile):  # a list of the classes
            note = f"{beside} has {labels.shape[0]} lines for {len(images)} images and is not read as their labels."
            return Arrays(images, None, (*notes, note))
        raise BadData(f"{file} holds {len(images)} images, and {beside.name} beside it {labels.shape[0]} labels.")
    return Arrays(images, _labels(labels.read(), len(images), str(beside)), notes)


def _npy_or_text(file: Path) -> StoredArray:
    return files.npy(file) if file.suffix.lower() == ".npy" else files.text(file)


def _texts(folder: Path) -> list[Path]:
    """The text files in a folder that have a name for labels."""
    names = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in (".txt", ".csv")]
    return [file for file in names if (name := _parse(file.stem)) and name.role == LABELS and file.is_file()]


def _labels_beside(file: Path, is_idx: bool) -> Path | None:
    """The likeliest file of labels: of the same part, or of the same name with one more word; best of the same kind."""
    own = _parse(_stem(file))
    part = own.part if own and own.role == IMAGES else "_".join(split_names.words(_stem(file)))
    if is_idx:
        others = [other for other in file.parent.iterdir() if _axes(other) == 1]
    else:
        npy = (other for other in file.parent.iterdir() if other.suffix.lower() == ".npy")
        others = [*npy, *_texts(file.parent)]
    candidates = []
    for other in others:
        name = _parse(_stem(other))
        if name and name.role == LABELS and name.part == part and other.is_file():
            candidates.append((other.suffix.lower() != file.suffix.lower(), name.rank, other))
    return min(candidates)[2] if candidates else None


def _stem(file: Path) -> str:
    return _IDX.sub("", file.name) if _IDX.search(file.name) else file.stem


def _is_idx_images(file: Path) -> bool:
    name = _parse(file.name)
    return _axes(file) == 3 and name is not None and name.role == IMAGES


def _axes(file: Path) -> int:
    match = _IDX.search(file.name)
    return int(match[1]) if match else 0


def _labels(labels: np.ndarray, count: int, name: str) -> np.ndarray:
    """Labels as texts of shape (n,)."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (count,):
        raise BadData(
            f"{name} has the shape {labels.shape}, and there are {count} images; give one label for each"
            f"{', not probabilities or columns of 0 and 1' if labels.ndim > 1 else ''}."
        )
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "backslashreplace")
    elif labels.dtype.kind == "f" and (labels == np.rint(labels)).all() and (np.abs(labels) < 2**53).all():
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "biuU":
        raise BadData(f"{name} holds {labels.dtype} that are no whole numbers; labels are whole numbers or texts.")
    texts = np.asarray(labels).astype(str)
    if (texts == "").any():
        raise BadData(f"{name} is empty for image {int(np.argmax(texts == ''))}; give every image a label.")
    return texts


def _listed(stored: Mapping[str, StoredArray]) -> str:
    parts = [f"{key} {array.shape}" for key, array in list(stored.items())[:_MOST_LISTED]]
    return (", ".join(parts) + _more(list(stored))) or "nothing"


def _more(names: list[str]) -> str:
    return f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
