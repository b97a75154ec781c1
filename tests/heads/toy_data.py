"""Small data of three classes, in memory and in a cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from feature_cache import FeatureCache, Features, FeatureSpec
from feature_cache.keys import digest_bytes

CLASSES = np.array(["ant", "bee", "cicada"])


def blobs(n: int = 48, row_shape: tuple[int, ...] = (2, 2, 3), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, *row_shape) of three classes that lie well apart, and their labels."""
    rng = np.random.default_rng(seed)
    target = np.arange(n) % len(CLASSES)
    centres = 4 * rng.standard_normal((len(CLASSES), *row_shape))
    return (centres[target] + rng.standard_normal((n, *row_shape))).astype(np.float32), CLASSES[target]


def cached(root: Path, rows: np.ndarray, layer: str = "a") -> Features:
    """`rows` as `Features` from a cache in `root`, kept there in another order."""
    spec = FeatureSpec(net="test", weights="none", layer=layer, size=(8, 8), pooling="none")
    encoded = b"".join(digest_bytes(f"{row}".encode()) for row in range(len(rows)))
    digests = np.frombuffer(encoded, np.uint8).reshape(len(rows), 16)
    with FeatureCache(root)[spec].writer({}) as writer:
        for part in (slice(len(rows) // 2, None), slice(0, len(rows) // 2)):
            writer.append(digests[part], rows[part])
            writer.commit()
    return FeatureCache(root)[spec].rows(digests)
