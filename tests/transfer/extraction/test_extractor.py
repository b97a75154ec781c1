"""`FeatureExtractor`: a transformer by the rules of scikit-learn, which computes nothing twice."""

from __future__ import annotations

import pickle
import shutil
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted

from feature_cache import FeatureCache
from feature_cache.errors import BadData, BadImage, InvalidChoice, LayertapError
from transfer import FeatureExtractor
from transfer.data import datasets
from transfer.data.datasets import Dataset
from transfer.data.images import to_pixels
from transfer.engines.runner import BatchRunner
from transfer.extraction import extractor
from transfer.extraction.extract import extract
from transfer.extraction.lookup import stored_features
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

SIZE = 28


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureCache:
    """The cache that is used by default."""
    monkeypatch.setenv("LAYERTAP_CACHE", str(tmp_path / "cache"))
    return FeatureCache(tmp_path / "cache")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return datasets.load("digits").select(np.arange(60))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows computed by each extraction of this process."""
    rows: list[int] = []

    def spy(*arguments: Any, **options: Any) -> Any:
        report = extract(*arguments, **options)
        rows.append(report.rows_computed)
        return report

    monkeypatch.setattr(extractor, "extract", spy)
    return rows


@pytest.fixture
def no_net(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on no net is run."""
    return lambda: monkeypatch.setattr(BatchRunner, "run", lambda *_: pytest.fail("the net was run"))


@pytest.fixture
def files(tmp_path: Path, write_image: Callable[..., Path]) -> list[Path]:
    """Six image files, gray and colour, of different sizes."""
    return [
        write_image(tmp_path / "images" / f"{number}.png", number, 10 + number, "L" if number % 2 else "RGB")
        for number in range(6)
    ]


def pixels(dataset: Dataset) -> np.ndarray:
    """Its images as one array: shape (n, 8, 8), uint8."""
    return np.stack([to_pixels(source.load()[1], (8, 8))[..., 0] for source in dataset.sources])


def small(layer: Any = None, **options: Any) -> FeatureExtractor:
    return FeatureExtractor("glyphnet", layer, size=SIZE, **options)


def written(cache: FeatureCache) -> int:
    """Rows in the cache, copies counted."""
    return sum(part.rows for name in cache.spaces() for part in cache.open(name).index.listed)


class TestFeatures:
    @pytest.mark.slow
    def test_they_are_those_that_extract_puts_into_the_cache(self, digits: Dataset, tmp_path: Path) -> None:
        found = small().fit_transform(digits)
        request, other = FeatureRequest(Net("glyphnet"), size=(SIZE, SIZE)), FeatureCache(tmp_path / "other")
        extract(digits, request, other)
        expected = np.asarray(stored_features(digits, request, other).features["block4_pool"])
        np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())
        assert (found.shape, found.dtype) == ((60, 256), np.float32)

    def test_several_layers_are_side_by_side_in_the_order_asked_for(self, digits: Dataset) -> None:
        shallow, deep = small("block2_pool").transform(digits), small(["block4_pool"]).transform(digits)
        both = small(("block4_pool", "block2_pool")).transform(digits)
        np.testing.assert_array_equal(both, np.hstack([deep, shallow]))

    def test_a_layer_may_be_an_index(self, digits: Dataset) -> None:
        extractor = small(-1)
        np.testing.assert_array_equal(extractor.transform(digits), small("block4_pool").transform(digits))
        assert extractor.get_feature_names_out()[0] == "block4_pool_0"

    @pytest.mark.slow
    def test_a_net_file_is_recognised_by_its_content(self, digits: Dataset, save_net: Callable[..., Net]) -> None:
        keras = pytest.importorskip("keras")

        def save(layer: str, filters: int) -> FeatureExtractor:
            inputs = keras.Input((16, 16, 3))
            net = save_net(keras.Model(inputs, keras.layers.Conv2D(filters, 3, name=layer)(inputs)))
            return FeatureExtractor(net.name)

        extractor = save("one", 3)
        assert extractor.transform(digits).shape == (60, 3)
        assert extractor.get_feature_names_out().tolist() == ["one_0", "one_1", "one_2"]
        save("other", 2)
        assert extractor.transform(digits).shape == (60, 2)
        assert extractor.get_feature_names_out().tolist() == ["other_0", "other_1"]

    @pytest.mark.slow
    def test_maps_become_rows(self, digits: Dataset) -> None:
        maps = small("block4_pool", pool="none").transform(digits.sources[:5])
        flat = small("block4_pool", pool="flatten").transform(digits.sources[:5])
        assert maps.shape == (5, len(small("block4_pool", pool="none").get_feature_names_out()))
        np.testing.assert_allclose(maps, flat, atol=1e-5 * flat.max())

    @pytest.mark.slow
    def test_what_shapes_the_numbers_is_passed_on(self, files: list[Path], cache: FeatureCache) -> None:
        options = {
            "pool": "max",
            "size": (16, 24),
            "weights": "none",
            "image_fit": "pad",
            "interpolation": "nearest",
            "preprocessing": "unit",
            "dtype": "float16",
            "seed": 3,
        }
        found = FeatureExtractor("glyphnet", "block1_pool", **options).transform(files)
        (space,) = cache.spaces()
        spec = cache.open(space).spec
        assert spec.weights == "random-3"
        assert {name: getattr(spec, name) for name in ("pooling", "size", "interpolation", "preprocessing")} == {
            "pooling": "max",
            "size": (16, 24),
            "interpolation": "nearest",
            "preprocessing": "unit",
        }
        assert (spec.fit, spec.dtype, spec.layer) == ("pad", "float16", "block1_pool")
        assert found.dtype == np.float32

    def test_rows_keep_their_order_and_copies_share_one(
        self, files: list[Path], tmp_path: Path, computed: list[int]
    ) -> None:
        shutil.copy(files[0], tmp_path / "copy.gif")
        rows = small().transform([*files, tmp_path / "copy.gif", files[3], files[3]])
        assert computed == [6]
        np.testing.assert_array_equal(rows[6:], rows[[0, 3, 3]])
        np.testing.assert_array_equal(small().transform(files[::-1]), rows[:6][::-1])
        assert len(np.unique(rows, axis=0)) == 6

    def test_the_cache_may_be_named(self, digits: Dataset, tmp_path: Path, cache: FeatureCache) -> None:
        small(cache=tmp_path / "mine").transform(digits)
        assert len(FeatureCache(tmp_path / "mine").spaces()) == 1
        assert cache.spaces() == []

    def test_nothing_is_printed(self, digits: Dataset, capfd: pytest.CaptureFixture[str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            small().fit_transform(digits)
        assert capfd.readouterr() == ("", "")


class TestForms:
    def test_paths_in_all_their_forms_give_the_same_rows(self, files: list[Path]) -> None:
        expected = small().transform(files)
        names = [str(file) for file in files]
        column = np.array(names)[:, None]
        for form in (names, tuple(names), np.array(names), np.array(files), column, column.astype(object), [*column]):
            np.testing.assert_array_equal(small().fit(form).transform(form), expected)
        np.testing.assert_array_equal(small().transform([[name] for name in names]), expected)
        np.testing.assert_array_equal(small().transform(datasets.from_files(files)), expected)

    def test_arrays_in_all_their_forms_give_the_same_rows(self, digits: Dataset, computed: list[int]) -> None:
        images = pixels(digits)
        expected = small().transform(digits)
        alone = np.empty(len(images), object)
        alone[:] = list(images)
        floats = images / np.float32(255)
        for form in (images, list(images), alone, images[..., None], floats, floats.astype(float), floats[..., None]):
            np.testing.assert_array_equal(small().fit(form).transform(form), expected)
        assert computed == [60], "an image is the same in whichever form it comes"

    def test_images_of_different_sizes_and_channels_mix_with_paths(self, files: list[Path]) -> None:
        rng = np.random.default_rng(0)
        shapes = [(9, 12), (10, 8, 1), (30, 20, 3), (8, 8, 4)]
        images: list[Any] = [rng.integers(0, 256, shape, np.uint8) for shape in shapes]
        rows = small().transform([*images, files[0]])
        for position, image in enumerate([*images, files[0]]):
            np.testing.assert_allclose(small().transform([image])[0], rows[position], atol=1e-5 * rows.max())

    def test_transparent_arrays_are_laid_over_white(self) -> None:
        opaque = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
        transparent = np.dstack([opaque, np.full((8, 8), 255, np.uint8)])
        hidden = transparent * np.array([1, 1, 1, 0], np.uint8)
        rows = small().transform([opaque, transparent, hidden, np.full((8, 8, 3), 255, np.uint8)])
        np.testing.assert_allclose(rows[[0, 2]], rows[[1, 3]], atol=1e-5 * rows.max())

    def test_a_column_of_a_table_keeps_its_name_and_index(self, files: list[Path]) -> None:
        pandas = pytest.importorskip("pandas")
        table = pandas.DataFrame({"path": [str(file) for file in files]}, index=list("uvwxyz"))
        expected = small().transform(files)
        fitted = small().fit(table)
        assert fitted.n_features_in_ == 1
        assert fitted.feature_names_in_.tolist() == ["path"]
        np.testing.assert_array_equal(fitted.transform(table), expected)
        np.testing.assert_array_equal(small().transform(table["path"]), expected)
        with pytest.raises(ValueError, match="feature names should match"):
            fitted.transform(table.rename(columns={"path": "file"}))
        assert not hasattr(fitted.fit(files), "feature_names_in_")

        framed = small().set_output(transform="pandas").fit_transform(table)
        assert (framed.index.tolist(), framed.columns[-1]) == (list("uvwxyz"), "block4_pool_255")
        columns = ColumnTransformer([("image", small(), ["path"])]).set_output(transform="pandas")
        assert columns.fit_transform(table).columns[0] == "image__block4_pool_0"

    @pytest.mark.parametrize(
        ("X", "message"),
        [
            ("photos/a.png", r"X is 'photos/a.png' alone; put the path in a list"),
            ([], r"X holds 0 images, and at least 1 is required"),
            (np.empty((0, 8, 8), np.uint8), r"X holds 0 images"),
            (np.zeros((5, 3)), r"X is a table of 5 rows and 3 columns; give paths of images, or images as arrays"),
            (np.zeros((28, 28, 3), np.uint8), r"X of shape \(28, 28, 3\) looks like a single image; put it in a list"),
            ([[0.5, 0.1]], r"item 0 of X is \[0.5, 0.1\]; give paths of images"),
            (["a.png", None], r"item 1 of X is None; give paths"),
            (["a\0.png"], r"item 0 of X is 'a\\x00.png'"),
            ({"a.png"}, r"X is a set; give paths"),
            (np.zeros((5, 8, 8, 2), np.uint8), r"image 0 of X has the shape \(8, 8, 2\)"),
            ([np.zeros((8, 8), np.uint8), np.zeros(8)], r"image 1 of X has the shape \(8,\)"),
            (np.zeros((5, 8, 0), np.uint8), r"image 0 of X has the shape \(8, 0\)"),
            (np.zeros((5, 8, 8), int), r"image 0 of X holds int64; shades are uint8 from 0 to 255, or floats from 0"),
            (np.full((5, 8, 8), 16.0), r"image 0 of X holds floats from 16 to 16; shades are uint8 .*: convert it"),
            (np.full((5, 8, 8), -0.5), r"image 0 of X holds floats from -0.5 to -0.5"),
            (np.full((5, 8, 8), np.nan), r"image 0 of X holds NaN or infinity"),
        ],
    )
    def test_what_is_no_image_is_refused_in_one_line(self, X: Any, message: str) -> None:
        for method in (small().fit, small().transform):
            with pytest.raises(BadData, match=message) as refused:
                method(X)
            assert "\n" not in str(refused.value)


class TestUnreadable:
    def test_a_missing_file_is_one_line_that_names_it(self, files: list[Path]) -> None:
        files[2].unlink()
        with pytest.raises(BadImage, match=r"^cannot read the image .*2\.png: No such file.*`on_error='nan'`\.$"):
            small().fit_transform(files)

    @pytest.mark.parametrize("how", ["no image", "damaged"])
    def test_a_corrupted_file_is_one_line_that_names_it(self, files: list[Path], how: str) -> None:
        files[4].write_bytes(b"no image" if how == "no image" else files[4].read_bytes()[:-40])
        with pytest.raises(LayertapError, match=r"4\.png (is not|cannot be).*rows of NaN with `on_error='nan'`\.$"):
            small().transform(files)

    def test_it_may_be_a_row_of_nan_so_that_rows_match_labels(self, files: list[Path], computed: list[int]) -> None:
        files[0].unlink()
        files[4].write_bytes(files[4].read_bytes()[:-40])
        rows = small(on_error="nan").transform(files)
        assert np.isnan(rows).all(1).tolist() == [True, False, False, False, True, False]
        np.testing.assert_array_equal(rows[[1, 2, 3, 5]], small().transform([files[i] for i in (1, 2, 3, 5)]))
        assert computed == [4]

    def test_nothing_but_unreadable_images_has_the_width_all_the_same(self, tmp_path: Path) -> None:
        rows = small(on_error="nan").transform([tmp_path / "gone.png"])
        assert rows.shape == (1, 256)
        assert np.isnan(rows).all()


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"net": "vgg17"}, r"there is no net 'vgg17'; did you mean"),
            ({"pool": "mean"}, r"there is no pooling 'mean'"),
            ({"image_fit": "cut"}, r"there is no fit 'cut'"),
            ({"dtype": "int8"}, r"there is no dtype 'int8'; allowed: float32, float16"),
            ({"engine": "tvm"}, r"there is no engine 'tvm'"),
            ({"on_error": "skip"}, r'on_error is "fail", or "nan" \(.*\); received \'skip\''),
            ({"size": "64"}, r"size is a number of pixels, or \(height, width\); received '64'"),
            ({"size": (8, 8)}, r"glyphnet needs images of at least 16 x 16"),
            ({"layer": 99}, r"received index 99"),
            ({"weights": "imagenet"}, r"glyphnet has no ImageNet weights"),
        ],
    )
    def test_parameters_are_checked_by_fit_and_transform_not_before(
        self, digits: Dataset, options: dict[str, Any], message: str
    ) -> None:
        extractor = FeatureExtractor(**options)
        for method in (extractor.fit, extractor.transform):
            with pytest.raises(InvalidChoice, match=message):
                method(digits)

    def test_an_unknown_layer_is_named(self, digits: Dataset, cache: FeatureCache) -> None:
        for attempt in (lambda: small("block2_pol").fit_transform(digits), small("block2_pol").get_feature_names_out):
            with pytest.raises(InvalidChoice, match=r"no layer 'block2_pol'; did you mean .*'block2_pool'"):
                attempt()
        assert cache.spaces() == []


class TestNames:
    def test_they_are_layers_with_numbers(self, digits: Dataset) -> None:
        extractor = small(["block2_pool", "block4_pool"])
        width = extractor.fit_transform(digits).shape[1]
        names = extractor.get_feature_names_out()
        assert (len(names), names.dtype) == (width, object)
        assert names[[0, 63, 64, -1]].tolist() == [
            "block2_pool_0",
            "block2_pool_63",
            "block4_pool_0",
            "block4_pool_255",
        ]

    @pytest.mark.parametrize("pool", ["avg", "none"])
    def test_the_net_tells_their_number_before_and_the_cache_after(
        self, digits: Dataset, pool: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        extractor = small(["block3_pool", "block4_pool"], pool=pool)
        before = extractor.get_feature_names_out()
        assert len(before) == extractor.transform(digits.sources[:3]).shape[1]
        monkeypatch.setattr(FeatureRequest, "build", lambda _: pytest.fail("the net was built"))
        np.testing.assert_array_equal(extractor.get_feature_names_out(), before)


class TestPipelines:
    def pipeline(self, **options: Any) -> Pipeline:
        return make_pipeline(small("block4_pool", **options), LogisticRegression(C=1e-3, max_iter=500))

    def test_cross_validation_computes_each_image_once(
        self, digits: Dataset, computed: list[int], cache: FeatureCache
    ) -> None:
        scores = cross_val_score(self.pipeline(), digits, digits.labels, cv=3)
        assert scores.mean() > 0.8
        assert computed == [40, 20], "the second fold finds everything"
        assert written(cache) == 60

    def test_a_warm_cache_needs_no_net(self, digits: Dataset, no_net: Callable[[], None]) -> None:
        small("block4_pool").transform(digits)
        no_net()
        np.testing.assert_array_equal(
            cross_val_score(self.pipeline(), pixels(digits), digits.labels, cv=3),
            cross_val_score(self.pipeline(), digits, digits.labels, cv=3),
        )

    @pytest.mark.slow
    def test_a_search_over_layers_in_processes_computes_each_image_once(
        self, digits: Dataset, cache: FeatureCache
    ) -> None:
        layers = ["block2_pool", "block4_pool"]
        grid = {"featureextractor__layer": layers, "logisticregression__C": [1e-4, 1e-3]}
        search = GridSearchCV(self.pipeline(), grid, cv=3, n_jobs=2).fit(digits, digits.labels)
        assert search.best_score_ > 0.8
        assert written(cache) == 2 * 60
        assert search.predict(digits.sources[:4]).shape == (4,)

    def test_threads_wait_for_what_another_computes(self, digits: Dataset, computed: list[int]) -> None:
        parts = [digits.sources[start : start + 40] for start in (0, 10, 20)]
        threads = [threading.Thread(target=small().transform, args=(part,)) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(computed) == 60

    def test_where_nobody_can_wait_the_work_is_done(
        self, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "a file").touch()
        expected = small().transform(digits)
        monkeypatch.setattr("transfer.engines.openvino_store.folder", lambda: tmp_path / "a file" / "openvino")
        found = small(cache=tmp_path / "other").transform(digits)
        np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())

    def test_a_fitted_pipeline_is_kept_without_the_net(
        self, digits: Dataset, tmp_path: Path, no_net: Callable[[], None]
    ) -> None:
        fitted = self.pipeline().fit(digits, digits.labels)
        joblib.dump(fitted, tmp_path / "model.joblib")
        head = len(pickle.dumps(fitted[-1]))
        assert (tmp_path / "model.joblib").stat().st_size < head + 5000
        no_net()
        loaded = joblib.load(tmp_path / "model.joblib")
        np.testing.assert_array_equal(loaded.predict(digits), fitted.predict(digits))

    def test_it_needs_no_fit_to_transform(self, digits: Dataset) -> None:
        check_is_fitted(small())
        pipeline = Pipeline([("features", small()), ("head", LogisticRegression())])
        with pytest.raises(NotFittedError):
            pipeline.predict(digits)
        assert small().transform(digits.sources[:2]).shape == (2, 256)


class TestEstimator:
    def test_clones_and_text_hold_what_was_given(self) -> None:
        layers = ["block2_pool", -1]
        extractor = small(layers, cache="somewhere", on_error="nan")
        copied = clone(extractor)
        assert copied.get_params() == extractor.get_params()
        assert extractor.layer is layers
        text = "FeatureExtractor(cache='somewhere', layer=['block2_pool', -1], on_error='nan', size=28)"
        assert " ".join(repr(extractor).split()) == text
        assert pickle.loads(pickle.dumps(extractor)).get_params() == extractor.get_params()

    @pytest.mark.parametrize(("fit", "fill"), [("pad", "black"), (None, None)])
    def test_one_that_was_pickled_before_bars_were_gray_pads_with_black(
        self, fit: str | None, fill: str | None
    ) -> None:
        state = FeatureExtractor(image_fit=fit).__getstate__()
        del state["image_fill"]
        old = FeatureExtractor.__new__(FeatureExtractor)
        old.__setstate__(state)
        assert old.image_fill == fill

    def test_fit_opens_no_file_and_builds_no_net(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: FeatureCache
    ) -> None:
        monkeypatch.setattr(FeatureRequest, "build", lambda _: pytest.fail("the net was built"))
        small().fit([tmp_path / "not there.png"])
        assert not cache.root.exists()

    def test_importing_the_package_stays_light(self, run_python: Callable[..., Any]) -> None:
        code = """
import sys, transfer
heavy = ("sklearn", "keras", "tensorflow", "jax", "torch", "openvino")
print([name for name in heavy if name in sys.modules])
transfer.FeatureExtractor()
print([name for name in heavy if name in sys.modules])
try:
    transfer.Extractor
except AttributeError as error:
    print(error)
"""
        done = run_python(code)
        missing = "module 'transfer' has no attribute 'Extractor'"
        assert done.stdout.splitlines() == ["[]", "['sklearn']", missing], done.stderr


class Tables(FeatureExtractor):
    """Takes the tables of scikit-learn's checks for gray images, one row of each for an image, shades of 0 to 1."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True  # or the checks would not run
        tags.input_tags.one_d_array = False  # or they would give one column of a table alone
        return tags

    def fit(self, X: Any, y: Any = None) -> Tables:
        return super().fit(self.as_images(X))

    def transform(self, X: Any) -> np.ndarray:
        return super().transform(self.as_images(X))

    @staticmethod
    def as_images(X: Any) -> Any:
        table = np.asarray(X)
        if table.ndim != 2 or table.dtype.kind not in "iufO":
            return X  # also what is sparse
        with np.errstate(invalid="ignore"):
            values = table.astype(np.float64)
            shades = 0.5 + values / (1 + abs(values)) / 2
        return np.repeat(shades[:, :, None], 8, axis=2)


# What is left is about tables, which images are not.
EXPECTED = {
    "check_complex_data": "a table of complex numbers is refused as every table is, in our words",
    "check_estimators_empty_data_messages": "images without pixels are refused, in our words: they have no features",
    "check_fit2d_predict1d": "a single row of numbers is refused, in our words: reshaping makes no image of it",
    "check_n_features_in": "images have no number of features",
    "check_n_features_in_after_fitting": "images have no number of features, and may be of any size",
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([Tables(size=SIZE)], expected_failed_checks=lambda _: EXPECTED)
def test_it_keeps_the_rules_of_scikit_learn(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


def test_the_checks_that_are_expected_to_fail_meet_a_refusal_in_one_line() -> None:
    for X in (np.full((4, 3), 1j), np.zeros((15, 0)), np.zeros(3), np.zeros((5, 3))):
        with pytest.raises(BadData) as refused:
            FeatureExtractor().fit(X)
        assert "\n" not in str(refused.value)
