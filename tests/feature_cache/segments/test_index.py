"""The index of a space finds rows by their keys, and its file only ever saves work."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xxhash
from cache_helpers import in_child

from feature_cache import FeatureCache, FeatureSpec, Space
from feature_cache.errors import MissingFeatures
from feature_cache.segments import index
from feature_cache.segments.index import STALE_SEGMENTS, KeyIndex, ListedSegment

GOLDEN = 0x9E3779B97F4A7C15  # what short keys are made with: two that are alike can be made by hand


def made(digests: np.ndarray, views: np.ndarray, parts: int = 1) -> KeyIndex:
    """An index over segments that do not exist."""
    cuts = np.linspace(0, len(views), parts + 1).astype(int)
    return KeyIndex.of(
        [
            (
                ListedSegment(f"segment-{number}.h5", 10_000, 1, int(stop - start)),
                digests[start:stop],
                views[start:stop],
            )
            for number, (start, stop) in enumerate(zip(cuts[:-1], cuts[1:], strict=True))
        ]
    )


def by_hand(digests: np.ndarray, views: np.ndarray) -> dict[tuple[bytes, int], int]:
    """The first id of each key."""
    found: dict[tuple[bytes, int], int] = {}
    for number, key in enumerate(zip(map(bytes, digests), views.tolist(), strict=True)):
        found.setdefault(key, number)
    return found


def assert_found(one: KeyIndex, digests: np.ndarray, views: np.ndarray) -> None:
    expected = by_hand(one.digests, one.views)
    found = one.find(digests, views)
    assert found.dtype == np.int64
    wanted = zip(map(bytes, digests), views.tolist(), strict=True)
    assert found.tolist() == [expected.get(key, -1) for key in wanted]


# Finding.


@pytest.mark.parametrize("values", [2, 256], ids=["many alike", "few alike"])
@pytest.mark.parametrize("parts", [1, 7])
def test_rows_are_found_by_content_and_view(values: int, parts: int):
    rng = np.random.default_rng(0)
    digests = np.zeros((500, 16), np.uint8)
    digests[:, [0, 7, 8, 15]] = rng.integers(0, values, (500, 4))  # alike in the first eight bytes, or in the last
    views = rng.integers(0, 3, 500).astype(np.uint32)
    one = made(digests[:400], views[:400], parts)
    assert_found(one, digests, views)
    assert_found(one, digests[::-3], views[::-3])
    assert_found(one, np.asfortranarray(digests), (views + 1) % 3)


def test_copies_are_found_as_the_first_of_them():
    digests = np.random.default_rng(0).integers(0, 256, (4, 16), dtype=np.uint8)
    digests, views = digests[[0, 1, 1, 2, 0, 1, 3]], np.array([0, 0, 0, 0, 0, 1, 0], np.uint32)
    one = made(digests, views, 3)
    assert one.find(digests, views).tolist() == [0, 1, 1, 3, 0, 5, 6]
    assert one.first.tolist() == [0, 1, 1, 3, 0, 5, 6]
    assert one.distinct.tolist() == [0, 1, 3, 5, 6]
    assert len(one) == 7


def test_digests_alike_in_their_first_eight_bytes_are_told_apart():
    digests = np.zeros((300, 16), np.uint8)
    digests[:, 8] = np.arange(300) % 256
    digests[:, 9] = np.arange(300) // 256
    views = np.zeros(300, np.uint32)
    one = made(digests[::-1][100:], views[100:], 2)
    assert_found(one, digests, views)
    assert one.first.tolist() == list(range(200))


def test_views_that_make_different_digests_look_alike_are_told_apart():
    digests, views = np.zeros((3, 16), np.uint8), np.array([0, 1, 70_000], np.uint32)
    for number, view in enumerate(views.tolist()):
        head = (12345 - view * GOLDEN) % 2**64
        digests[number, :8] = np.frombuffer(head.to_bytes(8, "little"), np.uint8)
    one = made(digests, views)
    assert one.find(digests, views).tolist() == [0, 1, 2]
    assert one.find(digests, views[::-1].copy()).tolist() == [-1, 1, -1]
    assert one.find(digests[[2, 0]], views[[0, 0]]).tolist() == [-1, 0]


def test_digest_of_the_largest_number_is_found():
    digests, views = np.full((2, 16), 255, np.uint8), np.array([0, 2**32 - 1], np.uint32)
    assert_found(made(digests, views), digests, views)
    assert_found(made(digests[:1], views[:1]), digests, views)


def test_empty_index_finds_nothing_and_nothing_is_found_for_no_keys():
    digests, views = np.ones((3, 16), np.uint8), np.zeros(3, np.uint32)
    empty = KeyIndex.of([])
    assert len(empty) == 0
    assert empty.find(digests, views).tolist() == [-1] * 3
    assert empty.starts.tolist() == [0]
    assert empty.distinct.tolist() == empty.first.tolist() == []
    assert made(digests, views).find(digests[:0], views[:0]).tolist() == []
    assert made(digests[:0], views[:0], 3).starts.tolist() == [0] * 4


# Its file.


@pytest.fixture
def filled(cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable) -> Space:
    """A space with images 0 to 19 in ten segments, of which there is an index file."""
    for first in range(0, 20, 2):
        add(cache, *made_rows(first, 2))
    assert len(cache[spec]) == 20
    assert (cache[spec].folder / "index.bin").exists()
    return cache[spec]


@pytest.fixture
def rows_are_right(cache: FeatureCache, spec: FeatureSpec, made_rows: Callable) -> Callable[[int], None]:
    """A function that tells whether just the first `number` images are found, and right."""

    def check(number: int) -> None:
        digests, rows = made_rows(0, 40)
        space = cache[spec]
        assert space.has(digests).tolist() == [True] * number + [False] * (40 - number)
        np.testing.assert_array_equal(np.asarray(space.rows(digests[:number])), rows[:number])

    return check


def known(space: Space) -> int:
    """How many rows the index file of a space knows."""
    return len(index.load(space.folder, space.spec.to_json()))


def test_saved_index_is_loaded_as_it_was(tmp_path: Path, spec: FeatureSpec):
    digests = np.random.default_rng(0).integers(0, 256, (50, 16), dtype=np.uint8)
    one = made(digests, np.arange(50, dtype=np.uint32), 4)
    one.save(tmp_path, spec.to_json())
    assert [path.name for path in tmp_path.iterdir()] == ["index.bin"]
    again = index.load(tmp_path, spec.to_json())
    assert again.listed == one.listed
    for name in ("digests", "views", "starts"):
        assert getattr(again, name).dtype == getattr(one, name).dtype
        np.testing.assert_array_equal(getattr(again, name), getattr(one, name))


def test_empty_index_is_saved_and_loaded(tmp_path: Path, spec: FeatureSpec):
    KeyIndex.of([]).save(tmp_path, spec.to_json())
    assert index.load(tmp_path, spec.to_json()).listed == ()


def test_index_of_another_spec_and_one_that_is_not_there_are_empty(tmp_path: Path, spec: FeatureSpec):
    assert len(index.load(tmp_path, spec.to_json())) == 0
    made(np.zeros((1, 16), np.uint8), np.zeros(1, np.uint32)).save(tmp_path, spec.to_json())
    assert len(index.load(tmp_path, spec.to_json())) == 1
    assert len(index.load(tmp_path, replace(spec, layer="fc1").to_json())) == 0


def test_index_is_written_once_enough_segments_are_new(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable, rows_are_right: Callable
):
    for number in range(1, 2 * STALE_SEGMENTS + 2):
        add(cache, *made_rows(number - 1, 1))
        rows_are_right(number)
        assert (cache[spec].folder / "index.bin").exists() == (number >= STALE_SEGMENTS)
    assert known(cache[spec]) == 2 * STALE_SEGMENTS


def test_segments_that_the_index_knows_are_not_opened(filled: Space, made_rows: Callable):
    for path in filled.folder.glob("segment-*.h5"):
        stamp = path.stat().st_mtime_ns
        path.write_bytes(bytes(path.stat().st_size))
        os.utime(path, ns=(stamp, stamp))
    assert filled.has(made_rows(0, 21)[0]).tolist() == [True] * 20 + [False]


def test_index_that_lacks_segments_is_completed(
    cache: FeatureCache, filled: Space, made_rows: Callable, add: Callable, rows_are_right: Callable
):
    for first in range(20, 26, 2):
        add(cache, *made_rows(first, 2))
    rows_are_right(26)
    assert known(filled) == 20  # three segments are read as fast as an index is written


def test_index_that_knows_removed_segments_is_not_believed(
    cache: FeatureCache, spec: FeatureSpec, filled: Space, made_rows: Callable
):
    digests, rows = made_rows(0, 20)
    gone = next(part for part in filled.segments if digests[6].tolist() in part.digests.tolist())
    gone.path.unlink()
    assert cache[spec].has(digests).tolist() == [row not in (6, 7) for row in range(20)]
    with pytest.raises(MissingFeatures, match="^2 of 20 rows"):
        cache[spec].rows(digests)
    others = np.r_[0:6, 8:20]
    np.testing.assert_array_equal(np.asarray(cache[spec].rows(digests[others])), rows[others])


def test_index_that_knows_another_file_of_the_same_name_is_not_believed(
    cache: FeatureCache, spec: FeatureSpec, filled: Space, made_rows: Callable, add: Callable
):
    digests, rows = made_rows(0, 22)
    add(cache, digests[20:], rows[20:])
    old, new = (
        next(part.path for part in cache[spec].segments if digests[row].tolist() in part.digests.tolist())
        for row in (6, 20)
    )
    new.replace(old)
    assert cache[spec].has(digests).tolist() == [row not in (6, 7) for row in range(22)]
    np.testing.assert_array_equal(np.asarray(cache[spec].rows(digests[20:])), rows[20:])


def test_all_segments_removed_is_an_empty_space(cache: FeatureCache, spec: FeatureSpec, filled: Space):
    for path in filled.folder.glob("segment-*.h5"):
        path.unlink()
    assert len(cache[spec]) == 0
    assert cache[spec].row_shape is None


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _flipped(place: int) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[place] ^= 1
        file.write_bytes(content)

    return change


def _told(**values: object) -> Callable[[Path], None]:
    """Another head, with a checksum that agrees."""

    def change(file: Path) -> None:
        content = file.read_bytes()
        end = 24 + int.from_bytes(content[16:24], "little")
        head = json.dumps({**json.loads(content[24:end]), **values}).encode()
        rest = len(head).to_bytes(8, "little") + head + content[end:]
        file.write_bytes(xxhash.xxh3_128(rest).digest() + rest)

    return change


SPOILT = {
    "missing": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_text("digest: see the other folder\n" * 1000),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"more"),
    "checksum changed": _flipped(3),
    "head changed": _flipped(30),
    "digest changed": _flipped(-100),
    "view changed": _flipped(-1),
    "future": _told(layertap_format=3),
    "format of text": _told(layertap_format="two"),
    "other spec": _told(spec="{}"),
    "spec of numbers": _told(spec=[1, 2, 3]),
    "no segments": _told(segments=None),
    "too large": _told(segments=[["segment-a.h5", 1, 1, 2**60]]),
    "negative": _told(segments=[["segment-a.h5", 1, 1, 30], ["segment-b.h5", 1, 1, -10]]),
    "rows of text": _told(segments=[["segment-a.h5", 1, 1, "20"]]),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_spoilt_index_is_ignored_and_made_again(filled: Space, rows_are_right: Callable, kind: str):
    SPOILT[kind](filled.folder / "index.bin")
    assert known(filled) == 0
    rows_are_right(20)
    assert known(filled) == 20


def test_index_that_cannot_be_written_is_done_without(filled: Space, rows_are_right: Callable):
    _folder(filled.folder / "index.bin")
    rows_are_right(20)
    rows_are_right(20)
    assert not list(filled.folder.glob(".*.tmp"))


def _outcomes(filled: Space, digests: np.ndarray, rows: np.ndarray, contents: list[bytes]) -> Counter[str]:
    file, found = filled.folder / "index.bin", Counter()
    for content in contents:
        file.write_bytes(content)
        try:
            right = (np.asarray(filled.again().rows(digests)) == rows).all()
            found["right" if right and known(filled) == 20 else f"wrong: {known(filled)}"] += 1
        except BaseException as error:
            found[f"{type(error).__name__}: {error}"] += 1
    return found


@pytest.mark.parametrize(("damage", "times"), [("flipped", 30), ("truncated", 10), ("blank", 10)])
def test_damaged_index_never_leads_to_wrong_rows(filled: Space, made_rows: Callable, damage: str, times: int):
    content = (filled.folder / "index.bin").read_bytes()
    places = range(0, len(content), max(1, len(content) // times))
    spoilt = []
    for number, place in enumerate(places):
        flipped = bytes([content[place] ^ (0xFF, 0x01, 0x80)[number % 3]])
        spoilt.append(
            {
                "flipped": content[:place] + flipped + content[place + 1 :],
                "truncated": content[:place],
                "blank": content[:place] + bytes(512) + content[place + 512 :],
            }[damage]
        )
    assert in_child(_outcomes, filled, *made_rows(0, 20), spoilt) == {"right": len(spoilt)}
