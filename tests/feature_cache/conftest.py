"""Parts that the tests of the cache share: a spec, made-up rows, and a cache in a new folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from feature_cache import FeatureCache, Features, FeatureSpec, Space
from feature_cache.keys import digest_bytes

Rows = tuple[np.ndarray, np.ndarray]  # digests and features


@pytest.fixture(scope="session")
def spec() -> FeatureSpec:
    return FeatureSpec(net="vgg16", weights="imagenet", layer="block5_pool", size=(32, 48))


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "features")


@pytest.fixture
def space(cache: FeatureCache, spec: FeatureSpec) -> Space:
    return cache[spec]


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def compress(request: pytest.FixtureRequest) -> bool:
    """How features are stored."""
    return request.param


@pytest.fixture(scope="session")
def made_rows() -> Callable[..., Rows]:
    """A function of (first, number, row_shape): rows of images number `first` and on, no two alike."""

    def make(first: int, number: int, row_shape: tuple[int, ...] = (4,)) -> Rows:
        encoded = b"".join(digest_bytes(f"image {first + row}".encode()) for row in range(number))
        digests = np.frombuffer(encoded, np.uint8).reshape(number, 16)
        width = int(np.prod(row_shape))
        values = np.arange(first * width, (first + number) * width, dtype=np.float32)
        return digests, values.reshape(number, *row_shape)

    return make


@pytest.fixture(scope="session")
def add(spec: FeatureSpec) -> Callable[..., None]:
    """A function that commits rows to the space of `spec` as one segment."""

    def commit(cache: FeatureCache, digests: np.ndarray, features: np.ndarray, *, compress: bool = False) -> None:
        with cache[spec].writer({"engine": "test"}, compress=compress) as writer:
            writer.append(digests, features)

    return commit


@pytest.fixture(scope="session")
def in_three_segments(
    tmp_path_factory: pytest.TempPathFactory, spec: FeatureSpec, made_rows: Callable, add: Callable
) -> Callable[..., tuple[Features, np.ndarray]]:
    """A function of (row_shape, order): rows of three segments in that order, as `Features` and as an array."""

    def make(
        row_shape: tuple[int, ...], order: list[int], *, compress_second: bool = False
    ) -> tuple[Features, np.ndarray]:
        cache = FeatureCache(tmp_path_factory.mktemp("features"))
        digests, rows = made_rows(0, 12, row_shape)
        for part in (slice(0, 7), slice(7, 10), slice(10, 12)):
            add(cache, digests[part], rows[part], compress=compress_second and part.start == 7)
        return cache[spec].rows(digests[order]), rows[order]

    return make
