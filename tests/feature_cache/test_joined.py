"""Features side by side."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from feature_cache import FeatureCache, FeatureSpec
from feature_cache.features import Features
from feature_cache.joined import Joined
from feature_cache.keys import digest_bytes

N = 20
ROWS = {
    "maps": np.random.default_rng(0).random((N, 2, 3, 4), np.float32),
    "vectors": np.random.default_rng(1).random((N, 5), np.float32),
}


@pytest.fixture
def parts(tmp_path: Path) -> list[Features]:
    digests = np.frombuffer(b"".join(digest_bytes(bytes([row])) for row in range(N)), np.uint8).reshape(N, 16)
    found = []
    for layer, rows in ROWS.items():
        space = FeatureCache(tmp_path)[
            FeatureSpec(net="test", weights="none", layer=layer, size=(8, 8), pooling="none")
        ]
        order = np.random.default_rng(len(layer)).permutation(N)  # each space keeps its rows in an order of its own
        with space.writer({}) as writer:
            writer.append(digests[order], rows[order])
        found.append(FeatureCache(tmp_path)[space.spec].rows(digests))
    return found


@pytest.fixture
def whole() -> np.ndarray:
    return np.concatenate([rows.reshape(N, -1) for rows in ROWS.values()], axis=1)


def test_it_is_the_array_of_both(parts: list[Features], whole: np.ndarray) -> None:
    joined = Joined(parts)
    assert (joined.shape, joined.dtype, joined.ndim, len(joined)) == (whole.shape, whole.dtype, 2, N)
    np.testing.assert_array_equal(np.asarray(joined), whole)
    mask = np.arange(N) % 3 == 0
    for index in (
        slice(None),
        slice(3, 9, 2),
        np.array([5, 5, 0]),
        mask,
        [1, 2],
        7,
        (slice(None), 3),
        np.array([], int),
    ):
        np.testing.assert_array_equal(joined[index], whole[index])
    with pytest.raises(ValueError, match="copy"):
        np.asarray(joined, copy=False)


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_hold_each_row_once(parts: list[Features], whole: np.ndarray, shuffle: bool) -> None:
    seen = []
    for rows, positions in Joined(parts).batches(6, shuffle=shuffle, seed=3):
        np.testing.assert_array_equal(rows, whole[positions])
        seen += positions.tolist()
    assert sorted(seen) == list(range(N))
    assert (seen == list(range(N))) != shuffle


def test_another_process_can_read_it(parts: list[Features], whole: np.ndarray) -> None:
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(Joined(parts)))[:], whole)


def test_its_digest_names_its_rows(parts: list[Features]) -> None:
    assert Joined(parts).digest == Joined(parts).digest
    assert len({Joined(parts).digest, Joined(parts[::-1]).digest, Joined(parts[:1]).digest}) == 3


def test_rows_of_other_images_are_not_joined(parts: list[Features]) -> None:
    space = parts[1].space
    other = Features(space, *[keys[::-1] for keys in Features.keys(parts[1])])
    for wrong in ([parts[0], other], []):
        with pytest.raises(ValueError, match="of the same images, in the same order"):
            Joined(wrong)
