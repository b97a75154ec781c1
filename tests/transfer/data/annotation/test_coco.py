"""COCO files: classes of images, boxes as images, what is left out, and what is refused."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from feature_cache.errors import BadData, BadImage, InvalidChoice
from layertap.workflows.load_dataset import load_again, load_dataset
from transfer.data.columns import label_sets
from transfer.data.images import read_pixels

Content = dict[str, Any]
Write = Callable[..., str]


def test_images_that_show_one_category_have_its_class(coco: Write, content: Content) -> None:
    dataset = load_dataset(coco(content))
    assert dataset.ids == ("0.png", "1.png")
    assert dataset.labels is not None
    assert dataset.labels.tolist() == ["cat", "dog"]
    assert dataset.notes[-1].startswith("1 of 3 images of ")
    assert dataset.notes[-1].endswith("have no annotations, and are left out.")


def test_images_that_show_several_have_a_column_of_them(coco: Write, content: Content) -> None:
    content["annotations"].append({"image_id": 11, "category_id": 1, "bbox": [1, 1, 5, 5]})
    dataset = load_dataset(coco(content))
    assert dataset.labels is None
    assert len(dataset) == 3
    assert "1.png (cat, dog)" in dataset.notes[-1]
    assert "`crops=True`" in dataset.notes[-1]
    member, labels = label_sets(dataset, ["categories"])
    assert labels == ("cat", "dog")
    assert member.tolist() == [[True, False], [True, True], [False, False]]


def test_each_box_is_an_image_of_its_class(coco: Write, content: Content, photos: Path) -> None:
    dataset = load_dataset(coco(content), crops=True)
    assert dataset.ids == ("0.png#2,3,10,8", "0.png#20,11,13,9", "1.png#0,0,40,30")
    assert dataset.labels is not None
    assert dataset.labels.tolist() == ["cat", "cat", "dog"]
    _, pixels = read_pixels(dataset[1])
    expected = np.asarray(Image.open(photos / "0.png").crop((20, 11, 33, 20)))
    np.testing.assert_array_equal(pixels, expected)
    again = load_again(json.loads(json.dumps(dataset.options)))
    assert again is not None
    assert again.ids == dataset.ids


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"iscrowd": 1}, "boxes of crowds (1)"),
        ({"iscrowd": True}, "boxes of crowds (1)"),
        ({"iscrowd": "1"}, "boxes of crowds (1)"),
        ({"bbox": [5, 5, 0, 8]}, "boxes of no area (1)"),
        ({"bbox": [5, 5, -3, 8]}, "boxes of no area (1)"),
        ({"bbox": [5.0, 5.0, 0.3, 8]}, "boxes of less than a pixel (1)"),
        ({"bbox": [50, 5, 5, 5]}, "boxes outside their images (1)"),
        ({"bbox": [-9, 5, 5, 5]}, "boxes outside their images (1)"),
        ({"bbox": None, "segmentation": [[1, 1, 9, 1, 9, 9]]}, "objects without a box of four numbers (1)"),
        ({"bbox": [1, 2, 3]}, "objects without a box of four numbers (1)"),
        ({"bbox": ["1", 2, 3, 4]}, "objects without a box of four numbers (1)"),
        ({"bbox": [1, 2, True, 4]}, "objects without a box of four numbers (1)"),
        ({"bbox": [float("nan"), 2, 3, 4]}, "objects without a box of four numbers (1)"),
        ({"bbox": [1e308, 2, 1e308, 4]}, "objects without a box of four numbers (1)"),
        ({"bbox": [10**300, 2, 3, 4]}, "objects without a box of four numbers (1)"),
        ({"category_id": 99}, "annotations of categories that are not listed (1)"),
        ({"category_id": [1]}, "annotations of categories that are not listed (1)"),
        ({"image_id": "10"}, "annotations of images that are not listed (1)"),
        ({"image_id": {}}, "annotations of images that are not listed (1)"),
        ({"bbox": [20.4, 10.6, 12.2, 9.0]}, "boxes that are listed twice (1)"),
        ({"bbox": [0, 0, 40, 30], "image_id": 11}, "boxes that are listed twice (1), boxes that are listed in two"),
    ],
)
def test_what_is_left_out_is_counted_in_a_line(coco: Write, content: Content, changed: Content, what: str) -> None:
    content["annotations"][0] |= changed
    dataset = load_dataset(coco(content), crops=True)
    assert "0.png#2,3,10,8" not in dataset.ids
    notes = [note for note in dataset.notes if note.startswith("left out of ")]
    assert len(notes) == 1
    assert what in notes[0]


def test_a_box_that_reaches_beyond_its_image_is_cut(coco: Write, content: Content) -> None:
    content["annotations"][0]["bbox"] = [-10, 20, 30, 30]
    dataset = load_dataset(coco(content), crops=True)
    assert dataset.ids[0] == "0.png#0,20,20,10"
    assert any("that reach beyond their images are cut at the border (1)" in note for note in dataset.notes)


@pytest.mark.parametrize("written", [0, "0", "", False, None, "false", [], [0]])
def test_what_is_not_written_as_a_crowd_is_none(coco: Write, content: Content, written: object) -> None:
    content["annotations"][0]["iscrowd"] = written
    assert "0.png#2,3,10,8" in load_dataset(coco(content), crops=True).ids


def test_a_crowd_counts_for_the_class_of_its_image(coco: Write, content: Content) -> None:
    content["annotations"][2]["iscrowd"] = 1
    dataset = load_dataset(coco(content))
    assert dataset.labels is not None
    assert dataset.labels.tolist() == ["cat", "dog"]


def test_without_a_usable_box_there_are_no_crops(coco: Write, content: Content) -> None:
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    with pytest.raises(BadData, match=r"has no box that can be an image \(left out: boxes of crowds \(3\)\)"):
        load_dataset(coco(content), crops=True)
    del content["annotations"]
    dataset = load_dataset(coco(content))
    assert (len(dataset), dataset.labels) == (3, None)


def test_an_image_that_is_listed_twice_is_read_once(coco: Write, content: Content) -> None:
    content["images"].append({**content["images"][0], "id": 99})
    content["annotations"][1]["image_id"] = 99
    dataset = load_dataset(coco(content), crops=True)
    assert dataset.ids == ("0.png#2,3,10,8", "0.png#20,11,13,9", "1.png#0,0,40,30")
    assert any("lists twice are read once (1)" in note for note in dataset.notes)


def test_a_missing_image_is_told_as_that_of_a_table_is(coco: Write, content: Content, photos: Path) -> None:
    (photos / "0.png").unlink()
    dataset = load_dataset(coco(content), crops=True)
    assert len(dataset) == 3
    with pytest.raises(BadImage, match=r"1 of 3 ids in .* name no file in .*, the first is '0.png'"):
        dataset[0].load()
    dataset[2].load()


def test_an_image_of_another_size_than_its_boxes_is_refused(coco: Write, content: Content, photos: Path) -> None:
    Image.new("RGB", (80, 60)).save(photos / "0.png")
    dataset = load_dataset(coco(content), crops=True)
    with pytest.raises(BadImage, match=r"0\.png has 80 x 60 pixels, and its boxes were drawn in an image of 40 x 30\."):
        dataset[0].load()


@pytest.mark.parametrize("size", [None, 0, -1, 1e308, "40", float("nan"), True])
def test_a_size_that_is_none_is_read_from_the_image(coco: Write, content: Content, size: object) -> None:
    content["images"][0]["width"] = size
    dataset = load_dataset(coco(content), crops=True)
    assert dataset.ids[0] == "0.png#2,3,10,8"
    dataset[0].load()


def test_images_are_looked_for_where_coco_has_them(coco: Write, content: Content, photos: Path, tmp_path: Path) -> None:
    file = Path(coco(content))
    expected = load_dataset(str(file), crops=True)
    root = tmp_path / "whole"
    (root / "annotations").mkdir(parents=True)
    shutil.copytree(photos, root / "train2017")
    for part in ("train2017", "val2017"):
        shutil.copyfile(file, root / "annotations" / f"instances_{part}.json")
    there = load_dataset(str(root / "annotations" / "instances_train2017.json"), crops=True)
    assert there.ids == expected.ids
    assert there[0].source.path == root / "train2017" / "0.png"  # type: ignore[attr-defined]
    by_split = load_dataset(root, split="train", crops=True)
    assert (by_split.ids, by_split.name) == (there.ids, there.name)
    with pytest.raises(BadData, match=r"is divided into splits \(train2017, val2017\); name one"):
        load_dataset(root)
    other = load_dataset(str(root / "annotations" / "instances_val2017.json"), images=photos, crops=True)
    assert other[0].source.path == photos / "0.png"  # type: ignore[attr-defined]


def test_the_folders_of_roboflow_are_splits(content: Content, photos: Path, tmp_path: Path) -> None:
    for part in ("train", "valid"):
        shutil.copytree(photos, tmp_path / "export" / part)
        (tmp_path / "export" / part / "_annotations.coco.json").write_text(json.dumps(content))
    dataset = load_dataset(tmp_path / "export", split="val")
    assert dataset.labels is not None
    assert dataset.name == str(tmp_path / "export" / "valid" / "_annotations.coco.json")


def test_images_may_be_in_an_archive(coco: Write, content: Content, photos: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for file in photos.glob("*.png"):
            archive.write(file, f"all/{file.name}")
    file = coco(content)
    inside = load_dataset(file, images=tmp_path / "photos.zip" / "all", crops=True)
    beside = load_dataset(file, crops=True)
    assert [source.load()[0] for source in inside.sources] == [source.load()[0] for source in beside.sources]


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../../secret.png"])
def test_no_path_leads_out_of_the_folder(coco: Write, content: Content, photos: Path, name: str) -> None:
    Image.new("L", (40, 30)).save(photos.parent / "secret.png")
    content["images"][0]["file_name"] = name
    with pytest.raises(BadData, match="which leads out of the image folder"):
        load_dataset(coco(content), crops=True)


def huge(depth: int) -> str:
    return '{"images": ' + "[" * depth + "]" * depth + "}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no annotation file of COCO that can be read"),
        ("{", "is no annotation file of COCO that can be read"),
        (huge(100_000), "is no annotation file of COCO that can be read"),
        ('{"images": [{"id": ' + "9" * 5000 + "}]}", "is no annotation file of COCO that can be read"),
        ("[1, 2]", "is a list in JSON, but no annotation file of COCO"),
        ("NaN", "is a single value in JSON"),
        ('{"images": 3, "categories": []}', "'images' is no list"),
        ('{"images": [], "categories": []}', "lists no images"),
        ('{"images": [3], "categories": []}', "entry 0 of its images lacks a 'file_name' that is text, or an 'id'"),
        ('{"images": [{"id": 1, "file_name": 5}], "categories": []}', "entry 0 of its images lacks"),
        ('{"images": [{"id": 1, "file_name": "a\\u0000"}], "categories": []}', "entry 0 of its images lacks"),
        ('{"images": [{"id": 1, "file_name": "\\ud800"}], "categories": []}', "entry 0 of its images lacks"),
        (
            '{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], "categories": []}',
            "two of its images have the id '1'",
        ),
        (
            '{"images": [{"id": 1, "file_name": "0.png"}], "categories": [{"id": 1, "name": ["cat"]}]}',
            "entry 0 of its categories lacks a 'name' that is text, or an 'id'",
        ),
        (
            '{"images": [{"id": 1, "file_name": "0.png"}], "categories": [{"id": 1, "name": "a"}, '
            '{"id": 1, "name": "b"}]}',
            "two of its categories have the id '1'",
        ),
    ],
    ids=lambda value: value[:40],
)
def test_other_files_are_refused_in_a_line(coco: Write, text: str, reason: str) -> None:
    with pytest.raises(BadData) as refused:
        load_dataset(coco(text), crops=True)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 700


def test_a_file_that_is_too_large_is_not_read(coco: Write, content: Content, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transfer.data.annotation.coco.MOST_BYTES", 100)
    with pytest.raises(BadData, match=r"it has \d+ bytes, more than the 100 that it may have"):
        load_dataset(coco(content))


def test_options_of_other_data_sets_are_refused(coco: Write, content: Content, photos: Path) -> None:
    file = coco(content)
    with pytest.raises(InvalidChoice, match="has no splits"):
        load_dataset(file, split="train")
    with pytest.raises(InvalidChoice, match="has categories and no columns; leave out `class_column`"):
        load_dataset(file, class_column="label")
    with pytest.raises(InvalidChoice, match="there is no image folder nowhere"):
        load_dataset(file, images="nowhere")
    with pytest.raises(InvalidChoice, match="`crops` makes images of the boxes"):
        load_dataset("digits", crops=True)
    with pytest.raises(InvalidChoice, match="`crops` goes with the annotation file"):
        load_dataset(np.zeros((2, 8, 8), np.uint8), crops=True)
