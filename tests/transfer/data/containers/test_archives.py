"""Zip and tar archives, and samples in shards: the same data as the folder, and what archives may not do."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import layertap as lt
from feature_cache.cache import FeatureCache
from feature_cache.errors import BadData, BadImage, InvalidChoice
from feature_cache.files.digest_memo import DigestMemo
from transfer.data import datasets
from transfer.data.containers.container import MemberSource
from transfer.data.containers.local_file import LocalFile
from transfer.data.containers.tar.gzip_file import BLOCK, GzipFile
from transfer.data.dataset import Dataset
from transfer.extraction.extract import extract
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest


def tar_of(file: Path, members: dict[str, bytes], **options: object) -> Path:
    with tarfile.open(file, "w:gz" if file.name.endswith("gz") else "w", **options) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


def zip_of(file: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def digests(dataset: Dataset) -> list[bytes]:
    return [source.load()[0] for source in dataset.sources]


class TestTheSameAsTheFolder:
    @pytest.mark.parametrize("name", ["data.zip", "data.tar", "data.tar.gz"])
    def test_classes_ids_and_images_are_those_of_the_folder(
        self, class_folder: Path, tmp_path: Path, name: str
    ) -> None:
        members = contents(class_folder) | {"__MACOSX/._1.png": b"litter", "notes.txt": b"about"}
        archive = (zip_of if name == "data.zip" else tar_of)(tmp_path / name, members)
        folder, packed = datasets.load(str(class_folder)), datasets.load(str(archive))
        assert packed.ids == folder.ids and packed.labels.tolist() == folder.labels.tolist()
        assert digests(packed) == digests(folder)
        assert any("notes" in note or ".txt" in note for note in packed.notes)
        chosen = packed.select(np.array([6, -8, 1]))
        assert digests(chosen) == [digests(folder)[place] for place in (6, 0, 1)]
        assert [source.load()[0] for source in packed.sources[2:4]] == digests(folder)[2:4]
        again = pickle.loads(pickle.dumps(packed))  # as other processes are given it
        assert digests(again) == digests(folder)

    def test_a_split_and_a_folder_inside_are_chosen(self, class_folder: Path, tmp_path: Path) -> None:
        members = {
            f"photos/{part}/{name}": data for part in ("train", "test") for name, data in contents(class_folder).items()
        }
        archive = zip_of(tmp_path / "photos.zip", members)
        assert datasets.load(str(archive), split="train").class_counts == {"a": 4, "b": 4}
        assert datasets.load(f"{archive}/photos/test").class_counts == {"a": 4, "b": 4}
        with pytest.raises(BadData, match=r"photos\.zip.* is divided into splits"):
            datasets.load(str(archive))
        with pytest.raises(BadData, match=r"photos\.zip holds no folder 'other'"):
            datasets.load(f"{archive}/other")

    def test_folders_over_several_archives_are_put_together(self, class_folder: Path, tmp_path: Path) -> None:
        for number, (name, data) in enumerate(contents(class_folder).items()):
            tar_of(tmp_path / f"part-{number}.tar", {name: data})
        folder, packed = datasets.load(str(class_folder)), datasets.load(f"{tmp_path}/part-*.tar")
        assert packed.ids == folder.ids and digests(packed) == digests(folder)

    def test_a_list_of_archives_is_one_data_set(self, class_folder: Path, tmp_path: Path) -> None:
        parts = [
            tar_of(tmp_path / f"part-{number}.tar", {name: data})
            for number, (name, data) in enumerate(contents(class_folder).items())
        ]
        listed = lt.load_dataset([*parts[:2], f"{tmp_path}/part-[2-7].tar"])
        assert listed.ids == datasets.load(str(class_folder)).ids
        again = lt.load_dataset(**listed.options)
        assert digests(again) == digests(listed) == digests(datasets.load(str(class_folder)))
        with pytest.raises(BadData, match=r"names .*1\.png, and several files are read together only where all are"):
            lt.load_dataset([parts[0], tmp_path / "1.png"])
        with pytest.raises(InvalidChoice, match=r"there is no file .*part-9\.tar"):
            lt.load_dataset([parts[0], tmp_path / "part-9.tar"])


class TestShards:
    @pytest.fixture
    def shards(self, class_folder: Path, tmp_path: Path) -> Callable[[str], str]:
        def make(kind: str) -> str:
            for number, (name, data) in enumerate(contents(class_folder).items()):
                label = {f"{number}.cls": name[0].encode()}
                if kind == "json":
                    label = {f"{number}.json": json.dumps({"class": name[0]}).encode()}
                tar_of(tmp_path / f"s-{number:02d}.tar", {f"{number}.png": data, **label, f"{number}.txt": b"a cat"})
            return f"{tmp_path}/s-{{00..07}}.tar"

        return make

    @pytest.mark.parametrize("kind", ["cls", "json"])
    def test_labels_come_from_the_sample(self, shards: Callable[[str], str], class_folder: Path, kind: str) -> None:
        found = datasets.load(shards(kind))
        folder = datasets.load(str(class_folder))
        assert found.labels.tolist() == folder.labels.tolist() and digests(found) == digests(folder)
        assert found.ids[1] == "s-01.tar/1"
        assert any("8 .txt" in note for note in found.notes)

    def test_a_shard_that_is_missing_is_named(self, shards: Callable[[str], str], tmp_path: Path) -> None:
        pattern = shards("cls")
        (tmp_path / "s-05.tar").unlink()
        with pytest.raises(BadData, match=r"s-05\.tar'?, and there is no such file"):
            datasets.load(pattern)

    def test_a_split_is_chosen_by_the_names_of_shards(self, class_folder: Path, tmp_path: Path) -> None:
        for number, (name, data) in enumerate(contents(class_folder).items()):
            part = "train" if number % 4 else "val"
            tar_of(tmp_path / f"d-{part}-{number:02d}.tar", {f"{number}.png": data, f"{number}.cls": name[:1].encode()})
        assert len(datasets.load(f"{tmp_path}/d-*.tar", split="train")) == 6
        assert datasets.load(f"{tmp_path}/d-*.tar", split="validation").ids == ("d-val-00.tar/0", "d-val-04.tar/4")
        assert len(lt.load_dataset(sorted(tmp_path.glob("d-*.tar")))) == 8
        with pytest.raises(BadData, match=r"is divided into splits \(train, val\); name one"):
            datasets.load(f"{tmp_path}/d-*.tar")
        with pytest.raises(InvalidChoice, match="has no split 'test'"):
            datasets.load(f"{tmp_path}/d-train-01.tar", split="test")

    def test_two_images_of_one_key_are_told(self, tmp_path: Path) -> None:
        shard = tar_of(tmp_path / "s.tar", {"1.png": b"x", "1.cls": b"a", "1.PNG": b"y"})
        with pytest.raises(BadData, match=r"s\.tar holds two files \.png of the key '1'"):
            datasets.load(str(shard))

    @pytest.mark.parametrize("pack", [tar_of, zip_of])
    def test_a_sample_takes_a_few_bytes_of_memory(self, tmp_path: Path, pack: Callable[..., Path]) -> None:
        pairs = {f"{number:06d}": f"{number}".encode() for number in range(3000)}
        members = {key + end: text for key, text in pairs.items() for end in (".png", ".cls")}
        dataset = datasets.load(str(pack(tmp_path / f"s.{pack.__name__[:3]}", members)))
        assert dataset.ids == tuple(pairs) and dataset.labels.tolist() == [text.decode() for text in pairs.values()]
        assert [source.read() for source in dataset.sources[-3:]] == list(pairs.values())[-3:]
        size = len(pickle.dumps((dataset.ids, dataset.sources)))  # without the labels, an array of text
        assert size < (20 if pack is tar_of else 50) * len(dataset)

    def test_a_sample_without_a_label_is_named(self, tmp_path: Path) -> None:
        shard = tar_of(tmp_path / "s.tar", {"1.png": b"x", "1.cls": b"a", "2.png": b"y"})
        with pytest.raises(BadData, match="1 of 2 samples have no label, the first is '2'"):
            datasets.load(str(shard))

    @pytest.mark.parametrize("packed", [False, True])
    def test_what_comes_before_the_cut_is_kept(self, class_folder: Path, tmp_path: Path, packed: bool) -> None:
        whole = tar_of(tmp_path / "s.tar", contents(class_folder)).read_bytes()
        shard = tmp_path / ("cut.tar.gz" if packed else "cut.tar")
        cut = whole[:2600]
        shard.write_bytes(gzip.compress(cut) if packed else cut)
        found = datasets.load(str(shard))
        assert 0 < len(found) < 8 and digests(found)
        assert any("cut.tar" in note and "cut off inside" in note and "byte 2" in note for note in found.notes)


class TestTables:
    """As Kaggle has them: a table beside the images in one archive, or the images alone in an archive."""

    CSV = "id,class\n" + "".join(f"{name}{number}.png,{name}\n" for name in "ab" for number in range(4))

    @pytest.fixture
    def members(self, class_folder: Path) -> dict[str, bytes]:
        images = list(contents(class_folder).values())
        names = [f"{name}{number}.png" for name in "ab" for number in range(4)]
        return {f"train/{name}": data for name, data in zip(names, images, strict=True)}

    @pytest.mark.parametrize("name", ["kaggle.zip", "kaggle.tar"])
    def test_a_table_in_an_archive_names_the_images_beside_it(
        self, class_folder: Path, tmp_path: Path, members: dict[str, bytes], name: str
    ) -> None:
        beside = {"train.csv": self.CSV.encode(), "__MACOSX/train/a0.png": b"litter"}
        archive = (zip_of if name == "kaggle.zip" else tar_of)(tmp_path / name, beside | members)
        found = lt.load_dataset(f"{archive}/train.csv")
        folder = datasets.load(str(class_folder))
        assert found.labels.tolist() == folder.labels.tolist() and digests(found) == digests(folder)
        assert digests(lt.load_dataset(**found.options)) == digests(folder)

    def test_images_of_a_table_are_in_an_archive(self, tmp_path: Path, members: dict[str, bytes]) -> None:
        archive = zip_of(tmp_path / "photos.zip", {**members, "test/a0.png": b"another"})
        table = tmp_path / "train.csv"
        table.write_text(self.CSV)
        found = lt.load_dataset(table, images=f"{archive}/train")
        assert [source.read() for source in found.sources] == list(members.values())
        with pytest.raises(BadData, match=r"'a0\.png' could be test/a0\.png or train/a0\.png in .*photos\.zip"):
            lt.load_dataset(table, images=archive)
        with pytest.raises(BadData, match=r"photos\.zip holds no folder 'valid'"):
            lt.load_dataset(table, images=f"{archive}/valid")
        table.write_text("id,class\n../other.png,a\n")
        with pytest.raises(BadData, match="which leads out of the image folder"):
            lt.load_dataset(table, images=f"{archive}/train")


class TestUntrusted:
    def refused(self, file: Path) -> str:
        with pytest.raises(BadData) as caught:
            datasets.load(str(file))
        message = str(caught.value)
        assert "\n" not in message
        return message

    @pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "a/../../out.png"])
    def test_a_path_that_leads_out_is_refused(self, tmp_path: Path, name: str) -> None:
        for file in (zip_of(tmp_path / "a.zip", {name: b"x"}), tar_of(tmp_path / "a.tar", {name: b"x"})):
            assert "leads out of the archive" in self.refused(file)

    def test_two_files_of_one_name_are_told(self, tmp_path: Path) -> None:
        with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            warnings.simplefilter("ignore")
            archive.writestr("1.png", b"x")
            archive.writestr("1.png", b"y")
        assert "holds two files named '1.png'" in self.refused(tmp_path / "a.zip")

    def test_an_encrypted_archive_is_told(self, class_folder: Path, tmp_path: Path) -> None:
        file = zip_of(tmp_path / "a.zip", contents(class_folder))
        content = bytearray(file.read_bytes())
        for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            place = content.find(mark)
            while place >= 0:
                content[place + flags] |= 1
                place = content.find(mark, place + 1)
        file.write_bytes(content)
        assert "is encrypted" in self.refused(file)

    def test_more_than_is_declared_is_never_unpacked(self, tmp_path: Path) -> None:
        file = zip_of(tmp_path / "a.zip", {"bomb.png": bytes(10**7)})
        content = bytearray(file.read_bytes())
        struct.pack_into("<I", content, content.find(b"PK\x01\x02") + 24, 1000)
        file.write_bytes(content)
        with pytest.raises(BadImage, match="unpacks to more than the 1,000 bytes that it declares"):
            datasets.load(str(file)).sources[0].load()

    def test_an_image_too_large_is_not_unpacked(self, tmp_path: Path) -> None:
        file = zip_of(tmp_path / "a.zip", {"bomb.png": bytes(100)})
        content = bytearray(file.read_bytes())
        struct.pack_into("<I", content, content.find(b"PK\x01\x02") + 24, 4_000_000_000)
        file.write_bytes(content)
        with pytest.raises(BadImage, match=r"4\.0 GB large, where 1\.0 GB are allowed"):
            datasets.load(str(file)).sources[0].load()

    def test_members_that_overlap_are_refused(self, tmp_path: Path) -> None:
        file = zip_of(tmp_path / "a.zip", {"1.png": bytes(10**5), "2.png": bytes(10**5)})
        content = bytearray(file.read_bytes())
        struct.pack_into("<I", content, content.rfind(b"PK\x01\x02") + 42, 0)
        file.write_bytes(content)
        assert "overlap, as a zip bomb has" in self.refused(file)

    def test_damage_inside_is_an_unreadable_image(self, class_folder: Path, tmp_path: Path) -> None:
        file = zip_of(tmp_path / "a.zip", contents(class_folder), zipfile.ZIP_STORED)
        content = bytearray(file.read_bytes())
        content[100] ^= 255
        file.write_bytes(content)
        dataset = datasets.load(str(file))
        with pytest.raises(BadImage, match="its checksum differs"):
            dataset.sources[0].load()
        assert dataset.sources[1].load()

    @pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
    def test_what_is_no_archive_is_told(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"this is a text and no archive " * 40)
        assert name in self.refused(tmp_path / name)

    def test_a_bomb_of_gzip_ends_early(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("transfer.data.containers.tar.gzip_file.FREE_BYTES", 10 * BLOCK)
        (tmp_path / "a.tar.gz").write_bytes(gzip.compress(bytes(100 * BLOCK)))
        member = GzipFile(LocalFile(tmp_path / "a.tar.gz"))
        with pytest.raises(ValueError, match="unpacks to far more than it holds"):
            member.read(99 * BLOCK, 1)


def test_what_was_computed_from_a_folder_is_not_computed_again(class_folder: Path, tmp_path: Path) -> None:
    images = contents(class_folder)
    shard = {f"{number}.png": data for number, data in enumerate(images.values())}
    shard |= {f"{number}.cls": name[:1].encode() for number, name in enumerate(images)}
    packed = [
        zip_of(tmp_path / "1.zip", images),
        tar_of(tmp_path / "2.tar", images),
        tar_of(tmp_path / "3.tar.gz", images),
        tar_of(tmp_path / "4.tar", shard),
        tmp_path / "5.parquet",
    ]
    pyarrow.parquet.write_table(pa.table({"image": list(images.values())}), packed[-1])
    request, cache = FeatureRequest(Net("glyphnet"), ("block4_pool",)), FeatureCache(tmp_path / "features")
    computed = [extract(datasets.load(str(one)), request, cache).rows_computed for one in (class_folder, *packed)]
    assert computed == [8, 0, 0, 0, 0, 0]


@pytest.mark.slow
def test_any_order_of_reading_gives_the_bytes_of_the_packed_file(tmp_path: Path, rng: np.random.Generator) -> None:
    content = rng.integers(0, 256, 3 * BLOCK, np.uint8).tobytes() * 30
    (tmp_path / "a.gz").write_bytes(gzip.compress(content[: 50 * BLOCK], 1) + gzip.compress(content[50 * BLOCK :], 1))
    file = GzipFile(LocalFile(tmp_path / "a.gz"))
    for start in [0, 70 * BLOCK + 5, 3, *rng.integers(0, len(content), 12).tolist(), len(content) - 10]:
        assert file.read(start, 2000) == content[start : start + 2000]


def test_a_second_look_reads_no_image(class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zip_of(tmp_path / "a.zip", contents(class_folder))
    old = time.time() - 100
    os.utime(archive, (old, old))
    monkeypatch.setattr("feature_cache.files.digest_memo.RACY_NANOSECONDS", -(10**12))  # its ctime is now
    memo = DigestMemo(tmp_path / "memo.sqlite")
    first = datasets.load(str(archive)).identify(memo).digests
    monkeypatch.setattr(MemberSource, "read", lambda self: pytest.fail("an image was read"))
    np.testing.assert_array_equal(datasets.load(str(archive)).identify(memo).digests, first)
