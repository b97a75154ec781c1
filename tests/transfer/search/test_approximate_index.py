"""The approximate index beside a space: never stale, never read when damaged, and no burden to the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import layertap as lt
from feature_cache.maintenance import prune
from feature_cache.maintenance.verify import verify
from transfer.extraction.feature_set import FeatureSet


def features_of(count: int, cache: Path) -> FeatureSet:
    digits = lt.load_dataset("digits")
    chosen = digits.select(np.arange(count))
    return lt.extract(chosen, "glyphnet", layers=["block4_pool"], cache=cache, progress=False)


@pytest.mark.slow
def test_rows_that_are_added_are_found_and_a_damaged_index_is_built_anew(tmp_path: Path) -> None:
    few, many = features_of(300, tmp_path), features_of(600, tmp_path)
    queries = many["block4_pool"][290:310]
    for features in (few, many, few):  # the index lacks the second half, then holds rows that are not asked for
        found, exact = features.search(queries, 5, index=True), features.search(queries, 5)
        near = [len(set(a) & set(b)) for a, b in zip(found.rows.tolist(), exact.rows.tolist(), strict=True)]
        assert sum(near) > 0.95 * exact.rows.size
        assert found.rows.max() < len(features.dataset)
    folder = many["block4_pool"].space.folder
    graph = folder / "neighbors-cosine.usearch"
    for damaged in (folder / "neighbors-cosine.keys", graph):
        content = bytearray(damaged.read_bytes())
        content[len(content) // 2] ^= 255
        damaged.write_bytes(content)
        found = many.search(queries, 5, index=True)
        assert found.rows[:, 0].tolist() == list(range(290, 310))
        assert damaged.read_bytes() != bytes(content)
    cache = lt.FeatureCache(tmp_path)
    assert cache.spaces() == [folder.name]
    assert not verify(cache.open(folder.name)).damaged
    prune.remove(prune.candidates(cache, spaces=[folder.name]))
    assert not folder.exists()
