"""Decoding and fitting: from every kind of file to the uint8 pixels that a net is given."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from feature_cache.errors import BadImage
from feature_cache.spec import FITS, INTERPOLATIONS
from transfer.data.images import ArraySource, FileSource, read_pixels, to_pixels


def pixels_of(file: Path, size: tuple[int, int] | None = None, **options: str) -> np.ndarray:
    """The pixels of `file`, at its own size unless told otherwise."""
    return read_pixels(FileSource(file), size, **options)[1]


def saved(image: Image.Image, file: Path, **options: object) -> Path:
    image.save(file, **options)
    return file


def smooth(width: int, height: int) -> Image.Image:
    """A colour image without detail finer than some ten pixels, so that JPEG and scaling keep it."""
    x, y = np.meshgrid(np.linspace(0, 3, width), np.linspace(0, 2, height))
    channels = [np.sin(x * 2 + y), np.cos(y * 3 - x), np.sin(x * y)]
    return Image.fromarray(np.uint8(127.5 + 127 * np.stack(channels, -1)))


class TestModes:
    def test_one_bit_becomes_black_and_white_gray(self, tmp_path: Path) -> None:
        image = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
        pixels = pixels_of(saved(image, tmp_path / "bits.png"))
        np.testing.assert_array_equal(pixels[..., 0], [[0, 255], [255, 0]])
        assert pixels.shape == (2, 2, 1)

    def test_gray_stays_gray_and_exact(self, tmp_path: Path, rng: np.random.Generator) -> None:
        values = rng.integers(0, 256, (9, 7), np.uint8)
        pixels = pixels_of(saved(Image.fromarray(values), tmp_path / "gray.png"))
        np.testing.assert_array_equal(pixels, values[..., None])
        assert pixels.dtype == np.uint8

    def test_rgb_is_exact(self, tmp_path: Path, rng: np.random.Generator) -> None:
        values = rng.integers(0, 256, (9, 7, 3), np.uint8)
        np.testing.assert_array_equal(pixels_of(saved(Image.fromarray(values), tmp_path / "c.png")), values)

    def test_palette_becomes_its_colours(self, tmp_path: Path) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 200, 150, 100])
        image.putpixel((1, 0), 1)
        pixels = pixels_of(saved(image, tmp_path / "palette.png"))
        np.testing.assert_array_equal(pixels, [[[10, 20, 30], [200, 150, 100]]])

    def test_transparent_palette_entry_becomes_white(self, tmp_path: Path) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 200, 150, 100])
        image.putpixel((1, 0), 1)
        pixels = pixels_of(saved(image, tmp_path / "palette.png", transparency=0))
        np.testing.assert_array_equal(pixels, [[[255, 255, 255], [200, 150, 100]]])

    def test_transparency_is_laid_over_white(self, tmp_path: Path) -> None:
        values = np.array([[[100, 0, 50, 255], [100, 0, 50, 0], [100, 0, 50, 51]]], np.uint8)  # opaque, clear, a fifth
        pixels = pixels_of(saved(Image.fromarray(values), tmp_path / "rgba.png"))
        np.testing.assert_allclose(pixels, [[[100, 0, 50], [255, 255, 255], [224, 204, 214]]], atol=1)

    def test_transparent_gray_is_laid_over_white_and_stays_gray(self, tmp_path: Path) -> None:
        values = np.array([[[77, 255], [0, 0], [0, 51]]], np.uint8)
        pixels = pixels_of(saved(Image.fromarray(values, "LA"), tmp_path / "la.png"))
        assert pixels.shape == (1, 3, 1)
        np.testing.assert_allclose(pixels[..., 0], [[77, 255, 204]], atol=1)

    def test_transparent_colour_key_of_rgb_becomes_white(self, tmp_path: Path) -> None:
        values = np.array([[[9, 9, 9], [1, 2, 3]]], np.uint8)
        pixels = pixels_of(saved(Image.fromarray(values), tmp_path / "key.png", transparency=(1, 2, 3)))
        np.testing.assert_array_equal(pixels, [[[9, 9, 9], [255, 255, 255]]])

    def test_transparent_value_of_gray_becomes_white_and_stays_gray(self, tmp_path: Path) -> None:
        image = Image.fromarray(np.array([[40, 0]], np.uint8))
        pixels = pixels_of(saved(image, tmp_path / "key.png", transparency=0))
        np.testing.assert_array_equal(pixels, [[[40], [255]]])

    def test_transparent_value_of_one_bit_becomes_white(self, tmp_path: Path) -> None:
        image = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
        pixels = pixels_of(saved(image, tmp_path / "bits.png", transparency=0))
        np.testing.assert_array_equal(pixels, [[[255], [255]]])

    def test_cmyk_jpeg_becomes_rgb(self, tmp_path: Path) -> None:
        ink = np.zeros((16, 48, 4), np.uint8)
        ink[:, 16:32, 1:3] = 255  # magenta and yellow make red
        ink[:, 32:, 3] = 255
        pixels = pixels_of(saved(Image.fromarray(ink, "CMYK"), tmp_path / "cmyk.jpg", quality=95))
        for column, colour in ((8, (255, 255, 255)), (24, (255, 0, 0)), (40, (0, 0, 0))):
            np.testing.assert_allclose(pixels[8, column].astype(int), colour, atol=12)

    @pytest.mark.parametrize("scheme", ["png", "tiff-big-endian", "tiff-little-endian"])
    def test_sixteen_bits_are_scaled_to_eight(self, tmp_path: Path, scheme: str) -> None:
        values = np.array([[0, 128, 256, 32768, 65535]], np.uint16)
        if scheme == "tiff-big-endian":
            image = Image.frombytes("I;16B", (5, 1), values.astype(">u2").tobytes())
        else:
            image = Image.fromarray(values)
        file = saved(image, tmp_path / ("deep.png" if scheme == "png" else "deep.tif"))
        assert Image.open(file).mode.startswith("I;16")
        np.testing.assert_array_equal(pixels_of(file)[..., 0], [[0, 0, 1, 128, 255]])

    def test_integers_beyond_sixteen_bits_are_refused(self, tmp_path: Path) -> None:
        file = saved(Image.fromarray(np.array([[0, 70000]], np.int32)), tmp_path / "wide.tif")
        with pytest.raises(BadImage, match=r"wide\.tif holds integers outside 0 to 65535"):
            pixels_of(file)

    def test_integers_of_thirty_two_bits_within_sixteen_are_scaled(self, tmp_path: Path) -> None:
        file = saved(Image.fromarray(np.array([[0, 257, 65535]], np.int32)), tmp_path / "int.tif")
        np.testing.assert_array_equal(pixels_of(file)[..., 0], [[0, 1, 255]])

    def test_floating_point_is_refused(self, tmp_path: Path) -> None:
        file = saved(Image.fromarray(np.array([[0, 0.5]], np.float32)), tmp_path / "float.tif")
        with pytest.raises(BadImage, match=r"float\.tif holds floating-point values .* save it as 8- or 16-bit gray"):
            pixels_of(file)

    def test_gif_gives_its_first_frame(self, tmp_path: Path) -> None:
        frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
        file = saved(frames[0], tmp_path / "film.gif", save_all=True, append_images=frames[1:])
        np.testing.assert_array_equal(pixels_of(file)[0, 0], [255, 0, 0])

    @pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
    def test_the_content_decides_the_format_not_the_name(self, tmp_path: Path, format: str) -> None:
        options = {"lossless": True} if format == "WEBP" else {}
        file = saved(Image.new("RGB", (3, 2), (0, 0, 255)), tmp_path / "no-extension", format=format, **options)
        np.testing.assert_array_equal(pixels_of(file), np.broadcast_to([0, 0, 255], (2, 3, 3)))


# How the stored image is turned back from an upright one, for each EXIF orientation.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


class TestOrientation:
    @pytest.mark.parametrize("orientation", STORED)
    def test_every_exif_orientation_gives_the_upright_pixels(
        self, tmp_path: Path, rng: np.random.Generator, orientation: int
    ) -> None:
        upright = rng.integers(0, 256, (6, 9, 3), np.uint8)
        turn, exif = STORED[orientation], Image.Exif()
        exif[0x0112] = orientation
        stored = Image.fromarray(upright) if turn is None else Image.fromarray(upright).transpose(turn)
        file = saved(stored, tmp_path / "turned.png", exif=exif)
        np.testing.assert_array_equal(pixels_of(file, (6, 9)), upright)

    @pytest.mark.parametrize("orientation", [3, 6])
    def test_a_large_jpeg_that_is_turned_is_upright_too(self, tmp_path: Path, orientation: int) -> None:
        upright, exif = smooth(800, 500), Image.Exif()
        exif[0x0112] = orientation
        file = saved(upright.transpose(STORED[orientation]), tmp_path / "turned.jpg", exif=exif, quality=95)
        expected = np.asarray(upright.resize((80, 50), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(pixels_of(file, (50, 80)) - expected).mean() < 3


class TestUnreadable:
    @pytest.mark.parametrize("name", ["cut.jpg", "cut.png"])
    def test_truncated_file_is_refused_by_name(self, tmp_path: Path, rng: np.random.Generator, name: str) -> None:
        file = saved(Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)), tmp_path / name)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(BadImage, match=f"{name} (cannot be decoded|is cut off: about 50% of its rows)"):
            pixels_of(file)

    def test_empty_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "empty.png").touch()
        with pytest.raises(BadImage, match=r"empty\.png is empty \(0 bytes\)"):
            FileSource(tmp_path / "empty.png").load()

    def test_text_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "notes.jpg").write_text("no image at all")
        with pytest.raises(BadImage, match=r"notes\.jpg is not an image that can be read \(not a known image format\)"):
            FileSource(tmp_path / "notes.jpg").load()

    def test_missing_file_is_refused_with_the_reason(self, tmp_path: Path) -> None:
        source = FileSource(tmp_path / "gone.png")
        with pytest.raises(BadImage, match=r"cannot read the image .*gone\.png: No such file or directory"):
            source.load()
        assert source.stamp() is None

    def test_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(BadImage, match="cannot read the image"):
            FileSource(tmp_path).load()

    @pytest.mark.parametrize("place, value", [(31, 2), (17, 0)], ids=["text as orientation", "text as a number"])
    def test_damaged_metadata_does_not_matter(self, tmp_path: Path, place: int, value: int) -> None:
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "a description"
        encoded = bytearray(saved(Image.new("RGB", (8, 8)), tmp_path / "odd.jpg", exif=exif).read_bytes())
        encoded[encoded.index(b"Exif") + place] = value
        (tmp_path / "odd.jpg").write_bytes(encoded)
        np.testing.assert_array_equal(pixels_of(tmp_path / "odd.jpg"), np.zeros((8, 8, 3)))

    @pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM", "ICO", "DDS", "AVIF"])
    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_damage_anywhere_gives_pixels_or_bad_image(
        self, rng: np.random.Generator, tmp_path: Path, format: str
    ) -> None:
        if not features.check("avif") and format == "AVIF":
            pytest.skip("this Pillow has no AVIF")
        whole = io.BytesIO()
        smooth(24, 20).save(whole, format)
        file = tmp_path / "damaged"
        for _ in range(150):
            damaged = np.frombuffer(whole.getvalue(), np.uint8).copy()
            first = rng.random() < 0.5  # headers are where the surprises are
            where = rng.integers(0, min(len(damaged), 120) if first else len(damaged), rng.integers(1, 5))
            damaged[where] = rng.integers(0, 256, len(where))
            file.write_bytes(damaged[: len(damaged) if rng.random() < 0.7 else rng.integers(1, len(damaged))].tobytes())
            try:
                pixels = pixels_of(file, (8, 8))
            except BadImage as error:
                assert "damaged" in str(error)
                assert "\n" not in str(error)
            else:
                assert pixels.shape in ((8, 8, 1), (8, 8, 3))


class TestFit:
    @pytest.mark.parametrize("fit", FITS)
    @pytest.mark.parametrize("interpolation", INTERPOLATIONS)
    def test_any_shape_is_brought_to_size(self, tmp_path: Path, fit: str, interpolation: str) -> None:
        for width, height in ((1, 1), (1, 500), (301, 7), (32, 32)):
            for mode, channels in (("L", 1), ("RGB", 3)):
                file = saved(Image.new(mode, (width, height)), tmp_path / "odd.png")
                pixels = pixels_of(file, (24, 32), fit=fit, interpolation=interpolation)
                assert pixels.shape == (24, 32, channels)
                assert pixels.dtype == np.uint8

    @pytest.fixture
    def thirds(self, tmp_path: Path) -> Path:
        """30 x 10 pixels: red, green, blue."""
        pixels = np.zeros((10, 30, 3), np.uint8)
        for third in range(3):
            pixels[:, 10 * third : 10 * third + 10, third] = 255
        return saved(Image.fromarray(pixels), tmp_path / "thirds.png")

    def test_stretch_keeps_all_and_changes_proportions(self, thirds: Path) -> None:
        pixels = pixels_of(thirds, (30, 30), fit="stretch", interpolation="nearest")
        assert (pixels[:, :10] == [255, 0, 0]).all()
        assert (pixels[:, 10:20] == [0, 255, 0]).all()
        assert (pixels[:, 20:] == [0, 0, 255]).all()

    def test_crop_keeps_the_centre(self, thirds: Path) -> None:
        assert (pixels_of(thirds, (10, 10), fit="crop") == [0, 255, 0]).all()

    @pytest.mark.parametrize(("fill", "level"), [("black", 0), ("gray", 127)])
    def test_pad_fills_the_rest(self, thirds: Path, fill: str, level: int) -> None:
        pixels = pixels_of(thirds, (30, 30), fit="pad", interpolation="nearest", fill=fill)
        assert (pixels[:10] == level).all()
        assert (pixels[20:] == level).all()
        assert (pixels[10:20, 10:20] == [0, 255, 0]).all()

    def test_a_gray_image_that_is_padded_stays_gray(self, tmp_path: Path) -> None:
        file = saved(Image.new("L", (10, 20), 255), tmp_path / "white.png")
        pixels = pixels_of(file, (20, 20), fit="pad", fill="gray")
        assert pixels[0, :, 0].tolist() == [127] * 5 + [255] * 10 + [127] * 5
        assert pixels.shape == (20, 20, 1)

    def test_interpolations_differ_where_they_should(self, tmp_path: Path, rng: np.random.Generator) -> None:
        file = saved(Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)), tmp_path / "noise.png")
        results = [pixels_of(file, (40, 40), interpolation=name) for name in INTERPOLATIONS]
        for number, one in enumerate(results):
            assert not any(np.array_equal(one, other) for other in results[number + 1 :])

    def test_constant_image_stays_constant(self, tmp_path: Path) -> None:
        file = saved(Image.new("RGB", (50, 20), (12, 200, 99)), tmp_path / "flat.png")
        for interpolation in INTERPOLATIONS:
            assert (pixels_of(file, (33, 47), interpolation=interpolation) == [12, 200, 99]).all()


class TestDraft:
    @pytest.mark.parametrize("fit", FITS)
    def test_decoding_at_reduced_size_is_close_to_full_decoding(self, tmp_path: Path, fit: str) -> None:
        file = saved(smooth(1600, 1200), tmp_path / "large.jpg", quality=95)
        image = Image.open(file)
        reduced = to_pixels(image, (100, 100), fit).astype(int)
        assert image.size[0] < 1600, "the decoder was not asked to scale down"
        assert min(image.size) >= 100
        full = to_pixels(Image.open(file).copy(), (100, 100), fit).astype(int)
        assert np.abs(reduced - full).mean() < 1
        assert np.abs(reduced - full).max() < 16

    @pytest.mark.parametrize("size", [(2000, 260), (260, 2000)])
    @pytest.mark.parametrize("fit", FITS)
    def test_neither_side_is_decoded_below_what_is_needed(
        self, tmp_path: Path, fit: str, size: tuple[int, int]
    ) -> None:
        image = Image.open(saved(smooth(*size), tmp_path / "long.jpg"))
        to_pixels(image, (128, 128), fit)
        scaled_to_fit = min(size) * 128 / max(size) if fit == "pad" else 128
        assert min(image.size) >= scaled_to_fit

    def test_small_jpeg_is_decoded_in_full(self, tmp_path: Path) -> None:
        image = Image.open(saved(smooth(100, 80), tmp_path / "small.jpg"))
        to_pixels(image, (64, 64))
        assert image.size == (100, 80)


class TestSources:
    def test_digest_is_of_the_content_not_the_name(self, tmp_path: Path) -> None:
        one = saved(Image.new("L", (5, 5), 3), tmp_path / "one.png")
        (tmp_path / "two.jpeg").write_bytes(one.read_bytes())
        other = saved(Image.new("L", (5, 5), 4), tmp_path / "other.png")
        digests = [FileSource(file).load()[0] for file in (one, tmp_path / "two.jpeg", other)]
        assert digests[0] == digests[1] != digests[2]

    def test_stamp_tells_path_size_and_time(self, tmp_path: Path) -> None:
        file = saved(Image.new("L", (5, 5)), tmp_path / "one.png")
        status = file.stat()
        assert FileSource(file).stamp() == (str(file), status.st_size, status.st_mtime_ns)

    def test_array_is_an_image_known_by_its_values_and_shape(self, rng: np.random.Generator) -> None:
        pixels = rng.integers(0, 256, (4, 6), np.uint8)
        digest, image = ArraySource(pixels, "first").load()
        np.testing.assert_array_equal(to_pixels(image, (4, 6)), pixels[..., None])
        assert ArraySource(pixels.copy(), "second").load()[0] == digest
        assert ArraySource(pixels.reshape(6, 4), "first").load()[0] != digest
        assert ArraySource(pixels, "first").stamp() is None
