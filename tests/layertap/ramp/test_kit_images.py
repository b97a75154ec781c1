"""The images of a kit: scikit-image, which RAMP reads with, reads the pixels that features are computed from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.io import imread

from layertap.ramp.kit import copy_images
from transfer.data.datasets import Dataset
from transfer.data.images import ArraySource, Decoding, FileSource, ImageSource, read_pixels
from transfer.data.remarks import Remarks

ROOT = Path(__file__).resolve().parents[3]
GRAY = np.random.default_rng(0).integers(0, 256, (12, 18), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (12, 18, 3), np.uint8)
# What brings an image of each orientation upright, by the rows and columns that the standard names.
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x[::-1].swapaxes(0, 1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x[:, ::-1].swapaxes(0, 1),
}


def copied(sources: list[ImageSource], folder: Path) -> tuple[list[Path], np.ndarray]:
    dataset = Dataset("images", tuple(map(str, range(len(sources)))), tuple(sources), None)
    names, contents, unreadable = copy_images(dataset, folder, seed=0)
    assert not unreadable
    return [folder / name for name in names], contents


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "kit").mkdir()
    return tmp_path / "kit"


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("shades", [GRAY, COLOUR], ids=["gray", "colour"])
def test_they_are_upright(tmp_path: Path, folder: Path, suffix: str, shades: np.ndarray) -> None:
    files = [tmp_path / f"{orientation}.{suffix}" for orientation in UPRIGHT]
    for orientation, file in zip(UPRIGHT, files, strict=True):
        options = {"lossless": True} if suffix == "webp" else {}
        Image.fromarray(shades).save(file, exif=oriented(orientation), **options)
    for orientation, file, copy in zip(
        UPRIGHT, files, copied([FileSource(file) for file in files], folder)[0], strict=True
    ):
        # Each is stored as the first is, and only its tag differs.
        stored = np.asarray(Image.open(files[0]))
        np.testing.assert_array_equal(imread(copy), UPRIGHT[orientation](stored), str(orientation))
        assert (file.read_bytes() == copy.read_bytes()) == (orientation == 1)


def write_files(folder: Path) -> dict[str, np.ndarray]:
    """Files that are not what they seem, each with its pixels; those whose names begin with "as is" are plain."""
    gray, colour = Image.fromarray(GRAY), Image.fromarray(COLOUR)
    opaque = np.dstack([COLOUR, np.full_like(GRAY, 255)])
    hidden = opaque.copy()
    hidden[:5, :, 3] = 0
    shown = np.where(hidden[..., 3:] > 0, COLOUR, 255)
    palette = colour.quantize(7, dither=Image.Dither.NONE)
    bits = GRAY > 127
    found = {
        "as is.png": GRAY,
        "as is.bmp": COLOUR,
        "as is.tif": COLOUR,
        "as is, lzw.tiff": GRAY,
        "as is.PPM": COLOUR,
        "as is, palette.png": np.asarray(palette.convert("RGB")),
    }
    for name, pixels in list(found.items())[:5]:
        compression = {"compression": "tiff_lzw"} if "lzw" in name else {}
        Image.fromarray(pixels).save(folder / name, **compression)
    palette.save(folder / "as is, palette.png")

    def add(name: str, pixels: np.ndarray) -> Path:
        found[name] = pixels
        return folder / name

    Image.fromarray(opaque).save(add("opaque.png", COLOUR))
    Image.fromarray(hidden).save(add("hidden.png", shown))
    Image.fromarray(hidden).save(add("hidden.webp", shown), lossless=True)
    tifffile.imwrite(add("hidden.tif", shown), hidden, photometric="rgb", extrasamples=["unassalpha"])
    Image.fromarray(np.dstack([GRAY, hidden[..., 3]])).save(
        add("gray, hidden.png", np.where(hidden[..., 3], GRAY, 255))
    )
    gray.save(
        add("a shade that is transparent.png", np.where(GRAY[0, 0] == GRAY, 255, GRAY)), transparency=int(GRAY[0, 0])
    )
    deep = GRAY.astype(np.uint16) * 257
    Image.fromarray(deep).save(add("deep.png", GRAY))
    tifffile.imwrite(add("deep.tif", GRAY), deep)
    tifffile.imwrite(add("deep, big endian.tif", GRAY), deep, byteorder=">")
    tifffile.imwrite(add("white is zero.tif", GRAY), 255 - GRAY, photometric="miniswhite")
    Image.fromarray(bits).save(add("bits.png", bits * np.uint8(255)))
    Image.fromarray(bits).save(add("bits.tif", bits * np.uint8(255)), compression="group4")
    tifffile.imwrite(
        add("as is, planes.tif", COLOUR), COLOUR.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"
    )
    tifffile.imwrite(add("pages.tif", GRAY), np.stack([GRAY, 255 - GRAY]))
    gray.save(add("moving.gif", np.dstack([GRAY] * 3)), save_all=True, append_images=[Image.fromarray(255 - GRAY)])
    colour.save(add("moving.png", COLOUR), save_all=True, append_images=[Image.fromarray(255 - COLOUR)])
    ink = Image.fromarray(np.dstack([COLOUR, np.zeros_like(GRAY)]), "CMYK")
    ink.save(add("ink.tif", np.asarray(ink.convert("RGB"))))
    gray.save(add("another format.tif", GRAY), format="PNG", compress_level=0)
    colour.save(add("no suffix", COLOUR), format="PNG")
    colour.save(add("odd.suffix of it", COLOUR), format="BMP")
    return found


def test_they_are_the_pixels_of_features_whatever_the_format(tmp_path: Path, folder: Path) -> None:
    found = write_files(tmp_path)
    sources: list[ImageSource] = [FileSource(tmp_path / name) for name in found]
    sources += [ArraySource(GRAY, "array"), ArraySource(COLOUR, "array in colour")]
    files, _ = copied(sources, folder)
    for source, file, pixels in zip(sources, files, [*found.values(), GRAY, COLOUR], strict=True):
        read = imread(file)
        assert read.dtype == np.uint8, source
        np.testing.assert_array_equal(read, pixels, str(source))
        assert file.suffix[1:].isalnum() and not file.stem.strip("0123456789")
    for name, file in zip(found, files[:-2], strict=True):
        plain = name.startswith(("as is", "no suffix", "odd"))
        assert (file.read_bytes() == (tmp_path / name).read_bytes()) == plain, name


def test_they_are_decoded_as_it_is_chosen_and_what_is_guessed_is_noted(tmp_path: Path, folder: Path) -> None:
    tifffile.imwrite(tmp_path / "deep.tif", GRAY.astype(np.uint16) * 16)
    tifffile.imwrite(tmp_path / "pages.tif", np.moveaxis(COLOUR, -1, 0), photometric="minisblack")
    Image.fromarray(np.dstack([COLOUR, GRAY])).save(tmp_path / "bands.png")
    sources = tuple(FileSource(tmp_path / name) for name in ("deep.tif", "pages.tif", "bands.png"))
    dataset, remarks = Dataset("images", ("deep", "pages", "bands"), sources, None), Remarks()
    chosen = Decoding("ignore", "channels", "0,4080")
    names, _, unreadable = copy_images(dataset, folder, 0, decoding=chosen, remarks=remarks)
    assert not unreadable
    for name, pixels in zip(names, (GRAY, COLOUR, COLOUR), strict=True):
        np.testing.assert_array_equal(imread(folder / name), pixels)
    (tmp_path / "again").mkdir()
    copy_images(dataset, tmp_path / "again", 0, remarks=remarks)
    assert any("pages" in line for line in remarks.lines())


def test_images_of_the_same_pixels_are_of_one_group(tmp_path: Path, folder: Path) -> None:
    gray = Image.fromarray(GRAY)
    gray.save(tmp_path / "0.png")
    gray.save(tmp_path / "1.png", compress_level=0)
    gray.save(tmp_path / "2.bmp")
    gray.convert("RGB").save(tmp_path / "3.png")
    gray.save(tmp_path / "4.png", exif=oriented(3))
    Image.fromarray(GRAY[::-1, ::-1]).save(tmp_path / "5.png")
    Image.fromarray(GRAY.reshape(18, 12)).save(tmp_path / "6.png")
    _, contents = copied([FileSource(file) for file in sorted(tmp_path.glob("*.*"))], folder)
    assert contents[:4].tolist() == [contents[0]] * 4
    assert contents[4] == contents[5]
    assert len(np.unique(contents)) == 3


def test_what_scikit_image_refuses_is_left_out(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    sources: list[ImageSource] = [ArraySource(GRAY, "large"), ArraySource(GRAY[:5], "small")]
    names, _, unreadable = copy_images(Dataset("images", ("large", "small"), tuple(sources), None), folder, seed=0)
    assert [bool(name) for name in names] == [False, True]
    assert [(image.id, image.reason) for image in unreadable] == [
        ("large", "has 0 megapixels, which scikit-image refuses to read")
    ]


def test_photographs_that_few_installations_read_are_written_as_png(tmp_path: Path, folder: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    large = Image.fromarray(COLOUR.repeat(8, 0).repeat(8, 1))
    pillow_heif.from_pillow(large).save(tmp_path / "photo.heic")
    large.save(tmp_path / "photo.avif")
    sources: list[ImageSource] = [FileSource(tmp_path / name) for name in ("photo.heic", "photo.avif")]
    files, _ = copied(sources, folder)
    for source, file in zip(sources, files, strict=True):
        assert file.suffix == ".png"
        np.testing.assert_array_equal(imread(file), read_pixels(source)[1])


def test_the_first_image_of_a_kit_is_read_as_all_others(tmp_path: Path) -> None:
    """Which are HEIC here: a process of its own, where no library has been loaded yet that knows these."""
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(Image.fromarray(COLOUR.repeat(8, 0).repeat(8, 1))).save(tmp_path / "photo.heic")
    code = (
        "import sys; from layertap.ramp.images import read_image as read; print(*[read(x).shape for x in sys.argv[1:]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *[tmp_path / "photo.heic"] * 2], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.split("\n")[0] == "(96, 144, 3) (96, 144, 3)", done.stderr
