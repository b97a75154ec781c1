"""Which pixels the net of a file gets where its user does not say it: those that it was trained on, or a warning."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from deeper_nets import DEEPER
from outlines import outline, serialized

from transfer.nets.backbone import Backbone
from transfer.nets.catalogue import NETS, Net
from transfer.nets.expected_pixels import expected
from transfer.nets.expected_pixels.expected import ExpectedPixels, expected_pixels
from transfer.nets.random_weights import no_draws

KINDS = [info.name for info in NETS.values() if info.builder and info.name not in DEEPER]
FAST = ["mobilenetv2", "vgg16", "resnet50"]
SIDE = 96
OLD = Path(__file__).parent / "keras2"


def bare(name: str, **options: Any) -> keras.Model:
    """A net of `keras.applications` whose weights are not drawn."""
    settings = {"weights": None, "include_top": False, "input_shape": (SIDE, SIDE, 3)} | options
    with no_draws():
        return getattr(keras.applications, NETS[name].builder)(**settings)


def with_head(base: keras.Model, *first: keras.layers.Layer) -> keras.Model:
    """A classifier whose features are those of a net, as tutorials build it."""
    layers = keras.layers
    last = [layers.GlobalAveragePooling2D(), layers.Dropout(0.2), layers.Dense(7, activation="softmax")]
    return keras.Sequential([keras.Input((SIDE, SIDE, 3)), *first, base, *last], name="classifier")


@pytest.fixture(autouse=True)
def mistakes_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an error in the reading of layers fail a test: otherwise it would make a net unknown."""
    monkeypatch.setattr(expected, "_NOT_AS_EXPECTED", ())


@pytest.fixture(autouse=True)
def few_nets_in_memory() -> Iterator[None]:
    yield
    keras.utils.clear_session()
    gc.collect()


@pytest.fixture
def inferred(tmp_path: Path) -> Callable[[keras.Model | dict[str, Any]], ExpectedPixels]:
    return lambda model: expected_pixels(outline(model, tmp_path / "any-name.keras"))


def each(names: list[str]) -> pytest.MarkDecorator:
    """Run a test with each of these nets."""
    return pytest.mark.parametrize(
        "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in names]
    )


class TestNetsOfKerasApplications:
    @each(KINDS)  # test_applications.py looks at the deeper ones
    def test_they_are_recognised_however_they_are_saved(self, name: str, inferred: Any) -> None:
        base = bare(name)
        augmented = with_head(base, keras.layers.RandomFlip(), keras.layers.RandomRotation(0.1))
        nets = [base, with_head(base), augmented, keras.Model(base.input, keras.layers.Flatten()(base.output))]
        names = {layer.name for layer in base.layers}
        for config in [*map(serialized, nets), _renamed(serialized(base), names)]:
            found = inferred(config)
            assert found.is_known, found.sentence
            assert found.preprocessing == NETS[name].preprocessing

    @each(KINDS)
    def test_they_are_recognised_with_their_classifier_at_odd_sizes(self, name: str, inferred: Any) -> None:
        net = bare(name, include_top=True, classes=7, input_shape=(85, 107, 3))
        assert inferred(net).preprocessing == NETS[name].preprocessing


def _renamed(part: Any, names: set[str]) -> Any:
    """What Keras writes of a net, with other names of its layers."""
    match part:
        case dict():
            own = {"name": f"my_{part['name']}"} if part.get("name") in names else {}
            return {key: _renamed(value, names) for key, value in part.items()} | own
        case [str(name), int(node), int(tensor)] if name in names:
            return [f"my_{name}", node, tensor]
        case list() | tuple():
            return [_renamed(each, names) for each in part]
    return part


class TestGivenPixels:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", FAST)
    def test_features_of_a_file_are_bit_by_bit_those_by_name(self, name: str, tmp_path: Path) -> None:
        size, images = (64, 48), np.random.default_rng(0).integers(0, 256, (2, 64, 48, 3), np.uint8)
        named = Backbone(Net(name, weights="none", seed=3), size)
        rows = []
        for suffix in ("keras", "h5"):
            named.model.save(tmp_path / f"a.{suffix}")
        for net in (named.net, Net(str(tmp_path / "a.keras")), Net(str(tmp_path / "a.h5"))):
            readout = NETS[name].readout
            spec = net.spec(readout, size=size)
            cut = Backbone(net, size).cut([(readout, "avg")], spec.preprocessing, 3)
            rows.append(keras.ops.convert_to_numpy(cut(images)[0]))
        assert np.ptp(rows[0]) > 0
        np.testing.assert_array_equal(rows[1], rows[0])
        np.testing.assert_array_equal(rows[2], rows[0])

    def test_what_the_user_says_wins(self, tmp_path: Path) -> None:
        file = str(outline(bare("mobilenetv2"), tmp_path / "a.keras"))
        net = Net(file, preprocessing="unit")
        assert net.spec("any").preprocessing == "unit"
        assert net.expected_pixels is None
        assert Net(file).spec("any").preprocessing == "tf"

    def test_features_under_another_preprocessing_are_others(self, tmp_path: Path) -> None:
        file = str(outline(bare("mobilenetv2"), tmp_path / "a.keras"))
        specs = {Net(file, preprocessing=mode).spec("any").digest for mode in (None, "none", "tf")}
        assert len(specs) == 2

    @pytest.mark.slow
    def test_nets_without_their_own_scaling_get_it_from_outside(self, inferred: Any) -> None:
        for name, mode in (("mobilenetv3small", "tf"), ("efficientnetv2b0", "torch"), ("convnexttiny", "torch")):
            found = inferred(bare(name, include_preprocessing=False))
            assert (found.preprocessing, found.is_known) == (mode, True)
        found = inferred(bare("efficientnetv2s", include_preprocessing=False))
        assert not found.is_known
        assert "EfficientNetV2S of keras.applications without its scaling" in found.sentence

    def test_the_first_layers_of_a_net_suffice(self, inferred: Any) -> None:
        base = bare("resnet50")
        found = inferred(keras.Model(base.input, base.get_layer("conv4_block2_out").output))
        assert found.preprocessing == "caffe"
        assert "begins as ResNet101, ResNet152 or ResNet50 of keras.applications" in found.sentence
        assert not inferred(keras.Model(base.input, base.get_layer("conv2_block1_out").output)).is_known

    def test_one_channel_gets_no_colours(self, inferred: Any) -> None:
        assert not inferred(bare("vgg16", input_shape=(SIDE, SIDE, 1))).is_known
        assert inferred(bare("mobilenetv2", input_shape=(SIDE, SIDE, 1))).preprocessing == "tf"
        i = keras.Input((SIDE, SIDE, 1))
        colour = keras.layers.Concatenate()([i, i, i])
        assert inferred(keras.Model(i, bare("mobilenetv2")(colour))).preprocessing == "tf"


class TestScalingInside:
    @pytest.mark.parametrize(
        ("layers", "mode"),
        [
            ([keras.layers.Rescaling(1 / 255)], "none"),
            ([keras.layers.RandomFlip(), keras.layers.Rescaling(1 / 127.5, offset=-1)], "none"),
            ([keras.layers.Rescaling(2.0, offset=-1)], "unit"),
            ([keras.layers.Rescaling(255.0)], "unit"),
            ([keras.layers.Rescaling(127.5, offset=127.5)], "tf"),
            ([keras.layers.Normalization(mean=[120.0, 115.0, 100.0], variance=[3500.0] * 3)], "none"),
            ([keras.layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.05] * 3)], "unit"),
            ([keras.layers.Rescaling(1 / 255), keras.layers.Normalization(mean=0.5, variance=0.25)], "none"),
        ],
    )
    def test_layers_tell_which_pixels_they_are_for(self, layers: list[Any], mode: str, inferred: Any) -> None:
        for base in (bare("mobilenetv2"), keras.layers.Conv2D(4, 3)):
            found = inferred(with_head(base, *layers))
            assert (found.preprocessing, found.is_known) == (mode, True)
            assert f"{type(layers[-1]).__name__}" in found.sentence

    @pytest.mark.parametrize("module", ["mobilenet_v2", "resnet50"])
    def test_preprocess_input_is_arithmetic_inside(self, module: str, inferred: Any) -> None:
        i = keras.Input((SIDE, SIDE, 3))
        x = getattr(keras.applications, module).preprocess_input(i)
        found = inferred(keras.Model(i, bare("mobilenetv2")(x)))
        assert (found.preprocessing, found.is_known) == ("none", True)

    @pytest.mark.parametrize("suffix", ["keras", "h5"])
    @pytest.mark.parametrize(("scale", "mode"), [(1.0, "none"), (1 / 255, "unit")])
    def test_a_normalization_that_learnt_from_data_is_read(
        self, suffix: str, scale: float, mode: str, tmp_path: Path
    ) -> None:
        images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3)) * scale
        layer = keras.layers.Normalization()
        layer.adapt(images)
        keras.Sequential([keras.Input((8, 8, 3)), layer, keras.layers.Conv2D(2, 3)]).save(tmp_path / f"a.{suffix}")
        found = expected_pixels(tmp_path / f"a.{suffix}")
        assert (found.preprocessing, found.is_known) == (mode, True)

    def test_whole_numbers_are_pixels(self, inferred: Any) -> None:
        i = keras.Input((SIDE, SIDE, 3), dtype="uint8")
        found = inferred(keras.Model(i, keras.layers.Conv2D(2, 3)(keras.ops.cast(i, "float32"))))
        assert (found.preprocessing, found.is_known) == ("none", True)

    @pytest.mark.parametrize("suffix", ["keras", "h5"])
    def test_files_of_keras_2_are_read(self, suffix: str) -> None:
        found = expected_pixels(OLD / f"tfop.{suffix}")
        assert (found.preprocessing, found.is_known) == ("none", True)
        assert "TrueDivide" in found.sentence


class TestUnknown:
    @pytest.mark.parametrize("first", [[], [keras.layers.Rescaling(3.0)], [keras.layers.BatchNormalization()]])
    def test_the_warning_says_what_is_assumed_and_what_to_do(self, first: list[Any], inferred: Any) -> None:
        found = inferred(with_head(keras.layers.Conv2D(4, 3), *first))
        assert (found.preprocessing, found.is_known) == ("none", False)
        assert "does not say which pixels it expects: it gets them as 0 to 255" in found.sentence
        assert "`preprocessing`: unit (0 to 1), tf (-1 to 1), torch" in found.sentence

    def test_two_scalings_that_disagree(self, inferred: Any) -> None:
        layers = keras.layers
        i = keras.Input((SIDE, SIDE, 3))
        parts = [layers.Conv2D(2, 3)(layers.Rescaling(*numbers)(i)) for numbers in ((1 / 255, 0), (2.0, -1))]
        assert not inferred(keras.Model(i, layers.Add()(parts))).is_known

    def test_a_known_net_behind_something_else(self, inferred: Any) -> None:
        i = keras.Input((SIDE, SIDE, 3))
        for x in (keras.ops.flip(i, -1), i[..., ::-1], keras.layers.Rescaling(3.0)(i)):
            assert not inferred(keras.Model(i, bare("mobilenetv2")(x))).is_known

    def test_a_net_with_another_layer_in_it(self, inferred: Any) -> None:
        layers = keras.layers
        blocks = [[layers.Conv2D(64 * 2**n, 3, padding="same") for _ in range(3)] for n in range(4)]
        net = [keras.Input((SIDE, SIDE, 3)), *(layer for block in blocks for layer in (*block, layers.MaxPooling2D()))]
        assert not inferred(keras.Sequential(net)).is_known  # VGG16 has two in its first blocks
