"""Recomputing: rows that the net gives again agree with those in the cache, and altered ones do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_cache import FeatureCache, Space
from feature_cache.errors import BadData, DamagedFile, MissingFeatures
from feature_cache.maintenance.shrink import shrink
from feature_cache.segments import segment_writer
from transfer.data import datasets
from transfer.data.datasets import Dataset
from transfer.extraction.extract import extract
from transfer.extraction.recompute import recompute
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

REQUEST = FeatureRequest(Net("glyphnet"), ("block1_pool",))
KINDS = [("float16", None), ("int8", None), ("pca", 5)]


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


@pytest.fixture
def data(class_folder: Path) -> Dataset:
    return datasets.load(str(class_folder))


@pytest.fixture
def full(data: Dataset, cache: FeatureCache) -> Space:
    """The space with the features of all eight images."""
    extract(data, REQUEST, cache)
    return cache[REQUEST.specs[0]]


def alter(space: Space, change: Callable[[np.ndarray], np.ndarray]) -> Space:
    """Write the rows again with other numbers, which have valid checks."""
    for part in space.segments:
        stored = space.stored(space.index.find(part.digests, part.views))
        path = part.path
        segment_writer.write(
            space.folder, space.spec, change(stored), part.digests, part.views, part.provenance, coding=part.coding
        )
        path.unlink()
    return space.again()


def test_rows_that_are_right_agree(full: Space, data: Dataset, cache: FeatureCache) -> None:
    done = recompute(full, data, cache, 8)
    assert (done.space, done.rows) == (full.folder.name, 8)
    assert done.largest == pytest.approx(np.abs(full.all_rows()[:]).max())
    assert done.deviation <= 1e-5 * done.largest
    assert done.agrees


@pytest.mark.parametrize(("kind", "components"), KINDS)
def test_rows_of_shrunk_copies_agree_too(
    full: Space, data: Dataset, cache: FeatureCache, kind: str, components: int | None
) -> None:
    copy = cache.open(shrink(cache, full, kind, components=components).space)
    done = recompute(copy, data, cache, 8)
    assert done.rows == 8
    assert done.agrees, done


@pytest.mark.parametrize("by", [0.05, -1.0, np.nan, np.inf])
def test_one_altered_number_disagrees_though_its_check_is_valid(
    full: Space, data: Dataset, cache: FeatureCache, by: float
) -> None:
    def change(rows: np.ndarray) -> np.ndarray:
        rows[3, 7] += by * np.abs(rows).max()
        return rows

    done = recompute(alter(full, change), data, cache, 8)
    assert not done.agrees
    assert done.deviation == (pytest.approx(abs(by) * done.largest, rel=0.2) if np.isfinite(by) else np.inf)


@pytest.mark.parametrize(("kind", "components"), KINDS)
def test_altered_rows_of_shrunk_copies_disagree(
    full: Space, data: Dataset, cache: FeatureCache, kind: str, components: int | None
) -> None:
    copy = cache.open(shrink(cache, full, kind, components=components).space)
    altered = alter(copy, lambda rows: rows[::-1])
    assert not recompute(altered, data, cache, 8).agrees


def test_rows_of_other_images_disagree(full: Space, data: Dataset, cache: FeatureCache) -> None:
    assert not recompute(alter(full, lambda rows: np.roll(rows, 1, axis=0)), data, cache, 8).agrees


def test_small_features_are_held_to_as_much_as_large_ones(full: Space, data: Dataset, cache: FeatureCache) -> None:
    """The tolerance is a share of the features: half of a small number is as wrong as half of a large one."""
    import keras

    layers = [keras.Input((12, 12, 3)), keras.layers.Rescaling(1e-6, name="tiny"), keras.layers.ReLU(name="end")]
    file = cache.root.parent / "tiny.keras"
    keras.Sequential(layers).save(file)
    wanted = FeatureRequest(Net(str(file)), ("end",))
    extract(data, wanted, cache)
    space = cache[wanted.specs[0]]
    assert recompute(space, data, cache, 8).agrees
    assert not recompute(alter(space, lambda rows: rows / 2), data, cache, 8).agrees


def test_values_that_were_cut_off_at_the_scales_of_int8_are_no_error(data: Dataset, tmp_path: Path) -> None:
    """New rows are stored with the scales that there are, and those may not reach as far."""
    few = data.select(np.arange(2))
    small = FeatureCache(tmp_path / "small")
    extract(few, REQUEST, small)
    copy = small.open(shrink(small, small[REQUEST.specs[0]], "int8").space)
    extract(data, replace(REQUEST, dtype="int8", coding=copy.spec.coding), small)
    done = recompute(copy.again(), data, small, 8)
    assert done.rows == 8
    assert done.agrees, done


def test_as_many_as_asked_and_the_same_for_the_same_seed(full: Space, data: Dataset, cache: FeatureCache) -> None:
    largest = [recompute(full, data, cache, 1, seed).largest for seed in (0, 0, 1, 2, 3)]
    assert largest[0] == largest[1]
    assert len(set(largest)) > 1
    assert recompute(full, data, cache, 3).rows == 3
    assert recompute(full, data, cache, 1000).rows == 8


def test_only_images_that_have_a_row_count(
    full: Space, data: Dataset, cache: FeatureCache, class_folder: Path, write_image: Callable
) -> None:
    for number in range(20):
        write_image(class_folder / "a" / f"new {number}.png", 100 + number)
    (class_folder / "b" / "bad.png").write_text("no image")
    more = datasets.load(str(class_folder))
    assert len(more) == 29
    done = recompute(full, more, cache, 29)
    assert (done.rows, done.agrees) == (8, True)


def test_images_without_rows_are_refused(
    full: Space, cache: FeatureCache, tmp_path: Path, write_image: Callable
) -> None:
    write_image(tmp_path / "other" / "x.png", 999)
    other = datasets.load(str(tmp_path / "other"))
    with pytest.raises(MissingFeatures, match=f"^none of the 1 images of {tmp_path / 'other'} has a row in "):
        recompute(full, other, cache, 5)


def test_gray_and_colour_images_are_both_computed(
    data: Dataset, cache: FeatureCache, class_folder: Path, write_image: Callable
) -> None:
    write_image(class_folder / "a" / "colour.png", 50, mode="RGB")
    both = datasets.load(str(class_folder))
    extract(both, REQUEST, cache)
    done = recompute(cache[REQUEST.specs[0]], both, cache, 9)
    assert (done.rows, done.agrees) == (9, True)


def test_a_space_that_does_not_say_its_net_is_refused(full: Space, data: Dataset, cache: FeatureCache) -> None:
    part = full.segments[0]
    rows = full.stored(np.arange(len(part)))
    segment_writer.write(full.folder, full.spec, rows, part.digests, part.views, {"engine": "another program"})
    part.path.unlink()
    with pytest.raises(BadData) as caught:
        recompute(full.again(), data, cache, 8)
    assert str(caught.value) == f"{full.folder} does not say which net its features come from."


@pytest.mark.parametrize("net", ["glyphnet", 7, [], {"name": "glyphnet"}, {"name": 1, "weights": 2}])
def test_a_net_that_makes_no_sense_is_refused(full: Space, data: Dataset, cache: FeatureCache, net: object) -> None:
    part = full.segments[0]
    rows = full.stored(np.arange(len(part)))
    segment_writer.write(full.folder, full.spec, rows, part.digests, part.views, {"net": net})
    part.path.unlink()
    with pytest.raises((DamagedFile, BadData), match=full.folder.name):
        recompute(full.again(), data, cache, 8)


def test_a_recipe_of_another_version_is_refused(full: Space, data: Dataset, cache: FeatureCache) -> None:
    old = cache[replace(full.spec, recipe=0)]
    old.create()
    part = full.segments[0]
    rows = full.stored(np.arange(len(part)))
    segment_writer.write(old.folder, old.spec, rows, part.digests, part.views, part.provenance)
    with pytest.raises(BadData, match="cannot be computed any more: their recipe was 0, now it is 1"):
        recompute(old, data, cache, 8)


def test_nothing_is_written(full: Space, data: Dataset, cache: FeatureCache) -> None:
    before = {path: path.stat().st_mtime_ns for path in cache.root.rglob("segment-*")}
    recompute(full, data, cache, 8)
    assert {path: path.stat().st_mtime_ns for path in cache.root.rglob("segment-*")} == before
