"""Transparent values and bands in files whose stored bits are not those that Pillow decodes."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from feature_cache.keys import digest_bytes
from transfer.data.images import Decoding, FileSource, read_pixels, to_pixels


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def write_png(file: Path, values: np.ndarray, bits: int, key: tuple[int, ...]) -> None:
    """Gray (height, width) or colours (height, width, 3) as a PNG by the specification, one value transparent."""
    height, width = values.shape[:2]
    rows = values.reshape(height, -1).astype(">u2")
    packed = np.packbits(np.unpackbits(rows.view(np.uint8).reshape(height, -1, 2), axis=2)[..., 16 - bits :], axis=None)
    raw = b"".join(b"\0" + row.tobytes() for row in packed.reshape(height, -1))
    header = struct.pack(">IIBBBBB", width, height, bits, 2 if values.ndim == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"tRNS", struct.pack(f">{len(key)}H", *key)), (b"IDAT", zlib.compress(raw)))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in (*parts, (b"IEND", b""))))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_gray_is_the_stored_one(bits: int, tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.integers(0, 2**bits, (8, 16))
    key = int(values[3, 4])
    write_png(tmp_path / "gray.png", values, bits, (key,))
    levels = np.floor(values * (255 / (2**bits - 1)) + 0.5).astype(np.uint8)
    for alpha, level in (("white", 255), ("black", 0)):
        expected = np.where(values == key, level, levels)
        digest, pixels = read_pixels(FileSource(tmp_path / "gray.png"), decoding=Decoding(alpha))
        np.testing.assert_array_equal(pixels[..., 0], expected)
    ignored = read_pixels(FileSource(tmp_path / "gray.png"), decoding=Decoding("ignore"))[1]
    np.testing.assert_array_equal(ignored[..., 0], levels)
    # Rows of what was once read otherwise are not found any more.
    assert (digest == digest_bytes((tmp_path / "gray.png").read_bytes())) == (bits in (1, 8))


def test_the_transparent_colour_of_16_bits_is_found_by_its_upper_8(tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.integers(0, 65536, (8, 8, 3))
    key = tuple(values[3, 4].tolist())
    write_png(tmp_path / "colour.png", values, 16, key)
    _, picture = FileSource(tmp_path / "colour.png").load()
    pixels = to_pixels(picture, None)
    expected = (values >> 8).astype(np.uint8)
    expected[3, 4] = 255
    np.testing.assert_array_equal(pixels, expected)
    assert picture.remarks == [
        "of its 16-bit colours 8 bits are read, so that those next to its transparent one are transparent, too"
    ]


def test_an_image_that_is_transparent_all_over_is_told(tmp_path: Path) -> None:
    colours = np.full((4, 5, 4), 90, np.uint8)
    colours[..., 3] = 0
    Image.fromarray(colours).save(tmp_path / "zero.png")
    source = FileSource(tmp_path / "zero.png")
    _, picture = source.load()
    assert to_pixels(picture, None).min() == 255
    assert picture.remarks == [
        "it is transparent all over, which leaves nothing but white; its colours show without its transparency "
        "(`alpha='ignore'`)"
    ]
    _, picture = source.load()
    assert to_pixels(picture, None, decoding=Decoding("ignore")).max() == 90
    assert picture.remarks == []


@pytest.mark.parametrize(("kind", "level"), [("assocalpha", 100), ("unassalpha", 50)])
def test_colours_that_hold_their_alpha_are_not_multiplied_again(kind: str, level: int, tmp_path: Path) -> None:
    values = np.full((4, 5, 5), 100 * 257, np.uint16)
    values[..., 3] = 32768  # half; Pillow does not read what has a further band
    bands = {"photometric": "rgb", "planarconfig": "contig", "extrasamples": [kind, "unspecified"]}
    tifffile.imwrite(tmp_path / "a.tif", values, **bands, metadata=None)
    pixels = read_pixels(FileSource(tmp_path / "a.tif"), decoding=Decoding("black"))[1]
    assert set(pixels.ravel().tolist()) == {level}
