"""What a user chooses about pages, transparency and levels, what is said of guesses, and which digests change."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from feature_cache.errors import BadImage, InvalidChoice
from feature_cache.keys import digest_bytes
from feature_cache.spec import FeatureSpec
from transfer.data import datasets
from transfer.data.images import Decoding, FileSource, decoding_of, read_pixels, thumbnail, to_pixels
from transfer.data.images import cost as cost_module
from transfer.data.images import pixels as pixels_module
from transfer.data.images import strips as strips_module
from transfer.data.images.orientation import transposed
from transfer.data.images.strips import Strips
from transfer.data.pages import expand_pages, with_max_pixels
from transfer.data.survey import survey

GRAY: dict[str, Any] = {"photometric": "minisblack", "metadata": None}


def remarks_on(file: Path, **choices: str) -> list[str]:
    _, picture = FileSource(file).load()
    to_pixels(picture, None, decoding=Decoding(**choices))
    return picture.remarks


@pytest.fixture
def stack(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, np.ndarray]:
    """A TIFF of four gray pages, and their values."""
    values = rng.integers(0, 256, (4, 6, 9), np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", values, photometric="minisblack", metadata=None)
    return tmp_path / "stack.tif", values


class TestPages:
    def test_the_first_alone_is_read_and_that_is_said(self, stack: tuple[Path, np.ndarray]) -> None:
        file, values = stack
        np.testing.assert_array_equal(read_pixels(FileSource(file))[1][..., 0], values[0])
        assert remarks_on(file) == ["of its 4 pages the first alone is read (pages can be all or channels: `pages`)"]

    def test_channels_are_the_first_three(self, stack: tuple[Path, np.ndarray]) -> None:
        file, values = stack
        pixels = read_pixels(FileSource(file), decoding=Decoding(pages="channels"))[1]
        np.testing.assert_array_equal(pixels, np.moveaxis(values[:3], 0, -1))
        assert remarks_on(file, pages="channels") == ["of its 4 pages the first three are taken as colours"]

    def test_deep_pages_that_are_channels_have_their_window(self, tmp_path: Path, rng: np.random.Generator) -> None:
        values = rng.integers(0, 4096, (3, 6, 9), np.uint16)
        tifffile.imwrite(tmp_path / "deep.tif", values, photometric="minisblack", metadata=None)
        pixels = read_pixels(FileSource(tmp_path / "deep.tif"), decoding=Decoding(pages="channels", window="0,4095"))[1]
        np.testing.assert_array_equal(pixels, np.floor(np.moveaxis(values, 0, -1) / 4095 * 255 + 0.5))

    def test_signed_pages_that_are_channels_are_not_taken_for_others(self, tmp_path: Path) -> None:
        values = np.array([[[-128, 0, 127]]] * 3, np.int8)
        tifffile.imwrite(tmp_path / "signed.tif", values, photometric="minisblack", metadata=None)
        source = FileSource(tmp_path / "signed.tif")
        with pytest.raises(BadImage, match="from -128 to 127"):
            read_pixels(source, decoding=Decoding(pages="channels"))
        pixels = read_pixels(source, decoding=Decoding(pages="channels", window="-128,127"))[1]
        np.testing.assert_array_equal(pixels, [[[0] * 3, [128] * 3, [255] * 3]])

    def test_channels_of_several_sizes_are_refused(self, tmp_path: Path) -> None:
        first, second = Image.new("L", (4, 4)), Image.new("L", (5, 5))
        first.save(tmp_path / "odd.tif", save_all=True, append_images=[second])
        with pytest.raises(BadImage, match=r"odd\.tif holds pages of several sizes"):
            read_pixels(FileSource(tmp_path / "odd.tif"), decoding=Decoding(pages="channels"))

    def test_each_page_is_an_image_known_by_its_number(self, stack: tuple[Path, np.ndarray]) -> None:
        file, values = stack
        Image.fromarray(values[0]).save(file.with_name("a.png"))
        pages = expand_pages(datasets.load(str(file.parent)))
        assert pages.ids == ("a.png", *(f"stack.tif#{number}" for number in range(4)))
        pixels = [read_pixels(source)[1][..., 0] for source in pages.sources]
        np.testing.assert_array_equal(pixels[1:], values)
        assert pages.notes[-1] == "1 file holds 4 pages, each of them an image."
        digests = [source.load()[0] for source in pages.sources]
        assert len(set(digests)) == 5
        assert digests[1] == FileSource(file).load()[0], "the first page has the rows of the file"
        stamps = [source.stamp() for source in pages.sources]
        assert len(set(stamps)) == 5

    def test_smaller_copies_of_a_page_are_no_pages_to_speak_of(self, tmp_path: Path) -> None:
        with tifffile.TiffWriter(tmp_path / "pyramid.tif") as writer:
            writer.write(np.zeros((32, 32), np.uint8), metadata=None)
            writer.write(np.zeros((16, 16), np.uint8), subfiletype=1, metadata=None)
        assert remarks_on(tmp_path / "pyramid.tif") == []
        assert expand_pages(datasets.load(str(tmp_path))).ids == ("pyramid.tif",)

    def test_a_file_is_read_once_for_all_of_its_pages(
        self, stack: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file, values = stack
        reads, real = [], FileSource.read
        monkeypatch.setattr(FileSource, "read", lambda source: reads.append(source.page) or real(source))
        for page in range(4):
            np.testing.assert_array_equal(read_pixels(FileSource(file, page))[1][..., 0], values[page])
        assert reads == [0]
        tifffile.imwrite(file, values[::-1].copy(), **GRAY)  # what is written anew is read anew
        np.testing.assert_array_equal(read_pixels(FileSource(file, 1))[1][..., 0], values[2])

    def test_a_smaller_copy_in_front_is_not_the_image(self, tmp_path: Path, rng: np.random.Generator) -> None:
        values = rng.integers(0, 256, (32, 32), np.uint8)
        with tifffile.TiffWriter(tmp_path / "preview.tif") as writer:
            writer.write(values[::4, ::4].copy(), subfiletype=1, metadata=None)
            writer.write(values, metadata=None)
        digest, pixels = read_pixels(FileSource(tmp_path / "preview.tif"))
        np.testing.assert_array_equal(pixels[..., 0], values)
        assert remarks_on(tmp_path / "preview.tif") == [
            "its first page is a smaller copy of another one, and page 1 is read"
        ]
        assert digest != digest_bytes((tmp_path / "preview.tif").read_bytes()), "rows of the preview are not found"

    @pytest.mark.parametrize("name", ["stack.tif", "film.gif", "deep.tif", "one.png"])
    def test_a_page_that_is_not_there_is_told(self, name: str, stack: tuple[Path, np.ndarray]) -> None:
        file = stack[0].with_name(name)
        frames = [Image.new("L", (9, 6), 60 * number) for number in range(4)]
        frames[0].save(file.with_name("film.gif"), save_all=True, append_images=frames[1:])
        tifffile.imwrite(file.with_name("deep.tif"), np.zeros((4, 6, 9, 5), np.uint16), planarconfig="contig", **GRAY)
        frames[0].save(file.with_name("one.png"))
        held = "1 image," if name == "one.png" else "4 images,"
        with pytest.raises(BadImage, match=rf"{name} has no page 4: it holds {held} and the first is page 0\."):
            FileSource(file, 4).load()


class TestLevels:
    def test_percentiles_know_nothing_of_the_value_for_no_value(self, tmp_path: Path, rng: np.random.Generator) -> None:
        for dtype in (np.float32, np.uint16):
            values = rng.uniform(100, 200, (40, 50)).astype(dtype)
            low, high = np.percentile(values[20:], (1, 99))
            values[:20] = 9999
            tag = [(42113, "s", 0, "9999", True)]
            tifffile.imwrite(tmp_path / "dem.tif", values, photometric="minisblack", extratags=tag, metadata=None)
            pixels = read_pixels(FileSource(tmp_path / "dem.tif"), decoding=Decoding(window="percentiles"))[1][..., 0]
            expected = np.floor(np.clip((values.astype(float) - low) * (255 / (high - low)), 0, 255) + 0.5)
            np.testing.assert_array_equal(pixels, expected)

    def test_the_window_of_a_pgm_is_in_its_own_values(self, tmp_path: Path, rng: np.random.Generator) -> None:
        values = rng.integers(0, 4096, (6, 9))
        (tmp_path / "a.pgm").write_bytes(b"P5 9 6 4095\n" + values.astype(">u2").tobytes())
        pixels = read_pixels(FileSource(tmp_path / "a.pgm"), decoding=Decoding(window="0,2047"))[1][..., 0]
        np.testing.assert_array_equal(pixels, np.floor(np.minimum(values / 2047, 1) * 255 + 0.5))

    def test_floats_need_a_window(self, tmp_path: Path) -> None:
        values = np.array([[-1.0, 0.0, np.nan, 0.5, 3.0]], np.float32)
        tifffile.imwrite(tmp_path / "f.tif", values, photometric="minisblack", metadata=None)
        source = FileSource(tmp_path / "f.tif")
        with pytest.raises(BadImage, match=r"f\.tif holds floating-point values of no fixed range; say .* by a window"):
            read_pixels(source)
        pixels = read_pixels(source, decoding=Decoding(window="-1,1"))[1]
        np.testing.assert_array_equal(pixels[..., 0], [[0, 128, 0, 191, 255]])

    def test_a_negative_in_floats_is_turned_round(self, tmp_path: Path) -> None:
        values = np.array([[0.0, 0.25, 1.0]], np.float32)
        tifffile.imwrite(tmp_path / "f.tif", values, photometric="miniswhite", metadata=None)
        pixels = read_pixels(FileSource(tmp_path / "f.tif"), decoding=Decoding(window="0,1"))[1]
        np.testing.assert_array_equal(pixels[..., 0], [[255, 191, 0]])

    @pytest.mark.parametrize("dtype", [np.float64, np.int32, np.uint32, np.int16])
    def test_other_numbers_have_a_window_too(self, tmp_path: Path, dtype: type) -> None:
        values = (
            np.array([[-500, 0, 500, 1000]]).clip(np.iinfo(dtype).min if dtype != np.float64 else -500).astype(dtype)
        )
        tifffile.imwrite(tmp_path / "v.tif", values, photometric="minisblack", metadata=None)
        pixels = read_pixels(FileSource(tmp_path / "v.tif"), decoding=Decoding(window="0,1000"))[1]
        np.testing.assert_array_equal(pixels[..., 0], [[0, 0, 128, 255]])

    def test_signed_bytes_are_not_taken_for_others(self, tmp_path: Path) -> None:
        values = np.array([[-128, -1, 0, 127]], np.int8)
        tifffile.imwrite(tmp_path / "s.tif", values, photometric="minisblack", metadata=None)
        with pytest.raises(BadImage, match=r"from -128 to 127"):
            read_pixels(FileSource(tmp_path / "s.tif"))
        pixels = read_pixels(FileSource(tmp_path / "s.tif"), decoding=Decoding(window="-128,127"))[1]
        np.testing.assert_array_equal(pixels[..., 0], [[0, 127, 128, 255]])

    def test_images_of_eight_bits_are_what_they_are(self, tmp_path: Path, rng: np.random.Generator) -> None:
        Image.fromarray(rng.integers(0, 256, (5, 5), np.uint8)).save(tmp_path / "a.png")
        plain, windowed = (
            read_pixels(FileSource(tmp_path / "a.png"), decoding=Decoding(window=window))[1]
            for window in (None, "0,4095")
        )
        np.testing.assert_array_equal(plain, windowed)

    def test_deep_colours_of_other_formats_are_refused_with_a_window(self, tmp_path: Path) -> None:
        import imagecodecs

        (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(np.zeros((4, 4, 3), np.uint16)))
        assert read_pixels(FileSource(tmp_path / "deep.png"))[1].shape == (4, 4, 3)
        with pytest.raises(BadImage, match="PNG of 16-bit colours, of which 8 bits are read"):
            read_pixels(FileSource(tmp_path / "deep.png"), decoding=Decoding(window="0,4095"))

    def test_few_levels_are_told_with_what_to_do(self, tmp_path: Path) -> None:
        values = np.linspace(0, 600, 64).astype(np.uint16).reshape(8, 8)
        Image.fromarray(values).save(tmp_path / "dark.png")
        (remark,) = remarks_on(tmp_path / "dark.png")
        assert remark.startswith("its 16-bit values become no more than 3 of 256 gray levels")
        assert "by a window of 10 bits (`window='0,1023'`)" in remark
        assert survey(datasets.load(str(tmp_path)), (8, 8)).remarks == [f"dark.png: {remark}."]
        assert remarks_on(tmp_path / "dark.png", window="0,1023") == []

    @pytest.mark.parametrize("window", ["", "1", "5,1", "a,b", "0,nan", "0,inf", "1,2,3"])
    def test_windows_that_are_none_are_refused(self, window: str) -> None:
        with pytest.raises(InvalidChoice, match="window is two numbers"):
            Decoding(window=window)
        with pytest.raises(InvalidChoice, match="window is two numbers"):
            FeatureSpec(net="n", weights="w", layer="l", size=(1, 1), window=window)

    def test_specs_carry_the_choices(self) -> None:
        spec = FeatureSpec(net="n", weights="w", layer="l", size=(1, 1), alpha="black", pages="channels", window="0,9")
        assert decoding_of(spec) == Decoding("black", "channels", "0,9")
        assert dataclasses.asdict(FeatureSpec.from_json(spec.to_json())) == dataclasses.asdict(spec)


class TestTransparency:
    def test_a_band_that_is_hardly_transparency_is_told(self, tmp_path: Path) -> None:
        tile = np.zeros((8, 8, 4), np.uint8)
        tile[..., 3] = 40
        for name, kind in (("marked", "unassalpha"), ("plain", "unspecified")):
            tifffile.imwrite(tmp_path / f"{name}.tif", tile, photometric="rgb", extrasamples=[kind], metadata=None)
        assert "`alpha='ignore'`" in remarks_on(tmp_path / "marked.tif")[0]
        assert remarks_on(tmp_path / "marked.tif", alpha="ignore") == []
        assert remarks_on(tmp_path / "plain.tif") == ["of its 4 bands the first 3 are read"]
        tile[:4, :, 3], tile[4:, :, 3] = 0, 255
        tifffile.imwrite(tmp_path / "mask.tif", tile, photometric="rgb", extrasamples=["unassalpha"], metadata=None)
        assert remarks_on(tmp_path / "mask.tif") == []

    @pytest.mark.parametrize(("alpha", "expected"), [("white", 255), ("black", 0), ("ignore", 40)])
    @pytest.mark.parametrize("kind", ["LA", "key", "palette", "deep key"])
    def test_what_lies_below(self, tmp_path: Path, alpha: str, expected: int, kind: str) -> None:
        file = tmp_path / "a.png"
        if kind == "LA":
            Image.fromarray(np.array([[[40, 0], [90, 255]]], np.uint8), "LA").save(file)
        elif kind == "deep key":
            Image.fromarray(np.array([[40 * 257, 90 * 257]], np.uint16)).save(file, transparency=40 * 257)
        else:
            image = Image.fromarray(np.array([[40, 90]], np.uint8))
            if kind == "palette":
                image.putpalette([value for level in range(256) for value in (level,) * 3])
            image.save(file, transparency=40)
        pixels = read_pixels(FileSource(file), decoding=Decoding(alpha))[1]
        assert pixels[0, :, 0].tolist() == [expected, 90]


class TestDigests:
    """Rows of files whose pixels were once made otherwise are not found; those of all others are."""

    def test_files_that_were_read_rightly_are_known_by_their_bytes(
        self, tmp_path: Path, rng: np.random.Generator
    ) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        gray = rng.integers(0, 65536, (4, 6), np.uint16)
        Image.fromarray(gray).save(tmp_path / "deep.tif")
        Image.fromarray(gray).save(tmp_path / "deep.png")
        Image.fromarray((gray >> 8).astype(np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
        Image.fromarray((gray >> 8).astype(np.uint8)).save(tmp_path / "turned.png", exif=exif)
        Image.fromarray((gray >> 8).astype(np.uint8)).save(tmp_path / "plain.tif")
        for file in tmp_path.iterdir():
            assert FileSource(file).load()[0] == digest_bytes(file.read_bytes()), file.name

    def test_files_that_were_not_have_others(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 3
        Image.new("L", (4, 6)).save(tmp_path / "turned.tif", exif=exif)
        deep = np.zeros((4, 6), np.uint16)
        tifffile.imwrite(tmp_path / "negative.tif", deep, photometric="miniswhite", metadata=None)
        tifffile.imwrite(tmp_path / "twelve.tif", deep, bitspersample=12, photometric="minisblack", metadata=None)
        tifffile.imwrite(tmp_path / "signed.tif", deep.astype(np.int8), photometric="minisblack", metadata=None)
        Image.fromarray(deep).save(tmp_path / "key.png", transparency=0)
        digests = {FileSource(file).load()[0] for file in tmp_path.iterdir()}
        assert len(digests) == 5
        assert not digests & {digest_bytes(file.read_bytes()) for file in tmp_path.iterdir()}


class TestStrips:
    """Large images are turned, converted and resized in strips."""

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("interpolation", pixels_module._RESAMPLING)
    def test_they_give_what_the_whole_gives(
        self, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator, orientation: int, interpolation: str
    ) -> None:
        monkeypatch.setattr(strips_module, "STRIP_PIXELS", 300)
        stored = Image.fromarray(rng.integers(80, 176, (67, 45, 4), np.uint8))  # no filter goes beyond 0 or 255
        whole = transposed(stored.convert("RGB"), orientation)
        large = Strips(stored, orientation, lambda part: part.convert("RGB"))
        resampling = pixels_module._RESAMPLING[interpolation]
        assert large.size == whole.size
        assert np.array_equal(large.whole(), whole)
        for size, fit in itertools.product(((20, 31), (31, 20), (90, 101), whole.size), (ImageOps.fit, ImageOps.pad)):
            one, other = (np.asarray(fit(image, size, resampling), int) for image in (large, whole))
            assert np.abs(one - other).max() <= 1  # 0 where Pillow, too, takes the rows first
            assert np.abs(one - other).mean() < 0.3

    def test_files_that_fit_into_memory_are_the_same_to_the_bit(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
    ) -> None:
        exif = Image.Exif()
        exif[0x0112] = 8
        colour = Image.fromarray(rng.integers(0, 256, (50, 70, 4), np.uint8))
        colour.save(tmp_path / "a.png", exif=exif)
        colour.convert("P").save(tmp_path / "b.png", exif=exif)
        Image.fromarray(rng.integers(0, 65536, (50, 70), np.uint16)).save(tmp_path / "c.png", exif=exif)
        tifffile.imwrite(tmp_path / "d.tif", np.asarray(colour), photometric="minisblack", planarconfig="contig")
        colour.convert("RGB").save(tmp_path / "e.png")
        cases = list(itertools.product(sorted(tmp_path.iterdir()), (None, (20, 30)), ("crop", "pad")))
        before = [read_pixels(FileSource(file), size, fit)[1] for file, size, fit in cases]
        monkeypatch.setattr("transfer.data.images.picture.AT_ONCE", 200)
        monkeypatch.setattr(strips_module, "AT_ONCE", 200)
        monkeypatch.setattr(strips_module, "STRIP_PIXELS", 300)
        for (file, size, fit), pixels in zip(cases, before, strict=True):
            np.testing.assert_array_equal(read_pixels(FileSource(file), size, fit)[1], pixels, str(file))
        monkeypatch.setattr(strips_module, "_WHOLE_BYTES", 0)
        for (file, size, fit), pixels in zip(cases, before, strict=True):
            again = read_pixels(FileSource(file), size, fit)[1]
            np.testing.assert_allclose(again.astype(int), pixels, atol=1, err_msg=str(file))


class TestLimits:
    def test_a_jpeg_counts_as_it_is_decoded(self, tmp_path: Path) -> None:
        Image.new("L", (1600, 800), 77).save(tmp_path / "wide.jpg")
        source = FileSource(tmp_path / "wide.jpg", max_pixels=100_000)
        assert (read_pixels(source, (100, 100))[1] == 77).all()
        with pytest.raises(BadImage, match=r"wide\.jpg holds 1600 x 800 pixels, 1 million, .* raise `max_pixels`"):
            read_pixels(source)

    def test_more_than_pillow_allows_is_decoded_where_an_eighth_is_needed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Image.new("L", (1600, 800), 77).save(tmp_path / "wide.jpg")
        Image.new("L", (1600, 800), 77).save(tmp_path / "wide.webp")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
        assert (read_pixels(FileSource(tmp_path / "wide.jpg"), (100, 100))[1] == 77).all()
        with pytest.raises(BadImage, match=r"wide\.webp .*more pixels than are decoded; raise `max_pixels`"):
            read_pixels(FileSource(tmp_path / "wide.webp"), (100, 100))

    @pytest.mark.parametrize("name", ["large.webp", "plain.ppm", "large.xpm"])
    def test_memory_and_time_have_limits_that_are_raised_with_that_of_pixels(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / name
        if name == "large.webp":
            monkeypatch.setattr(cost_module, "MAX_BYTES", 100_000_000)
            Image.new("L", (2600, 2500)).save(file, lossless=True, method=0, quality=0)
            message = "take 0.1 GB of memory to decode, where 0.1 GB are allowed"
        else:
            head = {"plain.ppm": b"P3\n2000 2000\n255\n", "large.xpm": b'/* XPM */\n"9000 9000 1 1",\n"a c #000000",\n'}
            file.write_bytes(head[name] + b'"a' * 10)
            message = "in a format that is slow to decode"
        with pytest.raises(BadImage, match=message):
            read_pixels(FileSource(file), (32, 32))
        (data,) = with_max_pixels(datasets.from_files([file]), 1_000_000_000).sources
        if name == "large.webp":
            assert read_pixels(data, (32, 32))[1].shape == (32, 32, 3)

    def test_thumbnails_keep_proportions_and_small_images(self, tmp_path: Path, rng: np.random.Generator) -> None:
        small = rng.integers(0, 256, (30, 40), np.uint8)
        Image.fromarray(small).save(tmp_path / "small.png")
        Image.new("L", (400, 100)).save(tmp_path / "large.png")
        np.testing.assert_array_equal(thumbnail(FileSource(tmp_path / "small.png"), 100)[..., 0], small)
        assert thumbnail(FileSource(tmp_path / "large.png"), 100).shape == (25, 100, 1)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"%PDF-1.7 ...", "is a PDF file"),
        (b"\xff\x0a\x00\x00", "is a JPEG XL file"),
        (b"<?xml version='1.0'?><svg>", "is"),
        (b"version https://git-lfs.github.com/spec/v1", "is a pointer of Git LFS"),
        (b"\0" * 128 + b"DICM", "is a DICOM file"),
        (b"\0\0\0\x18ftypisom", "is a video or another file in the container of MPEG-4"),
        (b"<!DOCTYPE html><html>", "is a web page"),
    ],
)
def test_other_files_are_told_by_what_they_are(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(BadImage, match=what):
        FileSource(tmp_path / "a.jpg").load()


def test_heic_without_its_package_is_told_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transfer.data.images.opening._heif_reader", lambda: None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    with pytest.raises(BadImage, match=r"a\.heic is a HEIC photograph; .* pip install 'layertap\[heif\]'"):
        FileSource(tmp_path / "a.heic").load()
