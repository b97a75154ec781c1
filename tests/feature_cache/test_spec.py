"""What identifies features: the same text for equal specs, and nothing taken that is not known."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from feature_cache import FeatureSpec
from feature_cache.errors import DamagedFile, InvalidChoice, LayertapError

PLAIN = {"net": "vgg16", "weights": "imagenet", "layer": "block5_pool", "size": (64, 64)}
UNUSUAL = {
    "net": "file-00ff",
    "weights": "sha256:12ab",
    "layer": "outer/inner",
    "size": (48, 96),
    "pooling": "max",
    "preprocessing": "caffe",
    "fit": "pad",
    "interpolation": "lanczos",
    "transform": "sha256:77",
    "augmentation": "flip=0.5,seed=3",
    "precision": "float16",
    "dtype": "float16",
    "coding": "pca64-12ab34cd",
    "recipe": 7,
    "alpha": "ignore",
    "pages": "channels",
    "window": "0,4095",
    "prefix_tokens": 5,
    "calibration": "300-0-12ab-34cd",
    "fill": "gray",
}


def plain_and_changed(field: str) -> tuple[FeatureSpec, FeatureSpec]:
    """Two specs that differ in a field alone."""
    plain = {**PLAIN, "fit": "pad"} if field == "fill" else PLAIN  # no other fit fills anything
    return FeatureSpec(**plain), FeatureSpec(**{**plain, field: UNUSUAL[field]})


def test_canonical_json_and_digest_are_those_of_the_first_release():
    spec = FeatureSpec(**PLAIN)
    assert spec.to_json() == (
        '{"augmentation":null,"dtype":"float32","fit":"stretch","interpolation":"bilinear","layer":"block5_pool",'
        '"net":"vgg16","pooling":"avg","precision":"float32","preprocessing":"none","recipe":1,"size":[64,64],'
        '"transform":null,"weights":"imagenet"}'
    )
    assert spec.digest == "fb68cb3fc3f8ea9d88c8af334f317df43cd3925ec127d14d8d4bb5184f589e0b"
    assert spec.folder_name == "vgg16-block5_pool-avg-fb68cb3f"


def test_padding_with_black_is_written_as_before_there_was_another_fill():
    spec = FeatureSpec(**PLAIN, fit="pad")
    assert "fill" not in json.loads(spec.to_json())
    assert FeatureSpec.from_json(spec.to_json()).fill == "black"
    with pytest.raises(InvalidChoice, match="`fill` is for `fit='pad'`: 'stretch' leaves nothing"):
        FeatureSpec(**PLAIN, fill="gray")


def test_order_of_arguments_does_not_matter():
    forward, backward = FeatureSpec(**UNUSUAL), FeatureSpec(**dict(reversed(UNUSUAL.items())))
    assert forward == backward
    assert forward.to_json() == backward.to_json()
    assert hash(forward) == hash(backward)


def test_order_of_keys_in_json_does_not_matter():
    shuffled = json.dumps(dict(reversed(json.loads(FeatureSpec(**UNUSUAL).to_json()).items())), indent=4)
    assert FeatureSpec.from_json(shuffled) == FeatureSpec(**UNUSUAL)


@pytest.mark.parametrize("field", UNUSUAL)
def test_the_pixel_key_depends_on_what_shapes_pixels_alone(field: str):
    plain, changed = plain_and_changed(field)
    after = {"net", "weights", "layer", "pooling", "prefix_tokens", "preprocessing", "augmentation"}
    after |= {"precision", "calibration", "dtype", "coding"}
    assert (changed.pixel_key == plain.pixel_key) is (field in after)
    assert re.fullmatch("[0-9a-f]{16}", plain.pixel_key)


@pytest.mark.parametrize("field", UNUSUAL)
def test_every_field_changes_the_digest_and_the_folder(field: str):
    plain, changed = plain_and_changed(field)
    assert changed != plain
    assert changed.digest != plain.digest
    assert changed.folder_name != plain.folder_name


def test_the_unusual_values_cover_every_field():
    assert set(UNUSUAL) == {field.name for field in dataclasses.fields(FeatureSpec)}


def test_values_that_are_not_the_defaults_survive_json():
    spec = FeatureSpec(**UNUSUAL)
    back = FeatureSpec.from_json(spec.to_json())
    assert back == spec
    assert dataclasses.asdict(back) == UNUSUAL
    assert back.digest == spec.digest


def test_json_may_come_as_bytes():
    spec = FeatureSpec(**PLAIN)
    assert FeatureSpec.from_json(spec.to_json().encode()) == spec


def test_a_spec_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FeatureSpec(**PLAIN).layer = "fc1"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("pooling", "agv", "there is no pooling 'agv'; did you mean 'avg'?"),
        ("fit", "crp", "there is no fit 'crp'; did you mean 'crop'?"),
        ("interpolation", "bicubik", "there is no interpolation 'bicubik'; did you mean 'bicubic'?"),
        ("preprocessing", "torhc", "there is no preprocessing 'torhc'; did you mean 'torch'?"),
        ("pooling", "gem", "there is no pooling 'gem'; allowed: avg, max, flatten, none, cls, cls+avg."),
        ("dtype", "float64", "there is no dtype 'float64'; did you mean 'float16' or 'float32'?"),
        ("dtype", "double", "there is no dtype 'double'; allowed: float32, float16, int8."),
    ],
)
def test_unknown_value_is_refused_with_the_nearest_or_the_allowed(field: str, value: str, message: str):
    with pytest.raises(InvalidChoice) as caught:
        FeatureSpec(**{**PLAIN, field: value})
    assert str(caught.value) == message


def test_near_names_are_joined():
    with pytest.raises(InvalidChoice, match="did you mean 'bilinear'"):
        FeatureSpec(**{**PLAIN, "interpolation": "linear"})


@pytest.mark.parametrize("size", [(0, 64), (64, -1), (64,), (64, 64, 3), (64.0, 64.0), (True, 64), ("64", "64")])
def test_size_that_is_not_two_sides_is_refused(size: tuple):
    with pytest.raises(InvalidChoice) as caught:
        FeatureSpec(**{**PLAIN, "size": size})
    assert str(caught.value) == f"size is (height, width) in pixels, each at least 1; received {size!r}."


@pytest.mark.parametrize("layer", ["outer/inner", "../../etc/passwd", "a b:c*?", "..", "ébène", "\n\0", "x" * 300, "-"])
@pytest.mark.parametrize("net", ["vgg16", "../net", ".hidden"])
def test_folder_name_is_one_safe_part_of_a_path(net: str, layer: str):
    folder = FeatureSpec(**{**PLAIN, "net": net, "layer": layer}).folder_name
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*-[0-9a-f]{8}", folder)
    assert len(folder) <= 100


@pytest.mark.parametrize(
    ("stored", "part"),
    [
        ({}, "vgg16-block5_pool-avg-"),
        ({"dtype": "float16"}, "vgg16-block5_pool-avg-float16-"),
        ({"dtype": "int8", "coding": "int8-12ab34cd"}, "vgg16-block5_pool-avg-int8-"),
        ({"coding": "pca64-12ab34cd"}, "vgg16-block5_pool-avg-pca64-"),
        ({"coding": "../pca-12ab34cd"}, "vgg16-block5_pool-avg-...pca-"),
    ],
    ids=str,
)
def test_folder_name_tells_how_features_are_stored(stored: dict, part: str):
    spec = FeatureSpec(**{**PLAIN, **stored})
    assert spec.folder_name == part + spec.digest[:8]
    assert "/" not in spec.folder_name


def test_folder_of_a_long_name_still_tells_how_features_are_stored():
    spec = FeatureSpec(**{**PLAIN, "layer": "x" * 300, "dtype": "int8", "coding": "int8-12ab34cd"})
    assert spec.folder_name == "vgg16-" + "x" * 74 + "-int8-" + spec.digest[:8]


def test_layers_that_read_alike_get_folders_of_their_own():
    slash, dot = (FeatureSpec(**{**PLAIN, "layer": layer}) for layer in ("outer/inner", "outer.inner"))
    assert slash.folder_name.rsplit("-", 1)[0] == dot.folder_name.rsplit("-", 1)[0]
    assert slash.folder_name != dot.folder_name


def _altered(**values: object) -> str:
    return json.dumps({**PLAIN, "size": [64, 64], **values})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "7",
        '"spec"',
        "{}",
        b"\xff\xfe\x00",
        '{"size": [64, 64]}',
        _altered(size=None),
        _altered(size=64),
        _altered(size=[64]),
        _altered(size="64"),
        _altered(pooling="gem"),
        _altered(pooling=3),
        _altered(fit=["crop"]),
        _altered(interpolation=None),
        _altered(colour="blue"),
        pytest.param("[" * 200_000, id="nested too deep"),
    ],
)
def test_malformed_json_is_a_damaged_file(text: str | bytes):
    with pytest.raises(DamagedFile, match="^not a feature spec of this version of Layertap") as caught:
        FeatureSpec.from_json(text)
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, LayertapError)
    assert caught.value.exit_code == 1


def test_field_of_a_newer_version_is_named():
    with pytest.raises(DamagedFile, match="colour"):
        FeatureSpec.from_json(_altered(colour="blue"))


def test_what_is_no_spec_is_told_in_a_line_of_bounded_length():
    text = json.dumps(
        {
            **json.loads(FeatureSpec(net="n", weights="none", layer="a", size=(8, 8)).to_json()),
            "pooling": [None] * 10**5,
        }
    )
    with pytest.raises(DamagedFile, match="pooling is a text") as caught:
        FeatureSpec.from_json(text)
    assert len(str(caught.value)) < 500
