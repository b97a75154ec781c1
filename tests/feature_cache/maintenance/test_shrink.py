"""Shrinking: a smaller copy of a space, with the error that it makes, and completed when rows come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from feature_cache import FeatureCache, FeatureSpec, Space
from feature_cache.errors import BadData, DamagedFile, InvalidChoice, MissingFeatures
from feature_cache.maintenance.compact import compact
from feature_cache.maintenance.shrink import Shrunk, complete, parameters_of, shrink
from feature_cache.maintenance.verify import verify
from feature_cache.segments import segment, segment_writer
from feature_cache.segments.row_store import RowStore

N = 60
Full = tuple[Space, np.ndarray, np.ndarray]  # the space, its digests and its rows


@pytest.fixture
def fill(cache: FeatureCache, spec: FeatureSpec, made_rows: Callable) -> Callable[..., Full]:
    """A function that fills the space of `spec` with rows of some shape, in three segments."""

    def make(row_shape: tuple[int, ...] = (20,), count: int = N) -> Full:
        rng = np.random.default_rng(count)
        digests = made_rows(0, count)[0]
        mixed = rng.normal(size=(count, 5)) @ rng.normal(size=(5, int(np.prod(row_shape)))) + 3
        rows = np.maximum(mixed + rng.normal(size=mixed.shape) / 5, 0).astype(np.float32).reshape(count, *row_shape)
        for part in np.array_split(np.arange(count), 3):
            with cache[spec].writer({"net": {"name": "toy"}}) as writer:
                writer.append(digests[part], rows[part])
        return cache[spec], digests, rows

    return make


def read(cache: FeatureCache, name: str, digests: np.ndarray) -> np.ndarray:
    return np.asarray(cache.open(name).rows(digests))


def error_of(exact: np.ndarray, back: np.ndarray) -> tuple[float, float]:
    """Largest absolute error, and root mean square of the error by that of the rows, as one computes them."""
    exact, difference = exact.astype(np.float64), np.abs(exact - back).astype(np.float64)
    return difference.max(), np.sqrt(np.mean(difference**2) / np.mean(exact**2))


def assert_error(shrunk: Shrunk, exact: np.ndarray, back: np.ndarray) -> None:
    largest, relative = error_of(exact, back)
    assert shrunk.largest_error == pytest.approx(largest, rel=1e-4)
    assert shrunk.relative_error == pytest.approx(relative, rel=1e-4)
    assert shrunk.relative_error > 0


class TestFloat16:
    def test_rows_and_errors_are_those_of_numpy(self, cache: FeatureCache, fill: Callable):
        space, digests, rows = fill()
        shrunk = shrink(cache, space, "float16")
        assert shrunk.space == replace(space.spec, dtype="float16").folder_name  # as extracting fills
        found = read(cache, shrunk.space, digests)
        assert found.dtype == np.float16
        np.testing.assert_array_equal(found, rows.astype(np.float16))
        assert_error(shrunk, rows, rows.astype(np.float16))
        assert (shrunk.rows, shrunk.added, shrunk.row_bytes_before, shrunk.row_bytes_after) == (N, N, 80, 40)

    def test_the_rounding_error_is_recorded_in_its_segments(self, cache: FeatureCache, fill: Callable):
        space, _, rows = fill()
        shrunk = shrink(cache, space, "float16")
        (part,) = cache.open(shrunk.space).segments
        largest, relative = error_of(rows, rows.astype(np.float16))
        assert part.provenance["rounding"]["largest"] == pytest.approx(largest, rel=1e-4)
        assert part.provenance["rounding"]["relative_rms"] == pytest.approx(relative, rel=1e-4)

    def test_what_is_beyond_its_range_is_refused(self, cache: FeatureCache, fill: Callable, spec: FeatureSpec):
        space, digests, rows = fill()
        with space.writer({}) as writer:
            writer.append(255 - digests[:1], np.full((1, 20), 65520, np.float32))
        with pytest.raises(BadData) as caught:
            shrink(cache, cache[spec], "float16")
        assert str(caught.value) == (
            "features of vgg16 at block5_pool reach 65520 and float16 holds up to 65504; store them as float32."
        )


class TestInt8:
    @pytest.mark.parametrize("row_shape", [(20,), (3, 4, 6), (1,)])
    def test_rows_are_within_half_a_step_and_errors_are_those_of_numpy(
        self, cache: FeatureCache, fill: Callable, row_shape: tuple[int, ...]
    ):
        space, digests, rows = fill(row_shape)
        shrunk = shrink(cache, space, "int8")
        found = read(cache, shrunk.space, digests)
        assert (found.dtype, found.shape) == (np.float32, rows.shape)
        scale = np.abs(rows).reshape(-1, row_shape[-1]).max(0) / 127
        np.testing.assert_allclose(parameters_of(cache.open(shrunk.space))["scale"], scale, rtol=1e-6)
        assert (np.abs(found - rows) <= scale / 2 * (1 + 1e-5)).all()
        np.testing.assert_allclose(found, np.rint(rows / scale) * scale, atol=scale.max() * 1.01e-0)
        assert_error(shrunk, rows, found)
        width = int(np.prod(row_shape))
        assert (shrunk.row_bytes_before, shrunk.row_bytes_after) == (4 * width, width)

    def test_rows_that_are_numbers_have_one_scale(self, cache: FeatureCache, spec: FeatureSpec, made_rows: Callable):
        digests, rows = made_rows(0, 10, ())
        with cache[spec].writer({}) as writer:
            writer.append(digests, rows)
        shrunk = shrink(cache, cache[spec], "int8")
        np.testing.assert_allclose(read(cache, shrunk.space, digests), rows, atol=9 / 254 * 1.001)

    def test_channels_of_zeros_and_negative_numbers_are_kept(
        self, cache: FeatureCache, spec: FeatureSpec, made_rows: Callable
    ):
        digests, _ = made_rows(0, 4)
        rows = np.array([[0, -254, 1], [0, 127, 2], [0, 2, -127], [0, 0, 0.4]], np.float32)
        with cache[spec].writer({}) as writer:
            writer.append(digests, rows)
        shrunk = shrink(cache, cache[spec], "int8")
        expected = [[0, -254, 1], [0, 128, 2], [0, 2, -127], [0, 0, 0]]
        np.testing.assert_array_equal(read(cache, shrunk.space, digests), np.array(expected, np.float32))

    def test_rows_beyond_the_scales_make_a_new_space_and_the_old_one_stays(
        self, cache: FeatureCache, fill: Callable, spec: FeatureSpec
    ):
        space, digests, rows = fill()
        first = shrink(cache, space, "int8")
        before = read(cache, first.space, digests)
        with space.writer({}) as writer:
            writer.append(255 - digests[:5], rows[:5] * 10)
        second = shrink(cache, cache[spec], "int8")
        assert second.space != first.space
        assert (second.rows, second.added) == (N + 5, N + 5)
        np.testing.assert_array_equal(read(cache, first.space, digests), before)
        larger = np.concatenate([rows, rows[:5] * 10])
        assert_error(second, larger, read(cache, second.space, np.concatenate([digests, 255 - digests[:5]])))
        assert shrink(cache, cache[spec], "int8").space == second.space


class TestPca:
    def test_coordinates_are_those_of_scikit_learn_up_to_sign(self, cache: FeatureCache, fill: Callable):
        decomposition = pytest.importorskip("sklearn.decomposition")
        space, digests, rows = fill()
        shrunk = shrink(cache, space, "pca", components=4)
        found = read(cache, shrunk.space, digests)
        assert (found.dtype, found.shape) == (np.float32, (N, 4))
        model = decomposition.PCA(4, svd_solver="full").fit(rows.astype(np.float64))
        expected = model.transform(rows)
        signs = np.sign((found * expected).sum(0))
        np.testing.assert_allclose(found * signs, expected, atol=1e-3 * np.abs(expected).max())
        parameters = parameters_of(cache.open(shrunk.space))
        np.testing.assert_allclose(parameters["axes"] * signs[:, None], model.components_, atol=1e-3)
        np.testing.assert_allclose(parameters["mean"], model.mean_, rtol=1e-5)
        assert_error(shrunk, rows, model.inverse_transform(expected))
        assert (shrunk.row_bytes_before, shrunk.row_bytes_after) == (80, 16)

    def test_all_components_lose_nothing(self, cache: FeatureCache, fill: Callable):
        space, digests, rows = fill()
        shrunk = shrink(cache, space, "pca", components=20)
        assert shrunk.relative_error < 1e-5
        parameters = parameters_of(cache.open(shrunk.space))
        back = read(cache, shrunk.space, digests) @ parameters["axes"] + parameters["mean"]
        np.testing.assert_allclose(back, rows, atol=1e-4)

    @pytest.mark.parametrize("components", [None, 0, -1, 21, 1000])
    def test_components_out_of_range_are_refused(self, cache: FeatureCache, fill: Callable, components: int | None):
        space, *_ = fill()
        with pytest.raises(InvalidChoice) as caught:
            shrink(cache, space, "pca", components=components)
        assert str(caught.value) == f"pca keeps 1 to 20 components here; received {components}. Give `components`."
        assert cache.spaces() == [space.folder.name]

    def test_no_more_components_than_rows(self, cache: FeatureCache, fill: Callable):
        with pytest.raises(InvalidChoice, match="pca keeps 1 to 6 components here; received 7"):
            shrink(cache, fill(count=6)[0], "pca", components=7)

    def test_too_many_features_are_refused_before_anything_is_computed(self, cache: FeatureCache, fill: Callable):
        with pytest.raises(InvalidChoice, match="pca takes up to 8192 features, and these are 8200; pool them first"):
            shrink(cache, fill((8200,), 3)[0], "pca", components=2)

    def test_other_numbers_of_components_are_spaces_of_their_own(self, cache: FeatureCache, fill: Callable):
        space, *_ = fill((2, 2, 5))
        names = [shrink(cache, space, "pca", components=count).space for count in (1, 10)]
        assert [cache.open(name).row_shape for name in names] == [(1,), (10,)]


KINDS = [("float16", None), ("int8", None), ("pca", 4)]


@pytest.mark.parametrize(("kind", "components"), KINDS)
class TestEveryKind:
    def test_the_copy_is_sound_and_knows_where_it_comes_from(
        self, cache: FeatureCache, fill: Callable, kind: str, components: int | None
    ):
        space, digests, _ = fill()
        seen: list[tuple[int, int]] = []
        progress = lambda done, total: seen.append((done, total))  # noqa: E731
        shrunk = shrink(cache, space, kind, components=components, progress=progress)
        assert seen[-1] == (N, N)
        copy = cache.open(shrunk.space)
        assert verify(copy).damaged == []
        assert {part.provenance["shrunk_from"] for part in copy.segments} == {space.folder.name}
        assert {part.provenance["net"]["name"] for part in copy.segments} == {"toy"}
        assert copy.spec.as_computed == space.spec
        assert len(cache.spaces()) == 2

    def test_shrinking_again_completes_the_same_space(
        self, cache: FeatureCache, fill: Callable, spec: FeatureSpec, kind: str, components: int | None
    ):
        space, digests, rows = fill()
        first = shrink(cache, space, kind, components=components)
        before = read(cache, first.space, digests)
        again = shrink(cache, space, kind, components=components)
        assert (again.space, again.rows, again.added) == (first.space, N, 0)
        assert again.relative_error == pytest.approx(first.relative_error)
        with space.writer({}) as writer:
            writer.append(255 - digests[:7], rows[:7] / 2)
        more = shrink(cache, cache[spec], kind, components=components)
        assert (more.space, more.rows, more.added) == (first.space, N + 7, 7)
        np.testing.assert_array_equal(read(cache, first.space, digests), before)
        assert cache.open(first.space).has(255 - digests[:7]).all()

    def test_the_copy_cannot_be_shrunk(self, cache: FeatureCache, fill: Callable, kind: str, components: int | None):
        space, *_ = fill()
        name = shrink(cache, space, kind, components=components).space
        for again in ("float16", "int8", "pca"):
            with pytest.raises(InvalidChoice) as caught:
                shrink(cache, cache.open(name), again, components=2)
            assert str(caught.value) == (f"{name} is a shrunk copy already; shrink the space that it was made from.")

    def test_a_space_without_rows_is_refused(
        self, cache: FeatureCache, space: Space, kind: str, components: int | None
    ):
        space.create()
        with pytest.raises(MissingFeatures, match="has no rows to shrink"):
            shrink(cache, space, kind, components=components)

    def test_a_damaged_row_stops_it_and_is_named(
        self, cache: FeatureCache, fill: Callable, spec: FeatureSpec, kind: str, components: int | None
    ):
        space, *_ = fill()
        path = space.segments[1].path
        content = bytearray(path.read_bytes())
        content[space.segments[1].offset + 8] ^= 1
        path.write_bytes(content)
        with pytest.raises(DamagedFile, match=path.name):
            shrink(cache, cache[spec], kind, components=components)

    def test_a_compaction_just_before_the_rows_are_read_mixes_up_nothing(
        self,
        cache: FeatureCache,
        fill: Callable,
        spec: FeatureSpec,
        monkeypatch: pytest.MonkeyPatch,
        kind: str,
        components: int | None,
    ):
        space, digests, rows = fill()
        copies = [segment_writer.write(space.folder, spec, rows[::-1], digests[::-1], np.zeros(N, np.uint32), {})]
        original, todo = RowStore.segment, [lambda: compact(cache[spec])]

        def opened(store: RowStore, number: int) -> segment.Segment:
            while todo:
                todo.pop()()
            return original(store, number)

        monkeypatch.setattr(RowStore, "segment", opened)
        shrunk = shrink(cache, cache[spec], kind, components=components)
        assert not copies[0].exists()
        found = read(cache, shrunk.space, digests)
        if kind == "pca":
            parameters = parameters_of(cache.open(shrunk.space))
            found = found @ parameters["axes"] + parameters["mean"]
        assert error_of(rows, found)[1] == pytest.approx(shrunk.relative_error, rel=1e-3)
        assert shrunk.relative_error < 0.25


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("kind", "components"), KINDS[1:])
def test_what_is_no_number_is_refused(
    cache: FeatureCache, fill: Callable, spec: FeatureSpec, kind: str, components: int, value: float
):
    space, digests, rows = fill()
    with space.writer({}) as writer:
        writer.append(255 - digests[:1], np.full((1, 20), value, np.float32))
    with pytest.raises(BadData) as caught:
        shrink(cache, cache[spec], kind, components=components)
    assert str(caught.value) == (f"features in {space.folder} are infinite or not numbers; such rows cannot be shrunk.")
    assert cache.spaces() == [space.folder.name]


def test_a_kind_that_there_is_not_is_refused(cache: FeatureCache, fill: Callable):
    with pytest.raises(InvalidChoice, match="no kind 'int4' of shrinking; allowed: float16, int8, pca"):
        shrink(cache, fill()[0], "int4")


class TestComplete:
    @pytest.mark.parametrize(("kind", "components"), KINDS)
    def test_rows_that_only_the_full_space_has_are_added(
        self, cache: FeatureCache, fill: Callable, kind: str, components: int | None
    ):
        space, digests, rows = fill()
        name = shrink(cache, space, kind, components=components).space
        spec = cache.open(name).spec
        with space.writer({}) as writer:
            writer.append(255 - digests[:8], rows[:8])
        wanted = np.concatenate([255 - digests[:3], 255 - digests[:3], digests[:9], digests[:2] ^ 1])
        assert complete(cache, spec, wanted) == 3
        assert complete(cache, spec, wanted) == 0
        assert len(cache[spec]) == N + 3
        np.testing.assert_allclose(
            read(cache, name, 255 - digests[:3]), read(cache, name, digests[:3]), rtol=1e-6, atol=1e-6
        )
        assert not cache[spec].has(digests[:2] ^ 1).any()

    def test_views_are_told_apart(self, cache: FeatureCache, fill: Callable, spec: FeatureSpec):
        space, digests, rows = fill()
        name = shrink(cache, space, "int8").space
        views = np.array([1, 2, 2], np.uint32)
        with space.writer({}) as writer:
            writer.append(digests[:3], rows[3:6], views)
        assert complete(cache, cache.open(name).spec, digests[:3], np.array([1, 2, 9], np.uint32)) == 2
        copy = cache.open(name)
        assert copy.has(digests[:3], views).tolist() == [True, True, False]
        np.testing.assert_array_equal(
            np.asarray(copy.rows(digests[:2], views[:2])), np.asarray(copy.rows(digests[3:5]))
        )

    def test_a_space_that_is_not_there_yet_as_float16_is_made(
        self, cache: FeatureCache, fill: Callable, spec: FeatureSpec
    ):
        _, digests, rows = fill()
        half = replace(spec, dtype="float16")
        assert complete(cache, half, digests[:4]) == 4
        np.testing.assert_array_equal(np.asarray(cache[half].rows(digests[:4])), rows[:4].astype(np.float16))

    @pytest.mark.parametrize(("kind", "components"), KINDS[1:])
    def test_scales_and_axes_that_are_lost_cannot_be_made_up(
        self, cache: FeatureCache, fill: Callable, kind: str, components: int | None
    ):
        space, digests, _ = fill()
        copy = cache.open(shrink(cache, space, kind, components=components).space)
        for part in copy.segments:
            part.path.unlink()
        with pytest.raises(MissingFeatures, match="no rows left, and with them its codes are lost; shrink again"):
            complete(cache, copy.spec, digests)

    def test_nothing_is_made_where_nothing_is_to_add(self, cache: FeatureCache, fill: Callable, spec: FeatureSpec):
        _, digests, _ = fill()
        assert complete(cache, replace(spec, dtype="float16"), 255 - digests) == 0
        assert len(cache.spaces()) == 1
