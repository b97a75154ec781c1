"""Extraction: nothing is computed twice, nothing stale is read, and no interruption costs more than it must."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from feature_cache.cache import FeatureCache
from feature_cache.errors import BadData, BadImage, InvalidChoice, MissingFeatures
from transfer.data import datasets
from transfer.engines.runner import BatchRunner
from transfer.extraction.extract import extract
from transfer.extraction.lookup import find_missing, stored_features
from transfer.extraction.reading import read_batches
from transfer.extraction.report import Report
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

WriteImage = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


@pytest.fixture
def request_() -> FeatureRequest:
    return FeatureRequest(Net("glyphnet"), ("block2_pool",))


def run(folder: Path, wanted: FeatureRequest, cache: FeatureCache, **options: object) -> Report:
    return extract(datasets.load(str(folder)), wanted, cache, **options)


def rows(folder: Path, wanted: FeatureRequest, cache: FeatureCache, **options: str) -> dict[str, np.ndarray]:
    """The first layer's cached features by id."""
    found = stored_features(datasets.load(str(folder)), wanted, cache, **options)
    return dict(zip(found.dataset.ids, np.asarray(next(iter(found.features.values()))), strict=True))


class TestComputingOnce:
    def test_everything_is_computed_then_reused(
        self, class_folder: Path, request_: FeatureRequest, cache: FeatureCache
    ) -> None:
        first, second = run(class_folder, request_, cache), run(class_folder, request_, cache)
        assert (first.rows_total, first.rows_computed, first.rows_reused, first.rows_skipped) == (8, 8, 0, 0)
        assert (second.rows_total, second.rows_computed, second.rows_reused, second.rows_skipped) == (8, 0, 8, 0)
        assert first.bytes_written > 8 * 64 * 4
        assert second.bytes_written == 0
        assert first.images_per_second > 0

    def test_what_is_cached_equals_what_the_net_gives(
        self, class_folder: Path, request_: FeatureRequest, cache: FeatureCache, features_of: Callable
    ) -> None:
        run(class_folder, request_, cache)
        dataset = datasets.load(str(class_folder))
        (batch,) = read_batches(dataset, np.arange(8), request_, 8, {})
        expected = features_of(request_.build(), batch.inputs, "block2_pool", pooling="avg")[0]
        found = np.stack(list(rows(class_folder, request_, cache).values()))
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
        assert len(np.unique(found, axis=0)) == 8

    def test_features_do_not_depend_on_the_batch_size(
        self, class_folder: Path, request_: FeatureRequest, tmp_path: Path
    ) -> None:
        results = []
        for batch_size in (1, 3, 8, 100):
            cache = FeatureCache(tmp_path / f"cache-{batch_size}")
            run(class_folder, request_, cache, batch_size=batch_size)
            results.append(np.stack(list(rows(class_folder, request_, cache).values())))
        for other in results[1:]:
            np.testing.assert_allclose(other, results[0], atol=1e-5 * np.abs(results[0]).max())

    def test_copies_are_computed_once(self, class_folder: Path, request_: FeatureRequest, cache: FeatureCache) -> None:
        for number in range(5):
            shutil.copy(class_folder / "a" / "0.png", class_folder / "b" / f"copy {number}.png")
        report = run(class_folder, request_, cache)
        assert (report.rows_total, report.rows_computed, report.rows_reused) == (13, 8, 5)
        found = rows(class_folder, request_, cache)
        np.testing.assert_array_equal(found["b/copy 3.png"], found["a/0.png"])
        contents = stored_features(datasets.load(str(class_folder)), request_, cache).groups
        assert len(np.unique(contents)) == 8

    def test_another_data_set_reuses_the_images_that_it_shares(
        self, class_folder: Path, tmp_path: Path, write_image: WriteImage, request_: FeatureRequest, cache: FeatureCache
    ) -> None:
        run(class_folder, request_, cache)
        for number in range(4):
            (tmp_path / "more" / "x").mkdir(parents=True, exist_ok=True)
            shutil.copy(
                class_folder / "ab"[number % 2] / f"{number}.png", tmp_path / "more" / "x" / f"old {number}.gif"
            )
            write_image(tmp_path / "more" / "y" / f"new {number}.png", 100 + number)
        report = run(tmp_path / "more", request_, cache)
        assert (report.rows_total, report.rows_computed, report.rows_reused) == (8, 4, 4)
        shared = rows(tmp_path / "more", request_, cache)["x/old 2.gif"]
        np.testing.assert_array_equal(shared, rows(class_folder, request_, cache)["a/2.png"])

    def test_a_renamed_folder_reuses_everything(
        self, class_folder: Path, request_: FeatureRequest, cache: FeatureCache
    ) -> None:
        run(class_folder, request_, cache)
        moved = class_folder.rename(class_folder.with_name("moved"))
        assert run(moved, request_, cache).rows_computed == 0

    def test_another_layer_computes_only_itself(
        self, class_folder: Path, request_: FeatureRequest, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run(class_folder, request_, cache)
        both = FeatureRequest(Net("glyphnet"), ("block2_pool", "block1_pool"))
        report = run(class_folder, both, cache)
        assert (report.rows_total, report.rows_computed, report.rows_reused) == (16, 8, 8)
        before, after = cache[request_.specs[0]], cache[both.specs[0]]
        assert [part.path for part in before.segments] == [part.path for part in after.segments]
        monkeypatch.setattr(BatchRunner, "run", lambda *_: pytest.fail("the net was run"))
        assert set(stored_features(datasets.load(str(class_folder)), both, cache).features) == {
            "block2_pool",
            "block1_pool",
        }

    @pytest.mark.slow
    def test_another_pooling_size_fit_or_seed_is_another_space(self, class_folder: Path, cache: FeatureCache) -> None:
        requests = [
            FeatureRequest(Net("glyphnet", "none"), ("block1_pool",)),
            FeatureRequest(Net("glyphnet", "none", seed=1), ("block1_pool",)),
            FeatureRequest(Net("glyphnet", "none"), ("block1_pool",), pooling="max"),
            FeatureRequest(Net("glyphnet", "none"), ("block1_pool",), size=(16, 16)),
            FeatureRequest(Net("glyphnet", "none"), ("block1_pool",), fit="pad"),
            FeatureRequest(Net("glyphnet", "none", preprocessing="unit"), ("block1_pool",)),
        ]
        assert [run(class_folder, wanted, cache).rows_computed for wanted in requests] == [8] * len(requests)
        assert [run(class_folder, wanted, cache).rows_computed for wanted in requests] == [0] * len(requests)

    def test_gray_and_colour_images_mix_and_keep_their_order(
        self, class_folder: Path, tmp_path: Path, write_image: WriteImage, request_: FeatureRequest, cache: FeatureCache
    ) -> None:
        for number in range(5):
            write_image(class_folder / "a" / f"colour {number}.png", 50 + number, mode="RGB")
        assert run(class_folder, request_, cache, batch_size=2).rows_computed == 13
        together = rows(class_folder, request_, cache)
        for number, name in enumerate(("a/0.png", "a/colour 3.png", "b/7.png")):
            alone, folder = FeatureCache(tmp_path / f"alone {number}"), tmp_path / f"one {number}"
            folder.mkdir()
            shutil.copy(class_folder / name, folder / "x.png")
            run(folder, request_, alone)
            (expected,) = rows(folder, request_, alone).values()
            np.testing.assert_allclose(together[name], expected, atol=1e-5 * np.abs(expected).max())

    def test_progress_counts_the_images_to_compute(
        self, class_folder: Path, request_: FeatureRequest, cache: FeatureCache
    ) -> None:
        seen: list[tuple[int, int]] = []
        run(class_folder, request_, cache, batch_size=3, progress=lambda done, total: seen.append((done, total)))
        assert seen == [(3, 8), (6, 8), (8, 8)]

    def test_nothing_missing_means_no_keras(
        self, class_folder: Path, cache: FeatureCache, run_python: Callable
    ) -> None:
        run(class_folder, FeatureRequest(Net("glyphnet")), cache)
        code = """
import sys
from pathlib import Path
from feature_cache.cache import FeatureCache
from transfer.data import datasets
from transfer.extraction.extract import extract
from transfer.extraction.lookup import stored_features
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest
dataset, cache, request = datasets.load(sys.argv[1]), FeatureCache(Path(sys.argv[2])), FeatureRequest(Net("glyphnet"))
print(extract(dataset, request, cache).rows_reused)
print(stored_features(dataset, request, cache).features["block4_pool"].shape)
print([name for name in ("keras", "tensorflow", "jax", "torch") if name in sys.modules])
"""
        done = run_python(code, class_folder, cache.root)
        assert done.stdout.splitlines() == ["8", "(8, 256)", "[]"], done.stderr

    def test_provenance_is_kept(self, class_folder: Path, request_: FeatureRequest, cache: FeatureCache) -> None:
        run(class_folder, request_, cache, batch_size=5)
        (segment,) = cache[request_.specs[0]].segments
        assert segment.provenance["engine"] in ("openvino", "keras-tensorflow", "keras-jax", "keras-torch")
        assert segment.provenance["batch_size"] == 5
        assert {"keras", "numpy", "layertap", "finished"} <= set(segment.provenance)


class TestMissing:
    def test_what_is_missing_is_found_without_decoding(
        self, class_folder: Path, request_: FeatureRequest, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copy(class_folder / "a" / "0.png", class_folder / "b" / "copy.png")
        monkeypatch.setattr("transfer.extraction.reading.pixels_for", lambda *_: pytest.fail("decoded"))
        dataset = datasets.load(str(class_folder))
        missing = find_missing(dataset, request_, cache)
        assert missing.rows == [len(missing.jobs)] == [8]
        assert [dataset.ids[position] for position in missing.jobs][:1] == ["a/0.png"]

    def test_rows_that_are_missing_are_counted_and_the_cache_is_named(
        self, class_folder: Path, write_image: WriteImage, request_: FeatureRequest, cache: FeatureCache
    ) -> None:
        run(class_folder, request_, cache)
        write_image(class_folder / "b" / "new.png", 77)
        with pytest.raises(MissingFeatures, match=f"1 of 9 rows are not in the cache {cache.root}"):
            rows(class_folder, request_, cache)

    def test_an_unknown_layer_is_refused_and_leaves_nothing(self, class_folder: Path, cache: FeatureCache) -> None:
        with pytest.raises(InvalidChoice, match=r"no layer 'block2_pol'; did you mean .*'block2_pool'"):
            run(class_folder, FeatureRequest(Net("glyphnet"), ("block2_pol",)), cache)
        assert not list(cache.root.glob("*/*"))


def damage(file: Path) -> None:
    """Cut the image short: its header still reads."""
    file.write_bytes(file.read_bytes()[:-40])


class TestUnreadable:
    def test_an_image_that_is_none_fails_before_anything_is_computed(
        self, class_folder: Path, request_: FeatureRequest, cache: FeatureCache
    ) -> None:
        (class_folder / "a" / "2.png").write_text("no image")
        with pytest.raises(BadImage, match=r"2\.png is not an image .* leave such images out with `on_error='skip'`"):
            run(class_folder, request_, cache)
        assert not cache[request_.specs[0]].segments

    def test_a_damaged_image_fails_and_what_was_computed_is_kept(
        self, class_folder: Path, request_: FeatureRequest, cache: FeatureCache
    ) -> None:
        damage(class_folder / "b" / "7.png")
        with pytest.raises(BadImage, match=r"b/7\.png cannot be decoded .* What was computed is kept"):
            run(class_folder, request_, cache, batch_size=2)
        kept = len(cache[request_.specs[0]].index)
        assert kept >= 6
        report = run(class_folder, request_, cache, on_error="skip")
        assert (report.rows_computed, report.rows_skipped) == (7 - kept, 1)

    @pytest.mark.parametrize("how", ["no image", "damaged"])
    def test_skipping_leaves_out_only_the_unreadable(
        self, class_folder: Path, request_: FeatureRequest, cache: FeatureCache, how: str
    ) -> None:
        file = class_folder / "a" / "2.png"
        damage(file) if how == "damaged" else file.write_text("no image")
        report = run(class_folder, request_, cache, on_error="skip")
        assert (report.rows_total, report.rows_computed, report.rows_reused, report.rows_skipped) == (8, 7, 0, 1)
        assert [problem.id for problem in report.skipped] == ["a/2.png"]
        found = rows(class_folder, request_, cache, on_error="skip")
        assert len(found) == 7
        assert "a/2.png" not in found
        again = run(class_folder, request_, cache, on_error="skip")
        assert (again.rows_computed, again.rows_reused, again.rows_skipped) == (0, 7, 1)

    def test_an_extraction_that_takes_long_and_finds_nothing_readable_tells_of_no_peak(
        self, class_folder: Path, request_: FeatureRequest, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("transfer.extraction.extract.PEAK_SECONDS", 0)
        for file in class_folder.glob("*/*.png"):
            damage(file)
        report = run(class_folder, request_, cache, on_error="skip")
        assert (report.rows_computed, report.rows_skipped, report.peak) == (0, 8, 0.0)

    def test_reading_the_cache_fails_for_the_unreadable_unless_skipped(
        self, class_folder: Path, request_: FeatureRequest, cache: FeatureCache
    ) -> None:
        damage(class_folder / "a" / "2.png")
        run(class_folder, request_, cache, on_error="skip")
        with pytest.raises(BadImage, match=r"a/2\.png cannot be decoded"):
            rows(class_folder, request_, cache)

    def test_every_copy_of_a_damaged_image_is_skipped(
        self, class_folder: Path, request_: FeatureRequest, cache: FeatureCache
    ) -> None:
        damage(class_folder / "a" / "2.png")
        shutil.copy(class_folder / "a" / "2.png", class_folder / "b" / "copy.png")
        report = run(class_folder, request_, cache, on_error="skip")
        assert sorted(problem.id for problem in report.skipped) == ["a/2.png", "b/copy.png"]
        assert (report.rows_total, report.rows_computed, report.rows_reused, report.rows_skipped) == (9, 7, 0, 2)
        found = stored_features(datasets.load(str(class_folder)), request_, cache, on_error="skip")
        assert sorted(problem.id for problem in found.skipped) == ["a/2.png", "b/copy.png"]
        assert len(found.dataset) == 7

    def test_all_of_a_data_set_may_be_skipped(
        self, tmp_path: Path, request_: FeatureRequest, cache: FeatureCache
    ) -> None:
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "1.png").write_text("no image")
        report = run(tmp_path / "bad", request_, cache, on_error="skip")
        assert (report.rows_total, report.rows_computed, report.rows_skipped) == (1, 0, 1)

    def test_a_file_that_changes_after_it_was_looked_up_is_kept_under_its_new_content(
        self,
        class_folder: Path,
        tmp_path: Path,
        write_image: WriteImage,
        request_: FeatureRequest,
        cache: FeatureCache,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def find_then_change(*arguments: object, **options: bool) -> object:
            missing = find_missing(*arguments, **options)
            write_image(class_folder / "a" / "2.png", 1234)
            return missing

        monkeypatch.setattr("transfer.extraction.extract.find_missing", find_then_change)
        run(class_folder, request_, cache)
        monkeypatch.undo()
        assert run(class_folder, request_, cache).rows_computed == 0
        fresh = FeatureCache(tmp_path / "fresh")
        run(class_folder, request_, fresh)
        expected = rows(class_folder, request_, fresh)
        for name, row in rows(class_folder, request_, cache).items():
            np.testing.assert_allclose(row, expected[name], atol=1e-5 * np.abs(row).max())

    def test_a_file_that_goes_away_meanwhile_is_unreadable(
        self, class_folder: Path, request_: FeatureRequest, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def find_then_remove(*arguments: object, **options: bool) -> object:
            missing = find_missing(*arguments, **options)
            (class_folder / "a" / "2.png").unlink()
            return missing

        monkeypatch.setattr("transfer.extraction.extract.find_missing", find_then_remove)
        report = run(class_folder, request_, cache, on_error="skip")
        assert [problem.id for problem in report.skipped] == ["a/2.png"]
        assert report.rows_computed == 7


class TestReading:
    def test_batches_are_full_but_for_the_last_and_of_one_kind(
        self, class_folder: Path, write_image: WriteImage, request_: FeatureRequest
    ) -> None:
        for number in range(3):
            write_image(class_folder / "a" / f"colour {number}.png", 50 + number, mode="RGB")
        dataset = datasets.load(str(class_folder))
        batches = list(read_batches(dataset, np.arange(11), request_, 3, []))
        sizes = sorted((batch.inputs.shape[-1], len(batch.inputs)) for batch in batches)
        assert sizes == [(1, 2), (1, 3), (1, 3), (3, 3)]
        assert all(batch.inputs.shape[1:3] == (32, 32) and batch.inputs.dtype == np.uint8 for batch in batches)
        seen = {digest.tobytes() for batch in batches for digest in batch.digests}
        assert len(seen) == 11

    def test_only_the_positions_asked_for_are_read(self, class_folder: Path, request_: FeatureRequest) -> None:
        dataset = datasets.load(str(class_folder))
        (batch,) = read_batches(dataset, np.array([5, 1]), request_, 4, [])
        assert [row.tobytes() for row in batch.digests] == [dataset.sources[place].load()[0] for place in (5, 1)]

    def test_decoding_stays_a_bounded_number_ahead(
        self, tmp_path: Path, write_image: WriteImage, request_: FeatureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(40):
            write_image(tmp_path / "many" / f"{number:02d}.png", number)
        decoded: list[str] = []
        from transfer.data import images

        def spy(picture: object, spec: object, name: str) -> np.ndarray:
            decoded.append(name)
            return images.pixels_for(picture, spec, name)

        monkeypatch.setattr("transfer.extraction.reading.pixels_for", spy)
        monkeypatch.setattr("transfer.extraction.reading.FIRST_IMAGES", 0)
        batches = read_batches(datasets.load(str(tmp_path / "many")), np.arange(40), request_, 4, [], threads=2)
        next(batches)
        time.sleep(0.2)
        assert len(decoded) <= 4 + 2 * 4
        batches.close()
        time.sleep(0.1)
        assert len(decoded) <= 4 + 2 * 4 + 2


DRIVER = """
import sys, time
from pathlib import Path
import feature_cache.writer
feature_cache.writer.SEGMENT_SECONDS = 0.02
from feature_cache.cache import FeatureCache
from transfer.data import datasets
from transfer.extraction.extract import extract
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

wanted = FeatureRequest(Net("glyphnet"), ("block2_pool", "block1_pool"))
extract(
    datasets.load(sys.argv[1]), wanted, FeatureCache(Path(sys.argv[2])),
    batch_size=4, progress=lambda done, total: (print(done, flush=True), time.sleep(0.02)),
)
"""


class TestKilled:
    @pytest.mark.parametrize("kills", [1, pytest.param(8, marks=pytest.mark.slow)])
    def test_killed_at_any_moment_and_run_again_equals_uninterrupted(
        self, tmp_path: Path, write_image: WriteImage, cache: FeatureCache, rng: np.random.Generator, kills: int
    ) -> None:
        for number in range(300):
            write_image(tmp_path / "data" / f"{number:03d}.png", number)
        wanted = FeatureRequest(Net("glyphnet"), ("block2_pool", "block1_pool"))
        interrupted = 0
        for _ in range(kills):
            process = subprocess.Popen(
                [sys.executable, "-c", DRIVER, str(tmp_path / "data"), str(cache.root)],
                cwd=ROOT,
                env=os.environ,
                stdout=subprocess.PIPE,
            )
            assert process.stdout is not None
            process.stdout.readline()  # the first batch is done
            time.sleep(rng.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
            interrupted += process.wait() == -signal.SIGKILL
            process.stdout.close()
            for spec in wanted.specs:
                names = [file.name for file in cache[spec].folder.iterdir()]
                # One segment is being written and one may be being synced.
                assert sum(name.endswith(".tmp") for name in names) <= 2 * kills
                assert all(len(part) for part in cache[spec].segments)  # every one of them reads
        assert interrupted, "the extraction was over before it could be killed"

        kept = sum(len(cache[spec].index) for spec in wanted.specs)
        assert kept <= 600
        report = run(tmp_path / "data", wanted, cache)
        assert (report.rows_computed, report.rows_reused) == (600 - kept, kept)
        whole = FeatureCache(tmp_path / "whole")
        run(tmp_path / "data", wanted, whole)
        dataset = datasets.load(str(tmp_path / "data"))
        resumed, uninterrupted = (stored_features(dataset, wanted, one).features for one in (cache, whole))
        for layer in ("block2_pool", "block1_pool"):
            expected = np.asarray(uninterrupted[layer])
            np.testing.assert_allclose(np.asarray(resumed[layer]), expected, atol=1e-5 * np.abs(expected).max())

    def test_an_error_in_the_middle_keeps_what_was_computed(
        self, class_folder: Path, request_: FeatureRequest, cache: FeatureCache
    ) -> None:
        def interrupt(done: int, total: int) -> None:
            if done >= 4:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(class_folder, request_, cache, batch_size=2, progress=interrupt)
        report = run(class_folder, request_, cache)
        assert (report.rows_computed, report.rows_reused) == (4, 4)


def test_a_net_that_the_backend_does_not_take_is_one_line(tmp_path: Path) -> None:
    if keras.backend.backend() != "tensorflow":
        pytest.skip("TensorFlow alone is particular about names")
    inputs = keras.Input((32, 32, 3))
    keras.Model(inputs, keras.layers.Conv2D(2, 3, name="two words")(inputs)).save(tmp_path / "net.keras")
    dataset = datasets.load("digits").select(np.arange(3))
    with pytest.raises(BadData, match=r"Keras cannot run the net .*net\.keras: 'two words' is not a valid"):
        extract(
            dataset,
            FeatureRequest(Net(str(tmp_path / "net.keras"))),
            FeatureCache(tmp_path / "features"),
            engine="keras",
        )
    assert not list((tmp_path / "features").glob("*/segment-*"))
