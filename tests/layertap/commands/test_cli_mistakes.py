"""What users get wrong: one line on stderr that says what to do, status 2, and nothing half-written."""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
LAYER = ("--layer", "block1_pool")
Mistake = Callable[..., str]


def damage(file: Path) -> None:
    """Cut the image short: its header still reads."""
    file.write_bytes(file.read_bytes()[:-40])


class TestNetsAndLayers:
    def test_unknown_net(self, mistake: Mistake, data: Path) -> None:
        for command in (("extract", data, "--net", "vgg61"), ("layers", "vgg61")):
            line = mistake(*command)
            assert "there is no net 'vgg61'; did you mean " in line
            assert "'vgg16'" in line
            assert "layertap nets" in line
        assert "; did you mean 'efficientnetlite0'? " in mistake("layers", "EfficientNet-Lite0")

    def test_folders_that_hold_no_net(self, mistake: Mistake, data: Path, tmp_path: Path) -> None:
        (tmp_path / "saved").mkdir()
        (tmp_path / "saved" / "saved_model.pb").touch()
        for command in (("extract", data, "--net"), ("layers",)):
            assert "saved is a SavedModel of TensorFlow" in mistake(*command, tmp_path / "saved")
            assert "holds no net; a run of layertap fine-tune does" in mistake(*command, data)

    def test_unknown_layer(self, mistake: Mistake, data: Path) -> None:
        line = mistake("extract", data, "--layer", "block1_pol")
        assert "glyphnet has no layer 'block1_pol'; did you mean 'block1_pool'" in line
        assert "layertap layers glyphnet" in line

    def test_unknown_layer_for_a_head(self, mistake: Mistake, data: Path) -> None:
        line = mistake("train-head", data, "--layer", "block1_pol", "--out", "run")
        assert "did you mean 'block1_pool'" in line

    def test_index_out_of_range(self, mistake: Mistake, data: Path) -> None:
        assert "received index 99" in mistake("extract", data, "--layer", "99")

    def test_size_below_the_smallest(self, mistake: Mistake, data: Path) -> None:
        for command in (("extract", data, "--size", "8"), ("layers", "glyphnet", "--size", "8")):
            assert "glyphnet needs images of at least 16 x 16 pixels; received --size 8x8" in mistake(*command)

    @pytest.mark.parametrize("size", ["big", "0", "32x", "32x32x3", "-4", "1.5"])
    def test_malformed_size(self, mistake: Mistake, data: Path, size: str) -> None:
        line = mistake("extract", data, f"--size={size}")
        assert f"'{size}' is not a size; give pixels as 64, or height and width as 48x64" in line

    def test_missing_weights_file(self, mistake: Mistake, data: Path) -> None:
        line = mistake("extract", data, "--net", "vgg16", "--weights", "mine.h5")
        assert "'imagenet', 'none' or a weights file, and there is no file 'mine.h5'" in line

    def test_net_file_that_is_none(self, mistake: Mistake, data: Path, tmp_path: Path) -> None:
        (tmp_path / "bad.keras").write_text("no net")
        assert "bad.keras is not a .keras file" in mistake("extract", data, "--net", "bad.keras")
        assert "bad.keras is not a .keras file" in mistake("layers", "bad.keras")

    @pytest.mark.slow
    def test_weights_of_another_net_in_a_new_process(self, layertap: Callable, data: Path, tmp_path: Path) -> None:
        """Libraries greet, and warn, when they are loaded and used."""
        import keras

        weights = tmp_path / "other.weights.h5"
        other = keras.applications.MobileNetV3Small(weights=None, include_top=False, input_shape=(32, 32, 3))
        other.save_weights(weights)
        done = layertap("extract", data, "--net", "mobilenet", "--size", "32", "--weights", weights, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("layertap: "), done.stderr[:500]
        assert "other.weights.h5 does not hold weights of mobilenet: " in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr[:500]
        assert not list((tmp_path / "features").glob("*/*"))


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("extrct", "digits"), "there is no command 'extrct'"),
            (("extrct", "digits"), "did you mean extract? see layertap --help"),
            (("cache", "lst"), "did you mean list? see layertap cache --help"),
            (("extract",), "DATA"),
            (("extract", "digits", "--pool", "agv"), "invalid choice: 'agv'"),
            (("extract", "digits", "--pool", "agv"), "did you mean avg?"),
            (("extract", "digits", "--fit", "squash"), "squash"),
            (("extract", "digits", "--batch-size", "0"), "'0' is not a whole number of at least 1"),
            (("extract", "digits", "--nett", "vgg16"), "--nett"),
            (("train-head", "digits", "--out", "r", "--param", "C"), "'C' is not a parameter; give it as NAME=VALUE"),
            (("train-head", "digits", "--out", "r", "--cv", "3", "--valid", "0.2"), "not allowed with"),
            (("train-head", "digits", "--out", "r", "--seed", "one"), "one"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
    )
    def test_wrong_arguments(self, mistake: Mistake, arguments: tuple, message: str) -> None:
        assert message in mistake(*arguments)

    def test_unknown_head(self, mistake: Mistake, data: Path) -> None:
        line = mistake("train-head", data, "--head", "logistics", "--out", "run")
        assert "there is no head 'logistics'; did you mean 'logistic'" in line

    def test_unknown_parameter_and_wrong_value(self, mistake: Mistake, data: Path) -> None:
        train = ("train-head", data, "--out", "run")
        assert "has no parameter 'c'" in mistake(*train, "--param", "c=1")
        assert "C=much of the head 'logistic' is not a number" in mistake(
            *train, "--head", "logistic", "--param", "C=much"
        )

    def test_images_without_a_csv(self, mistake: Mistake, data: Path) -> None:
        assert "--images goes with a CSV file" in mistake("extract", data, "--images", data)


class TestData:
    def test_there_is_none(self, mistake: Mistake) -> None:
        assert "no data set, folder or file 'digit'; did you mean 'digits'" in mistake("extract", "digit")

    def test_a_path_that_is_misspelled(self, mistake: Mistake, data: Path) -> None:
        """The nearest name beside it is suggested, for data sets, images, runs and corrections."""
        assert "file 'dat'; did you mean 'data'?" in mistake("train-head", "dat")
        assert "file 'data/brigth'; did you mean 'data/bright'?" in mistake("extract", "data/brigth")
        (data.parent / "my run").mkdir()
        assert "did you mean 'my run'?" in mistake("predict", "my-run", data)
        (data.parent / "review.csv").touch()
        assert "did you mean 'review.csv'?" in mistake("extract", data, "--corrections", "reviews.csv")
        assert "allowed: digits" in mistake("extract", "quite-another-name")

    def test_empty_folder(self, mistake: Mistake, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        assert "empty holds no files; put images in it" in mistake("extract", "empty")

    def test_single_class(self, mistake: Mistake, data: Path) -> None:
        (data / "dark").rename(data.parent / "elsewhere")
        assert "has a single class, 'bright'" in mistake("train-head", data, "--out", "run")

    def test_no_labels(self, mistake: Mistake, data: Path) -> None:
        assert "has no labels" in mistake("train-head", data / "dark", "--out", "run")

    def test_unknown_class_column(self, mistake: Mistake, data: Path) -> None:
        (data / "table.csv").write_text("id,species\ndark/0.png,dark\n")
        line = mistake("train-head", data / "table.csv", "--class-column", "specie", "--out", "run")
        assert "has no class column 'specie'; did you mean 'species'" in line

    def test_missing_label(self, mistake: Mistake, data: Path) -> None:
        (data / "table.csv").write_text("id,class\ndark/0.png,dark\ndark/1.png,\n")
        line = mistake("train-head", data / "table.csv", "--out", "run")
        assert "1 of 2 images have no label, the first is 'dark/1.png'" in line

    def test_a_csv_that_leads_out_of_its_folder(self, mistake: Mistake, data: Path) -> None:
        (data / "table.csv").write_text("id,class\n../data/dark/0.png,dark\n../../secret.png,dark\n")
        assert "'../../secret.png', which leads out of the image folder" in mistake("extract", data / "table.csv")

    def test_a_folder_of_splits(self, main: Callable, mistake: Mistake, make_classes: Callable, tmp_path: Path) -> None:
        make_classes(tmp_path / "photos" / "train")
        make_classes(tmp_path / "photos" / "val", 2, seed=1)
        line = mistake("extract", "photos", *LAYER)
        assert "photos is divided into splits (train, val), which are no classes; name one" in line
        assert "--split train, or give its folder, photos/train." in line
        assert "photos has no split 'test'; allowed: train, val" in mistake("extract", "photos", "--split", "test")
        outcome = main("explore", "photos", "--split", "validation", "--json")
        assert json.loads(outcome.stdout)["classes"] == {"bright": 2, "dark": 2}

    def test_a_split_or_a_range_of_what_has_none(self, mistake: Mistake, data: Path) -> None:
        assert "the folders of data are classes (bright, dark); leave out --split" in mistake(
            "extract", data.name, "--split", "train"
        )
        assert "digits is built in and has no splits" in mistake("extract", "digits", "--split", "train")
        assert "--range goes with arrays of floats or of integers alone" in mistake("extract", data, "--range=0,1")

    def test_arrays_of_numbers_that_say_nothing_alone(self, main: Callable, mistake: Mistake, tmp_path: Path) -> None:
        values = np.linspace(-1, 1, 4 * 12 * 12).reshape(4, 1, 12, 12)
        np.savez(tmp_path / "torch.npz", x_train=values, y_train=[0, 1, 0, 1], x_test=values[:1])
        line = mistake("extract", "torch.npz", *LAYER)
        assert "x_train of torch.npz holds floats from -1 to 1" in line
        option = line.split("for instance ")[1].rstrip(".")
        outcome = main("extract", "torch.npz", *LAYER, option)
        assert outcome.status == 0, outcome.stderr
        assert "note: x_train of torch.npz has the shape (4, 1, 12, 12), which is read as channels" in outcome.stderr
        assert "note: of torch.npz, x_train with y_train is read; not read: x_test; --split chooses" in outcome.stderr
        assert "1 reused" in main("extract", "torch.npz", *LAYER, option, "--split", "test").stdout

    @pytest.mark.parametrize("how", ["no image", "damaged"])
    def test_unreadable_image_fails_and_is_named(self, main: Callable, data: Path, how: str) -> None:
        file = data / "dark" / "3.png"
        damage(file) if how == "damaged" else file.write_text("no image")
        outcome = main("extract", data, *LAYER)
        assert outcome.status == 2
        assert outcome.stdout == ""
        assert outcome.stderr.startswith(f"layertap: {file} ")
        assert "--on-error skip" in outcome.stderr
        assert outcome.stderr.count("\n") == 1

    def test_unreadable_images_are_skipped_and_listed(self, main: Callable, data: Path, tmp_path: Path) -> None:
        damage(data / "dark" / "3.png")
        (data / "bright" / "1.png").write_text("no image")
        report = json.loads(main("extract", data, *LAYER, "--on-error", "skip", "--json").stdout)
        assert (report["rows_computed"], report["rows_skipped"]) == (10, 2)
        with (tmp_path / "features" / f"skipped-{data.name}.csv").open(newline="") as stream:
            listed = {row["id"]: row["reason"] for row in csv.DictReader(stream)}
        assert set(listed) == {"dark/3.png", "bright/1.png"}
        assert listed["dark/3.png"].startswith("cannot be decoded (")
        train = ("train-head", data, *LAYER, "--cv", "2", "--out", "run")
        assert main(*train).status == 2
        outcome = main(*train, "--on-error", "skip")
        assert outcome.status == 0, outcome.stderr
        assert "left out 2 unreadable images; the list is in run/skipped.csv" in outcome.stderr
        assert "fitted on all 10 images" in outcome.stdout
        config = json.loads((tmp_path / "run" / "config.json").read_text())
        assert sorted(config["skipped"]) == ["bright/1.png", "dark/3.png"]

    def test_skipping_every_image_is_no_failure(self, main: Callable, data: Path, tmp_path: Path) -> None:
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "1.png").write_text("no image")
        outcome = main("extract", "bad", *LAYER, "--on-error", "skip")
        assert outcome.status == 0, outcome.stderr
        assert "0 rows computed, 0 reused, 1 skipped" in outcome.stdout
        assert "1.png" in (tmp_path / "features" / "skipped-bad.csv").read_text()

    def test_ids_without_a_file_are_one_line_and_a_list(self, main: Callable, data: Path, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("id\ndark/3.png\ndark/4.jpg\ndark/x.jpg\n")
        table = ("extract", "t.csv", "--images", data, *LAYER)
        outcome = main(*table)
        assert outcome.status == 2
        assert outcome.stderr.startswith(f"layertap: 2 of 3 ids in t.csv name no file in {data}, the first is")
        assert "(dark/4.png is there, with another extension)" in outcome.stderr
        assert outcome.stderr.count("\n") == 1
        assert main(*table, "--on-error", "skip").status == 0
        assert (tmp_path / "features" / "skipped-t.csv").read_text().count("no such file") == 2

    def test_a_range_below_zero_needs_no_equals_sign(self, main: Callable, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", X=np.linspace(-1, 1, 2 * 30 * 30).reshape(2, 30, 30))
        outcome = main("extract", "a.npz", "--range", "-1,1", *LAYER)
        assert outcome.status == 0, outcome.stderr
        assert "'-1,5,7' is not a range" in main("extract", "a.npz", "--range", "-1,5,7").stderr


class TestRuns:
    @pytest.mark.slow
    def test_features_of_a_net_that_nobody_named_come_with_the_command_that_computes_them(
        self, main: Callable, mistake: Mistake, make_classes: Callable, features_of: Callable, tmp_path: Path
    ) -> None:
        features_of("resnet50", tmp_path / "my cache")
        folder = make_classes(tmp_path / "Anna's data; rm -rf")
        table = folder / "my table.csv"
        ids = [f"{name}/{number}.png" for name in ("bright", "dark") for number in range(6)]
        table.write_text("file,kind\n" + "".join(f"{name},{name.split('/')[0]}\n" for name in ids))
        options = (
            *("--weights", "none", "--seed", "3", "--size", "24x32", "--fit", "pad"),
            *("--interpolation", "nearest", "--pool", "max"),
            *("--preprocessing", "unit", "--id-column", "file", "--class-column", "kind", "--images", folder),
            *("--cache", tmp_path / "my cache"),
        )
        train = ("train-head", table, *options, "--out", "run", "--cv", "2")
        line = mistake(*train)
        assert line.startswith("none of these 12 images has features by glyphnet (block4_pool) in the cache ")
        assert f"{tmp_path / 'my cache'}, and no net is named. Choose one with --net (the cache " in line
        command = line.split("or compute these with: ", 1)[1]
        assert shlex.split(command)[:2] == ["layertap", "extract"]

        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "layertap").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli "$@"\n')
        (tmp_path / "bin" / "layertap").chmod(0o755)
        environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "12 rows computed" in done.stdout
        assert main(*train).status == 0

    def test_a_run_that_exists(self, main: Callable, mistake: Mistake, data: Path, tmp_path: Path) -> None:
        main("extract", data, *LAYER)
        train = ("train-head", data, *LAYER, "--head", "logistic", "--cv", "2", "--out", "run")
        assert main(*train).status == 0
        before = (tmp_path / "run" / "config.json").read_bytes()
        line = mistake(*train, "--param", "C=0.5")
        assert "the run run exists; choose another folder with --out, or replace it with --overwrite" in line
        assert (tmp_path / "run" / "config.json").read_bytes() == before
        assert main(*train, "--param", "C=0.5", "--overwrite").status == 0
        assert json.loads((tmp_path / "run" / "config.json").read_text())["head"]["params"]["C"] == 0.5
        assert [file.name for file in tmp_path.iterdir() if ".tmp" in file.name or ".old" in file.name] == []

    def test_what_is_no_run_is_never_replaced(self, mistake: Mistake, data: Path) -> None:
        for more in ((), ("--overwrite",)):
            line = mistake("train-head", data, *LAYER, "--out", data, *more)
            assert "exists and is not a run; choose another folder with --out" in line

    def test_what_is_no_run_is_not_read(self, mistake: Mistake, data: Path) -> None:
        for command in (("evaluate", data, data), ("predict", data, data / "dark" / "0.png")):
            assert "is not a run (it has no config.json); make one with: layertap train-head" in mistake(*command)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--cv", "7"), "7 folds need at least 7 distinct images of each class"),
            (("--cv", "1"), "--cv needs at least 2 folds; received 1"),
            (("--valid", "1.5"), "--valid is the share of images to hold out, between 0 and 1; received 1.5"),
            (("--valid", "0.01"), "choose another --valid"),
            (("--per-class", "6"), "6 labels per class need at least 7 distinct images of each class"),
            (("--per-class", "0"), "--per-class needs at least 1"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
    )
    def test_protocols_that_do_not_fit_the_data(
        self, main: Callable, mistake: Mistake, data: Path, options: tuple, message: str
    ) -> None:
        main("extract", data, *LAYER)
        assert message in mistake("train-head", data, *LAYER, *options, "--out", "run")

    def test_images_that_are_not_there(self, main: Callable, mistake: Mistake, data: Path) -> None:
        main("extract", data, *LAYER)
        main("train-head", data, *LAYER, "--cv", "2", "--out", "run")
        line = mistake("predict", "run", data / "dark" / "0.png", "nowhere.png")
        assert "the image 'nowhere.png' does not exist" in line
        assert "has no labels" in mistake("evaluate", "run", data / "dark")

    def test_nothing_that_can_be_predicted(self, main: Callable, mistake: Mistake, data: Path, tmp_path: Path) -> None:
        main("extract", data, *LAYER)
        main("train-head", data, *LAYER, "--cv", "2", "--out", "run")
        (tmp_path / "notes.png").write_text("no image")
        assert "notes.png is not an image" in mistake("predict", "run", "notes.png")
        assert "none of the 1 images can be read" in mistake("predict", "run", "notes.png", "--on-error", "skip")


class TestCache:
    def test_unknown_space(self, main: Callable, mistake: Mistake, data: Path) -> None:
        main("extract", data, *LAYER)
        space = json.loads(main("cache", "list", "--json").stdout)["spaces"][0]["space"]
        line = mistake("cache", "info", space[:-1])
        assert f"features has no space '{space[:-1]}'; did you mean '{space}'" in line

    def test_a_cache_that_is_not_there_is_empty(self, main: Callable) -> None:
        assert "holds no features; compute some with: layertap extract" in main("cache", "list").stdout
        assert json.loads(main("cache", "list", "--json").stdout)["spaces"] == []

    def test_a_cache_that_cannot_be_written_is_a_failure_in_one_line(
        self, main: Callable, data: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("not a folder")
        outcome = main("extract", data, *LAYER, "--cache", tmp_path / "file")
        assert outcome.status == 1
        assert outcome.stderr.startswith("layertap: cannot write")
        assert outcome.stderr.count("\n") == 1

    def test_a_damaged_segment_is_a_failure_that_names_it(self, main: Callable, data: Path, tmp_path: Path) -> None:
        main("extract", data, *LAYER)
        (segment,) = (tmp_path / "features").glob("*/segment-*.h5")
        segment.write_bytes(segment.read_bytes()[:200])
        outcome = main("train-head", data, *LAYER, "--out", "run")
        assert outcome.status == 1
        assert segment.name in outcome.stderr
        assert "Set it aside with: layertap cache verify --repair --cache features; " in outcome.stderr
        assert outcome.stderr.count("\n") == 1
        assert not (tmp_path / "run").exists()
