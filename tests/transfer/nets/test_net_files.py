"""Files of nets: HDF5, Keras 2, 16 bits, and what is none. Each gives its numbers, or a line that says why not."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadData, InvalidChoice, LayertapError, UnsafeFile
from transfer.data import datasets
from transfer.extraction.extract import extract
from transfer.extraction.lookup import stored_features
from transfer.finetune.saved_net import save_net
from transfer.nets.backbone import Backbone
from transfer.nets.catalogue import Net
from transfer.nets.files.policies import in_float32
from transfer.nets.loading import build
from transfer.request import FeatureRequest

OLD = Path(__file__).parent / "keras2"
SIDE = 24


def plain_net(**layer: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    inner = keras.Input((SIDE // 2, SIDE // 2, 8), name="inner_input")
    x = keras.layers.Conv2D(8, 3, name="inner_conv")(inner)
    nested = keras.Model(inner, keras.layers.BatchNormalization(name="inner_bn")(x), name="nested")
    i = keras.Input((SIDE, SIDE, 3), name="image")
    x = keras.layers.Rescaling(1 / 255, name="rescaling")(i)
    x = keras.layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.1, 0.2, 0.3], name="normalization")(x)
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="conv", **layer)(x)
    x = keras.layers.GlobalAveragePooling2D(name="gap")(nested(x))
    model = keras.Model(i, keras.layers.Dense(2, dtype="float32", name="out")(x), name="net")
    rng = np.random.default_rng(0)
    for variable in model.get_layer("nested").get_layer("inner_bn").variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


@pytest.fixture
def policy() -> Iterator[Callable[[str], None]]:
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3)).astype(np.uint8)


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)


class TestHdf5:
    def test_features_are_those_of_the_keras_file(self, tmp_path: Path, pixels: np.ndarray, features_of: Any) -> None:
        model = plain_net()
        nets = [Net(str(tmp_path / name)) for name in ("a.keras", "a.h5", "a.hdf5") if not model.save(tmp_path / name)]
        expected = features_of(Backbone(nets[0]), pixels, "conv", "nested/inner_bn", "gap")
        for net in nets[1:]:
            assert net.default_size() == (SIDE, SIDE)
            found = features_of(Backbone(net), pixels, "conv", "nested/inner_bn", "gap")
            for one, other in zip(expected, found, strict=True):
                np.testing.assert_array_equal(one, other)
        assert len({net.net_id for net in nets}) == 2  # the two HDF5 files are the same bytes

    def test_operations_that_are_called_as_layers(self, tmp_path: Path, pixels: np.ndarray, features_of: Any) -> None:
        i = keras.Input((SIDE, SIDE, 3), name="image")
        x = 1 - keras.layers.Conv2D(4, 3, name="conv")(i / 255) * 2
        x = keras.ops.relu(x + keras.layers.Add(name="twice")([x, x]))
        x = keras.ops.concatenate([x[:, 1:9], keras.ops.transpose(x, (0, 2, 1, 3))[:, :8]], axis=1)
        model = keras.Model(i, keras.layers.GlobalMaxPooling2D(name="max")(x))
        model.save(tmp_path / "a.keras")
        model.save(tmp_path / "a.h5")  # Keras itself takes them for layers of the same name, and fails
        expected, found = (
            features_of(Backbone(Net(str(tmp_path / name))), pixels, "max") for name in ("a.keras", "a.h5")
        )
        np.testing.assert_array_equal(expected[0], found[0])

    def test_an_operation_that_is_not_known_is_named(self, tmp_path: Path) -> None:
        i = keras.Input((SIDE, SIDE, 3))
        keras.Model(i, keras.ops.erf(keras.layers.Conv2D(4, 3)(i))).save(tmp_path / "a.h5")
        with pytest.raises(UnsafeFile, match=r"a\.h5 cannot be loaded safely: there is no layer Erf in Keras 3"):
            Backbone(Net(str(tmp_path / "a.h5")))

    def test_the_content_counts_where_an_old_keras_called_it_keras(self, tmp_path: Path) -> None:
        plain_net().save(tmp_path / "a.h5")
        (tmp_path / "a.h5").rename(tmp_path / "a.keras")
        assert "gap" in Backbone(Net(str(tmp_path / "a.keras"))).taps
        plain_net().save(tmp_path / "b.keras")
        (tmp_path / "b.keras").rename(tmp_path / "b.h5")
        with pytest.raises(InvalidChoice, match=r"b\.h5 is a \.keras file by its content; call it b\.keras"):
            Backbone(Net(str(tmp_path / "b.h5")))
        (tmp_path / "b.h5").rename(tmp_path / "C.KERAS")  # Keras goes by the suffix in small letters
        with pytest.raises(InvalidChoice, match=r"C\.KERAS is a \.keras file by its content; call it C\.keras"):
            Backbone(Net(str(tmp_path / "C.KERAS")))

    def test_weights_alone_are_no_net(self, tmp_path: Path) -> None:
        plain_net().save_weights(tmp_path / "w.weights.h5")
        with h5py.File(tmp_path / "legacy.h5", "w") as store:
            store.attrs["layer_names"] = [b"conv"]
        with h5py.File(tmp_path / "other.h5", "w") as store:
            store["x"] = np.zeros(3)
        for name in ("w.weights.h5", "legacy.h5"):
            with pytest.raises(InvalidChoice, match=rf"{name} holds weights without the net.*`weights=FILE`"):
                Backbone(Net(str(tmp_path / name)))
        with pytest.raises(InvalidChoice, match=r"other\.h5 is an HDF5 file that holds no net"):
            Backbone(Net(str(tmp_path / "other.h5")))

    @pytest.mark.parametrize(
        "layer",
        [
            {"class_name": "Lambda", "config": {"name": "l", "function": ["4wEAAAA=", None, None]}},
            {"class_name": "layers.Lambda", "config": {"name": "l", "function": "f"}},
            {"class_name": "my>Layer", "config": {"name": "l"}},
            {"class_name": "Layer", "module": "os", "config": {"name": "l"}},
            {"class_name": "Activation", "config": {"activation": {"class_name": "function", "module": "os"}}},
            {"class_name": "TFSMLayer", "config": {"filepath": "/tmp"}},
            {"class_name": "Sequential", "config": {"name": "s", "layers": [{"class_name": "Lambda", "config": {}}]}},
            {"class_name": "TimeDistributed", "config": {"layer": {"class_name": "Lambda", "config": {}}}},
        ],
        ids=str,
    )
    def test_code_is_refused(self, tmp_path: Path, layer: dict[str, Any]) -> None:
        plain_net().save(tmp_path / "a.h5")
        with h5py.File(tmp_path / "a.h5", "r+") as store:
            config = json.loads(store.attrs["model_config"])
            config["config"]["layers"].append({**layer, "name": "l", "inbound_nodes": []})
            store.attrs["model_config"] = json.dumps(config)
        with pytest.raises(UnsafeFile, match=r"a\.h5 needs code of its own") as caught:
            Backbone(Net(str(tmp_path / "a.h5")))
        one_line(caught.value)

    @pytest.mark.parametrize("kind", ["external link", "soft link", "external storage", "virtual", "bomb", "loop"])
    def test_other_files_are_not_read(self, tmp_path: Path, kind: str) -> None:
        plain_net().save(tmp_path / "a.h5")
        (tmp_path / "secret").write_bytes(bytes(range(64)) * 100)
        with h5py.File(tmp_path / "other.h5", "w") as other:
            other["kernel"] = np.ones((3, 3, 3, 8), np.float32)
        with h5py.File(tmp_path / "a.h5", "r+") as store:
            layer = store["model_weights/conv"]
            group = layer[next(name for name in layer.attrs["weight_names"] if "kernel" in str(name))].parent
            if kind != "loop":
                del group["kernel"]
            if kind == "external link":
                group["kernel"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/kernel")
            elif kind == "soft link":
                group["kernel"] = h5py.SoftLink(f"{group.name}/bias")
            elif kind == "external storage":
                group.create_dataset("kernel", (3, 3, 3, 8), "f4", external=[(str(tmp_path / "secret"), 0, 864)])
            elif kind == "virtual":
                layout = h5py.VirtualLayout((3, 3, 3, 8), "f4")
                layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "kernel", (3, 3, 3, 8))
                group.create_virtual_dataset("kernel", layout)
            elif kind == "bomb":
                group.create_dataset("kernel", (2**20, 2**20), "f4", chunks=(1024, 1024), compression="gzip")
            else:
                group["again"] = store["model_weights"]
        if kind == "loop":
            assert "gap" in Backbone(Net(str(tmp_path / "a.h5"))).taps
            return
        with pytest.raises(UnsafeFile, match="a link to another place|from another file|far more numbers") as caught:
            Backbone(Net(str(tmp_path / "a.h5")))
        one_line(caught.value)

    def test_any_damage_gives_an_error_of_ours_or_a_net(self, tmp_path: Path) -> None:
        plain_net().save(tmp_path / "a.h5")
        whole, rng = (tmp_path / "a.h5").read_bytes(), np.random.default_rng(0)
        for number in range(25):
            damaged = bytearray(whole[: len(whole) if number % 5 else rng.integers(1, len(whole))])
            for place in rng.integers(0, len(damaged), 8):
                damaged[place] = rng.integers(256)
            file = tmp_path / f"{number}.h5"
            file.write_bytes(damaged)
            try:
                Backbone(Net(str(file)), (SIDE, SIDE))
            except LayertapError as error:
                assert file.name in one_line(error)

    def test_a_tuned_net_is_kept_as_a_keras_file(
        self, tmp_path: Path, pixels: np.ndarray, features_of: Callable[..., list[np.ndarray]]
    ) -> None:
        plain_net().save(tmp_path / "a.h5")
        backbone = Backbone(Net(str(tmp_path / "a.h5")))
        kept = save_net(backbone, tmp_path)
        [one], [other] = features_of(backbone, pixels, "gap"), features_of(Backbone(kept), pixels, "gap")
        assert kept.name.endswith("net.keras")
        np.testing.assert_array_equal(one, other)


class TestKeras2:
    @pytest.mark.parametrize("file", sorted(OLD.glob("[fnlt]*.keras")) + sorted(OLD.glob("*.h5")), ids=lambda f: f.name)
    def test_outputs_are_those_of_keras_2(self, file: Path) -> None:
        images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)
        found = np.asarray(build(Net(str(file)), (32, 32))(images, training=False))
        expected = np.load(file.with_suffix(".npy"))
        assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()

    def test_what_keras_3_computes_otherwise_is_refused(self) -> None:
        with pytest.raises(
            BadData, match=r"by Keras 2\.15\.0 and holds hard_sigmoid, which Keras 3 computes"
        ) as caught:
            Backbone(Net(str(OLD / "hard_sigmoid.keras")))
        one_line(caught.value)

    @pytest.mark.parametrize(
        ("version", "message"),
        [
            ("2.15.0", r"by Keras 2\.15\.0, and Keras .* cannot load it \(there is no layer Gone in Keras 3"),
            ("99.1.0", r"by Keras 99\.1\.0, which is newer than the .* installed here .*keras==99\.1\.0"),
            (keras.__version__, "cannot be loaded safely"),
        ],
    )
    def test_a_failure_names_the_version(self, tmp_path: Path, version: str, message: str) -> None:
        plain_net().save(tmp_path / "a.keras")
        with zipfile.ZipFile(tmp_path / "a.keras") as source, zipfile.ZipFile(tmp_path / "b.keras", "w") as target:
            config = json.loads(source.read("config.json"))
            config["config"]["layers"][1] |= {"class_name": "Gone", "registered_name": None}
            target.writestr("config.json", json.dumps(config))
            target.writestr("metadata.json", json.dumps({"keras_version": version}))
            target.writestr("model.weights.h5", source.read("model.weights.h5"))
        with pytest.raises(LayertapError, match=message) as caught:
            Backbone(Net(str(tmp_path / "b.keras")))
        assert "Full object config" not in one_line(caught.value)


class TestPrecision:
    @pytest.mark.parametrize("name", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
    @pytest.mark.parametrize("suffix", [".keras", ".h5"])
    def test_a_file_in_16_bits_is_computed_in_float32(
        self, tmp_path: Path, policy: Any, pixels: np.ndarray, features_of: Any, name: str, suffix: str
    ) -> None:
        policy(name)
        half = plain_net()
        half.save(tmp_path / f"half{suffix}")
        policy("float32")
        exact = plain_net()
        exact.set_weights([np.asarray(value, np.float32) for value in half.get_weights()])
        exact.save(tmp_path / "exact.keras")
        one, other = Net(str(tmp_path / "exact.keras")), Net(str(tmp_path / f"half{suffix}"))
        backbone = Backbone(other)
        assert {layer.compute_dtype for layer in backbone.model._flatten_layers()} == {"float32"}
        layers = ("conv", "nested/inner_bn", "gap")
        pairs = zip(features_of(Backbone(one), pixels, *layers), features_of(backbone, pixels, *layers), strict=True)
        for expected, found in pairs:
            assert np.abs(expected - found).max() <= 1e-6 * np.abs(expected).max()
        # Rows that were computed in 16 bits under the name of before are not taken for these.
        assert other.net_id.endswith("-float32")
        assert not one.net_id.endswith("-float32")

    @pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has no float64 unless it is switched on")
    def test_what_is_pinned_stays(self, tmp_path: Path, policy: Any) -> None:
        policy("mixed_float16")
        model = plain_net(dtype="float64")
        model.save(tmp_path / "a.keras")
        policy("float32")
        layers = {layer.name: layer.compute_dtype for layer in Backbone(Net(str(tmp_path / "a.keras"))).model.layers}
        assert (layers["conv"], layers["out"], layers["gap"]) == ("float64", "float32", "float32")

    def test_the_precision_asked_for_still_counts(self, tmp_path: Path, policy: Any) -> None:
        policy("mixed_float16")
        plain_net().save(tmp_path / "a.keras")
        policy("float32")
        backbone = Backbone(Net(str(tmp_path / "a.keras")), precision="bfloat16")
        assert {layer.compute_dtype for layer in backbone.model._flatten_layers()} == {"bfloat16"}

    def test_both_engines_agree(self, tmp_path: Path, policy: Any, class_folder: Path) -> None:
        policy("mixed_float16")
        plain_net().save(tmp_path / "half.keras")
        policy("float32")
        plain_net().save(tmp_path / "exact.keras")
        data, found = datasets.load(str(class_folder)), []
        for name, engine in (("exact", "keras"), ("half", "keras"), ("half", "auto")):
            cache = FeatureCache(tmp_path / f"{name}-{engine}")
            request = FeatureRequest(Net(str(tmp_path / f"{name}.keras")), ("gap",))
            extract(data, request, cache, engine=engine)
            found.append(np.asarray(stored_features(data, request, cache).features["gap"]))
        for other in found[1:]:
            assert np.abs(found[0] - other).max() <= 1e-4 * np.abs(found[0]).max()

    def test_only_layers_change(self) -> None:
        cast = {"module": "keras.src.ops.core", "class_name": "Cast", "config": {"dtype": "float16"}}
        quantized = {"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8", "source_name": "mixed_bfloat16"}}
        config = {"layers": [cast, quantized, {"module": "keras.layers", "config": {"dtype": "bfloat16"}}]}
        first, second, third = in_float32(config)["layers"]
        assert first == cast
        assert second["config"]["source_name"] == "float32"
        assert third["config"]["dtype"] == "float32"


class TestLimits:
    def test_layers_that_the_file_cannot_hold_are_refused(self, tmp_path: Path) -> None:
        for suffix in (".keras", ".h5"):
            plain_net().save(tmp_path / f"a{suffix}")
        with h5py.File(tmp_path / "a.h5", "r+") as store:
            store.attrs["model_config"] = str(store.attrs["model_config"]).replace('"units": 2', '"units": 1000000000')
        with zipfile.ZipFile(tmp_path / "a.keras") as source, zipfile.ZipFile(tmp_path / "b.keras", "w") as target:
            for name in source.namelist():
                target.writestr(name, source.read(name).replace(b'"units": 2', b'"units": 1000000000'))
        for file in ("a.h5", "b.keras"):
            with pytest.raises(BadData, match=rf"{file} describes layers of more than .* weights") as caught:
                Backbone(Net(str(tmp_path / file)))
            one_line(caught.value)

    @pytest.mark.parametrize("size", [(100_000, 100_000), (8, 100_000), (20_000, 20_000), (2**70, 1)])
    def test_sizes_beyond_images_are_refused(self, tmp_path: Path, size: tuple[int, int]) -> None:
        with pytest.raises(InvalidChoice, match="is too large.*Choose a smaller one"):
            Net("glyphnet").spec("block4_pool", size=size)

    def test_an_archive_that_unpacks_to_far_more_is_refused(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as target:
            target.writestr("config.json", "{}")
            target.writestr("model.weights.h5", bytes(2**27))
        with pytest.raises(UnsafeFile, match="would unpack to far more than"):
            Net(str(tmp_path / "a.keras")).default_size()

    def test_layers_that_no_memory_holds_are_refused_before_they_are_computed(
        self, tmp_path: Path, class_folder: Path
    ) -> None:
        i = keras.Input((8, 8, 3))
        x = keras.layers.UpSampling2D(2**17, name="up")(i)
        keras.Model(i, keras.layers.GlobalAveragePooling2D(name="gap")(x)).save(tmp_path / "a.keras")
        cache = FeatureCache(tmp_path / "cache")
        with pytest.raises(InvalidChoice, match=r"one image takes [\d,.]+ GiB in the largest layer of") as caught:
            extract(datasets.load(str(class_folder)), FeatureRequest(Net(str(tmp_path / "a.keras")), ("gap",)), cache)
        one_line(caught.value)
        assert cache.spaces() == []


class TestWeights:
    @pytest.mark.slow
    def test_what_is_given_as_weights_and_is_none(self, tmp_path: Path) -> None:
        plain_net().save(tmp_path / "whole.h5")
        plain_net().save(tmp_path / "whole.keras")
        (tmp_path / "w.pth").write_bytes(b"x")
        for name in ("whole.h5", "whole.keras"):
            with pytest.raises(BadData, match=rf"mobilenet: it is a whole net of its own.*`net='.*{name}'`") as caught:
                Backbone(Net("mobilenet", str(tmp_path / name)), (32, 32))
            one_line(caught.value)
        with pytest.raises(BadData, match=r"it is a file of PyTorch, and Keras reads weights from"):
            Backbone(Net("mobilenet", str(tmp_path / "w.pth")), (32, 32))


class TestOtherKinds:
    @pytest.mark.parametrize(
        ("name", "what"),
        [
            ("m.pb", "a graph of TensorFlow"),
            ("m.bin", "weights, for instance those of a net for OpenVINO"),
            ("m.pt", "a file of PyTorch"),
            ("m.pth", "a file of PyTorch"),
            ("m.safetensors", "weights in safetensors"),
            ("m.pkl", "a pickle"),
            ("m.json", "an architecture without weights"),
            ("m.what", "is no net by its name"),
        ],
    )
    def test_each_is_called_what_it_is(self, tmp_path: Path, name: str, what: str) -> None:
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(InvalidChoice, match=what) as caught:
            Net(str(tmp_path / name))
        assert ".keras" in one_line(caught.value)

    def test_folders(self, tmp_path: Path) -> None:
        (tmp_path / "saved").mkdir()
        (tmp_path / "saved" / "saved_model.pb").touch()
        (tmp_path / "unpacked").mkdir()
        (tmp_path / "unpacked" / "config.json").touch()
        (tmp_path / "unpacked" / "model.weights.h5").touch()
        with pytest.raises(InvalidChoice, match="is a SavedModel of TensorFlow, which is not taken"):
            Net(str(tmp_path / "saved"))
        with pytest.raises(InvalidChoice, match=r"is an unpacked \.keras file"):
            Net(str(tmp_path / "unpacked"))
        with pytest.raises(InvalidChoice, match="there is no net"):
            Net(str(tmp_path))
