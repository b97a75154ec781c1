"""The engine OpenVINO: the numbers of Keras, whatever the batch, and however many batches are under way."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.applications import convnext, densenet, efficientnet, nasnet, resnet

from transfer.engines import openvino_engine
from transfer.engines.keras_engine import KerasEngine
from transfer.engines.openvino_engine import OpenVinoEngine, convert
from transfer.nets.backbone import Backbone
from transfer.nets.catalogue import NETS, Net

pytest.importorskip("openvino")
if keras.backend.backend() != "tensorflow":
    pytest.skip("OpenVINO converts nets by way of TensorFlow", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[3]
READOUTS = {
    "averages and maxima": (("block1_pool", "avg"), ("block3_conv1", "max")),
    "a map and a row": (("block2_conv1", "none"), ("block4_pool", "avg")),
    "flat and one deeper than the other": (("block4_pool", "flatten"), ("block1_conv1", "avg")),
    "one": (("block4_pool", "avg"),),
}
MEANS = READOUTS["averages and maxima"]
Converted = tuple[keras.Model, Path]


def assert_close(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    """One array for each readout, within 1e-4 of the largest feature."""
    assert len(found) == len(expected)
    for part, exact in zip(found, expected, strict=True):
        scale = np.abs(exact).max()
        assert scale > 0
        assert part.shape == exact.shape
        assert part.dtype == np.float32
        np.testing.assert_allclose(part, exact, rtol=0, atol=1e-4 * scale)


def features_of_keras(model: keras.Model, pixels: np.ndarray) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(part) for part in keras.tree.flatten(model(pixels, training=False))]


def in_batches(engine: OpenVinoEngine | KerasEngine, pixels: np.ndarray) -> list[np.ndarray]:
    starts = range(0, len(pixels), engine.batch_size)
    parts = [engine.start(pixels[start : start + engine.batch_size])() for start in starts]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


@pytest.fixture(scope="module")
def glyphnet(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Converted]:
    """The net cut at some layers, for gray or colour images: as Keras has it, and converted."""
    made: dict[tuple, Converted] = {}

    def make(readouts: tuple[tuple[str, str], ...] = MEANS, channels: int = 1) -> Converted:
        if (readouts, channels) not in made:
            model = Backbone(Net("glyphnet")).cut(readouts, "tf", channels)
            file = tmp_path_factory.mktemp("converted") / "net.xml"
            convert(model, file)
            made[readouts, channels] = model, file
        return made[readouts, channels]

    return make


@pytest.fixture
def pixels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (11, 32, 32, 1), np.uint8)


class TestNumbers:
    @pytest.mark.parametrize("channels", [1, 3], ids=["gray", "colour"])
    @pytest.mark.parametrize("readouts", list(READOUTS.values()), ids=list(READOUTS))
    def test_features_are_those_of_keras(
        self, glyphnet: Callable[..., Converted], rng: np.random.Generator, readouts: tuple, channels: int
    ) -> None:
        model, file = glyphnet(readouts, channels)
        pixels = rng.integers(0, 256, (11, 32, 32, channels), np.uint8)
        expected = features_of_keras(model, pixels)
        for batch_size in (1, 3, 8, 11):
            assert_close(in_batches(OpenVinoEngine(file, batch_size), pixels), expected)

    def test_both_engines_give_the_same_of_black_white_and_flat_images(
        self, glyphnet: Callable[..., Converted]
    ) -> None:
        model, file = glyphnet()
        pixels = np.stack([np.full((32, 32, 1), value, np.uint8) for value in (0, 1, 128, 255)])
        assert_close(in_batches(OpenVinoEngine(file, 4), pixels), in_batches(KerasEngine(model, 4), pixels))

    @pytest.mark.parametrize("count", [1, 5, 8])
    def test_a_row_does_not_depend_on_how_many_came_with_it(
        self, glyphnet: Callable[..., Converted], pixels: np.ndarray, count: int
    ) -> None:
        engine = OpenVinoEngine(glyphnet()[1], 8)
        whole, part = engine.start(pixels[:8])(), engine.start(pixels[:count])()
        for one, other in zip(whole, part, strict=True):
            assert len(other) == count
            np.testing.assert_array_equal(one[:count], other)

    def test_rows_keep_their_order_also_in_an_array_that_is_not_contiguous(
        self, glyphnet: Callable[..., Converted], pixels: np.ndarray
    ) -> None:
        engine = OpenVinoEngine(glyphnet()[1], 8)
        straight = engine.start(pixels[:8])()
        assert_close(engine.start(pixels[7::-1])(), [part[::-1] for part in straight])
        assert_close(engine.start(np.repeat(pixels, 2, axis=2)[:8, :, ::2])(), straight)
        assert_close(engine.start(pixels[:8:2])(), [part[::2] for part in straight])


class TestUnderWay:
    def test_batches_that_are_started_together_may_be_waited_for_in_any_order(
        self, glyphnet: Callable[..., Converted], rng: np.random.Generator
    ) -> None:
        model, file = glyphnet()
        engine = OpenVinoEngine(file, 4)
        for _ in range(10):
            counts = rng.integers(1, 5, engine.ahead + 1)
            batches = [rng.integers(0, 256, (count, 32, 32, 1), np.uint8) for count in counts]
            waits = [engine.start(batch) for batch in batches]
            found = {place: waits[place]() for place in rng.permutation(len(waits))}
            for place, batch in enumerate(batches):
                assert_close(found[place], features_of_keras(model, batch))

    def test_at_least_one_batch_waits_while_another_is_computed(self, glyphnet: Callable[..., Converted]) -> None:
        assert OpenVinoEngine(glyphnet()[1], 2).ahead >= 2

    def test_features_stay_when_later_batches_are_computed(
        self, glyphnet: Callable[..., Converted], pixels: np.ndarray
    ) -> None:
        engine = OpenVinoEngine(glyphnet()[1], 8)
        first = engine.start(pixels[:8])()
        kept = [part.copy() for part in first]
        for shift in range(3 * (engine.ahead + 1)):  # every request is used again
            engine.start(pixels[:8] + np.uint8(shift))()
        for part, copy in zip(first, kept, strict=True):
            np.testing.assert_array_equal(part, copy)

    def test_inputs_may_be_overwritten_once_their_features_have_come(
        self, glyphnet: Callable[..., Converted], rng: np.random.Generator
    ) -> None:
        model, file = glyphnet()
        engine = OpenVinoEngine(file, 4)
        buffers = [np.empty((4, 32, 32, 1), np.uint8) for _ in range(2)]
        waiting, found, given = [], [], []
        for number in range(12):
            if len(waiting) == 2:
                found.append(waiting.pop(0)())
            buffer = buffers[number % 2]
            buffer[:] = rng.integers(0, 256, buffer.shape, np.uint8)
            given.append(buffer.copy())
            waiting.append(engine.start(buffer))
        found += [wait() for wait in waiting]
        for features, inputs in zip(found, given, strict=True):
            assert_close(features, features_of_keras(model, inputs))

    @pytest.mark.parametrize("count", [3, 4], ids=["padded", "whole"])
    def test_whoever_starts_a_batch_need_not_hold_its_inputs(
        self, glyphnet: Callable[..., Converted], rng: np.random.Generator, count: int
    ) -> None:
        model, file = glyphnet()
        engine = OpenVinoEngine(file, 4)
        for _ in range(5):
            batches = [rng.integers(0, 256, (count, 32, 32, 1), np.uint8) for _ in range(engine.ahead + 1)]
            waits = [engine.start(batch.copy()) for batch in batches]
            gc.collect(1)  # all that it has to find is young
            litter = [np.full((4, 32, 32, 1), 255, np.uint8) for _ in range(50)]  # comes to lie where inputs were
            for wait, batch in zip(waits, batches, strict=True):
                assert_close(wait(), features_of_keras(model, batch))
            del litter

    def test_batches_that_are_refused_do_not_block_those_that_follow(
        self, glyphnet: Callable[..., Converted], pixels: np.ndarray
    ) -> None:
        model, file = glyphnet()
        engine = OpenVinoEngine(file, 11)
        found: list[list[np.ndarray]] = []

        def work() -> None:
            for _ in range(engine.ahead + 1):
                with pytest.raises(Exception, match="(?i)shape|incompatible"):
                    engine.start(np.zeros((11, 16, 16, 1), np.uint8))()
            found.append(engine.start(pixels)())

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(3)
        assert_close(found[0] if found else [], features_of_keras(model, pixels))


class TestConversion:
    def test_weights_are_kept_in_full_precision(self, glyphnet: Callable[..., Converted]) -> None:
        model, file = glyphnet(READOUTS["one"])
        assert file.with_suffix(".bin").stat().st_size >= 4 * model.count_params()

    def test_a_conversion_that_computes_something_else_is_noticed(
        self, glyphnet: Callable[..., Converted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Other(OpenVinoEngine):
            def start(self, inputs: np.ndarray) -> Callable[[], list[np.ndarray]]:
                wait = super().start(inputs)
                return lambda: [part + np.float32(0.01) * np.abs(part).max() for part in wait()]

        monkeypatch.setattr(openvino_engine, "OpenVinoEngine", Other)
        with pytest.raises(ValueError, match="its features differ by .* from those of Keras"):
            convert(glyphnet()[0], tmp_path / "net.xml")

    def test_features_that_are_no_numbers_are_noticed(
        self, glyphnet: Callable[..., Converted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Other(OpenVinoEngine):
            def start(self, inputs: np.ndarray) -> Callable[[], list[np.ndarray]]:
                wait = super().start(inputs)
                return lambda: [np.full_like(part, np.nan) for part in wait()]

        monkeypatch.setattr(openvino_engine, "OpenVinoEngine", Other)
        with pytest.raises(ValueError, match="its features differ"):
            convert(glyphnet()[0], tmp_path / "net.xml")

    def test_it_tells_its_name_and_versions(self) -> None:
        described = OpenVinoEngine.describe()
        assert described["engine"] == "openvino"
        assert described["openvino"][0].isdigit()
        assert described["keras"] == keras.__version__


def shallow_resnetv2(**options: Any) -> keras.Model:
    def blocks(x: object) -> object:
        return resnet.stack_residual_blocks_v2(resnet.stack_residual_blocks_v2(x, 16, 2, name="a"), 32, 2, name="b")

    return resnet.ResNet(blocks, preact=True, use_bias=True, **options)


# One of each kind, with few blocks. Named nets are converted without TensorFlow (conversion/test_conversion.py): this
# is how files of other layers are converted, and runs are exported.
KINDS: dict[str, Callable[..., keras.Model]] = {
    "convnexttiny": partial(convnext.ConvNeXt, (1, 1, 1, 1), (16, 24, 32, 48), layer_scale_init_value=0.5),
    "densenet121": partial(densenet.DenseNet, [2, 2, 2, 2]),
    "efficientnetb0": partial(
        efficientnet.EfficientNet, 0.5, 0.4, 224, blocks_args=efficientnet.DEFAULT_BLOCKS_ARGS[:3]
    ),
    "mobilenetv3small": keras.applications.MobileNetV3Small,
    "nasnetmobile": partial(
        nasnet.NASNet,
        penultimate_filters=96,
        num_blocks=1,
        stem_block_filters=8,
        skip_reduction=False,
        default_size=224,
    ),
    "resnet50v2": shallow_resnetv2,
    "xception": keras.applications.Xception,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_nets_of_every_kind_have_the_features_that_keras_computes(
    name: str, save_net: Callable[..., Net], tmp_path: Path, rng: np.random.Generator
) -> None:
    side = NETS[name].min_size
    backbone = Backbone(
        save_net(KINDS[name](weights=None, include_top=False, input_shape=(side, side, 3))), (side, side)
    )
    model = backbone.cut([(backbone.readout, NETS[name].pooling)], NETS[name].preprocessing, 3)
    pixels = rng.integers(0, 256, (5, side, side, 3), np.uint8)
    convert(model, tmp_path / "net.xml")
    # Called directly: KerasEngine would take long to compile each net, and test_keras_engine.py is about it.
    expected = [keras.ops.convert_to_numpy(part) for part in keras.tree.flatten(model(pixels, training=False))]
    for batch_size in (1, 4):
        assert_close(in_batches(OpenVinoEngine(tmp_path / "net.xml", batch_size), pixels), expected)
    keras.utils.clear_session()


def test_openvino_is_imported_without_its_tools_which_others_find_as_usual() -> None:
    code = """
import sys
from transfer.engines.openvino_import import import_openvino
openvino = import_openvino()
assert "openvino.tools.ovc" not in sys.modules
try:
    openvino.convert_model("no such file")
except Exception as error:
    print(type(error).__module__.split(".")[0])
from openvino.tools.ovc import convert_model
assert import_openvino() is openvino
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "openvino"
