"""`layertap.extract` computes what is missing and returns lazy arrays by layer; digests are computed once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cli
from feature_cache.cache import FeatureCache
from feature_cache.errors import BadImage, InvalidChoice
from layertap.progress import Progress, progress_bar, progress_bars
from layertap.progress.shown import ShownProgress
from layertap.workflows.extract import as_net, extract
from transfer.data import dataset as dataset_module
from transfer.data.datasets import Dataset, load
from transfer.data.images import ArraySource
from transfer.extraction.extract import extract as compute
from transfer.extraction.lookup import stored_features
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

LAYERS = ("block3_pool", "block4_pool")
REQUEST = FeatureRequest(Net("glyphnet"), LAYERS)


@pytest.fixture
def digits() -> Dataset:
    return load("digits").select(np.arange(12))


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "features")


@pytest.fixture
def identified(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of each data set whose digests are asked for."""
    calls: list[int] = []
    digests = dataset_module.digests

    def counted(dataset: Dataset, memo: object) -> object:
        calls.append(len(dataset))
        return digests(dataset, memo)

    monkeypatch.setattr(dataset_module, "digests", counted)
    return calls


def test_features_are_those_that_are_in_the_cache(digits: Dataset, cache: FeatureCache) -> None:
    done: list[tuple[int, int]] = []

    @contextlib.contextmanager
    def recorded(what: str) -> Iterator[Progress]:
        assert what == "images"
        yield lambda *at: done.append(at)

    features = extract(digits, layers=LAYERS, cache=cache.root, progress=recorded)
    expected = stored_features(digits, REQUEST, cache)
    assert tuple(features) == LAYERS
    assert len(features) == 2
    for layer in LAYERS:
        np.testing.assert_array_equal(features[layer][:], expected[layer][:])
    assert features.dataset.ids == digits.ids
    assert (features.cache, features.specs, features.skipped) == (cache, tuple(REQUEST.specs), [])
    assert features.request == REQUEST
    assert features.report is not None
    assert features.report.rows_computed == 24
    assert done[-1] == (12, 12)
    again = extract(digits, "glyphnet", layers=list(LAYERS), cache=cache, progress=False)
    assert again.report is not None
    assert (again.report.rows_computed, again.report.engine) == (0, "")


def test_a_shard_is_a_part_of_the_features(digits: Dataset, cache: FeatureCache) -> None:
    whole = extract(digits, layers="block1_pool", cache=cache, progress=False)
    rows = dict(zip(whole.dataset.ids, whole["block1_pool"][:], strict=True))
    seen: list[str] = []
    for number in range(5):
        part = extract(digits, layers="block1_pool", cache=cache, progress=False, shard=(number, 5))
        seen += part.dataset.ids
        assert part["block1_pool"].shape[0] == len(part.dataset)
        for name, row in zip(part.dataset.ids, part["block1_pool"][:], strict=True):
            np.testing.assert_array_equal(row, rows[name])
    assert sorted(seen) == sorted(digits.ids)
    with pytest.raises(InvalidChoice, match="there is no part 5 of 5"):
        extract(digits, layers="block1_pool", cache=cache, progress=False, shard=(5, 5))


def test_one_layer_and_indices_and_one_side_are_taken(digits: Dataset, cache: FeatureCache) -> None:
    features = extract(digits, layers="block1_pool", size=16, cache=cache, progress=False)
    assert [(spec.layer, spec.size) for spec in features.specs] == [("block1_pool", (16, 16))]
    last = extract(digits, layers=-1, size=(16, 16), cache=cache, progress=False)
    assert [spec.layer for spec in last.specs] == [REQUEST.build().find("-1")]


def test_a_feature_set_says_what_it_holds(digits: Dataset, cache: FeatureCache) -> None:
    features = extract(digits, layers=LAYERS, cache=cache, progress=False)
    shapes = {layer: features[layer].shape for layer in LAYERS}
    text = ", ".join(f"{layer} {shape} float32" for layer, shape in shapes.items())
    assert repr(features) == f"FeatureSet('digits' by glyphnet, in {cache.root}: {text})"
    cells: list[str] = []
    parser = HTMLParser()
    parser.handle_data = cells.append  # type: ignore[method-assign]
    parser.feed(features._repr_html_())
    assert cells[0] == "Features of digits: 12 images"
    for spec, (layer, shape) in zip(features.specs, shapes.items(), strict=True):
        start = cells.index(layer)
        folder = str(cache.root / spec.folder_name)
        expected = [layer, "glyphnet", spec.pooling, " × ".join(map(str, shape)), "float32", folder]
        assert cells[start : start + 6] == expected


def test_unreadable_images_are_an_error_unless_they_are_skipped(tmp_path: Path, cache: FeatureCache) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(np.arange(81, dtype=np.uint8).reshape(9, 9)).save(folder / "good.png")
    (folder / "bad.png").write_text("no image")
    with pytest.raises(BadImage, match="leave such images out with `on_error='skip'`"):
        extract(folder, layers="block1_pool", cache=cache, progress=False)
    features = extract(folder, layers="block1_pool", cache=cache, on_error="skip", progress=False)
    assert features.dataset.ids == ("good.png",)
    assert [problem.id for problem in features.skipped] == ["bad.png"]
    assert "1 images, 1 skipped" in features._repr_html_()


def test_a_parameter_that_does_nothing_is_refused(digits: Dataset, cache: FeatureCache) -> None:
    with pytest.raises(InvalidChoice, match="`augment` says how views differ"):
        extract(digits, augment="flip", cache=cache)
    with pytest.raises(InvalidChoice, match="several need `augmentation`"):
        extract(digits, views=2, cache=cache)
    with pytest.raises(InvalidChoice, match="glyphnet holds its own weights; leave out `weights`"):
        extract(digits, Net("glyphnet"), weights="none", cache=cache)


def test_a_net_is_named_or_given(tmp_path: Path) -> None:
    file = tmp_path / "some.keras"
    file.touch()
    assert as_net("vgg16", weights="none", seed=3) == Net("vgg16", "none", 3)
    assert as_net(file) == Net(str(file))
    assert as_net(Net("vgg16", "none"), preprocessing="unit") == Net("vgg16", "none", preprocessing="unit")


def test_digests_are_asked_for_once(digits: Dataset, cache: FeatureCache, identified: list[int]) -> None:
    features = extract(digits, layers=LAYERS, cache=cache, progress=False)
    extract(features.dataset, layers="block1_pool", cache=cache, progress=False)
    _ = features.groups
    assert identified == [12]


def test_training_a_head_asks_for_digests_once(
    tmp_path: Path, cache: FeatureCache, identified: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays(tmp_path)
    compute(load(str(tmp_path / "arrays.npz")), REQUEST, cache)
    identified.clear()
    monkeypatch.chdir(tmp_path)
    options = ["--layer", LAYERS[0], "--head", "ridge", "--cv", "2", "--cache", str(cache.root), "--quiet"]
    assert cli.main(["train-head", "arrays.npz", *options, "--out", "run"]) == 0
    assert identified == [40]


@pytest.mark.slow
def test_fine_tuning_asks_for_digests_once(
    tmp_path: Path, cache: FeatureCache, identified: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = ["--unfreeze-from", "block4_conv1", "--epochs", "1", "--cv", "2", "--cache", str(cache.root), "--quiet"]
    assert cli.main(["fine-tune", "arrays.npz", *options, "--out", "run"]) == 0
    assert identified == [40]


def arrays(folder: Path) -> None:
    """Forty noisy images of two classes, in a file of arrays."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = (rng.integers(0, 100, (40, 20, 20)) + 100 * labels[:, None, None]).astype(np.uint8)
    np.savez(folder / "arrays.npz", X=images, y=labels)


def test_an_array_is_hashed_once_to_look_its_features_up(
    digits: Dataset, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute(digits, REQUEST, cache)
    calls: list[int] = []
    load_image = ArraySource.load

    def counted(self: ArraySource) -> object:
        calls.append(1)
        return load_image(self)

    monkeypatch.setattr(ArraySource, "load", counted)
    extract(digits, layers=LAYERS, cache=cache, progress=False)
    assert len(calls) == len(digits)


def test_a_bar_follows_what_is_done(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bars(True)("images") as progress:
        assert isinstance(progress, ShownProgress)
        for done in (3, 7, 10):
            progress._last -= 10.0  # whose pause is over
            progress(done, 10)
    assert capfd.readouterr().err.splitlines()[-1] == "10/10 images  100 %"
    with progress_bars(False)("images") as progress:
        assert progress is None
    assert progress_bars(progress_bar) is progress_bar
