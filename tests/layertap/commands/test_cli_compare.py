"""`layertap compare`: layers of nets, and two runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from feature_cache.errors import InvalidChoice
from layertap.commands.arguments.shared import net_and_layer
from layertap.workflows.training.readouts import _layers_of_nets


def test_layers_and_runs_are_compared(main: Callable, data: Path) -> None:
    layers = json.loads(main("compare", data, "glyphnet:block3_pool", "glyphnet", "--json").stdout)
    assert layers["spaces"] == ["glyphnet:block3_pool", "glyphnet:block4_pool"]
    assert 0 < layers["cka"][0][1] == layers["cka"][1][0] < 1
    for head in ("ridge", "prototypes"):
        assert main("train-head", data, "--net", "glyphnet", "--head", head, "--cv", 2, "--out", head).status == 0
    found = json.loads(main("compare", data, "ridge", "prototypes", "--json").stdout)
    assert found["images"] == 12
    assert found["difference"] == (len(found["only_second"]) - len(found["only_first"])) / 12
    outcome = main("compare", data, "ridge", "prototypes")
    assert "Cohen's kappa" in outcome.stdout
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
