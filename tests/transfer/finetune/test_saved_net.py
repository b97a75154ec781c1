"""Nets that were tuned, written down and built again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_cache.errors import DamagedFile, InvalidChoice
from layertap.runs import net_config, net_of_run
from transfer.finetune.cut_choice import find_cut
from transfer.finetune.recipe import Recipe
from transfer.finetune.saved_net import save_net
from transfer.nets.catalogue import Net, net_from_config


def file_net(folder: Path) -> Net:
    """A small net in a file: a nested model, frozen, and a layer that is used twice."""
    import keras

    keras.utils.set_random_seed(0)
    inner = keras.Sequential(
        [keras.Input((16, 16, 3)), keras.layers.Conv2D(8, 3, padding="same", name="a")], name="inner"
    )
    twice = keras.layers.Conv2D(8, 3, padding="same", name="twice")
    x = inputs = keras.Input((16, 16, 3))
    x = keras.layers.Dropout(0.5)(inner(keras.layers.Rescaling(1 / 255)(x)))
    x = keras.layers.BatchNormalization(name="normalised")(twice(keras.layers.ReLU()(twice(x))))
    model = keras.Model(inputs, x)
    model.trainable = False
    model.save(folder / "small.keras")
    return Net(str(folder / "small.keras"))


@pytest.mark.parametrize("lora", [0, 4])
@pytest.mark.parametrize("kind", ["glyphnet", "vgg16", "file"])
def test_the_net_that_is_kept_computes_what_was_trained(tmp_path: Path, kind: str, lora: int):
    from transfer.finetune.network import Network
    from transfer.nets.backbone import Backbone

    net = file_net(tmp_path) if kind == "file" else Net(kind, None if kind == "glyphnet" else "none")
    size = (16, 16) if kind == "file" else (32, 32)
    backbone = Backbone(net, size)
    readout = backbone.readout
    first = {"glyphnet": "block4_conv1", "vgg16": "block5_conv2", "file": "all"}[kind]
    cut = find_cut(backbone, readout, first)
    if kind == "file":
        assert cut.trained == ("inner/a", "twice", "normalised")
    network = Network(backbone, cut, readout, "avg", "none", 2, Recipe(lora=lora))
    rng = np.random.default_rng(0)
    network.weights = [value + 0.05 * rng.standard_normal(value.shape).astype(np.float32) for value in network.weights]
    pixels = rng.integers(0, 256, (3, *size, 3), np.uint8)

    def features(one: Backbone) -> np.ndarray:
        said = one.cut([(readout, "avg")], "none", 3).predict_on_batch(pixels)
        return np.asarray(said).reshape(len(pixels), -1)

    (tmp_path / "run").mkdir()
    kept = save_net(backbone, tmp_path / "run")
    again = net_from_config(net_config(kept), tmp_path / "run")
    assert again == kept
    rebuilt = Backbone(again, size)
    expected = features(backbone)
    np.testing.assert_allclose(features(rebuilt), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert not np.allclose(features(Backbone(net, size)), expected, rtol=1e-2)
    assert find_cut(rebuilt, readout, first).trained == cut.trained  # nothing is left of what was frozen, or adapted


def test_in_float16_steps_can_be_repeated_from_the_start(tmp_path: Path):
    from transfer.finetune.network import Network
    from transfer.nets.backbone import Backbone

    backbone = Backbone(Net("glyphnet"), (32, 32), precision="float16")
    cut = find_cut(backbone, backbone.readout, "block4_conv2")
    network = Network(backbone, cut, backbone.readout, "avg", "tf", 2, Recipe())
    rows = np.random.default_rng(0).random((4, *cut.shapes[0]), np.float32)
    losses = []
    for _ in range(2):
        network.reset(np.zeros((256, 2)), np.zeros(2))
        losses.append([network.step(rows, np.eye(2, dtype=np.float32)[[0, 1, 0, 1]], 1e-3) for _ in range(3)])
        assert all(np.isfinite(losses[-1]))
        assert losses[-1][0] == pytest.approx(np.log(2), abs=1e-3)
    assert losses[0] == pytest.approx(losses[1], abs=1e-2)


@pytest.mark.parametrize(
    ("text", "error"),
    [(None, InvalidChoice), ('{"format": 1}', InvalidChoice), ("[", DamagedFile), ('{"fine_tuned": 1}', DamagedFile)],
)
def test_what_is_no_run_of_fine_tuning_has_no_net(tmp_path: Path, text: str | None, error: type[Any]):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(error):
        net_of_run(tmp_path)


@pytest.mark.parametrize("key", ["name", "weights", "seed", "preprocessing"])
def test_a_net_that_lacks_a_key_is_a_damaged_file(key: str):
    config = Net("glyphnet").as_config()
    net_from_config(config)
    del config[key]
    with pytest.raises(DamagedFile, match="does not say which net"):
        net_from_config(config)
