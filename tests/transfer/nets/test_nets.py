"""Nets by name and by file: what they are, and that no file can run code or pass for another net's weights."""

from __future__ import annotations

import base64
import json
import marshal
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from feature_cache.errors import BadData, InvalidChoice, LayertapError, UnsafeFile
from transfer.nets.backbone import Backbone, backbone_for
from transfer.nets.catalogue import NETS, Net
from transfer.nets.files.keras_file import read_config

SaveNet = Callable[..., Net]
FeaturesOf = Callable[..., list[np.ndarray]]


def small_net(side: int | None = 8) -> keras.Model:
    inputs = keras.Input((side, side, 3), name="image")
    return keras.Model(inputs, keras.layers.Conv2D(2, 3, name="conv")(inputs), name="small")


class TestNames:
    @pytest.mark.parametrize(
        ("asked", "nearest"), [("vgg61", "vgg16"), ("resnet5O", "resnet50"), ("glypnet", "glyphnet")]
    )
    def test_unknown_net_suggests_the_nearest(self, asked: str, nearest: str) -> None:
        with pytest.raises(InvalidChoice, match=f"there is no net '{asked}'; did you mean .*'{nearest}'") as caught:
            Net(asked)
        assert "layertap nets" in str(caught.value)

    def test_names_may_be_written_in_capitals_and_mean_the_same_net(self) -> None:
        for name in ("VGG16", "GlyphNet", "MobileNetV2"):
            written, plain = Net(name, "none"), Net(name.lower(), "none")
            assert written.spec("x").digest == plain.spec("x").digest

    @pytest.mark.parametrize("name", ["glyphnet", "GlyphNet"])
    def test_glyphnet_has_no_imagenet_weights(self, name: str) -> None:
        with pytest.raises(InvalidChoice, match="glyphnet has no ImageNet weights"):
            Net(name, "imagenet")

    def test_missing_weights_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidChoice, match=r"'imagenet', 'none' or a weights file, and there is no file 'w\.h5'"):
            Net("vgg16", "w.h5")

    def test_missing_net_file_is_refused(self) -> None:
        with pytest.raises(InvalidChoice, match=r"there is no net file 'mine\.keras'"):
            Net("mine.keras")

    def test_a_net_file_takes_no_other_weights(self, save_net: SaveNet) -> None:
        net = save_net(small_net())
        with pytest.raises(InvalidChoice, match="holds its own weights; leave out `weights`"):
            Net(net.name, "none")

    def test_every_net_takes_its_customary_size_and_refuses_less_than_its_smallest(self) -> None:
        for info in NETS.values():
            net = Net(info.name, "none")
            net.check_size(net.default_size())
            net.check_size((info.min_size, info.min_size))
            least = f"{info.name} needs images of at least {info.min_size} x {info.min_size} pixels"
            with pytest.raises(InvalidChoice, match=f"{least}; received `size='{info.min_size}x{info.min_size - 1}'`"):
                net.check_size((info.min_size, info.min_size - 1))


class TestIdentity:
    def test_random_weights_are_known_by_their_seed(self) -> None:
        digests = {Net("vgg16", "none", seed).spec("block5_pool").digest for seed in (0, 1)}
        assert len(digests) == 2
        assert Net("vgg16", "none", 3).weights_id == "random-3"

    def test_the_seed_means_nothing_where_no_weights_are_drawn(self) -> None:
        assert Net("vgg16", seed=1).spec("x") == Net("vgg16", seed=2).spec("x")

    def test_a_net_file_is_known_by_its_content_not_its_name(self, save_net: SaveNet, tmp_path: Path) -> None:
        net = save_net(small_net())
        copy = tmp_path / "copy.keras"
        copy.write_bytes(Path(net.name).read_bytes())
        other = save_net(small_net(), "other")
        assert Net(str(copy)).spec("conv") == net.spec("conv")
        assert other.spec("conv") != net.spec("conv")

    def test_a_weights_file_that_is_replaced_is_other_weights(self, tmp_path: Path) -> None:
        file = tmp_path / "w.h5"
        file.write_bytes(b"one")
        before = Net("vgg16", str(file)).weights_id
        file.write_bytes(b"two")
        os.utime(file, (1, 1))
        assert Net("vgg16", str(file)).weights_id != before

    def test_spec_has_the_nets_own_defaults(self) -> None:
        spec = Net("vgg16", "none").spec("block5_pool")
        assert (spec.size, spec.preprocessing, spec.pooling) == ((224, 224), "caffe", "avg")
        chosen = Net("vgg16", "none", preprocessing="unit").spec("block5_pool", size=(48, 64), pooling="max")
        assert (chosen.size, chosen.preprocessing, chosen.pooling) == ((48, 64), "unit", "max")

    def test_size_of_a_file_is_that_of_its_input(self, save_net: SaveNet) -> None:
        assert save_net(small_net(9)).default_size() == (9, 9)
        layers = [keras.Input((7, 5, 1)), keras.layers.Conv2D(1, 3)]
        assert save_net(keras.Sequential(layers), "sequential").default_size() == (7, 5)

    def test_a_file_that_takes_any_size_asks_for_one(self, save_net: SaveNet) -> None:
        net = save_net(small_net(None))
        with pytest.raises(BadData, match="takes images of any size; choose one with `size`"):
            net.default_size()
        assert Backbone(net, (12, 10)).taps["conv"].shape == (None, 10, 8, 2)


def archive(file: Path, config: Any, weights_from: Path | None = None) -> Net:
    """A hand-made ``.keras`` file with this configuration."""
    with zipfile.ZipFile(file, "w") as target:
        target.writestr("metadata.json", json.dumps({"keras_version": keras.__version__, "date_saved": "now"}))
        target.writestr("config.json", config if isinstance(config, (str, bytes)) else json.dumps(config))
        if weights_from:
            with zipfile.ZipFile(weights_from) as source:
                target.writestr("model.weights.h5", source.read("model.weights.h5"))
    return Net(str(file))


def marshalled(function: Any) -> dict[str, Any]:
    """A Python function as Keras writes lambdas."""
    code = base64.encodebytes(marshal.dumps(function.__code__)).decode()
    return {"class_name": "__lambda__", "config": {"code": code, "defaults": None, "closure": None, "value": code}}


class TestFilesWithCode:
    """Each file would make `marker`, were it to run. None may; each is refused."""

    @pytest.fixture
    def marker(self, tmp_path: Path) -> Path:
        return tmp_path / "marker"

    @pytest.fixture
    def honest(self, save_net: SaveNet) -> Path:
        return Path(save_net(small_net(), "honest").name)

    def refuse(self, net: Net, marker: Path, match: str = "") -> None:
        with pytest.raises(UnsafeFile, match=match) as caught:
            Backbone(net, (8, 8))
        assert not marker.exists()
        assert "\n" not in str(caught.value)
        assert net.name in str(caught.value)

    def test_lambda_layer_saved_by_keras_is_refused(self, tmp_path: Path, marker: Path, save_net: SaveNet) -> None:
        payload = eval(f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]")
        net = save_net(keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Lambda(payload, name="run_me")]))
        assert marker.exists(), "the payload does not work"
        marker.unlink()
        self.refuse(net, marker, r"needs code of its own \(Lambda\), and Layertap runs no code from a model file")
        with pytest.raises(UnsafeFile):
            read_config(Path(net.name))

    @pytest.mark.parametrize(
        "layer",
        [
            {"module": "os", "class_name": "system", "config": {"command": "touch MARKER"}, "registered_name": None},
            {"module": "os", "class_name": "system", "config": "touch MARKER", "registered_name": "system"},
            {"module": "posix", "class_name": "function", "config": "system", "registered_name": "function"},
            {"module": "builtins", "class_name": "eval", "config": "open('MARKER', 'w')", "registered_name": None},
            {"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", "MARKER"]}},
            {
                "module": "keras.src.utils.python_utils.os",
                "class_name": "system",
                "config": {"command": "touch MARKER"},
            },
            {"module": "kerasx", "class_name": "Dense", "config": {"units": 1}, "registered_name": None},
            {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {"module": "gASV"}},
            {"module": "keras", "class_name": "layers.TorchModuleWrapper", "config": {"module": "gASV"}},
            {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp", "name": "t"}},
            {"module": "keras", "class_name": "layers.TFSMLayer", "config": {"filepath": "/tmp", "name": "t"}},
            {"module": "keras.layers", "class_name": "JaxLayer", "config": {"call_fn": "LAMBDA"}},
            {
                "module": "keras.utils",
                "class_name": "get_file",
                "config": {"fname": "MARKER", "origin": "file:///etc/fstab"},
            },
            {"module": "keras.saving", "class_name": "load_model", "config": {"filepath": "x", "safe_mode": False}},
            {"module": "keras.config", "class_name": "enable_unsafe_deserialization", "config": {}},
            {"module": "keras.layers", "class_name": "Lambda", "config": {"function": "LAMBDA", "name": "l"}},
            {"module": "keras", "class_name": "layers.Lambda", "config": {"function": "LAMBDA", "name": "l"}},
            {"module": "keras.src.layers.core.lambda_layer", "class_name": "Lambda", "config": {"function": "LAMBDA"}},
            {"class_name": "Lambda", "config": {"function": "LAMBDA", "name": "l"}},
            {"class_name": "Lambda", "config": {"function": ["CODE", None, None], "function_type": "lambda"}},
            {"module": "keras.layers", "class_name": "Activation", "config": {"activation": "LAMBDA", "name": "a"}},
            {
                "module": "keras.layers",
                "class_name": "Activation",
                "config": {
                    "activation": {"module": "os", "class_name": "function", "config": "system"},
                    "name": "a",
                },
            },
        ],
        ids=lambda layer: f"{layer.get('module')}-{layer['class_name']}",
    )
    def test_hand_made_layer_is_refused(self, tmp_path: Path, marker: Path, honest: Path, layer: dict) -> None:
        payload = eval(f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]")
        lambda_config = marshalled(payload)
        text = json.dumps(layer).replace("MARKER", str(marker)).replace('"LAMBDA"', json.dumps(lambda_config))
        layer = json.loads(text.replace('"CODE"', json.dumps(lambda_config["config"]["code"])))
        config = read_config(honest)
        config["config"]["layers"].append({**layer, "name": "evil", "inbound_nodes": []})
        self.refuse(archive(tmp_path / "evil.keras", config, honest), marker)
        assert keras.src.saving.serialization_lib.in_safe_mode() is not False

    def test_code_as_the_net_itself_is_refused(self, tmp_path: Path, marker: Path, honest: Path) -> None:
        config = {"module": "os", "class_name": "system", "config": f"touch {marker}", "registered_name": None}
        self.refuse(archive(tmp_path / "evil.keras", config, honest), marker, r"needs code of its own \(system of os\)")

    def test_layer_from_another_module_is_refused(self, tmp_path: Path, marker: Path, honest: Path) -> None:
        (tmp_path / "payload.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Layer: pass\n")
        config = read_config(honest)
        config["config"]["layers"][1] |= {"module": "payload", "class_name": "Layer"}
        net = archive(tmp_path / "evil.keras", config, honest)
        self.refuse(net, marker, r"needs code of its own \(Layer of payload\)")

    def test_custom_class_is_refused_even_where_it_is_registered(self, save_net: SaveNet, marker: Path) -> None:
        @keras.saving.register_keras_serializable(package="test_nets")
        class Twice(keras.layers.Layer):
            def call(self, x: Any) -> Any:
                return 2 * x

            def compute_output_shape(self, shape: Any) -> Any:
                return shape

        net = save_net(keras.Sequential([keras.Input((8, 8, 3)), Twice()]))
        self.refuse(net, marker, r"needs code of its own \(Twice")

    def test_custom_function_is_refused(self, save_net: SaveNet, marker: Path) -> None:
        def halve(x: Any) -> Any:
            return x / 2

        net = save_net(keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Activation(halve)]))
        self.refuse(net, marker, r"needs code of its own \(halve\), and Layertap runs no code")

    def test_a_net_of_keras_own_layers_is_taken(self, honest: Path) -> None:
        assert list(Backbone(Net(str(honest))).taps) == ["conv"]

    def test_a_net_saved_while_it_was_trained_is_taken(self, save_net: SaveNet) -> None:
        model = small_net()
        model.compile("adam", keras.losses.MeanSquaredError(), metrics=["mae"])
        assert list(Backbone(save_net(model)).taps) == ["conv"]


class TestDamagedFiles:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", r"is not a \.keras file: save the net with model\.save"),
            (b"no zip at all", r"is not a \.keras file: save the net with model\.save"),
            (b"PK\x03\x04 cut short", "is damaged or cut short, or holds no net: save the net with"),
            (b"\x80\x04}q.", r"is not a \.keras file but a pickle: save the net with"),
        ],
    )
    def test_what_is_no_archive_is_refused(self, tmp_path: Path, content: bytes, message: str) -> None:
        (tmp_path / "bad.keras").write_bytes(content)
        with pytest.raises(BadData, match=rf"bad\.keras {message}"):
            Backbone(Net(str(tmp_path / "bad.keras")))

    @pytest.mark.parametrize(
        "config",
        [
            "not json",
            b"\xff\xfe",
            "[]",
            "3",
            "null",
            "{}",
            '{"config": []}',
            '{"config": {"layers": ["x"]}}',
            '{"config": {"layers": [{"config": []}]}}',
            '{"build_config": [1]}',
            '{"build_config": {"input_shape": [null, 8, 8, 3]}}',
            '{"class_name": "Functional", "config": null, "module": "keras"}',
            "[" * 100_000 + "]" * 100_000,
        ],
        ids=lambda config: str(config[:40]),
    )
    def test_any_configuration_gives_an_error_of_ours(self, tmp_path: Path, config: str | bytes) -> None:
        net = archive(tmp_path / "odd.keras", config)
        with pytest.raises(LayertapError, match=r"odd\.keras"):
            Backbone(net)

    def test_archive_without_configuration_is_refused(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "bad.keras", "w") as target:
            target.writestr("metadata.json", "{}")
        with pytest.raises(BadData, match="is an archive that holds no net"):
            Backbone(Net(str(tmp_path / "bad.keras")))

    def test_any_damaged_byte_gives_an_error_of_ours_or_a_net(
        self, save_net: SaveNet, rng: np.random.Generator
    ) -> None:
        net = save_net(small_net())
        whole = Path(net.name).read_bytes()
        for _ in range(40):
            damaged = bytearray(whole)
            for place in rng.integers(0, len(whole), 3):
                damaged[place] = rng.integers(0, 256)
            Path(net.name).write_bytes(damaged)
            try:
                assert list(Backbone(Net(net.name), (8, 8)).taps)
            except LayertapError as error:
                assert net.name in str(error)

    def test_a_net_that_takes_no_images_is_refused(self, save_net: SaveNet) -> None:
        net = save_net(keras.Sequential([keras.Input((10,)), keras.layers.Dense(2)]))
        with pytest.raises(BadData, match="does not take one batch of images: its input is 10"):
            Backbone(net, (8, 8))

    @pytest.mark.parametrize(
        ("shape", "text"), [((10,), "10"), ((30, 4), "30 x 4"), ((None, 8, 8, 3), "any x 8 x 8 x 3")]
    )
    def test_what_has_no_size_is_not_asked_for_one(self, save_net: SaveNet, shape: tuple[int, ...], text: str) -> None:
        net = save_net(keras.Sequential([keras.Input(shape), keras.layers.Dense(2)]))
        with pytest.raises(BadData, match=f"takes no images: its input is {text}, not height x width x channels"):
            net.default_size()

    def test_a_net_of_two_inputs_is_refused(self, save_net: SaveNet) -> None:
        one, two = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
        net = save_net(keras.Model([one, two], keras.layers.Add()([one, two])))
        with pytest.raises(BadData, match="does not take one batch of images: it has 2 inputs"):
            Backbone(net, (8, 8))

    def test_a_net_that_was_never_built_is_refused(self, save_net: SaveNet) -> None:
        net = save_net(keras.Sequential([keras.layers.Conv2D(2, 3)]))
        with pytest.raises(LayertapError, match=r"toy\.keras"):
            Backbone(net, (8, 8))

    def test_a_size_that_the_files_layers_do_not_take_is_refused(self, save_net: SaveNet) -> None:
        layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2, name="out")]
        net = save_net(keras.Sequential(layers))
        with pytest.raises(LayertapError, match="12"):
            Backbone(net, (12, 12))


def save_weights(model: keras.Model, file: Path) -> Path:
    """Weights in the format of Keras 3, or, for a plain ``.h5``, in that of the files Keras distributes."""
    if file.name.endswith(".weights.h5"):
        model.save_weights(file)
    else:
        with h5py.File(file, "w") as target:
            legacy_h5_format.save_weights_to_hdf5_group(target, model)
    return file


class TestWeightsFiles:
    @pytest.fixture(scope="class")
    def saved(self, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
        """A net with the classifier and one without, weights of each in both formats, and expected features."""
        folder = tmp_path_factory.mktemp("weights")
        pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
        found: dict[str, Any] = {"pixels": pixels}
        for top in (True, False):
            keras.utils.set_random_seed(7 + top)
            model = keras.applications.MobileNet(weights=None, include_top=top, input_shape=(32, 32, 3), classes=1000)
            layer = model.get_layer("conv_pw_13_relu").output
            scaled = keras.applications.mobilenet.preprocess_input(pixels.astype("float32"))
            expected = np.asarray(keras.Model(model.inputs, layer)(scaled))
            for ending in ("weights.h5", "h5"):
                file = save_weights(model, folder / f"{'top' if top else 'notop'}.{ending}")
                found[file.name] = file, expected
        return found

    @pytest.mark.parametrize("name", ["top.weights.h5", "notop.weights.h5", "top.h5", "notop.h5"])
    def test_features_are_those_of_the_net_it_was_saved_from(
        self, saved: dict[str, Any], features_of: FeaturesOf, name: str
    ) -> None:
        file, expected = saved[name]
        backbone = Backbone(Net("mobilenet", str(file)), (32, 32))
        features = features_of(backbone, saved["pixels"], "conv_pw_13_relu")[0]
        np.testing.assert_allclose(features, expected, atol=1e-4 * np.abs(expected).max())

    @pytest.mark.slow
    def test_weights_of_another_net_are_refused_in_one_line(self, saved: dict[str, Any]) -> None:
        for name in ("notop.h5", "notop.weights.h5"):
            with (
                warnings.catch_warnings(record=True) as warned,
                pytest.raises(BadData, match=f"{name} does not hold weights of mobilenetv3small: ") as caught,
            ):
                warnings.simplefilter("always")
                Backbone(Net("mobilenetv3small", str(saved[name][0])), (32, 32))
            assert "\n" not in str(caught.value)
            shown = [str(warning.message) for warning in warned if issubclass(warning.category, UserWarning)]
            assert not shown, f"{len(shown)} warnings besides, the first: {shown[0]}"

    @pytest.mark.parametrize("name", ["noise.weights.h5", "noise.h5", "noise.bin", "noise.keras"])
    def test_a_file_that_holds_no_weights_is_refused(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"noise" * 1000)
        for net in ("glyphnet", "mobilenetv3small"):
            with pytest.raises(BadData, match=f"{name} does not hold weights of {net}"):
                Backbone(Net(net, str(tmp_path / name)), (32, 32))

    def test_weights_of_another_net_are_refused_for_glyphnet(self, saved: dict[str, Any]) -> None:
        with pytest.raises(BadData, match=r"notop\.h5 does not hold weights of glyphnet"):
            Backbone(Net("glyphnet", str(saved["notop.h5"][0])))

    def test_a_mistyped_layer_of_a_net_from_a_file_suggests_the_nearest(self, saved: dict[str, Any]) -> None:
        net = Net("mobilenet", str(saved["notop.h5"][0]))
        with pytest.raises(InvalidChoice, match=r"has no layer 'conv_pw_13_rel'; did you mean 'conv_pw_13_relu'"):
            backbone_for(net, ["conv_pw_13_rel"], (32, 32))


class TestImagenetWeights:
    OFFLINE = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    BUILD = """
import sys
from feature_cache.errors import LayertapError
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest
for name, side in (("mobilenetv2", 32), ("vgg16", 32)):
    try:
        FeatureRequest(Net(name), size=(side, side)).build()
    except LayertapError as error:
        print(type(error).__name__, error, file=sys.stderr)
"""

    @pytest.mark.slow
    def test_without_network_the_error_names_the_file_that_keras_looks_for(
        self, tmp_path: Path, run_python: Callable
    ) -> None:
        done = run_python(self.BUILD, KERAS_HOME=str(tmp_path), **self.OFFLINE)
        assert done.returncode == 0, done.stderr
        errors = [line for line in done.stderr.splitlines() if line.startswith("WeightsUnavailable")]
        assert len(errors) == 2
        assert "the ImageNet weights of mobilenetv2 are not on this machine and cannot be fetched" in errors[0]
        name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
        assert f"Keras looks for {tmp_path / 'models' / name}: put that file there" in errors[0]
        assert "`weights=FILE`" in errors[0]
        assert f"{tmp_path / 'models'}/vgg16" in errors[1]
        assert done.stdout == "", "stdout is for the results"
        assert done.stderr.splitlines() == errors, "and stderr for one line about each"
