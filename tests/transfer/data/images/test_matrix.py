"""Formats x orientations x depths x photometric interpretations x alpha x pages, against what was written.

The files are written by tifffile and by Pillow from known arrays, and read back by tifffile or imagecodecs where their
writers could be wrong. What is expected follows from the definitions of the formats, in NumPy.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from transfer.data.images import Decoding, FileSource, read_pixels, to_pixels

HEIGHT, WIDTH = 5, 8


def stored_as(upright: np.ndarray, orientation: int) -> np.ndarray:
    """How a file of this EXIF orientation stores an upright image.

    EXIF names the sides of the upright image at which row 0 and column 0 of the stored one lie: 1 top and left, 2 top
    and right, 3 bottom and right, 4 bottom and left, 5 left and top, 6 right and top, 7 right and bottom, 8 left and
    bottom.
    """
    sides = {1: "TL", 2: "TR", 3: "BR", 4: "BL", 5: "LT", 6: "RT", 7: "RB", 8: "LB"}[orientation]
    image = upright[::-1] if "B" in sides else upright
    image = image[:, ::-1] if "R" in sides else image
    return np.ascontiguousarray(image if sides[0] in "TB" else image.swapaxes(0, 1))


def read(file: Path, **decoding: str) -> np.ndarray:
    return read_pixels(FileSource(file), decoding=Decoding(**decoding))[1]


def levels_of(values: np.ndarray) -> np.ndarray:
    """8 bits of 16: the nearest share of the full range."""
    return np.floor(values / 65535 * 255 + 0.5).astype(np.uint8)


@pytest.fixture
def values(rng: np.random.Generator) -> np.ndarray:
    """Of which no turned or mirrored copy is like another."""
    return rng.integers(0, 65536, (HEIGHT, WIDTH, 4), np.uint16)


def tiffs() -> Iterator[tuple]:
    layouts = (
        ("minisblack", 1, ()),
        ("miniswhite", 1, ()),
        ("rgb", 3, ()),
        ("rgb", 4, ("unspecified",)),
        ("rgb", 4, ("unassalpha",)),
        ("minisblack", 2, ("unassalpha",)),
        ("minisblack", 4, ("unspecified",) * 3),
    )
    for (photometric, bands, extra), bits in itertools.product(layouts, (8, 16)):
        for byteorder, planar in itertools.product("<>", ("contig", "separate")):
            if bands > 1 or planar == "contig":
                yield photometric, bands, extra, bits, byteorder, planar


@pytest.mark.parametrize(("photometric", "bands", "extra", "bits", "byteorder", "planar"), tiffs())
def test_tiffs_are_read_as_they_were_written(
    tmp_path: Path,
    values: np.ndarray,
    photometric: str,
    bands: int,
    extra: tuple[str, ...],
    bits: int,
    byteorder: str,
    planar: str,
) -> None:
    image = values[..., :bands] if bits == 16 else (values[..., :bands] >> 8).astype(np.uint8)
    if bits == 16 and photometric == "rgb":
        image = (image >> 8) * 257  # Pillow keeps the upper byte of deep colours, which is exact for these
    eight = image if bits == 8 else levels_of(image)
    colours = 3 if bands > 2 else 1
    expected = eight[..., :colours]
    if photometric == "miniswhite":
        expected = 255 - expected
    over_white = expected
    if "unassalpha" in extra:
        share = image[..., colours : colours + 1] / (2**bits - 1)
        over_white = expected * share + 255 * (1 - share)
    for orientation in range(1, 9):
        file = tmp_path / f"{orientation}.tif"
        stored = stored_as(image, orientation)
        stored = np.moveaxis(stored, -1, 0) if planar == "separate" else stored.squeeze()
        tifffile.imwrite(
            file,
            stored,
            photometric=photometric,
            planarconfig=planar if bands > 1 else None,
            extrasamples=extra or None,
            byteorder=byteorder,
            extratags=[(274, "H", 1, orientation, True)],
            metadata=None,
        )
        np.testing.assert_array_equal(tifffile.imread(file), stored)
        np.testing.assert_array_equal(read(file, alpha="ignore"), expected, f"orientation {orientation}")
        np.testing.assert_allclose(read(file).astype(int), over_white, atol=1.01)
        if "unassalpha" in extra:
            over_black = expected * share
            np.testing.assert_allclose(read(file, alpha="black").astype(int), over_black, atol=1.01)
        else:
            np.testing.assert_array_equal(read(file), expected)


@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits"])
@pytest.mark.parametrize("bands", [1, 3, 4, 5, 13])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_compressed_tiffs_of_any_number_of_bands_give_the_first_three(
    tmp_path: Path, rng: np.random.Generator, compression: str, bands: int, dtype: type
) -> None:
    shape = (HEIGHT, WIDTH, bands) if bands > 1 else (HEIGHT, WIDTH)
    image = rng.integers(0, 256, shape).astype(dtype) * (257 if dtype == np.uint16 else 1)
    file = tmp_path / "bands.tif"
    tifffile.imwrite(
        file,
        image,
        photometric="minisblack",
        planarconfig="contig" if bands > 1 else None,
        extrasamples=["unspecified"] * (bands - 1) or None,
        compression=compression,
        metadata=None,
    )
    expected = (image // (257 if dtype == np.uint16 else 1)).astype(np.uint8).reshape(HEIGHT, WIDTH, -1)[..., :3]
    digest, picture = FileSource(file).load()
    np.testing.assert_array_equal(to_pixels(picture, None), expected)
    assert bool(picture.remarks) == (bands > 3 or (bands == 3 and dtype in (np.uint8, np.uint16))), picture.remarks


@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_one_bit_tiffs(tmp_path: Path, rng: np.random.Generator, byteorder: str, photometric: str) -> None:
    bits = rng.integers(0, 2, (HEIGHT, WIDTH)).astype(bool)
    file = tmp_path / "bits.tif"
    tifffile.imwrite(file, bits, photometric=photometric, byteorder=byteorder, metadata=None)
    white = bits if photometric == "minisblack" else ~bits
    np.testing.assert_array_equal(read(file)[..., 0], 255 * white.astype(np.uint8))


def test_twelve_packed_bits_have_white_at_4095(tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.integers(0, 4096, (4, 6), np.uint16)
    file = tmp_path / "twelve.tif"
    tifffile.imwrite(file, values, bitspersample=12, photometric="minisblack", metadata=None)
    np.testing.assert_array_equal(tifffile.imread(file), values)
    np.testing.assert_array_equal(read(file)[..., 0], np.floor(values / 4095 * 255 + 0.5))


def test_palettes_of_tiffs(tmp_path: Path, rng: np.random.Generator) -> None:
    colours = rng.integers(0, 256, (3, 256), np.uint16)
    indices = rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    file = tmp_path / "palette.tif"
    tifffile.imwrite(file, indices, photometric="palette", colormap=colours * 257, metadata=None)
    np.testing.assert_array_equal(read(file), colours.T.astype(np.uint8)[indices])


LOSSLESS = {
    "PNG": {"L", "LA", "RGB", "RGBA"},
    "WEBP": {"RGB", "RGBA"},
    "JPEG2000": {"L", "LA", "RGB", "RGBA"},
    "TIFF": {"L", "RGB", "RGBA"},
    "BMP": {"L", "RGB"},
    "TGA": {"L", "RGB", "RGBA"},
    "PPM": {"L", "RGB"},
    "QOI": {"RGB", "RGBA"},
    "PCX": {"L", "RGB"},
    "SGI": {"L", "RGB", "RGBA"},
    "DDS": {"L", "RGB", "RGBA"},
    "GIF": {"L"},
    "IM": {"L", "RGB"},
}
OPTIONS = {"WEBP": {"lossless": True, "exact": True}, "JPEG2000": {"irreversible": False}}
# Those whose metadata can hold an orientation; in JPEG 2000 and in others Pillow writes none.
WITH_EXIF = {"PNG", "WEBP", "TIFF"}


@pytest.mark.parametrize(("format", "mode"), [(name, mode) for name in LOSSLESS for mode in sorted(LOSSLESS[name])])
def test_lossless_formats(tmp_path: Path, values: np.ndarray, format: str, mode: str) -> None:
    bands = {"L": (0,), "LA": (0, 3), "RGB": (0, 1, 2), "RGBA": (0, 1, 2, 3)}[mode]
    image = (values >> 8).astype(np.uint8)[..., bands]
    colours = image[..., : 3 if mode.startswith("RGB") else 1]
    share = image[..., -1:] / 255
    for orientation in range(1, 9) if format in WITH_EXIF else [1]:
        file, exif = tmp_path / f"{orientation}.image", Image.Exif()
        exif[0x0112] = orientation
        options = {**OPTIONS.get(format, {}), **({"exif": exif} if format in WITH_EXIF else {})}
        Image.fromarray(stored_as(image, orientation).squeeze()).save(file, format, **options)
        ignored = read(file, alpha="ignore")
        expected = colours if ignored.shape[-1] == colours.shape[-1] else np.repeat(colours, 3, -1)
        np.testing.assert_array_equal(ignored, expected, f"orientation {orientation}")
        if mode.endswith("A"):
            over_white = expected * share + 255 * (1 - share)
            np.testing.assert_allclose(read(file).astype(int), over_white, atol=1.01)


DECODERS = {
    "JPEG": imagecodecs.jpeg8_decode,
    "WEBP": imagecodecs.webp_decode,
    "AVIF": imagecodecs.avif_decode,
    "JPEG2000": imagecodecs.jpeg2k_decode,
    "HEIF": None,
}


@pytest.mark.parametrize("format", DECODERS)
@pytest.mark.parametrize("bands", [1, 3])
def test_lossy_formats_are_upright_and_close_to_what_another_reader_decodes(
    tmp_path: Path, format: str, bands: int
) -> None:
    y, x = np.mgrid[:48, :64]
    upright = np.stack([255 * y // 48, 255 * x // 64, np.where(x > 40, 200, 30)], axis=-1).astype(np.uint8)[..., :bands]
    if format == "HEIF":
        pillow_heif = pytest.importorskip("pillow_heif")
        pillow_heif.register_heif_opener()
    for orientation in range(1, 9) if format != "JPEG2000" else [1]:
        stored = stored_as(upright, orientation)
        encoded, exif = io.BytesIO(), Image.Exif()
        exif[0x0112] = orientation
        options = {"quality": 98, "exif": exif.tobytes()}
        if format == "JPEG2000":
            options = {"quality_layers": [50], "quality_mode": "dB"}
        Image.fromarray(stored.squeeze()).save(encoded, format, **options)
        file = tmp_path / f"{orientation}.image"
        file.write_bytes(encoded.getvalue())
        pixels = read(file).astype(int)
        assert pixels.shape[:2] == upright.shape[:2], orientation
        assert np.abs(pixels - upright).mean() < 3, f"orientation {orientation}"
        if decode := DECODERS[format]:
            other = decode(encoded.getvalue()).reshape(*stored.shape[:2], -1)
            turned = stored_as(pixels.astype(np.uint8), orientation).astype(int)
            assert np.abs(turned - other[..., : turned.shape[-1]]).max() <= 4, f"orientation {orientation}"


@pytest.mark.parametrize("window", [None, "0,4095", "percentiles"])
def test_sixteen_bits_in_png_and_tiff_agree(tmp_path: Path, rng: np.random.Generator, window: str | None) -> None:
    values = rng.integers(0, 4096, (20, 30), np.uint16)
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(values))
    for byteorder in "<>":
        tifffile.imwrite(tmp_path / f"{ord(byteorder)}.tif", values, byteorder=byteorder, metadata=None)
    low, high = {None: (0, 65535), "0,4095": (0, 4095)}.get(window) or np.percentile(values, (1, 99))
    expected = np.floor(np.clip((values - low) / (high - low), 0, 1) * 255 + 0.5)[..., None]
    for file in tmp_path.iterdir():
        choices = {} if window is None else {"window": window}
        np.testing.assert_array_equal(read(file, **choices), expected, file.name)


def test_deep_colours_have_all_their_bits_in_a_window(tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.integers(0, 4096, (6, 7, 3), np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", values, photometric="rgb", metadata=None)
    expected = np.floor(values / 4095 * 255 + 0.5)
    np.testing.assert_array_equal(read(tmp_path / "deep.tif", window="0,4095"), expected)
