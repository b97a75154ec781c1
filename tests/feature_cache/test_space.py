"""Spaces of a cache: what is in them, found by content and view."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from feature_cache import FeatureCache, FeatureSpec, Space
from feature_cache.errors import DamagedFile, InvalidChoice, MissingFeatures, StorageFailure
from feature_cache.segments import segment_writer


@pytest.fixture
def filled(cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable) -> Space:
    """A space with images 0 to 9, in segments of 3, 5 and 2 rows."""
    for first, number in ((0, 3), (3, 5), (8, 2)):
        add(cache, *made_rows(first, number))
    return cache[spec]


def test_cache_that_does_not_exist_is_empty_and_is_not_made(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable
):
    digests, _ = made_rows(0, 3)
    assert cache.spaces() == []
    assert cache[spec].segments == []
    assert not cache[spec].has(digests).any()
    assert cache.memo.recall([("/a.png", 1, 1)]) == {}
    assert not cache.root.exists()


def test_empty_space(space: Space, made_rows: Callable):
    assert space.row_shape is None
    assert space.nbytes == 0
    assert len(space) == len(space.index) == 0
    digests, views = space.keys()
    assert len(digests) == len(views) == 0
    assert len(space.all_rows()) == 0
    features = space.rows(np.zeros((0, 16), np.uint8))
    assert len(features) == 0
    assert features.dtype == np.float32
    assert np.asarray(features).shape == features[:].shape == (0,)
    with pytest.raises(IndexError):
        features[0]
    with pytest.raises(MissingFeatures, match="^1 of 1 rows"):
        space.rows(made_rows(0, 1)[0])
    assert not space.folder.exists()


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
    asked = filled.rows(digests[order])
    assert asked.shape == (7, 4)
    np.testing.assert_array_equal(np.asarray(asked), features[order])


def test_rows_of_no_images_keep_the_row_shape(filled: Space):
    assert filled.rows(np.zeros((0, 16), np.uint8)).shape == (0, 4)


def test_missing_rows_are_counted(filled: Space, made_rows: Callable, spec: FeatureSpec, cache: FeatureCache):
    digests, _ = made_rows(8, 5)
    with pytest.raises(MissingFeatures) as caught:
        filled.rows(digests)
    assert str(caught.value) == f"3 of 5 rows of {spec.folder_name} are not in {cache.root}."
    assert isinstance(caught.value, LookupError)


def test_views_of_one_image_are_rows_of_their_own(space: Space, spec: FeatureSpec, made_rows: Callable):
    digests, features = made_rows(0, 6)
    same = np.repeat(digests[:2], 3, axis=0)
    views = np.array([0, 1, 2, 0, 1, 70_000], np.uint32)
    with space.writer({}) as writer:
        writer.append(same[:4], features[:4], views[:4])
        writer.append(same[4:], features[4:], views[4:])
    space = space.again()
    order = [5, 0, 4, 1]
    np.testing.assert_array_equal(np.asarray(space.rows(same[order], views[order])), features[order])
    np.testing.assert_array_equal(np.asarray(space.rows(same[[0, 3]])), features[[0, 3]])
    assert space.has(digests[:2], np.array([2, 2], np.uint32)).tolist() == [True, False]
    with pytest.raises(MissingFeatures, match="^1 of 2 rows"):
        space.rows(digests[:2], np.array([2, 2], np.uint32))


def test_row_that_two_segments_hold_is_found_once(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable
):
    digests, features = made_rows(0, 5)
    add(cache, digests[:3], features[:3])
    add(cache, digests[1:], features[1:])
    space = cache[spec]
    assert len(space) == 5
    assert len(space.index) == 7
    np.testing.assert_array_equal(np.asarray(space.rows(digests)), features)
    digests, views = space.keys()
    assert len(digests) == len(views) == 5
    assert sorted(np.asarray(space.all_rows())[:, 0].tolist()) == features[:, 0].tolist()


def test_all_rows_come_with_their_keys(filled: Space, made_rows: Callable):
    everything = filled.all_rows()
    digests, views = everything.keys()
    assert everything.shape == (10, 4)
    assert views.tolist() == [0] * 10
    np.testing.assert_array_equal(np.asarray(everything), np.asarray(filled.rows(digests)))
    assert sorted(np.asarray(everything)[:, 0].tolist()) == made_rows(0, 10)[1][:, 0].tolist()


def test_space_is_a_snapshot(cache: FeatureCache, spec: FeatureSpec, filled: Space, made_rows: Callable, add: Callable):
    digests, features = made_rows(10, 2)
    assert not filled.has(digests).any()
    add(cache, digests, features)
    assert not filled.has(digests).any()
    assert cache[spec].has(digests).all()


def test_segments_without_rows_do_no_harm(
    cache: FeatureCache, filled: Space, spec: FeatureSpec, made_rows: Callable, compress: bool
):
    none = np.zeros((0, 16), np.uint8), np.zeros(0, np.uint32)
    for row_shape in ((4,), (7,), (0,)):
        for _ in range(3):
            segment_writer.write(
                filled.folder, spec, np.zeros((0, *row_shape), np.float32), *none, {}, compress=compress
            )
    digests, features = made_rows(0, 10)
    assert len(cache[spec].index.listed) == 12
    assert cache[spec].row_shape == (4,)
    for _ in range(2):  # the second time with an index
        np.testing.assert_array_equal(np.asarray(cache[spec].rows(digests)), features)


def test_size_on_disk_is_that_of_the_segments(filled: Space):
    assert filled.nbytes == sum(path.stat().st_size for path in filled.folder.glob("segment-*.h5")) > 0


def test_segments_of_different_row_shapes_are_refused(
    cache: FeatureCache, filled: Space, spec: FeatureSpec, made_rows: Callable
):
    digests, features = made_rows(10, 2, (2, 2))
    wrong = segment_writer.write(filled.folder, spec, features, digests, np.zeros(2, np.uint32), {})
    with pytest.raises(DamagedFile) as caught:
        np.asarray(cache[spec].rows(np.concatenate([made_rows(0, 3)[0], digests])))
    message = str(caught.value)
    assert wrong.name in message
    assert "(4,)" in message
    assert "(2, 2)" in message
    assert message.endswith("; move the wrong one away.")


def test_damaged_segment_is_named_and_the_rest_is_read_once_it_is_moved_away(
    cache: FeatureCache, filled: Space, spec: FeatureSpec, made_rows: Callable
):
    damaged = next(part.path for part in filled.segments if len(part) == 5)
    damaged.write_bytes(damaged.read_bytes()[:-100])
    digests, features = made_rows(0, 10)
    with pytest.raises(DamagedFile, match=damaged.name):
        cache[spec].has(digests)
    damaged.rename(damaged.with_suffix(".damaged"))
    has = cache[spec].has(digests)
    assert has.tolist() == [True] * 3 + [False] * 5 + [True] * 2
    np.testing.assert_array_equal(np.asarray(cache[spec].rows(digests[has])), features[has])


def test_temporary_file_that_was_left_is_not_read(
    cache: FeatureCache, filled: Space, spec: FeatureSpec, made_rows: Callable
):
    digests, features = made_rows(10, 2)
    path = segment_writer.write(filled.folder, spec, features, digests, np.zeros(2, np.uint32), {})
    path.rename(filled.folder / f".{path.name}.tmp")
    (filled.folder / ".segment-half.h5.tmp").write_bytes(b"half a file")
    assert len(cache[spec].segments) == 3
    assert not cache[spec].has(digests).any()


def test_spaces_are_listed_by_name_with_their_specs(cache: FeatureCache, spec: FeatureSpec, made_rows: Callable):
    specs = [spec, replace(spec, layer="outer/inner"), replace(spec, net="resnet50", pooling="none")]
    for number, one in enumerate(specs):
        with cache[one].writer({}) as writer:
            writer.append(*made_rows(number, 1))
    (cache.root / "not a space").mkdir()
    (cache.root / "file.txt").write_text("not a space")
    assert cache.spaces() == sorted(one.folder_name for one in specs)
    listed = [cache.open(name) for name in cache.spaces()]
    assert [space.folder.name for space in listed] == sorted(one.folder_name for one in specs)
    assert {space.spec for space in listed} == set(specs)
    assert all(space.spec.folder_name == space.folder.name for space in listed)
    assert all(len(space) == 1 for space in listed)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xff", b'{"net": "vgg16"}', b"[" * 200_000])
def test_spec_file_that_cannot_be_read_is_a_damaged_file(
    cache: FeatureCache, filled: Space, spec: FeatureSpec, content: bytes
):
    file = filled.folder / "spec.json"
    file.write_bytes(content)
    with pytest.raises(DamagedFile) as caught:
        cache.open(filled.folder.name)
    assert str(caught.value).startswith(f"{file} cannot be read: ")
    with pytest.raises(DamagedFile, match="cannot be read"):
        _ = cache[spec].segments


def test_folder_with_the_spec_of_another_is_refused(cache: FeatureCache, filled: Space, spec: FeatureSpec):
    (filled.folder / "spec.json").write_text(replace(spec, layer="fc1").to_json())
    with pytest.raises(DamagedFile) as caught:
        _ = cache[spec].segments
    assert str(caught.value) == f"{filled.folder} holds features of another spec than its name says; move it away."


def test_writer_makes_the_folder_and_writes_the_spec(space: Space, spec: FeatureSpec):
    with space.writer({}):
        pass
    assert {path.name for path in space.folder.iterdir()} == {"spec.json", ".used"}
    assert FeatureSpec.from_json((space.folder / "spec.json").read_text()) == spec


def test_cache_folder_that_is_a_file_is_a_storage_failure(cache: FeatureCache, spec: FeatureSpec):
    cache.root.write_text("in the way")
    folder = cache.root / spec.folder_name
    with pytest.raises(StorageFailure) as caught:
        cache[spec].writer({})
    message = str(caught.value)
    assert message == f"cannot write to the cache folder {folder}: Not a directory; choose another with `cache`."


def test_external_link_planted_in_a_segment_is_not_followed(
    tmp_path: Path, cache: FeatureCache, filled: Space, spec: FeatureSpec
):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["features"] = np.full((3, 4), 42, np.float32)
    target = next(part.path for part in filled.segments if len(part) == 3)
    with h5py.File(target, "r+") as file:
        del file["features"]
        file["features"] = h5py.ExternalLink(str(secret), "features")
    with pytest.raises(DamagedFile, match="features is not in the file itself"):
        cache[spec].rows(np.zeros((0, 16), np.uint8))


def test_space_without_its_spec_file_is_opened_by_a_segment(
    cache: FeatureCache, filled: Space, spec: FeatureSpec, made_rows: Callable
):
    (filled.folder / "spec.json").unlink()
    first, *_ = sorted(filled.folder.glob("segment-*.h5"))
    first.write_bytes(b"damaged")
    assert cache.spaces() == [spec.folder_name]
    assert cache.open(spec.folder_name).spec == spec
    for path in filled.folder.glob("segment-*.h5"):
        path.write_bytes(b"damaged")
    with pytest.raises(DamagedFile) as caught:
        cache.open(spec.folder_name)
    assert str(caught.value) == (f"{filled.folder} has no spec.json and no segment that tells its spec; move it away.")


def test_unknown_space_is_refused_with_the_nearest(cache: FeatureCache, filled: Space, spec: FeatureSpec):
    with pytest.raises(InvalidChoice) as caught:
        cache.open(spec.folder_name[:-1])
    assert str(caught.value) == (
        f"{cache.root} has no space {spec.folder_name[:-1]!r}; did you mean {spec.folder_name!r}? "
        "List them with: layertap cache list."
    )


def test_space_remembers_when_it_was_used(cache: FeatureCache, filled: Space, spec: FeatureSpec, made_rows: Callable):
    os.utime(filled.folder / ".used", (1000, 1000))
    assert filled.last_used == 1000
    cache[spec].has(made_rows(0, 1)[0])
    assert filled.last_used == 1000
    cache[spec].rows(made_rows(0, 1)[0])
    assert abs(filled.last_used - time.time()) < 60
    (filled.folder / ".used").unlink()
    assert filled.last_used == (filled.folder / "spec.json").stat().st_mtime


def test_space_in_a_folder_that_cannot_be_written_is_read(filled: Space, made_rows: Callable):
    digests, features = made_rows(0, 10)
    (filled.folder / ".used").unlink()
    (filled.folder / ".used").mkdir(mode=0o500)
    filled.folder.chmod(0o500)
    try:
        np.testing.assert_array_equal(np.asarray(filled.again().rows(digests)), features)
    finally:
        filled.folder.chmod(0o700)


def test_root_may_be_a_text(tmp_path: Path, spec: FeatureSpec):
    assert FeatureCache(str(tmp_path))[spec].folder == tmp_path / spec.folder_name
