"""Images that a net cannot tell apart are in one group, whatever files they are in."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, PngImagePlugin
from skimage.data import astronaut, coffee

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage
from feature_cache.files.digest_memo import DigestMemo
from transfer.data import datasets
from transfer.data.augment import Augmentation
from transfer.data.copies import duplicates
from transfer.data.copies import pixel_digests as digests_module
from transfer.data.copies.groups import copy_groups, count_label_conflicts, merge_groups, near_groups, page_groups
from transfer.data.copies.pixel_digests import pixel_digests
from transfer.data.datasets import Dataset
from transfer.data.images import ArraySource
from transfer.data.pages import expand_pages
from transfer.extraction.extract import extract
from transfer.extraction.feature_set import FeatureSet
from transfer.extraction.lookup import stored_features
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

REQUEST = FeatureRequest(Net("glyphnet"), ("block1_pool",))
[SPEC] = REQUEST.specs


@pytest.fixture
def memo(tmp_path: Path) -> DigestMemo:
    return DigestMemo(tmp_path / "memo.sqlite")


def grouped(dataset: Dataset, memo: DigestMemo, *specs: object) -> np.ndarray:
    digests, unreadable = datasets.digests(dataset, memo)
    assert not unreadable
    return copy_groups(dataset, digests, specs or (SPEC,), memo)


def as_sets(dataset: Dataset, numbers: np.ndarray) -> set[frozenset[str]]:
    return {
        frozenset(name for name, own in zip(dataset.ids, numbers, strict=True) if own == number) for number in numbers
    }


def noise(seed: int, mode: str = "RGB", side: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side + 9, 3), np.uint8)).convert(mode)


def write_copies(folder: Path) -> set[frozenset[str]]:
    """Five images, each in several files of other bytes; the names of the files of each."""
    folder.mkdir(parents=True)
    colour, gray, mirrored = noise(0), noise(1, "L"), noise(2)
    about, exif, upright = PngImagePlugin.PngInfo(), Image.Exif(), Image.Exif()
    about.add_text("Comment", "written anew")
    exif[0x010E], upright[0x0112] = "another description", 6
    colour.save(folder / "colour.png")
    colour.save(folder / "colour level 0.png", compress_level=0)
    colour.save(folder / "colour text.png", pnginfo=about)
    colour.save(folder / "colour.bmp")
    colour.save(folder / "colour.tif", compression="tiff_lzw")
    colour.save(folder / "colour.ppm")
    colour.save(folder / "colour.webp", lossless=True)
    colour.convert("RGBA").save(folder / "colour opaque.png")
    gray.save(folder / "gray.png")
    gray.save(folder / "gray.gif")
    gray.save(folder / "gray.pgm")
    gray.convert("RGB").save(folder / "gray rgb.png")
    Image.fromarray(np.asarray(gray).astype(np.uint16) * 257).save(folder / "gray 16 bits.png")
    gray.quantize(256).save(folder / "gray palette.bmp")
    mirrored.save(folder / "upright.png")
    mirrored.transpose(Image.Transpose.ROTATE_90).save(folder / "upright turned.png", exif=upright)
    colour.save(folder / "jpeg.jpg", quality=80)
    colour.save(folder / "jpeg described.jpg", quality=80, exif=exif)
    Image.open(folder / "jpeg.jpg").save(folder / "jpeg decoded.png")
    noise(3).save(folder / "other.png")
    stems = {"colour", "gray", "upright", "jpeg", "other"}
    names = [file.name for file in folder.iterdir()]
    return {frozenset(name for name in names if name.replace(".", " ").split()[0] == stem) for stem in stems}


class TestCopies:
    def test_the_same_pixels_in_other_bytes_are_one_group(self, tmp_path: Path, memo: DigestMemo) -> None:
        expected = write_copies(tmp_path / "data")
        dataset = datasets.load(str(tmp_path / "data"))
        digests, _ = datasets.digests(dataset, memo)
        assert len(np.unique(digests, axis=0)) == len(dataset)  # no two files are equal
        assert as_sets(dataset, grouped(dataset, memo)) == expected
        for size, fit in (((20, 30), "crop"), ((90, 90), "pad"), ((49, 49), "stretch")):
            assert as_sets(dataset, grouped(dataset, memo, replace(SPEC, size=size, fit=fit))) == expected

    def test_an_array_and_its_file_are_one_group(self, tmp_path: Path, memo: DigestMemo) -> None:
        noise(0).save(tmp_path / "0.png")
        file = datasets.from_files([tmp_path / "0.png"])
        arrays = [ArraySource(np.asarray(image), str(n)) for n, image in enumerate((noise(0), noise(1), noise(1, "L")))]
        gray = ArraySource(np.repeat(np.asarray(noise(1, "L"))[..., None], 3, axis=2), "3")
        dataset = Dataset("mixed", ("f", "0", "1", "2", "3"), (*file.sources, *arrays, gray), None)
        assert as_sets(dataset, grouped(dataset, memo)) == {
            frozenset(some) for some in (("f", "0"), ("1",), ("2", "3"))
        }

    def test_a_jpeg_that_is_decoded_at_a_part_of_its_size_is_a_group_of_its_own(
        self, tmp_path: Path, memo: DigestMemo
    ) -> None:
        noise(0, side=400).save(tmp_path / "a.jpg")
        Image.open(tmp_path / "a.jpg").save(tmp_path / "b.png")
        dataset = datasets.from_files([tmp_path / "a.jpg", tmp_path / "b.png"])
        assert grouped(dataset, memo).tolist() != [0, 0]
        assert grouped(dataset, memo, replace(SPEC, size=(400, 400))).tolist() == [0, 0]

    def test_without_copies_groups_are_numbered_by_their_digests_as_ever(
        self, class_folder: Path, memo: DigestMemo
    ) -> None:
        dataset = datasets.load(str(class_folder))
        digests, _ = datasets.digests(dataset, memo)
        expected = np.unique(digests, axis=0, return_inverse=True)[1].reshape(-1)
        found = grouped(dataset, memo)
        assert (found.tolist(), found.dtype) == (expected.tolist(), expected.dtype)

    def test_images_that_are_equal_for_one_of_several_specs_are_one_group(self, memo: DigestMemo) -> None:
        fine = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
        coarse = fine[1::2, 1::2].repeat(2, axis=0).repeat(2, axis=1)  # of which the nearest pixels at half size are
        sources = tuple(ArraySource(pixels, str(number)) for number, pixels in enumerate((fine, coarse, coarse.T)))
        dataset = Dataset("three", ("0", "1", "2"), sources, None)
        full, half = (replace(SPEC, size=(side, side), interpolation="nearest") for side in (8, 4))
        assert len(set(grouped(dataset, memo, full))) == 3
        assert as_sets(dataset, grouped(dataset, memo, full, half)) == {frozenset("01"), frozenset("2")}

    def test_no_image_has_no_group(self, memo: DigestMemo) -> None:
        empty = Dataset("none", (), (), None)
        assert copy_groups(empty, np.zeros((0, 16), np.uint8), [SPEC], memo).tolist() == []

    def test_a_file_that_has_changed_since_is_told(self, tmp_path: Path, memo: DigestMemo) -> None:
        noise(0).save(tmp_path / "0.png")
        dataset = datasets.from_files([tmp_path / "0.png"])
        digests, _ = datasets.digests(dataset, memo)
        noise(1).save(tmp_path / "0.png")
        with pytest.raises(BadImage, match="has changed since it was first read; run the command again"):
            copy_groups(dataset, digests, [SPEC], memo)

    def test_an_image_that_cannot_be_decoded_any_more_is_grouped_by_its_bytes(
        self, tmp_path: Path, memo: DigestMemo
    ) -> None:
        noise(0).save(tmp_path / "0.png")
        encoded = (tmp_path / "0.png").read_bytes()
        for name in ("1.png", "2.png"):
            (tmp_path / name).write_bytes(encoded[: len(encoded) // 2])
        dataset = datasets.from_files([tmp_path / f"{n}.png" for n in range(3)])
        first, *others = grouped(dataset, memo)
        assert others[0] == others[1] != first


class TestUnited:
    def test_what_either_puts_together_stays_together(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(50):
            one, other = (np.unique(rng.integers(0, 12, 15), return_inverse=True)[1] for _ in range(2))
            expected = (one[:, None] == one) | (other[:, None] == other)
            for _ in range(15):
                expected |= (expected.astype(int) @ expected) > 0
            found = merge_groups(one, other)
            assert np.array_equal(found[:, None] == found, expected)
            assert sorted(set(found)) == list(range(found.max() + 1))
            firsts = [one[found == number].min() for number in range(found.max() + 1)]
            assert firsts == sorted(firsts)


class TestMemo:
    @pytest.fixture
    def dataset(self, tmp_path: Path) -> Dataset:
        write_copies(tmp_path / "data")
        return datasets.load(str(tmp_path / "data"))

    @pytest.fixture
    def cache(self, tmp_path: Path) -> FeatureCache:
        return FeatureCache(tmp_path / "cache")

    @staticmethod
    def cached(dataset: Dataset, cache: FeatureCache) -> FeatureSet:
        return stored_features(dataset, REQUEST, FeatureCache(cache.root))

    def test_extraction_leaves_nothing_to_be_decoded(
        self, dataset: Dataset, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        extract(dataset, REQUEST, cache)
        calls = counted_decoding(monkeypatch)
        assert len(set(self.cached(dataset, cache).groups)) == 5
        assert calls == []

    def test_without_the_memo_groups_are_the_same_and_decoded_once(
        self, dataset: Dataset, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        extract(dataset, REQUEST, cache)
        expected = self.cached(dataset, cache).groups
        (cache.root / "digests.sqlite").unlink()
        calls, progress = counted_decoding(monkeypatch), []
        found = self.cached(dataset, cache)
        decoded = copy_groups(found.dataset, found.digests, found.specs, found.memo, lambda *of: progress.append(of))
        assert np.array_equal(decoded, expected)
        assert len(calls) == len(dataset)
        assert progress == [(done, len(dataset)) for done in range(1, len(dataset) + 1)]
        assert np.array_equal(self.cached(dataset, cache).groups, expected)
        assert len(calls) == len(dataset)

    def test_a_memo_that_cannot_be_read_or_written_costs_decoding_alone(
        self, dataset: Dataset, cache: FeatureCache
    ) -> None:
        cache.root.mkdir(parents=True)
        (cache.root / "digests.sqlite").write_bytes(b"not a data base at all " * 100)
        extract(dataset, REQUEST, cache)
        assert len(set(self.cached(dataset, cache).groups)) == 5

    def test_groups_after_an_interruption_are_those_of_an_uninterrupted_extraction(
        self, dataset: Dataset, cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(done: int, total: int) -> None:
            if done >= 8:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            extract(dataset, REQUEST, cache, batch_size=4, progress=interrupt)
        report = extract(dataset, REQUEST, cache)
        assert 0 < report.rows_computed < len(dataset)
        whole = FeatureCache(tmp_path / "whole")
        extract(dataset, REQUEST, whole)
        calls = counted_decoding(monkeypatch)
        assert np.array_equal(self.cached(dataset, cache).groups, self.cached(dataset, whole).groups)
        assert calls == []  # what was decoded before the interruption is known, too

    @pytest.mark.slow
    def test_rows_computed_from_stored_layers_have_groups(
        self, dataset: Dataset, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        extract(dataset, replace(REQUEST, pooling="none"), cache)
        (cache.root / "digests.sqlite").unlink()
        deeper = FeatureRequest(Net("glyphnet"), ("block2_pool",))
        monkeypatch.setattr("transfer.extraction.from_shallower.DECODE_SECONDS", 1.0)
        assert extract(dataset, deeper, cache).started_from == ["block1_pool"]
        assert len(set(stored_features(dataset, deeper, cache).groups)) == 5

    def test_views_have_the_groups_of_the_plain_images(
        self, dataset: Dataset, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wanted = replace(REQUEST, views=3, augmentation=Augmentation(rotate=20).key)
        extract(dataset, wanted, cache)
        calls = counted_decoding(monkeypatch)
        found = stored_features(dataset, wanted, cache).groups
        extract(dataset, REQUEST, cache)
        assert np.array_equal(found, self.cached(dataset, cache).groups)
        assert calls == []

    def test_equal_files_are_decoded_once(
        self, tmp_path: Path, memo: DigestMemo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        noise(0).save(tmp_path / "0.png")
        for number in range(1, 5):
            shutil.copy(tmp_path / "0.png", tmp_path / f"{number}.png")
        calls = counted_decoding(monkeypatch)
        dataset = datasets.from_files([tmp_path / f"{number}.png" for number in range(5)])
        assert grouped(dataset, memo).tolist() == [0] * 5
        assert len(calls) == 1

    def test_digests_of_another_size_are_not_taken(self, dataset: Dataset, memo: DigestMemo) -> None:
        digests, _ = datasets.digests(dataset, memo)
        small, large = (
            pixel_digests(dataset, digests, replace(SPEC, size=(side, side)), memo) for side in (8, 16)
        )  # fmt: skip
        assert not (small == large).all(axis=1).any()


def counted_decoding(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The sources that `transfer.data.copies.pixel_digests` decodes from now on."""
    calls: list[object] = []
    decode = digests_module._pixels

    def counting(source: object, spec: object) -> object:
        calls.append(source)
        return decode(source, spec)

    monkeypatch.setattr(digests_module, "_pixels", counting)
    return calls


class TestNear:
    @pytest.fixture
    def dataset(self, tmp_path: Path) -> Dataset:
        """Two photographs, each with a copy in other bytes, brighter, and smaller; and a third image."""
        for name, pixels in (("astronaut", astronaut()), ("coffee", coffee())):
            photo = Image.fromarray(pixels).resize((300, 240))
            photo.save(tmp_path / f"{name}.png")
            photo.save(tmp_path / f"{name}.bmp")
            ImageEnhance.Brightness(photo).enhance(1.1).save(tmp_path / f"{name} brighter.png")
            photo.resize((150, 120)).save(tmp_path / f"{name} smaller.png")
        noise(0).save(tmp_path / "other.png")
        return datasets.from_files(sorted(tmp_path.iterdir()))

    def test_changed_copies_stay_together(self, dataset: Dataset, memo: DigestMemo) -> None:
        exact = grouped(dataset, memo)
        assert len(set(exact)) == 7
        near = near_groups(dataset, exact, SPEC)
        found = {frozenset(Path(name).stem.split()[0] for name in some) for some in as_sets(dataset, near.groups)}
        assert found == {frozenset([name]) for name in ("astronaut", "coffee", "other")}
        assert near.groups.max() == 2
        assert (near.images, near.count, near.largest) == (8, 2, 4)
        assert near.pairs >= 4

    def test_all_pairs_count_however_few_explore_keeps(
        self, dataset: Dataset, memo: DigestMemo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exact = grouped(dataset, memo)
        expected = near_groups(dataset, exact, SPEC)
        for name in ("MOST_PAIRS", "_BLOCK_ROWS", "_BLOCK_COLUMNS"):
            monkeypatch.setattr(duplicates, name, 1)
        assert np.array_equal(near_groups(dataset, exact, SPEC).groups, expected.groups)

    def test_without_near_duplicates_the_groups_are_those_of_the_copies(
        self, class_folder: Path, memo: DigestMemo
    ) -> None:
        dataset = datasets.load(str(class_folder))
        exact = grouped(dataset, memo)
        near = near_groups(dataset, exact, SPEC)
        assert near.groups.tolist() == exact.tolist()
        assert (near.pairs, near.images, near.count, near.largest) == (0, 0, 0, 0)


def test_conflicts_are_the_images_of_groups_with_several_labels() -> None:
    labels = np.array(["a", "b", "a", "a", "c", "a"])
    assert count_label_conflicts(np.array([7, 7, 3, 3, 1, 7]), labels) == 3
    assert count_label_conflicts(np.arange(6), labels) == 0
    assert count_label_conflicts(np.zeros(6, int), labels) == 6


def test_pages_of_a_file_stay_together(tmp_path: Path, memo: DigestMemo) -> None:
    frames = [noise(number, "L") for number in range(6)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:3])
    frames[3].save(tmp_path / "b.tif", save_all=True, append_images=frames[4:])
    frames[4].save(tmp_path / "c.png")
    dataset = expand_pages(datasets.load(str(tmp_path)))
    assert page_groups(dataset).tolist() == [0, 0, 0, 1, 1, 1, 2]
    (tmp_path / "table.csv").write_text("id\na.tif#2\nc.png\na.tif\nb.tif\n")
    assert page_groups(datasets.load(str(tmp_path / "table.csv"))).tolist() == [0, 1, 0, 2]
    cache = FeatureCache(tmp_path / "cache")
    extract(dataset, REQUEST, cache)
    first, second = dataset.ids[:3], dataset.ids[3:]  # c.png is a copy of a page of b.tif
    groups = stored_features(dataset, REQUEST, cache).groups
    assert as_sets(dataset, groups) == {frozenset(first), frozenset(second)}
