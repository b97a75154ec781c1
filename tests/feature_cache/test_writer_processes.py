"""Several processes write one space at once, and one of them may be killed at any moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cache_helpers import PROCESSES, stored_rows

from feature_cache import FeatureCache, FeatureSpec, Space
from feature_cache.keys import digest_bytes
from feature_cache.segments import segment_writer
from feature_cache.segments.layout import SEGMENTS, TEMPORARY

# A killed writer is waited for no longer, and writes no more: 2000 segments of 100 rows of 40 bytes.
SECONDS = 30
COMMITS = 2000


def rows(first: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Digests and features of images: each row is the number of its image."""
    encoded = b"".join(digest_bytes(f"image {row}".encode()) for row in range(first, first + number))
    features = np.repeat(np.arange(first, first + number, dtype=np.float32)[:, None], 10, axis=1)
    return np.frombuffer(encoded, np.uint8).reshape(number, 16), features


def _write_share(root: Path, spec: FeatureSpec, number: int, go: object) -> None:
    space = FeatureCache(root)[spec]
    go.wait(SECONDS)
    with space.writer({"writer": number}, compress=number == 1) as writing:
        for row in range(number * 10, number * 10 + 20):  # neighbours overlap by half
            writing.append(*rows(row, 1))
            if row % 4 == 3:
                writing.commit()


def test_several_processes_write_one_space_at_once(cache: FeatureCache, spec: FeatureSpec):
    go = PROCESSES.Barrier(3)
    children = [PROCESSES.Process(target=_write_share, args=(cache.root, spec, number, go)) for number in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(SECONDS)
        child.kill()
    assert [child.exitcode for child in children] == [0, 0, 0]
    space, (digests, features) = cache[spec], rows(0, 40)
    assert len(space) == 40
    assert sum(len(part) for part in space.segments) == len(space.index) == 60
    np.testing.assert_array_equal(np.asarray(space.rows(digests)), features)
    assert {path.name for path in space.folder.iterdir()} == {
        "spec.json",
        ".used",
        "index.bin",
        *(part.path.name for part in space.segments),
    }


def _write_on(root: Path, spec: FeatureSpec) -> None:
    parent = os.getppid()
    with FeatureCache(root)[spec].writer({}) as writing:
        for first in range(0, 100 * COMMITS, 100):
            writing.append(*rows(first, 100))
            writing.commit()
            if os.getppid() != parent:
                return


def wait_until(holds: Callable[[], bool], child: multiprocessing.process.BaseProcess) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds() and child.is_alive() and time.monotonic() < deadline:
        time.sleep(0.002)


@pytest.mark.parametrize("pause", [0.0, 0.003, 0.013])
def test_killed_writer_leaves_only_complete_segments_and_work_goes_on(
    cache: FeatureCache, spec: FeatureSpec, pause: float
):
    folder = cache[spec].folder
    child = PROCESSES.Process(target=_write_on, args=(cache.root, spec))
    child.start()
    try:
        wait_until(lambda: len(list(folder.glob(SEGMENTS))) >= 3, child)
        time.sleep(pause)
    finally:
        child.kill()
        child.join()
    assert child.exitcode == -signal.SIGKILL

    left = cache[spec]
    written = len(left)
    assert written >= 300
    assert written % 100 == 0
    digests, features = rows(0, written)
    np.testing.assert_array_equal(np.asarray(left.rows(digests)), features)
    assert len(list(folder.glob(TEMPORARY))) <= 1

    digests, features = rows(written, 1)
    assert not left.has(digests).any()
    with left.writer({}) as writing:
        writing.append(digests, features)
    assert len(cache[spec]) == written + 1


class StuckSpec(FeatureSpec):
    """A spec that, while it is written into a segment, says so and then waits."""

    def to_json(self) -> str:
        Path(self.net).touch()
        time.sleep(2 * SECONDS)
        raise AssertionError("nobody killed this process")


def _write_and_stick(folder: Path, here: Path, features: np.ndarray, digests: np.ndarray) -> None:
    spec = StuckSpec(net=str(here), weights="none", layer="a", size=(8, 8))
    segment_writer.write(folder, spec, features, digests, np.zeros(len(digests), np.uint32), {})


def test_kill_in_the_middle_of_a_write_leaves_a_temporary_file_that_is_not_read(
    tmp_path: Path, space: Space, made_rows: Callable
):
    here, (digests, features) = tmp_path / "here", made_rows(0, 3)
    with space.writer({}) as writing:
        writing.append(digests, features)
    arguments = space.folder, here, features, digests
    child = PROCESSES.Process(target=_write_and_stick, args=arguments)
    child.start()
    try:
        wait_until(here.exists, child)
    finally:
        child.kill()
        child.join()
    assert child.exitcode == -signal.SIGKILL
    (left,) = space.folder.glob(TEMPORARY)
    assert left.stat().st_size >= 0
    (whole,) = space.folder.glob(SEGMENTS)
    assert len(space.again()) == 3
    np.testing.assert_array_equal(stored_rows(whole, space.spec), features)
