"""The input of an exported model has the pixels that features are computed from, and the documented programs run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from feature_cache.errors import BadImage, InvalidChoice
from transfer.data.datasets import from_files
from transfer.data.images import FileSource, pixels_for
from transfer.export.model_input import read_for_model
from transfer.extraction.extract import extract
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "topics" / "export.md"
SIDES = (24, 32)
EXIF_ORIENTATION = 0x0112


@pytest.fixture
def request_of_images() -> FeatureRequest:
    return FeatureRequest(Net("glyphnet"), ("block4_pool",), size=SIDES)


@pytest.fixture
def about(request_of_images: FeatureRequest) -> dict[str, Any]:
    spec = request_of_images.specs[0]
    return {
        "classes": ["a", "b", "c"],
        "size": list(spec.size),
        "fit": spec.fit,
        "interpolation": spec.interpolation,
        "spec": json.loads(spec.to_json()),
    }


@pytest.fixture
def images(tmp_path: Path, rng: np.random.Generator) -> dict[str, Path]:
    """A file of each kind; those that Pillow alone reads rightly begin with ``plain``."""
    coarse = rng.integers(0, 256, (6, 10, 3), np.uint8).repeat(5, 0).repeat(5, 1)
    colour, gray = Image.fromarray(coarse), Image.fromarray(coarse[..., 0])
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    large = Image.fromarray(coarse.repeat(12, 0).repeat(12, 1))
    alpha = np.dstack([coarse, rng.integers(0, 256, coarse.shape[:2], np.uint8)])
    deep = (coarse[..., 0].astype(np.uint16) << 8) + 77
    saved = {
        "plain.png": (colour, {}),
        "plain-gray.png": (gray, {}),
        "plain-exact.png": (colour.resize(SIDES[::-1]), {}),
        "plain.jpg": (colour, {"exif": exif}),
        "plain-large.jpg": (large, {"exif": exif}),
        "plain-larger.jpg": (large, {}),
        "deep.png": (Image.fromarray(deep), {}),
        "deep.tif": (Image.fromarray(deep), {}),
        "palette.png": (colour.quantize(30), {}),
        "alpha.png": (Image.fromarray(alpha), {}),
        "turned.tif": (colour, {"tiffinfo": {EXIF_ORIENTATION: 6}}),
        "cmyk.jpg": (colour.convert("CMYK"), {}),
    }
    for name, (image, options) in saved.items():
        image.save(tmp_path / name, **options)
    return {name: tmp_path / name for name in saved}


def block_with(word: str) -> str:
    """The block of Python on the page about export that has this word."""
    found = [block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if word in block]
    return str(found[0])


def test_the_pixels_are_those_of_features(
    images: dict[str, Path], about: dict[str, Any], request_of_images: FeatureRequest
) -> None:
    for name, path in images.items():
        pixels = read_for_model(path, about)
        assert (pixels.shape, pixels.dtype) == ((1, *SIDES, 3), np.uint8)
        expected = pixels_for(FileSource(path).load()[1], request_of_images.specs[0], name)
        np.testing.assert_array_equal(pixels[0], np.broadcast_to(expected, pixels.shape[1:]), err_msg=name)


def test_deep_gray_is_scaled_and_not_cut_off(images: dict[str, Path], about: dict[str, Any]) -> None:
    shallow, deep = read_for_model(images["plain-gray.png"], about), read_for_model(images["deep.png"], about)
    assert np.abs(shallow.astype(int) - deep).max() <= 1
    assert len(np.unique(deep)) > 20


@pytest.mark.slow
def test_a_model_that_is_fed_so_gives_the_features_of_an_extraction(
    images: dict[str, Path], about: dict[str, Any], request_of_images: FeatureRequest, tmp_path: Path
) -> None:
    from feature_cache import FeatureCache
    from transfer.export.model import pixels_to_features
    from transfer.extraction.lookup import stored_features
    from transfer.nets.backbone import backbone_for

    spec, cache = request_of_images.specs[0], FeatureCache(tmp_path / "features")
    dataset = from_files(list(images.values()))
    extract(dataset, request_of_images, cache)
    expected = stored_features(dataset, request_of_images, cache).features[spec.layer][:]
    backbone = backbone_for(request_of_images.net, [spec.layer], spec.size)
    model = pixels_to_features(backbone, [(spec.layer, spec.pooling)], spec.preprocessing)
    pixels = np.concatenate([read_for_model(path, about) for path in images.values()])
    found = keras.ops.convert_to_numpy(model(pixels))
    np.testing.assert_allclose(found, expected.reshape(found.shape), atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("function", ["read_for_model", "read_simple"])
def test_the_programs_on_the_page_run_as_they_are(
    function: str,
    images: dict[str, Path],
    about: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = keras.Input((*SIDES, 3), dtype="uint8")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, keras.layers.Softmax()(x))
    model.save("model.keras")
    Path("model.keras.json").write_text(json.dumps(about))
    Path("new.jpg").write_bytes(images["plain-large.jpg"].read_bytes())
    names: dict[str, Any] = {}
    exec(compile(block_with(function), "export.md", "exec"), names)  # noqa: S102
    expected = keras.ops.convert_to_numpy(model(read_for_model("new.jpg", about)))[0]
    assert capsys.readouterr().out.strip() == str(dict(zip("abc", expected.tolist(), strict=True)))
    for name, path in images.items():
        if function == "read_for_model" or name.startswith("plain"):
            np.testing.assert_array_equal(names[function](path, about), read_for_model(path, about), err_msg=name)
        else:
            with pytest.raises((ValueError, OSError)):
                names[function](path, about)


def test_what_is_wrong_is_said(tmp_path: Path, about: dict[str, Any]) -> None:
    (tmp_path / "broken.png").write_bytes(b"none")
    with pytest.raises(BadImage, match="broken.png"):
        read_for_model(tmp_path / "broken.png", about)
    for wrong in ({}, {"joined": []}, {"spec": {}, "joined": 3}):
        with pytest.raises(InvalidChoice, match="`about` has no `spec`"):
            read_for_model(tmp_path / "broken.png", wrong)
