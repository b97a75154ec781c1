"""CSV files as people and programs write them: what they mean is read, said, or refused in a line."""

from __future__ import annotations

import csv
import io
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadData, BadImage, InvalidChoice
from feature_cache.keys import digest_array
from transfer.data.datasets import Dataset, digests, load
from transfer.data.tables import dialect, files
from transfer.extraction.lookup import refusal

NAMES = ("0.png", "1.png", "2.png")
KINDS = ["ant", "bee", "été"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Image files that are never opened, in imgs/ beside the table."""
    (tmp_path / "imgs").mkdir()
    for name in NAMES:
        (tmp_path / "imgs" / name).touch()
    return tmp_path / "imgs"


@pytest.fixture
def table(images: Path) -> Callable[..., Dataset]:
    """Write a table and load it."""

    def make(content: str | bytes, name: str = "t.csv", **options: str) -> Dataset:
        file = images.parent / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load(str(file), **options)

    return make


def refused(make: Callable[..., Dataset], *arguments: object, **options: object) -> str:
    """The one line that says why a table is refused."""
    with pytest.raises((BadData, InvalidChoice)) as caught:
        make(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def written(delimiter: str = ",", end: str = "\n", quoting: int = csv.QUOTE_MINIMAL, mark: str = "") -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows([("id", "class"), *zip(NAMES, KINDS, strict=True)])
    return mark + stream.getvalue()


class TestDialect:
    @pytest.mark.parametrize(
        ("content", "name", "said"),
        [
            (written().encode(), "t.csv", ""),
            (written(end="\r\n", quoting=csv.QUOTE_ALL).encode("utf-8-sig"), "t.csv", ""),
            (written("\t").encode(), "t.tsv", ""),
            (written("\t").encode(), "t.csv", "with a tab between its cells"),
            (written().encode(), "t.tsv", "with ',' between its cells"),
            (written(";", "\r\n").encode("cp1252"), "t.csv", "with ';' between its cells, as Windows-1252"),
            (written("|", "\r").encode(), "t.csv", "with '|' between its cells"),
            (written(";", "\r").encode("mac_roman"), "t.csv", "with ';' between its cells, as Mac Roman"),
            (written("\t", "\r\n").encode("utf-16"), "t.txt", "as UTF-16"),  # "Unicode text" of Excel
            (written("\t", mark="\ufeff").encode("utf-16-be"), "t.csv", "with a tab between its cells, as UTF-16"),
            (written().encode("utf-16-le"), "t.csv", "as UTF-16"),
            (written().encode("utf-32"), "t.csv", "as UTF-32"),
            (("sep=;\r\n" + written(";", "\r\n")).encode(), "t.csv", ""),
            (("\n\n" + written() + "\n , \n").encode(), "t.csv", ""),
            (written().replace("\n", ",\n").encode(), "t.csv", ""),
            (written().replace("\n", ",\n").replace("class,", "class").encode(), "t.csv", ""),
            (written().replace(",", ", ").encode(), "t.csv", ""),
            (written().replace("id,class", '"id\u00a0", " class "').encode(), "t.csv", ""),
            ("'id','class'\n'0.png','ant'\n'1.png','bee'\n'2.png','été'\n".encode(), "t.csv", "with ' as quotation"),
        ],
    )
    def test_what_other_programs_write_is_read(
        self, table: Callable[..., Dataset], content: bytes, name: str, said: str
    ) -> None:
        data = table(content, name)
        assert data.ids == NAMES
        assert data.labels.tolist() == KINDS
        assert ((said in data.notes[0]) and len(data.notes) == 1) if said else data.notes == ()

    def test_pandas_writes_an_index_and_quotes(self, table: Callable[..., Dataset]) -> None:
        frame = pd.DataFrame({"id": NAMES, "class": ["a, b", 'say "a"', "two\nlines"]})
        data = table(frame.to_csv())
        assert data.labels.tolist() == ["a, b", 'say "a"', "two\nlines"]
        assert set(data.columns) == {"id", "class"}

    def test_delimiters_within_cells_are_none(self, table: Callable[..., Dataset]) -> None:
        text = "id,tags\n0.png,a;b;c\n1.png,c;b;a\n2.png,a;b;d\n"
        assert table(text).columns["tags"].tolist() == ["a;b;c", "c;b;a", "a;b;d"]
        text = "id;width\n0.png;3,5\n1.png;2,5\n2.png;1,5\n"
        assert table(text).columns["width"].tolist() == ["3,5", "2,5", "1,5"]

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"PK\x03\x04" + bytes(60), "an Excel workbook"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Excel workbook"),
            (b"\x1f\x8b\x08", "compressed by gzip"),
            (b"\x89PNG\r\n\x1a\n", "a PNG image"),
            (b"PAR1abc", "a Parquet file"),
            (b"<!DOCTYPE html><html>", "a web page"),
            (b'[{"id": "0.png"}]', "JSON"),
            (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
            (b"id,class\n0.png,a\0b\n", "zero byte"),
            (b"id,class\n" + b"0.png,ant\n" * 900 + b"\0\0\0\n", "line 902, holds a zero byte"),
            (b"\xff\xfei\0d\0,\0c", "breaks off as UTF-16"),
            (b'id,class\n0.png,"ant\n1.png,bee\n', "line 2: a quotation mark is opened"),
            (b"id,class\n0.png,ant,x\n1.png,bee\n2.png,a,b\n", "line 2, has 3 cells, and the header 2 columns (1 more"),
            (b'id,class\n0.png,"a\nb\n"\n1.png\n', "line 5, has 1 cell, and the header 2"),
            (b"name class\n0.png ant\n", "white space between them"),
            (b'"id" "class"\n"1" "0.png" "ant"\n', "white space between them"),  # write.table of R
            (b"202599\nMale Young\n0.png -1  1\n", "white space between them"),  # CelebA
            (b"id:class\n0.png:ant\n", "a single column"),
            (b'"id,class"\n"0.png,ant"\n', "no quotation marks round whole lines"),
            (b"0.png\n1.png\n", "first line should name the columns, and names an image"),
            (b"Our ants,\nid,class\n0.png,ant\n", "in a later line; remove the lines before it"),
            (b"id;class\n1;0.png;ant\n2;1.png;bee\n", "should name every column, the one of row names too"),
            (b"# ours\nid,class\n0.png,ant\n", "should name every column"),
            (b"0.png,ant\n1.png,bee\n", "first line should name the columns, and names an image"),
            (b"id,class,id\n0.png,a,b\n", "columns 1 and 3 'id'"),
            (b"ID,Id,class\n0.png,0,a\n", "did you mean 'Id'"),
            (b"a" * (dialect.LINE_LIMIT + 5), "longer than 16777216 characters"),
        ],
    )  # fmt: skip
    def test_what_is_no_table_has_its_cause_named(
        self, table: Callable[..., Dataset], content: bytes, said: str
    ) -> None:
        assert said in refused(table, content)

    @pytest.mark.parametrize("name", ["t.xlsx", "t.csv.gz", "t.feather"])
    def test_tables_of_other_kinds_are_told_by_their_content(self, table: Callable[..., Dataset], name: str) -> None:
        content = {"t.xlsx": b"PK\x03\x04", "t.csv.gz": b"\x1f\x8b\x08", "t.feather": b"ARROW1\0\0"}[name]
        assert "is no data set but " in refused(table, content + bytes(100), name)

    def test_line_ends_within_a_name_are_spaces(self, table: Callable[..., Dataset]) -> None:
        assert table('id,"risk\r\nof edema"\n0.png,1\n', class_column="risk of edema").labels.tolist() == ["1"]
        assert "allowed: a b" in refused(table, '"a\nb",c\n1,2\n')

    def test_a_million_columns_are_refused_soon_and_in_little_memory(self, table: Callable[..., Dataset]) -> None:
        before = time.process_time()
        assert "1000001 columns" in refused(table, b"id" + b",a" * 1_000_000 + b"\n0.png\n")
        many = b",".join(b"%d" % number for number in range(300_000, 500_000))
        assert "no id column" in refused(table, many + b"\n" + many)
        assert time.process_time() - before < 15

    def test_a_column_that_is_there_twice_is_told_and_passed_over(self, table: Callable[..., Dataset]) -> None:
        data = table("id,age,age,class\n0.png,1,2,ant\n1.png,1,2,bee\n")
        assert set(data.columns) == {"id", "class"}
        assert "several columns named 'age'" in data.notes[0]

    def test_the_only_column_that_differs_by_case_or_spaces_is_read(self, table: Callable[..., Dataset]) -> None:
        data = table("ID,Class\n0.png,ant\n1.png,bee\n")
        assert data.ids == ("0.png", "1.png")
        assert data.labels.tolist() == ["ant", "bee"]
        assert data.notes[1].endswith("has no column 'class'; the column 'Class' is read in its place.")
        assert table("id,Kind Of\n0.png,ant\n", class_column="kindof").labels.tolist() == ["ant"]
        assert table("id,Class,class\n0.png,ant,bee\n").labels.tolist() == ["bee"]

    def test_of_several_such_columns_none_is_read(self, table: Callable[..., Dataset]) -> None:
        data = table("id,Class,CLASS\n0.png,ant,bee\n")
        assert data.labels is None
        assert "no column 'class', but 'Class' and 'CLASS': name one with `class_column`" in data.notes[0]

    def test_lists_in_the_class_column_are_noted(self, table: Callable[..., Dataset]) -> None:
        (note,) = table("id,class\n0.png,['ant']\n1.png,\"['ant', 'bee']\"\n").notes
        assert "holds lists such as ['ant']; each is a class of its own, unless `multilabel='class'`" in note

    @pytest.mark.parametrize("place", [0, -1])
    def test_the_class_of_pixels_without_a_header_is_first_or_last(
        self, table: Callable[..., Dataset], place: int
    ) -> None:
        digits = [[0, *range(1, 62), number, 0] for number in range(5)]  # the corners are black
        rows = [[7 - n, *row] if place == 0 else [*row, 7 - n] for n, row in enumerate(digits)]
        data = table("\n".join(",".join(map(str, row)) for row in rows))
        assert data.labels.tolist() == ["7", "6", "5", "4", "3"]
        assert [source.pixels.ravel()[62] for source in data.sources] == [0, 1, 2, 3, 4]
        assert f"the {'first' if place == 0 else 'last'} cell of a row is read as its class" in data.notes[0]

    def test_several_parts_that_a_name_may_mean_are_told(self, table: Callable[..., Dataset]) -> None:
        text = "id,Usage\n0.png,Training\n1.png,PublicTest\n2.png,PrivateTest\n"
        assert table(text, split="train").ids == ("0.png",)
        assert "name one of PublicTest, PrivateTest" in refused(table, text, split="test")


class TestFiles:
    @pytest.mark.parametrize(
        ("spelled", "said"),
        [
            ("{stem}", "without their extension (3)"),
            ("{STEM}", "without their extension (3)"),
            ("{stem}.PNG", "in another case of letters (3)"),
            (".\\{stem}.png", "with / in place of \\ (3)"),
            ("imgs/{stem}.png", "by the end of their path (3)"),
            ("data/imgs/{stem}", "by the end of their path (3)"),
            ("/home/ann/data/imgs/{stem}.png", "by the end of their path (3)"),
            ("C:\\data\\imgs\\{stem}.png", "by the end of their path (3)"),
            ("https://host.org/data/{stem}.png", "by the end of their path (3)"),
            ("https://host.org/a%20b/{stem}%2epng?width=9#top", "by the end of their path (3)"),
            ("./{stem}.png", ""),
            ("{folder}/{stem}.png", ""),
            ("sub/../{stem}.png", ""),
        ],
    )
    def test_the_file_that_is_meant_is_found_and_the_id_stays(
        self, table: Callable[..., Dataset], images: Path, spelled: str, said: str
    ) -> None:
        (images / "sub").mkdir()
        (images / "sub" / "other.png").touch()
        for name in ("a", "b", "c"):
            (images / f"img_{name}.png").touch()
        ids = [spelled.format(stem=f"img_{n}", STEM=f"IMG_{n.upper()}", folder=images) for n in "abc"]
        data = table("id,class\n" + "".join(f"{name},x\n" for name in ids))
        assert list(data.ids) == ids
        assert [source.path.resolve() for source in data.sources] == [images / f"img_{name}.png" for name in "abc"]
        assert (said in data.notes[0] and "3 of 3 ids" in data.notes[0]) if said else not data.notes

    def test_folders_in_between_count(self, table: Callable[..., Dataset], images: Path) -> None:
        for name in ("cats/0.png", "dogs/0.png", "dogs/7.png"):
            (images / name).parent.mkdir(exist_ok=True)
            (images / name).touch()
        data = table("id,class\n/x/imgs/cats/0.png,c\n/x/imgs/DOGS\\0.png,d\n0.png,e\n7,f\n")
        assert [str(source.path.relative_to(images)) for source in data.sources] == [
            "cats/0.png", "dogs/0.png", "0.png", "dogs/7.png",
        ]  # fmt: skip
        assert "in subfolders (1)" in data.notes[0]

    def test_a_file_of_another_folder_is_not_taken(self, table: Callable[..., Dataset], images: Path) -> None:
        (images / "dogs").mkdir()
        (images / "dogs" / "7.png").touch()
        said = refused(table, "id,class\ncats/7.png,c\n")
        assert "none of its 1 images" in said
        assert "dogs/7.png is there, in another folder" in said

    def test_another_part_of_the_data_is_not_taken(self, table: Callable[..., Dataset], images: Path) -> None:
        images.rename(images.with_name("train"))
        options = {"images": str(images.with_name("train"))}
        assert "none of its 3" in refused(table, "id\ntest/0.png\ntest/1.png\ntest/2.png\n", **options)
        assert len(table("id\ntrain/0.png\ntrain/1.png\n", **options)) == 2

    def test_sidecar_files_are_no_candidates_and_two_images_are_ambiguous(
        self, table: Callable[..., Dataset], images: Path
    ) -> None:
        (images / "0.json").touch()
        assert table("id\n0\n").sources[0].path.name == "0.png"
        (images / "0.jpg").touch()
        assert "'0' could be 0.jpg or 0.json or 0.png" in refused(table, "id\n0\n")
        assert table("id\n0.jpg\n").notes == ()

    def test_letters_that_are_composed_otherwise_are_the_same(
        self, table: Callable[..., Dataset], images: Path
    ) -> None:
        (images / "e\u0301te\u0301.png").touch()
        assert table("id\nété.png\n").sources[0].path.name == "e\u0301te\u0301.png"

    def test_an_exact_name_wins(self, table: Callable[..., Dataset], images: Path) -> None:
        for name in ("A.png", "a.png", "a"):
            (images / name).touch()
        data = table("id\na\na.png\nA.png\n")
        assert [source.path.name for source in data.sources] == ["a", "a.png", "A.png"]
        assert data.notes == ()

    def test_two_ids_of_one_file_are_told(self, table: Callable[..., Dataset]) -> None:
        assert "'cats/0.png' and 'dogs/0.png' would both be" in refused(table, "id\ncats/0.png\ndogs/0.png\n")

    def test_missing_files_are_counted_with_a_likely_cause(self, table: Callable[..., Dataset], images: Path) -> None:
        data = table("id\n0.png\n1.jpg\n2.jpg\n")
        with pytest.raises(BadImage, match=r"2 of 3 ids .* the first is '1\.jpg' \(1\.png is there, with another ext"):
            data.sources[1].load()
        _, unreadable = digests(data, FeatureCache(images.parent / "c").memo)
        assert [problem.reason for problem in unreadable[1:]] == [
            "no such file (1.png is there, with another extension)",
            "no such file",
        ]
        line = str(refusal(unreadable[1:]))
        assert line.count("2 of 3 ids") == 1
        assert "more like it" not in line
        assert "none of its 2 images" in refused(table, "id\nx.jpg\ny.jpg\n")
        assert "the folder holds no files" in refused(table, "id\nx.jpg\n", images=str(_new(table, "empty")))

    def test_zeros_that_a_table_has_lost_are_named(self, table: Callable[..., Dataset], images: Path) -> None:
        (images / "0042.png").touch()
        assert "0042.png is there: the table has lost the zeros" in refused(table, "id\n42\n")
        (images / "0.png").rename(images / "000.png")
        assert "000.png is there: the table has lost the zeros" in refused(table, "id\n0.0\n42.0\n")

    @pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", "out/x.png", "link.png", "link", "round/x.png"])
    def test_nothing_outside_is_ever_read(
        self, table: Callable[..., Dataset], images: Path, tmp_path: Path, name: str
    ) -> None:
        (tmp_path / "x.png").touch()
        (images / "link.png").symlink_to(tmp_path / "x.png")
        (images / "out").symlink_to(tmp_path, target_is_directory=True)
        (images / "round").symlink_to(images / "round")
        said = refused(table, f"id\n0.png\n{name}\n") if name != "round/x.png" else ""
        assert not said or "leads out of the image folder" in said
        if not said:
            with pytest.raises(BadImage, match="1 of 2 ids"):
                table(f"id\n0.png\n{name}\n").sources[1].load()

    def test_names_that_no_file_can_have_end_in_a_line(self, table: Callable[..., Dataset]) -> None:
        for name in ("a" * 5000, "a/" * 5000 + "b", "..." * 100, "con:", "~", "%00", "*", "\U0001f40c" * 90):
            with pytest.raises(BadImage, match="1 of 2 ids"):
                table(f"id\n0.png\n{name}\n").sources[1].load()

    def test_no_file_is_opened_and_a_fifo_does_not_hold_it_up(
        self, table: Callable[..., Dataset], images: Path
    ) -> None:
        os.mkfifo(images / "pipe.png")
        assert len(table("id\npipe.png\n0.png\npipe\n".replace("pipe\n", "1\n"))) == 3

    def test_many_ids_need_no_look_at_each_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ids = [f"{number % 50}/{number}" for number in range(20_000)]
        for folder in range(50):
            (tmp_path / str(folder)).mkdir()
        for name in ids[:2000]:
            (tmp_path / f"{name}.jpg").touch()
        calls = 0
        real = os.path.realpath

        def counted(*arguments: object, **options: object) -> str:
            nonlocal calls
            calls += 1
            return real(*arguments, **options)

        monkeypatch.setattr(os.path, "realpath", counted)
        paths, notes = files.find(tmp_path / "t.csv", [f"{name}.jpg" for name in ids[:2000]], tmp_path)
        assert len(paths) == 2000
        assert not notes
        assert calls < 100


class TestPages:
    def test_an_id_names_a_page_of_a_file(self, table: Callable[..., Dataset], images: Path) -> None:
        (images / "real#1.png").touch()
        data = table("id,class\n0.png#0,ant\n0.png#12,bee\n1#3,ant\nreal#1.png,bee\n")
        assert data.ids == ("0.png#0", "0.png#12", "1#3", "real#1.png")
        assert [(source.path.name, source.page) for source in data.sources] == [
            ("0.png", 0),
            ("0.png", 12),
            ("1.png", 3),
            ("real#1.png", None),
        ]
        assert data.notes == (
            f"1 of 4 ids in {images.parent / 't.csv'} name no file in {images} as they are; found without their "
            "extension (1), such as 1.png for '1#3'.",
        )

    def test_a_page_of_no_file_is_missing(self, table: Callable[..., Dataset]) -> None:
        data = table("id,class\n0.png,ant\nother.png#1,bee\n")
        with pytest.raises(BadImage, match=r"1 of 2 ids in .* name no file in .*, the first is 'other\.png#1'"):
            data.sources[1].load()

    def test_two_ids_of_one_page_are_told(self, table: Callable[..., Dataset]) -> None:
        with pytest.raises(BadData, match=r"'0\.png#1' and '0#1' would both be"):
            table("id,class\n0.png#1,ant\n0#1,bee\n")


def _new(table: Callable[..., Dataset], name: str) -> Path:
    folder = Path(table("id\n0.png\n").name).parent / name
    folder.mkdir()
    return folder


class TestLabels:
    def test_floats_that_are_numbers_of_classes(self, table: Callable[..., Dataset]) -> None:
        data = table("id,class\n0.png,3.0\n1.png,0.0\n2.png,3.0\n")
        assert data.labels.tolist() == ["3", "0", "3"]
        assert "3.0 is the class 3" in data.notes[0]
        assert table("id,class\n0.png,3.0\n1.png,0.5\n").labels.tolist() == ["3.0", "0.5"]

    def test_missing_labels_are_counted_by_how_they_are_written(self, table: Callable[..., Dataset]) -> None:
        said = refused(table, "id,class\n0.png,\n1.png,nan\n2.png,ant\n")
        assert "2 of 3 images have no label, the first is '0.png' in line 2 (empty 1, nan 1)" in said

    def test_what_may_be_a_missing_label_or_a_class_is_told(self, table: Callable[..., Dataset]) -> None:
        data = table("id,class\n0.png,None\n1.png,NA\n2.png,ant\n")
        assert data.labels.tolist() == ["None", "NA", "ant"]
        assert "holds 1 of 'NA', 1 of 'None', taken for a class" in data.notes[0]

    def test_an_empty_column_is_none(self, table: Callable[..., Dataset]) -> None:
        data = table("id,class\n0.png,\n1.png,\n")
        assert data.labels is None
        assert "is empty: its images have no labels" in data.notes[0]

    def test_classes_that_differ_in_the_case_of_letters_are_told(self, table: Callable[..., Dataset]) -> None:
        assert "'Ant' and 'ant'" in table("id,class\n0.png,ant\n1.png,Ant\n").notes[0]

    def test_rows_that_are_there_twice(self, table: Callable[..., Dataset]) -> None:
        data = table("id,class\n0.png,ant\n1.png,bee\n0.png,ant\n")
        assert data.ids == ("0.png", "1.png")
        assert "1 rows of" in data.notes[0]
        said = refused(table, "id,class,age\n0.png,ant,1\n1.png,bee,1\n0.png,ant,2\n")
        assert "in the column 'age' line 2 has '1', and line 4 '2'; keep one row for it." in said
        assert "for `multilabel`" in refused(table, "id,class\n0.png,ant\n0.png,bee\n")


class TestParts:
    TEXT = "id,class,Split\n0.png,ant,train\n1.png,bee,val\n2.png,ant,test\n"

    def test_one_part_is_read_or_all_are_and_it_is_said(self, table: Callable[..., Dataset]) -> None:
        assert table(self.TEXT, split="train").ids == ("0.png",)
        assert table(self.TEXT, split="validation").ids == ("1.png",)
        whole = table(self.TEXT)
        assert len(whole) == 3
        assert "parts in the column 'Split' (train 1, val 1, test 1) and all are read" in whole.notes[0]

    def test_the_parts_of_a_kit_are_its_files(self, table: Callable[..., Dataset], images: Path) -> None:
        images.rename(images.with_name("data"))
        kit = images.parent
        (kit / "problem.py").touch()
        (kit / "data" / "imgs").mkdir()
        for name, row in (("train", "0.png"), ("test", "1.png")):
            (kit / "data" / "imgs" / row).touch()
            (kit / "data" / f"{name}.csv").write_text(f"id,class\n{row},ant\n")
        assert [load(str(kit), split=split).ids for split in (None, "train", "testing")] == [
            ("0.png",), ("0.png",), ("1.png",),
        ]  # fmt: skip
        assert "allowed: train, test" in refused(lambda: load(str(kit), split="val"))

    def test_parts_that_are_not_there(self, table: Callable[..., Dataset]) -> None:
        assert "no part 'extra' in its column 'Split', which holds" in refused(table, self.TEXT, split="extra")
        assert "no column named split or set" in refused(table, "id\n0.png\n", split="train")
        file = table(self.TEXT).name
        assert "`value_range` goes with numbers in cells" in refused(lambda: load(file, value_range=(0, 1)))


class TestPixels:
    def pixels(self, count: int = 6, height: int = 28, width: int = 28, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (count, height, width), np.uint8)

    @pytest.mark.parametrize(
        "names",
        [
            [f"pixel{n}" for n in range(784)],
            [f"pixel{n}" for n in range(1, 785)],
            [f"pixel{n:04d}" for n in range(784)],
            [f"{row}x{column}" for row in range(1, 29) for column in range(1, 29)],
            [str(n) for n in range(784)],
        ],
        ids=lambda names: names[0],
    )
    @pytest.mark.parametrize("place", ["first", "last", "none"])
    def test_a_column_for_each_pixel(self, table: Callable[..., Dataset], names: list[str], place: str) -> None:
        pixels, classes = self.pixels(), [3, 1, 4, 1, 5, 9]
        frame = pd.DataFrame(pixels.reshape(6, -1), columns=names)
        if place != "none":
            frame.insert(0 if place == "first" else 784, "label", classes)
        data = table(frame.to_csv(index=False))
        assert data.ids == ("0", "1", "2", "3", "4", "5")
        for source, image in zip(data.sources, pixels, strict=True):
            np.testing.assert_array_equal(source.pixels, image)
            assert source.load()[0] == digest_array(image)
        assert (data.labels is None) if place == "none" else (data.labels.tolist() == list(map(str, classes)))
        assert "28 x 28 pixels" in data.notes[0]
        assert not set(data.columns) - {"label"}

    def test_ids_that_are_there_are_kept(self, table: Callable[..., Dataset]) -> None:
        frame = pd.DataFrame(self.pixels(2).reshape(2, -1)).add_prefix("pixel")
        frame.insert(0, "id", ["x", "y"])
        frame["class"] = ["ant", "bee"]
        data = table(frame.to_csv(index=False))
        assert data.ids == ("x", "y")
        assert data.labels.tolist() == ["ant", "bee"]
        frame["id"] = "x"
        assert "has the id 'x' in lines 2 and 3" in refused(table, frame.to_csv(index=False))

    def test_columns_in_another_order_and_an_image_that_is_not_square(self, table: Callable[..., Dataset]) -> None:
        pixels = self.pixels(3, 5, 7)
        names = [f"{row}x{column}" for row in range(5) for column in range(7)]
        frame = pd.DataFrame(pixels.reshape(3, -1), columns=names)[sorted(names, reverse=True)]
        data = table(frame.to_csv(index=False))
        np.testing.assert_array_equal(data.sources[2].pixels, pixels[2])

    @pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    def test_without_a_header_the_class_comes_first(self, table: Callable[..., Dataset], quoting: int) -> None:
        pixels = self.pixels(3)
        frame = pd.DataFrame(pixels.reshape(3, -1))
        frame.insert(0, "label", [7, 0, 7])
        data = table(frame.to_csv(index=False, header=False, quoting=quoting))
        assert data.labels.tolist() == ["7", "0", "7"]
        assert len(data) == 3
        np.testing.assert_array_equal(data.sources[0].pixels, pixels[0])
        assert "no header" in data.notes[0]
        alone = pd.DataFrame(pixels.reshape(3, -1)).to_csv(index=False, header=False)
        assert table(alone).labels is None

    def test_a_class_among_numbered_columns_is_named(self, table: Callable[..., Dataset]) -> None:
        pixels = self.pixels(2)
        for place, name in ((0, "0"), (784, "784")):
            cells = np.insert(pixels.reshape(2, -1).astype(int), place, [8, 9], axis=1)
            text = pd.DataFrame(cells).to_csv(index=False)
            data = table(text, class_column=name)
            assert data.labels.tolist() == ["8", "9"]
            np.testing.assert_array_equal(data.sources[1].pixels, pixels[1])
            assert "785 pixels in each row" in refused(table, text)

    def test_lists_of_pixels_as_in_fer2013(self, table: Callable[..., Dataset]) -> None:
        pixels = self.pixels(3, 48, 48)
        lists = [" ".join(map(str, image.ravel())) for image in pixels]
        frame = pd.DataFrame(
            {"emotion": [0, 3, 3], "pixels": lists, "Usage": ["Training", "PublicTest", "PrivateTest"]}
        )
        data = table(frame.to_csv(index=False))
        np.testing.assert_array_equal(data.sources[1].pixels, pixels[1])
        assert data.labels.tolist() == ["0", "3", "3"]
        assert any("'emotion' of" in note for note in data.notes)
        part = table(frame.to_csv(index=False), split="PublicTest")
        assert (part.ids, part.labels.tolist()) == (("1",), ["3"])
        np.testing.assert_array_equal(part.sources[0].pixels, pixels[1])
        frame.loc[2, "pixels"] = "1 2 3"
        assert "line 4, lists 3 pixels, and the first row 2304" in refused(table, frame.to_csv(index=False))

    @pytest.mark.parametrize("first", [False, True])
    def test_rgb_of_either_order_is_told_by_the_pixels(self, table: Callable[..., Dataset], first: bool) -> None:
        grid = np.mgrid[:16, :16].sum(0) * 4
        images = np.stack([np.stack([grid, 255 - grid, grid // 3 + 90], -1)] * 3).astype(np.uint8)
        flat = (images.transpose(0, 3, 1, 2) if first else images).reshape(3, -1)
        data = table(pd.DataFrame(flat).add_prefix("pixel").to_csv(index=False))
        np.testing.assert_array_equal(data.sources[0].pixels, images[0])
        assert "16 x 16 pixels in RGB" in data.notes[0]
        noise = pd.DataFrame(self.pixels(3, 16, 48).reshape(3, -1)).add_prefix("pixel")
        assert "nothing tells" in refused(table, noise.to_csv(index=False))

    @pytest.mark.parametrize("cell", ["256", "-1", "0.5", "x", "", "nan", "1e9"])
    def test_what_is_no_pixel_is_named(self, table: Callable[..., Dataset], cell: str) -> None:
        text = ",".join(f"pixel{n}" for n in range(16)) + "\n" + ("7," * 16)[:-1] + "\n" + "7," * 5 + cell + ",7" * 10
        said = refused(table, text)
        assert "line 3, column 'pixel5' is" in said
        assert "a whole number from 0 (black) to 255" in said

    def test_floats_and_other_ranges(self, table: Callable[..., Dataset]) -> None:
        pixels = self.pixels(2, 4, 4)
        frame = pd.DataFrame(pixels.reshape(2, -1)).add_prefix("pixel")
        np.testing.assert_array_equal(table(frame.astype(float).to_csv(index=False)).sources[1].pixels, pixels[1])
        shares = (frame / 255).to_csv(index=False)
        file = Path(table(frame.to_csv(index=False)).name)
        file.write_text(shares)
        assert "`value_range=(0, 1)`" in refused(lambda: load(str(file)))
        np.testing.assert_array_equal(load(str(file), value_range=(0, 1)).sources[0].pixels, pixels[0])
        dark = table((frame // 16).to_csv(index=False))
        assert "none of them above 15 (add `value_range=(0, 15)`" in dark.notes[0]

    def test_pixels_of_no_square_image(self, table: Callable[..., Dataset]) -> None:
        assert "20 pixels in each row" in refused(
            table, pd.DataFrame([[1] * 20]).add_prefix("pixel").to_csv(index=False)
        )

    def test_numbers_about_images_are_no_pixels(self, table: Callable[..., Dataset]) -> None:
        for prefix in ("f", "p", ""):
            frame = pd.DataFrame(np.ones((3, 16), int)).add_prefix(prefix)
            frame.insert(0, "id", NAMES)
            frame["pixels"] = [640, 800, 1200]
            data = table(frame.to_csv(index=False))
            assert data.ids == NAMES
            assert data.sources[0].path.name == "0.png"
            assert data.notes == ()

    def test_mnist_is_read_in_seconds_and_little_memory(self, images: Path) -> None:
        rows = [",".join(map(str, row)) for row in self.pixels(200).reshape(200, -1)]
        text = "\n".join(f"{n % 10},{row}" for n, row in enumerate(rows * 20))
        file = images.parent / "mnist.csv"
        file.write_text("label," + ",".join(f"pixel{n}" for n in range(784)) + "\n" + text)
        before, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert len(load(str(file))) == 4000
        assert time.process_time() - before < 15
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 200_000  # KiB
