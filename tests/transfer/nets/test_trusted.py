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

from feature_cache.errors import BadData, InvalidChoice, UnsafeFile
from feature_cache.process.trusted import VARIABLE
from transfer.engines.conversion.known import is_known
from transfer.finetune.cut_choice import find_cut
from transfer.finetune.saved_net import save_net as save_tuned
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


class Block(keras.layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.conv = keras.layers.Conv2D(4, 3, padding="same", name="conv")
        self.norm = keras.layers.BatchNormalization(name="norm")

    def build(self, shape):
        self.conv.build(shape)
        self.norm.build((*shape[:-1], 4))

    def call(self, inputs):
        return keras.ops.relu(self.norm(self.conv(inputs)))


class Whole(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.blocks = [Block(name="first"), Block(name="second")]
        self.pool = keras.layers.GlobalAveragePooling2D(name="pool")
        self.dense = keras.layers.Dense(5, name="dense")

    def call(self, inputs):
        for block in self.blocks:
            inputs = block(inputs)
        return self.dense(self.pool(inputs))


class Undecided(Whole):
    def build(self, shape):
        for block in self.blocks:
            block.build(shape)
            shape = (*shape[:-1], 4)
        self.dense.build((None, 4))

    def call(self, inputs):
        return super().call(inputs) if float(keras.ops.max(inputs)) > 0 else inputs


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


def test_other_code_of_trusted_layers_is_another_net(
    shifting: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "mylayers")
    before = shifting.net_id
    (tmp_path / "mylayers.py").write_text(CODE.replace("inputs + self.by", "inputs - self.by"))
    assert shifting.net_id != before


def test_an_activation_that_is_a_function_is_known_to_no_backend(save_net: Callable[..., Net]) -> None:
    layer = keras.layers.Conv2D(2, 3, activation=_double)
    assert not is_known(save_net(keras.Sequential([keras.Input((8, 8, 3)), layer])))


def _double(x: Any) -> Any:
    return 2 * x


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


class TestOfAModelWithCodeOfItsOwn:
    @pytest.fixture
    def mymodels(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv(VARIABLE, "mymodels")
        (tmp_path / "mymodels.py").write_text(CODE.replace('package="mine"', 'package="other"'))
        yield __import__("mymodels")
        del sys.modules["mymodels"]

    @pytest.mark.slow
    def test_its_layers_are_read_and_trained_as_those_of_a_graph(
        self, mymodels: Any, save_net: Callable[..., Net], features_of: Callable, tmp_path: Path
    ) -> None:
        keras.utils.set_random_seed(0)
        pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
        model = mymodels.Whole(name="whole")
        output = model(pixels.astype("float32"))
        middle = model.blocks[0](pixels.astype("float32"))
        net = save_net(model, preprocessing="none")
        backbone = Backbone(net)
        assert backbone.outer == ["whole"]
        assert backbone.readout == "whole/second"  # as of other files
        for found, plain in zip(features_of(backbone, pixels, "whole/first", "whole"), (middle, output), strict=True):
            wanted = keras.ops.convert_to_numpy(plain)
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
        assert Backbone(net, (12, 10)).taps["whole"].shape == (None, 5)
        cut = find_cut(backbone, "whole", "whole/second")
        assert cut.layers == ("whole/first",)
        assert cut.trained == ("whole/second/conv", "whole/second/norm", "whole/dense")
        for variable in backbone.model.weights:  # as a training leaves them
            variable.assign(variable + 0.01)
        kept = Backbone(save_tuned(backbone, tmp_path))
        kept.look_inside()
        assert list(kept.taps) == list(backbone.taps)
        with pytest.raises(InvalidChoice, match="does not take images of 12 x 10 pixels; leave out `size`"):
            Backbone(kept.net, (12, 10))  # it is a graph for one size now
        for after, before in zip(kept.model.weights, backbone.model.weights, strict=True):
            np.testing.assert_array_equal(np.asarray(after), np.asarray(before))

    def test_what_cannot_be_run_without_images_is_told(self, mymodels: Any, save_net: Callable[..., Net]) -> None:
        with pytest.warns(UserWarning, match="has not yet been built"):
            unbuilt = save_net(mymodels.Whole(), "unbuilt", preprocessing="none")
        with pytest.raises(BadData, match=r"unbuilt.keras \(Whole\) does not say the shape of its images"):
            Backbone(unbuilt, (8, 8))
        undecided = mymodels.Undecided()
        undecided(np.ones((1, 8, 8, 3), np.float32))
        with pytest.raises(BadData, match=r"the code of Undecided, .* cannot be run without images"):
            Backbone(save_net(undecided, "undecided", preprocessing="none"))
