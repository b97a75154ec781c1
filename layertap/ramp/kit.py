"""RAMP kits from any labelled data set: `problem.py`, the data, and a submission to start from."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from feature_cache.errors import BadData, BadImage, InvalidChoice
from feature_cache.keys import digest_pixels
from layertap.ramp.images import scikit_image
from transfer.data.datasets import Dataset, Unreadable
from transfer.data.images import DEFAULT, Decoding, FileSource, ImageSource, to_pixels
from transfer.data.remarks import Remarks
from transfer.hardware import cores

TEMPLATES = Path(__file__).parent / "templates"
PROBLEM_FILE, SUBMISSIONS = "problem.py", "submissions"
PREPROCESSOR_FILE, CLASSIFIER_FILE = "image_preprocessor.py", "batch_classifier.py"
STARTING_KIT = "starting_kit"
VALID = 0.2  # the share of the training images that is held out, without folds
# Formats that only some installations of scikit-image read.
NOT_READ_EVERYWHERE = ("HEIF", "AVIF")
ORDER_KEY = int.from_bytes(b"layertap ramp kit", "big")
# The body of the function `get_cv`.
PLAIN_CV = """\
    _, X = folder_X
    cv = {0}
    return cv.split(X, y)"""
GROUPED_CV = """\
    folder, X = folder_X
    table = pd.read_csv(os.path.join(folder, os.pardir, "train.csv"), index_col="id")
    cv = {0}
    return list(cv.split(X, y, table["group"].loc[X])){1}  # copies of an image stay together"""
# The class in the line `workflow = ` of a kit, and the import that it needs.
WORKFLOWS = {
    "layertap": ("ImageClassifier", "\nfrom layertap.ramp import ImageClassifier"),
    "rampwf": ("rw.workflows.ImageClassifier", ""),
}


def filled(template: str, **values: Any) -> str:
    """The text of a template, with these values filled in."""
    return Template((TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")).substitute(values)


def literal(value: Any) -> str:
    """A value as Python code: texts, and lists of texts, in double quotes."""
    return repr(value) if isinstance(value, tuple | int) else json.dumps(value, ensure_ascii=False)


def require_kit(folder: Path) -> None:
    """Raise InvalidChoice unless there is a RAMP kit in `folder`."""
    if not (folder / PROBLEM_FILE).is_file():
        raise InvalidChoice(f"{folder} is no RAMP kit (it has no {PROBLEM_FILE}); make one with: layertap ramp kit.")


def is_kit(folder: Path) -> bool:
    """Whether there is a kit with data in `folder`."""
    return (folder / PROBLEM_FILE).is_file() and (folder / "data" / "train.csv").is_file()


def random_order(count: int, seed: int) -> np.ndarray:
    """A random order of `count` images, for their names in a kit.

    It is drawn from a random stream of its own. Many sources were shuffled by the stream of the seed alone, and
    ``default_rng(seed).permutation(n)`` would undo that: it would sort the kit by class.

    Returns
    -------
    ndarray of shape (count,), int64
    """
    return np.random.default_rng([seed, ORDER_KEY]).permutation(count)


def copy_images(
    dataset: Dataset,
    folder: Path,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    *,
    decoding: Decoding = DEFAULT,
    remarks: Remarks | None = None,
) -> tuple[list[str], np.ndarray, list[Unreadable]]:
    """Copy the images of a data set into `folder`, numbered in random order, so that no name hints at a class.

    A file is copied byte for byte where `skimage.io.imread`, the reader of RAMP workflows, reads the very pixels that
    features are computed from: upright, gray or RGB, of 8 bits. For other files, and for arrays, these pixels are
    written as PNG.

    Parameters
    ----------
    decoding : Decoding
        How stored values become pixels.
    remarks : Remarks, optional
        It collects what decoding has guessed or left out.

    Returns
    -------
    names : list of str
        The file of each image; empty for the unreadable.
    groups : ndarray of shape (n,), int64
        Equal for images of the same pixels.
    unreadable : list of Unreadable
    """
    order = random_order(len(dataset), seed).tolist()
    width = len(str(len(dataset) - 1))

    def copy(number: int) -> tuple[str, bytes] | BadImage:
        try:
            name, digest, guesses = _copy(dataset.sources[number], folder, f"{order[number]:0{width}d}", decoding)
        except BadImage as error:
            return error
        if remarks:
            remarks.add(guesses, dataset.ids[number])
        return name, digest

    names, digests, unreadable = [], [], []
    with ThreadPoolExecutor(len(cores()), thread_name_prefix="layertap-copy") as pool:
        for number, copied in enumerate(pool.map(copy, range(len(dataset)))):
            if isinstance(copied, BadImage):
                unreadable.append(Unreadable(dataset.ids[number], copied.reason, str(copied)))
            name, digest = ("", b"") if isinstance(copied, BadImage) else copied
            names.append(name)
            digests.append(digest)
            if progress:
                progress(number + 1, len(dataset))
    return names, np.unique(np.array(digests, object), return_inverse=True)[1].reshape(-1), unreadable


def write_kit(
    folder: Path,
    title: str,
    names: Sequence[str],
    labels: np.ndarray,
    groups: np.ndarray,
    parts: tuple[np.ndarray, np.ndarray],
    *,
    folds: int | None = None,
    workflow: str = "layertap",
    seed: int = 0,
) -> None:
    """Write everything of a kit except its images.

    Parameters
    ----------
    names : sequence of str
        File names of the images.
    labels : ndarray of shape (n,), str
        Their classes, which become numbers by their order.
    groups : ndarray of shape (n,), int64
        Equal for copies of an image, which stay together in folds.
    parts : (ndarray, ndarray)
        Positions of the images to train on, and of those to test on.
    folds : int, optional
        The folds of the cross-validation; by default one split that holds out a share of 0.2.
    workflow : {'layertap', 'rampwf'}
        The package whose `ImageClassifier` the kit uses.

    Raises
    ------
    BadData
        When a class has too few images to train on.
    """
    classes, numbers = np.unique(labels, return_inverse=True)
    grouped = len(np.unique(groups[parts[0]])) < len(parts[0])
    different = np.unique(np.stack([numbers[parts[0]], groups[parts[0]]]), axis=1)[0]
    counts = np.bincount(different, minlength=len(classes))
    _require_enough(classes, counts, folds)
    train, test = parts
    _write_table(folder / "data" / "train.csv", names, numbers, groups if grouped else None, train)
    _write_table(folder / "data" / "test.csv", names, numbers, None, test)
    about = {"title": title, "n_classes": len(classes), "n_train": len(parts[0]), "n_test": len(parts[1])}
    workflow_class, imports = WORKFLOWS[workflow]
    splitter, cv = _cross_validation(grouped, folds, int(counts.min()), seed)
    problem = filled(
        "problem",
        **{**about, "title": literal(title)},
        imports=f"from sklearn.model_selection import {splitter}{imports}",
        class_names="".join(f"\n    {literal(str(name))}," for name in classes),
        workflow=workflow_class,
        cv=cv,
    )
    needed = ["ramp-workflow", "scikit-image", "keras", "tensorflow"] + ["layertap"] * (workflow == "layertap")
    start = folder / SUBMISSIONS / STARTING_KIT
    start.mkdir(parents=True)
    for file, text in (
        (folder / PROBLEM_FILE, problem),
        (folder / "README.md", filled("readme", **about)),
        (folder / "requirements.txt", "".join(f"{name}\n" for name in needed)),
        (start / PREPROCESSOR_FILE, filled("starting_image_preprocessor")),
        (start / CLASSIFIER_FILE, filled("starting_batch_classifier")),
    ):
        file.write_text(text, encoding="utf-8")


def _write_table(
    file: Path, names: Sequence[str], numbers: np.ndarray, groups: np.ndarray | None, part: np.ndarray
) -> None:
    """Write the names and the class numbers of the images at the positions `part`, with their groups if any."""
    columns = [names, numbers.tolist(), *([] if groups is None else [groups.tolist()])]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", "class", *([] if groups is None else ["group"])])
        writer.writerows(sorted(tuple(column[i] for column in columns) for i in part))  # by name, so in random order


def _cross_validation(grouped: bool, folds: int | None, least: int, seed: int) -> tuple[str, str]:
    """The splitter of scikit-learn that `get_cv` uses, and the lines of `get_cv`.

    Parameters
    ----------
    grouped : bool
        Whether some images have copies, which stay together.
    least : int
        The images of the rarest class.
    """
    if grouped or folds:
        splitter = "StratifiedGroupKFold" if grouped else "StratifiedKFold"
        options = f"n_splits={folds or min(round(1 / VALID), least)}, shuffle=True, random_state={seed}"
    else:
        splitter, options = "StratifiedShuffleSplit", f"n_splits=1, test_size={VALID}, random_state={seed}"
    lines = GROUPED_CV if grouped else PLAIN_CV
    return splitter, lines.format(f"{splitter}({options})", "" if folds else "[:1]")


def keep_submissions(old: Path, new: Path) -> None:
    """Copy the submissions of a kit that is replaced, except the one that every kit starts with."""
    if (old / SUBMISSIONS).is_dir():
        for folder in (old / SUBMISSIONS).iterdir():
            if folder.is_dir() and folder.name != STARTING_KIT:
                left = shutil.ignore_patterns(".*.tmp")  # of a process that was killed
                shutil.copytree(folder, new / SUBMISSIONS / folder.name, symlinks=True, ignore=left)


def _require_enough(classes: np.ndarray, counts: np.ndarray, folds: int | None) -> None:
    """Raise BadData if scikit-learn cannot split images as `problem.py` does; `counts` are the images of each class."""
    least = folds or 2
    if counts.min() < least:
        rarest = int(counts.argmin())
        raise BadData(
            f"each class needs at least {least} different images to train on, and {str(classes[rarest])!r} has "
            f"{counts[rarest]}: add some{', or choose fewer `folds`' if folds else ''}."
        )
    held = int(np.ceil(VALID * counts.sum()))
    if not folds and min(held, counts.sum() - held) < len(classes):
        raise BadData(
            f"of {counts.sum()} images to train on, {held} are too few to validate with {len(classes)} classes: add "
            "some, or choose `folds=2`."
        )


def _copy(source: ImageSource, folder: Path, stem: str, decoding: Decoding) -> tuple[str, bytes, list[str]]:
    """Copy an image; return the name of the file, the digest of its pixels, and what decoding has guessed."""
    _, picture = source.load()
    suffix = f".{picture.format.lower()}"
    pixels = to_pixels(picture, None, name=str(source), decoding=decoding)
    height, width, channels = pixels.shape
    if height * width > 2 * (Image.MAX_IMAGE_PIXELS or np.inf):  # as Pillow has it, and so scikit-image
        reason = f"has {height * width / 1e6:.0f} megapixels, which scikit-image refuses to read"
        raise BadImage(f"{source} {reason}.", reason)
    image = pixels[..., 0] if channels == 1 else pixels
    digest = digest_pixels(pixels)
    if isinstance(source, FileSource) and source.page is None and picture.format not in NOT_READ_EVERYWHERE:
        # By its suffix scikit-image chooses a reader. Without one the name would be a number in tables.
        own = source.path.suffix
        file = folder / f"{stem}{own if re.fullmatch(r'[.][A-Za-z0-9]{1,8}', own) else suffix}"
        shutil.copyfile(source.path, file)
        if _is_read_as(file, image):
            return file.name, digest, picture.remarks
        file.unlink()
    file = folder / f"{stem}.png"
    Image.fromarray(image).save(file)
    return file.name, digest, picture.remarks


def _is_read_as(file: Path, image: np.ndarray) -> bool:
    """Whether ``skimage.io.imread``, the reader of RAMP's workflows, takes the file for exactly these pixels."""
    read = scikit_image().imread
    try:
        pixels = np.asarray(read(file))
    except Exception:  # its plugins raise whatever their formats lead them to
        return False
    return pixels.dtype == image.dtype and np.array_equal(pixels, image)
