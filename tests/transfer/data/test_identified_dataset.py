"""A data set that has been identified carries its digests along, and finds out nothing twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage
from transfer.data import dataset as dataset_module
from transfer.data import datasets
from transfer.data.dataset import IdentifiedDataset
from transfer.data.datasets import Dataset
from transfer.data.images import ArraySource
from transfer.nets.catalogue import Net

SPEC = Net("glyphnet").spec("block1_pool")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of three images: one is a copy, and one cannot be read."""
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for number, name in enumerate(("a/1", "a/2", "b/1")):
        pixels = np.random.default_rng(number).integers(0, 256, (9, 9), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{name}.png")
    (tmp_path / "data" / "b" / "2.png").write_bytes((tmp_path / "data" / "a" / "2.png").read_bytes())
    (tmp_path / "data" / "b" / "3.png").write_text("no image")
    return tmp_path / "data"


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


@pytest.fixture
def known(folder: Path, cache: FeatureCache) -> IdentifiedDataset:
    return datasets.load(str(folder)).identify(cache)


def test_an_identified_data_set_is_the_data_set_with_the_digests_of_its_images(
    folder: Path, cache: FeatureCache, known: IdentifiedDataset
) -> None:
    plain = datasets.load(str(folder))
    expected, unreadable = datasets.digests(plain, cache.memo)
    assert isinstance(known, Dataset)
    assert (known.ids, known.sources, known.name) == (plain.ids, plain.sources, plain.name)
    np.testing.assert_array_equal(known.digests, expected)
    assert known.unreadable == tuple(unreadable)
    assert [problem.id for problem in known.unreadable] == ["b/3.png"]


def test_a_cache_or_its_memo_may_be_given(folder: Path, cache: FeatureCache, known: IdentifiedDataset) -> None:
    by_memo = datasets.load(str(folder)).identify(cache.memo)
    np.testing.assert_array_equal(by_memo.digests, known.digests)


def test_what_is_known_is_not_found_out_again(
    known: IdentifiedDataset, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_module, "digests", lambda *_: pytest.fail("asked for digests"))
    assert known.identify(cache) is known
    part = known.select(np.array([4, 0]))
    assert part.identify(cache) is part
    assert part.ids == ("b/3.png", "a/1.png")
    np.testing.assert_array_equal(part.digests, known.digests[[4, 0]])
    assert part.unreadable == known.unreadable
    assert known.select(known.labels == "a").unreadable == ()


def test_the_first_image_of_each_content_stands_for_its_copies(known: IdentifiedDataset) -> None:
    assert known.ids == ("a/1.png", "a/2.png", "b/1.png", "b/2.png", "b/3.png")
    assert known.first_of_each.tolist() == [0, 1, 2]
    digests = np.zeros((7, 16), np.uint8)  # halves of them are equal by chance, or by malice
    digests[:, 0], digests[:, 15] = [2, 1, 2, 2, 1, 0, 1], [5, 5, 6, 5, 5, 0, 4]
    some = IdentifiedDataset("x", range(7), (), None, digests=digests, unreadable=(), memo=known.memo)
    assert some.first_of_each.tolist() == [0, 1, 2, 6]
    none = IdentifiedDataset("x", (), (), None, digests=digests[:0], unreadable=(), memo=known.memo)
    assert none.first_of_each.tolist() == []


def test_an_error_of_an_image_is_one_of_its_copies_too(known: IdentifiedDataset) -> None:
    assert known.with_content_of({}) == []
    problems = known.with_content_of({3: BadImage("a/2.png is cut off.")})
    assert [(problem.id, problem.message) for problem in problems] == [
        ("a/2.png", "a/2.png is cut off."),
        ("b/2.png", "a/2.png is cut off."),
    ]


def test_copies_are_in_one_group(known: IdentifiedDataset) -> None:
    readable = known.select(np.arange(4))
    groups = readable.groups([SPEC])
    assert groups[1] == groups[3]
    assert len(np.unique(groups)) == 3
    np.testing.assert_array_equal(readable.copy_groups([SPEC]), groups)
    recognised = readable.identity_digests([SPEC])
    assert recognised.shape == (4, 2, 16)
    np.testing.assert_array_equal(recognised[:, 0], readable.digests)


def test_arrays_that_are_changed_afterwards_are_not_taken_for_what_they_were(cache: FeatureCache) -> None:
    pixels = np.zeros((4, 4), np.uint8)
    dataset = Dataset("one", ("0",), (ArraySource(pixels, "0"),), None)
    before = dataset.identify(cache)
    pixels[0] = 9
    assert not np.array_equal(dataset.identify(cache).digests, before.digests)
    assert replace(before, name="same").digests is before.digests
