"""The plan says what an extraction will do, and does none of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from feature_cache.cache import FeatureCache
from transfer import datasets
from transfer.extract import extract
from transfer.nets import Net
from transfer.plan import plan
from transfer.request import Request
from transfer.running import Engines


def test_plan_agrees_with_the_extraction_and_writes_no_features(class_folder: Path, tmp_path: Path) -> None:
    dataset, cache = datasets.load(str(class_folder)), FeatureCache(tmp_path / "cache")
    request = Request(Net("glyphnet"), ("block1_pool", "block2_pool"))
    planned = plan(dataset, request, cache)
    assert not list(cache.root.glob("*/*"))
    assert [(part.rows_total, part.rows_present, part.rows_missing) for part in planned.spaces] == [(8, 0, 8)] * 2
    assert [part.row_bytes for part in planned.spaces] == [32 * 4, 64 * 4]
    assert planned.images_missing == 8
    assert planned.bytes == 8 * (32 + 64) * 4
    assert planned.seconds > 0
    report = extract(dataset, request, cache)
    assert report.rows_computed == sum(part.rows_missing for part in planned.spaces)
    assert report.spaces == [part.space for part in planned.spaces]
    assert report.bytes_written >= planned.bytes


def test_plan_of_half_a_data_set_counts_the_other_half(
    class_folder: Path, tmp_path: Path, write_image: Callable[..., Path]
) -> None:
    cache, request = FeatureCache(tmp_path / "cache"), Request(Net("glyphnet"), ("block1_pool",))
    extract(datasets.load(str(class_folder)), request, cache)
    for number in range(5):
        write_image(class_folder / "a" / f"new {number}.png", 60 + number)
    shutil.copy(class_folder / "a" / "new 1.png", class_folder / "b" / "copy.png")
    (space,) = plan(datasets.load(str(class_folder)), request, cache).spaces
    assert (space.rows_total, space.rows_missing) == (14, 5)


def test_nothing_to_do_runs_no_net(class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, cache = datasets.load(str(class_folder)), FeatureCache(tmp_path / "cache")
    request = Request(Net("glyphnet"), ("block1_pool",))
    extract(dataset, request, cache)
    monkeypatch.setattr(Engines, "run", lambda *_: pytest.fail("the net was run"))
    planned = plan(dataset, request, cache)
    assert (planned.images_missing, planned.bytes, planned.seconds) == (0, 0, 0)
    assert planned.spaces[0].rows_present == 8


def test_unreadable_images_are_counted_and_do_not_stop_the_plan(class_folder: Path, tmp_path: Path) -> None:
    (class_folder / "a" / "0.png").write_text("no image")
    damaged = class_folder / "a" / "2.png"
    damaged.write_bytes(damaged.read_bytes()[:-40])
    request = Request(Net("glyphnet"), ("block1_pool",))
    planned = plan(datasets.load(str(class_folder)), request, FeatureCache(tmp_path / "cache"))
    assert planned.unreadable == 1
    assert planned.images_missing == 7
    assert planned.spaces[0].rows_total == 7
    assert planned.spaces[0].row_bytes == 128


def test_plan_counts_the_bytes_of_a_row_as_it_will_be_stored(class_folder: Path, tmp_path: Path) -> None:
    dataset, cache = datasets.load(str(class_folder)), FeatureCache(tmp_path / "cache")
    half = Request(Net("glyphnet"), ("block1_pool",), dtype="float16")
    planned = plan(dataset, half, cache)
    assert planned.spaces[0].row_bytes == 32 * 2
    assert planned.bytes == 8 * 32 * 2


def test_rows_that_will_be_made_of_full_ones_are_not_planned_to_be_computed(class_folder: Path, tmp_path: Path) -> None:
    dataset, cache = datasets.load(str(class_folder)), FeatureCache(tmp_path / "cache")
    extract(dataset, Request(Net("glyphnet"), ("block1_pool",)), cache)
    half = Request(Net("glyphnet"), ("block1_pool",), dtype="float16")
    planned = plan(dataset, half, cache)
    assert (planned.images_missing, planned.seconds) == (0, 0)
    assert half.specs[0].folder not in cache.spaces()
    assert extract(dataset, half, cache).rows_computed == 0
