"""The same image gives the same pixels in features, in pictures, in a RAMP kit and in an exported model."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

import cli
from feature_cache import FeatureCache
from layertap.ramp.kit import random_order
from layertap.report import background, panels
from transfer.data.datasets import Dataset, load
from transfer.data.images import ArraySource, read_pixels
from transfer.export.model_input import read_for_model
from transfer.extraction.lookup import stored_features
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

SIDES = (24, 32)
LARGER = 10  # times, of the large JPEG: decoded at an eighth for a net, and whole for a picture
ORIENTATION = 0x0112
CLASSES, LARGE = ("one", "two"), "large.jpg"


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return exif


def kinds() -> dict[str, Callable[[Path, np.ndarray], np.ndarray]]:
    """Of each kind of file a function that writes an image, and returns the pixels that the file holds."""

    def png(file: Path, colour: np.ndarray) -> np.ndarray:
        Image.fromarray(colour).save(file)
        return colour

    def deep_png(file: Path, colour: np.ndarray) -> np.ndarray:
        Image.fromarray(deep(colour)).save(file)
        return colour[..., 0]

    def photo(file: Path, colour: np.ndarray) -> np.ndarray:
        sideways(colour).save(file, quality=95, exif=turned())
        return decoded(file)

    def scan(file: Path, colour: np.ndarray) -> np.ndarray:
        sideways(colour).save(file, tiffinfo={ORIENTATION: 6})
        return colour

    def palette(file: Path, colour: np.ndarray) -> np.ndarray:
        image = Image.fromarray(colour).quantize(30)
        index = np.asarray(image)
        image.save(file, transparency=int(index[0, 0]))
        return np.where((index == index[0, 0])[..., None], 255, np.asarray(image.convert("RGB")))

    def alpha(file: Path, colour: np.ndarray) -> np.ndarray:
        clear = colour[..., 2] > 150
        Image.fromarray(np.dstack([colour, np.where(clear, 0, 255).astype(np.uint8)])).save(file)
        return np.where(clear[..., None], 255, colour)

    def ink(file: Path, colour: np.ndarray) -> np.ndarray:
        Image.fromarray(colour).convert("CMYK").save(file, quality=95)
        return decoded(file)

    def negative(file: Path, colour: np.ndarray) -> np.ndarray:
        tifffile.imwrite(file, 255 - colour[..., 0], photometric="miniswhite")
        return colour[..., 0]

    def deep_negative(file: Path, colour: np.ndarray) -> np.ndarray:
        tifffile.imwrite(file, 65535 - deep(colour), photometric="miniswhite")
        return colour[..., 0]

    def large(file: Path, colour: np.ndarray) -> np.ndarray:
        height, width, _ = colour.shape
        smooth = Image.fromarray(colour).resize((LARGER * width, LARGER * height), Image.Resampling.BICUBIC)
        smooth.save(file, quality=95)
        return decoded(file)

    return {
        "colour.png": png,
        "deep.png": deep_png,
        "photo.jpg": photo,
        "scan.tif": scan,
        "palette.png": palette,
        "alpha.png": alpha,
        "ink.jpg": ink,
        "negative.tif": negative,
        "deep negative.tif": deep_negative,
        LARGE: large,
    }


def deep(colour: np.ndarray) -> np.ndarray:
    return colour[..., 0].astype(np.uint16) * 257


def sideways(colour: np.ndarray) -> Image.Image:
    """As it is stored with an orientation of 6."""
    return Image.fromarray(colour).transpose(Image.Transpose.ROTATE_90)


def decoded(file: Path) -> np.ndarray:
    """The pixels of a JPEG by Pillow alone."""
    with Image.open(file) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def in_colour(pixels: np.ndarray) -> np.ndarray:
    """Gray in three channels."""
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


@pytest.fixture
def expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Two images of each kind that differ by noise only, of different classes; their pixels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAYERTAP_CACHE", raising=False)
    found = {}
    for number, (file, save) in enumerate(kinds().items()):
        rng = np.random.default_rng(number)
        image = rng.integers(0, 250, (6, 8, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        for name in CLASSES:
            Path("photos", name).mkdir(parents=True, exist_ok=True)
            pixels = save(Path("photos", name, file), image + rng.integers(0, 6, image.shape, np.uint8))
            found[f"{name}/{file}"] = in_colour(pixels)
    inputs = keras.Input((None, None, 3))
    keras.Model(inputs, keras.layers.Rescaling(1.0, name="pixels")(inputs)).save(tmp_path / "pixels.keras")
    return found


def run(*arguments: object) -> None:
    assert cli.main([str(word) for word in arguments]) == 0


def in_features(dataset: Dataset, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """What a net that returns its input has for each image."""
    request = FeatureRequest(Net("pixels.keras"), ("pixels",), "flatten", size)
    rows = stored_features(dataset, request, FeatureCache(Path("features"))).features["pixels"]
    return {name: row.reshape(*size, 3) for name, row in zip(dataset.ids, rows[:], strict=True)}


def in_kit(dataset: Dataset) -> dict[str, np.ndarray]:
    """What RAMP reads of each image."""
    from skimage.io import imread

    run("ramp", "kit", "kit", "--data", "photos", "--folds", 2, "--quiet")
    files = {int(file.stem): file for file in Path("kit/data/imgs").iterdir()}
    tables = (Path("kit/data", name).read_text().splitlines() for name in ("train.csv", "test.csv"))
    listed = [row["id"] for table in tables for row in csv.DictReader(table)]
    assert sorted(listed) == sorted(file.name for file in files.values())
    order = random_order(len(dataset), 0).tolist()
    return {name: np.asarray(imread(files[place])) for name, place in zip(dataset.ids, order, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("size", [SIDES, (18, 22)])
def test_features_pictures_kits_and_exports_agree(
    size: tuple[int, int], expected: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures: dict[str, np.ndarray] = {}

    def note(file: Path, images: list[np.ndarray], captions: list[str], title: str) -> None:
        pictures.update(zip((caption.partition("\n")[0] for caption in captions), images, strict=True))
        drawn(file, images, captions, title)

    drawn = panels.mistakes
    monkeypatch.setattr(panels, "mistakes", note)
    background.stop()
    monkeypatch.setattr(background, "cores", lambda: [0])  # pictures are then drawn in this process
    net = ("--net", "pixels.keras", "--layer", "pixels", "--pool", "flatten", "--size", f"{size[0]}x{size[1]}")
    run("extract", "photos", *net, "--quiet")
    # Nearly all are mistaken: what looks like an image is of the other class.
    run("train-head", "photos", *net, "--cv", 10, "--head", "prototypes", "--out", "run")
    run("export", "run", "--to", "keras", "--out", "model.keras")
    about: dict[str, Any] = json.loads(Path("model.keras.json").read_text())

    dataset = load("photos")
    assert set(dataset.ids) == set(expected)
    features, kit = in_features(dataset, size), in_kit(dataset)
    for name, pixels in expected.items():
        np.testing.assert_array_equal(in_colour(kit[name]), pixels, f"the kit of {name}")
        if name in pictures:
            np.testing.assert_array_equal(in_colour(pictures[name]), pixels, f"the picture of {name}")
        path = Path("photos", name)
        np.testing.assert_array_equal(read_for_model(path, about)[0], features[name], f"the export's input of {name}")
        resized = in_colour(read_pixels(ArraySource(kit[name], name), size)[1])
        if LARGE in name:  # a JPEG is decoded at a part of its size where that is much larger
            assert np.abs(features[name] - resized).mean() < 4, name
        else:
            np.testing.assert_array_equal(features[name], resized, f"the features of {name}")
        if size == SIDES and LARGE not in name:
            np.testing.assert_array_equal(features[name], pixels, f"the features of {name}")
    assert {name.partition("/")[2] for name in pictures} == set(kinds()), "a kind of which no picture was compared"
