"""Boxes as images: their pixels, what identifies them, and that an image is decoded once for all its boxes."""

from __future__ import annotations

import io
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage
from feature_cache.files.digest_memo import DigestMemo
from feature_cache.spec import FeatureSpec
from transfer.data import datasets
from transfer.data.annotation.crop_source import CropSource
from transfer.data.copies.groups import page_groups
from transfer.data.dataset import Dataset
from transfer.data.images import Decoding, FileSource, pixels_for, read_pixels
from transfer.data.images.orientation import ORIENTATION_TAG, SIDEWAYS, transposed
from transfer.data.images.picture import PillowPicture
from transfer.data.pages import expand_pages, with_max_pixels
from transfer.extraction.extract import extract
from transfer.extraction.lookup import stored_features
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

SIZE = (40, 30)
BOX = (5, 3, 20, 14)


def noise(seed: int = 0, size: tuple[int, int] = SIZE, channels: tuple[int, ...] = (3,)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], *channels), np.uint8))


def crop_of(image: Image.Image, box: tuple[int, int, int, int]) -> np.ndarray:
    left, top, width, height = box
    pixels = np.asarray(image.crop((left, top, left + width, top + height)))
    return pixels[..., None] if pixels.ndim == 2 else pixels


@pytest.fixture
def file(tmp_path: Path) -> Path:
    noise().save(tmp_path / "a.png")
    return tmp_path / "a.png"


class TestPixels:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("channels", [(), (3,)])
    def test_a_box_may_be_of_the_upright_or_of_the_stored_image(
        self, tmp_path: Path, orientation: int, channels: tuple[int, ...]
    ) -> None:
        stored, exif = noise(channels=channels), Image.Exif()
        exif[ORIENTATION_TAG] = orientation
        stored.save(tmp_path / "turned.png", exif=exif)
        upright, source = transposed(stored, orientation), FileSource(tmp_path / "turned.png")
        _, pixels = read_pixels(CropSource(source, BOX, upright.size))
        np.testing.assert_array_equal(pixels, crop_of(upright, BOX))
        if orientation in SIDEWAYS:
            _, pixels = read_pixels(CropSource(source, BOX, stored.size))
            alone = transposed(Image.fromarray(crop_of(stored, BOX).squeeze()), orientation)
            np.testing.assert_array_equal(pixels.squeeze(), np.asarray(alone))

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_large_images_that_are_turned_in_strips_are_cropped_alike(
        self, tmp_path: Path, orientation: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stored, exif = noise().convert("RGBA"), Image.Exif()
        exif[ORIENTATION_TAG] = orientation
        stored.save(tmp_path / "turned.png", exif=exif)
        upright = transposed(stored.convert("RGB"), orientation)
        crop = CropSource(FileSource(tmp_path / "turned.png"), BOX, upright.size)
        monkeypatch.setattr("transfer.data.images.strips.AT_ONCE", 100)
        monkeypatch.setattr("transfer.data.images.strips.STRIP_PIXELS", 70)
        monkeypatch.setattr("transfer.data.images.strips._WHOLE_BYTES", 0)
        np.testing.assert_array_equal(read_pixels(crop)[1], crop_of(upright, BOX))

    def test_a_jpeg_is_decoded_at_its_full_size(self, tmp_path: Path) -> None:
        noise(size=(400, 300)).save(tmp_path / "a.jpg")
        whole = Image.open(tmp_path / "a.jpg")
        crop = CropSource(FileSource(tmp_path / "a.jpg"), (101, 51, 150, 150), (400, 300))
        expected = Image.fromarray(crop_of(whole, (101, 51, 150, 150))).resize((20, 20), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(read_pixels(crop, (20, 20))[1], np.asarray(expected))

    def test_each_way_of_decoding_gives_its_own_pixels(self, tmp_path: Path) -> None:
        deep = np.random.default_rng(0).integers(0, 4096, (30, 40)).astype(np.uint16)
        Image.fromarray(deep).save(tmp_path / "deep.png")
        crop = CropSource(FileSource(tmp_path / "deep.png"), BOX, SIZE)
        for decoding in (Decoding(window="0,4095"), Decoding(), Decoding(window="0,4095")):
            _, whole = read_pixels(crop.source, decoding=decoding)
            _, pixels = read_pixels(crop, decoding=decoding)
            np.testing.assert_array_equal(pixels, whole[3:17, 5:25])

    @pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, 0, 0, 5), (36, 0, 5, 5), (0, 26, 5, 5)])
    def test_a_box_outside_the_image_is_refused(self, file: Path, box: tuple[int, int, int, int]) -> None:
        with pytest.raises(BadImage, match="has 40 x 30 pixels, none or not all of which are its box"):
            CropSource(FileSource(file), box, SIZE).load()

    def test_features_are_those_of_files_that_pillow_has_cropped(self, tmp_path: Path, file: Path) -> None:
        boxes = [BOX, (0, 0, 40, 30), (39, 29, 1, 1), (7, 9, 9, 17)]
        for number, (left, top, width, height) in enumerate(boxes):
            Image.open(file).crop((left, top, left + width, top + height)).save(tmp_path / f"crop {number}.png")
        ids = tuple(map(str, range(len(boxes))))
        crops = Dataset("crops", ids, tuple(CropSource(FileSource(file), box, SIZE) for box in boxes), None)
        files = Dataset("files", ids, tuple(FileSource(tmp_path / f"crop {number}.png") for number in range(4)), None)
        request = FeatureRequest(Net("glyphnet"), ("block1_pool",))
        rows = []
        for dataset in (crops, files):
            cache = FeatureCache(tmp_path / dataset.name)
            assert extract(dataset, request, cache).rows_computed == 4
            rows.append(np.asarray(stored_features(dataset, request, cache).features["block1_pool"][:]))
        np.testing.assert_array_equal(*rows)


class TestIdentity:
    def test_the_digest_is_of_the_image_and_of_the_box(self, file: Path, tmp_path: Path) -> None:
        crop = CropSource(FileSource(file), BOX, SIZE)
        (tmp_path / "copy.png").write_bytes(file.read_bytes())
        copy = replace(crop, source=FileSource(tmp_path / "copy.png"))
        other = replace(crop, box=(5, 3, 20, 13))
        assert crop.load()[0] == copy.load()[0]
        assert len({crop.load()[0], other.load()[0], crop.source.load()[0]}) == 3
        stamps = [source.stamp() for source in (crop, other, crop.source, replace(crop, size=(30, 40)))]
        assert len({stamp[0] for stamp in stamps if stamp}) == 4

    def test_a_file_that_changes_gives_other_boxes(self, file: Path) -> None:
        crop = CropSource(FileSource(file), BOX, SIZE)
        digest, _ = crop.load()
        noise(1).save(file)
        os.utime(file, ns=(1, 1))
        changed, pixels = read_pixels(crop)
        assert changed != digest
        np.testing.assert_array_equal(pixels, crop_of(noise(1), BOX))

    def test_boxes_of_an_image_stay_together_in_splits(self, file: Path, tmp_path: Path) -> None:
        noise(1).save(tmp_path / "b.png")
        first, second = FileSource(file), FileSource(tmp_path / "b.png")
        sources = (CropSource(first, BOX, SIZE), CropSource(second, BOX, SIZE), CropSource(first, (0, 0, 9, 9), SIZE))
        dataset = Dataset("boxes", ("1", "2", "3"), sources, None)
        assert page_groups(dataset).tolist() == [0, 1, 0]
        assert page_groups(with_max_pixels(dataset, 10**6)).tolist() == [0, 1, 0]
        assert expand_pages(dataset) is dataset
        assert with_max_pixels(dataset, 10**6)[0].source.max_pixels == 10**6  # type: ignore[attr-defined]

    def test_boxes_in_copies_of_an_image_stay_together_and_nothing_is_read_for_that(
        self, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("feature_cache.files.digest_memo.RACY_NANOSECONDS", -(10**12))  # files are trusted at once
        (tmp_path / "copy.png").write_bytes(file.read_bytes())
        (tmp_path / "whole.png").write_bytes(file.read_bytes())
        noise(1).save(tmp_path / "b.png")
        (tmp_path / "padded.png").write_bytes((tmp_path / "b.png").read_bytes() + b" ")
        first, copy, other, padded = (FileSource(tmp_path / f"{name}.png") for name in ("a", "copy", "b", "padded"))
        sources = [
            CropSource(first, BOX),
            CropSource(other, BOX),
            CropSource(copy, (6, 3, 20, 14)),
            CropSource(padded, BOX),
        ]
        dataset = Dataset("boxes", tuple("12345"), (*sources, FileSource(tmp_path / "whole.png")), None)
        assert dataset.page_groups().tolist() == [0, 1, 2, 3, 4]
        cache = FeatureCache(tmp_path / "cache")
        dataset.identify(cache)
        read: list[Path] = []
        monkeypatch.setattr(FileSource, "read", lambda self: read.append(self.path))
        known = dataset.identify(cache)
        assert known.page_groups().tolist() == [0, 1, 0, 2, 0]
        assert known.select(np.array([2, 4, 3])).groups([]).tolist() == [0, 0, 1]
        assert read == []

    def test_copies_are_recognised_without_a_memo(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "copy.png").write_bytes(file.read_bytes())
        noise(1).save(tmp_path / "b.bmp")
        noise(2).save(tmp_path / "c.bmp")  # of the same size
        (tmp_path / "memo").write_text("no database")
        names = ("a.png", "copy.png", "b.bmp", "c.bmp", "none.png", "none.jpg")
        sources = tuple(CropSource(FileSource(tmp_path / name), (n, 0, 9, 9)) for n, name in enumerate(names))
        dataset = Dataset("boxes", names, sources, None).identify(DigestMemo(tmp_path / "memo"))
        assert dataset.page_groups().tolist() == [0, 0, 1, 2, 3, 4]

    def test_an_image_is_decoded_once_for_boxes_one_after_another(
        self, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        noise(1).save(tmp_path / "b.png")
        decoded = []
        decode = PillowPicture.decode

        def counted(self: PillowPicture, *arguments: object, **options: object) -> object:
            decoded.append(self)
            return decode(self, *arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(PillowPicture, "decode", counted)
        spec = FeatureSpec(net="toy", weights="none", layer="l", size=(8, 8))
        for path in (file, tmp_path / "b.png", file):
            for box in (BOX, (0, 0, 9, 9), (1, 1, 5, 5)):
                _, picture = CropSource(FileSource(path), box, SIZE).load()
                pixels_for(picture, spec, "crop")
        assert len(decoded) == 3
        monkeypatch.setattr("transfer.data.annotation.crop_source.KEPT_PIXELS", 100)
        for box in (BOX, (0, 0, 9, 9)):
            read_pixels(CropSource(FileSource(tmp_path / "b.png"), box, SIZE))
        assert len(decoded) == 5

    def test_an_image_is_read_once_by_threads_that_look_up_its_boxes(
        self, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = []
        load = FileSource.load

        def counted(self: FileSource) -> object:
            read.append(self.path.name)
            return load(self)

        monkeypatch.setattr(FileSource, "load", counted)
        boxes = [(left, 0, 5, 5) for left in range(20)]
        crops = Dataset(
            "crops", tuple(map(str, boxes)), tuple(CropSource(FileSource(file), b, SIZE) for b in boxes), None
        )
        known = crops.identify(FeatureCache(tmp_path / "cache"))
        assert len(np.unique(known.digests, axis=0)) == 20
        assert read == ["a.png"]

    def test_a_file_that_changes_between_header_and_pixels_is_not_mixed_up(self, file: Path) -> None:
        crop = CropSource(FileSource(file), BOX, SIZE)
        _, picture = crop.load()
        noise(1).save(file)
        os.utime(file, ns=(1, 1))
        with pytest.raises(BadImage, match="has changed while it was read"):
            picture.decode()

    def test_a_damaged_image_is_told_for_each_box(self, file: Path) -> None:
        file.write_bytes(file.read_bytes()[:200])
        for box in (BOX, (0, 0, 9, 9)):
            with pytest.raises(BadImage, match=r"a\.png#.* cannot be decoded"):
                read_pixels(CropSource(FileSource(file), box, SIZE))
        file.write_bytes(b"")
        with pytest.raises(BadImage, match="is empty"):
            CropSource(FileSource(file), BOX, SIZE).load()


def test_a_box_may_be_in_a_box_and_travels_to_other_processes(file: Path) -> None:
    outer = CropSource(FileSource(file), BOX, SIZE)
    inner = CropSource(outer, (2, 3, 4, 5))
    assert pickle.loads(pickle.dumps(inner)) == inner
    np.testing.assert_array_equal(read_pixels(inner)[1], crop_of(noise(), (7, 6, 4, 5)))
    assert inner.whole == outer.whole


def test_a_table_names_boxes_by_the_ids_that_they_have(file: Path, tmp_path: Path) -> None:
    noise(1).save(tmp_path / "b#1,2,3,4", "PNG")
    (tmp_path / "boxes.csv").write_text(
        'id,class\n"a.png#5,3,20,14",x\n"a.png#0,0,9,9",y\na.png,x\n"a#1,1,2,2",x\n"b#1,2,3,4",y\n"a.png#39,0,2,9",y\n'
    )
    dataset = datasets.load(str(tmp_path / "boxes.csv"))
    _, pixels = read_pixels(dataset[0])
    np.testing.assert_array_equal(pixels, crop_of(noise(), BOX))
    assert dataset[0].load()[0] == CropSource(FileSource(file), BOX, SIZE).load()[0]
    assert [source.load()[1].shape for source in dataset.sources[1:5]] == [(9, 9), (30, 40), (2, 2), (30, 40)]
    assert page_groups(dataset).tolist() == [0, 0, 0, 0, 1, 0]  # the image itself is in the group of its boxes
    with pytest.raises(BadImage, match=r"none or not all of which are its box 39,0,2,9"):
        dataset[5].load()


def test_pages_of_boxes_are_those_of_their_source(tmp_path: Path) -> None:
    pages = [noise(seed) for seed in range(2)]
    stream = io.BytesIO()
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:])
    (tmp_path / "stack.tif").write_bytes(stream.getvalue())
    first, second = (CropSource(FileSource(tmp_path / "stack.tif", page), BOX, SIZE) for page in range(2))
    np.testing.assert_array_equal(read_pixels(second)[1], crop_of(pages[1], BOX))
    assert first.load()[0] != second.load()[0]
    assert first.whole == second.whole
