"""Copies of images: exact ones, near ones, and what is merely similar."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from skimage.data import astronaut

from transfer.data import datasets
from transfer.data.copies import duplicates
from transfer.data.copies.duplicates import Copies
from transfer.data.copies.image_hash import difference_hash
from transfer.data.survey import survey


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(astronaut()).crop((0, 0, 512, 400))


def found_in(folder: Path, other: Path | None = None) -> Copies:
    """Copies in a folder, by names where there is one folder alone."""
    return duplicates.find_copies(*(survey(datasets.load(str(one))) for one in (folder, other) if one))


def named(folder: Path, groups: list) -> list[set[str]]:
    ids = datasets.load(str(folder)).ids
    return [{ids[position] for position in group[:2]} for group in groups]


class TestExact:
    def test_the_same_bytes(self, class_folder: Path) -> None:
        shutil.copy(class_folder / "a" / "2.png", class_folder / "b" / "other name.jpg")
        result = found_in(class_folder)
        assert named(class_folder, result.exact) == [{"a/2.png", "b/other name.jpg"}]
        assert result.near == []

    def test_the_same_pixels_in_other_files(self, tmp_path: Path, photo: Image.Image) -> None:
        gray = photo.convert("L")
        gray.save(tmp_path / "1.png")
        gray.save(tmp_path / "2.bmp")
        gray.convert("RGB").save(tmp_path / "3.webp", lossless=True)
        photo.save(tmp_path / "4.png")
        result = found_in(tmp_path)
        assert result.exact == [[0, 1, 2]]
        assert [pair[:2] for pair in result.near] == [(0, 3)]

    def test_an_image_and_its_upright_copy(self, tmp_path: Path, photo: Image.Image) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        photo.save(tmp_path / "1.png", exif=exif)
        photo.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "2.png")
        assert found_in(tmp_path).exact == [[0, 1]]

    def test_even_images_are_copies_only_where_they_are_equal(self, tmp_path: Path) -> None:
        for number, (side, shade) in enumerate([(40, 128), (40, 128), (40, 129), (50, 128), (40, 0)]):
            Image.new("L", (side, side), shade).save(tmp_path / f"{number}.{'bmp' if number == 1 else 'png'}")
        result = found_in(tmp_path)
        assert result.exact == [[0, 1]]
        assert result.near == []


class TestNear:
    @pytest.mark.parametrize(
        "change",
        [
            lambda image: Image.open(_encoded(image, "JPEG", quality=40)),
            lambda image: image.resize((180, 141)),
            lambda image: image.resize((700, 547)),
            lambda image: ImageEnhance.Brightness(image).enhance(1.2),
            lambda image: ImageEnhance.Contrast(image).enhance(1.2),
            lambda image: image.convert("P"),
            lambda image: image.convert("L"),
        ],
        ids=["compressed", "smaller", "larger", "lighter", "more contrast", "palette", "gray"],
    )
    def test_changed_copies_are_near(self, tmp_path: Path, photo: Image.Image, change: Callable) -> None:
        photo.save(tmp_path / "1.png")
        change(photo).save(tmp_path / "2.png")
        result = found_in(tmp_path)
        assert [pair[:2] for pair in result.near] == [(0, 1)]
        assert result.near_total == 1
        assert duplicates.LEAST_CORRELATION <= result.near[0][2] <= 1

    @pytest.mark.parametrize(
        "change",
        [
            lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
            lambda image: image.crop((0, 0, 400, 300)),
            lambda image: Image.eval(image, lambda value: 255 - value),
        ],
        ids=["mirrored", "a part", "inverted"],
    )
    def test_other_images_are_not(self, tmp_path: Path, photo: Image.Image, change: Callable) -> None:
        photo.save(tmp_path / "1.png")
        change(photo).save(tmp_path / "2.png")
        assert found_in(tmp_path).near == []

    def test_handwritten_digits_of_one_class_are_no_duplicates(self) -> None:
        result = duplicates.find_copies(survey(datasets.load("digits")))
        assert result.exact == []
        assert len(result.near) < 20  # of 1.6 million pairs, of 8 x 8 pixels; all are strokes of a 1

    def test_only_pairs_with_the_first_data_set_are_sought(self, tmp_path: Path, photo: Image.Image) -> None:
        for name, side in (("a/1.png", 300), ("b/2.png", 250), ("b/3.png", 200)):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            photo.resize((side, side)).save(tmp_path / name)
        result = found_in(tmp_path / "a", tmp_path / "b")
        assert {pair[:2] for pair in result.near} == {(0, 1), (0, 2)}


class TestNearPairs:
    @pytest.fixture
    def scene(self) -> tuple[np.ndarray, np.ndarray]:
        """Images of which some differ by a little noise, and their hashes."""
        rng = np.random.default_rng(0)
        kinds = rng.integers(0, 256, (9, 32, 32))[rng.integers(0, 9, 60)]
        grays = np.clip(kinds + rng.normal(0, 6, kinds.shape), 0, 255).astype(np.uint8)
        hashes = np.stack([difference_hash(Image.fromarray(gray)) for gray in grays])
        return hashes, grays.reshape(60, -1)

    def test_blocks_find_what_comparing_all_pairs_finds(
        self, scene: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hashes, grays = scene
        alike = np.corrcoef(grays)
        bits = (hashes[:, None] != hashes[None]).sum(2)
        for rows in (60, 25):
            expected = {
                (i, j)
                for i in range(rows)
                for j in range(i + 1, 60)
                if alike[i, j] >= duplicates.LEAST_CORRELATION and bits[i, j] <= duplicates.MOST_BITS
            }
            for block in ((1000, 1000), (7, 11), (16, 8)):
                monkeypatch.setattr(duplicates, "_BLOCK_ROWS", block[0])
                monkeypatch.setattr(duplicates, "_BLOCK_COLUMNS", block[1])
                pairs, total = duplicates.near_pairs(hashes, grays, rows)
                assert {pair[:2] for pair in pairs} == expected
                assert total == len(expected) > 20
                assert all(abs(pair[2] - alike[pair[:2]]) < 1e-5 for pair in pairs)

    def test_of_too_many_the_most_alike_are_kept_and_all_are_counted(
        self, scene: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        everything, total = duplicates.near_pairs(*scene, 60)
        monkeypatch.setattr(duplicates, "MOST_PAIRS", 10)
        monkeypatch.setattr(duplicates, "_BLOCK_ROWS", 7)
        some, again = duplicates.near_pairs(*scene, 60)
        assert [pair[:2] for pair in some] == [pair[:2] for pair in everything[:10]]
        assert again == total

    def test_no_image_is_no_pair(self) -> None:
        assert duplicates.near_pairs(np.zeros((0, 128), bool), np.zeros((0, 1024), np.uint8), 0) == ([], 0)


def _encoded(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    content = io.BytesIO()
    image.save(content, kind, **options)
    content.seek(0)
    return content
