"""The same images in containers of each kind, as bytes."""

from __future__ import annotations

import io
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet

from transfer.data.dataset import Dataset


def digests(dataset: Dataset) -> list[bytes]:
    return [source.load()[0] for source in dataset.sources]


def tar_of(members: dict[str, bytes], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def parquet_of(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    table = pa.table({"image": list(members.values()), "label": [name[:1] for name in members]})
    pyarrow.parquet.write_table(table, stream, row_group_size=3)
    return stream.getvalue()
