"""Features in fewer bits or dimensions: what is refused, what is rounded, and how they are read back."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from feature_cache import FeatureCache, FeatureSpec
from feature_cache.errors import BadData, DamagedFile
from feature_cache.segments import encoding
from feature_cache.segments.encoding import Rounding
from feature_cache.writer import SpaceWriter

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def half(spec: FeatureSpec) -> FeatureSpec:
    return replace(spec, dtype="float16")


def kept(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, rows: np.ndarray, **options: object
) -> np.ndarray:
    """Rows as they are read after they were written to the space of `spec`."""
    digests = made_rows(0, len(rows))[0]
    cache[spec].create()
    with SpaceWriter(cache[spec].folder, spec, {}, **options) as writer:
        writer.append(digests, rows)
    return np.asarray(cache[spec].rows(digests))


def coded(spec: FeatureSpec, kind: str, parameters: encoding.Parameters) -> FeatureSpec:
    dtype = "int8" if kind == "int8" else "float32"
    return replace(spec, dtype=dtype, coding=f"{kind}-{encoding.digest(parameters)}")


# float16


def test_rows_are_rounded_to_the_nearest_half(
    cache: FeatureCache, half: FeatureSpec, made_rows: Callable, compress: bool
):
    rows = RNG.standard_normal((30, 40)).astype(np.float32) * 1000
    read = kept(cache, half, made_rows, rows, compress=compress)
    assert read.dtype == np.float16
    np.testing.assert_array_equal(read, rows.astype(np.float16))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("value", [65520, -65520, 70_000, -1_000_000])
def test_overflow_is_refused_with_the_number_and_the_way_out(
    cache: FeatureCache, half: FeatureSpec, made_rows: Callable, dtype: str, value: int
):
    rows = np.zeros((3, 4), dtype)
    rows[2, 1] = value
    with pytest.raises(BadData) as caught:
        kept(cache, half, made_rows, rows)
    assert str(caught.value) == (
        f"features of vgg16 at block5_pool reach {abs(value):.6g} and float16 holds up to 65504; store them as float32."
    )
    assert len(cache[half]) == 0


def test_rows_before_an_overflow_are_kept(cache: FeatureCache, half: FeatureSpec, made_rows: Callable):
    digests, rows = made_rows(0, 4)
    with pytest.raises(BadData), cache[half].writer({}) as writer:
        writer.append(digests, rows)
        writer.append(made_rows(4, 4)[0], rows * 1e5)
    np.testing.assert_array_equal(np.asarray(cache[half].rows(digests)), rows)


def test_largest_numbers_that_round_into_range_are_kept(cache: FeatureCache, half: FeatureSpec, made_rows: Callable):
    edge = np.nextafter(np.float32(65520), np.float32(0))
    read = kept(cache, half, made_rows, np.array([[65504, -65504, edge, -edge]], np.float32))
    assert read.tolist() == [[65504, -65504, 65504, -65504]]


def test_subnormal_numbers_are_kept_and_smaller_ones_become_zero(
    cache: FeatureCache, half: FeatureSpec, made_rows: Callable
):
    smallest = 2.0**-24
    rows = np.array([[smallest, -3 * smallest, smallest / 2, 1e-45, -0.0]], np.float32)
    read = kept(cache, half, made_rows, rows)
    assert read.tolist() == [[smallest, -3 * smallest, 0, 0, 0]]
    assert np.signbit(read[0, 4])


def test_infinities_and_what_is_not_a_number_are_kept(cache: FeatureCache, half: FeatureSpec, made_rows: Callable):
    read = kept(cache, half, made_rows, np.array([[np.inf, -np.inf, np.nan, 1]], np.float32))
    np.testing.assert_array_equal(read, np.array([[np.inf, -np.inf, np.nan, 1]], np.float16))


def test_halves_are_taken_as_they_are(cache: FeatureCache, half: FeatureSpec, made_rows: Callable):
    rows = RNG.integers(0, 2**16, (5, 300), np.uint16).view(np.float16)
    assert kept(cache, half, made_rows, rows).tobytes() == rows.tobytes()


def expected_rounding(rows: np.ndarray) -> dict[str, float]:
    """The error of rounding to half precision, by its definition, over finite numbers."""
    exact = rows[np.isfinite(rows)].astype(np.float64)
    error = exact - exact.astype(np.float32).astype(np.float16)
    return {"largest": np.abs(error).max(), "relative_rms": np.sqrt((error**2).mean() / (exact**2).mean())}


def test_rounding_is_recorded_with_each_segment(cache: FeatureCache, half: FeatureSpec, made_rows: Callable):
    digests, _ = made_rows(0, 60)
    rows = RNG.standard_normal((60, 50)).astype(np.float32)
    parts = [slice(0, 40), slice(40, 60)]
    with cache[half].writer({"engine": "test"}) as writer:
        for part in parts:
            for row in range(part.start, part.stop, 10):
                writer.append(digests[row : row + 10], rows[row : row + 10])
            writer.commit()
    for read in cache[half].segments:
        expected = expected_rounding(rows[parts[0] if len(read) == 40 else parts[1]])
        assert read.provenance["rounding"] == pytest.approx(expected, rel=1e-9)
        assert read.provenance["engine"] == "test"


def test_rounding_is_that_of_the_numbers_that_are_finite(cache: FeatureCache, half: FeatureSpec, made_rows: Callable):
    rows = RNG.standard_normal((20, 30)).astype(np.float32)
    rows[3, 4:7] = np.inf, -np.inf, np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept(cache, half, made_rows, rows)
    (read,) = cache[half].segments
    assert read.provenance["rounding"] == pytest.approx(expected_rounding(rows), rel=1e-9)


def test_rounding_of_what_is_exact_is_none(cache: FeatureCache, half: FeatureSpec, made_rows: Callable):
    kept(cache, half, made_rows, np.array([[1, 0.5, 2048, 0]], np.float32))
    kept(cache, half, made_rows, np.zeros((1, 4), np.float32))
    assert [part.provenance["rounding"] for part in cache[half].segments] == [{"largest": 0, "relative_rms": 0}] * 2


def test_float32_has_no_rounding(cache: FeatureCache, spec: FeatureSpec, made_rows: Callable):
    kept(cache, spec, made_rows, np.full((1, 4), 0.1, np.float32))
    assert "rounding" not in cache[spec].segments[0].provenance


def test_rounding_over_parts_is_that_over_all():
    exact = RNG.standard_normal((100, 7))
    stored = exact.astype(np.float16)
    one, several = Rounding(), Rounding()
    one.add(exact, stored)
    for start in range(0, 100, 33):
        several.add(exact[start : start + 33], stored[start : start + 33])
    several.add(exact[:0], stored[:0])
    assert several.as_dict() == pytest.approx(one.as_dict(), rel=1e-12)
    assert Rounding().as_dict() == {"largest": 0, "relative_rms": 0}


# int8


@pytest.mark.parametrize("row_shape", [(6,), (3, 4, 6)], ids=str)
def test_codes_decode_to_within_half_a_step_of_each_channel(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, compress: bool, row_shape: tuple
):
    rows = (RNG.standard_normal((50, *row_shape)) * 10.0 ** np.arange(-3, 3)).astype(np.float32)
    parameters = encoding.int8_parameters(np.abs(rows).reshape(-1, 6).max(0))
    assert parameters["scale"].dtype == np.float32
    codes = encoding.to_int8(rows, parameters)
    assert codes.dtype == np.int8
    assert np.abs(codes.astype(int)).max() == 127
    one = coded(spec, "int8", parameters)
    read = kept(cache, one, made_rows, codes, compress=compress, parameters=parameters)
    assert read.dtype == cache[one].dtype == np.float32
    assert read.shape == rows.shape
    assert (np.abs(read - rows) <= parameters["scale"] * 0.5001).all()
    np.testing.assert_array_equal(read, codes * parameters["scale"])
    features = cache[one].rows(made_rows(0, 50)[0])
    np.testing.assert_array_equal(features[::-7], read[::-7])
    np.testing.assert_array_equal(features[3], read[3])
    np.testing.assert_array_equal(features[[4, 4, 0]], read[[4, 4, 0]])
    assert features[:0].dtype == np.float32


def test_channel_of_zeros_stays_zero_and_numbers_beyond_the_scale_are_cut():
    parameters = encoding.int8_parameters(np.array([0, 127], np.float32))
    codes = encoding.to_int8(np.array([[0, -127], [0, 1000], [0, -1e9], [0, 0.4]], np.float32), parameters)
    assert codes.tolist() == [[0, -127], [0, 127], [0, -127], [0, 0]]
    assert np.isfinite(parameters["scale"]).all()


# Principal axes


def test_coordinates_on_axes_are_kept_with_what_turns_them_back(
    cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, compress: bool
):
    rows = (RNG.standard_normal((40, 3)) @ RNG.standard_normal((3, 20)) + 5).reshape(40, 4, 5).astype(np.float32)
    mean = rows.reshape(40, -1).mean(0)
    axes = np.linalg.svd(rows.reshape(40, -1) - mean, full_matrices=False)[2][:3]
    parameters = {"mean": mean, "axes": np.ascontiguousarray(axes)}
    places = encoding.to_axes(rows, parameters)
    assert places.dtype == np.float32
    one = coded(spec, "pca3", parameters)
    read = kept(cache, one, made_rows, places, compress=compress, parameters=parameters)
    np.testing.assert_array_equal(read, places)
    back = cache[one].segments[0].coding
    np.testing.assert_allclose((read @ back["axes"] + back["mean"]).reshape(rows.shape), rows, atol=1e-4)


# Parameters


def test_digest_depends_on_each_parameter():
    known = encoding.digest({"scale": np.ones(3, np.float32)})
    others = [
        {"scale": np.ones(3)},
        {"scale": np.ones((3, 1), np.float32)},
        {"scale": np.array([1, 1, 2], np.float32)},
        {"mean": np.ones(3, np.float32)},
        {"scale": np.ones(3, np.float32), "mean": np.ones(3, np.float32)},
    ]
    assert len({known, *map(encoding.digest, others)}) == 6
    assert encoding.digest({"scale": np.asfortranarray(np.ones(6, np.float32)[::2])}) == known
    assert len(known) == 8


def test_codes_of_other_parameters_are_refused(cache: FeatureCache, spec: FeatureSpec, made_rows: Callable):
    one = coded(spec, "int8", encoding.int8_parameters(np.ones(4, np.float32)))
    with pytest.raises(DamagedFile, match="it holds codes of another kind"):
        kept(cache, one, made_rows, np.ones((2, 4), np.int8), parameters={"scale": np.ones(4, np.float32)})
    with pytest.raises(DamagedFile, match="it holds codes of another kind"):
        kept(cache, spec, made_rows, np.ones((2, 4)), parameters={"scale": np.ones(4, np.float32)})
