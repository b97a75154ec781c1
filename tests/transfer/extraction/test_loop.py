"""The extraction loop with parts of a test: what comes in is computed and written, and nothing is left open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_cache.cache import FeatureCache
from feature_cache.space import Space
from transfer.engines.batch import Batch
from transfer.extraction import loop
from transfer.extraction.writing import FeatureWriter, StageTimer
from transfer.nets.catalogue import Net

SPECS = [Net("glyphnet").spec(layer) for layer in ("block1_pool", "block2_pool")]


class Runner:
    """Means and maxima of inputs, in place of a net."""

    provenance, making = {"engine": "test"}, 0.0

    def run(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, list[np.ndarray]]]:
        for batch in batches:
            rows = batch.inputs.reshape(len(batch.inputs), -1).astype(np.float32)
            yield batch, [rows.mean(1, keepdims=True), rows.max(1, keepdims=True)]


@pytest.fixture
def spaces(tmp_path: Path) -> list[Space]:
    cache = FeatureCache(tmp_path)
    return [cache[spec] for spec in SPECS]


def batch_of(*numbers: int) -> Batch:
    digests = np.repeat(np.array(numbers, np.uint8)[:, None], 16, axis=1)
    return Batch(digests, np.zeros(len(numbers), np.uint32), digests[:, :4].copy())


def run(batches: Iterable[Batch], spaces: list[Space], **options: Any) -> FeatureWriter:
    runner: Any = Runner()
    writer = FeatureWriter(runner, lambda: spaces)
    loop.run(batches, runner, writer, **options)
    return writer


def test_what_is_computed_is_in_the_spaces_once_the_loop_is_done(spaces: list[Space]) -> None:
    seen: list[int] = []
    timer = StageTimer()
    batches = [batch_of(1, 2), batch_of(7)]
    writer = run(batches, spaces, timer=timer, after_batch=lambda batch: seen.append(len(batch.digests)))
    assert (seen, writer.rows) == ([2, 1], 6)
    assert writer.bytes_written == sum(file.stat().st_size for file in spaces[0].folder.parent.rglob("*.h5"))
    assert writer.segments == {file.name for file in spaces[0].folder.parent.rglob("*.h5")}
    for space in spaces:
        np.testing.assert_array_equal(space.again().rows(batch_of(7, 1).digests)[:], [[7], [1]])
    assert 0 < sum(timer.seconds.values()) <= timer.total


def test_rows_that_a_space_has_are_not_written_again(spaces: list[Space]) -> None:
    run([batch_of(1, 2)], spaces[:1] + spaces[1:])
    now = [space.again() for space in spaces]
    writer = run([batch_of(2, 3)], now)
    assert writer.rows == 2
    assert [len(space.again()) for space in spaces] == [3, 3]


def test_an_error_of_a_stage_leaves_what_was_computed_before_it(spaces: list[Space]) -> None:
    def batches() -> Iterator[Batch]:
        yield batch_of(1)
        yield batch_of(2)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        run(batches(), spaces)
    assert [len(space.again()) for space in spaces] == [2, 2]


def test_no_space_is_made_where_nothing_comes(spaces: list[Space]) -> None:
    assert run([], spaces).rows == 0
    assert not any(space.folder.exists() for space in spaces)
