"""`layertap compare` and `layertap drift`: layers of nets, two runs, and two data sets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from feature_cache.errors import InvalidChoice
from layertap.commands.arguments.shared import net_and_layer
from layertap.workflows.training.readouts import _layers_of_nets


def test_layers_and_runs_are_compared(main: Callable, data: Path, tmp_path: Path) -> None:
    command = ("compare", data, "glyphnet:block3_pool", "glyphnet")
    layers = json.loads(main(*command, "--page", "layers.html", "--json").stdout)
    assert layers["spaces"] == ["glyphnet:block3_pool", "glyphnet:block4_pool"]
    assert 0 < layers["cka"][0][1] == layers["cka"][1][0] < 1
    page = (tmp_path / "layers.html").read_text()
    assert "Linear CKA, 12 images" in page and f"{layers['rsa'][0][1]:.3f}" in page
    # One run learns the labels, another one the wrong ones, and both are judged by labels that are right by halves.
    names = [f"{folder}/{number}.png" for folder in ("dark", "bright") for number in range(6)]
    for table, wrong in (("right", ""), ("wrong", "012345"), ("mixed", "024")):
        rows = [f"{name},{('dark', 'bright')[name.startswith('bright') ^ (name[-5] in wrong)]}\n" for name in names]
        (tmp_path / f"{table}.csv").write_text("id,class\n" + "".join(rows))
    for run in ("right", "wrong"):
        options = ("--images", data, "--net", "glyphnet", "--head", "ridge", "--cv", 2, "--map", "pca")
        assert main("train-head", f"{run}.csv", *options, "--out", run).status == 0
    command = ("compare", "mixed.csv", "right", "wrong", "--images", data)
    found = json.loads(main(*command, "--json").stdout)
    assert found["images"] == 12
    assert found["difference"] == (len(found["only_second"]) - len(found["only_first"])) / 12
    outcome = main(*command, "--page", "runs.html")
    assert "Cohen's kappa" in outcome.stdout
    assert "McNemar's test gives p = " in outcome.stdout
    assert outcome.stdout.endswith("Written to runs.html.\n")
    page = (tmp_path / "runs.html").read_text()
    assert page.count("<img ") == len(found["only_first"]) + len(found["only_second"]) > 0
    assert f"Predicted correctly by right alone: {len(found['only_first'])}" in page
    shutil.copytree(tmp_path / "right", tmp_path / "copy")
    several = json.loads(main(*command[:4], "copy", *command[4:], "--page", "three.html", "--json").stdout)
    assert [pair["runs"] for pair in several["pairs"]] == [["right", "wrong"], ["right", "copy"], ["wrong", "copy"]]
    assert [pair["difference"] for pair in several["pairs"]] == [found["difference"], 0, -found["difference"]]
    assert [each["accuracy"] for each in several["scores"]] == [*found["accuracy"], found["accuracy"][0]]
    assert "All are mistaken" in (tmp_path / "three.html").read_text()
    assert "right is named 2 times; compare different runs" in main(*command[:3], "right", *command[4:]).stderr
    packed = shutil.make_archive(str(tmp_path / "packed"), "tar", data)  # its names are no tuple
    of_packed = json.loads(main("compare", packed, *("glyphnet:block3_pool", "glyphnet"), "--json").stdout)
    assert of_packed["rsa"] == layers["rsa"]
    assert json.loads(main("compare", packed, "right", "wrong", "--json").stdout)["images"] == 12
    outcome = main("compare", data, "glyphnet", "glyphnet")
    assert outcome.status == 2
    assert "at least two different spaces are compared" in outcome.stderr


def test_nets_and_layers_may_have_colons_of_their_own(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)
    Path("my.py").write_text("def make_net():\n    return None\n")
    Path("C:\\nets").mkdir()
    shutil.copyfile("my.py", "C:\\nets/x.keras")
    for name, net, layer in (
        ("vgg16:block5_pool", "vgg16", "block5_pool"),
        ("vgg16", "vgg16", ""),
        ("vgg16:conv:2", "vgg16", "conv:2"),
        ("my.py:make_net", "my.py:make_net", ""),
        ("my.py:make_net:conv", "my.py:make_net", "conv"),
        ("my:make_net:conv", "my:make_net", "conv"),
        ("C:\\nets/x.keras:conv", "C:\\nets/x.keras", "conv"),
    ):
        found, rest = net_and_layer(name, 0)
        assert (found.name, rest) == (net, layer)
    with pytest.raises(InvalidChoice, match="there is no net 'vgg61'; did you mean 'vgg19'"):
        net_and_layer("vgg61:block5_pool", 0)


def test_layers_of_several_nets_are_told_apart_by_the_whole_names_of_the_nets() -> None:
    layers = _layers_of_nets(["hub:a", "hub:a:b", "vgg16"], ["hub:a:b:conv", "hub:a:conv:2", "vgg16:conv"])
    assert layers == {"hub:a": ("conv:2",), "hub:a:b": ("conv",), "vgg16": ("conv",)}


def test_drift_as_table_csv_json_and_page(main: Callable, data: Path, tmp_path: Path) -> None:
    (tmp_path / "edges").mkdir()
    for number in range(6):
        levels = np.full((12, 12), 255 * (np.arange(12) < 3 + number), np.uint8)
        Image.fromarray(levels).save(tmp_path / "edges" / f"{number}.png")
    command = ("drift", data, "edges", "--net", "glyphnet")
    outcome = main(*command, "--csv", "far.csv", "--page", "drift.html")
    assert outcome.status == 0, outcome.stderr
    assert "p-value of the kernel two-sample test" in outcome.stdout
    found = json.loads(main(*command, "--json").stdout)
    assert (found["old"]["images"], found["new"]["images"], found["far"]) == (12, 6, 1.0)
    assert found["test"]["p_value"] < 0.05
    names = [row.split(",")[0] for row in (tmp_path / "far.csv").read_text().splitlines()[1:]]
    assert names == [image["id"] for image in found["images"]]
    assert (tmp_path / "drift.html").read_text().count("<img ") == 12
    outcome = main(*command, "--layer", "block3_pool", "--layer", "block4_pool")
    assert outcome.status == 2
    assert "drift is told by the features of one layer" in outcome.stderr
