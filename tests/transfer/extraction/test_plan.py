"""The plan says what an extraction will do, and does none of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage
from transfer.data import datasets
from transfer.engines.runner import BatchRunner
from transfer.extraction.extract import extract
from transfer.extraction.plan import plan
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest


def test_plan_agrees_with_the_extraction_and_writes_no_features(class_folder: Path, tmp_path: Path) -> None:
    dataset, cache = datasets.load(str(class_folder)), FeatureCache(tmp_path / "cache")
    request = FeatureRequest(Net("glyphnet"), ("block1_pool", "block2_pool"))
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
    cache, request = FeatureCache(tmp_path / "cache"), FeatureRequest(Net("glyphnet"), ("block1_pool",))
    extract(datasets.load(str(class_folder)), request, cache)
    for number in range(5):
        write_image(class_folder / "a" / f"new {number}.png", 60 + number)
    shutil.copy(class_folder / "a" / "new 1.png", class_folder / "b" / "copy.png")
    (space,) = plan(datasets.load(str(class_folder)), request, cache).spaces
    assert (space.rows_total, space.rows_missing) == (14, 5)


def test_nothing_to_do_runs_no_net(class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, cache = datasets.load(str(class_folder)), FeatureCache(tmp_path / "cache")
    request = FeatureRequest(Net("glyphnet"), ("block1_pool",))
    extract(dataset, request, cache)
    monkeypatch.setattr(BatchRunner, "run", lambda *_: pytest.fail("the net was run"))
    planned = plan(dataset, request, cache)
    assert (planned.images_missing, planned.bytes, planned.seconds) == (0, 0, 0)
    assert planned.spaces[0].rows_present == 8


def test_unreadable_images_that_are_skipped_are_counted(class_folder: Path, tmp_path: Path) -> None:
    (class_folder / "a" / "0.png").write_text("no image")
    damaged = class_folder / "a" / "2.png"
    damaged.write_bytes(damaged.read_bytes()[:-40])
    request = FeatureRequest(Net("glyphnet"), ("block1_pool",))
    planned = plan(datasets.load(str(class_folder)), request, FeatureCache(tmp_path / "cache"), on_error="skip")
    assert planned.unreadable == 1
    assert planned.images_missing == 7
    assert planned.spaces[0].rows_total == 7
    assert planned.spaces[0].row_bytes == 128


@pytest.mark.parametrize("damage", ["gone", "no image", "cut off"])
def test_the_plan_fails_where_the_extraction_would(class_folder: Path, tmp_path: Path, damage: str) -> None:
    rows = "".join(f"{file.relative_to(class_folder)},x\n" for file in sorted(class_folder.rglob("*.png")))
    (tmp_path / "t.csv").write_text("id,class\n" + rows)
    file = class_folder / "a" / "2.png"
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-40] if damage == "cut off" else b"no image")
    dataset = datasets.load(str(tmp_path / "t.csv"), images=str(class_folder))
    request = FeatureRequest(Net("glyphnet"), ("block1_pool",))
    messages = []
    for run in (plan, extract):
        with pytest.raises(BadImage, match=r"2\.png") as caught:
            run(dataset, request, FeatureCache(tmp_path / "cache"))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_plan_counts_the_bytes_of_a_row_as_it_will_be_stored(class_folder: Path, tmp_path: Path) -> None:
    dataset, cache = datasets.load(str(class_folder)), FeatureCache(tmp_path / "cache")
    half = FeatureRequest(Net("glyphnet"), ("block1_pool",), dtype="float16")
    planned = plan(dataset, half, cache)
    assert planned.spaces[0].row_bytes == 32 * 2
    assert planned.bytes == 8 * 32 * 2


def test_rows_that_will_be_made_of_full_ones_are_not_planned_to_be_computed(class_folder: Path, tmp_path: Path) -> None:
    dataset, cache = datasets.load(str(class_folder)), FeatureCache(tmp_path / "cache")
    extract(dataset, FeatureRequest(Net("glyphnet"), ("block1_pool",)), cache)
    half = FeatureRequest(Net("glyphnet"), ("block1_pool",), dtype="float16")
    planned = plan(dataset, half, cache)
    assert (planned.images_missing, planned.seconds) == (0, 0)
    assert half.specs[0].folder_name not in cache.spaces()
    assert extract(dataset, half, cache).rows_computed == 0
