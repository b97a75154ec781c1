"""Data sets to judge defaults by that no default was chosen on: cut from pictures in packages, and drawn.

`faces` are scikit-image's 200 gray pieces of photographs, half of them faces. `places` are squares of photographs, by
photograph. `letters` are the 26 letters in Matplotlib's fonts, turned, moved and in several sizes; `shapes` are
scikit-image's random circles, rectangles, triangles and ellipses, in any colour; `blobs` are its random blobs, by size.

Those in `LATER` were made when the default had been changed on account of the others. `turned` are squares of
photographs, by how far they are turned; `damaged` are squares, by what was done to them; `textures` are squares of
bricks, grass and gravel, each in three sizes; `markers` are those of Matplotlib, of any colour; `dots` are images of
one to six dots, by their number. Squares of one data set do not overlap.
"""

from __future__ import annotations

import io
import string
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

LATER = ("turned", "damaged", "textures", "markers", "dots")
NAMES = ("faces", "places", "letters", "shapes", "blobs", *LATER)
PHOTOGRAPHS = ("astronaut.png", "brick.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "gravel.png")
PHOTOGRAPHS += ("ihc.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg")
UPRIGHT = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
MARKERS = "osdDpPhX*v^<>8"
SIDE = 48
OF_A_CLASS = 130  # at most
Labelled = tuple[np.ndarray, str]


def judging_images(name: str, folder: Path) -> Path:
    """A file of arrays with the data set called `name`, one of `NAMES`, below `folder`."""
    path = folder / f"{name}.npz"
    if not path.exists():
        makers = {
            "faces": _faces, "places": _places, "letters": _letters, "shapes": _shapes, "blobs": _blobs,
            "turned": _turned, "damaged": _damaged, "textures": _textures, "markers": _markers, "dots": _dots,
        }  # fmt: skip
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


def _turned(rng: np.random.Generator) -> Iterator[Labelled]:
    squares = [square for name in UPRIGHT for square in _squares(name)]
    for number, place in enumerate(rng.permutation(len(squares))[: 4 * OF_A_CLASS]):
        yield np.rot90(squares[place], number % 4), f"{90 * (number % 4)} degrees"


def _damaged(rng: np.random.Generator) -> Iterator[Labelled]:
    squares = [square for name in PHOTOGRAPHS for square in _squares(name)]
    kinds = ("as it is", "blurred", "noisy", "compressed", "faded", "in few colours")
    for number, place in enumerate(rng.permutation(len(squares))[: len(kinds) * OF_A_CLASS]):
        kind, image = kinds[number % len(kinds)], Image.fromarray(squares[place])
        if kind == "blurred":
            image = image.filter(ImageFilter.GaussianBlur(0.8))
        elif kind == "noisy":
            levels = squares[place] + rng.normal(0, 8, squares[place].shape)
            image = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
        elif kind == "compressed":
            file = io.BytesIO()
            image.save(file, "JPEG", quality=25)
            image = Image.open(file)
        elif kind == "faded":
            image = Image.blend(image, Image.new("RGB", image.size, (128, 128, 128)), 0.4)
        elif kind == "in few colours":
            image = ImageOps.posterize(image, 3)
        yield np.asarray(image), kind


def _textures(rng: np.random.Generator) -> Iterator[Labelled]:
    for name in ("brick.png", "grass.png", "gravel.png"):
        pixels = np.asarray(Image.open(_data() / name).convert("L"))
        third = pixels.shape[0] // 3
        for number, share in enumerate((0.67, 0.5, 0.33)):  # each size from its own third of the photograph
            part = Image.fromarray(pixels[third * number : third * (number + 1)])
            side = round(SIDE * share)
            corners = [(x, y) for y in range(0, part.height - side, side) for x in range(0, part.width - side, side)]
            for place in rng.permutation(len(corners))[:OF_A_CLASS]:
                left, top = corners[place]
                square = part.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
                levels = np.asarray(square) * rng.uniform(0.7, 1.1) + rng.normal(0, 10)
                yield levels.clip(0, 255).astype(np.uint8), f"{name} {share:g}"


def _markers(rng: np.random.Generator) -> Iterator[Labelled]:
    from matplotlib.markers import MarkerStyle

    for marker in MARKERS:
        style = MarkerStyle(marker)
        [outline, *_] = style.get_path().transformed(style.get_transform()).to_polygons()
        outline = (outline - outline.mean(axis=0)) / np.abs(outline).max()
        for _ in range(OF_A_CLASS):
            paper, ink = rng.integers(0, 256, (2, 3))
            image = Image.new("RGB", (SIDE, SIDE), tuple(paper.tolist()))
            corners = SIDE / 2 + rng.uniform(-8, 8, 2) + rng.uniform(6, 16) * outline
            ImageDraw.Draw(image).polygon([tuple(corner) for corner in corners.tolist()], tuple(ink.tolist()))
            turned = image.rotate(rng.uniform(-12, 12), Image.Resampling.BILINEAR, fillcolor=image.getpixel((0, 0)))
            yield (np.asarray(turned) + rng.normal(0, 12, (SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8), marker


def _dots(rng: np.random.Generator) -> Iterator[Labelled]:
    for count in range(1, 7):
        for _ in range(OF_A_CLASS):
            image = Image.new("L", (SIDE, SIDE), int(rng.integers(0, 120)))
            for place in rng.permutation(16)[:count]:  # of 4 x 4, so that dots do not touch
                middle = 12 * np.array([place % 4, place // 4]) + rng.uniform(5, 7, 2)
                radius = rng.uniform(2, 4.5)
                box = [*(middle - radius), *(middle + radius)]
                ImageDraw.Draw(image).ellipse(box, int(rng.integers(160, 256)))
            yield (np.asarray(image) + rng.normal(0, 10, (SIDE, SIDE))).clip(0, 255).astype(np.uint8), str(count)


def _squares(name: str) -> list[np.ndarray]:
    """The squares, side by side, of a photograph in scikit-image."""
    pixels = np.asarray(Image.open(_data() / name).convert("RGB"))
    rows, columns = range(0, pixels.shape[0] - SIDE + 1, SIDE), range(0, pixels.shape[1] - SIDE + 1, SIDE)
    return [pixels[top : top + SIDE, left : left + SIDE] for top in rows for left in columns]


def _data() -> Path:
    spec = find_spec("skimage")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "data"
