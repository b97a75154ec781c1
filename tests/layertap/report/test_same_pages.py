"""The same page made twice from the same inputs is the same file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

import layertap as lt
from layertap.report.review_page import write_review


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> lt.FeatureSet:
    digits = lt.load_dataset("digits").select(np.arange(120))
    folder = tmp_path_factory.mktemp("features")
    return lt.extract(digits, "glyphnet", layers=["block4_pool"], cache=folder, progress=False)


@pytest.fixture(scope="module")
def runs(features: lt.FeatureSet) -> tuple[lt.Run, lt.Run]:
    run = lt.train_head(features.dataset, features, "ridge", cv=2, map=None, progress=False)
    assert features.request is not None
    few = features.dataset.select(np.arange(30))
    worse = lt.train_head(few, features.request, "ridge", cv=2, map=None, cache=features.cache, progress=False)
    return run, worse


def _review(file: Path, features: lt.FeatureSet, runs: tuple[lt.Run, lt.Run]) -> None:
    write_review(file, lt.review(runs[0], features.dataset, cache=features.cache, progress=False))


def _map(file: Path, features: lt.FeatureSet, runs: tuple[lt.Run, lt.Run]) -> None:
    lt.feature_map(runs[0], on=features.dataset, cache=features.cache, out=file, progress=False)


def _search(file: Path, features: lt.FeatureSet, runs: tuple[lt.Run, lt.Run]) -> None:
    queries = features.dataset.select(np.arange(3))
    lt.search(features.dataset, features, queries, k=4, progress=False).write_page(file)


def _compare(file: Path, features: lt.FeatureSet, runs: tuple[lt.Run, lt.Run]) -> None:
    lt.compare(features.dataset, *runs, cache=features.cache, progress=False).write_page(file)


def _evaluate(file: Path, features: lt.FeatureSet, runs: tuple[lt.Run, lt.Run]) -> None:
    found = lt.evaluate(runs[1], features.dataset, cache=features.cache, progress=False)
    found.scores["predict_seconds"] = 1.0  # of the clock
    found.write_page(file)


def _beside(file: Path, features: lt.FeatureSet, runs: tuple[lt.Run, lt.Run]) -> None:
    lt.compare(features.dataset, *runs, runs[0], cache=features.cache, progress=False).write_page(file)


def _drift(file: Path, features: lt.FeatureSet, runs: tuple[lt.Run, lt.Run]) -> None:
    old, new = (features.dataset.select(np.arange(120) % 2 == half) for half in (0, 1))
    lt.drift(old, new, features, progress=False).write_page(file)


def _explore(file: Path, features: lt.FeatureSet, runs: tuple[lt.Run, lt.Run]) -> None:
    survey = lt.explore(features.dataset, out=file.with_suffix(""), size=(16, 16), progress=False)
    assert survey.folder is not None
    (survey.folder / "report.html").rename(file)


def _train(file: Path, features: lt.FeatureSet, runs: tuple[lt.Run, lt.Run]) -> None:
    folder = file.with_suffix("")
    with patch("time.perf_counter", return_value=0.0):  # the page tells how long things took
        lt.train_head(features.dataset, features, "ridge", cv=2, out=folder, progress=False)
    (folder / "report.html").rename(file)


PAGES = [_review, _map, _search, _compare, _drift, _evaluate, _beside, _explore, _train]


@pytest.mark.parametrize("write", PAGES)
def test_a_page_made_twice_is_the_same_file(
    write: Callable[..., None], features: lt.FeatureSet, runs: tuple[lt.Run, lt.Run], tmp_path: Path
) -> None:
    files = tmp_path / "one.html", tmp_path / "two.html"
    for file in files:
        write(file, features, runs)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert b"data:image/webp" in files[0].read_bytes()
