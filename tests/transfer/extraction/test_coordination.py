"""Sharing: extractions at the same time leave to each other what each has done, and the result is right either way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_cache import FeatureCache, FeatureSpec, Space
from feature_cache.errors import Unreachable
from feature_cache.keys import digest_bytes
from feature_cache.maintenance.compact import compact
from feature_cache.space import segment_names
from transfer.extraction.coordination import WorkQueue, one_at_a_time
from transfer.extraction.lookup import Missing

ROOT = Path(__file__).resolve().parents[3]
SPEC = FeatureSpec(net="toy", weights="none", layer="l", size=(8, 8))
N = 60


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


@pytest.fixture
def look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before every image, look at what others have done: each look at the clock takes a second."""
    monkeypatch.setattr("transfer.extraction.coordination.LOOK_SECONDS", 1.5)
    ticks = iter(range(10**6))
    monkeypatch.setattr(
        "transfer.extraction.coordination.time",
        type("StageTimer", (), {"monotonic": staticmethod(lambda: next(ticks))}),
    )


def keys(positions: np.ndarray | list[int]) -> np.ndarray:
    encoded = b"".join(digest_bytes(f"image {position}".encode()) for position in positions)
    return np.frombuffer(encoded, np.uint8).reshape(-1, 16)


def commit(space: Space, positions: np.ndarray | list[int]) -> set[str]:
    """Write rows of these images; the names of their segments."""
    with space.writer({}) as writer:
        writer.append(keys(positions), np.zeros((len(positions), 3), np.float32))
    return writer.written


def missing(*spaces: Space, positions: np.ndarray | None = None) -> Missing:
    positions = np.arange(N) if positions is None else positions
    return Missing(keys(range(N)), positions, [len(positions)] * len(spaces), list(spaces), [])


class TestTodo:
    def test_alone_it_gives_every_position_once_in_order(self, cache: FeatureCache) -> None:
        positions = np.arange(N)[::3]
        assert list(WorkQueue(missing(cache[SPEC], positions=positions))) == positions.tolist()

    def test_nothing_missing_is_nothing_to_do(self, cache: FeatureCache) -> None:
        assert list(WorkQueue(missing(cache[SPEC], positions=np.arange(0)))) == []

    def test_own_segments_do_not_change_the_order(self, cache: FeatureCache, look_at_once: None) -> None:
        queue = WorkQueue(missing(cache[SPEC]))
        given = []
        for position in queue:
            given.append(position)
            if len(given) % 10 == 0:
                queue.wrote(commit(cache[SPEC], given[-10:]))
        assert given == list(range(N))
        assert queue.dropped == 0

    def test_segments_that_were_there_before_do_not_change_the_order(
        self, cache: FeatureCache, look_at_once: None
    ) -> None:
        commit(cache[SPEC], [0, 1, 2])
        assert list(WorkQueue(missing(cache[SPEC], positions=np.arange(3, N)))) == list(range(3, N))

    def test_what_another_commits_is_left_out_and_counted(self, cache: FeatureCache, look_at_once: None) -> None:
        queue = WorkQueue(missing(cache[SPEC]))
        upcoming = iter(queue)
        given = [next(upcoming) for _ in range(10)]
        commit(cache[SPEC], range(20, 50))
        given += list(upcoming)
        assert sorted(given) == [*range(20), *range(50, N)]
        assert queue.dropped == 30
        assert queue.spaces[0].has(keys([20])).all()

    def test_a_server_that_does_not_answer_is_asked_again(
        self, cache: FeatureCache, look_at_once: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queue, answers = WorkQueue(missing(cache[SPEC])), iter(range(10**6))

        def names(folder: Path) -> set[str]:
            if next(answers) < 2:
                raise Unreachable("cannot read s3://bucket/features")
            return segment_names(folder)

        monkeypatch.setattr("transfer.extraction.coordination.segment_names", names)
        upcoming = iter(queue)
        given = [next(upcoming)]
        commit(cache[SPEC], range(20, 50))
        given += list(upcoming)
        assert sorted(given) == [*range(20), *range(50, N)]

    def test_all_that_is_left_may_be_done_by_another(self, cache: FeatureCache, look_at_once: None) -> None:
        queue = WorkQueue(missing(cache[SPEC]))
        upcoming = iter(queue)
        next(upcoming)
        commit(cache[SPEC], range(N))
        assert list(upcoming) == []
        assert queue.dropped == N - 1

    def test_what_was_given_out_is_not_given_again_after_another_wrote(
        self, cache: FeatureCache, look_at_once: None
    ) -> None:
        queue = WorkQueue(missing(cache[SPEC]))
        given = []
        for position in queue:
            given.append(position)
            if len(given) % 7 == 0:
                commit(cache[SPEC], [N + len(given)])
        assert sorted(given) == list(range(N))

    def test_two_that_see_each_other_go_on_from_different_places(self, cache: FeatureCache, look_at_once: None) -> None:
        starts = set()
        for _ in range(8):
            queue = WorkQueue(missing(cache[SPEC]))
            upcoming = iter(queue)
            next(upcoming)
            commit(cache[SPEC], [N + 1])
            rest = list(upcoming)
            starts.add(rest[0])
            turned = rest.index(min(rest))
            assert rest[turned:] + rest[:turned] == list(range(1, N))  # in order, from somewhere on
        assert len(starts) > 1

    def test_a_position_stays_until_every_space_has_it(self, cache: FeatureCache, look_at_once: None) -> None:
        one, two = cache[SPEC], cache[replace(SPEC, layer="m")]
        queue = WorkQueue(missing(one, two))
        upcoming = iter(queue)
        given = [next(upcoming)]
        commit(one, range(30))
        commit(two, range(20, N))
        given += list(upcoming)
        assert sorted(given) == [*range(20), *range(30, N)]
        assert [space.has(keys([25])).all() for space in queue.spaces] == [True, True]

    def test_looking_that_takes_longer_than_the_time_between_looks_does_not_go_on_for_ever(
        self, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A shared folder may be slow."""
        looks = iter(range(10 * N))
        monkeypatch.setattr("transfer.extraction.coordination.LOOK_SECONDS", 0.0)
        monkeypatch.setattr(
            "transfer.extraction.coordination.segment_names", lambda folder: {f"segment-{next(looks)}.h5"}
        )
        assert sorted(WorkQueue(missing(cache[SPEC]))) == list(range(N))

    def test_it_looks_no_more_often_than_it_should(self, cache: FeatureCache) -> None:
        queue = WorkQueue(missing(cache[SPEC]))
        commit(cache[SPEC], range(10, 30))
        assert list(queue) == list(range(N))  # five seconds are not over
        assert queue.dropped == 0

    def test_a_compaction_by_another_does_no_harm(self, cache: FeatureCache, look_at_once: None) -> None:
        queue = WorkQueue(missing(cache[SPEC]))
        given = []
        for position in queue:
            given.append(position)
            if len(given) in (10, 20):
                queue.wrote(commit(cache[SPEC], given[-10:]))
            if len(given) == 25:
                compact(cache[SPEC])
        assert sorted(given) == list(range(N))


# A net that takes a while for each batch, and whose features tell which image they are of.
TOY = """
import time
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import transfer.extraction.extract

class BatchRunner:
    provenance, name, note, making = {"engine": "toy"}, "toy", "", 0.0

    def __init__(self, request, batch_size, **options):
        self.batch_size = batch_size

    def run(self, batches):
        for batch in batches:
            time.sleep(0.06)
            pixels = batch.inputs.reshape(len(batch.inputs), -1).astype(np.float32)
            yield batch, [np.stack([pixels.mean(1), pixels.std(1), pixels[:, 0]], 1)]

transfer.extraction.extract.BatchRunner = BatchRunner
"""

DRIVER = """
import json, sys, time
from dataclasses import asdict
from pathlib import Path
import numpy as np
import feature_cache.writer, transfer.extraction.coordination
feature_cache.writer.SEGMENT_SECONDS = transfer.extraction.coordination.LOOK_SECONDS = 0.1
from feature_cache import FeatureCache
from transfer.data import datasets
from transfer.extraction.extract import extract
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

folder, who, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
dataset = datasets.load("digits").select(np.arange(count))
request = FeatureRequest(Net("glyphnet"), ("block1_pool",), size=(int(sys.argv[4]),) * 2)
if "BatchRunner" not in globals():
    request.build()  # Keras is loaded, so that both are ready at the same time
(folder / who).touch()
end = time.monotonic() + 60
while not (folder / "go").exists() and time.monotonic() < end:
    time.sleep(0.002)
report = extract(dataset, request, FeatureCache(folder / "cache"), batch_size=8)
print(json.dumps(asdict(report)))
"""


def extract_together(folder: Path, code: str, count: int, processes: int = 2, size: int = 28) -> list[dict]:
    """Start extractions of the same data set at the same moment; what each of them reports."""
    command = [sys.executable, "-c", code, str(folder)]
    children = [
        subprocess.Popen(
            [*command, f"child-{who}", str(count), str(size)],
            cwd=ROOT,
            env=os.environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in range(processes)
    ]
    try:
        end = time.monotonic() + 60
        while len(list(folder.glob("child-*"))) < processes and time.monotonic() < end:
            time.sleep(0.01)
        (folder / "go").touch()
        said = [child.communicate(timeout=120)[0] for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert [child.returncode for child in children] == [0] * processes
    return [json.loads(line) for line in said]


def assert_shared(reports: list[dict], count: int) -> None:
    for report in reports:
        assert report["rows_total"] == report["rows_computed"] + report["rows_reused"] == count
        assert report["rows_skipped"] == 0
    computed = sum(report["rows_computed"] for report in reports)
    assert count <= computed < 1.5 * count, reports
    assert min(report["rows_computed"] for report in reports) > 0


@pytest.mark.slow
def test_two_extractions_at_once_share_the_work_and_end_with_every_row_right(tmp_path: Path) -> None:
    from transfer.data import datasets

    count = 600
    reports = extract_together(tmp_path, TOY + DRIVER, count)
    assert_shared(reports, count)
    dataset = datasets.load("digits").select(np.arange(count))
    cached = stored(tmp_path / "cache", dataset)
    assert cached.shape == (count, 3)
    for number in range(0, count, 97):
        digest, image = dataset.sources[number].load()
        alone = FeatureCache(tmp_path / "cache").open(FeatureCache(tmp_path / "cache").spaces()[0])
        row = np.asarray(alone.rows(np.frombuffer(digest, np.uint8)[None]))[0]
        np.testing.assert_array_equal(cached[number], row)
    assert len(np.unique(cached, axis=0)) > 0.9 * count


def stored(root: Path, dataset: object) -> np.ndarray:
    """The features of a data set as they are in the one space of a cache."""
    from transfer.extraction.lookup import rows_of

    cache = FeatureCache(root)
    (name,) = cache.spaces()
    (features,) = rows_of(dataset, cache.open(name), cache).features.values()
    return np.asarray(features)


@pytest.mark.slow
def test_four_extractions_by_a_real_net_end_with_what_one_computes(tmp_path: Path) -> None:
    from transfer.data import datasets
    from transfer.extraction.extract import extract
    from transfer.nets.catalogue import Net
    from transfer.request import FeatureRequest

    size = 128  # a second or more of work for each: nothing is shared before something is committed
    count = 900
    reports = extract_together(tmp_path, DRIVER, count, 4, size)
    for report in reports:
        assert report["rows_total"] == report["rows_computed"] + report["rows_reused"] == count
    assert sum(report["rows_computed"] for report in reports) < 2.5 * count
    dataset = datasets.load("digits").select(np.arange(count))
    extract(
        dataset, FeatureRequest(Net("glyphnet"), ("block1_pool",), size=(size, size)), FeatureCache(tmp_path / "alone")
    )
    expected = stored(tmp_path / "alone", dataset)
    found = stored(tmp_path / "cache", dataset)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_one_works_at_a_time_and_no_lock_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a file that is removed meanwhile locks the next one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    locks = tmp_path / "layertap" / "turns"
    locks.mkdir(parents=True)
    (locks / "of a killed process").touch()
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            with one_at_a_time(tmp_path / "cache"):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))
    assert (len(most), max(most)) == (120, 1)
    assert list(locks.iterdir()) == []
