"""Presets of KerasHub as nets: tiny ones with random weights give what plain Keras gives, in every pooling."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from feature_cache.errors import BadData, InvalidChoice, UnsafeFile
from feature_cache.spec import FeatureSpec, affine_numbers, affine_text
from tests.transfer.hub_nets import BACKBONES, OFFSET, SCALE, SIDE, save_preset
from transfer.engines.conversion.known import is_known
from transfer.export.formats import FORMATS
from transfer.export.model import pixels_to_features
from transfer.finetune.cut_choice import find_cut
from transfer.finetune.saved_net import save_net
from transfer.nets.backbone import Backbone
from transfer.nets.catalogue import Net, net_from_config
from transfer.nets.costs import table
from transfer.nets.hub import Preset, _quiet_retries
from transfer.nets.inner_layers import Recorder
from transfer.nets.preprocessing import Normalise, normalising_layers
from transfer.request import FeatureRequest

hub = pytest.importorskip("keras_hub", reason="KerasHub is an extra: pip install 'layertap[hub]'")


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Net]:
    """A preset in a folder, with an image converter of its own, saved once."""
    folders: dict[str, Path] = {}

    def saved(name: str) -> Net:
        if name not in folders:
            folders[name] = save_preset(name, tmp_path_factory.mktemp(name.split()[0]))
        return Net(f"hub:{folders[name]}")

    return saved


@pytest.fixture
def pixels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


def rows_of(request: FeatureRequest, pixels: np.ndarray, backbone: Backbone | None = None) -> list[np.ndarray]:
    """Features of a request, computed by Keras."""
    backbone = backbone or request.build()
    cut = backbone.cut([(spec.layer, spec.pooling_rule) for spec in request.specs], request.specs[0].preprocessing, 3)
    return [keras.ops.convert_to_numpy(output) for output in keras.tree.flatten(cut(pixels))]


def assert_near(found: np.ndarray, expected: np.ndarray, why: str) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max(), err_msg=why)


@pytest.mark.parametrize(
    "name", [name if name == "vit" else pytest.param(name, marks=pytest.mark.slow) for name in BACKBONES]
)
class TestEachNet:
    @pytest.mark.slow
    def test_layers_and_poolings_are_those_of_plain_keras(
        self, preset: Callable, name: str, pixels: np.ndarray
    ) -> None:
        net, (_, ending, prefix) = preset(name), BACKBONES[name]
        plain = hub.models.Backbone.from_preset(net.name.removeprefix("hub:"))
        plain = getattr(plain, "vision_encoder", plain)
        recorder = Recorder()
        with recorder.recording():
            plain(pixels * np.float32(SCALE) + np.float32(OFFSET), training=False)
        path = next(path for path in recorder.outputs if path.endswith(ending))  # names of layers begin with the net's
        layer, whole = path.partition("/")[2], keras.ops.convert_to_numpy(recorder.outputs[path])
        request = FeatureRequest(net, (layer,))
        resolved, backbone = request.resolve()
        assert backbone is not None
        assert backbone.prefix_tokens(layer) == prefix
        backbone.look_inside()
        recorded = {path.partition("/")[2] for path in recorder.outputs}
        assert len(recorded & {row.name for row in table(backbone)}) > len(backbone.outer) - 2
        axes = tuple(range(1, whole.ndim - 1))
        expected = {"max": whole.max(axes), "avg": whole.mean(axes), "flatten": whole.reshape(3, -1)}
        if prefix is not None:
            patches = whole[:, prefix:]
            expected |= {"max": patches.max(1), "avg": patches.mean(1)}
            side = int(patches.shape[1] ** 0.5)
            expected["none"] = patches.reshape(3, side, side, -1)
        if prefix:
            expected["cls"] = whole[:, 0]
            expected["cls+avg"] = np.concatenate([whole[:, 0], patches.mean(1)], 1)
        for pooling, rows in expected.items():
            chosen = FeatureRequest(net, (layer,), pooling, prefix_tokens=resolved.prefix_tokens)
            assert_near(rows_of(chosen, pixels, backbone)[0], rows, pooling)

    @pytest.mark.slow
    def test_a_training_of_the_last_layers_is_kept(self, preset: Callable, name: str, tmp_path: Path) -> None:
        net = preset(name)
        backbone = FeatureRequest(net).build()
        cut = find_cut(backbone, backbone.readout, "auto")
        assert cut.trained
        for variable in backbone.model.weights:  # as a training leaves them
            if "seed" not in variable.path:
                variable.assign(variable + 0.01)
        kept = FeatureRequest(save_net(backbone, tmp_path)).build()
        assert kept.net.applied_preprocessing == net.applied_preprocessing
        for after, before in zip(kept.model.weights, backbone.model.weights, strict=True):
            np.testing.assert_array_equal(np.asarray(after), np.asarray(before))


class TestOfAPreset:
    def test_its_image_converter_makes_the_pixels(self, preset: Callable) -> None:
        net = preset("vit")
        (spec,) = FeatureRequest(net, ("vit_encoder",)).specs
        assert (spec.size, spec.fit, spec.interpolation) == ((SIDE, SIDE), "crop", "bilinear")
        assert affine_numbers(spec.preprocessing) == (tuple(SCALE), tuple(OFFSET))
        (told,) = FeatureRequest(Net(net.name, preprocessing="tf"), ("vit_encoder",), fit="pad").specs
        assert (told.fit, told.preprocessing) == ("pad", "tf")
        assert FeatureSpec.from_json(spec.to_json()) == spec
        assert net.net_id == f"hub-{net.weights_id.removeprefix('sha256:')[:12]}"
        assert net_from_config(json.loads(json.dumps(net.as_config()))) == net
        assert not is_known(net)

    def test_a_block_is_where_a_training_begins(self, preset: Callable) -> None:
        backbone = FeatureRequest(preset("vit")).build()
        cut = find_cut(backbone, "vit_encoder", "vit_encoder/transformer_block_2")
        assert cut.layers == ("vit_encoder/transformer_block_1",)
        assert cut.trained[0] == "vit_encoder/transformer_block_2/ln_1"
        assert cut.tail_flops < cut.prefix_flops + cut.tail_flops
        inside = "vit_patching_and_embedding/patch_embedding"
        for readout in ("vit_encoder", inside):
            with pytest.raises(InvalidChoice, match="is inside vit_patching_and_embedding, whose code cannot be taken"):
                find_cut(backbone, readout, inside)

    def test_a_model_that_ends_at_a_block_is_saved_by_keras(
        self, preset: Callable, tmp_path: Path, pixels: np.ndarray
    ) -> None:
        backbone = FeatureRequest(preset("vit"), ("vit_encoder/transformer_block_1",)).build()
        model = pixels_to_features(backbone, [("vit_encoder/transformer_block_1", "cls+avg-1")], "none")
        FORMATS["keras"].write(model, tmp_path / "model.keras")
        found = FORMATS["keras"].read(tmp_path / "model.keras")(pixels)
        np.testing.assert_array_equal(found, np.asarray(model(pixels)))

    def test_of_a_net_of_images_and_texts_it_is_the_encoder_of_images(
        self, tmp_path: Path, rng: np.random.Generator
    ) -> None:
        sizes = {"num_layers": 1, "num_query_heads": 2, "num_key_value_heads": 1, "hidden_dim": 8, "head_dim": 4}
        vit = {"vit_num_layers": 1, "vit_num_heads": 3, "vit_hidden_dim": 12, "vit_patch_size": 7}
        widths = {"intermediate_dim": 8, "vit_intermediate_dim": 8, "vocabulary_size": 9, "image_size": 14}
        whole = hub.models.PaliGemmaBackbone(**sizes, **vit, **widths)
        whole.save_to_preset(str(tmp_path))
        net = Net(f"hub:{tmp_path}", preprocessing="none")
        whole.vit_encoder.save(tmp_path / "encoder.keras")
        assert net.default_size() == Net(str(tmp_path / "encoder.keras")).default_size() == (14, 14)
        pixels = rng.integers(0, 256, (2, 14, 14, 3), np.uint8)
        found = rows_of(FeatureRequest(net, pooling="flatten"), pixels)[0]
        expected = np.asarray(whole.vit_encoder(pixels.astype("float32"))).reshape(2, -1)
        assert_near(found, expected, "encoder")

    def test_of_an_encoder_of_several_images_it_is_that_of_one(self, tmp_path: Path, rng: np.random.Generator) -> None:
        from keras_hub.src.models.gemma3.gemma3_vision_encoder import Gemma3VisionEncoder

        sizes = {"num_layers": 1, "hidden_dim": 8, "intermediate_dim": 8}
        encoder = Gemma3VisionEncoder(image_size=8, patch_size=2, num_heads=2, output_dim=8, pool_size=2, **sizes)
        heads = {"num_query_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "vocabulary_size": 9}
        hub.models.Gemma3Backbone(image_size=8, vision_encoder=encoder, **sizes, **heads).save_to_preset(str(tmp_path))
        net = Net(f"hub:{tmp_path}", preprocessing="none")
        pixels = rng.integers(0, 256, (2, *net.default_size(), 3), np.uint8)
        found = rows_of(FeatureRequest(net, pooling="flatten"), pixels)[0]
        assert_near(found, np.asarray(encoder(pixels[:, None].astype("float32"))).reshape(2, -1), "encoder")

    @pytest.mark.parametrize(
        ("config", "encoder", "size"),
        [
            ({"vision_encoder_config": {"image_shape": [32, 24, 3]}}, "vision_encoder", (32, 24)),  # Gemma 3n
            ({"vision_encoder": {"config": {"image_size": [28, 14]}}}, "vision_encoder", (28, 14)),  # BLIP-2
            ({"vision_encoder": {"config": {"image_size": 28}}}, "vision_encoder", (28, 28)),  # T5Gemma 2
            ({"image_encoder": {"config": {"image_shape": [42, 42, 3]}}}, None, (42, 42)),  # DepthAnything
        ],
    )
    def test_its_size_is_that_of_the_part_that_takes_images(
        self, tmp_path: Path, config: dict[str, Any], encoder: str | None, size: tuple[int, int]
    ) -> None:
        found = Preset(tmp_path, {"class_name": "Backbone", "config": config})
        assert (found.encoder, found.size) == (encoder, size)

    @pytest.mark.slow
    def test_a_keras_file_with_its_layers_is_a_net(self, preset: Callable, tmp_path: Path, pixels: np.ndarray) -> None:
        net = preset("vit")
        model = FeatureRequest(net).build().model
        model.save(tmp_path / "vit.keras")
        layer = ("vit_encoder/transformer_block_1",)
        file = Net(str(tmp_path / "vit.keras"), preprocessing=net.applied_preprocessing)
        of_file, of_preset = (rows_of(FeatureRequest(one, layer, "cls"), pixels)[0] for one in (file, net))
        assert_near(of_file, of_preset, "file")

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"image_converter.json": {"config": {"tile_size": 3}}}, BadData, "has the step 'tile_size', which"),
            ({"image_converter.json": {"config": {"interpolation": "area"}}}, BadData, "the interpolation 'area'"),
            ({"image_converter.json": {"registered_name": "my>Own", "config": {}}}, BadData, "the converter 'my>Own'"),
            (
                {"config.json": {"module": "os", "class_name": "system", "config": {}}},
                UnsafeFile,
                "needs code of its own",
            ),
            (
                {"config.json": {"module": "keras_hub.src.utils.preset_utils", "class_name": "json", "config": {}}},
                UnsafeFile,
                "needs code of its own",
            ),
            ({"config.json": {"model_type": "vit"}}, BadData, "is no configuration of KerasHub"),
            ({"config.json": None}, InvalidChoice, "there is no config.json in it"),
            ({"model.weights.h5": None}, BadData, "lacks its file model.weights.h5; copy the whole"),
        ],
    )
    def test_what_is_damaged_or_not_known_is_told(
        self, preset: Callable, tmp_path: Path, change: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        folder = tmp_path / "preset"
        shutil.copytree(preset("vit").name.removeprefix("hub:"), folder)
        for name, content in change.items():
            (folder / name).unlink()
            if content is not None:
                (folder / name).write_text(json.dumps(content))
        with pytest.raises(error, match=message):
            FeatureRequest(Net(f"hub:{folder}"), ("vit_encoder",)).build().net.spec("vit_encoder")

    def test_the_log_of_what_is_asked_for_again_is_quiet_meanwhile(self) -> None:
        log = logging.getLogger("huggingface_hub.utils._http")
        with _quiet_retries():
            assert not log.isEnabledFor(logging.WARNING)
        assert log.isEnabledFor(logging.WARNING)

    def test_there_is_no_such_preset(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidChoice, match="names no preset"):
            Net("hub:")
        with pytest.raises(InvalidChoice, match="there is no folder .* of a preset"):
            Net(f"hub:{tmp_path / 'none'}")
        with pytest.raises(InvalidChoice, match="did you mean 'vit_base_patch16_224_imagenet'"):
            Net("hub:vit_base_patch16_224_imagenett")


def test_numbers_scale_pixels_and_known_ones_have_names(pixels: np.ndarray) -> None:
    assert affine_text([1 / 255] * 3, [0.0] * 3) == "unit"
    by_imagenet = [1 / (255 * std) for std in (0.229, 0.224, 0.225)]
    assert affine_text(
        by_imagenet, [-mean / std for mean, std in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    ) == ("torch")
    text = affine_text(SCALE, OFFSET)
    expected = pixels * np.float32(SCALE) + np.float32(OFFSET)
    assert_near(np.asarray(Normalise(text, 3)(pixels)), expected, "layer")
    (rescaling,) = normalising_layers(text, 3)
    assert_near(np.asarray(rescaling(pixels)), expected, "layers of Keras")
    assert affine_numbers("affine:1,2:3,4") is affine_numbers("affine:nan,1,1:0,0,0") is None
