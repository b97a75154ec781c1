"""Export: rows of a space as one plain file, with the ids and labels of the images that they belong to."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from feature_cache.errors import InvalidChoice, MissingDependency, unknown
from feature_cache.features import Features
from feature_cache.files.atomic import new_file
from feature_cache.files.hdf5 import new_hdf5

FORMATS = (".npy", ".npz", ".parquet", ".h5")
PIECE_BYTES = 16 * 2**20

Columns = dict[str, np.ndarray]


def export(features: Features, columns: Columns, file: Path) -> list[Path]:
    """Write `features` and `columns` to `file`, in the format that its suffix names.

    ``.npy``       the features; the columns go to a CSV of the same name
    ``.npz``       arrays `features` and the columns
    ``.parquet``   a list column `features`, and the columns; needs pyarrow
    ``.h5``        datasets `features` and the columns, uncompressed; attribute `spec`

    Parameters
    ----------
    columns : dict of str to ndarray of shape (n,)
        Text, such as `id`, `class` and `digest`, in the order of `features`.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    InvalidChoice
        For another suffix, or a folder that is not there.
    MissingDependency
        When pyarrow is needed and not installed.
    StorageFailure
        When the disk does not take the file; nothing is left behind then.
    """
    suffix = file.suffix.lower()
    if suffix not in FORMATS:
        raise unknown("there is no export to", suffix or file.name, FORMATS)
    if not file.parent.is_dir():
        raise InvalidChoice(f"the folder {file.parent} does not exist; make it first.")
    writers: dict[str, Callable[[Features, Columns, Path], list[Path]]] = {
        ".npy": _npy,
        ".npz": _npz,
        ".parquet": _parquet,
        ".h5": _hdf5,
    }
    return writers[suffix](features, columns, file)


def _npy(features: Features, columns: Columns, file: Path) -> list[Path]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    table = file.with_suffix(".csv")
    with new_file(file) as raw:
        _write_npy(raw, features)
        raw.raise_failure()
        with new_file(table) as beside:  # the array appears only when its table is there
            beside.write(text.getvalue().encode("utf-8", "backslashreplace"))
    return [file, table]


def _npz(features: Features, columns: Columns, file: Path) -> list[Path]:
    with new_file(file) as raw, zipfile.ZipFile(raw, "w", allowZip64=True) as archive:
        with archive.open("features.npy", "w", force_zip64=True) as entry:
            _write_npy(entry, features)
        for name, column in columns.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, column, allow_pickle=False)
    return [file]


def _parquet(features: Features, columns: Columns, file: Path) -> list[Path]:
    try:
        import pyarrow  # optional, and slow to load
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingDependency("export to Parquet needs pyarrow: pip install 'layertap[parquet]'") from error
    width = int(np.prod(features.shape[1:], dtype=np.int64))
    fields = [(name, pyarrow.string()) for name in columns]
    schema = pyarrow.schema([*fields, ("features", pyarrow.list_(pyarrow.from_numpy_dtype(features.dtype), width))])
    with new_file(file) as raw, pyarrow.parquet.ParquetWriter(raw, schema) as writer:
        for start, rows in _pieces(features):
            values = pyarrow.array(rows.reshape(-1))
            parts = [pyarrow.array(_text(column[start : start + len(rows)])) for column in columns.values()]
            parts.append(pyarrow.FixedSizeListArray.from_arrays(values, width))
            writer.write_table(pyarrow.table(parts, schema=schema))
    return [file]


def _hdf5(features: Features, columns: Columns, file: Path) -> list[Path]:
    with new_hdf5(file) as out:
        dataset = out.create_dataset("features", features.shape, features.dtype)
        for start, rows in _pieces(features):
            dataset[start : start + len(rows)] = rows
        for name, column in columns.items():
            out.create_dataset(name, data=_text(column), dtype=h5py.string_dtype())
        out.attrs["spec"] = features.space.spec.to_json()
    return [file]


def _write_npy(stream: IO[bytes] | Any, features: Features) -> None:
    head = {"descr": np.lib.format.dtype_to_descr(features.dtype), "fortran_order": False, "shape": features.shape}
    np.lib.format.write_array_header_2_0(stream, head)
    for _, rows in _pieces(features):
        stream.write(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)


def _pieces(features: Features) -> Iterator[tuple[int, np.ndarray]]:
    """The rows in order, in pieces of some megabytes, each with the number of its first row."""
    size = max(1, PIECE_BYTES // max(features.row_bytes, 1))
    for start in range(0, len(features), size):
        yield start, features[start : start + size]


def _text(column: np.ndarray) -> list[str]:
    """The values of a column as text that can be encoded, which the name of a file need not be."""
    return [str(value).encode("utf-8", "backslashreplace").decode() for value in column]
