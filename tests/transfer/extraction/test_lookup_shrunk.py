"""Features of fewer bits: made of the full rows where there are some, and computed where there are none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_cache import FeatureCache, FeatureSpec
from feature_cache.errors import BadImage, MissingFeatures
from feature_cache.maintenance.shrink import parameters_of, shrink
from transfer.data import datasets
from transfer.engines.runner import BatchRunner
from transfer.extraction.extract import extract
from transfer.extraction.fill import fill_from_stored
from transfer.extraction.lookup import find_missing, rows_of, stored_features
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest, request_of

REQUEST = FeatureRequest(Net("glyphnet"), ("block1_pool",))
HALF = replace(REQUEST, dtype="float16")
KINDS = [("int8", None), ("pca", 5)]


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


@pytest.fixture
def no_net(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function after which no net may be run."""
    return lambda: monkeypatch.setattr(BatchRunner, "run", lambda *_: pytest.fail("the net was run"))


@pytest.fixture
def more(class_folder: Path, tmp_path: Path, write_image: Callable) -> Path:
    """A data set with four images of `class_folder` and four others."""
    for number in range(4):
        (tmp_path / "more" / "x").mkdir(parents=True, exist_ok=True)
        shutil.copy(class_folder / "ab"[number % 2] / f"{number}.png", tmp_path / "more" / "x")
        write_image(tmp_path / "more" / "y" / f"new {number}.png", 100 + number)
    return tmp_path / "more"


def load(folder: Path) -> datasets.Dataset:
    return datasets.load(str(folder))


def values(folder: Path, spec: FeatureSpec, cache: FeatureCache) -> np.ndarray:
    return np.asarray(rows_of(load(folder), cache[spec], cache).features[spec.layer])


def copy_of(cache: FeatureCache, kind: str, components: int | None = None) -> FeatureRequest:
    """Shrink the space of `REQUEST`; the request that gives such rows."""
    name = shrink(cache, cache[REQUEST.specs[0]], kind, components=components).space
    return request_of(cache.open(name))


class TestFloat16:
    def test_rows_are_made_of_the_full_ones_that_there_are(
        self, class_folder: Path, cache: FeatureCache, no_net: Callable
    ) -> None:
        extract(load(class_folder), REQUEST, cache)
        no_net()
        report = extract(load(class_folder), HALF, cache)
        assert (report.rows_total, report.rows_computed, report.rows_reused) == (8, 0, 8)
        full = values(class_folder, REQUEST.specs[0], cache)
        np.testing.assert_array_equal(values(class_folder, HALF.specs[0], cache), full.astype(np.float16))

    def test_only_what_the_full_space_lacks_is_computed(
        self, class_folder: Path, more: Path, cache: FeatureCache
    ) -> None:
        extract(load(class_folder), REQUEST, cache)
        report = extract(load(more), HALF, cache)
        assert (report.rows_computed, report.rows_reused) == (4, 4)
        assert len(cache[REQUEST.specs[0]]) == 8
        assert len(cache[HALF.specs[0]]) == 8
        extract(load(more), REQUEST, cache)
        full = values(more, REQUEST.specs[0], cache)
        np.testing.assert_allclose(values(more, HALF.specs[0], cache), full, rtol=1e-3, atol=1e-3 * full.max())

    def test_full_rows_are_not_made_of_halves(self, class_folder: Path, cache: FeatureCache) -> None:
        extract(load(class_folder), HALF, cache)
        assert extract(load(class_folder), REQUEST, cache).rows_computed == 8

    def test_only_the_rows_asked_for_are_made(self, class_folder: Path, cache: FeatureCache) -> None:
        extract(load(class_folder), REQUEST, cache)
        extract(load(class_folder / "a"), HALF, cache)
        assert len(cache[HALF.specs[0]]) == 4

    def test_looking_alone_makes_nothing(self, class_folder: Path, cache: FeatureCache) -> None:
        extract(load(class_folder), REQUEST, cache)
        assert find_missing(load(class_folder), HALF, cache).rows == [8]
        with pytest.raises(MissingFeatures, match="8 of 8 rows are not in the cache"):
            stored_features(load(class_folder), HALF, cache)
        assert cache.spaces() == [REQUEST.specs[0].folder_name]
        assert find_missing(load(class_folder), HALF, cache, count_fillable=True).rows == [0]
        assert cache.spaces() == [REQUEST.specs[0].folder_name]
        fill_from_stored(load(class_folder).identify(cache), HALF, cache)
        assert find_missing(load(class_folder), HALF, cache).rows == [0]


@pytest.mark.parametrize(("kind", "components"), KINDS)
class TestCodes:
    def test_new_images_are_computed_in_full_and_encoded(
        self, class_folder: Path, more: Path, cache: FeatureCache, kind: str, components: int | None
    ) -> None:
        extract(load(class_folder), REQUEST, cache)
        wanted = copy_of(cache, kind, components)
        report = extract(load(more), wanted, cache)
        assert (report.rows_total, report.rows_computed, report.rows_reused) == (8, 4, 4)
        assert report.spaces == [str(cache[wanted.specs[0]].folder)]
        again = extract(load(more), wanted, cache)
        assert (again.rows_total, again.rows_computed, again.rows_reused) == (8, 0, 8)
        full, found = values(more, REQUEST.specs[0], cache), values(more, wanted.specs[0], cache)
        parameters = parameters_of(cache[wanted.specs[0]])
        if kind == "pca":
            expected = (full - parameters["mean"]) @ parameters["axes"].T
            np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
        else:
            top = parameters["scale"] * 127
            assert (np.abs(found - np.clip(full, -top, top)) <= parameters["scale"] / 2 * 1.001).all()

    def test_rows_in_the_full_space_need_no_net(
        self, class_folder: Path, more: Path, cache: FeatureCache, no_net: Callable, kind: str, components: int | None
    ) -> None:
        extract(load(class_folder), REQUEST, cache)
        wanted = copy_of(cache, kind, components)
        extract(load(more), REQUEST, cache)
        no_net()
        report = extract(load(more), wanted, cache)
        assert (report.rows_computed, report.rows_reused) == (0, 8)

    def test_unreadable_images_are_skipped_and_counted_with_their_copies(
        self, class_folder: Path, cache: FeatureCache, kind: str, components: int | None
    ) -> None:
        extract(load(class_folder), REQUEST, cache)
        wanted = copy_of(cache, kind, components)
        bad = class_folder / "a" / "2.png"
        bad.write_bytes(bad.read_bytes()[:-40])
        shutil.copy(bad, class_folder / "b" / "copy.png")
        (class_folder / "b" / "none.png").write_text("no image")
        with pytest.raises(BadImage):
            extract(load(class_folder), wanted, cache)
        report = extract(load(class_folder), wanted, cache, on_error="skip")
        assert sorted(problem.id for problem in report.skipped) == ["a/2.png", "b/copy.png", "b/none.png"]
        assert (report.rows_total, report.rows_computed, report.rows_reused, report.rows_skipped) == (10, 0, 7, 3)
        found = stored_features(load(class_folder), wanted, cache, on_error="skip")
        assert len(found.dataset) == 7

    def test_a_copy_whose_codes_are_lost_is_said(
        self, class_folder: Path, more: Path, cache: FeatureCache, kind: str, components: int | None
    ) -> None:
        extract(load(class_folder), REQUEST, cache)
        wanted = copy_of(cache, kind, components)
        for part in cache[wanted.specs[0]].segments:
            part.path.unlink()
        with pytest.raises(MissingFeatures, match="with them its codes are lost; shrink again"):
            extract(load(more), wanted, cache)


class TestRequestOf:
    @pytest.mark.parametrize(
        "original",
        [
            REQUEST,
            HALF,
            FeatureRequest(Net("glyphnet", "none", 3), ("block1_pool",), "max", (24, 20), "pad", "nearest"),
            FeatureRequest(Net("glyphnet", preprocessing="unit"), ("block2_pool",)),
        ],
        ids=["plain", "float16", "options", "preprocessing"],
    )
    def test_a_space_gives_the_request_that_filled_it(
        self, class_folder: Path, cache: FeatureCache, original: FeatureRequest
    ) -> None:
        extract(load(class_folder), original, cache)
        again = request_of(cache.open(original.specs[0].folder_name))
        assert again.specs == original.specs
        assert extract(load(class_folder), again, cache).rows_computed == 0

    @pytest.mark.parametrize(("kind", "components"), [("float16", None), *KINDS])
    def test_a_shrunk_copy_gives_its_own(
        self, class_folder: Path, cache: FeatureCache, kind: str, components: int | None
    ) -> None:
        extract(load(class_folder), REQUEST, cache)
        wanted = copy_of(cache, kind, components)
        assert wanted.specs[0].folder_name in cache.spaces()
        assert (wanted.net.name, wanted.layers) == ("glyphnet", ("block1_pool",))


class TestRowsOf:
    def test_rows_come_in_the_order_of_the_images_with_their_labels(
        self, class_folder: Path, cache: FeatureCache
    ) -> None:
        extract(load(class_folder), REQUEST, cache)
        backwards = load(class_folder).select(np.arange(8)[::-1])
        found = rows_of(backwards, cache[REQUEST.specs[0]], cache)
        assert found.dataset.ids == backwards.ids
        assert found.dataset.labels.tolist() == ["b"] * 4 + ["a"] * 4
        forwards = values(class_folder, REQUEST.specs[0], cache)
        np.testing.assert_array_equal(np.asarray(found.features["block1_pool"]), forwards[::-1])
        assert len(np.unique(found.groups)) == 8

    @pytest.mark.parametrize("how", ["no image", "damaged"])
    def test_images_that_cannot_be_read_are_left_out(self, class_folder: Path, cache: FeatureCache, how: str) -> None:
        file = class_folder / "a" / "2.png"
        file.write_text("no image") if how == "no image" else file.write_bytes(file.read_bytes()[:-40])
        extract(load(class_folder), REQUEST, cache, on_error="skip")
        found = rows_of(load(class_folder), cache[REQUEST.specs[0]], cache)
        assert [problem.id for problem in found.skipped] == ["a/2.png"]
        assert len(found.dataset) == len(found.features["block1_pool"]) == len(found.groups) == 7

    def test_rows_that_are_missing_are_counted(self, class_folder: Path, more: Path, cache: FeatureCache) -> None:
        extract(load(class_folder), REQUEST, cache)
        with pytest.raises(MissingFeatures, match=r"4 of 8 rows .*are not in"):
            rows_of(load(more), cache[REQUEST.specs[0]], cache)
