"""Names of splits: which folders, arrays and rows are the training, validation and test part of a data set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from feature_cache.errors import InvalidChoice, unknown

_SYNONYMS = {
    "train": ("train", "training", "trn", "tr"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "tst", "te", "t10k"),  # t10k is the name in MNIST
}
_SPLIT_OF = {name: split for split, names in _SYNONYMS.items() for name in names}
# Names of folders that are splits, whatever other folders are beside them.
_PLAIN = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
# Words that may accompany a split in the name of its folder: training_set, seg_train, train2017, test-images.
_FILLERS = {"set", "data", "dataset", "split", "images", "image", "imgs", "img", "seg", "folder"}
# Folders of images that are no classes: they are beside, or above, files that belong to the images.
IMAGE_FOLDERS = {"images", "image", "imgs", "img", "jpegimages"}
BESIDE_IMAGES = {
    *("annotations", "annotation", "masks", "mask", "labels", "label", "trimaps", "segmentation", "segmentations"),
    *("segmentationclass", "segmentationobject", "groundtruth", "ground_truth", "gt", "depth", "edges", "previews"),
}
# Folders that may be beside a single split and are no classes.
_COMPANIONS = {
    *("eval", "evaluation", "holdout", "unlabeled", "unlabelled", "extra", "pred", "predict", "prediction"),
    *("inference", "submission", *IMAGE_FOLDERS, "sample", "samples", "all", "raw"),
}
_FOLD = re.compile(r"(fold|split)[-_ ]?\d+", re.IGNORECASE)


def split_of(name: str) -> str | None:
    """``train``, ``val`` or ``test``, where a word of `name` says so and no other word contradicts it; else None.

    Examples
    --------
    >>> split_of("x_train"), split_of("trainImages"), split_of("cats")
    ('train', 'train', None)
    """
    splits = {_SPLIT_OF[word] for word in words(name) if word in _SPLIT_OF}
    return splits.pop() if len(splits) == 1 else None


def words(name: str) -> list[str]:
    """The words of a name in lower case.

    Examples
    --------
    >>> words("trainImages"), words("train_images")
    (['train', 'images'], ['train', 'images'])
    """
    parts = re.split(r"[^0-9A-Za-z]+|(?<=[a-z0-9])(?=[A-Z])", name)
    return [part.lower() for part in parts if part]


def is_plain(folder: str) -> bool:
    """Whether a folder of this name is a split where another split is beside it."""
    return folder.lower() in _PLAIN


def find(folders: Sequence[str]) -> list[str]:
    """The names of splits among folders that are side by side; none where all folders are classes.

    Two names of splits are splits, whatever other folders there are. A single one among other names is a class, such as
    ``train`` among vehicles, unless the others are only found beside splits, such as ``unlabeled``.

    Examples
    --------
    >>> find(["train", "test"]), find(["car", "train"])
    (['train', 'test'], [])
    """
    plain = [name for name in folders if is_plain(name)]
    likely = [name for name in folders if _decorated(name)]
    folds = [name for name in folders if _FOLD.fullmatch(name)]
    if len(plain) >= 2 or len({_decorated(name) for name in likely}) >= 2:
        return in_order(name for name in folders if name in likely or name.lower() in _COMPANIONS)
    if len(folds) >= 2:
        return folds
    rest = [name for name in folders if name not in plain]
    return in_order(folders) if plain and rest and all(name.lower() in _COMPANIONS for name in rest) else []


def in_order(names: Iterable[str]) -> list[str]:
    """The names in the order training, validation, test, others."""
    order = [*_SYNONYMS, None]
    return sorted(names, key=lambda name: (order.index(_part_of(name)), name))


def choose(split: str, names: Sequence[str], owner: str) -> str:
    """The one of `names` that `split` means: itself, in another case of letters, or as a synonym such as ``valid``.

    Parameters
    ----------
    split : str
    names : sequence of str
    owner : str
        The folder or file that the names belong to, for messages.

    Raises
    ------
    InvalidChoice
        When `split` means none of the names, or several.

    Examples
    --------
    >>> choose("validation", ["train", "dev"], "data")
    'dev'
    """
    if split in names:
        return split
    meant = [name for name in names if name.lower() == split.lower()]
    if not meant and (part := _part_of(split)):
        meant = [name for name in names if _part_of(name) == part]
    if len(meant) > 1:
        raise InvalidChoice(f"{owner} has several splits that {split!r} may mean; name one of {', '.join(meant)}.")
    if not meant:
        raise unknown(f"{owner} has no split", split, names)
    return meant[0]


def _part_of(name: str) -> str | None:
    """The split that a name means, which may end with a number: ``train2017``."""
    return split_of(name) or _decorated(name)


def _decorated(folder: str) -> str | None:
    """The split that the name of a folder means, which may have a number or words such as ``set`` in addition."""
    rest = [re.sub(r"(?<=.)(set|data)$", "", word.rstrip("0123456789") or word) for word in words(folder)]
    rest = [word for word in rest if word not in _FILLERS and not word.isdecimal()]
    return _SPLIT_OF.get(rest[0]) if len(rest) == 1 and rest[0] in _PLAIN else None
