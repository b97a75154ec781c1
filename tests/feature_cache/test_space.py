"""Spaces of a cache: what is in them, found by content and view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from feature_cache import Cache, FeatureSpec, Space, segment
from feature_cache.errors import DamagedFile, MissingFeatures, StorageFailure


@pytest.fixture
def filled(cache: Cache, spec: FeatureSpec, made_rows: Callable, add: Callable) -> Space:
    """A space with images 0 to 9, in segments of 3, 5 and 2 rows."""
    for first, number in ((0, 3), (3, 5), (8, 2)):
        add(cache, *made_rows(first, number))
    return cache.space(spec)


def test_cache_that_does_not_exist_is_empty_and_is_not_made(cache: Cache, spec: FeatureSpec, made_rows: Callable):
    digests, _ = made_rows(0, 3)
    assert cache.spaces() == []
    assert cache.space(spec).segments == []
    assert not cache.space(spec).has(digests).any()
    assert cache.memo.recall([("/a.png", 1, 1)]) == {}
    assert not cache.root.exists()


def test_empty_space(space: Space, made_rows: Callable):
    assert space.row_shape is None
    assert space.nbytes == 0
    assert space.index == {}
    features = space.features(np.zeros((0, 16), np.uint8))
    assert len(features) == 0
    assert features.dtype == np.float32
    assert np.asarray(features).shape == (0,)
    with pytest.raises(MissingFeatures):
        space.features(made_rows(0, 1)[0])


def test_has_tells_row_by_row(filled: Space, made_rows: Callable):
    digests, _ = made_rows(0, 12)
    order = [11, 0, 9, 10, 5, 0]
    has = filled.has(digests[order])
    assert has.dtype == bool
    assert has.tolist() == [False, True, True, False, True, True]
    assert filled.has(digests[:0]).shape == (0,)


def test_rows_come_in_the_order_asked_with_repetitions(filled: Space, made_rows: Callable):
    digests, features = made_rows(0, 10)
    order = [9, 0, 3, 3, 8, 2, 9]
    asked = filled.features(digests[order])
    assert asked.shape == (7, 4)
    np.testing.assert_array_equal(np.asarray(asked), features[order])


def test_rows_of_no_images_keep_the_row_shape(filled: Space):
    assert filled.features(np.zeros((0, 16), np.uint8)).shape == (0, 4)


def test_missing_rows_are_counted(filled: Space, made_rows: Callable, spec: FeatureSpec, cache: Cache):
    digests, _ = made_rows(8, 5)
    with pytest.raises(MissingFeatures) as caught:
        filled.features(digests)
    assert str(caught.value) == f"3 of 5 rows of {spec.folder} are not in {cache.root}."
    assert isinstance(caught.value, LookupError)


def test_views_of_one_image_are_rows_of_their_own(space: Space, spec: FeatureSpec, made_rows: Callable):
    digests, features = made_rows(0, 6)
    same = np.repeat(digests[:2], 3, axis=0)
    views = np.array([0, 1, 2, 0, 1, 70_000], np.uint32)
    space.folder.mkdir(parents=True)
    segment.write(space.folder, spec, features, same, views, {})
    order = [5, 0, 4, 1]
    np.testing.assert_array_equal(np.asarray(space.features(same[order], views[order])), features[order])
    np.testing.assert_array_equal(np.asarray(space.features(same[[0, 3]])), features[[0, 3]])
    assert space.has(digests[:2], np.array([2, 2], np.uint32)).tolist() == [True, False]
    with pytest.raises(MissingFeatures, match="^1 of 2 rows"):
        space.features(digests[:2], np.array([2, 2], np.uint32))


def test_row_that_two_segments_hold_is_found_once(cache: Cache, spec: FeatureSpec, made_rows: Callable, add: Callable):
    digests, features = made_rows(0, 5)
    add(cache, digests[:3], features[:3])
    add(cache, digests[1:], features[1:])
    space = cache.space(spec)
    assert len(space.index) == 5
    np.testing.assert_array_equal(np.asarray(space.features(digests)), features)


def test_space_is_a_snapshot(cache: Cache, spec: FeatureSpec, filled: Space, made_rows: Callable, add: Callable):
    digests, features = made_rows(10, 2)
    assert not filled.has(digests).any()
    add(cache, digests, features)
    assert not filled.has(digests).any()
    assert cache.space(spec).has(digests).all()


def test_segments_without_rows_are_left_out(cache: Cache, filled: Space, spec: FeatureSpec):
    none = np.zeros((0, 16), np.uint8), np.zeros(0, np.uint32)
    segment.write(filled.folder, spec, np.zeros((0, 4), np.float32), *none, {})
    assert [len(part) for part in cache.space(spec).segments if not len(part)] == []
    assert len(cache.space(spec).segments) == 3


def test_size_on_disk_is_that_of_the_segments(filled: Space):
    assert filled.nbytes == sum(path.stat().st_size for path in filled.folder.glob("segment-*.h5")) > 0


def test_segments_of_different_row_shapes_are_refused(
    cache: Cache, filled: Space, spec: FeatureSpec, made_rows: Callable
):
    digests, features = made_rows(10, 2, (2, 2))
    wrong = segment.write(filled.folder, spec, features, digests, np.zeros(2, np.uint32), {})
    with pytest.raises(DamagedFile) as caught:
        cache.space(spec).features(digests)
    message = str(caught.value)
    assert str(wrong) in message or wrong.name in message
    assert "(4,)" in message
    assert "(2, 2)" in message
    assert message.endswith("; move the wrong one away.")


def test_damaged_segment_is_named_and_the_rest_is_read_once_it_is_moved_away(
    cache: Cache, filled: Space, spec: FeatureSpec, made_rows: Callable
):
    damaged = next(part.path for part in filled.segments if len(part) == 5)
    damaged.write_bytes(damaged.read_bytes()[:-100])
    digests, features = made_rows(0, 10)
    with pytest.raises(DamagedFile, match=damaged.name):
        cache.space(spec).has(digests)
    damaged.rename(damaged.with_suffix(".damaged"))
    has = cache.space(spec).has(digests)
    assert has.tolist() == [True] * 3 + [False] * 5 + [True] * 2
    np.testing.assert_array_equal(np.asarray(cache.space(spec).features(digests[has])), features[has])


def test_temporary_file_that_was_left_is_not_read(cache: Cache, filled: Space, spec: FeatureSpec, made_rows: Callable):
    digests, features = made_rows(10, 2)
    path = segment.write(filled.folder, spec, features, digests, np.zeros(2, np.uint32), {})
    path.rename(filled.folder / f".{path.name}.tmp")
    (filled.folder / ".segment-half.h5.tmp").write_bytes(b"half a file")
    assert len(cache.space(spec).segments) == 3
    assert not cache.space(spec).has(digests).any()


def test_spaces_are_listed_by_name_with_their_specs(cache: Cache, spec: FeatureSpec, made_rows: Callable):
    specs = [spec, replace(spec, layer="outer/inner"), replace(spec, net="resnet50", pooling="none")]
    for number, one in enumerate(specs):
        with cache.space(one).writer({}) as writer:
            writer.append(*made_rows(number, 1))
    (cache.root / "not a space").mkdir()
    (cache.root / "file.txt").write_text("not a space")
    assert cache.spaces() == sorted(one.folder for one in specs)
    listed = [cache.open(name) for name in cache.spaces()]
    assert [space.folder.name for space in listed] == sorted(one.folder for one in specs)
    assert {space.spec for space in listed} == set(specs)
    assert all(space.spec.folder == space.folder.name for space in listed)
    assert all(len(space.index) == 1 for space in listed)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xff", b'{"net": "vgg16"}', b"[" * 200_000])
def test_spec_file_that_cannot_be_read_is_a_damaged_file(
    cache: Cache, filled: Space, spec: FeatureSpec, content: bytes
):
    file = filled.folder / "spec.json"
    file.write_bytes(content)
    with pytest.raises(DamagedFile) as caught:
        cache.open(filled.folder.name)
    assert str(caught.value).startswith(f"{file} cannot be read: ")
    with pytest.raises(DamagedFile, match="cannot be read"):
        _ = cache.space(spec).segments


def test_folder_with_the_spec_of_another_is_refused(cache: Cache, filled: Space, spec: FeatureSpec):
    (filled.folder / "spec.json").write_text(replace(spec, layer="fc1").to_json())
    with pytest.raises(DamagedFile) as caught:
        _ = cache.space(spec).segments
    assert str(caught.value) == f"{filled.folder} holds features of another spec than its name says; move it away."


def test_writer_makes_the_folder_and_writes_the_spec(space: Space, spec: FeatureSpec):
    space.writer({})
    assert [path.name for path in space.folder.iterdir()] == ["spec.json"]
    assert FeatureSpec.from_json((space.folder / "spec.json").read_text()) == spec


def test_cache_folder_that_is_a_file_is_a_storage_failure(cache: Cache, spec: FeatureSpec):
    cache.root.write_text("in the way")
    folder = cache.root / spec.folder
    with pytest.raises(StorageFailure) as caught:
        cache.space(spec).writer({})
    message = str(caught.value)
    assert message == f"cannot write to the cache folder {folder}: Not a directory; choose another with --cache."


def test_external_link_planted_in_a_segment_is_not_followed(
    tmp_path: Path, cache: Cache, filled: Space, spec: FeatureSpec
):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["features"] = np.full((3, 4), 42, np.float32)
    target = next(part.path for part in filled.segments if len(part) == 3)
    with h5py.File(target, "r+") as file:
        del file["features"]
        file["features"] = h5py.ExternalLink(str(secret), "features")
    with pytest.raises(DamagedFile, match="features is not in the file itself"):
        cache.space(spec).features(np.zeros((0, 16), np.uint8))
