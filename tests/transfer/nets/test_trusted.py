"""Nets with layers of the user's own: they are refused, unless the user names the module that they are in."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from feature_cache.errors import BadData, UnsafeFile
from feature_cache.process.trusted import VARIABLE
from transfer.nets.backbone import Backbone
from transfer.nets.catalogue import Net

CODE = """
from pathlib import Path

import keras


class Shift(keras.layers.Layer):
    def __init__(self, by=1.0, **options):
        super().__init__(**options)
        self.by = by

    def call(self, inputs):
        return inputs + self.by

    def get_config(self):
        return {**super().get_config(), "by": self.by}


@keras.saving.register_keras_serializable(package="mine")
class Registered(Shift):
    pass


class Tool:
    @classmethod
    def from_config(cls, config):
        Path("touched").touch()
        return keras.layers.Identity()
"""


@pytest.fixture
def shifting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_net: Callable[..., Net]) -> Net:
    """A net with a layer of a module of the user's own, and one that is registered."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mylayers.py").write_text(CODE)
    module: Any = __import__("mylayers")
    inputs = keras.Input((8, 8, 3))
    net = keras.Model(inputs, module.Registered(2.0, name="last")(module.Shift(1.0, name="first")(inputs)))
    saved = save_net(net, preprocessing="none")
    del sys.modules["mylayers"]
    return saved


def test_layers_of_a_module_are_taken_where_it_is_named(
    shifting: Net, monkeypatch: pytest.MonkeyPatch, features_of: Callable
) -> None:
    with pytest.raises(UnsafeFile, match=r"needs code of its own \(Shift of mylayers\), .* in \$LAYERTAP_TRUST"):
        Backbone(shifting)
    assert "mylayers" not in sys.modules
    monkeypatch.setenv(VARIABLE, "other, mylayers")
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    first, last = features_of(Backbone(shifting), pixels, "first", "last")
    assert (first == 1).all()
    assert (last == 3).all()
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(UnsafeFile, match="needs code of its own"):
        Backbone(shifting)


def test_nothing_but_layers_of_a_named_module_is_taken(
    shifting: Net, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, "mylayers")
    file = tmp_path / "tool.keras"
    with zipfile.ZipFile(shifting.name) as source, zipfile.ZipFile(file, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                config = json.loads(content)
                config["config"]["layers"][1]["class_name"] = "Tool"
                content = json.dumps(config).encode()
            target.writestr(name, content)
    with pytest.raises(UnsafeFile, match=r"needs code of its own \(Tool of mylayers\)"):
        Backbone(Net(str(file), preprocessing="none"))
    assert not (tmp_path / "touched").exists()
    (tmp_path / "mylayers.py").unlink()
    sys.modules.pop("mylayers", None)
    with pytest.raises(BadData, match=r"needs \w+ of mylayers, which cannot be imported"):
        Backbone(shifting)
