"""What a net had to be built for is remembered: a second look builds nothing, and says the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import pytest
from keras import layers

from transfer import resolved_layers
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest


@pytest.fixture(autouse=True)
def memo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a memo that nobody else has."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "layertap" / "layers.json"


@pytest.fixture
def net(save_net: Callable[..., Net]) -> Net:
    """A net of 16 patches and a class token."""
    inputs = keras.Input((16, 16, 3))
    patches = layers.Reshape((16, 4), name="patches")(layers.Conv2D(4, 4, 4, name="patch")(inputs))
    first = layers.Dense(4, name="first")(layers.Cropping1D((0, 15))(patches))
    return save_net(keras.Model(inputs, layers.Concatenate(axis=1, name="tokens")([first, patches])))


@pytest.mark.parametrize("asked", [{"layers": ("tokens",)}, {"layers": ("-1", "patch")}, {}, {"pooling": "flatten"}])
def test_a_second_look_builds_nothing_and_has_the_same_specs(net: Net, asked: dict) -> None:
    first, built = FeatureRequest(net, **asked).resolve()
    again, rebuilt = FeatureRequest(net, **asked).resolve()
    assert built is not None
    assert rebuilt is None
    assert again.layers == first.layers
    assert again.specs == first.specs


def test_poolings_are_resolved_apart(net: Net) -> None:
    pools = ("avg", "cls", "max", "none")
    specs = [[FeatureRequest(net, ("tokens",), pool).specs for pool in pools] for _ in range(2)]
    assert specs[0] == specs[1]
    assert [spec.prefix_tokens for [spec] in specs[0]] == [1, None, 1, 1]


def test_another_net_in_the_same_file_is_looked_at(net: Net) -> None:
    FeatureRequest(net, ("tokens",)).resolve()
    inputs = keras.Input((16, 16, 3))
    patches = layers.Reshape((16, 4), name="tokens")(layers.Conv2D(4, 4, 4)(inputs))
    keras.Model(inputs, patches).save(net.name)
    [spec] = FeatureRequest(Net(net.name), ("tokens",)).specs
    assert spec.prefix_tokens is None


@pytest.mark.parametrize("text", ["", "[]", '{"KEY": 1}', '{"KEY": [["x"], [["x", -1]]]}', '{"KEY": [["x"], [["x"]]]}'])
def test_a_damaged_memo_is_as_good_as_none(net: Net, memo: Path, text: str) -> None:
    request = FeatureRequest(net, ("tokens",))
    specs = request.specs
    [key] = resolved_layers._entries()
    memo.write_text(text.replace("KEY", key))
    assert FeatureRequest(net, ("tokens",)).resolve()[1] is not None
    assert FeatureRequest(net, ("tokens",)).specs == specs


def test_the_memo_is_bounded(memo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolved_layers, "MOST", 2)
    for number in range(3):
        resolved_layers.remember(str(number), ("block",), None)
    recalled = [resolved_layers.recall(str(number)) for number in range(3)]
    assert recalled == [None, (("block",), None), (("block",), None)]
    assert [file.name for file in memo.parent.iterdir()] == [memo.name]
