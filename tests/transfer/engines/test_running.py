"""Running a net: the same features by any engine and batch size, smaller batches where memory is short."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from feature_cache.errors import BadData, InvalidChoice, MissingDependency, WeightsUnavailable
from feature_cache.keys import digest_array
from feature_cache.process import keras_import
from transfer.data.datasets import Dataset
from transfer.data.images import ArraySource
from transfer.engines import selection
from transfer.engines.base import Pending, out_of_memory, padded, within
from transfer.engines.batch import BATCH_IMAGES, Batch, default_batch_size
from transfer.engines.conversion.process import ConversionFailed
from transfer.engines.runner import BatchRunner
from transfer.engines.selection import ENGINES, choose, keras_backend
from transfer.extraction.reading import read_batches
from transfer.hardware import available_memory
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

WANTED = FeatureRequest(Net("glyphnet"), ("block1_pool", "block2_conv1"))


@pytest.fixture
def needs_openvino(needs_tensorflow: None) -> None:
    pytest.importorskip("openvino")


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is converted yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def random_images(count: int, colour: Callable[[int], bool] = lambda number: False, side: int = 32) -> Dataset:
    rng = np.random.default_rng(count)
    shapes = [(side, side, 3) if colour(number) else (side, side) for number in range(count)]
    sources = tuple(ArraySource(rng.integers(0, 256, shape, np.uint8), str(n)) for n, shape in enumerate(shapes))
    return Dataset("random", tuple(str(number) for number in range(count)), sources, None)


def read(dataset: Dataset, wanted: FeatureRequest, batch_size: int) -> Iterator[Batch]:
    return read_batches(dataset, range(len(dataset)), wanted, batch_size, {}, threads=2)


def features_by_image(engines: BatchRunner, dataset: Dataset, wanted: FeatureRequest = WANTED) -> list[np.ndarray]:
    """For each readout the rows in the order of the data set, each image in exactly one of them."""
    found: dict[bytes, list[np.ndarray]] = {}
    for batch, features in engines.run(read(dataset, wanted, engines.batch_size)):
        for place, digest in enumerate(batch.digests):
            assert digest.tobytes() not in found
            found[digest.tobytes()] = [part[place] for part in features]
    rows = [found.pop(digest_array(source.pixels)) for source in dataset.sources]
    assert not found
    return [np.stack(part) for part in zip(*rows, strict=True)]


def assert_close(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        scale = np.abs(other).max()
        assert scale > 0
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * scale)


class TestFeatures:
    @pytest.mark.slow
    @pytest.mark.parametrize("engine", ["keras", "openvino"])
    def test_they_do_not_depend_on_engine_batch_size_or_kind(self, request: pytest.FixtureRequest, engine: str) -> None:
        if engine == "openvino":
            request.getfixturevalue("needs_openvino")
        dataset = random_images(23, lambda number: number % 3 == 1)
        expected = features_by_image(BatchRunner(WANTED, 1, engine="keras"), dataset)
        assert len(np.unique(expected[0], axis=0)) == 23
        for batch_size in (2, 7, 100):
            engines = BatchRunner(WANTED, batch_size, engine=engine)
            assert engines.name == engine
            assert_close(features_by_image(engines, dataset), expected)
            assert engines.note == ""

    @pytest.mark.parametrize("engine", ["keras", "auto"])
    def test_batches_keep_their_order_and_are_released_when_the_next_is_asked_for(self, engine: str) -> None:
        dataset = random_images(40, lambda number: number % 2 == 1)
        engines = BatchRunner(WANTED, 3, engine=engine)
        given: list[bytes] = []
        released: list[bytes] = []

        def noted() -> Iterator[Batch]:
            for batch in read(dataset, WANTED, 3):
                name, release = batch.digests.tobytes(), batch.release
                given.append(name)

                def note(name: bytes = name, release: Callable[[], None] = release) -> None:
                    released.append(name)
                    release()

                batch.release = note
                yield batch

        came: list[bytes] = []
        for batch, _ in engines.run(noted()):
            assert released == came
            came.append(batch.digests.tobytes())
        assert came == given == released
        assert len(came) == 14

    def test_several_batches_are_under_way_and_no_more_than_the_engine_has_asked_for(self) -> None:
        engines, given, came = BatchRunner(WANTED, 2, engine="auto"), 0, 0

        def counted() -> Iterator[Batch]:
            nonlocal given
            for batch in read(random_images(40), WANTED, 2):
                given += 1
                yield batch

        most = 0
        for _ in engines.run(counted()):
            most = max(most, given - came)
            came += 1
        assert 2 < most <= 2 * 256 + 1
        assert came == 20

    def test_a_batch_that_is_larger_than_the_engines_is_computed_in_parts(self) -> None:
        dataset = random_images(10)
        expected = features_by_image(BatchRunner(WANTED, 10, engine="keras"), dataset)
        (batch,) = read(dataset, WANTED, 10)
        ((_, features),) = BatchRunner(WANTED, 3, engine="auto").run([batch])
        assert_close(features, expected)

    def test_no_batch_gives_nothing_and_engines_can_be_run_again(self) -> None:
        engines = BatchRunner(WANTED, 4)
        assert list(engines.run([])) == []
        dataset = random_images(9)
        first = features_by_image(engines, dataset)
        for one, other in zip(first, features_by_image(engines, dataset), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_provenance_names_what_has_computed(self) -> None:
        engines = BatchRunner(WANTED, 4, engine="keras")
        features_by_image(engines, random_images(5))
        backend = keras.backend.backend()
        assert engines.provenance["engine"] == f"keras-{backend}"
        assert engines.provenance["batch_size"] == 4
        assert engines.making > 0

    def test_the_peak_is_a_number_of_images(self) -> None:
        engines = BatchRunner(WANTED, 4, engine="auto")
        features_by_image(engines, random_images(5))
        assert engines.peak(0.1) > 10

    def test_engines_can_be_run_again_when_a_run_was_left_early(self, needs_openvino: None) -> None:
        engines, found = BatchRunner(WANTED, 2, engine="openvino"), []
        dataset = random_images(30)
        left = engines.run(read(dataset, WANTED, 2))
        next(left)
        left.close()
        thread = threading.Thread(target=lambda: found.append(features_by_image(engines, dataset)), daemon=True)
        thread.start()
        thread.join(5)
        assert found


class ResourceExhaustedError(Exception):
    """By its name as TensorFlow's."""


class OutOfMemoryError(RuntimeError):
    """By its name as PyTorch's."""


class Special(ResourceExhaustedError):
    """Of a type that is derived from TensorFlow's."""


def of_numpy() -> MemoryError:
    with pytest.raises(MemoryError) as raised:
        np.empty(2**60, np.uint8)
    return raised.value


SHORT = {
    "TensorFlow": lambda: ResourceExhaustedError("tensor of shape [32,112,112,64]"),
    "derived": lambda: Special("tensor"),
    "PyTorch": lambda: OutOfMemoryError("tried to allocate 2.00 GiB"),
    "Python": lambda: MemoryError(),
    "NumPy": of_numpy,
    "JAX": lambda: RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes."),
    "C++": lambda: RuntimeError("std::bad_alloc"),
    "system": lambda: OSError(12, "Cannot allocate memory"),
}
BY_ERROR = pytest.mark.parametrize("error", list(SHORT.values()), ids=list(SHORT))


class Small:
    """An engine whose memory suffices for `room` rows; its features are sums over the pixels."""

    room = 4
    ahead = 2
    sizes: list[int]
    error: Callable[[], Exception]
    fails_at = "wait"

    def __init__(self, model: object, batch_size: int, room: int | None) -> None:
        type(self).sizes.append(batch_size)
        if self.fails_at == "make":
            self.check(batch_size)
        self.batch_size = batch_size

    def check(self, rows: int) -> None:
        if rows > self.room:
            raise type(self).error()

    @staticmethod
    def describe() -> dict[str, str]:
        return {"engine": "small"}

    def start(self, inputs: np.ndarray) -> Pending:
        assert len(inputs) <= self.batch_size
        if self.fails_at == "start":
            self.check(self.batch_size)

        def wait() -> list[np.ndarray]:
            self.check(self.batch_size)
            sums = inputs.sum(axis=(1, 2, 3), dtype=np.float32)
            return [sums, -sums]

        return wait


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> type[Small]:
    monkeypatch.setattr("transfer.engines.keras_engine.KerasEngine", Small)
    monkeypatch.setattr(Small, "sizes", [], raising=False)
    monkeypatch.setattr(Small, "error", staticmethod(MemoryError), raising=False)
    for name in ("room", "ahead", "fails_at"):
        monkeypatch.setattr(Small, name, getattr(Small, name))
    return Small


def assert_right(engines: BatchRunner, dataset: Dataset) -> None:
    sums = np.array([source.pixels.sum(dtype=np.float32) for source in dataset.sources])
    found = features_by_image(engines, dataset)
    np.testing.assert_array_equal(found[0], sums)
    np.testing.assert_array_equal(found[1], -sums)


# Those that were under way with the size before fail too, and each of them halves it again, down to 1 and an error.


class TestShortOfMemory:
    @BY_ERROR
    def test_it_is_known(self, error: Callable[[], Exception]) -> None:
        assert out_of_memory(error())

    @pytest.mark.parametrize("error", [RuntimeError("memory of an elephant"), ValueError("shape"), KeyboardInterrupt()])
    def test_other_errors_are_known_to_be_others(self, error: BaseException) -> None:
        assert not out_of_memory(error)

    @BY_ERROR
    def test_smaller_batches_are_tried_and_the_features_are_right(
        self, small: type[Small], error: Callable[[], Exception]
    ) -> None:
        small.error = staticmethod(error)
        small.ahead = 0
        engines = BatchRunner(WANTED, 16, engine="keras")
        assert_right(engines, random_images(50))
        assert small.sizes == [16, 8, 4]
        assert engines.batch_size == engines.provenance["batch_size"] == 4

    def test_images_of_both_kinds_come_right_too(self, small: type[Small]) -> None:
        small.ahead = 0
        assert_right(BatchRunner(WANTED, 16, engine="keras"), random_images(50, lambda number: number % 2 == 0))

    @pytest.mark.parametrize(("batch_size", "halved"), [(5, 2), (7, 3), (100, 3)])
    def test_batch_sizes_that_are_no_power_of_two(self, small: type[Small], batch_size: int, halved: int) -> None:
        small.ahead = 0
        engines = BatchRunner(WANTED, batch_size, engine="keras")
        assert_right(engines, random_images(230))
        assert engines.batch_size == halved

    @pytest.mark.parametrize("ahead", [1, 2, 4, 8])
    def test_batches_that_were_under_way_are_computed_as_well(self, small: type[Small], ahead: int) -> None:
        small.ahead = ahead
        assert_right(BatchRunner(WANTED, 16, engine="keras"), random_images(200))

    @pytest.mark.parametrize("ahead", [1, 2, 4, 8])
    def test_batches_that_were_under_way_make_it_no_smaller_than_it_must_be(
        self, small: type[Small], ahead: int
    ) -> None:
        small.ahead = ahead
        engines = BatchRunner(WANTED, 128, engine="keras")
        assert_right(engines, random_images(1500))
        assert engines.batch_size == 4

    @pytest.mark.parametrize("fails_at", ["start", "make"])
    def test_memory_may_be_short_as_soon_as_a_batch_is_started_or_the_engine_made(
        self, small: type[Small], fails_at: str
    ) -> None:
        small.fails_at = fails_at
        small.ahead = 0
        engines = BatchRunner(WANTED, 16, engine="keras")
        assert_right(engines, random_images(50))
        assert engines.batch_size == 4

    @BY_ERROR
    def test_it_gives_up_when_a_single_image_is_too_much(
        self, small: type[Small], error: Callable[[], Exception]
    ) -> None:
        small.error, small.room = staticmethod(error), 0
        with pytest.raises(type(error())):
            features_by_image(BatchRunner(WANTED, 8, engine="keras"), random_images(50))
        assert small.sizes == [8, 4, 2, 1]

    def test_another_error_is_raised_at_once(self, small: type[Small]) -> None:
        small.error = staticmethod(lambda: ZeroDivisionError("an engine's own"))
        with pytest.raises(ZeroDivisionError, match="an engine's own"):
            features_by_image(BatchRunner(WANTED, 16, engine="keras"), random_images(50))
        assert small.sizes == [16]

    def test_another_error_while_it_gets_smaller_is_raised_at_once(self, small: type[Small]) -> None:
        errors = [MemoryError(), MemoryError(), ZeroDivisionError("an engine's own")]
        small.error, small.ahead = staticmethod(lambda: errors.pop(0)), 0
        with pytest.raises(ZeroDivisionError, match="an engine's own"):
            features_by_image(BatchRunner(WANTED, 64, engine="keras"), random_images(100))
        assert small.sizes == [64, 32, 16]


@pytest.fixture
def lacking(save_net: Callable[..., Net]) -> FeatureRequest:
    """A net with an operation that OpenVINO does not know."""
    inputs = keras.Input((16, 16, 3))
    resize = keras.layers.Resizing(9, 9, interpolation="lanczos5", name="lanczos")
    return FeatureRequest(save_net(keras.Model(inputs, resize(keras.layers.Conv2D(2, 3)(inputs)))), ("lanczos",))


@pytest.mark.usefixtures("needs_openvino", "own_folder")
class TestWhatOpenVinoCannotRun:
    def test_keras_runs_it_and_a_note_says_so(self, lacking: FeatureRequest) -> None:
        dataset = random_images(5, lambda number: True, side=16)
        for _ in range(2):  # at first, and when it is known
            engines = BatchRunner(lacking, 2, engine="auto")
            assert engines.name == "openvino"
            found = features_by_image(engines, dataset, lacking)
            assert engines.name == "keras"
            assert engines.note.startswith(f"OpenVINO cannot run {lacking.net.name} (")
            assert engines.note.endswith("; Keras runs it")
            assert "\n" not in engines.note
            assert engines.provenance["engine"] == "keras-tensorflow"
            assert_close(found, features_by_image(BatchRunner(lacking, 5, engine="keras"), dataset, lacking))

    def test_where_openvino_was_asked_for_it_is_refused_in_one_line(self, lacking: FeatureRequest) -> None:
        dataset = random_images(5, lambda number: True, side=16)
        for _ in range(2):
            with pytest.raises(InvalidChoice) as caught:
                features_by_image(BatchRunner(lacking, 2, engine="openvino"), dataset, lacking)
            assert str(caught.value).startswith(f"OpenVINO cannot run {lacking.net.name}: ")
            assert str(caught.value).endswith("; use `engine='keras'`.")
            assert "\n" not in str(caught.value)

    def test_the_reason_names_the_operation(self, lacking: FeatureRequest) -> None:
        engines = BatchRunner(lacking, 2, engine="auto")
        features_by_image(engines, random_images(3, lambda number: True, side=16), lacking)
        assert "ScaleAndTranslate" in engines.note

    @pytest.mark.slow
    def test_weights_that_cannot_be_had_for_the_moment_say_nothing_about_the_net(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The net has been converted for gray images; then its weights go away, and colour images come."""
        gray, colour = random_images(3), random_images(3, lambda number: True)
        features_by_image(BatchRunner(WANTED, 2, engine="openvino"), gray)

        def offline(*_: object, **options: bool) -> None:
            raise WeightsUnavailable("the weights cannot be fetched")

        with monkeypatch.context() as patch:
            patch.setattr("transfer.engines.factory.ConversionProcess.convert", offline)
            with pytest.raises(WeightsUnavailable):
                features_by_image(BatchRunner(replace(WANTED), 2, engine="auto"), colour)
        engines = BatchRunner(WANTED, 2, engine="auto")
        features_by_image(engines, colour)
        assert (engines.name, engines.note) == ("openvino", "")

    def test_a_conversion_that_computes_something_else_is_not_used(
        self, save_net: Callable[..., Net], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def wrong(model: keras.Model, file: Path) -> None:
            raise ValueError("its features differ by 1 from those of Keras, which reach 2")

        monkeypatch.setattr("transfer.engines.factory.convert", wrong)
        inputs = keras.Input((16, 16, 1))
        net = save_net(keras.Model(inputs, keras.layers.Conv2D(2, 3, name="conv")(inputs * 2.0)))
        wanted, dataset = FeatureRequest(net, ("conv",)), random_images(5, side=16)
        engines = BatchRunner(wanted, 2, engine="auto")
        assert_close(
            features_by_image(engines, dataset, wanted),
            features_by_image(BatchRunner(wanted, 5, engine="keras"), dataset, wanted),
        )
        assert "its features differ by 1 from those of Keras" in engines.note

    def test_what_keras_on_openvino_does_not_convert_goes_by_way_of_tensorflow(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise ConversionFailed("there is no such operation")

        monkeypatch.setattr("transfer.engines.factory.ConversionProcess.convert", fail)
        dataset, engines = random_images(5), BatchRunner(WANTED, 2, engine="openvino")
        assert_close(
            features_by_image(engines, dataset), features_by_image(BatchRunner(WANTED, 5, engine="keras"), dataset)
        )
        assert (engines.name, engines.note) == ("openvino", "")

    @pytest.mark.parametrize("engine", ["auto", "openvino"])
    def test_what_does_not_suit_the_net_is_said_as_by_keras(self, save_net: Callable[..., Net], engine: str) -> None:
        inputs = keras.Input((16, 16, 1))
        net = save_net(keras.Model(inputs, keras.layers.Conv2D(2, 3, name="conv")(inputs)), preprocessing="torch")
        wanted = FeatureRequest(net, ("conv",))
        with pytest.raises(InvalidChoice, match="^`preprocessing='torch'` is for colour"):
            features_by_image(BatchRunner(wanted, 2, engine=engine), random_images(3, side=16), wanted)


class TestChoice:
    @pytest.fixture(autouse=True)
    def cpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(selection, "accelerated", lambda backend: False)

    @pytest.fixture
    def no_keras(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """As in a process that has not imported Keras, for a user without a keras.json."""
        monkeypatch.delitem(sys.modules, "keras")
        monkeypatch.delenv("KERAS_BACKEND", raising=False)
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))

    @pytest.fixture
    def installed(self, monkeypatch: pytest.MonkeyPatch) -> set[str]:
        """The packages that there seem to be."""
        names = {"openvino", "tensorflow"}
        for module in (selection, keras_import):
            monkeypatch.setattr(module, "find_spec", lambda name: object() if name in names else None)
        return names

    def test_an_engine_that_there_is_not_is_refused_with_those_that_there_are(self) -> None:
        for name in ("nonsense", "", "OpenVINO", "tensorflow"):
            with pytest.raises(InvalidChoice, match=f"there is no engine '{name}'; allowed: {', '.join(ENGINES)}"):
                choose(name)

    @pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch", "openvino"])
    def test_openvino_computes_whatever_the_backend(
        self, no_keras: None, installed: set[str], monkeypatch: pytest.MonkeyPatch, backend: str
    ) -> None:
        monkeypatch.setenv("KERAS_BACKEND", backend)
        assert keras_backend() == backend
        assert choose("auto") == choose("openvino") == "openvino"
        assert choose("keras") == "keras"

    @pytest.mark.parametrize("noted", [None, "tensorflow"], ids=["no keras.json", "keras.json of Keras's own"])
    @pytest.mark.parametrize(
        ("names", "backend"),
        [
            ({"openvino", "tensorflow", "jax", "torch"}, "tensorflow"),
            ({"openvino", "jax", "torch"}, "jax"),
            ({"openvino", "torch"}, "torch"),
            ({"openvino"}, "openvino"),
            (set(), "tensorflow"),
        ],
    )
    def test_the_first_backend_that_is_installed_is_used(
        self,
        no_keras: None,
        installed: set[str],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        names: set[str],
        backend: str,
        noted: str | None,
    ) -> None:
        if noted:
            (tmp_path / "keras").mkdir()
            (tmp_path / "keras" / "keras.json").write_text(f'{{"backend": "{noted}"}}')
        installed.clear()
        installed.update(names)
        assert keras_backend() == backend

    def test_it_goes_by_keras_json_where_the_environment_is_silent(
        self, no_keras: None, installed: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "keras").mkdir()
        (tmp_path / "keras" / "keras.json").write_text('{"backend": "jax", "floatx": "float32"}')
        assert keras_backend() == "jax"
        monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
        assert keras_backend() == "tensorflow"

    def test_keras_json_is_looked_for_in_the_home_folder(
        self, no_keras: None, installed: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("KERAS_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".keras").mkdir()
        (tmp_path / ".keras" / "keras.json").write_text('{"backend": "torch"}')
        assert keras_backend() == "torch"

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"jax"', "null", "\xff"])
    def test_a_keras_json_that_says_nothing_is_as_none(
        self, no_keras: None, installed: set[str], tmp_path: Path, text: str
    ) -> None:
        (tmp_path / "keras").mkdir()
        (tmp_path / "keras" / "keras.json").write_bytes(text.encode("latin-1"))
        assert keras_backend() == "tensorflow"

    def test_what_keras_says_itself_comes_first(self, installed: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KERAS_BACKEND", "some other")
        assert keras_backend() == keras.backend.backend()

    def test_keras_computes_where_openvino_is_missing(self, no_keras: None, installed: set[str]) -> None:
        installed.remove("openvino")
        assert choose("auto") == "keras"

    def test_openvino_that_is_not_installed_is_named(self, no_keras: None, installed: set[str]) -> None:
        installed.remove("openvino")
        with pytest.raises(MissingDependency, match="pip install openvino"):
            choose("openvino")

    def test_a_gpu_is_used_unless_openvino_is_asked_for(
        self, no_keras: None, installed: set[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(selection, "accelerated", lambda backend: True)
        assert choose("auto") == "keras"
        assert choose("openvino") == "openvino"

    def test_choosing_is_refused_before_the_net_is_built(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("transfer.nets.backbone.backbone_for", lambda *_: pytest.fail("built"))
        with pytest.raises(InvalidChoice, match="there is no engine"):
            BatchRunner(FeatureRequest(Net("glyphnet"), ("block1_pool",)), engine="nonsense")


class TestBatchSize:
    @pytest.fixture(autouse=True)
    def cpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("transfer.engines.batch.accelerated", lambda backend: False)

    def test_it_is_a_power_of_two_within_bounds_that_falls_with_the_size(self) -> None:
        for engine in ("keras", "openvino"):
            sizes = [default_batch_size(engine, (side, side)) for side in range(1, 3000, 7)]
            assert all(size.bit_count() == 1 for size in sizes)
            assert sizes == sorted(sizes, reverse=True)
            assert (sizes[0], sizes[-1]) == (BATCH_IMAGES, 1)

    def test_it_is_smaller_for_openvino_and_larger_on_an_accelerator(self, monkeypatch: pytest.MonkeyPatch) -> None:
        openvino, cpu = (default_batch_size(engine, (224, 224)) for engine in ("openvino", "keras"))
        monkeypatch.setattr("transfer.engines.batch.accelerated", lambda backend: True)
        assert 1 < openvino < cpu < default_batch_size("keras", (224, 224))
        assert default_batch_size("openvino", (224, 224)) == openvino

    def test_height_and_width_count_alike(self) -> None:
        for engine in ("keras", "openvino"):
            assert default_batch_size(engine, (64, 512)) == default_batch_size(engine, (512, 64))

    def test_it_is_no_more_than_there_are_images_nor_what_was_asked_for(self) -> None:
        assert BatchRunner(WANTED, most=5, engine="keras").batch_size == 5
        assert BatchRunner(WANTED, 3, most=5, engine="keras").batch_size == 3
        assert BatchRunner(WANTED, 30, most=5, engine="keras").batch_size == 5
        assert BatchRunner(WANTED, engine="keras").batch_size == default_batch_size("keras", (32, 32))


def test_padding_adds_zeros_and_copies_only_where_it_must() -> None:
    inputs = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert padded(inputs, 3) is inputs
    more = padded(inputs, 5)
    assert more.dtype == np.uint8
    np.testing.assert_array_equal(more[:3], inputs)
    assert more.shape == (5, 2, 2)
    assert not more[3:].any()


def test_a_net_file_that_its_backend_does_not_run_is_bad_data(
    monkeypatch: pytest.MonkeyPatch, save_net: Callable[..., Net]
) -> None:
    inputs = keras.Input((16, 16, 1))
    wanted = FeatureRequest(save_net(keras.Model(inputs, keras.layers.Conv2D(2, 3, name="conv")(inputs))), ("conv",))
    monkeypatch.setattr("transfer.engines.keras_engine.KerasEngine", Small)
    monkeypatch.setattr(Small, "sizes", [], raising=False)
    monkeypatch.setattr(Small, "error", staticmethod(lambda: ValueError("no such\n  kernel")), raising=False)
    with pytest.raises(BadData, match=r"^Keras cannot run the net .*toy\.keras: no such kernel$"):
        features_by_image(BatchRunner(wanted, 8, engine="keras"), random_images(9, side=16), wanted)


class TestMemoryAtHand:
    @pytest.mark.parametrize("engine", ["keras", "openvino"])
    def test_batches_are_smaller_where_activations_would_not_fit(
        self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, engine: str
    ) -> None:
        if engine == "openvino":
            request.getfixturevalue("needs_openvino")
        dataset = random_images(40)
        plenty = BatchRunner(WANTED, engine=engine)
        expected = features_by_image(plenty, dataset)
        monkeypatch.setattr("transfer.engines.runner.available_memory", lambda: 8_000_000)
        short = BatchRunner(WANTED, engine=engine)
        assert_close(features_by_image(short, dataset), expected)
        assert 1 <= short.batch_size < plenty.batch_size
        assert short.provenance["batch_size"] == short.batch_size
        asked = BatchRunner(WANTED, 32, engine=engine)
        features_by_image(asked, dataset)
        assert asked.batch_size == 32  # people know better

    def test_half_of_the_memory_is_used_and_one_row_always(self) -> None:
        assert within(64, 100, None) == 64
        assert within(64, 100, 12800) == 64
        assert within(64, 100, 12799) == 32
        assert within(64, 100, 0) == 1

    def test_it_is_what_the_machine_says(self) -> None:
        found = available_memory()
        assert found is None or 0 < found < 2**50
