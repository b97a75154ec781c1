"""Data sets to judge defaults by that no default was chosen on: cut from pictures in packages, and drawn.

`faces` are scikit-image's 200 gray pieces of photographs, half of them faces. `places` are squares of photographs, by
photograph. `letters` are the 26 letters in Matplotlib's fonts, turned, moved and in several sizes; `shapes` are
scikit-image's random circles, rectangles, triangles and ellipses, in any colour; `blobs` are its random blobs, by size.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

NAMES = ("faces", "places", "letters", "shapes", "blobs")
PHOTOGRAPHS = ("astronaut.png", "brick.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "gravel.png")
PHOTOGRAPHS += ("ihc.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg")
SIDE = 48
OF_A_CLASS = 130  # at most
Labelled = tuple[np.ndarray, str]


def judging_images(name: str, folder: Path) -> Path:
    """A file of arrays with the data set called `name`, one of `NAMES`, below `folder`."""
    path = folder / f"{name}.npz"
    if not path.exists():
        makers = {"faces": _faces, "places": _places, "letters": _letters, "shapes": _shapes, "blobs": _blobs}
        folder.mkdir(parents=True, exist_ok=True)
        images, labels = zip(*makers[name](np.random.default_rng(0)), strict=True)
        unfinished = folder / f"unfinished-{name}.npz"
        np.savez(unfinished, X=np.stack(images), y=np.array(labels))
        unfinished.rename(path)
    return path


def _faces(rng: np.random.Generator) -> Iterator[Labelled]:
    levels = np.load(_data() / "lfw_subset.npy")
    for number, image in enumerate((255 * levels).round().astype(np.uint8)):
        yield image, "face" if number < 100 else "other"


def _places(rng: np.random.Generator) -> Iterator[Labelled]:
    for name in PHOTOGRAPHS:
        pixels = np.asarray(Image.open(_data() / name).convert("RGB"))
        rows, columns = pixels.shape[0] // SIDE, pixels.shape[1] // SIDE
        for place in rng.permutation(rows * columns)[:OF_A_CLASS]:
            top, left = SIDE * (place // columns), SIDE * (place % columns)
            yield pixels[top : top + SIDE, left : left + SIDE], name


def _letters(rng: np.random.Generator) -> Iterator[Labelled]:
    import matplotlib

    fonts = sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("DejaVu*.ttf"))
    fonts = [font for font in fonts if "Display" not in font.name]
    for letter in string.ascii_uppercase:
        for number in range(OF_A_CLASS):
            font = ImageFont.truetype(fonts[number % len(fonts)], int(rng.integers(20, 36)))
            image = Image.new("L", (SIDE, SIDE), int(rng.integers(180, 256)))
            middle = tuple(SIDE / 2 + rng.uniform(-5, 5, 2))
            ImageDraw.Draw(image).text(middle, letter, int(rng.integers(0, 90)), font, anchor="mm")
            turned = image.rotate(rng.uniform(-20, 20), Image.Resampling.BILINEAR, fillcolor=image.getpixel((0, 0)))
            yield np.asarray(turned), letter


def _shapes(rng: np.random.Generator) -> Iterator[Labelled]:
    from skimage.draw import random_shapes

    for shape in ("circle", "ellipse", "rectangle", "triangle"):
        for _ in range(OF_A_CLASS):
            options = {"min_shapes": 1, "max_shapes": 2, "min_size": 12, "max_size": 30, "num_trials": 1000}
            image, _ = random_shapes((SIDE, SIDE), shape=shape, rng=int(rng.integers(2**31)), **options)
            noise = rng.normal(0, 20, image.shape)
            yield (image + noise).clip(0, 255).astype(np.uint8), shape


def _blobs(rng: np.random.Generator) -> Iterator[Labelled]:
    from skimage.data import binary_blobs

    for size in (0.08, 0.11, 0.15, 0.2, 0.27):
        for _ in range(OF_A_CLASS):
            share, seed = rng.uniform(0.35, 0.65), int(rng.integers(2**31))
            blobs = binary_blobs(SIDE, blob_size_fraction=size, volume_fraction=share, rng=seed)
            yield (160.0 * blobs + rng.normal(40, 20, blobs.shape)).clip(0, 255).astype(np.uint8), f"{size:g}"


def _data() -> Path:
    spec = find_spec("skimage")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "data"
