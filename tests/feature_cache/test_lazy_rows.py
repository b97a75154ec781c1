"""What is read from disk row by row is told from what is in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from feature_cache import FeatureCache, FeatureSpec
from feature_cache.features import Features
from feature_cache.joined import Joined
from feature_cache.keys import digest_bytes
from feature_cache.lazy_rows import LazyRows


@pytest.fixture
def features(tmp_path: Path) -> Features:
    spec = FeatureSpec(net="test", weights="none", layer="vectors", size=(8, 8), pooling="none")
    digests = np.frombuffer(digest_bytes(b"a") + digest_bytes(b"b"), np.uint8).reshape(2, 16)
    space = FeatureCache(tmp_path)[spec]
    with space.writer({}) as writer:
        writer.append(digests, np.arange(6, dtype=np.float32).reshape(2, 3))
    return FeatureCache(tmp_path)[spec].rows(digests)


def test_features_of_a_cache_are_lazy_rows(features: Features) -> None:
    assert isinstance(features, LazyRows)
    assert isinstance(features.take(np.array([1])), LazyRows)
    assert isinstance(Joined([features, features]), LazyRows)


@pytest.mark.parametrize("rows", [np.zeros((2, 3)), [[0.0, 1.0]], pd.DataFrame({"a": [1.0]}), None], ids=type)
def test_what_is_in_memory_is_not(rows: object) -> None:
    assert not isinstance(rows, LazyRows)
