"""Devices: workers share the work, end with what one process computes, and their ends are told."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage, InvalidChoice, StorageFailure
from transfer import hardware
from transfer.data import datasets
from transfer.extraction.extract import extract
from transfer.extraction.lookup import stored_features
from transfer.extraction.multi_device import Device, devices, extract_on
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

WANTED = FeatureRequest(Net("glyphnet"), ("block1_pool", "block4_pool"))


@pytest.fixture
def pair() -> list[Device]:
    """Two groups of cores, which may be the same one."""
    some = hardware.cores()
    return [Device("one", cores=(some[0],)), Device("other", cores=(some[-1],))]


@pytest.mark.slow
def test_two_workers_end_with_what_one_process_computes(tmp_path: Path, pair: list[Device]) -> None:
    dataset, told = datasets.load("digits").select(np.arange(300)), []
    cache, alone = FeatureCache(tmp_path / "shared"), FeatureCache(tmp_path / "alone")
    report = extract_on(pair, dataset, WANTED, cache, progress=lambda *counts: told.append(counts))
    assert (report.rows_computed, report.rows_total, report.rows_reused, report.rows_skipped) == (600, 600, 0, 0)
    assert told[-1] == (300, 300)
    expected = extract(dataset, WANTED, alone)
    assert report.engine == expected.engine
    found = stored_features(dataset, WANTED, cache).features
    for layer, rows in stored_features(dataset, WANTED, alone).features.items():
        exact = np.asarray(rows)
        np.testing.assert_allclose(np.asarray(found[layer]), exact, atol=1e-5 * np.abs(exact).max())
    assert all(len(list(Path(folder).glob("segment-*"))) == 2 for folder in report.spaces)
    again = extract_on(pair, dataset, WANTED, cache)
    assert (again.rows_computed, again.rows_reused, again.engine) == (0, 600, "")


def test_a_worker_that_starts_when_another_is_done_computes_all_of_its_part(class_folder: Path, tmp_path: Path) -> None:
    dataset, cache = datasets.load(str(class_folder)), FeatureCache(tmp_path / "cache")
    reports = [extract(dataset, WANTED, cache, share=(number, 2)) for number in range(2)]
    assert [report.rows_computed for report in reports] == [8, 8]
    assert all(len(cache[spec]) == len(dataset) for spec in WANTED.specs)


def test_an_unreadable_image_stops_all_or_is_skipped(class_folder: Path, tmp_path: Path, pair: list[Device]) -> None:
    whole = (class_folder / "a" / "0.png").read_bytes()
    (class_folder / "b" / "broken.png").write_bytes(whole[: len(whole) // 2])
    dataset, cache = datasets.load(str(class_folder)), FeatureCache(tmp_path / "cache")
    with pytest.raises(BadImage, match=r"broken\.png"):
        extract_on(pair, dataset, WANTED, cache)
    report = extract_on(pair, dataset, WANTED, cache, on_error="skip")
    assert [problem.id for problem in report.skipped] == ["b/broken.png"]
    assert report.rows_computed + report.rows_reused + report.rows_skipped == report.rows_total == 2 * len(dataset)
    assert report.rows_skipped == 2


@pytest.mark.slow
def test_a_killed_worker_is_told_and_the_rest_is_computed_by_the_next_run(tmp_path: Path, pair: list[Device]) -> None:
    dataset, cache = datasets.load("digits"), FeatureCache(tmp_path / "cache")
    others = set(multiprocessing.active_children())  # joblib keeps its processes for the next test that needs them
    killed: list[int] = []

    def workers() -> list[multiprocessing.process.BaseProcess]:
        return [child for child in multiprocessing.active_children() if child not in others]

    def kill(done: int, total: int) -> None:
        if not killed:
            worker = workers()[0]
            killed.append(worker.pid or 0)
            worker.kill()

    with pytest.raises(StorageFailure, match=r"the worker on \w+ ended \(exit code -9\) before its work was done"):
        extract_on(pair, dataset, WANTED, cache, batch_size=1, progress=kill)
    assert workers() == []
    report = extract(dataset, WANTED, cache)
    assert report.rows_computed + report.rows_reused == 2 * 1797
    assert report.rows_computed > 0


def test_gpus_come_first_and_each_worker_sees_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [device.gpu for device in devices(2)] == ["2", "5"]
    with pytest.raises(InvalidChoice, match="`devices=3` is more than there are: 2 GPUs"):
        devices(3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("transfer.extraction.multi_device.cores", lambda: [0, 1, 4, 6, 7])
    assert [device.cores for device in devices(2)] == [(0, 1, 4), (6, 7)]
    with pytest.raises(InvalidChoice, match="`devices=6` is more than there are: 5 cores"):
        devices(6)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    Device("GPU 2", gpu="2").take()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
