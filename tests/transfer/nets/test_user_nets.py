"""Nets by a function of the user's: identified by what it returns, and run only where the user names it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import layertap as lt
from feature_cache.errors import BadData, InvalidChoice, LayertapError, UnsafeFile
from layertap.runs import load_run
from transfer.finetune.saved_net import save_net
from transfer.nets import user_nets
from transfer.nets.backbone import Backbone
from transfer.nets.catalogue import Net, net_from_config
from transfer.request import FeatureRequest, request_of

SIDE = 12
NETS = f"""
import keras
from keras import layers
open("was run", "w").close()

def make_net():
    net = [keras.Input(({SIDE}, {SIDE}, 3)), layers.Rescaling(1 / 255), layers.Conv2D(4, 3, name="conv")]
    return keras.Sequential([*net, layers.GlobalAveragePooling2D(name="gap")])

class Scaled(layers.Layer):
    def call(self, x):
        return 2 * x

def own_layer():
    i = keras.Input(({SIDE}, {SIDE}, 3))
    return keras.Model(i, Scaled(name="scaled")(layers.Conv2D(2, 3)(i)))

def double(x):
    return 4 * x

def own_function():
    return keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3, activation=double)])

def half():
    keras.config.set_dtype_policy("mixed_float16")
    return make_net()

once = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3)])
def same():
    return once

def unbuilt():
    return keras.Sequential([layers.Conv2D(2, 3)])

def number():
    return 3

def fails():
    raise ValueError("no weights here")

def unlike():
    import numpy as np
    net = make_net()
    net.get_layer("conv").bias.assign(np.random.default_rng().random(4))
    return net
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``nets.py`` in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    forget()
    return tmp_path / "nets.py"


def forget() -> None:
    """Let code be run, and functions be called, as in a new process."""
    for name in [name for name in sys.modules if name.startswith(user_nets.CODE.prefix)]:
        del sys.modules[name]
    user_nets._described.cache_clear()


def rows_of(net: Net) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    return Backbone(net).cut([("conv", "avg")], net.applied_preprocessing, 3).predict(pixels, verbose=0)[0]


def test_a_function_gives_the_net_that_it_returns(file: Path) -> None:
    net = Net("nets.py:make_net")
    assert not Path("was run").exists()  # a name alone runs nothing
    assert net.default_size() == (SIDE, SIDE)
    assert net.expected_pixels is not None and net.expected_pixels.is_known  # by its Rescaling
    assert net.net_id == f"make_net-{net.weights_id[7:19]}"
    assert Net("nets.py").weights_id == Net(str(file)).weights_id == net.weights_id
    assert Net("nets.py", seed=1).weights_id != net.weights_id
    np.testing.assert_array_equal(rows_of(net), rows_of(Net("nets.py")))
    assert FeatureRequest(net).resolve()[0].layers == ("conv",)


def test_a_module_is_found_in_the_working_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    before = list(sys.path)
    assert Net("nets:make_net").weights_id == Net("nets.py:make_net").weights_id
    assert sys.path == before
    monkeypatch.delitem(sys.modules, "nets")


def test_other_code_of_a_layer_is_another_net(file: Path) -> None:
    """Other code elsewhere is not, where all layers are Keras's."""
    names = ("nets.py", "nets.py:own_layer", "nets.py:own_function")
    before = [Net(name).weights_id for name in names]
    file.write_text(NETS.replace("2 * x", "3 * x"))
    after = [Net(name).weights_id for name in names]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, False]


LOADS = """
def loads():
    net = make_net()
    net.load_weights("a.weights.h5")
    return net
"""


def test_the_same_source_with_other_weights_is_another_net(file: Path) -> None:
    file.write_text(NETS + LOADS)
    ids = []
    for seed in (1, 2):
        Backbone(Net("nets.py", seed=seed)).model.save_weights("a.weights.h5")
        forget()
        ids.append(Net("nets.py:loads").weights_id)
    assert ids[0] != ids[1]


def test_a_net_of_16_bits_is_computed_in_float32(file: Path) -> None:
    assert {layer.compute_dtype for layer in Backbone(Net("nets.py:half")).model.layers} == {"float32"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nets.py:make_ne", "nets.py has no function 'make_ne'; did you mean 'make_net'?"),
        ("gone.py", "the file 'gone.py' of the net cannot be read: No such file or directory."),
        ("gone:make_net", "the module 'gone' of the net gone:make_net cannot be imported (ModuleNotFoundError: "),
        ("nets.py:number", "nets.py:number returned int; it should return a built Keras model."),
        ("nets.py:unbuilt", "nets.py:unbuilt returned a Sequential that is not a built Functional or Sequential model"),
        ("nets.py:fails", "nets.py:fails failed in line "),
        ("nets.py:same", "nets.py:same returned a model that it had returned before; let it build, or load, a new one"),
        ("nets.py:unlike", "nets.py:unlike returned another net than when it was called before. Let it load its"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(file: Path, name: str, message: str) -> None:
    with pytest.raises(LayertapError) as caught:
        Backbone(Net(name))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_weights_are_those_of_the_function(file: Path) -> None:
    with pytest.raises(InvalidChoice, match="nets.py returns a net with its weights; leave out `weights`"):
        Net("nets.py", weights="none")


def test_a_trained_net_is_kept_as_a_file(file: Path, tmp_path: Path) -> None:
    net = Net("nets.py")
    backbone = Backbone(net)
    backbone.model.get_layer("conv").bias.assign([1.0, 2.0, 3.0, 4.0])
    tuned = save_net(backbone, tmp_path)
    assert (tuned.is_file, tuned.preprocessing) == (True, net.applied_preprocessing)
    np.testing.assert_allclose(rows_of(tuned) - rows_of(net), [1, 2, 3, 4], atol=1e-4)


@pytest.fixture
def run(file: Path) -> Path:
    """A run whose net is ``nets.py:make_net``, and a mark that tells whether code is run from now on."""
    features = lt.extract("digits", "nets.py", cache="cache", progress=False)
    trained = lt.train_head("digits", features, "ridge", cv=2, out="run", cache="cache", progress=False)
    assert trained.nets[0].name == f"{file}:make_net"
    Path("was run").unlink()
    forget()
    return Path("run")


def test_neither_a_run_nor_a_space_makes_its_code_run(run: Path, file: Path) -> None:
    with pytest.raises(UnsafeFile, match="the net of run is made by code of its own, .*: `net_code='.*:make_net'"):
        load_run(run)
    with pytest.raises(UnsafeFile):
        load_run(run, net_code="nets.py:own_layer")
    config = json.loads((run / "config.json").read_text())
    with pytest.raises(UnsafeFile, match="is run only where you name it"):
        net_from_config(config["net"])
    cache = lt.FeatureCache("cache")
    [space] = [cache.open(name) for name in cache.spaces() if name.startswith("make_net")]
    with pytest.raises(UnsafeFile, match="as `net='FILE.py:FUNCTION'`, in place of the space"):
        request_of(space)
    assert not Path("was run").exists()
    assert lt.predict(load_run(run, net_code="nets.py"), "digits", cache="cache", progress=False).classes
    assert Path("was run").exists()


def test_a_run_does_not_go_with_another_net(run: Path, file: Path) -> None:
    file.write_text(NETS.replace("Conv2D(4, 3", "Conv2D(4, 3, strides=2"))
    with pytest.raises(BadData, match="cannot be computed any more: their net was 'make_net-"):
        lt.predict(load_run(run, net_code="nets.py"), "digits", cache="cache", progress=False)


@pytest.mark.slow
def test_net_code_of_a_run_that_needs_none_is_an_error(file: Path) -> None:
    features = lt.extract("digits", "glyphnet", layers=["block4_pool"], cache="cache", progress=False)
    lt.train_head("digits", features, "ridge", cv=2, out="plain", cache="cache", progress=False)
    with pytest.raises(InvalidChoice, match="the nets of plain need no code; leave out `net_code`"):
        load_run("plain", net_code="nets.py")


def test_an_outline_does_not_change_what_the_net_is(file: Path) -> None:
    outline = FeatureRequest(Net("nets.py:make_net"), ("conv",)).build_outline()
    assert outline.taps["conv"].shape[1:] == (SIDE - 2, SIDE - 2, 4)
    first = Net("nets.py:make_net").weights_id
    forget()
    assert Net("nets.py:make_net").weights_id == first
