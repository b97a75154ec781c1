"""The data sets of archives and of Parquet tables, one file or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from feature_cache.errors import BadData
from transfer.data.containers import loading as containers
from transfer.data.containers import parts, samples
from transfer.data.containers.archive_folder import ArchiveFolder
from transfer.data.containers.archive_names import require_once
from transfer.data.containers.joined import JoinedArchives
from transfer.data.containers.member_sources import in_one, joined
from transfer.data.containers.packed_names import PackedNames
from transfer.data.containers.parquet.table import ParquetTable
from transfer.data.dataset import Dataset
from transfer.data.folders import listing
from transfer.data.folders.dataset import folder_dataset
from transfer.data.remote.path import AnyPath
from transfer.data.remote.places import each, file_at
from transfer.data.unused_options import require_unused


def files_dataset(
    data: str, paths: Sequence[AnyPath], class_column: str, split: str | None, value_range: tuple[float, float] | None
) -> Dataset:
    """The images of several files together, which are all archives, or all Parquet tables.

    Raises
    ------
    BadData
        When they are of several kinds, or none of both.
    """
    is_kind, kind, read = containers.is_archive, "archives", archives_dataset
    if containers.is_parquet(paths[0].name):
        is_kind, kind, read = containers.is_parquet, "Parquet tables", parquet_dataset
    if other := next((path for path in paths if not is_kind(path.name)), None):
        raise BadData(f"{data} names {other}, and several files are read together only where all are {kind}.")
    return read(data, paths, class_column, split, value_range)


def archives_dataset(
    data: str, paths: Sequence[AnyPath], class_column: str, split: str | None, value_range: tuple[float, float] | None
) -> Dataset:
    """The images of archives: samples with labels beside the images, or folders that are classes."""
    splits = parts.splits_of(paths)
    if named := parts.are_divided(splits):
        paths = parts.choose(data, splits, split)
    archives = containers.with_names(paths)
    notes = tuple(note for _, archive in archives for note in archive.notes)
    if samples.holds_samples(archives[0][1]):
        require_unused(f"{data} holds samples", None, value_range)
        if split and not named:
            parts.choose(data, splits, split)
        found = samples.read_samples(archives, class_column)
        return Dataset(data, found.ids, found.sources, found.labels, notes=(*notes, *found.notes))
    archive = archives[0][1] if len(archives) == 1 else JoinedArchives(data, [one for _, one in archives])
    require_once(data, archive.names)
    return folder_dataset(listing.read(ArchiveFolder(archive), None if named else split), value_range)


def parquet_dataset(
    data: str,
    paths: Sequence[AnyPath] | Mapping[AnyPath, str | None],
    class_column: str,
    split: str | None,
    value_range: tuple[float, float] | None,
    class_names: Mapping[str, list[str]] | None = None,
) -> Dataset:
    """The images of Parquet tables, whose splits may be known, and the names of the classes of a column.

    The ids are the numbers of the rows; where there are several files, with the path of the file before it.
    """
    require_unused(f"{data} is a Parquet table", None, value_range)
    paths = parts.choose(data, paths if isinstance(paths, Mapping) else parts.splits_of(paths), split)
    tables = each(lambda path: ParquetTable(file_at(path)), paths)
    classes = [table.labels(class_column, class_names) for table in tables]
    if any(part is None for part in classes) and any(part is not None for part in classes):
        raise BadData(f"some files of {data} have a class column and others none; name it with `class_column`.")
    labels = [part for part in classes if part is not None]
    ids, sources = PackedNames(), []
    for path, table in zip(paths, tables, strict=True):
        digits, prefix = len(str(max(len(table) - 1, 0))), "" if len(paths) == 1 else f"{path}/"
        ids.extend(f"{prefix}{row:0{digits}d}" for row in range(len(table)))
        sources.append(in_one(table, np.arange(len(table))))
    if not ids:
        raise BadData(f"{data} has no rows.")
    return Dataset(data, ids, joined(sources), np.concatenate(labels) if labels else None)
