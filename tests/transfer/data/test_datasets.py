"""Data sets: which images they hold, under which ids and labels, and what is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from feature_cache.errors import BadData, InvalidChoice
from feature_cache.files.digest_memo import DigestMemo
from transfer.data import datasets
from transfer.data.images import FileSource, to_pixels

WriteImage = Callable[..., Path]


@pytest.fixture
def memo(tmp_path: Path) -> DigestMemo:
    return DigestMemo(tmp_path / "cache" / "digests.sqlite")


def settle(folder: Path) -> None:
    """Make every file below `folder` old enough for its time stamp to be trusted."""
    for file in folder.rglob("*"):
        if file.is_file():
            os.utime(file, (1_000_000_000, 1_000_000_000))


class TestDigits:
    def test_digits_are_1797_images_of_ten_classes(self) -> None:
        dataset = datasets.load("digits")
        assert len(dataset) == len(set(dataset.ids)) == 1797
        assert sorted(set(dataset.labels)) == list("0123456789")

    def test_digits_are_gray_and_use_the_whole_range(self) -> None:
        sources = datasets.load("digits").sources[:50]
        pixels = np.stack([to_pixels(source.load()[1], (8, 8)) for source in sources])
        assert pixels.shape == (50, 8, 8, 1)
        assert pixels.dtype == np.uint8
        assert (pixels.min(), pixels.max()) == (0, 255)

    def test_digits_are_those_of_scikit_learn(self) -> None:
        from sklearn.datasets import load_digits

        dataset, bunch = datasets.load("digits"), load_digits()
        pixels = np.stack([to_pixels(source.load()[1], (8, 8))[..., 0] for source in dataset.sources])
        assert np.array_equal(pixels, np.rint(bunch.images * (255 / 16)))
        assert dataset.labels.tolist() == bunch.target.astype(str).tolist()

    def test_digits_are_found_where_scikit_learn_keeps_their_file_elsewhere(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = datasets.load("digits")
        monkeypatch.setattr(datasets, "find_spec", lambda name: None)
        after = datasets.load("digits")
        assert np.array_equal(after.labels, before.labels)
        pixels = [to_pixels(each.sources[7].load()[1], (8, 8)) for each in (before, after)]
        assert np.array_equal(*pixels)


class TestFolders:
    def test_subfolders_are_classes(self, class_folder: Path) -> None:
        dataset = datasets.load(str(class_folder))
        assert dataset.ids == ("a/0.png", "a/2.png", "a/4.png", "a/6.png", "b/1.png", "b/3.png", "b/5.png", "b/7.png")
        assert dataset.labels.tolist() == ["a"] * 4 + ["b"] * 4

    def test_files_further_down_belong_to_the_class_above(self, tmp_path: Path, write_image: WriteImage) -> None:
        write_image(tmp_path / "cat" / "2019" / "may" / "1.png", 1)
        write_image(tmp_path / "dog" / "2.png", 2)
        dataset = datasets.load(str(tmp_path))
        assert dict(zip(dataset.ids, dataset.labels, strict=True)) == {"cat/2019/may/1.png": "cat", "dog/2.png": "dog"}

    def test_flat_folder_has_no_labels(self, tmp_path: Path, write_image: WriteImage) -> None:
        write_image(tmp_path / "2.png", 2)
        write_image(tmp_path / "1.png", 1)
        dataset = datasets.load(str(tmp_path))
        assert dataset.ids == ("1.png", "2.png")
        assert dataset.labels is None

    def test_hidden_files_and_litter_are_ignored(self, class_folder: Path) -> None:
        before = datasets.load(str(class_folder)).ids
        (class_folder / ".DS_Store").write_bytes(b"x")
        (class_folder / "a" / "Thumbs.db").write_bytes(b"x")
        (class_folder / "a" / ".hidden.png").write_bytes(b"x")
        (class_folder / "desktop.ini").write_text("x")
        (class_folder / "__MACOSX").mkdir()
        (class_folder / "__MACOSX" / "1.png").write_bytes(b"x")
        (class_folder / ".git").mkdir()
        (class_folder / ".git" / "HEAD").write_text("x")
        assert datasets.load(str(class_folder)).ids == before

    def test_a_text_file_beside_class_folders_is_no_image(self, class_folder: Path) -> None:
        (class_folder / "README.txt").write_text("about these images")
        assert len(datasets.load(str(class_folder))) == 8

    def test_loose_images_beside_class_folders_are_refused(self, class_folder: Path, write_image: WriteImage) -> None:
        write_image(class_folder / "loose.png", 9)
        with pytest.raises(BadData, match=r"both class folders and loose images \(loose\.png, 1 in all\)"):
            datasets.load(str(class_folder))

    def test_a_link_to_the_folder_above_does_not_go_round(self, class_folder: Path) -> None:
        before = datasets.load(str(class_folder))
        (class_folder / "a" / "round").symlink_to(class_folder, target_is_directory=True)
        assert datasets.load(str(class_folder)).ids == before.ids

    def test_a_link_to_the_data_set_itself_is_no_class(self, class_folder: Path) -> None:
        (class_folder / "round").symlink_to(class_folder, target_is_directory=True)
        dataset = datasets.load(str(class_folder))
        assert sorted(set(dataset.labels)) == ["a", "b"]

    def test_a_class_folder_may_be_a_link_to_elsewhere(
        self, class_folder: Path, tmp_path: Path, write_image: WriteImage
    ) -> None:
        write_image(tmp_path / "elsewhere" / "9.png", 9)
        (class_folder / "c").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        dataset = datasets.load(str(class_folder))
        assert dataset.ids[-1] == "c/9.png"
        assert dataset.labels[-1] == "c"

    def test_a_link_that_leads_nowhere_is_not_passed_over_in_silence(
        self, class_folder: Path, memo: DigestMemo
    ) -> None:
        (class_folder / "a" / "lost.png").symlink_to(class_folder / "not there.png")
        dataset = datasets.load(str(class_folder))
        assert "a/lost.png" in dataset.ids
        _, unreadable = datasets.digests(dataset, memo)
        assert [problem.id for problem in unreadable] == ["a/lost.png"]

    def test_empty_folder_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "nothing").mkdir()
        with pytest.raises(BadData, match=r"the folder .*nothing holds no files; put images in it"):
            datasets.load(str(tmp_path / "nothing"))

    def test_empty_class_folders_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "cat").mkdir()
        (tmp_path / "dog").mkdir()
        with pytest.raises(BadData, match="holds no files"):
            datasets.load(str(tmp_path))

    def test_names_with_spaces_and_accents_are_ids(self, tmp_path: Path, write_image: WriteImage) -> None:
        for name in ("a cat/été 1.png", "ein Hund/日本 2.png"):
            write_image(tmp_path / name, len(name))
        dataset = datasets.load(str(tmp_path))
        assert dataset.ids == ("a cat/été 1.png", "ein Hund/日本 2.png")
        assert dataset.labels.tolist() == ["a cat", "ein Hund"]

    def test_one_image_file_is_a_data_set(self, tmp_path: Path, write_image: WriteImage) -> None:
        file = write_image(tmp_path / "one.png", 1)
        assert datasets.load(str(file)).ids == (str(file),)

    def test_a_name_that_is_nothing_suggests_the_nearest(self) -> None:
        with pytest.raises(InvalidChoice, match=r"no data set, folder or file 'digit'; did you mean 'digits'\?"):
            datasets.load("digit")


@pytest.fixture
def kit(tmp_path: Path, write_image: WriteImage) -> Path:
    """A CSV file with its images in imgs/ beside it."""
    for number in range(3):
        write_image(tmp_path / "kit" / "imgs" / f"{number}.png", number)
    (tmp_path / "kit" / "train.csv").write_text("id,class\n2.png,bee\n0.png,ant\n1.png,bee\n")
    return tmp_path / "kit"


class TestCsv:
    def test_images_are_found_in_imgs_beside_it_in_the_order_of_the_rows(self, kit: Path) -> None:
        dataset = datasets.load(str(kit / "train.csv"))
        assert dataset.ids == ("2.png", "0.png", "1.png")
        assert dataset.labels.tolist() == ["bee", "ant", "bee"]
        assert dataset.sources[0].path == kit / "imgs" / "2.png"

    def test_images_are_found_beside_it(self, kit: Path) -> None:
        shutil.move(kit / "train.csv", kit / "imgs" / "train.csv")
        dataset = datasets.load(str(kit / "imgs" / "train.csv"))
        assert all(source.path.is_file() for source in dataset.sources)

    def test_images_are_found_in_the_folder_that_is_named(self, kit: Path, tmp_path: Path) -> None:
        shutil.move(kit / "imgs", tmp_path / "pictures")
        dataset = datasets.load(str(kit / "train.csv"), images=str(tmp_path / "pictures"))
        assert all(source.path.is_file() for source in dataset.sources)

    def test_missing_image_folder_is_refused(self, kit: Path) -> None:
        with pytest.raises(InvalidChoice, match=r"no image folder .*pics; name the one of train\.csv with `images`"):
            datasets.load(str(kit / "train.csv"), images=str(kit / "pics"))

    def test_without_class_column_there_are_no_labels(self, kit: Path) -> None:
        (kit / "test.csv").write_text("id\n0.png\n")
        assert datasets.load(str(kit / "test.csv")).labels is None

    def test_unknown_class_column_suggests_the_nearest(self, kit: Path) -> None:
        (kit / "train.csv").write_text("id,species\n0.png,ant\n")
        with pytest.raises(InvalidChoice, match=r"has no class column 'specie'; did you mean 'species'\?"):
            datasets.load(str(kit / "train.csv"), class_column="specie")
        assert datasets.load(str(kit / "train.csv"), class_column="species").labels.tolist() == ["ant"]

    def test_missing_id_column_lists_the_columns(self, kit: Path) -> None:
        (kit / "train.csv").write_text("file,class\n0.png,ant\n")
        with pytest.raises(InvalidChoice, match=r"has no id column 'id'; allowed: file, class\. Name it with `id_col"):
            datasets.load(str(kit / "train.csv"))
        assert datasets.load(str(kit / "train.csv"), id_column="file").ids == ("0.png",)

    def test_byte_order_mark_is_no_part_of_the_first_column(self, kit: Path) -> None:
        (kit / "train.csv").write_text("id,class\n0.png,ant\n", encoding="utf-8-sig")
        assert datasets.load(str(kit / "train.csv")).ids == ("0.png",)

    def test_tabs_separate_in_a_tsv_file(self, kit: Path) -> None:
        (kit / "train.tsv").write_text("id\tclass\n0.png\tan ant, red\n")
        assert datasets.load(str(kit / "train.tsv")).labels.tolist() == ["an ant, red"]

    def test_quotes_line_ends_and_accents(self, kit: Path, write_image: WriteImage) -> None:
        write_image(kit / "imgs" / "été, 1.png", 5)
        (kit / "train.csv").write_bytes('id,class\r\n"été, 1.png",fourmi\r\n\r\n0.png,abeille\r\n'.encode())
        dataset = datasets.load(str(kit / "train.csv"))
        assert dataset.ids == ("été, 1.png", "0.png")
        assert dataset.labels.tolist() == ["fourmi", "abeille"]

    def test_missing_labels_are_counted_and_the_first_is_named(self, kit: Path) -> None:
        (kit / "train.csv").write_text("id,class\n0.png,ant\n1.png,\n2.png,\n")
        with pytest.raises(BadData, match=r"2 of 3 images have no label, the first is '1\.png' in line 3 \(empty 2\)"):
            datasets.load(str(kit / "train.csv"))

    def test_duplicate_id_is_refused(self, kit: Path) -> None:
        (kit / "train.csv").write_text("id,class\n0.png,ant\n1.png,bee\n0.png,bee\n")
        with pytest.raises(
            BadData, match=r"names the image '0\.png' twice: in the column 'class' line 2 has 'ant', and line 4 'bee'"
        ):
            datasets.load(str(kit / "train.csv"))

    def test_empty_id_is_refused_with_its_line(self, kit: Path) -> None:
        (kit / "train.csv").write_text("id,class\n0.png,ant\n,bee\n")
        with pytest.raises(BadData, match="line 3: the id is empty"):
            datasets.load(str(kit / "train.csv"))

    @pytest.mark.parametrize("text", ["", "id,class\n", "id,class\n\n,\n"])
    def test_csv_without_rows_is_refused(self, kit: Path, text: str) -> None:
        (kit / "train.csv").write_text(text)
        with pytest.raises(BadData, match="has no rows"):
            datasets.load(str(kit / "train.csv"))

    @pytest.mark.parametrize(
        "name", ["../secret.png", "sub/../../secret.png", "{absolute}", "link.png", "linked/s.png"]
    )
    def test_a_path_that_leads_out_of_the_image_folder_is_refused(
        self, kit: Path, tmp_path: Path, write_image: WriteImage, name: str
    ) -> None:
        secret = write_image(kit / "secret.png", 7)
        write_image(tmp_path / "outside" / "s.png", 7)
        (kit / "imgs" / "link.png").symlink_to(secret)
        (kit / "imgs" / "linked").symlink_to(tmp_path / "outside", target_is_directory=True)
        (kit / "train.csv").write_text(f"id,class\n0.png,ant\n{name.format(absolute=secret)},bee\n")
        with pytest.raises(BadData, match="leads out of the image folder .* refused"):
            datasets.load(str(kit / "train.csv"))

    def test_a_path_within_the_image_folder_is_allowed(self, kit: Path, write_image: WriteImage) -> None:
        write_image(kit / "imgs" / "sub" / "3.png", 3)
        (kit / "imgs" / "alias.png").symlink_to(kit / "imgs" / "0.png")
        (kit / "train.csv").write_text("id,class\nsub/3.png,ant\nalias.png,bee\nsub/../1.png,bee\n")
        assert len(datasets.load(str(kit / "train.csv"))) == 3

    def test_image_folder_that_is_itself_a_link_is_allowed(self, kit: Path, tmp_path: Path) -> None:
        shutil.move(kit / "imgs", tmp_path / "pictures")
        (kit / "imgs").symlink_to(tmp_path / "pictures", target_is_directory=True)
        assert len(datasets.load(str(kit / "train.csv"))) == 3


class TestLabels:
    def test_labels_are_required_and_the_message_says_how(self, tmp_path: Path, write_image: WriteImage) -> None:
        write_image(tmp_path / "1.png", 1)
        with pytest.raises(BadData, match="has no labels; use a folder with a subfolder per class, or a CSV"):
            datasets.require_labels(datasets.load(str(tmp_path)))

    def test_a_single_class_is_refused(self, tmp_path: Path, write_image: WriteImage) -> None:
        write_image(tmp_path / "cat" / "1.png", 1)
        with pytest.raises(BadData, match="has a single class, 'cat'; a head needs at least two"):
            datasets.require_labels(datasets.load(str(tmp_path)))

    def test_two_classes_will_do(self, class_folder: Path) -> None:
        assert datasets.require_labels(datasets.load(str(class_folder))).tolist() == ["a"] * 4 + ["b"] * 4

    def test_selection_keeps_ids_sources_and_labels_together(self, class_folder: Path) -> None:
        dataset = datasets.load(str(class_folder))
        by_position = dataset.select(np.array([5, 0]))
        assert by_position.ids == (dataset.ids[5], dataset.ids[0])
        assert by_position.sources == (dataset.sources[5], dataset.sources[0])
        assert by_position.labels.tolist() == ["b", "a"]
        assert dataset.select(np.arange(8) >= 6).ids == dataset.ids[6:]


class TestDigests:
    def test_copies_under_other_names_have_equal_digests(self, class_folder: Path, memo: DigestMemo) -> None:
        shutil.copy(class_folder / "a" / "0.png", class_folder / "b" / "copy.jpeg")
        dataset = datasets.load(str(class_folder))
        digests, unreadable = datasets.digests(dataset, memo)
        assert not unreadable
        assert digests.shape == (9, 16)
        _, contents = np.unique(digests, axis=0, return_inverse=True)
        same = contents == contents[dataset.ids.index("a/0.png")]
        assert [dataset.ids[position] for position in np.flatnonzero(same)] == ["a/0.png", "b/copy.jpeg"]

    def test_the_unreadable_are_reported_with_the_reason(self, class_folder: Path, memo: DigestMemo) -> None:
        (class_folder / "a" / "2.png").write_text("no image")
        (class_folder / "b" / "3.png").write_bytes(b"")
        dataset = datasets.load(str(class_folder))
        (class_folder / "b" / "7.png").unlink()
        digests, unreadable = datasets.digests(dataset, memo)
        reasons = {problem.id: problem.reason for problem in unreadable}
        assert reasons == {  # beside the id, which names the file
            "a/2.png": "not an image that can be read (not a known image format)",
            "b/3.png": "empty (0 bytes)",
            "b/7.png": "No such file or directory",
        }
        assert all(str(class_folder / problem.id) in problem.message for problem in unreadable)
        assert [name for name, digest in zip(dataset.ids, digests, strict=True) if not digest.any()] == sorted(reasons)

    def test_the_second_look_reads_nothing(
        self, class_folder: Path, memo: DigestMemo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("feature_cache.files.digest_memo.RACY_NANOSECONDS", 0)
        dataset = datasets.load(str(class_folder))
        first, _ = datasets.digests(dataset, memo)
        monkeypatch.setattr(FileSource, "load", lambda source: pytest.fail(f"{source} was read again"))
        second, unreadable = datasets.digests(dataset, memo)
        np.testing.assert_array_equal(first, second)
        assert not unreadable

    def test_files_that_were_swapped_are_read_again(
        self, class_folder: Path, memo: DigestMemo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("feature_cache.files.digest_memo.RACY_NANOSECONDS", 0)
        one, other = sorted((class_folder / "a").iterdir())[:2]
        size = max(one.stat().st_size, other.stat().st_size)
        for file in (one, other):  # the same size and modification time, as from an archive
            file.write_bytes(file.read_bytes().ljust(size, b"\0"))
            os.utime(file, (10**9, 10**9))
        dataset = datasets.load(str(class_folder))
        before, _ = datasets.digests(dataset, memo)
        one.rename(class_folder / "a" / "aside")
        other.rename(one)
        (class_folder / "a" / "aside").rename(other)
        after, _ = datasets.digests(dataset, memo)
        first, second = dataset.ids.index(f"a/{one.name}"), dataset.ids.index(f"a/{other.name}")
        assert (before[first] != before[second]).any()
        np.testing.assert_array_equal(after[[first, second]], before[[second, first]])

    def test_a_file_that_changed_is_read_again(
        self, class_folder: Path, memo: DigestMemo, write_image: WriteImage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("feature_cache.files.digest_memo.RACY_NANOSECONDS", 0)
        dataset = datasets.load(str(class_folder))
        before, _ = datasets.digests(dataset, memo)
        write_image(class_folder / "a" / "2.png", 99)
        after, _ = datasets.digests(dataset, memo)
        assert np.flatnonzero((before != after).any(1)).tolist() == [dataset.ids.index("a/2.png")]

    def test_a_file_that_was_just_written_is_not_trusted(
        self, class_folder: Path, memo: DigestMemo, write_image: WriteImage
    ) -> None:
        file = class_folder / "a" / "2.png"
        dataset = datasets.load(str(class_folder))
        before, _ = datasets.digests(dataset, memo)
        status, size = file.stat(), file.stat().st_size
        changed = bytearray(file.read_bytes())
        changed[-20] ^= 255  # same length, and the clock of the file system did not move on
        file.write_bytes(changed)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert file.stat().st_size == size
        after, _ = datasets.digests(dataset, memo)
        assert np.flatnonzero((before != after).any(1)).tolist() == [dataset.ids.index("a/2.png")]
