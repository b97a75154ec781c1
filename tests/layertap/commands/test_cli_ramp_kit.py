"""`layertap ramp kit` and `layertap ramp init`: what they write, and what they refuse."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("rampwf")

from rampwf.utils.importing import import_module_from_source
from rampwf.utils.sanitize import _sanitize_input
from skimage.io import imread

from feature_cache.keys import digest_array
from transfer.data import datasets
from transfer.data.images import FileSource, read_pixels

MODES = ("L", "RGB", "RGBA", "LA", "P", "1", "CMYK", "I;16")


def rows(file: Path) -> list[tuple[str, int]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return [(row["id"], int(row["class"])) for row in csv.DictReader(stream)]


def picture(mode: str, seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (9 + seed % 3, 12, 3), np.uint8)
    if mode == "I;16":
        return Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    return Image.fromarray(noise).convert(mode)


@pytest.fixture
def awkward(tmp_path: Path) -> Path:
    """Images of all modes, in two classes whose names, and theirs, are not plain; and three that are none."""
    folder = tmp_path / "mes données"
    for number, name in enumerate(("chat noir", "été")):
        (folder / name).mkdir(parents=True)
        for seed in range(3):
            for mode in MODES:
                suffix = "tiff" if mode == "CMYK" else "PNG"
                image = picture(mode, 10 * number + seed)
                image.save(folder / name / f"{mode.replace(';', ' ')} à {seed}.{suffix}")
    (folder / "été" / "broken.png").write_bytes(b"no image")
    (folder / "été" / "empty.png").write_bytes(b"")
    whole = (folder / "été" / "RGB à 0.PNG").read_bytes()
    (folder / "été" / "cut.png").write_bytes(whole[: len(whole) // 2])
    return folder


def test_the_kit_of_digits_holds_each_of_them_once_and_splits_them_by_class(main: Callable, tmp_path: Path) -> None:
    outcome = main("ramp", "kit", "kit", "--data", "digits", "--json")
    assert outcome.status == 0, outcome.stderr
    assert json.loads(outcome.stdout) == {"kit": "kit", "train": 1438, "test": 359, "classes": 10, "skipped": 0}
    train, test = (rows(tmp_path / "kit" / "data" / name) for name in ("train.csv", "test.csv"))
    images = {name: imread(tmp_path / "kit" / "data" / "imgs" / name) for name, _ in train + test}
    assert len(images) == 1797
    assert all(image.dtype == np.uint8 and image.shape == (8, 8) for image in images.values())

    digits = datasets.load("digits")
    labels = {source.load()[0]: int(label) for source, label in zip(digits.sources, digits.labels, strict=True)}
    assert all(labels[digest_array(images[name])] == number for name, number in train + test)
    shares = [np.bincount([number for _, number in part]) / len(part) for part in (train, test)]
    np.testing.assert_allclose(*shares, atol=0.003)


def test_images_are_copied_byte_for_byte_where_the_workflow_reads_them_and_rewritten_elsewhere(
    main: Callable, tmp_path: Path, awkward: Path
) -> None:
    outcome = main("ramp", "kit", "le kit", "--data", awkward, "--workflow", "rampwf")
    assert outcome.status == 0, outcome.stderr
    assert "left out 3 unreadable images" in outcome.stderr
    assert "broken.png" in (tmp_path / "le kit" / "skipped.csv").read_text()
    files = list((tmp_path / "le kit" / "data" / "imgs").iterdir())
    assert len(files) == 2 * 3 * len(MODES)
    assert all(file.name.isascii() and " " not in file.name for file in files)
    readable = list(awkward.rglob("*à*"))
    expected = sorted(digest_array(read_pixels(FileSource(file))[1].squeeze()) for file in readable)
    assert sorted(digest_array(imread(file)) for file in files) == expected

    copies = {file.read_bytes() for file in files}
    for file in readable:
        assert (file.read_bytes() in copies) == file.name.startswith(("L ", "RGB ", "P ")), file.name
    assert {path.name for path in tmp_path.iterdir()} == {"le kit", awkward.name}


def test_copies_of_an_image_are_on_one_side(main: Callable, tmp_path: Path, data: Path) -> None:
    for file in list(data.rglob("*.png")):
        (file.parent / f"copy of {file.name}").write_bytes(file.read_bytes())
    assert main("ramp", "kit", "kit", "--data", data, "--test", "0.5").status == 0
    images = tmp_path / "kit" / "data" / "imgs"
    train, test = (
        {(images / name).read_bytes() for name, _ in rows(images.parent / f"{part}.csv")} for part in ("train", "test")
    )
    assert len(train) == len(test) == 6
    assert not train & test


def test_boxes_in_copies_of_an_image_are_on_one_side(main: Callable, tmp_path: Path) -> None:
    lines = ["id,class"]
    for number in range(24):
        noise = np.random.default_rng(number).integers(0, 256, (9, 12, 3), np.uint8)
        noise[..., 0] = number  # by which the image that a box was in is recognised
        for left, name in enumerate((f"{number}.png", f"copy of {number}.png")):
            Image.fromarray(noise).save(tmp_path / name)
            lines.append(f'"{name}#{left},0,8,8",{"ab"[number % 2]}')
    (tmp_path / "boxes.csv").write_text("\n".join(lines))
    outcome = main("ramp", "kit", "kit", "--data", "boxes.csv", "--test", "0.5")
    assert outcome.status == 0, outcome.stderr
    folder = tmp_path / "kit" / "data"
    train, test = (
        {imread(folder / "imgs" / n)[0, 0, 0] for n, _ in rows(folder / f"{p}.csv")} for p in ("train", "test")
    )
    assert len(train) == len(test) == 12
    assert not train & test


@pytest.mark.parametrize(("options", "splits"), [((), 1), (("--folds", 3), 3)], ids=["shuffle", "folds"])
def test_the_problem_is_one_for_rampwf(main: Callable, tmp_path: Path, data: Path, options: tuple, splits: int) -> None:
    (data / "bright").rename(data / 'a "b\\')
    assert main("ramp", "kit", "kit", "--data", data, "--workflow", "rampwf", *options).status == 0
    problem = import_module_from_source(str(tmp_path / "kit" / "problem.py"), "problem")
    assert problem.class_names == ['a "b\\', "dark"]
    assert (problem.workflow.n_classes, problem.workflow.test_batch_size, problem.workflow.chunk_size) == (2, 16, 256)
    X, y = problem.get_train_data(str(tmp_path / "kit"))
    (folder, ids), y_test = problem.get_test_data(str(tmp_path / "kit"))
    assert np.bincount(y).tolist() == [5, 5]
    assert len(ids) == len(y_test) == 2
    means = [imread(f"{folder}/{name}").mean() for name in ids]
    assert [mean < 120 for mean in means] == (y_test == 1).tolist()
    folds = list(problem.get_cv(X, y))
    assert len(folds) == splits
    assert all(set(y[part]) == {0, 1} for fold in folds for part in fold)
    assert [score.name for score in problem.score_types] == ["acc", "nll", "bal_acc"]
    problem.Predictions(y_true=y)


def test_the_workflow_is_ours_unless_the_original_is_wanted(main: Callable, tmp_path: Path, data: Path) -> None:
    assert main("ramp", "kit", "kit", "--data", data).status == 0
    text = (tmp_path / "kit" / "problem.py").read_text()
    assert "from layertap.ramp import ImageClassifier\n" in text
    assert "\nworkflow = ImageClassifier(\n" in text


def test_a_kit_that_is_replaced_keeps_its_submissions(
    main: Callable, mistake: Callable, tmp_path: Path, data: Path
) -> None:
    assert main("ramp", "kit", "kit", "--data", data).status == 0
    assert main("ramp", "init", "kit", "--name", "mine").status == 0
    mine = {file: file.read_text() for file in (tmp_path / "kit" / "submissions" / "mine").iterdir()}
    assert len(mine) == 2
    assert "--overwrite" in mistake("ramp", "kit", "kit", "--data", data)
    assert main("ramp", "kit", "kit", "--data", data, "--test", "0.5", "--overwrite").status == 0
    assert {file: file.read_text() for file in (tmp_path / "kit" / "submissions" / "mine").iterdir()} == mine
    assert len(rows(tmp_path / "kit" / "data" / "test.csv")) == 6


def test_what_cannot_be_a_kit_is_refused(mistake: Callable, main: Callable, tmp_path: Path, data: Path) -> None:
    (tmp_path / "flat").mkdir()
    Image.new("L", (9, 9)).save(tmp_path / "flat" / "a.png")
    assert "has no labels" in mistake("ramp", "kit", "kit", "--data", "flat")
    assert "is not a RAMP kit" in mistake("ramp", "kit", "flat", "--data", data)
    assert "is not a RAMP kit" in mistake("ramp", "kit", "flat", "--data", data, "--overwrite")
    assert "--test" in mistake("ramp", "kit", "kit", "--data", data, "--test", "1.5")
    assert "--folds" in mistake("ramp", "kit", "kit", "--data", data, "--folds", 1)
    line = mistake("ramp", "kit", "kit", "--data", data, "--test", "0.2", "--folds", 9)
    assert line.endswith("and 'bright' has 5: add some, or choose fewer --folds.")
    for file in sorted((data / "dark").iterdir())[2:]:
        file.unlink()
    line = mistake("ramp", "kit", "kit", "--data", data, "--test", "0.5")
    assert line == "each class needs at least 2 different images to train on, and 'dark' has 1: add some."
    for number, first in enumerate(sorted((data / "dark").iterdir())[:1] * 6):
        shutil.copy(first, data / "dark" / f"copy {number}.png")
    line = mistake("ramp", "kit", "kit", "--data", data, "--test", "0.5", "--folds", 3)
    assert line.endswith("and 'dark' has 1: add some, or choose fewer --folds.")


def test_a_kit_does_not_replace_the_images_that_it_is_made_of(
    mistake: Callable, main: Callable, tmp_path: Path, data: Path
) -> None:
    assert main("ramp", "kit", "kit", "--data", "data", "--quiet").status == 0
    before = sorted(file.name for file in (tmp_path / "kit").rglob("*"))
    for source in ("kit", "kit/data/test.csv"):
        assert "which the kit would replace" in mistake("ramp", "kit", "kit", "--data", source, "--overwrite")
    assert sorted(file.name for file in (tmp_path / "kit").rglob("*")) == before


def test_images_that_cannot_be_read_are_said_where_too_few_are_left(
    mistake: Callable, tmp_path: Path, data: Path
) -> None:
    dark = sorted((data / "dark").iterdir())
    for file in dark:
        file.write_bytes(b"no image")
    told = mistake("ramp", "kit", "kit", "--data", "data", "--quiet")
    assert "single class" in told and f"{len(dark)} images cannot be read, such as" in told
    for file in (data / "bright").iterdir():
        file.write_bytes(b"no image")
    assert "has no image that can be used: " in mistake("ramp", "kit", "kit", "--data", "data", "--quiet")
    assert not (tmp_path / "kit").exists()


@pytest.fixture
def kit(main: Callable, data: Path) -> str:
    assert main("ramp", "kit", "kit", "--data", data, "--workflow", "rampwf").status == 0
    return "kit"


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--head", "logistic", "--param", "C=0.1", "--param", "class_weight=balanced"),
        ("--net", "mobilenetv2", "--weights", "none", "--size", "32x48", "--layer", "out_relu", "--layer", "-1"),
        ("--fine-tune", "--head", "linear"),
    ],
    ids=["defaults", "parameters", "net", "fine-tuning"],
)
def test_what_is_written_passes_rampwf(main: Callable, tmp_path: Path, kit: str, options: tuple) -> None:
    outcome = main("ramp", "init", kit, "--name", "mine", *options)
    assert outcome.status == 0, outcome.stderr
    files = sorted((tmp_path / kit / "submissions").rglob("*.py"))
    assert len(files) == 4  # with the one to start from
    for file in files:
        text = file.read_text()
        _sanitize_input(text)
        assert "$" not in text
        assert max(map(len, text.splitlines())) <= 120
    module = import_module_from_source(str(files[0]), "batch_classifier", sanitize=True)
    classifier = module.BatchClassifier()
    if "--weights" in options:
        [spec, *_] = classifier.features.request.specs
        assert (spec.net, spec.weights, spec.size, spec.pooling) == ("mobilenetv2", "random-0", (32, 48), "avg")


def test_mistakes_show_before_anything_is_written(mistake: Callable, kit: str, tmp_path: Path) -> None:
    named = ("ramp", "init", kit, "--name", "mine")
    assert "is no RAMP kit" in mistake("ramp", "init", "data", "--name", "mine")
    for name in ("../mine", "a/b", ".hidden", ""):
        assert "a submission is named by letters" in mistake("ramp", "init", kit, "--name", name)
    assert "--overwrite" in mistake("ramp", "init", kit, "--name", "starting_kit")
    assert "did you mean 'block3_pool'" in mistake(*named, "--layer", "block3_pol")
    assert "there is no net 'glyfnet'" in mistake(*named, "--net", "glyfnet")
    assert "there is no head 'rigde'" in mistake(*named, "--head", "rigde")
    assert "alpha" in mistake(*named, "--param", "alpha=1")
    assert "at least 16 x 16" in mistake(*named, "--size", "8")
    assert "--pool" in mistake(*named, "--pool", "mean")
    assert "goes with --fine-tune" in mistake(*named, "--unfreeze-from", "block4_conv1")
    assert "cannot be part of a net" in mistake(*named, "--fine-tune", "--head", "knn")
    assert "leaves nothing to keep" in mistake(*named, "--fine-tune", "--unfreeze-from", "all")
    several = ("--layer", "block3_pool", "--layer", "block4_pool")
    assert "reads one layer" in mistake(*named, "--fine-tune", *several)


def test_a_submission_is_replaced_as_a_whole(main: Callable, tmp_path: Path, kit: str) -> None:
    for head in ("ridge", "knn"):
        assert main("ramp", "init", kit, "--name", "mine", "--head", head, "--overwrite").status == 0
        (tmp_path / kit / "submissions" / "mine" / "old.txt").touch()
    assert main("ramp", "init", kit, "--name", "mine", "--head", "knn", "--overwrite").status == 0
    assert sorted(file.name for file in (tmp_path / kit / "submissions" / "mine").iterdir()) == [
        "batch_classifier.py",
        "image_preprocessor.py",
    ]
    assert 'make_head("knn", {})' in (tmp_path / kit / "submissions" / "mine" / "batch_classifier.py").read_text()
