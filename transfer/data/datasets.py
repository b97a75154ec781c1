"""Data sets: the sources of images, their ids and their labels.

`load` finds out what a path is: a folder with a subfolder for each class, a flat folder, a RAMP kit, a CSV file with an
image folder, an archive, several archives, or a file of arrays. ``digits`` is built in.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from feature_cache.errors import LONGEST, BadData, BadImage, InvalidChoice, did_you_mean, nearest, unknown
from feature_cache.files.neighbours import near_paths, suggestion
from feature_cache.files.urls import shown
from transfer.data import split_names, tables
from transfer.data.annotation import loading as annotation
from transfer.data.annotation.annotated import CATEGORIES
from transfer.data.array_like import as_dataset
from transfer.data.arrays import loading
from transfer.data.arrays.dataset import arrays_dataset
from transfer.data.containers import loading as containers
from transfer.data.containers import parts, patterns
from transfer.data.containers.archive_folder import Archive, ArchiveFolder
from transfer.data.containers.datasets import archives_dataset, files_dataset, parquet_dataset
from transfer.data.containers.parquet import hub_folder
from transfer.data.dataset import Dataset
from transfer.data.folders import listing
from transfer.data.folders.dataset import folder_dataset
from transfer.data.image_collection import Unreadable, digests
from transfer.data.images import ArraySource
from transfer.data.remote.path import AnyPath, RemotePath, ask_together
from transfer.data.remote.places import at, folder_at, remote_folder, source_at
from transfer.data.unused_options import require_unused, require_unused_columns

__all__ = [
    "BUILT_IN",
    "Dataset",
    "Unreadable",
    "are_containers",
    "digests",
    "from_arrays",
    "from_containers",
    "from_files",
    "has_boxes",
    "is_dataset",
    "load",
    "require_labels",
]

BUILT_IN = ("digits",)
LARGEST_TABLE = 2**29  # bytes of a CSV file in an archive, which is read into memory


def load(
    data: str,
    *,
    images: str | None = None,
    class_column: str = "class",
    id_column: str = "id",
    split: str | None = None,
    value_range: tuple[float, float] | None = None,
    crops: bool = False,
) -> Dataset:
    """The data set that `data` names; no image is read yet.

    Parameters
    ----------
    data : str
        ``digits``, a folder, a CSV file, an archive (`transfer.data.containers`), a folder or a CSV file in one, a
        pattern that stands for several archives, an annotation file (`transfer.data.annotation`) or its folder, or a
        file of arrays; all but arrays and annotations also as a URL. The folder of a RAMP kit stands for the images of
        its ``data/train.csv``. `transfer.data.arrays.loading` describes arrays, `transfer.data.tables` tables.
    images : str, optional
        The folder of the images of a CSV file, or an archive, or a folder in one; by default ``imgs`` beside it if
        there is one, or its own folder.
    class_column, id_column : str
        Columns of a CSV file. A file without the class column has no labels.
    split : str, optional
        The part of a data set that comes divided, such as ``train``, ``val`` or ``test``.
    value_range : (float, float), optional
        The numbers of black and white in arrays whose dtype does not say them.
    crops : bool
        Whether each box of an annotation file is an image. The headers of images are read where boxes are shares of
        their sizes.

    Raises
    ------
    InvalidChoice
        When nothing has that name, or the CSV file lacks a column that the caller names.
    BadData
        When the data set holds no image, is damaged, mixes layouts, lacks some labels, or leads out of its folder.
    MissingDependency
        When a package is not installed that a URL needs.
    Unreachable
        When a server does not answer.

    Examples
    --------
    >>> load("digits").ids[0]
    'digit-0000'
    """
    path, name = at(data), shown(data)
    options: dict[str, Any] = {"images": images, "value_range": value_range, "crops": crops}
    if data and (annotated := _annotated(path, split)):
        require_unused_columns(path, class_column, id_column)
        return annotation.annotated_dataset(annotated[0], split=annotated[1], **options)
    if crops:
        raise InvalidChoice(
            f"`crops` makes images of the boxes of COCO (.json) or YOLO (data.yaml), and {name} has none; leave it out."
        )
    if patterns.is_pattern(name) and not path.exists():
        files = patterns.files(data)
        parts.require_named(name, parts.splits_of(files), split)
        return files_dataset(name, files, class_column, split, value_range)
    if data in BUILT_IN:
        require_unused(f"{data} is built in", split, value_range)
        return _digits()
    read_table = partial(
        tables.read, images=images, class_column=class_column, id_column=id_column, value_range=value_range
    )
    if data and path.is_dir():
        if tables.kit_file(path):
            require_unused(f"{path} is a RAMP kit", None, value_range)
            kit = _kit_file(path, split)
            return _table(path, tables.read(kit, images, class_column, id_column, elsewhere=_remote_table(kit)))
        folder = listing.read(folder_at(path), split)
        if folder.holds_tables:
            return _tables_of(folder, class_column, value_range)
        return folder_dataset(folder, value_range)
    if path.is_file():
        if containers.is_archive(path.name):
            return archives_dataset(name, [path], class_column, split, value_range)
        if containers.is_parquet(path.name):
            return parquet_dataset(name, [path], class_column, split, value_range)
        if tables.is_known(path):
            return _table(path, read_table(path, split=split, elsewhere=_remote_table(path)))
        if loading.names_array(path.name):
            file = _on_disk(path, "a file of arrays")
            return arrays_dataset(file, loading.read(file, split, value_range))
        if not _looks_like_image(path):
            if kind := tables.other_kind(path):
                raise BadData(f"{path} is no data set but {kind}.")
            raise BadData(
                f"{path} is neither a data set nor an image; give a folder, or a file that is .csv, .tsv, .json "
                "of COCO, .npz, .npy or IDX."
            )
        require_unused(f"{path} is an image", split, value_range)
        return from_files([path])
    if found := containers.archive_in(path):
        archive, inside = found
        if inside in archive.names:
            return _table(path, read_table(path, split=split, elsewhere=_archived_table(archive, inside)))
        return folder_dataset(listing.read(containers.folder_of(archive, inside), split), value_range)
    if isinstance(path, RemotePath):
        raise InvalidChoice(f"there is no folder or file {name}; check the bucket or host, and the path.")
    near = [*nearest(data, BUILT_IN), *near_paths(data)]
    what = "there is no data set, folder or file"
    raise InvalidChoice(f"{what} {data[:LONGEST]!r}; {did_you_mean(near)}") if near else unknown(what, data, BUILT_IN)


def _annotated(path: AnyPath, split: str | None) -> tuple[Path, str | None] | None:
    """The annotation file that a path on disk names or that its folder has, and its split; None for other data sets."""
    if not isinstance(path, Path):
        return None
    if path.is_dir() and not tables.kit_file(path):
        return annotation.folder_file(path, split)
    return (path, split) if annotation.is_known(path) and path.is_file() else None


def has_boxes(path: AnyPath) -> bool:
    """Whether a path is that of an annotation file, or of a folder with some.

    Examples
    --------
    >>> has_boxes(Path("no such folder"))
    False
    """
    try:
        return _annotated(path, None) is not None
    except BadData:  # there is one for each split
        return True


def is_dataset(file: AnyPath) -> bool:
    """Whether a file is a data set and not an image, by its name."""
    if tables.is_known(file) or loading.names_array(file.name) or containers.is_container(file.name):
        return True
    return isinstance(file, Path) and annotation.is_known(file)


def are_containers(paths: Sequence[AnyPath]) -> bool:
    """Whether a list of files is one of archives or Parquet tables, and not of images, by the names of the first.

    Examples
    --------
    >>> are_containers([Path("a.tar"), Path("b.tar")]), are_containers([Path("a.jpg")])
    (True, False)
    """
    return any(containers.is_container(path.name) for path in paths[:1])


def from_containers(
    paths: Sequence[AnyPath],
    *,
    class_column: str = "class",
    split: str | None = None,
    value_range: tuple[float, float] | None = None,
) -> Dataset:
    """The data set of archives or Parquet tables together; for the other parameters and errors see `load`.

    Parameters
    ----------
    paths : sequence of Path or RemotePath
        Files, or patterns that stand for files, all of one kind.
    """
    files: list[AnyPath] = []
    ask_together(paths)
    for path in paths:
        is_file = path.exists() or not patterns.is_pattern(str(path))
        files += [path] if is_file else patterns.files(str(path))
    for path in files:
        if containers.is_container(path.name) and not path.is_file():
            raise InvalidChoice(
                f"there is no file {str(path)!r}{suggestion(str(path)) or '; a list of archives names each of them.'}"
            )
    data = str(paths[0]) + (f" and {len(paths) - 1:,} more" if len(paths) > 1 else "")
    return files_dataset(data, files, class_column, split, value_range)


def from_files(paths: Sequence[AnyPath]) -> Dataset:
    """A data set of image files, without labels; the ids are the paths.

    Examples
    --------
    >>> from_files([Path("a.jpg"), Path("b.jpg")])
    Dataset('files', 2 images, no labels)
    """
    ask_together(paths)
    return Dataset("files", tuple(str(path) for path in paths), tuple(source_at(path) for path in paths), None)


def from_arrays(X: Any, y: Any = None, value_range: tuple[float, float] | None = None) -> Dataset:
    """A data set of images in memory; the ids are their numbers.

    Parameters
    ----------
    X : ndarray of shape (n, height, width[, channels]), or sequence of ndarray
        One array of images, as files of arrays hold them; or images of several sizes, of uint8, or floats from 0 to 1.
    y : array-like of length n, optional
        The labels.
    value_range : (float, float), optional
        The numbers of black and white in one array whose dtype does not say them.

    Raises
    ------
    BadData
        When they are no images, or not as many labels.
    InvalidChoice
        When a range is passed that is known.

    Examples
    --------
    >>> from_arrays(np.zeros((2, 8, 8), np.uint8), ["a", "b"])
    Dataset('arrays', 2 images, 2 classes)
    """
    if isinstance(X, np.ndarray):
        return arrays_dataset(Path("arrays"), loading.of_arrays(X, y, value_range))
    require_unused("a list of arrays holds images whose range is known", None, value_range)
    images = as_dataset(X)
    labels = None if y is None else loading.labels_of(y, len(images))
    return Dataset("arrays", images.ids, images.sources, labels)


def require_labels(dataset: Dataset, least: int = 2) -> np.ndarray:
    """The labels of `dataset`, which has at least `least` classes.

    Raises
    ------
    BadData
        When there are no labels, or too few classes.

    Examples
    --------
    >>> require_labels(load("digits"))[:3].tolist()
    ['0', '1', '2']
    """
    if dataset.labels is None and dataset.columns:
        raise BadData(_without_classes(dataset))
    if dataset.labels is None:
        raise BadData(
            f"{dataset.name} has no labels; use a folder with a subfolder per class, or a CSV with a class column."
        )
    classes = np.unique(dataset.labels)
    if len(classes) < least:
        raise BadData(f"{dataset.name} has a single class, {str(classes[0])!r}; a head needs at least two.")
    return dataset.labels


def _without_classes(dataset: Dataset) -> str:
    """The message about a table without labels, with what its columns could be used for."""
    if list(dataset.columns) == [CATEGORIES]:
        return (
            f"{dataset.name} has no labels, since some of its images show several categories; make each box an image "
            f"by `crops=True`, or learn all labels by `multilabel={CATEGORIES!r}`."
        )
    flags = [name for name, cells in dataset.columns.items() if set(cells) <= {"0", "1", "0.0", "1.0"}]
    text = f"{dataset.name} has no labels; name the column of the classes with `class_column`"
    if len(flags) > 1:
        return f"{text}, or take columns of 0 and 1 as labels with `multilabel={','.join(flags[:8])!r}`."
    return f"{text}: it has {', '.join(list(dataset.columns)[:12])}."


def _digits() -> Dataset:
    levels, labels = _read_digits()
    pixels = np.rint(levels * (255 / 16)).astype(np.uint8)  # values are 0 to 16
    ids = tuple(f"digit-{number:04d}" for number in range(len(pixels)))
    sources = tuple(ArraySource(image, name) for image, name in zip(pixels, ids, strict=True))
    return Dataset("digits", ids, sources, labels.astype(str))


def _read_digits() -> tuple[np.ndarray, np.ndarray]:
    """The levels and the labels that `sklearn.datasets.load_digits` reads, from the same file.

    Importing scikit-learn takes longer than all else that a command on features which are in the cache does.
    """
    package = find_spec("sklearn")
    folders = package.submodule_search_locations if package else None
    file = Path(folders[0], "datasets", "data", "digits.csv.gz") if folders else None
    if file is None or not file.is_file():  # another version may keep it elsewhere
        from sklearn.datasets import load_digits  # slow, see above

        bunch = load_digits()
        return bunch.images, bunch.target
    rows = np.loadtxt(file, delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(int)


def _kit_file(kit: AnyPath, split: str | None) -> AnyPath:
    """The table of a kit's training or test set."""
    parts = [part for part in ("train", "test") if tables.kit_file(kit, part)]
    file = tables.kit_file(kit, split_names.choose(split, parts, str(kit)) if split else "train")
    assert file
    return file


def _tables_of(folder: listing.Folder, class_column: str, value_range: tuple[float, float] | None) -> Dataset:
    """The images of the Parquet tables in a folder."""
    path = at(str(folder.path))
    splits, names = hub_folder.splits_of_folder(path), hub_folder.class_names_of_folder(path)
    parts.require_named(str(folder.path), splits, folder.split)
    return parquet_dataset(str(folder.path), splits, class_column, folder.split, value_range, names)


def _on_disk(path: AnyPath, what: str) -> Path:
    """A path on disk, for what is read from there alone."""
    if isinstance(path, RemotePath):
        raise BadData(f"{path} is {what}, which is read from a disk alone; fetch it, and give its path.")
    return path


def _remote_table(path: AnyPath) -> tables.TableElsewhere | None:
    """The CSV file at a URL; None for a path on disk."""
    if isinstance(path, Path):
        return None
    if not 0 <= path.size <= LARGEST_TABLE:
        raise BadData(f"{path} is a very large table, or of unknown size; fetch it, and give its path.")
    try:
        return tables.TableElsewhere(path.content(), partial(_images_beside, path.parent))
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror or error}.") from error


def _images_beside(folder: RemotePath) -> ArchiveFolder:
    """The folder of the images of a table in `folder`: ``imgs``, or `folder` itself."""
    beside = remote_folder(folder / "imgs")
    return beside if beside.positions else remote_folder(folder)


def _archived_table(archive: Archive, name: str) -> tables.TableElsewhere:
    """The CSV file with this name in an archive."""
    position = archive.names.index(name)
    if Path(name).suffix.lower() not in tables.SUFFIXES or archive.size(position) > LARGEST_TABLE:
        raise BadData(f"{archive}/{name} is no CSV file, or a very large one; name another, or a folder.")
    try:
        content = archive.read(position)
    except (OSError, ValueError) as error:
        raise BadData(f"cannot read {archive}/{name}: {error}.") from error
    folder = ArchiveFolder(archive, posixpath.join(posixpath.dirname(name), ""))
    beside = folder / "imgs"
    return tables.TableElsewhere(content, lambda: beside if beside.positions else folder)


def _table(path: AnyPath, table: tables.Table) -> Dataset:
    return Dataset(str(path), table.ids, table.sources, table.labels, table.columns, notes=table.notes)


def _looks_like_image(file: AnyPath) -> bool:
    try:
        source_at(file).load()
    except BadImage:
        return False
    return True
