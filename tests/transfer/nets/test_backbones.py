"""Cut nets: the same features as plain Keras, every layer within reach, and nothing computed beyond what is asked."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from feature_cache.errors import InvalidChoice
from transfer.nets.backbone import Backbone, backbone_for
from transfer.nets.catalogue import Net
from transfer.nets.preprocessing import Normalise

SaveNet = Callable[..., Net]
FeaturesOf = Callable[..., list[np.ndarray]]


@pytest.fixture
def images(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (8, 32, 32, 3), np.uint8)


def assert_same_features(features: np.ndarray, expected: np.ndarray) -> None:
    assert features.shape == expected.shape
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


class TestAgainstPlainKeras:
    @pytest.mark.parametrize(
        ("name", "app", "module", "batch_sizes"),
        [
            ("mobilenetv2", "MobileNetV2", "mobilenet_v2", (1, 3, 8)),
            *(
                pytest.param(*net, (3,), marks=pytest.mark.slow)  # each batch size is compiled
                for net in (
                    ("vgg16", "VGG16", "vgg16"),
                    ("resnet50", "ResNet50", "resnet"),
                    ("efficientnetb0", "EfficientNetB0", "efficientnet"),
                    ("densenet121", "DenseNet121", "densenet"),
                    ("nasnetmobile", "NASNetMobile", "nasnet"),
                    ("convnexttiny", "ConvNeXtTiny", "convnext"),
                )
            ),
        ],
    )
    def test_random_weights_and_features_are_those_of_keras(
        self,
        needs_tensorflow: None,
        images: np.ndarray,
        features_of: FeaturesOf,
        name: str,
        app: str,
        module: str,
        batch_sizes: tuple[int, ...],
    ) -> None:
        backbone = Backbone(Net(name, "none"), (32, 32))
        keras.utils.set_random_seed(0)
        plain = getattr(keras.applications, app)(weights=None, include_top=False, input_shape=(32, 32, 3))
        # Layers with kernels carry names of their own; the others are numbered by what was built before.
        kernels = {layer.name: layer for layer in plain.layers if hasattr(layer, "kernel")}
        named = [name for name in backbone.taps if name in kernels]
        middle = named[len(named) // 2]
        outputs = [kernels[middle].output, plain.output]
        preprocess = getattr(keras.applications, module).preprocess_input
        expected = keras.Model(plain.inputs, outputs)(preprocess(images.astype("float32")), training=False)
        for batch_size in batch_sizes:
            features = features_of(backbone, images, middle, "-1", batch_size=batch_size)
            for found, wanted in zip(features, expected, strict=True):
                assert_same_features(found, np.asarray(wanted))

    @pytest.mark.slow
    def test_features_are_those_of_the_uncut_net(self, images: np.ndarray, features_of: FeaturesOf) -> None:
        backbone = Backbone(Net("mobilenetv2", "none"), (32, 32))
        scaled = keras.applications.mobilenet_v2.preprocess_input(images.astype("float32"))
        for layer in ("block_4_add", "out_relu"):
            uncut = keras.Model(backbone.model.inputs, backbone.model.get_layer(layer).output)
            expected = keras.ops.convert_to_numpy(uncut(scaled, training=False))
            for batch_size in (3, 8):
                assert_same_features(features_of(backbone, images, layer, batch_size=batch_size)[0], expected)

    @pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
    def test_normalise_is_the_preprocessing_of_keras(self, images: np.ndarray, mode: str) -> None:
        expected = keras.applications.imagenet_utils.preprocess_input(images.astype("float32"), mode=mode)
        found = keras.ops.convert_to_numpy(Normalise(mode, 3)(images))
        np.testing.assert_allclose(found, expected, atol=1e-4)

    def test_normalise_to_unit_and_not_at_all(self, images: np.ndarray) -> None:
        np.testing.assert_allclose(keras.ops.convert_to_numpy(Normalise("unit", 3)(images)), images / 255, atol=1e-6)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(Normalise("none", 3)(images)), images)

    def test_seeds_give_different_weights_and_the_same_seed_the_same(
        self, images: np.ndarray, features_of: FeaturesOf
    ) -> None:
        first, again, other = (
            features_of(Backbone(Net("glyphnet", "none", seed)), images, "block2_pool")[0] for seed in (0, 0, 1)
        )
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - other).max() > 0.01 * np.abs(first).max()


class TestSurroundings:
    def test_layer_names_do_not_depend_on_nets_built_before(self) -> None:
        before = list(Backbone(Net("mobilenetv3small", "none"), (32, 32)).taps)
        for _ in range(3):
            keras.layers.Activation("relu")
            keras.layers.Rescaling(1)
        assert list(Backbone(Net("mobilenetv3small", "none"), (32, 32)).taps) == before
        assert "activation" in before
        assert "activation_17" in before

    def test_building_a_net_leaves_the_callers_names_alone(self) -> None:
        def count() -> int:
            return int(keras.layers.Activation("relu").name.removeprefix("activation_"))

        keras.layers.Activation("relu")
        before = count()
        Backbone(Net("mobilenetv3small", "none"), (32, 32))
        assert count() == before + 1

    def test_pythons_random_state_is_left_as_it_was(self) -> None:
        random.seed(123)
        state = random.getstate()
        Backbone(Net("glyphnet", "none"))
        assert random.getstate() == state

    def test_pythons_random_state_is_left_as_it_was_by_a_failure(self, tmp_path: Any) -> None:
        (tmp_path / "bad.h5").write_bytes(b"noise")
        state = random.getstate()
        with pytest.raises(ValueError, match="does not hold weights"):
            Backbone(Net("glyphnet", str(tmp_path / "bad.h5")))
        assert random.getstate() == state


def chain(*names: str, shape: tuple[int, ...] | None = None, name: str | None = None) -> keras.Sequential:
    """1x1 convolutions of two channels in a row."""
    layers = [keras.layers.Conv2D(2, 1, name=layer) for layer in names]
    return keras.Sequential([keras.Input(shape), *layers] if shape else layers, name=name)


class TestNesting:
    def test_layers_of_a_sequential_inside_a_functional_net_are_reached(
        self, save_net: SaveNet, images: np.ndarray, features_of: FeaturesOf
    ) -> None:
        inputs = keras.Input((32, 32, 3))
        inner = chain("one", "two", shape=(32, 32, 3), name="inner")
        model = keras.Model(inputs, keras.layers.Conv2D(1, 1, name="last")(inner(inputs)))
        backbone = Backbone(save_net(model))
        assert list(backbone.taps) == ["inner/one", "inner/two", "inner", "last"]
        expected = keras.ops.convert_to_numpy(inner.layers[0](images.astype("float32")))
        assert_same_features(features_of(backbone, images, "inner/one")[0], expected)
        np.testing.assert_array_equal(*features_of(backbone, images, "inner/two", "inner"))

    def test_several_levels_and_kinds_of_nesting(
        self, save_net: SaveNet, images: np.ndarray, features_of: FeaturesOf
    ) -> None:
        deep_in = keras.Input((32, 32, 2))
        deep = keras.Model(deep_in, keras.layers.Conv2D(2, 1, name="conv")(deep_in), name="deep")
        middle = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(2, 1, name="first"), deep], name="mid")
        outer_in = keras.Input((32, 32, 3))
        outer = keras.Model(outer_in, middle(outer_in), name="outer")
        model = keras.Sequential([keras.Input((32, 32, 3)), outer, keras.layers.ReLU(name="relu")])
        backbone = Backbone(save_net(model))
        assert list(backbone.taps) == [
            "outer/mid/first",
            "outer/mid/deep/conv",
            "outer/mid/deep",
            "outer/mid",
            "outer",
            "relu",
        ]
        expected = keras.ops.convert_to_numpy(middle(images.astype("float32")))
        assert_same_features(features_of(backbone, images, "outer/mid/deep/conv")[0], expected)
        assert_same_features(features_of(backbone, images, "relu")[0], np.maximum(expected, 0))

    def test_a_layer_used_twice_has_two_names(
        self, save_net: SaveNet, images: np.ndarray, features_of: FeaturesOf
    ) -> None:
        shared = keras.layers.Conv2D(3, 1, name="shared")
        inputs = keras.Input((32, 32, 3))
        model = keras.Model(inputs, shared(shared(inputs)))
        backbone = Backbone(save_net(model))
        assert list(backbone.taps) == ["shared", "shared:2"]
        once = keras.ops.convert_to_numpy(shared(images.astype("float32")))
        first, second = features_of(backbone, images, "shared", "shared:2")
        assert_same_features(first, once)
        assert_same_features(second, keras.ops.convert_to_numpy(shared(once)))

    def test_a_net_used_twice_has_two_of_each_name(self, save_net: SaveNet) -> None:
        inner = chain("conv", shape=(32, 32, 2), name="inner")
        inputs = keras.Input((32, 32, 2))
        backbone = Backbone(save_net(keras.Model(inputs, inner(inner(inputs)))))
        assert list(backbone.taps) == ["inner/conv", "inner", "inner/conv:2", "inner:2"]

    def test_branches_that_meet_again_keep_the_features(
        self, save_net: SaveNet, images: np.ndarray, features_of: FeaturesOf
    ) -> None:
        inputs = keras.Input((32, 32, 3))
        left = keras.layers.Conv2D(2, 3, padding="same", name="left")(inputs)
        right = keras.layers.Conv2D(2, 5, padding="same", name="right")(inputs)
        joined = keras.layers.Concatenate(name="joined")([left, right])
        model = keras.Model(inputs, keras.layers.Add(name="sum")([joined, joined]))
        backbone = Backbone(save_net(model))
        expected = keras.ops.convert_to_numpy(model(images.astype("float32")))
        assert_same_features(features_of(backbone, images, "sum")[0], expected)


@pytest.fixture
def doubling(save_net: SaveNet) -> Backbone:
    """Pixels (a, b) in one channel become 2p + 1, then that times (1, -1), then only what is positive."""
    model = keras.Sequential(
        [
            keras.Input((2, 2, 1)),
            keras.layers.Conv2D(1, 1, name="affine"),
            keras.layers.Conv2D(2, 1, use_bias=False, name="signs"),
            keras.layers.ReLU(name="relu"),
        ]
    )
    model.get_layer("affine").set_weights([np.full((1, 1, 1, 1), 2.0), np.array([1.0])])
    model.get_layer("signs").set_weights([np.array([1.0, -1.0]).reshape(1, 1, 1, 2)])
    return Backbone(save_net(model))


class TestCut:
    PIXELS = np.array([[[10], [20]], [[30], [45]]], np.uint8)[None]

    def test_hand_set_weights_give_activations_known_by_arithmetic(
        self, doubling: Backbone, features_of: FeaturesOf
    ) -> None:
        affine, signs, relu = features_of(doubling, self.PIXELS, "affine", "signs", "relu")
        np.testing.assert_array_equal(affine[0, ..., 0], [[21, 41], [61, 91]])
        np.testing.assert_array_equal(signs[0, 1, 1], [91, -91])
        np.testing.assert_array_equal(relu[0, 1, 1], [91, 0])

    @pytest.mark.parametrize(
        ("pooling", "expected"),
        [
            ("avg", [[53.5, -53.5]]),
            ("max", [[91, -21]]),
            ("flatten", [[21, -21, 41, -41, 61, -61, 91, -91]]),
            ("none", [[[[21, -21], [41, -41]], [[61, -61], [91, -91]]]]),
        ],
    )
    def test_pooling(self, doubling: Backbone, features_of: FeaturesOf, pooling: str, expected: list) -> None:
        np.testing.assert_array_equal(features_of(doubling, self.PIXELS, "signs", pooling=pooling)[0], expected)

    @pytest.mark.parametrize("pooling", ["avg", "max", "flatten", "none"])
    def test_vectors_are_left_as_they_are(self, save_net: SaveNet, features_of: FeaturesOf, pooling: str) -> None:
        layers = [keras.Input((2, 2, 1)), keras.layers.Flatten(name="flat"), keras.layers.ReLU(name="relu")]
        backbone = Backbone(save_net(keras.Sequential(layers)))
        assert features_of(backbone, self.PIXELS, "relu", pooling=pooling)[0].tolist() == [[10, 20, 30, 45]]

    def test_sequences_are_pooled_over_their_length(self, save_net: SaveNet, features_of: FeaturesOf) -> None:
        layers = [keras.Input((2, 2, 1)), keras.layers.Reshape((2, 2), name="rows")]
        backbone = Backbone(save_net(keras.Sequential(layers)))
        assert features_of(backbone, self.PIXELS, "rows", pooling="avg")[0].tolist() == [[20, 32.5]]
        assert features_of(backbone, self.PIXELS, "rows", pooling="max")[0].tolist() == [[30, 45]]

    def test_several_layers_in_one_pass_equal_single_passes(self, images: np.ndarray, features_of: FeaturesOf) -> None:
        backbone = Backbone(Net("glyphnet"))
        layers = ("block1_conv1", "block4_pool", "block2_pool")
        together = features_of(backbone, images, *layers, pooling="avg")
        for layer, features in zip(layers, together, strict=True):
            assert_same_features(features, features_of(backbone, images, layer, pooling="avg")[0])

    def test_nothing_beyond_the_deepest_layer_is_in_the_cut_net(self) -> None:
        backbone = Backbone(Net("glyphnet"))
        cut = backbone.cut([("block2_conv1", "avg"), ("block1_pool", "avg")], "tf", 1)
        flat = cut._flatten_layers(include_self=False)
        assert {layer.name for layer in flat if layer.weights and not hasattr(layer, "layers")} == {
            "block1_conv1",
            "block1_conv2",
            "block2_conv1",
        }
        assert cut.count_params() < backbone.model.count_params() / 10

    def test_always_inference_mode(self, save_net: SaveNet, features_of: FeaturesOf) -> None:
        layers = [
            keras.Input((2, 2, 1)),
            keras.layers.GaussianNoise(1.0, name="noise"),
            keras.layers.BatchNormalization(epsilon=0, name="norm"),
            keras.layers.Dropout(0.9, name="drop"),
        ]
        backbone = Backbone(save_net(keras.Sequential(layers)))
        np.testing.assert_allclose(features_of(backbone, self.PIXELS, "drop")[0], self.PIXELS, rtol=1e-6)

    def test_gray_is_the_same_as_three_equal_channels(self, rng: np.random.Generator, features_of: FeaturesOf) -> None:
        gray = rng.integers(0, 256, (4, 32, 32, 1), np.uint8)
        backbone = Backbone(Net("vgg16", "none"), (32, 32))
        from_gray = features_of(backbone, gray, "block2_pool")[0]
        assert_same_features(from_gray, features_of(backbone, np.repeat(gray, 3, -1), "block2_pool")[0])

    def test_colour_becomes_luminance_for_a_gray_net(self, doubling: Backbone, features_of: FeaturesOf) -> None:
        colour = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 200, 200]], np.uint8).reshape(1, 2, 2, 3)
        luminance = (features_of(doubling, colour, "affine")[0].ravel() - 1) / 2
        np.testing.assert_allclose(luminance, [255 * 0.299, 255 * 0.587, 255 * 0.114, 200], atol=1e-3)

    def test_input_may_be_of_another_size_than_the_nets_own(self, images: np.ndarray, features_of: FeaturesOf) -> None:
        backbone = Backbone(Net("glyphnet"), (24, 40))
        pixels = np.zeros((2, 24, 40, 1), np.uint8)
        assert features_of(backbone, pixels, "block2_conv2")[0].shape == (2, 12, 20, 64)


class TestFinding:
    def test_by_name_and_by_index_from_either_end(self, doubling: Backbone) -> None:
        assert doubling.find("signs") == "signs"
        assert [doubling.find(index) for index in ("0", "2", "-1", "-3")] == ["affine", "relu", "relu", "affine"]

    def test_unknown_layer_suggests_the_nearest_and_how_to_list_them(self) -> None:
        with pytest.raises(InvalidChoice, match=r"vgg16 has no layer 'block5_pol'; did you mean .*'block5_pool'") as e:
            Backbone(Net("vgg16", "none"), (32, 32)).find("block5_pol")
        assert "layertap layers vgg16" in str(e.value)

    @pytest.mark.parametrize("index", ["3", "-4", "99"])
    def test_index_out_of_range_tells_how_many_there_are(self, doubling: Backbone, index: str) -> None:
        with pytest.raises(InvalidChoice, match=f"has 3 layers; received index {index}"):
            doubling.find(index)

    def test_readout_of_a_file_is_its_last_layer_with_spatial_axes(self, save_net: SaveNet, doubling: Backbone) -> None:
        assert doubling.readout == "relu"
        layers = [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(2, 3, name="conv"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
        assert Backbone(save_net(keras.Sequential(layers), "classifier")).readout == "conv"

    def test_readout_of_a_file_is_never_the_pixels(self, save_net: SaveNet) -> None:
        layers = [
            keras.Input((8, 8, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Reshape((8, 24)),
            keras.layers.LSTM(4, name="rows"),
            keras.layers.Dense(2),
        ]
        assert Backbone(save_net(keras.Sequential(layers), "rows")).readout == "rows"

    def test_a_layer_of_the_classifier_brings_the_classifier_along(self) -> None:
        net = Net("mobilenetv3small", "none")
        assert "predictions" not in backbone_for(net, ["activation_3"], (32, 32)).taps
        assert backbone_for(net, ["predictions"], (32, 32)).taps["predictions"].shape == (None, 1000)

    @pytest.mark.slow
    def test_features_do_not_depend_on_whether_the_classifier_is_there(
        self, images: np.ndarray, features_of: FeaturesOf
    ) -> None:
        net = Net("mobilenetv3small", "none")
        without, along = Backbone(net, (32, 32)), Backbone(net, (32, 32), top=True)
        for layer in ("activation_3", "activation_17"):
            assert_same_features(features_of(without, images, layer)[0], features_of(along, images, layer)[0])

    def test_a_layer_in_neither_suggests_the_nearest(self) -> None:
        with pytest.raises(InvalidChoice, match=r"no layer 'activaton_17'; did you mean 'activation_17'"):
            backbone_for(Net("mobilenetv3small", "none"), ["activaton_17"], (32, 32))


@pytest.mark.slow
def test_what_keras_is_set_to_elsewhere_changes_nothing(images: np.ndarray, features_of: FeaturesOf) -> None:
    net = Net("mobilenetv3small", "none")
    plain = features_of(Backbone(net, (32, 32)), images, "activation_17")[0]
    before = keras.config.image_data_format(), keras.config.floatx(), keras.config.dtype_policy()
    try:
        keras.config.set_image_data_format("channels_first")
        keras.config.set_floatx("float16")
        keras.config.set_dtype_policy("mixed_bfloat16")
        backbone = Backbone(net, (32, 32))
        assert keras.config.image_data_format() == "channels_first"
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        assert_same_features(features_of(backbone, images, "activation_17")[0], plain)
    finally:
        keras.config.set_image_data_format(before[0])
        keras.config.set_floatx(before[1])
        keras.config.set_dtype_policy(before[2])
