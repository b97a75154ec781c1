"""Precision: fewer bits give nearly the same features, are features of their own, and are refused where they do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_cache.cache import FeatureCache
from feature_cache.errors import InvalidChoice
from transfer.data import datasets
from transfer.engines import comparison, selection
from transfer.extraction.extract import extract
from transfer.extraction.lookup import stored_features
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest, request_for

EXACT = FeatureRequest(Net("glyphnet"), ("block2_pool", "block4_pool"))


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


def features(folder: Path, request: FeatureRequest, cache: FeatureCache, engine: str = "auto") -> list[np.ndarray]:
    dataset = datasets.load(str(folder))
    extract(dataset, request, cache, engine=engine)
    return [np.asarray(rows) for rows in stored_features(dataset, request, cache).features.values()]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("engine", ["auto", "keras"])
def test_features_differ_by_rounding_alone(
    class_folder: Path, cache: FeatureCache, precision: str, engine: str
) -> None:
    rough = replace(EXACT, precision=precision)
    pairs = zip(features(class_folder, EXACT, cache), features(class_folder, rough, cache, engine), strict=True)
    for exact, found in pairs:
        difference = np.abs(exact - found).max() / np.abs(exact).max()
        assert 1e-6 < difference < 0.02
        assert found.dtype == np.float32


def test_each_precision_has_its_own_features(class_folder: Path, cache: FeatureCache) -> None:
    specs = [replace(EXACT, precision=name).specs[0] for name in ("float32", "bfloat16", "float16")]
    assert len({spec.digest for spec in specs}) == 3
    assert ["bfloat16" in spec.folder_name for spec in specs] == [False, True, False]
    features(class_folder, EXACT, cache)
    dataset = datasets.load(str(class_folder))
    assert extract(dataset, replace(EXACT, precision="bfloat16"), cache).rows_reused == 0
    assert request_for(specs[1], EXACT.net).precision == "bfloat16"  # as a run has it
    with pytest.raises(InvalidChoice, match="there is no precision 'float8'"):
        _ = replace(EXACT, precision="float8").specs


def test_stored_layers_of_another_precision_are_no_start(class_folder: Path, cache: FeatureCache) -> None:
    features(class_folder, replace(EXACT, layers=("block1_pool",), pooling="none"), cache)
    dataset = datasets.load(str(class_folder))
    assert extract(dataset, replace(EXACT, precision="bfloat16"), cache).started_from == []
    assert extract(dataset, EXACT, cache).started_from == ["block1_pool"]


def test_features_that_come_out_otherwise_are_refused_and_not_kept(
    class_folder: Path, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "TOLERANCE", 1e-9)
    with pytest.raises(InvalidChoice, match="glyphnet in bfloat16 gives other features than in float32"):
        features(class_folder, replace(EXACT, precision="bfloat16"), cache)
    assert cache.spaces() == []


def test_openvino_is_for_processors_that_compute_so(needs_tensorflow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(selection, "accelerated", lambda backend: False)
    monkeypatch.setattr(selection, "_has", lambda precision: precision == "float32")
    assert selection.choose("auto", "bfloat16") == "keras"
    assert selection.choose("auto") == "openvino"
    with pytest.raises(InvalidChoice, match="does not compute in float16 on this processor"):
        selection.choose("openvino", "float16")
