"""Folders: what is an image, a class, a split or litter, and which links are followed."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from feature_cache.errors import BadData, InvalidChoice
from feature_cache.files.digest_memo import DigestMemo
from transfer.data import datasets
from transfer.data.folders import walk

WriteImage = Callable[..., Path]


def put(root: Path, *names: str) -> Path:
    """Files of these names, which are not images: a name that says image is believed until it is decoded."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\x89PNG")
    return root


def classes(dataset: datasets.Dataset) -> dict[str, int]:
    return dict(Counter(dataset.labels.tolist()))


def several(folder: str, *names: str) -> tuple[str, ...]:
    """Two images in each of some folders below `folder`."""
    return tuple(f"{folder}/{name}/{number}.png" for name in names for number in range(2))


class TestSplits:
    @pytest.mark.parametrize(
        ("names", "example"),
        [
            ((*several("train", "cat", "dog"), *several("val", "cat", "dog"), *several("test", "cat", "dog")), "train"),
            ((*several("train", "cat", "dog"), *several("validation", "cat", "dog"), "test/1.png"), "train"),
            ((*several("train", "ant", "bee", "fly"), *several("valid", "ant", "bee")), "train"),
            ((*several("Training", "cat", "dog"), *several("TESTING", "fox")), "Training"),
            ((*several("dev", "cat"), *several("test", "cat")), "dev"),
            (("train/1.png", "test/2.png", "annotations/1.xml"), "train"),
            ((*several("chest/train", "n", "p"), *several("train", "n", "p"), *several("val", "n", "p")), "train"),
            ((*several("chest/train", "n", "p"), *several("chest/test", "n", "p")), "train"),
            ((*several("training_set", "cat", "dog"), *several("test_set", "cat", "dog")), "training_set"),
            ((*several("train2017", "cat"), *several("val2017", "cat")), "train2017"),
            (("train/cat.1.png", "test1/1.png"), "train"),
            ((*several("seg_train/seg_train", "sea", "ice"), *several("seg_test/seg_test", "sea")), "seg_train"),
            ((*several("train", "cat", "dog"), "unlabeled/1.png"), "train"),
            (several("train", "cat", "dog"), "train"),
            ((*several("train", "cat", "dog"), "images/1.png"), "train"),
            ((*several("fold_1", "cat", "dog"), *several("fold_2", "cat", "dog")), "fold_1"),
            (("images/train/1.png", "images/val/2.png", "labels/train/1.txt", "labels/val/2.txt"), "train"),
            ((*several("cat", "train", "test"), *several("dog", "train", "test")), "train"),
            ((*several("data/archive/chest/train", "n", "p"), *several("data/archive/chest/test", "n")), "train"),
        ],
    )
    def test_splits_are_no_classes_and_the_message_names_one(
        self, tmp_path: Path, names: tuple[str, ...], example: str
    ) -> None:
        put(tmp_path, *names)
        with pytest.raises(BadData, match=rf"(divided into splits|holds the split) .*`split='{example}'`") as caught:
            datasets.load(str(tmp_path))
        assert "\n" not in str(caught.value)
        assert len(datasets.load(str(tmp_path), split=example)) > 0

    @pytest.mark.parametrize(
        "names",
        [
            (*several("train", "2023"), *several("bus", "2023"), "car/1.png"),
            ("train/1.png", "bus/1.png"),
            ("test/1.png", "control/1.png"),
            ("test1/1.png", "test2/1.png", "test3/1.png"),
            ("training/1.png", "rest/1.png"),
            ("train station/1.png", "test tube/1.png"),
            ("trained/1.png", "tested/1.png", "valley/1.png"),
        ],
    )
    def test_classes_that_are_called_like_splits_are_classes(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        dataset = datasets.load(str(put(tmp_path, *names)))
        assert dataset.labels.tolist() == [name.split("/")[0] for name in sorted(names)]
        with pytest.raises(InvalidChoice, match=r"there is no split 'train': the folders of .* are classes \("):
            datasets.load(str(tmp_path), split="train")

    @pytest.mark.parametrize("split", ["val", "valid", "Validation", "dev"])
    def test_a_split_may_be_named_by_a_synonym(self, tmp_path: Path, split: str) -> None:
        put(tmp_path, *several("train", "cat", "dog"), *several("validation", "cat"), "test/1.png")
        dataset = datasets.load(str(tmp_path), split=split)
        assert dataset.ids == ("cat/0.png", "cat/1.png")
        assert dataset.name == str(tmp_path / "validation")
        assert dataset.sources[0].path == tmp_path / "validation" / "cat" / "0.png"

    def test_a_split_without_class_folders_has_no_labels(self, tmp_path: Path) -> None:
        put(tmp_path, *several("train", "cat", "dog"), "test/1.png", "test/2.png")
        dataset = datasets.load(str(tmp_path), split="test")
        assert (dataset.ids, dataset.labels) == (("1.png", "2.png"), None)

    def test_a_split_that_is_not_there_is_refused_with_those_that_are(self, tmp_path: Path) -> None:
        put(tmp_path, *several("train", "cat"), *several("val", "cat"))
        with pytest.raises(InvalidChoice, match=r"has no split 'test'; allowed: train, val\."):
            datasets.load(str(tmp_path), split="test")

    def test_a_name_that_may_mean_two_splits_is_refused_but_exact_names_are_not(self, tmp_path: Path) -> None:
        put(tmp_path, *several("dev", "cat"), *several("val", "dog"), *several("train", "cat"))
        with pytest.raises(InvalidChoice, match="several splits that 'valid' may mean; name one of dev, val"):
            datasets.load(str(tmp_path), split="valid")
        assert classes(datasets.load(str(tmp_path), split="val")) == {"dog": 2}

    def test_an_archive_that_holds_itself_is_read_once(self, tmp_path: Path) -> None:
        put(tmp_path, *several("seg_train/seg_train", "sea", "ice"), *several("seg_test/seg_test", "sea"))
        assert classes(datasets.load(str(tmp_path), split="train")) == {"ice": 2, "sea": 2}
        put(tmp_path / "chest", *several("train", "n"), *several("test", "n"), *several("chest/train", "n", "p"))
        assert datasets.load(str(tmp_path / "chest"), split="train").ids == ("n/0.png", "n/1.png")

    def test_splits_below_the_classes_are_chosen_by_name(self, tmp_path: Path) -> None:
        put(tmp_path, *several("cat", "train", "test"), *several("dog", "train", "test"), *several("fox", "train"))
        dataset = datasets.load(str(tmp_path), split="testing")
        assert classes(dataset) == {"cat": 2, "dog": 2}
        assert dataset.ids[0] == "cat/test/0.png"
        assert dataset.empty_classes == ("fox",)

    @pytest.mark.parametrize(
        "names",
        [
            (*several("cat", "train", "test"), "dog/1.png"),
            (*several("web/train", "cat", "dog"), *several("web/test", "cat"), *several("studio/train", "cat", "dog")),
            (*several("cat/canon", "train", "test"), *several("dog/canon", "train", "test")),
        ],
    )
    @pytest.mark.parametrize("split", [None, "train"])
    def test_splits_deeper_than_that_are_never_mixed(
        self, tmp_path: Path, names: tuple[str, ...], split: str | None
    ) -> None:
        with pytest.raises(BadData, match=r"is divided into splits \(train, test\), .*give one of them, for instance"):
            datasets.load(str(put(tmp_path, *names)), split=split)

    def test_folders_below_the_classes_are_no_splits_and_that_is_noted(self, tmp_path: Path) -> None:
        put(tmp_path, *several("cats", "2023", "2024"), *several("dogs", "2023", "2024"))
        dataset = datasets.load(str(tmp_path))
        assert classes(dataset) == {"cats": 4, "dogs": 4}
        assert dataset.ids[0] == "cats/2023/0.png"
        (note,) = dataset.notes
        assert "each class" in note
        assert "(2023, 2024), which are read as parts of their class" in note

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (several("train", "freight", "steam") + ("bus/1.png",), "train is read as a class; if it is a split"),
            (("train/1.png",), "train is read as a class; if it is a split"),
            (("trainA/1.png", "trainB/1.png", "testA/1.png"), "testA, trainA, trainB in .* are read as classes"),
            (several("photos", "cat", "dog"), r"a single class, photos; if the folders in photos \(cat, dog\) are the"),
            (
                several("archive/pets", "cat", "dog"),
                r"the folders in archive/pets \(cat, dog\) are the classes, give .*s\.",
            ),
        ],
    )
    def test_what_might_have_been_meant_otherwise_is_noted(
        self, tmp_path: Path, names: tuple[str, ...], message: str
    ) -> None:
        (note,) = datasets.load(str(put(tmp_path, *names))).notes
        assert re.search(message, note)

    @pytest.mark.parametrize("split", ["train", "x"])
    def test_data_that_is_not_divided_has_no_splits(self, tmp_path: Path, write_image: WriteImage, split: str) -> None:
        image = write_image(tmp_path / "flat" / "1.png", 1)
        (tmp_path / "table.csv").write_text("id,class\nflat/1.png,a\n")
        for data in ("digits", str(image), str(tmp_path / "table.csv")):
            with pytest.raises(InvalidChoice, match=f"has no splits; leave out `split='{split}'`"):
                datasets.load(data, split=split)
        with pytest.raises(InvalidChoice, match=f"no split '{split}': .*flat is a folder of images without subfolders"):
            datasets.load(str(tmp_path / "flat"), split=split)

    def test_a_range_goes_with_arrays_alone(self, tmp_path: Path, write_image: WriteImage) -> None:
        image = write_image(tmp_path / "flat" / "1.png", 1)
        for data in ("digits", str(image), str(tmp_path / "flat")):
            with pytest.raises(InvalidChoice, match="`value_range` goes with arrays of floats or of integers alone"):
                datasets.load(data, value_range=(0, 1))

    def test_a_kit_has_a_training_and_a_test_set(self, tmp_path: Path) -> None:
        put(tmp_path, "data/imgs/0.png", "data/imgs/1.png", "problem.py")
        (tmp_path / "data" / "train.csv").write_text("id,class\n0.png,a\n")
        (tmp_path / "data" / "test.csv").write_text("id,class\n1.png,a\n")
        assert datasets.load(str(tmp_path)).ids == ("0.png",)
        assert datasets.load(str(tmp_path), split="test").ids == ("1.png",)
        with pytest.raises(InvalidChoice, match="has no split 'val'; allowed: train, test"):
            datasets.load(str(tmp_path), split="val")


class TestImagesAndWhatBelongsToThem:
    @pytest.mark.parametrize("names", [("annotations/trimaps/1.png",), ("masks/1.png", "edges/2.png")])
    def test_they_are_no_classes(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        put(tmp_path, "images/1.png", *names)
        with pytest.raises(BadData, match=r"these are no classes; give .*/images\.$"):
            datasets.load(str(tmp_path))

    def test_the_only_folder_called_images_is_read_in_place_of_the_one_above(self, tmp_path: Path) -> None:
        put(tmp_path / "cub", *several("images", "001.Gull", "002.Tern"), "images.txt", "attributes/a.txt")
        assert classes(datasets.load(str(tmp_path / "cub"))) == {"001.Gull": 2, "002.Tern": 2}
        put(tmp_path / "yolo", "train/images/1.png", "train/labels/1.txt", "val/images/2.png", "val/labels/2.txt")
        dataset = datasets.load(str(tmp_path / "yolo"), split="train")
        assert dataset.labels is None
        assert dataset.ids == ("1.png",)

    def test_a_split_with_a_number_is_chosen_without_it(self, tmp_path: Path) -> None:
        put(tmp_path, "train2017/1.png", "val2017/2.png", "annotations/a.json")
        assert datasets.load(str(tmp_path), split="val").ids == ("2.png",)


class TestLinks:
    def test_folders_that_are_linked_are_read(self, tmp_path: Path) -> None:
        put(tmp_path, *several("pets/cats", "first"), *several("pets/dogs", "first"), *several("disk", "cats", "dogs"))
        for name in ("cats", "dogs"):
            (tmp_path / "pets" / name / "external").symlink_to(f"../../disk/{name}", target_is_directory=True)
        dataset = datasets.load(str(tmp_path / "pets"))
        assert classes(dataset) == {"cats": 4, "dogs": 4}
        assert dataset.ids[:3] == ("cats/external/0.png", "cats/external/1.png", "cats/first/0.png")

    def test_no_folder_is_read_twice_and_the_links_are_named(self, tmp_path: Path) -> None:
        put(tmp_path, *several("pets", "cats", "dogs"), *several("disk/photos", "cats"), "disk/secret.png")
        links = {
            "pets/cats/round": "..",
            "pets/cats/further round": "../..",
            "pets/cats/a dogs": "../dogs",
            "pets/cats/one": "../../disk/photos",
            "pets/dogs/other": "../../disk/photos",
            "disk/photos/back": "..",
            "disk/photos/here": ".",
        }
        for name, target in links.items():
            (tmp_path / name).symlink_to(target, target_is_directory=True)
        dataset = datasets.load(str(tmp_path / "pets"))
        assert dataset.ids == (
            *("cats/0.png", "cats/1.png", "cats/one/cats/0.png", "cats/one/cats/1.png"),
            *("dogs/0.png", "dogs/1.png"),
        )
        (note,) = dataset.notes
        assert "are not followed (6): cats/a dogs, cats/further round, cats/one/back and 3 more." in note

    def test_a_class_that_is_another_ones_name_is_not_read_again(self, tmp_path: Path) -> None:
        put(tmp_path, *several("pets", "cats", "dogs"))
        (tmp_path / "pets" / "kittens").symlink_to("cats", target_is_directory=True)
        dataset = datasets.load(str(tmp_path / "pets"))
        assert (classes(dataset), dataset.empty_classes) == ({"cats": 2, "dogs": 2}, ())
        assert "are not followed (1): kittens." in dataset.notes[0]

    def test_a_class_whose_link_leads_nowhere_is_not_left_out(self, tmp_path: Path) -> None:
        put(tmp_path, *several("pets", "cats", "dogs"))
        (tmp_path / "pets" / "foxes").symlink_to("/mnt/unplugged/foxes", target_is_directory=True)
        with pytest.raises(BadData, match="foxes is a link that leads nowhere, to /mnt/unplugged/foxes"):
            datasets.load(str(tmp_path / "pets"))

    def test_links_that_lead_in_a_circle_are_unreadable_images(self, tmp_path: Path) -> None:
        put(tmp_path, *several("pets", "cats", "dogs"))
        (tmp_path / "pets" / "cats" / "a").symlink_to("b")
        (tmp_path / "pets" / "cats" / "b").symlink_to("a")
        dataset = datasets.load(str(tmp_path / "pets"))
        _, unreadable = datasets.digests(dataset, DigestMemo(tmp_path / "memo"))
        assert {"cats/a", "cats/b"} <= {problem.id for problem in unreadable}

    def test_a_folder_that_may_not_be_read_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        put(tmp_path, *several("pets", "cats", "dogs"))
        scandir = os.scandir

        def refuse(path: Path) -> object:
            if Path(path).name == "dogs":
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(walk.os, "scandir", refuse)
        with pytest.raises(BadData, match="cannot read the folder .*dogs: Permission denied"):
            datasets.load(str(tmp_path / "pets"))


class TestLitter:
    def test_litter_is_passed_over_and_counted_in_one_line(self, tmp_path: Path) -> None:
        put(tmp_path, *several(".", "cats", "dogs"))
        litter = (
            *("@eaDir/SYNOPHOTO_THUMB_S.jpg", "cats/@eaDir/1.jpg", "__MACOSX/cats/._0.png", "cats/._0.png", "._cats"),
            *("cats/.thumbnails/0.png", "cats/Thumbs.db", "dogs/THUMBS.DB", "desktop.ini", "$RECYCLE.BIN/x/1.png"),
            *("System Volume Information/a.png", "cats/.ipynb_checkpoints/0-checkpoint.png", ".picasa.ini", "Icon\r"),
            *(".DS_Store", "lost+found/1.png", "#recycle/1.png", ".@__thumb/1.png", "@Recycle/1.png", ".git/HEAD"),
            *("cats/.hidden.png", "cats/0.png:Zone.Identifier", "Photos.lrdata/1.jpg"),
        )
        put(tmp_path, *litter)
        dataset = datasets.load(str(tmp_path))
        assert dataset.ids == ("cats/0.png", "cats/1.png", "dogs/0.png", "dogs/1.png")
        assert dataset.empty_classes == ()
        (note,) = dataset.notes
        assert "left behind by a program or system: 23 (2 ._*, 2 @eaDir, 2 Thumbs.db, 1 #recycle, 1 $REC" in note
        assert note.endswith("12 of 12 more kinds).")
        assert "\n" not in note

    def test_files_beside_images_are_counted_by_their_suffix(self, tmp_path: Path) -> None:
        names = [f"{kind}/{number}.png" for kind in ("cats", "dogs") for number in range(3)]
        put(tmp_path, *names, *(f"{name[:-4]}.xml" for name in names), "cats/notes.TXT", "readme.md", "meta/a.json")
        dataset = datasets.load(str(tmp_path))
        assert dataset.ids == tuple(names)
        assert dataset.empty_classes == ()  # meta is no class
        (note,) = dataset.notes
        assert "no images by their names: 9 (6 .xml, 1 .json, 1 .md, 1 .txt)." in note

    def test_a_broken_image_is_not_hidden_among_them(self, tmp_path: Path, write_image: WriteImage) -> None:
        put(tmp_path, "cats/broken.jpg", "cats/1.xml", "cats/cut off", "cats/cut off.part")
        (tmp_path / "cats" / "empty").touch()
        (tmp_path / "cats" / "text.PNG").write_text("<html>not found</html>")
        write_image(tmp_path / "cats" / "fine.png", 1)
        dataset = datasets.load(str(tmp_path / "cats"))
        _, unreadable = datasets.digests(dataset, DigestMemo(tmp_path / "memo"))
        expected = ["broken.jpg", "cut off", "cut off.part", "empty", "text.PNG"]
        assert sorted(problem.id for problem in unreadable) == expected
        assert sorted(dataset.ids) == sorted([*expected, "fine.png"])

    def test_images_need_no_suffix_and_texts_without_one_are_none(
        self, tmp_path: Path, write_image: WriteImage
    ) -> None:
        for name in ("17", "18.0001", "19.photo"):
            write_image(tmp_path / name, 1)
        (tmp_path / "plain").write_text("P2 2 2 255 1 2 3 4")
        (tmp_path / "LICENSE").write_text("Photographs © by their authors.\n" * 99)
        (tmp_path / "Makefile").write_text("all:\n\techo\n")
        dataset = datasets.load(str(tmp_path))
        assert dataset.ids == ("17", "18.0001", "19.photo", "plain")
        assert ": 2 (2 without suffix)." in dataset.notes[0]

    def test_an_image_that_is_called_a_text_is_passed_over_and_counted(self, tmp_path: Path) -> None:
        put(tmp_path, "1.png")
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "photo.txt", "PNG")
        dataset = datasets.load(str(tmp_path))
        assert dataset.ids == ("1.png",)
        assert "1 (1 .txt)" in dataset.notes[0]

    def test_no_file_is_opened_whose_name_says_what_it_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(
            tmp_path, *(f"cats/{number}{suffix}" for number in range(3) for suffix in (".png", ".JPEG", ".xml", ".mat"))
        )
        put(tmp_path, "dogs/1.tif")
        monkeypatch.setattr(Path, "open", lambda path, *_: pytest.fail(f"{path} was opened"))
        monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
        assert len(datasets.load(str(tmp_path))) == 7

    def test_what_is_no_regular_file_is_counted_and_never_waited_for(self, tmp_path: Path) -> None:
        put(tmp_path, "cats/1.png")
        os.mkfifo(tmp_path / "cats" / "pipe.png")
        os.mkfifo(tmp_path / "cats" / "pipe")
        (tmp_path / "cats" / "null.png").symlink_to("/dev/zero")
        dataset = datasets.load(str(tmp_path / "cats"))
        assert dataset.ids == ("1.png",)
        assert "3 pipes or devices" in dataset.notes[0]

    def test_names_that_are_no_text_do_not_reach_the_terminal(self, tmp_path: Path) -> None:
        put(tmp_path, "cats/1.png")
        (tmp_path / "cats" / "note.\x1b[31m\n").write_text("text")
        (tmp_path / "cats" / "a\nlink").symlink_to("..", target_is_directory=True)
        notes = datasets.load(str(tmp_path)).notes
        assert len(notes) == 2
        assert all(note.isprintable() for note in notes)

    def test_a_folder_without_images_says_what_is_there(self, tmp_path: Path) -> None:
        put(tmp_path, "a/1.txt", "a/2.txt", "b/3.xml")
        with pytest.raises(
            BadData, match=r"holds no images by their names, only other files: 3 \(2 \.txt, 1 \.xml\); put"
        ):
            datasets.load(str(tmp_path))
        put(tmp_path, "train.zip")
        with pytest.raises(BadData, match=r"1 \.zip\); give one of these files, .*\*\.zip', or put images"):
            datasets.load(str(tmp_path))

    def test_classes_without_any_file_are_told_and_those_with_other_files_are_none(self, tmp_path: Path) -> None:
        put(tmp_path, *several(".", "cats", "dogs"), "labels/1.txt")
        (tmp_path / "foxes").mkdir()
        assert datasets.load(str(tmp_path)).empty_classes == ("foxes",)

    def test_the_order_is_that_of_the_folders(self, tmp_path: Path) -> None:
        names = ("a/1.png", "a/b/1.png", "a/b/2.png", "a/b-c/1.png", "a/b.png", "a-b/1.png")
        assert datasets.load(str(put(tmp_path, *names))).ids == tuple(
            path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*.png"))
        )
