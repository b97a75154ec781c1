"""Extraction in int8: a net is quantised once, and found again by whoever wants the same features."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_cache.cache import FeatureCache
from feature_cache.errors import InvalidChoice, MissingFeatures
from feature_cache.segments.layout import NETS_FOLDER
from transfer.data import datasets
from transfer.engines import selection
from transfer.extraction.extract import extract
from transfer.extraction.lookup import stored_features
from transfer.extraction.plan import plan
from transfer.extraction.recompute import recompute
from transfer.nets.catalogue import Net
from transfer.quantisation import settling
from transfer.quantisation.losses import Loss
from transfer.request import FeatureRequest, request_for

pytest.importorskip("openvino")
pytest.importorskip("nncf", reason="nets are quantised by NNCF: pip install 'layertap[int8]'")

INT8 = FeatureRequest(Net("glyphnet"), ("block1_pool", "block2_pool"), "avg", (16, 16), precision="int8")


def image_folder(folder: Path, numbers: range, write_image: Callable[..., Path]) -> Path:
    """Images of two classes, every fourth one in colour."""
    for number in numbers:
        mode = "L" if number % 4 else "RGB"
        write_image(folder / "ab"[number % 2] / f"{number}.png", number, mode=mode)
    return folder


@pytest.fixture(scope="module", autouse=True)
def processor_of_int8() -> Iterator[None]:
    """Remarks are those of a processor with instructions for int8, whatever this one has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settling, "multiplies_int8", lambda: True)
        yield


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    from PIL import Image

    def image(path: Path, seed: int, mode: str) -> Path:
        shape = (12, 12) if mode == "L" else (12, 12, 3)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)).save(path, "PNG")
        return path

    return image


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory, write: Callable[..., Path]) -> Path:
    return image_folder(tmp_path_factory.mktemp("data") / "twenty", range(20), write)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, twenty: Path) -> Path:
    """The folder of a cache with the features of twenty images at two layers."""
    cache = FeatureCache(tmp_path_factory.mktemp("cache") / "filled")
    report = extract(datasets.load(str(twenty)), INT8, cache)
    assert report.rows_computed == 40
    [note] = report.remarks
    assert note.startswith("int8: the net was calibrated on 20 of these images, all there are; 300 give better ranges")
    return cache.root


@pytest.fixture
def cache(filled: Path, tmp_path: Path) -> FeatureCache:
    shutil.copytree(filled, tmp_path / "cache")
    return FeatureCache(tmp_path / "cache")


def rows(folder: Path, request: FeatureRequest, cache: FeatureCache) -> list[np.ndarray]:
    stored = stored_features(datasets.load(str(folder)), request, cache)
    return [np.asarray(array) for array in stored.features.values()]


def test_features_are_near_those_in_float32(twenty: Path, cache: FeatureCache) -> None:
    exact = replace(INT8, precision="float32")
    extract(datasets.load(str(twenty)), exact, cache)
    for expected, found in zip(rows(twenty, exact, cache), rows(twenty, INT8, cache), strict=True):
        assert found.dtype == np.float32
        difference = np.sqrt(np.square(expected - found).mean()) / np.sqrt(np.square(expected).mean())
        assert 1e-4 < difference < 0.1


def test_the_same_images_and_seed_give_the_same_features(twenty: Path, cache: FeatureCache, tmp_path: Path) -> None:
    other = FeatureCache(tmp_path / "other")
    extract(datasets.load(str(twenty)), INT8, other, batch_size=3)
    assert other.spaces() == cache.spaces()  # the same calibration, and the same net
    for expected, found in zip(rows(twenty, INT8, cache), rows(twenty, INT8, other), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_more_images_are_computed_by_the_same_net_without_the_first_ones(
    cache: FeatureCache, tmp_path: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))  # no converted net is left
    before, others = cache.spaces(), image_folder(tmp_path / "others", range(100, 105), write)
    report = extract(datasets.load(str(others)), INT8, cache)
    assert (report.rows_computed, cache.spaces()) == (10, before)
    assert report.remarks == [
        "int8: computed by the net that an earlier extraction calibrated on 20 images, 0 of them these"
    ]
    assert extract(datasets.load(str(others)), INT8, cache).rows_reused == 10
    assert not (tmp_path / "empty").exists()
    space = cache.open(before[0])
    assert recompute(space, datasets.load(str(others)), cache, 5).agrees


def test_a_layer_alone_is_the_layer_beside_others(twenty: Path, cache: FeatureCache) -> None:
    alone = replace(INT8, layers=("block2_pool",))
    np.testing.assert_array_equal(rows(twenty, alone, cache)[0], rows(twenty, INT8, cache)[1])
    shutil.rmtree(cache.root / next(name for name in cache.spaces() if "block2" in name))
    again = replace(alone, calibrations=(("block2_pool", specs(twenty, INT8, cache)[0].calibration or ""),))
    assert extract(datasets.load(str(twenty)), again, cache).rows_computed == 20
    assert specs(twenty, alone, cache) == again.specs


def specs(folder: Path, request: FeatureRequest, cache: FeatureCache) -> list:
    found = stored_features(datasets.load(str(folder)), replace(request, layers=request.layers[:1]), cache)
    return list(found.specs)


@pytest.mark.slow
def test_a_further_layer_gets_a_net_of_its_own_and_is_read_beside_the_others(twenty: Path, cache: FeatureCache) -> None:
    wider = replace(INT8, layers=("block2_pool", "block3_pool"))
    report = extract(datasets.load(str(twenty)), wider, cache)
    assert (report.rows_total, report.rows_computed, report.rows_reused) == (40, 20, 20)
    assert [array.shape for array in rows(twenty, wider, cache)] == [(20, 64), (20, 128)]
    assert len({space.spec.calibration for name in cache.spaces() for space in [cache.open(name)]}) == 2
    assert plan(datasets.load(str(twenty)), wider, cache).images_missing == 0


def test_a_layer_may_be_named_by_its_index(twenty: Path, cache: FeatureCache) -> None:
    spec = specs(twenty, INT8, cache)[0]
    index = list(INT8.build().taps).index(spec.layer)
    numbered = replace(INT8, layers=(str(index),))
    assert extract(datasets.load(str(twenty)), numbered, cache).rows_reused == 20
    assert specs(twenty, numbered, cache) == [spec]


def test_a_net_is_quantised_anew_where_that_is_asked_for(cache: FeatureCache, tmp_path: Path, write: Callable) -> None:
    others = image_folder(tmp_path / "others", range(100, 112), write)
    assert extract(datasets.load(str(others)), INT8, cache, requantise=True).rows_computed == 24
    assert len(cache.spaces()) == 4
    assert extract(datasets.load(str(others)), INT8, cache).rows_reused == 24  # by the net that has computed most
    assert len(list((cache.root / NETS_FOLDER).iterdir())) == 2


def test_images_that_the_net_was_not_meant_for_are_warned_of(
    cache: FeatureCache, tmp_path: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    others = image_folder(tmp_path / "others", range(100, 112), write)
    assert extract(datasets.load(str(others)), INT8, cache).warnings == []
    more = image_folder(tmp_path / "more", range(200, 212), write)
    monkeypatch.setattr(settling, "GROWN", 0.1)
    [*_, warning] = extract(datasets.load(str(more)), INT8, cache).warnings
    assert "quantise it on these with `requantise=True`" in warning


def test_few_images_are_refused(cache: FeatureCache, tmp_path: Path, write: Callable[..., Path]) -> None:
    few, empty = image_folder(tmp_path / "few", range(9), write), FeatureCache(tmp_path / "empty")
    with pytest.raises(InvalidChoice, match="10 at least, and .*few has 9; extract a larger data set first"):
        extract(datasets.load(str(few)), INT8, empty)
    assert empty.spaces() == []
    assert extract(datasets.load(str(few)), INT8, cache).rows_reused == 18  # there it was calibrated before


def test_a_broken_net_is_refused_and_not_kept(twenty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "BROKEN", 1e-3)
    empty = FeatureCache(tmp_path / "empty")
    with pytest.raises(InvalidChoice, match="int8 breaks glyphnet: at block1_pool it changes features by"):
        extract(datasets.load(str(twenty)), INT8, empty)
    assert not (empty.root / NETS_FOLDER).exists()


def test_a_run_carries_its_net_and_says_where_it_is_gone(twenty: Path, cache: FeatureCache, tmp_path: Path) -> None:
    [spec] = specs(twenty, INT8, cache)
    request = request_for(spec, INT8.net)
    assert request.specs == [spec]
    assert extract(datasets.load(str(twenty)), request, cache).rows_reused == 20
    with pytest.raises(
        MissingFeatures, match="of these features is not in .*empty, and no other gives the same numbers"
    ):
        extract(datasets.load(str(twenty)), request, FeatureCache(tmp_path / "empty"))


def test_other_engines_and_gpus_do_not_compute_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidChoice, match="int8 is computed by OpenVINO; leave out `engine='keras'`"):
        selection.choose("keras", "int8")
    monkeypatch.setattr(selection, "accelerated", lambda backend: True)
    with pytest.raises(InvalidChoice, match="int8 is for CPUs, and there is a GPU"):
        selection.choose("auto", "int8")
    assert selection.choose("openvino", "int8") == "openvino"


def test_a_processor_without_such_instructions_is_named(
    cache: FeatureCache, tmp_path: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "multiplies_int8", lambda: False)
    others = image_folder(tmp_path / "others", range(100, 102), write)
    assert (
        "int8 may be no faster than float32 on this processor"
        in extract(datasets.load(str(others)), INT8, cache).remarks[0]
    )


@pytest.mark.parametrize("batch", ["n", 3])
def test_the_net_of_an_onnx_file_is_quantised_without_keras(twenty: Path, tmp_path: Path, batch: int | str) -> None:
    from tests.transfer.onnx_nets import save_onnx, small_onnx  # it skips where ONNX is not installed

    net = Net(str(save_onnx(small_onnx(batch=batch), tmp_path / "net.onnx")), preprocessing="torch")
    exact, cache = FeatureRequest(net, ("depthwise", "biased")), FeatureCache(tmp_path / "cache")
    rounded = replace(exact, precision="int8")
    for request in (exact, rounded, rounded):
        report = extract(datasets.load(str(twenty)), request, cache)
    assert (report.rows_computed, report.rows_reused) == (0, 40)
    for expected, found in zip(rows(twenty, exact, cache), rows(twenty, rounded, cache), strict=True):
        assert 1e-5 < Loss("", np.arange(20), expected, found).relative < 0.1
