"""Images in Parquet tables, as the hub has them and in plain columns of bytes."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from feature_cache.errors import BadData, BadImage, InvalidChoice
from transfer.data import datasets
from transfer.data.containers.local_file import LocalFile
from transfer.data.containers.parquet.table import ParquetTable

FEATURES = {"label": {"names": ["ant", "bee"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}


@pytest.fixture
def images(class_folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(class_folder.rglob("*.png"))]


def write(file: Path, images: list[bytes | None], struct: bool = True, **columns: object) -> Path:
    values = [{"bytes": one, "path": None} for one in images] if struct else images
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if struct else pa.binary()
    table = pa.table({"image": pa.array(values, kind), **columns})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})
    pyarrow.parquet.write_table(table, file, row_group_size=3)
    return file


@pytest.mark.parametrize("struct", [True, False])
def test_rows_are_images_and_classes_have_their_names(tmp_path: Path, images: list[bytes], struct: bool) -> None:
    found = datasets.load(str(write(tmp_path / "a.parquet", images, struct, label=[0, 1] * 4)))
    assert found.ids[:2] == ("0", "1") and found.labels.tolist() == ["ant", "bee"] * 4
    assert [source.read() for source in found.sources] == images
    order = np.random.default_rng(0).permutation(8)
    assert [found.sources[row].read() for row in order] == [images[row] for row in order]
    assert pickle.loads(pickle.dumps(found)).sources[5].read() == images[5]


def test_what_could_not_be_read_once_is_read_again(tmp_path: Path) -> None:
    class Stream(io.RawIOBase):
        """The file, whose reads fail while `fails` is set."""

        fails = False

        def __init__(self) -> None:
            self.tell, self.seek = opened.tell, opened.seek  # type: ignore[method-assign]

        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            if Stream.fails:
                raise OSError("the network is down")
            return opened.read(size)

    class File(LocalFile):
        def open(self) -> Any:
            return Stream()

    file = tmp_path / "a.parquet"
    noise = np.random.default_rng(0)
    table = pa.table({"image": [bytes([number]) + noise.bytes(20_000) for number in range(250)]})
    pyarrow.parquet.write_table(table, file, use_dictionary=False, data_page_size=20_000, write_batch_size=1)
    with file.open("rb") as opened:
        found = ParquetTable(File(file))
        assert found.read(0)[0] == 0
        Stream.fails = True
        with pytest.raises(OSError, match="down"):
            found.read(240)
        Stream.fails = False
        assert [found.read(row)[0] for row in (240, 3, 249)] == [240, 3, 249]


def test_several_files_are_one_data_set(tmp_path: Path, images: list[bytes]) -> None:
    write(tmp_path / "train-0.parquet", images[:3], species=["x"] * 3)
    write(tmp_path / "train-1.parquet", images[3:], species=["y"] * 5)
    found = datasets.load(f"{tmp_path}/train-*.parquet", class_column="species")
    assert found.class_counts == {"x": 3, "y": 5} and len(set(found.ids)) == 8
    assert [source.read() for source in found.sources] == images


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    folder = tmp_path / "hub"
    folder.mkdir()
    return folder


def test_a_split_is_chosen_by_the_names_of_the_files(hub: Path, images: list[bytes]) -> None:
    (hub / "data").mkdir()
    write(hub / "data" / "train-00000-of-00002.parquet", images[:3])
    write(hub / "data" / "train-00001-of-00002.parquet", images[3:5])
    write(hub / "data" / "extra_unlabeled-00000-of-00001.parquet", images[5:])
    (hub / "README.md").write_text("# Nothing but a text\n")
    for name in (str(hub), f"{hub}/data", f"{hub}/data/*.parquet"):
        assert [one.read() for one in datasets.load(name, split="train").sources] == images[:5]
        assert len(datasets.load(name, split="extra_unlabeled")) == 3
        with pytest.raises(BadData, match=r"is divided into splits \(train, extra_unlabeled\); name one"):
            datasets.load(name)
        with pytest.raises(InvalidChoice, match="has no split 'test'"):
            datasets.load(name, split="test")


def test_folders_of_the_hub_are_splits(hub: Path, images: list[bytes]) -> None:
    for number, part in enumerate(("train", "test")):
        (hub / part).mkdir()
        write(hub / part / "0000.parquet", images[4 * number :][:4])
    assert [one.read() for one in datasets.load(str(hub), split="test").sources] == images[4:]


def test_the_readme_names_the_files_of_a_split(hub: Path, images: list[bytes]) -> None:
    write(hub / "one.parquet", images[:2])
    write(hub / "two.parquet", images[2:])
    readme = hub / "README.md"
    configs = [{"config_name": "default", "data_files": [{"split": "train", "path": "t*.parquet"}]}]
    readme.write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n# Photos\n")
    assert len(datasets.load(str(hub), split="train")) == len(datasets.load(str(hub))) == 6
    readme.write_text("---\ndataset_info:\n  splits:\n  - name: one\n  - name: two\n---\n")
    assert len(datasets.load(str(hub), split="one")) == 2
    readme.write_text("---\nconfigs: [\n---\n")
    with pytest.raises(BadData, match=r"README\.md begins with damaged YAML"):
        datasets.load(str(hub))


def test_the_readme_names_classes_where_the_table_has_no_names(hub: Path, images: list[bytes]) -> None:
    write(hub / "a.parquet", images, kind=[1, 0] * 4, label=[0, 1] * 4)
    assert datasets.load(str(hub), class_column="kind").class_counts == {"0": 4, "1": 4}
    features = [{"name": name, "dtype": {"class_label": {"names": {"0": "x", "1": "y"}}}} for name in ("kind", "label")]
    (hub / "README.md").write_text(f"---\ndataset_info: {json.dumps({'features': features})}\n---\n")
    assert datasets.load(str(hub), class_column="kind").labels.tolist()[:2] == ["y", "x"]
    assert datasets.load(str(hub)).labels.tolist()[:2] == ["ant", "bee"]  # as the table itself names them
    (hub / "README.md").unlink()
    infos = {"default": {"features": {"kind": {"names": ["u", "v"], "_type": "ClassLabel"}}}}
    (hub / "dataset_infos.json").write_text(json.dumps(infos))
    assert datasets.load(str(hub), class_column="kind").labels.tolist()[:2] == ["v", "u"]
    for odd in (
        {"default": {"features": {"kind": {"names": [1, "v"]}}}},
        {"default": []},
        [],
        {"a": {"features": [1]}},
    ):
        (hub / "dataset_infos.json").write_text(json.dumps(odd))
        assert datasets.load(str(hub), class_column="kind").class_counts == {"0": 4, "1": 4}
    different = {**infos, "other": {"features": {"kind": {"names": ["p", "q"]}}}}
    (hub / "dataset_infos.json").write_text(json.dumps(different))
    assert datasets.load(str(hub), class_column="kind").class_counts == {"0": 4, "1": 4}


def test_what_cannot_be_read_is_told_in_a_line(tmp_path: Path, images: list[bytes]) -> None:
    file = write(tmp_path / "a.parquet", [*images[:2], None], label=[0, 1, None])
    with pytest.raises(BadData, match="1 of 3 images have no label, the first is in row 2"):
        datasets.load(str(file))
    with pytest.raises(InvalidChoice, match="has no class column 'kind'"):
        datasets.load(str(file), class_column="kind")
    file = write(tmp_path / "b.parquet", [*images[:2], None], label=[0, 1, 1])
    with pytest.raises(BadImage, match=r"b\.parquet/2: the row holds no bytes"):
        datasets.load(str(file)).sources[2].load()
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(BadData, match="is damaged, cut off, or no Parquet file"):
        datasets.load(str(file))
    pyarrow.parquet.write_table(pa.table({"x": [1]}), tmp_path / "c.parquet")
    with pytest.raises(BadData, match="has no column of images; its columns are x"):
        datasets.load(str(tmp_path / "c.parquet"))
