"""Tables in Parquet files with the encoded bytes of an image in each row, as the Hugging Face hub has them."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from feature_cache.errors import BadData, InvalidChoice, MissingDependency, Unreachable, one_line, unknown
from transfer.data.containers.container import StoredFile

USUAL = ("image", "img", "jpg", "png", "image_bytes", "content", "bytes")  # names of columns of images
BATCH = 64  # rows that are read together
KEPT_BATCHES = 16
NOTHING: tuple[int, int, Iterator[Any]] = (-1, 0, iter(()))  # a row group, its next batch, and the batches from there


class ParquetTable:
    """The images of a Parquet file, read in the order of the rows; a few batches are kept for threads beside.

    Attributes
    ----------
    paths : list of str or None
        The names of the images, where all rows have one.

    Raises
    ------
    MissingDependency
        When pyarrow is not installed.
    BadData
        When the file is damaged or has no column of images, or several.
    """

    def __init__(self, file: StoredFile) -> None:
        self._file = file
        self._start()
        self._column, self._is_struct = _image_column(self._parquet.schema_arrow, str(file))
        groups = [self._parquet.metadata.row_group(number).num_rows for number in range(self._parquet.num_row_groups)]
        self._ends = np.cumsum([0, *groups])
        self.notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return str(self._file)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getstate__(self) -> dict[str, Any]:
        """The file alone: another process opens it for itself."""
        return {"file": self._file}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["file"])  # type: ignore[misc]

    def _start(self) -> None:
        try:
            import pyarrow.parquet  # an optional package
        except ImportError as error:
            raise MissingDependency("reading Parquet needs pyarrow: pip install 'layertap[parquet]'") from error
        try:
            self._parquet = pyarrow.parquet.ParquetFile(self._file.open(), buffer_size=2**20, pre_buffer=False)
        except pyarrow.ArrowException as error:
            raise BadData(f"{self._file} is damaged, cut off, or no Parquet file ({one_line(error)}).") from error
        self._lock = threading.Lock()
        self._batches: OrderedDict[tuple[int, int], list[Any]] = OrderedDict()
        self._reading = NOTHING
        self._failed: set[tuple[int, int]] = set()  # batches that could not be read once

    def name(self, position: int) -> str:
        """The file and the number of the row."""
        return f"{self._file}/{position}"

    def size(self, position: int) -> int:
        """0, since the table does not say it before the row is read."""
        return 0

    def stamp(self, position: int) -> tuple[str, int] | None:
        """By what an unchanged member is recognised; see `transfer.data.containers.container.Container`."""
        return self._file.stamp_of(self.name(position))

    def announce(self, position: int) -> int:
        """0: rows are read in their order, of which the file knows by itself what comes next."""
        return 0

    def read(self, position: int) -> bytes:
        """The bytes of an image; see `transfer.data.containers.container.Container`."""
        group = int(np.searchsorted(self._ends, position, "right")) - 1
        number, row = divmod(position - int(self._ends[group]), BATCH)
        try:
            content = self._batch(group, number)[row].as_py()
        except (OSError, ValueError, Unreachable):
            raise
        except Exception as error:  # a damaged page makes pyarrow raise many types
            raise ValueError(f"the table is damaged there ({one_line(error)})") from error
        if not isinstance(content, bytes):
            raise ValueError("the row holds no bytes, but at most a path, which is not followed")
        return content

    def labels(self, class_column: str, names_of: Mapping[str, list[str]] | None = None) -> np.ndarray | None:
        """The classes of the rows, by the names that the schema has for them: (n,), str; None without such a column.

        Parameters
        ----------
        class_column : str
        names_of : mapping of str to list of str, optional
            The names of the classes of a column, where the schema has none for them.

        Raises
        ------
        InvalidChoice
            When there is no such column, and it was named.
        BadData
            When a row has no class.
        """
        schema = self._parquet.schema_arrow
        column = class_column
        if column == "class" and column not in schema.names:
            column = next((name for name in ("label", "labels", "fine_label") if name in schema.names), "")
            if not column:
                return None
        if column not in schema.names:
            raise unknown(f"{self._file} has no class column", class_column, schema.names)
        values = self._parquet.read(columns=[column]).column(0).to_pylist()
        missing = [row for row, value in enumerate(values) if value is None]
        if missing:
            raise BadData(
                f"{self._file}: {len(missing)} of {len(values)} images have no label, the first is in row {missing[0]}."
            )
        if not all(isinstance(value, str | int) for value in values):
            raise InvalidChoice(
                f"the column {column!r} of {self._file} holds no classes; name one with `class_column`."
            )
        names = _class_names(schema, column) or (names_of or {}).get(column, [])
        if names and all(isinstance(value, int) and 0 <= value < len(names) for value in values):
            return np.array([names[value] for value in values])
        return np.array([str(value) for value in values])

    def _batch(self, group: int, number: int) -> Any:
        """The contents of some rows, an array of bytes of Arrow."""
        key = group, number
        if (kept := self._batches.get(key)) is not None:
            return kept  # most threads do not wait for the one that reads on
        with self._lock:
            if key not in self._batches:
                self._read_on(group, number)
            return self._batches[key]

    def _read_on(self, group: int, number: int) -> None:
        """Read the batches of a group up to this one, from the last one that was read where that is before it."""
        current, following, batches = self._reading
        if current != group or following > number:
            columns = [f"{self._column}.bytes"] if self._is_struct else [self._column]
            following = 0
            batches = self._parquet.iter_batches(BATCH, [group], columns, use_threads=False)
        while following <= number:
            try:
                column = next(batches).column(0)
            except Exception as error:  # which ends the iterator: once, it is begun anew
                again = isinstance(error, Unreachable) or (group, following) not in self._failed
                self._failed.add((group, following))
                self._reading = NOTHING if again else (group, following, iter(()))
                raise
            self._batches[group, following] = column.flatten()[0] if self._is_struct else column
            following += 1
            if len(self._batches) > KEPT_BATCHES:
                self._batches.popitem(last=False)
        self._reading = group, following, batches


def _image_column(schema: Any, file: str) -> tuple[str, bool]:
    """The column of images, and whether it holds structs of bytes and a path."""
    import pyarrow.types  # an optional package, which the caller has imported

    found = []
    for field in schema:
        kind = field.type
        if pyarrow.types.is_struct(kind) and any(part.name == "bytes" for part in kind):
            found.append((field.name, True))
        elif pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind):
            found.append((field.name, False))
    usual = [one for one in found if one[0].lower() in USUAL]
    if len(found) != 1 and len(usual) != 1:
        what = f"several columns of bytes ({', '.join(name for name, _ in found)})" if found else "no column of images"
        raise BadData(f"{file} has {what}; its columns are {', '.join(schema.names[:12])}, and one should be `image`.")
    return (usual if len(usual) == 1 else found)[0]


def _class_names(schema: Any, column: str) -> list[str]:
    """The names of the classes of a ``ClassLabel`` of Hugging Face, which its metadata hold; empty without."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []
