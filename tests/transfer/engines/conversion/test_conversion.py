"""Nets that are converted without TensorFlow: their features are those of Keras, and errors are those of Keras."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import pytest
from deeper_nets import DEEPER

from feature_cache.errors import BadData, InvalidChoice, LayertapError
from transfer.engines.conversion.known import ACTIVATIONS, LAYERS, is_known
from transfer.engines.conversion.process import ConversionFailed, ConversionProcess
from transfer.engines.net_part import NetPart
from transfer.engines.openvino_engine import OpenVinoEngine
from transfer.nets.backbone import Backbone, backbone_for
from transfer.nets.catalogue import NETS, Net
from transfer.request import FeatureRequest

pytest.importorskip("openvino")

ROOT = Path(__file__).resolve().parents[4]
FEW = ("mobilenetv2", "efficientnetb0", "efficientnetlite0")  # of the catalogue, in the tests that are run often
layers = keras.layers


def pictures(count: int, shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    """Noise on brightness that rises in one direction or another."""
    rng = np.random.default_rng(count)
    ramps = np.einsum("nc,ch...->nh...", rng.normal(0, 1, (count, 2)), np.indices(shape[:2]) / max(shape[:2]))
    values = 128 + 60 * ramps[..., None] + rng.normal(0, 40, (count, *shape))
    return values.clip(0, 255).astype(dtype)


def give_weights(model: keras.Model) -> None:
    """Weights such that no two of a layer could be mistaken for each other, and features that tell images apart."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        name, shape = variable.path.rpartition("/")[2], variable.shape
        if name == "gamma":
            variable.assign(rng.uniform(0.5, 1.5, shape))
        elif name in ("beta", "bias"):
            variable.assign(rng.normal(0, 0.2, shape))
    normalising = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    for layer in normalising:
        layer.momentum = 0.0  # its mean and variance are then those of one batch
    if normalising:
        model(pictures(8, model.input.shape[1:], "float32"), training=True)


def size_of(name: str) -> tuple[int, int]:
    info = NETS[name]
    least = max(info.min_size, 48)
    return least, least + 16


def assert_converted_right(
    cut: NetPart, channels: int, folder: Path, what: Sequence[str] = (), built: Backbone | None = None
) -> None:
    """The converted net gives the features of Keras, for batches that are whole and not."""
    built = built or backbone_for(cut.net, [layer for layer, _ in cut.readouts], cut.size)
    model = cut.from_backbone(built, channels)
    inputs = pictures(3, model.input.shape[1:], model.input.dtype)
    expected = [np.asarray(keras.ops.convert_to_numpy(part)) for part in keras.tree.flatten(model(inputs))]
    ConversionProcess(cut).convert(channels, folder / "net.xml")
    found = OpenVinoEngine(folder / "net.xml", 4).start(inputs)()
    assert len(found) == len(expected) == len(cut.readouts)
    for part, exact, name in zip(found, expected, what or [layer for layer, _ in cut.readouts], strict=True):
        assert part.shape == exact.shape, name
        scale, between_images = np.abs(exact).max(), np.abs(exact[0] - exact[1]).max()
        error = np.abs(part - exact).max()
        assert error <= 1e-4 * scale, f"{name} differs by {error}, and reaches {scale}"
        assert error < between_images / 50, f"{name} differs by {error}, and images by {between_images}"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in NETS if name not in DEEPER]
)
def test_named_nets_give_the_features_of_keras(name: str, tmp_path: Path) -> None:
    if name == "glyphnet":  # which has weights of its own
        assert_converted_right(NetPart.of(FeatureRequest(Net(name), size=size_of(name))), 3, tmp_path)
        return
    built = backbone_for(Net(name, "none"), (), size_of(name))
    give_weights(built.model)
    file = tmp_path / f"{name}.weights.h5"
    built.model.save_weights(file)
    request = FeatureRequest(Net(name, str(file)), size=size_of(name))
    assert_converted_right(NetPart.of(request), 3, tmp_path, built=built)


def test_random_weights_are_those_of_every_backend(tmp_path: Path) -> None:
    assert_converted_right(NetPart.of(FeatureRequest(Net("mobilenetv2", "none", seed=3), size=(48, 32))), 3, tmp_path)


class TestReadouts:
    @pytest.mark.parametrize("channels", [1, 3], ids=["gray", "colour"])
    @pytest.mark.parametrize("pooling", ["avg", "max", "flatten", "none"])
    def test_layers_are_pooled_as_by_keras(self, pooling: str, channels: int, tmp_path: Path) -> None:
        readouts = (("block1_pool", pooling), ("block4_pool", pooling), ("block3_conv1", pooling))
        assert_converted_right(NetPart(Net("glyphnet"), (32, 48), readouts, "tf"), channels, tmp_path)

    @pytest.mark.parametrize(
        ("preprocessing", "channels"), [("none", 1), ("unit", 3), ("tf", 3), ("torch", 1), ("torch", 3), ("caffe", 3)]
    )
    def test_pixels_are_prepared_as_by_keras(
        self, preprocessing: str, channels: int, save_net: Callable[..., Net], tmp_path: Path
    ) -> None:
        inputs = keras.Input((16, 16, 3))
        net = save_net(keras.Model(inputs, layers.Conv2D(4, 3, name="conv")(inputs)))
        assert_converted_right(NetPart(net, (16, 16), (("conv", "avg"),), preprocessing), channels, tmp_path)

    def test_a_net_that_starts_at_a_layer(self, tmp_path: Path) -> None:
        readouts = (("block3_conv1", "none"), ("block4_pool", "avg"))
        assert_converted_right(NetPart(Net("glyphnet"), (32, 32), readouts, "tf", ("block2_pool",)), 1, tmp_path)

    def test_two_layers_with_the_same_output(self, save_net: Callable[..., Net], tmp_path: Path) -> None:
        inputs = keras.Input((8, 8, 3))
        x = layers.Dense(5, name="dense")(layers.Flatten()(inputs))
        net = save_net(keras.Model(inputs, layers.Dropout(0.5, name="dropout")(x)))
        cut = NetPart(net, (8, 8), (("dropout", "avg"), ("dense", "avg")), "unit")
        assert_converted_right(cut, 3, tmp_path)


def branches(x: object) -> object:
    """Layers that join two tensors, side by side."""
    other = layers.Conv2D(6, 3, padding="same")(x)
    x = layers.Conv2D(6, 3, padding="same")(x)
    joined = [layers.Add()([x, other]), layers.Multiply()([x, other]), layers.Concatenate()([x, other])]
    return layers.Concatenate()(joined)


def se_block(x: object) -> object:
    """A squeeze and excitation, which reshapes."""
    x = layers.Conv2D(6, 3, name="stem")(x)
    s = layers.Reshape((1, 1, 6))(layers.GlobalAveragePooling2D()(x))
    return layers.Multiply()([x, layers.Conv2D(6, 1, activation="sigmoid")(s)])


def patches(x: object) -> object:
    """Patches as rows, as in a transformer."""
    x = layers.Conv2D(8, 4, strides=4)(x)
    x = layers.LayerNormalization()(layers.Reshape((-1, 8))(x))
    return layers.Dense(6, activation="gelu")(x)


def activations(x: object) -> object:
    """All that are known."""
    x = layers.BatchNormalization()(layers.Conv2D(3, 3)(x))
    return layers.Concatenate()([layers.Activation(name)(x) for name in sorted(ACTIVATIONS)])


# Layers, and what is built of them: from 16 x 20 pixels.
TOYS: dict[str, Callable[[object], object]] = {
    "Conv2D": lambda x: layers.Conv2D(6, (3, 5), strides=2, padding="same", activation="relu")(x),
    "Conv2D dilated, in groups": lambda x: layers.Conv2D(6, 3, dilation_rate=2, groups=3)(x),
    "DepthwiseConv2D": lambda x: layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2)(x),
    "SeparableConv2D": lambda x: layers.SeparableConv2D(5, 3, strides=2, padding="same", depth_multiplier=2)(x),
    "BatchNormalization": lambda x: layers.BatchNormalization()(layers.Conv2D(4, 3, use_bias=False)(x)),
    "BatchNormalization in a row": lambda x: layers.BatchNormalization()(
        layers.ReLU()(layers.BatchNormalization(scale=False)(layers.BatchNormalization(center=False)(x)))
    ),
    "BatchNormalization of rows": lambda x: layers.BatchNormalization()(layers.Dense(5)(layers.Flatten()(x))),
    "BatchNormalization over columns": lambda x: layers.BatchNormalization(axis=2)(x),
    "LayerNormalization": lambda x: layers.LayerNormalization(epsilon=1e-2)(layers.Conv2D(4, 3)(x)),
    "Normalization": lambda x: layers.Normalization(mean=[3.0, 20.0, 100.0], variance=[4.0, 9.0, 1.0])(x),
    "Rescaling": lambda x: layers.Rescaling([0.1, 0.2, 0.3], offset=-1.0)(x),
    "MaxPooling2D": lambda x: layers.MaxPooling2D((3, 2), strides=2, padding="same")(x),
    "MaxPooling2D valid": lambda x: layers.MaxPooling2D(3)(x),
    "AveragePooling2D": lambda x: layers.AveragePooling2D(3, strides=2, padding="same")(x),
    "AveragePooling2D valid": lambda x: layers.AveragePooling2D((2, 3))(x),
    "GlobalAveragePooling2D": lambda x: layers.GlobalAveragePooling2D(keepdims=True)(x),
    "GlobalMaxPooling2D": lambda x: layers.GlobalMaxPooling2D()(x),
    "ZeroPadding2D": lambda x: layers.Conv2D(4, 3)(layers.ZeroPadding2D(((1, 2), (0, 3)))(x)),
    "Cropping2D": lambda x: layers.Cropping2D(((1, 2), (0, 3)))(x),
    "Dense": lambda x: layers.Dense(5, activation="tanh")(layers.Flatten()(x)),
    "Dense on a map": lambda x: layers.Dense(5)(x),
    "Dropout": lambda x: layers.Dropout(0.5)(layers.Conv2D(4, 3)(x)),
    "Flatten": lambda x: layers.Dense(4)(layers.Flatten()(layers.Conv2D(4, 3)(x))),
    "Reshape": lambda x: layers.Reshape((10, 8, 12))(layers.Conv2D(3, 1)(x)),
    "LeakyReLU": lambda x: layers.LeakyReLU(0.3)(layers.Conv2D(4, 3)(x)),
    "ReLU": lambda x: layers.ReLU(max_value=4.0, negative_slope=0.1, threshold=0.5)(layers.Conv2D(4, 3)(x)),
    "Softmax": lambda x: layers.Softmax()(layers.BatchNormalization()(layers.Conv2D(5, 3)(x))),
    "Activation": activations,
    "Sequential": lambda x: keras.Sequential([layers.Conv2D(4, 3), layers.MaxPooling2D()])(x),
    "Add Multiply Concatenate": branches,
    "squeeze and excitation": se_block,
    "patches": patches,
}


class TestFiles:
    @pytest.mark.slow
    def test_layers_that_are_known_give_the_features_of_keras(
        self, save_net: Callable[..., Net], tmp_path: Path
    ) -> None:
        keras.utils.set_random_seed(0)  # with some kernels, all outputs of a rectified layer are 0
        inputs = keras.Input((16, 20, 3))
        ends = [layers.Identity(name=f"end{number}")(toy(inputs)) for number, toy in enumerate(TOYS.values())]
        names = [f"end{number}" for number in range(len(ends))]
        model = keras.Model(inputs, ends)
        give_weights(model)
        net = save_net(model)
        assert is_known(net)
        cut = NetPart(net, (16, 20), tuple((name, "none") for name in names), "none")
        assert_converted_right(cut, 3, tmp_path, list(TOYS))

    def test_every_layer_that_is_known_is_tested(self) -> None:
        words = {word.rstrip(",") for toy in TOYS for word in toy.split()}
        assert LAYERS - words == {"Functional", "Identity", "InputLayer"}  # which are in all of them

    @pytest.mark.parametrize(
        "build",
        [
            lambda x: layers.Conv2DTranspose(3, 3)(x),
            lambda x: x * 2.0,
            lambda x: layers.BatchNormalization()(x, training=True),
            lambda x: layers.Conv2D(3, 3, activation="selu")(x),
            lambda x: layers.Conv2D(3, 3, dtype="mixed_bfloat16")(x),
            lambda x: layers.GlobalMaxPooling2D(data_format="channels_first")(x),
            lambda x: keras.Sequential([layers.UpSampling2D()])(x),
        ],
        ids=["layer", "operation", "training", "activation", "half", "channels first", "inside"],
    )
    def test_what_is_not_known_is_left_to_tensorflow(
        self, build: Callable[[object], object], save_net: Callable[..., Net]
    ) -> None:
        inputs = keras.Input((16, 16, 3))
        assert not is_known(save_net(keras.Model(inputs, build(inputs))))

    def test_a_net_of_keras_2_is_left_to_tensorflow(self, tmp_path: Path) -> None:
        inputs = keras.Input((16, 16, 3))
        keras.Model(inputs, layers.Conv2D(3, 3)(inputs)).save(tmp_path / "net.h5")
        assert not is_known(Net(str(tmp_path / "net.h5")))


class TestErrors:
    @pytest.mark.parametrize(
        ("net", "readout"),
        [(Net("glyphnet"), "no such layer"), (Net("vgg16", str(ROOT / "setup.cfg")), "block5_pool")],
        ids=["layer", "weights"],
    )
    def test_an_error_is_the_one_of_a_net_that_is_built_here(self, net: Net, readout: str, tmp_path: Path) -> None:
        with pytest.raises(LayertapError) as expected:
            backbone_for(net, [readout])
        process = ConversionProcess(NetPart(net, net.default_size(), ((readout, "avg"),), "none"))
        with pytest.raises(type(expected.value)) as found:
            process.convert(3, tmp_path / "net.xml")
        assert type(found.value) in (InvalidChoice, BadData)
        assert str(found.value) == str(expected.value)

    def test_what_cannot_be_converted_is_said(self, save_net: Callable[..., Net], tmp_path: Path) -> None:
        inputs = keras.Input((16, 16, 3))
        net = save_net(keras.Model(inputs, layers.Conv2D(2, 3, name="conv")(inputs)))
        process = ConversionProcess(NetPart(net, (16, 16), (("conv", "avg"),), "none"))
        (tmp_path / "file").touch()
        with pytest.raises(ConversionFailed, match="file"):
            process.convert(3, tmp_path / "file" / "net.xml")

    def test_a_process_that_dies_is_an_error(self, tmp_path: Path) -> None:
        process = ConversionProcess(NetPart(Net("glyphnet"), (32, 32), (("block1_pool", "avg"),), "tf"))
        process._process.kill()
        with pytest.raises(ConversionFailed, match="ended with status"):
            process.convert(1, tmp_path / "net.xml")


class TestProcess:
    def test_it_ends_when_nobody_waits_for_it(self) -> None:
        process = ConversionProcess(NetPart(Net("glyphnet"), (32, 32), (("block1_pool", "avg"),), "tf"))
        child = process._process
        del process
        assert child.wait(timeout=60) != 0

    def test_it_ends_with_the_one_that_started_it(self) -> None:
        code = (
            "import os\n"
            "from transfer.engines.conversion.process import ConversionProcess\n"
            "from transfer.engines.net_part import NetPart\n"
            "from transfer.nets.catalogue import Net\n"
            "process = ConversionProcess(NetPart(Net('glyphnet'), (32, 32), (('block1_pool', 'avg'),), 'tf'))\n"
            "print(process._process.pid, flush=True)\n"
            "os._exit(0)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60)
        assert wait_for_the_end_of(int(done.stdout))

    def test_neither_the_one_that_starts_it_nor_itself_loads_tensorflow(self, tmp_path: Path) -> None:
        code = (
            "import sys\n"
            "from pathlib import Path\n"
            "from transfer.engines.conversion.process import ConversionProcess\n"
            "from transfer.engines.net_part import NetPart\n"
            "from transfer.request import FeatureRequest\n"
            "from transfer.nets.catalogue import Net\n"
            "ConversionProcess(NetPart.of(FeatureRequest(Net('glyphnet')))).convert(1, Path('net.xml'))\n"
            "assert not {'keras', 'tensorflow', 'jax'} & set(sys.modules)\n"
        )
        # Were TensorFlow imported anywhere, that would fail.
        (tmp_path / "tensorflow.py").write_text("raise RuntimeError('imported')")
        paths = os.pathsep.join([str(tmp_path), str(ROOT)])
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert (tmp_path / "net.bin").is_file()


def wait_for_the_end_of(number: int) -> bool:
    for _ in range(600):
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
