"""Damaged, hostile and very large files: a line that says what is wrong, in little time and memory."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from feature_cache.errors import BadImage
from transfer.data.images import Decoding, FileSource, read_pixels

ROOT = Path(__file__).resolve().parents[4]
MUTATIONS = 2000


def seeds() -> dict[str, bytes]:
    """A small file of each kind that is decoded in a way of its own."""
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).resize((60, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = {
        "png": (colour, "PNG", {}),
        "interlaced.gif": (colour.quantize(16), "GIF", {}),
        "palette.png": (colour.quantize(16), "PNG", {"transparency": 3}),
        "deep.png": (Image.fromarray(rng.integers(0, 65536, (20, 30), np.uint16)), "PNG", {}),
        "jpg": (colour, "JPEG", {"exif": exif}),
        "progressive.jpg": (colour, "JPEG", {"progressive": True}),
        "cmyk.jpg": (colour.convert("CMYK"), "JPEG", {}),
        "webp": (colour, "WEBP", {}),
        "avif": (colour, "AVIF", {}),
        "jp2": (colour, "JPEG2000", {}),
        "bmp": (colour, "BMP", {}),
        "tga": (colour, "TGA", {"compression": "tga_rle"}),
        "ppm": (colour, "PPM", {}),
        "qoi": (colour, "QOI", {}),
        "dds": (colour, "DDS", {}),
        "ico": (colour.resize((32, 32)), "ICO", {}),
        "pcx": (colour, "PCX", {}),
        "sgi": (colour, "SGI", {}),
        "tif": (colour, "TIFF", {"exif": exif}),
        "lzw.tif": (colour, "TIFF", {"compression": "tiff_lzw"}),
        "jpeg.tif": (colour, "TIFF", {"compression": "jpeg"}),
    }
    files = {}
    for name, (image, format, options) in plain.items():
        stream = io.BytesIO()
        image.save(stream, format, **options)
        files[name] = stream.getvalue()
    for compression in (None, "zlib"):
        stream = io.BytesIO()
        bands = rng.integers(0, 4096, (12, 16, 5), np.uint16)
        tifffile.imwrite(stream, bands, photometric="minisblack", planarconfig="contig", compression=compression)
        files[f"bands-{compression}.tif"] = stream.getvalue()
    return files


def mutated(encoded: bytes, rng: np.random.Generator) -> bytes:
    """The same bytes with some changed, cut out, cut off or repeated; most changes are in the header."""
    changed = bytearray(encoded)
    for _ in range(int(rng.integers(1, 5))):
        reach = len(changed) if rng.random() < 0.4 else min(len(changed), 120)
        place, kind = int(rng.integers(reach)), int(rng.integers(5))
        if kind == 0:
            changed[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            changed[place : place + 4] = rng.bytes(4)
        elif kind == 2:
            changed[place : place + 2] = b"\xff\xff"
        elif kind == 3:
            del changed[place : place + int(rng.integers(1, 40))]
        else:
            del changed[int(rng.integers(1, len(changed))) :]
        if not changed:
            return encoded[:1]
    return bytes(changed)


def memory(name: str) -> int:
    """Of this process, in kB: ``VmRSS`` is what it takes now, ``VmHWM`` its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


@pytest.mark.slow
def test_mutated_files_are_read_or_refused_in_a_line_in_little_time_and_memory(tmp_path: Path) -> None:
    files, slowest = list(seeds().items()), 0.0
    choices = [Decoding(), Decoding(pages="channels"), Decoding(window="percentiles"), Decoding(alpha="ignore")]
    refused = 0
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the tests before
    before = memory("VmRSS")
    for number in range(MUTATIONS):
        name, encoded = files[number % len(files)]
        file = tmp_path / f"{number}-{name}"
        file.write_bytes(mutated(encoded, np.random.default_rng(number)))
        start = time.process_time()
        try:
            _, pixels = read_pixels(FileSource(file), (32, 24), decoding=choices[number % len(choices)])
            assert pixels.shape[:2] == (32, 24)
            assert pixels.dtype == np.uint8
        except BadImage as error:
            refused += 1
            assert str(file) in str(error), error
            assert "\n" not in str(error), error
        slowest = max(slowest, time.process_time() - start)
        file.unlink()
    assert MUTATIONS / 10 < refused < MUTATIONS
    assert slowest < 5
    assert memory("VmHWM") - before < 1_000_000
