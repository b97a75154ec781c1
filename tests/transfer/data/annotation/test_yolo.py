"""YOLO data sets: splits, boxes, and what is left out or refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from feature_cache.errors import BadData, InvalidChoice
from layertap.workflows.load_dataset import load_dataset

pytest.importorskip("yaml")

YAML = "train: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n"
BOXES = ((2, 3, 10, 8), (21, 11, 12, 9))  # in an image of 40 x 30


def line(category: int, box: tuple[int, ...]) -> str:
    left, top, width, height = box
    numbers = ((left + width / 2) / 40, (top + height / 2) / 30, width / 40, height / 30)
    return f"{category} " + " ".join(f"{number:.6f}" for number in numbers) + "\n"


@pytest.fixture
def yolo(photos: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a data set of YOLO, whose training images are ``photos``; its ``data.yaml``."""

    def write(yaml: str = YAML, labels: str | None = None) -> Path:
        root = tmp_path / "yolo"
        for part in ("train", "val"):
            (root / "labels" / part).mkdir(parents=True)
            shutil.copytree(photos, root / "images" / part)
        text = line(0, BOXES[0]) + line(0, BOXES[1]) if labels is None else labels
        (root / "labels" / "train" / "0.txt").write_text(text)
        (root / "labels" / "train" / "1.txt").write_text(line(1, (0, 0, 40, 30)))
        (root / "data.yaml").write_text(yaml)
        return root / "data.yaml"

    return write


def test_boxes_are_those_of_the_same_data_set_as_coco_has_it(yolo: Callable[..., Path]) -> None:
    dataset = load_dataset(yolo(), split="train", crops=True)
    ids = ("0.png#2,3,10,8", "0.png#21,11,12,9", "1.png#0,0,40,30")
    assert dataset.ids == tuple(f"images/train/{name}" for name in ids)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == ["cat", "cat", "dog"]
    assert dataset[0].load()[1].shape == (8, 10)


def test_images_of_one_class_have_it_and_the_folder_is_enough(yolo: Callable[..., Path]) -> None:
    dataset = load_dataset(yolo().parent, split="training")
    assert dataset.ids == ("images/train/0.png", "images/train/1.png")
    assert dataset.labels is not None
    assert dataset.labels.tolist() == ["cat", "dog"]
    assert len(dataset.notes) == 1
    assert "1 of 3 images of" in dataset.notes[0]


def test_a_split_has_to_be_named_and_may_lack_labels(yolo: Callable[..., Path]) -> None:
    file = yolo()
    with pytest.raises(BadData, match=r"is divided into splits \(train, val\); name one, for instance with"):
        load_dataset(file)
    with pytest.raises(InvalidChoice, match="has no split 'test'"):
        load_dataset(file, split="test")
    assert load_dataset(file, split="val").labels is None


@pytest.mark.parametrize(
    "yaml",
    [
        "path: .\ntrain: ./images/train\nnames: [cat, dog]\n",
        "train: ../images/train\nnames: [cat, dog]\nnc: 2\n",  # as Roboflow writes it
        "path: ../datasets/elsewhere\ntrain: [images/train, images/train/]\nnames: [cat, dog]\n",
        "train: list.txt\nnames: {0: cat, 1: dog}\n",
        "train: images/train\nval:\nnames: ['cat', ' dog ']\n",
    ],
)
def test_paths_and_names_are_written_in_many_ways(yolo: Callable[..., Path], yaml: str) -> None:
    file = yolo(yaml)
    (file.parent / "list.txt").write_text("./images/train/0.png\n\nimages/train/1.png\nimages/train/0.png\n")
    dataset = load_dataset(file)
    assert dataset.ids == ("images/train/0.png", "images/train/1.png")
    assert dataset.labels is not None
    assert dataset.labels.tolist() == ["cat", "dog"]


@pytest.mark.parametrize("listed", ["/home/them/yolo/{}", "C:\\yolo\\{}", "{root}/{}", "images/../{}", "{}"])
def test_boxes_are_found_by_the_image_that_was_found(yolo: Callable[..., Path], listed: str) -> None:
    file = yolo("train: train.txt\nnames: [cat, dog]\n")
    entries = [listed.format(f"images/train/{number}.png", root=file.parent) for number in range(2)]
    (file.parent / "train.txt").write_text("\n".join(entries))
    assert load_dataset(file).ids == ("images/train/0.png", "images/train/1.png")
    dataset = load_dataset(file, crops=True)
    assert dataset.ids[0] == "images/train/0.png#2,3,10,8"
    assert len(dataset) == 3


@pytest.mark.parametrize(("yaml", "images"), [("path: images\ntrain: train\n", None), ("train: train\n", "images")])
def test_labels_are_beside_a_root_called_images(yolo: Callable[..., Path], yaml: str, images: str | None) -> None:
    file = yolo(f"{yaml}names: [cat, dog]\n")
    dataset = load_dataset(file, crops=True, images=images and file.parent / images)
    assert dataset.ids == ("train/0.png#2,3,10,8", "train/0.png#21,11,12,9", "train/1.png#0,0,40,30")


def test_labels_outside_the_folder_are_not_read(yolo: Callable[..., Path], tmp_path: Path) -> None:
    file = yolo("train: train.txt\nnames: [cat, dog]\n")
    (tmp_path / "outside" / "labels" / "train").mkdir(parents=True)
    (tmp_path / "outside" / "labels" / "train" / "0.txt").write_text(line(1, (1, 1, 4, 4)))
    (file.parent / "train.txt").write_text("../outside/images/train/0.png\n")
    assert load_dataset(file, crops=True).ids == ("images/train/0.png#2,3,10,8", "images/train/0.png#21,11,12,9")
    (file.parent / "labels" / "train" / "0.txt").unlink()
    (file.parent / "labels" / "train" / "0.txt").symlink_to(tmp_path / "outside" / "labels" / "train" / "0.txt")
    with pytest.raises(BadData, match="such a path is refused"):
        load_dataset(file)
    shutil.rmtree(file.parent / "labels")
    assert load_dataset(file).labels is None
    (file.parent / "labels").symlink_to(tmp_path / "outside" / "labels")
    with pytest.raises(BadData, match=r"the labels 'labels/train/0\.txt' .* lead out of .*; such a path is refused"):
        load_dataset(file)


def test_the_folder_of_the_paths_may_be_another_one(yolo: Callable[..., Path], tmp_path: Path) -> None:
    file = yolo()
    moved = shutil.move(file, tmp_path / "data.yaml")
    with pytest.raises(BadData, match="name the folder that its paths are below with `images`"):
        load_dataset(moved, split="train")
    assert len(load_dataset(moved, split="train", images=file.parent, crops=True)) == 3


def test_classes_may_be_numbers_and_corners_of_shapes_are_boxed(yolo: Callable[..., Path]) -> None:
    corners = "1 0.1 0.1 0.5 0.1 0.5 0.5 0.2 0.6\n"
    dataset = load_dataset(yolo("train: images/train\nnames: [3, 8]\n", corners), crops=True)
    assert dataset.ids[0] == "images/train/0.png#4,3,16,15"
    assert dataset.labels is not None
    assert dataset.labels.tolist() == ["8", "8"]


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        ("cat 0.5 0.5 0.1 0.1\n", "lines that are no class and box (1)"),
        ("0.5 0.5 0.5 0.1 0.1\n", "lines that are no class and box (1)"),
        ("0 0.5 0.5 0.1\n", "lines that are no class and box (1)"),
        ("0 nan 0.5 0.1 0.1\n", "lines that are no class and box (1)"),
        ("0 1e308 0.5 1e308 0.1\n", "boxes that are no shares of their images (1)"),
        ("0 320 240 50 50\n", "boxes that are no shares of their images (1)"),
        ("2 0.5 0.5 0.1 0.1\n", "lines of classes that have no name (1)"),
        ("-1 0.5 0.5 0.1 0.1\n", "lines of classes that have no name (1)"),
        ("0 0.5 0.5 0 0.1\n", "boxes of no area (1)"),
        ("0 0.5 0.5 0.001 0.1\n", "boxes of less than a pixel (1)"),
        ("0 2 0.5 0.1 0.1\n", "boxes outside their images (1)"),
    ],
)
def test_what_is_left_out_is_counted_in_a_line(yolo: Callable[..., Path], labels: str, what: str) -> None:
    dataset = load_dataset(yolo(labels=labels), split="train", crops=True)
    assert dataset.ids == ("images/train/1.png#0,0,40,30",)
    assert [note for note in dataset.notes if what in note and note.startswith("left out of ")]


def test_an_image_that_cannot_be_read_stays_one(yolo: Callable[..., Path]) -> None:
    file = yolo()
    (file.parent / "images" / "train" / "0.png").write_bytes(b"no image")
    dataset = load_dataset(file, split="train", crops=True)
    assert dataset.ids == ("images/train/0.png", "images/train/1.png#0,0,40,30")


def test_boxes_are_of_the_image_as_exif_turns_it(yolo: Callable[..., Path]) -> None:
    file = yolo("train: images/train\nnames: [cat, dog]\n")
    (file.parent / "images" / "train" / "0.png").unlink()
    (file.parent / "labels" / "train" / "0.txt").write_text("0 0.25 0.1 0.5 0.2\n")
    stored = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40), np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    stored.save(file.parent / "images" / "train" / "0.jpg", exif=exif)
    dataset = load_dataset(file, crops=True)
    assert dataset.ids[0] == "images/train/0.jpg#0,0,15,8"  # of 30 x 40


@pytest.mark.parametrize(
    ("yaml", "reason"),
    [
        ("", "is no data set of YOLO: it has no 'names' of classes"),
        ("[1]", "is no data set of YOLO"),
        ("names: [cat\n", "cannot be read"),
        ("names: !!python/object/apply:os.system [true]\n", "cannot be read"),
        ("names: [cat]\nx: !!bool maybe\n", "cannot be read"),
        ("names: [cat]\nx: !!int ''\n", "cannot be read"),
        ("names: [cat]\nx: !!timestamp x\n", "cannot be read"),
        ("names: [cat]\n? !!set {a}\n: {}\n", "cannot be read"),
        ("names: [cat]\n", "names no images: it lacks train, val and test"),
        ("names: cat\ntrain: images/train\n", "are no list of classes"),
        ("names: {0: a, 2: b}\ntrain: images/train\n", "are not numbered from 0 to 1"),
        ("names: {.inf: a}\ntrain: images/train\n", "are not numbered from 0 to 0"),
        (
            "names: [yes, no]\ntrain: images/train\n",
            "name 0 in .* is True, which is no text; put names such as",
        ),
        ("names: [[a]]\ntrain: images/train\n", "name 0 in .* is a list, which is no text"),
        ("names: [a]\ntrain: images/none\n", "which does not exist"),
        ("names: [a]\ntrain: labels/train\n", "there are no images in"),
        ("names: [a]\ntrain: 3\n", "names a int, which leads out of|names an int|leads out of"),
        ("names: [a]\ntrain: /etc\n", "leads out of .*; such a path is refused"),
        ("names: [a]\ntrain: images/../../../../etc\n", "leads out of .*; such a path is refused"),
        ("names: [a]\ntrain: link\n", "leads out of .*; such a path is refused"),
        ("names: [a]\ntrain: outside.txt\n", "which leads out of the image folder"),
    ],
)
def test_other_files_are_refused_in_a_line(yolo: Callable[..., Path], tmp_path: Path, yaml: str, reason: str) -> None:
    file = yolo(yaml)
    (file.parent / "link").symlink_to(tmp_path)
    Image.new("L", (8, 8)).save(tmp_path / "secret.png")
    (file.parent / "outside.txt").write_text("images/train/0.png\n../secret.png\n")
    with pytest.raises(BadData, match=reason) as refused:
        load_dataset(file)
    assert "\n" not in str(refused.value)


def test_a_yaml_that_names_itself_many_times_is_refused_at_once(yolo: Callable[..., Path]) -> None:
    levels = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    for key in ("names: [*a11]\ntrain: images/train", "names: [a]\ntrain: [*a11]"):
        file = yolo("\n".join([*levels, key]) + "\n")
        with pytest.raises(BadData):
            load_dataset(file)
        shutil.rmtree(file.parent)


def test_another_yaml_beside_classes_is_no_data_set(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "photos" / name / "a.png")
    (tmp_path / "photos" / "data.yaml").write_text("license: free\n")
    assert load_dataset(tmp_path / "photos").class_counts == {"cat": 1, "dog": 1}
