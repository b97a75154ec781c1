"""Quantisation of a net of OpenVINO: what is rounded, that it is repeatable, and how little it changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transfer.engines.openvino_engine import OpenVinoEngine
from transfer.quantisation.engine import QuantisedEngine, QuantisedNet
from transfer.quantisation.losses import Loss
from transfer.quantisation.quantiser import quantise

openvino = pytest.importorskip("openvino")
pytest.importorskip("nncf", reason="nets are quantised by NNCF: pip install 'layertap[int8]'")

SIDE = 12


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Smooth images, which differ as those of a data set do."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (16, 3, 3, 3)).astype(np.uint8)
    return np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A file of a small net: a convolution, a depthwise one and a dense one, read before and after the last."""

    def write(scale: float = 1.0) -> Path:
        from openvino import opset13 as ops

        random = np.random.default_rng(1)

        def kernel(*shape: int) -> Any:
            return ops.constant((random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))

        pixels = ops.parameter([-1, SIDE, SIDE, 3], np.uint8, name="pixels")
        planes = ops.transpose(ops.convert(pixels, np.float32), np.array([0, 3, 1, 2]))
        planes = ops.multiply(planes, ops.constant(np.float32(scale / 255)))
        ones, zeros = [1, 1], [0, 0]
        planes = ops.convolution(planes, kernel(16, 3, 3, 3), [2, 2], zeros, zeros, ones)
        factors = ops.constant(np.float32(random.uniform(0.5, 2, (1, 16, 1, 1))))  # as batch normalisation has them
        planes = ops.relu(
            ops.add(ops.multiply(planes, factors), ops.constant(np.full((1, 16, 1, 1), 0.1 * scale, "f")))
        )
        planes = ops.relu(ops.group_convolution(planes, kernel(16, 1, 1, 3, 3), ones, ones, ones, ones))
        first = ops.reduce_mean(planes, np.array([2, 3]))
        planes = ops.relu(ops.convolution(planes, kernel(24, 16, 1, 1), ones, zeros, zeros, ones))
        second = ops.reduce_mean(planes, np.array([2, 3]))
        for number, output in enumerate((first, second)):
            output.output(0).get_tensor().set_names({f"readout{number}"})
        file = tmp_path_factory.mktemp("net") / "net.xml"
        model = openvino.Model([first.output(0), second.output(0)], [pixels])
        openvino.save_model(model, str(file), compress_to_fp16=False)
        return file

    return write


@pytest.fixture(scope="module")
def quantised(net: Callable[..., Path], images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("quantised") / "net.xml"
    quantise(net(), images, file)
    return file


def rows(engine: OpenVinoEngine, images: np.ndarray) -> list[np.ndarray]:
    parts = [
        engine.start(images[start : start + engine.batch_size])() for start in range(0, len(images), engine.batch_size)
    ]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def test_every_convolution_gets_rounded_activations_and_weights(quantised: Path) -> None:
    model = openvino.Core().read_model(quantised)
    convolutions = [op for op in model.get_ordered_ops() if op.get_type_name() in ("Convolution", "GroupConvolution")]
    assert len(convolutions) == 3
    for operation in convolutions:
        before = operation.input_value(0).get_node()
        if before.get_type_name() == "Transpose":  # which moves what was rounded
            before = before.input_value(0).get_node()
        assert before.get_type_name() == "FakeQuantize"
        after = {port.get_node().get_type_name() for port in operation.output(0).get_target_inputs()}
        assert "Multiply" not in after  # it would keep NNCF from the bias
        held = [op for op in _before(operation.input_value(1).get_node()) if op.get_type_name() == "Constant"]
        assert any(op.get_element_type().to_string() in ("i8", "u8") for op in held)
    assert {output.get_element_type().to_string() for output in model.outputs} == {"f32"}


def _before(operation: Any) -> list[Any]:
    return [operation] + [op for port in operation.inputs() for op in _before(port.get_source_output().get_node())]


def test_features_change_by_rounding_alone(net: Callable[..., Path], quantised: Path, images: np.ndarray) -> None:
    exact, found = rows(OpenVinoEngine(net(), 8), images), rows(OpenVinoEngine(quantised, 8), images)
    for number in range(2):
        loss = Loss("", np.arange(len(images)), exact[number], found[number])
        assert 1e-5 < loss.relative < 0.05
        assert 1e-5 < loss.of_spread < 0.1
        assert found[number].dtype == np.float32


def test_the_same_images_give_the_same_net_without_a_word(
    net: Callable[..., Path], quantised: Path, images: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    quantise(net(), images, tmp_path / "again.xml")
    assert (tmp_path / "again.bin").read_bytes() == quantised.with_suffix(".bin").read_bytes()
    assert capfd.readouterr() == ("", "")
    quantise(net(), images[:10], tmp_path / "other.xml")
    assert (tmp_path / "other.bin").read_bytes() != quantised.with_suffix(".bin").read_bytes()


def test_features_depend_neither_on_the_batch_nor_on_what_else_is_read(quantised: Path, images: np.ndarray) -> None:
    both = rows(QuantisedEngine(QuantisedNet(quantised, (0, 1)), 8), images)
    single = rows(QuantisedEngine(QuantisedNet(quantised, (0, 1)), 1), images)
    alone = rows(QuantisedEngine(QuantisedNet(quantised, (1,)), 5), images)
    for expected, found in ((both[0], single[0]), (both[1], single[1]), (both[1], alone[0])):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_net_that_computes_its_shapes_takes_any_number_of_images(images: np.ndarray, tmp_path: Path) -> None:
    from openvino import opset13 as ops

    random = np.random.default_rng(2)
    pixels = ops.parameter([-1, SIDE, SIDE, 3], np.uint8, name="pixels")
    planes = ops.transpose(ops.convert(pixels, np.float32), np.array([0, 3, 1, 2]))
    kernel = ops.constant(random.normal(size=(8, 3, 4, 4)).astype(np.float32) / 500)
    patches = ops.convolution(planes, kernel, [4, 4], [0, 0], [0, 0], [1, 1])
    count = ops.gather(ops.shape_of(patches), ops.constant(np.array([0])), ops.constant(0))  # as of batches of tokens
    tokens = ops.reshape(
        ops.transpose(patches, np.array([0, 2, 3, 1])), ops.concat([count, np.array([9, 8])], 0), False
    )
    tokens = ops.add(tokens, ops.constant(random.normal(size=(1, 9, 8)).astype(np.float32)))
    tokens.output(0).get_tensor().set_names({"readout0"})
    quantise(openvino.Model([tokens], [pixels]), images, tmp_path / "net.xml")
    [together], [single] = (rows(OpenVinoEngine(tmp_path / "net.xml", size), images) for size in (8, 1))
    assert together.shape == (16, 9, 8)
    np.testing.assert_allclose(together, single, rtol=0, atol=1e-5 * np.abs(single).max())


def test_gray_images_are_colour_images_of_three_equal_channels(quantised: Path, images: np.ndarray) -> None:
    engine = QuantisedEngine(QuantisedNet(quantised, (1,)), 4)
    gray = images[:4, :, :, :1]
    np.testing.assert_array_equal(engine.start(gray)()[0], engine.start(np.repeat(gray, 3, axis=-1))()[0])


def test_the_tiny_activations_of_random_nets_are_not_rounded_to_zero(
    net: Callable[..., Path], images: np.ndarray, tmp_path: Path
) -> None:
    small = net(scale=1e-9)
    quantise(small, images, tmp_path / "small.xml")
    exact, found = rows(OpenVinoEngine(small, 8), images), rows(OpenVinoEngine(tmp_path / "small.xml", 8), images)
    assert Loss("", np.arange(len(images)), exact[1], found[1]).of_spread < 0.2


def test_losses_of_broken_features_are_large() -> None:
    exact = np.random.default_rng(0).normal(5, 1, (50, 8)).astype(np.float32)
    for same in (np.broadcast_to(exact.mean(0), exact.shape), np.zeros_like(exact)):
        assert Loss("", np.arange(50), exact, same).of_spread == pytest.approx(1)
    assert Loss("", np.arange(50), exact, exact[::-1]).of_spread > 1.2
    assert Loss("", np.arange(50), exact, exact + 3).of_spread == pytest.approx(0, abs=1e-6)
    assert Loss("", np.arange(50), exact * 1e-30, np.zeros_like(exact)).relative == pytest.approx(1)
    assert Loss("", np.arange(50), exact, np.full_like(exact, np.nan)).of_spread == np.inf
