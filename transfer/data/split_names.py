"""Names of splits: which folders and arrays are the training, validation and test part of a data set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from feature_cache.errors import InvalidChoice, unknown

_SYNONYMS = {
    "train": ("train", "training", "trn", "tr"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "tst", "te", "t10k"),  # t10k: MNIST's own
}
_SPLIT_OF = {name: split for split, names in _SYNONYMS.items() for name in names}
# What a folder of a split is called, whatever else stands beside it.
_PLAIN = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
# What may stand beside the name of a split in that of its folder: training_set, seg_train, train2017, test-images.
_FILLERS = {"set", "data", "dataset", "split", "images", "image", "imgs", "img", "seg", "folder"}
# Folders of images that stand beside, or above, what belongs to the images, and are no classes.
IMAGE_FOLDERS = {"images", "image", "imgs", "img", "jpegimages"}
BESIDE_IMAGES = {
    *("annotations", "annotation", "masks", "mask", "labels", "label", "trimaps", "segmentation", "segmentations"),
    *("segmentationclass", "segmentationobject", "groundtruth", "ground_truth", "gt", "depth", "edges", "previews"),
}
# What stands beside a single split without being a class.
_COMPANIONS = {
    *("eval", "evaluation", "holdout", "unlabeled", "unlabelled", "extra", "pred", "predict", "prediction"),
    *("inference", "submission", *IMAGE_FOLDERS, "sample", "samples", "all", "raw"),
}
_FOLD = re.compile(r"(fold|split)[-_ ]?\d+", re.IGNORECASE)


def split_of(name: str) -> str | None:
    """``train``, ``val`` or ``test``, where a word of `name` says so and no other word contradicts it."""
    splits = {_SPLIT_OF[word] for word in words(name) if word in _SPLIT_OF}
    return splits.pop() if len(splits) == 1 else None


def words(name: str) -> list[str]:
    """The words of a name in lower case: ``["train", "images"]`` of ``trainImages`` and of ``train_images``."""
    parts = re.split(r"[^0-9A-Za-z]+|(?<=[a-z0-9])(?=[A-Z])", name)
    return [part.lower() for part in parts if part]


def is_plain(folder: str) -> bool:
    """Whether a folder of this name is a split where it stands beside another one."""
    return folder.lower() in _PLAIN


def find(folders: Sequence[str]) -> list[str]:
    """Those of the names of folders that stand side by side which are splits; none where they are classes.

    Two names of splits make splits, whatever else stands there. A single one among other names is a class, such as
    ``train`` among vehicles, unless the others are what only stands beside splits, such as ``unlabeled``.
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
    """Training before validation before test, and what else there is."""
    order = [*_SYNONYMS, None]
    return sorted(names, key=lambda name: (order.index(_part_of(name)), name))


def choose(split: str, names: Sequence[str], what: str) -> str:
    """The one of `names` that `split` means: by itself, in another case, or by a synonym (val, valid, validation, dev).

    Parameters
    ----------
    what : str
        What the names belong to, for messages.

    Raises
    ------
    InvalidChoice
        When none of them is meant, or several are.
    """
    if split in names:
        return split
    meant = [name for name in names if name.lower() == split.lower()]
    if not meant and (wanted := _part_of(split)):
        meant = [name for name in names if _part_of(name) == wanted]
    if len(meant) > 1:
        raise InvalidChoice(f"{what} has several splits that {split!r} may mean; name one of {', '.join(meant)}.")
    if not meant:
        raise unknown(f"{what} has no split", split, names)
    return meant[0]


def _part_of(name: str) -> str | None:
    """The split that a name means, also with a number at its end: ``train2017``."""
    return split_of(name) or _decorated(name)


def _decorated(folder: str) -> str | None:
    """The split that a folder's name means with words like ``set`` or a number beside it."""
    kept = [re.sub(r"(?<=.)(set|data)$", "", word.rstrip("0123456789") or word) for word in words(folder)]
    kept = [word for word in kept if word not in _FILLERS and not word.isdecimal()]
    return _SPLIT_OF.get(kept[0]) if len(kept) == 1 and kept[0] in _PLAIN else None
