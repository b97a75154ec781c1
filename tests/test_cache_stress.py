"""Many writers, readers and a compaction on one space, all at once, while writers are killed and come again."""

from __future__ import annotations

import functools
import multiprocessing
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from feature_cache import FeatureCache, Features, FeatureSpec, Space
from feature_cache.keys import digest_bytes
from feature_cache.maintenance.compact import compact
from feature_cache.maintenance.verify import verify
from feature_cache.segments.layout import INDEX_FILE, SEGMENTS, SPEC_FILE, TEMPORARY, USED_FILE

WRITERS, READERS = 8, 4
SPEC = FeatureSpec(net="vgg16", weights="imagenet", layer="block5_pool", size=(32, 32))
ROW_SHAPE = (3, 5)
# The rows of a data set; two writers extract the same ones, then the next data set.
DATA_SET = 2000
# Of this many segments of up to 20 kB, writers wait for the compaction.
MOST_SEGMENTS = 300

# Children are forked from a small process that has all modules loaded, so that most kills hit a writer at work.
PROCESSES = multiprocessing.get_context("forkserver")


@functools.cache
def _digest(image: int) -> bytes:
    return digest_bytes(f"image {image}".encode())


def _keys(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Digests and views of rows by their numbers: two views of each image."""
    digests = np.frombuffer(b"".join(_digest(number // 2) for number in numbers.tolist()), np.uint8)
    return digests.reshape(len(numbers), 16), (numbers % 2).astype(np.uint32)


def _values(digests: np.ndarray, views: np.ndarray) -> np.ndarray:
    """The only right row of each key."""
    columns = np.arange(np.prod(ROW_SHAPE))
    words = np.ascontiguousarray(digests).view("<u4")[:, columns % 4] * (2 * columns + 1).astype(np.uint32)
    return ((words + views[:, None]) >> 8).astype(np.float32).reshape(len(digests), *ROW_SHAPE)


def _committed(root: Path) -> np.ndarray:
    """Numbers of the rows that writers have told of after a commit."""
    lines = [line for file in root.glob("*.log") for line in file.read_bytes().split(b"\n")[:-1]]
    return np.unique(np.array(b" ".join(lines).split(), np.int64))


def _writer(root: Path, who: int, rng: np.random.Generator) -> None:
    space = FeatureCache(root / "features")[SPEC]
    log = os.open(root / f"writer-{who}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    told = [int(number) for number in (root / f"writer-{who}.log").read_bytes().split()]
    first = max(told, default=who // 2 * 10**6) // DATA_SET * DATA_SET
    with space.writer({"writer": who}, compress=who % 4 == 3) as writer:
        while True:
            numbers = np.arange(first, first + DATA_SET)
            missing = numbers[~space.again().has(*_keys(numbers))]
            while len(missing):
                count = int(rng.integers(1, 150))
                for part in np.array_split(missing[:count], 2):
                    digests, views = _keys(part)
                    writer.append(digests, _values(digests, views), views)
                writer.commit()
                os.write(log, " ".join(map(str, missing[:count].tolist())).encode() + b"\n")
                os.fsync(log)
                missing = missing[count:]
                time.sleep(rng.random() * 0.05)
                while _stopped(root) or len(list(space.folder.glob(SEGMENTS))) > MOST_SEGMENTS:
                    if _stopped(root):
                        return
                    time.sleep(0.05)
            first += DATA_SET


def _reader(root: Path, who: int, rng: np.random.Generator) -> None:
    held: list[tuple[Features, np.ndarray]] = []  # opened in earlier rounds: their segments may be gone
    rounds = 0
    while not _stopped(root):
        committed = _committed(root)
        space = FeatureCache(root / "features")[SPEC]
        lost = committed[~space.has(*_keys(committed))]
        assert not len(lost), f"rows {lost} were committed and are not there"
        digests, views = space.keys()
        assert len(digests) == len(space) >= len(committed)
        chosen = rng.permutation(len(digests))[: int(rng.integers(1, 400))]
        digests, views = digests[chosen], views[chosen]
        features, expected = space.rows(digests, views), _values(digests, views)
        _compare(features, expected, rng)
        for features_before, expected_before in held:
            _compare(features_before, expected_before, rng)
        held = [*held, (features, expected)][-3:]
        if len(digests):
            rounds += 1
            (root / f"reader-{who}.rounds").write_text(str(rounds))


def _compare(features: Features, expected: np.ndarray, rng: np.random.Generator) -> None:
    count = len(expected)
    assert features.shape == (expected.shape if count else features.shape)
    if not count:
        return
    start, stop = np.sort(rng.integers(-count, count, 2)).tolist()
    some = rng.integers(-count, count, 32)
    for index in (start, slice(start, stop), slice(None, None, -3), some, rng.random(count) < 0.3):
        np.testing.assert_array_equal(features[index], expected[index])
    for rows, places in features.batches(64, shuffle=True, seed=int(some[0]) % 100):
        np.testing.assert_array_equal(rows, expected[places])


def _compactor(root: Path, who: int, rng: np.random.Generator) -> None:
    while not _stopped(root):
        compact(FeatureCache(root / "features")[SPEC], compress=[None, None, True, False][rng.integers(4)])
        time.sleep(rng.random() * 0.3)


def _stopped(root: Path) -> bool:
    return (root / "stop").exists()


def _child(role: Callable, root: Path, who: int, life: int) -> None:
    try:
        role(root, who, np.random.default_rng([who, life]))
    except BaseException:
        (root / f"{role.__name__.strip('_')}-{who}-{life}.error").write_text(traceback.format_exc())
        raise


def _started(role: Callable, root: Path, who: int, life: int) -> BaseProcess:
    child = PROCESSES.Process(target=_child, args=(role, root, who, life))
    child.start()
    return child


@pytest.mark.parametrize("seconds", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_writers_lose_nothing_and_readers_see_only_right_rows(tmp_path: Path, seconds: int):
    PROCESSES.set_forkserver_preload(["feature_cache.maintenance.compact", "pytest"])
    chance = random.Random(seconds)
    kills = 0
    jobs = [(_compactor, WRITERS), *((_writer, who) for who in range(WRITERS))]
    children = {job: _started(job[0], tmp_path, job[1], 0) for job in jobs}
    readers = [_started(_reader, tmp_path, WRITERS + 1 + who, 0) for who in range(READERS)]
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end and not list(tmp_path.glob("*.error")):
            time.sleep(chance.uniform(0.01, 0.15))
            role, who = job = chance.choices(jobs, [0.2, *[1.0] * WRITERS])[0]  # compaction takes longer
            children[job].kill()
            children[job].join()
            kills += children[job].exitcode == -signal.SIGKILL
            children[job] = _started(role, tmp_path, who, kills)
    finally:
        (tmp_path / "stop").touch()
        for child in (*children.values(), *readers):
            child.join(30)
            child.kill()
            child.join()

    assert "\n".join(file.read_text() for file in sorted(tmp_path.glob("*.error"))) == ""
    assert [child.exitcode for child in (*children.values(), *readers)] == [0] * (WRITERS + 1 + READERS)
    space = FeatureCache(tmp_path / "features")[SPEC]
    committed = _committed(tmp_path)
    rounds = [int(file.read_text()) for file in tmp_path.glob("*.rounds")]
    print(f"{kills} kills, {len(committed)} rows committed, {len(space.segments)} segments, readers' rounds {rounds}")
    assert kills >= seconds
    assert len(committed) > 100 * seconds
    assert len(rounds) == READERS
    _check_all(space, committed)
    left = {path.name for path in space.folder.iterdir()} - {part.path.name for part in space.segments}
    temporary = {path.name for path in space.folder.glob(TEMPORARY)}
    assert left - temporary <= {SPEC_FILE, USED_FILE, INDEX_FILE}
    assert len(temporary) <= kills


def _check_all(space: Space, committed: np.ndarray) -> None:
    """Every committed row is there, and every row of every segment, copies too, is right."""
    assert space.has(*_keys(committed)).all()
    np.testing.assert_array_equal(np.asarray(space.rows(*_keys(committed))), _values(*_keys(committed)))
    index = space.index
    np.testing.assert_array_equal(space.read(np.arange(len(index))), _values(index.digests, index.views))
    found = verify(space)
    assert found.damaged == []
    assert (found.segments, found.rows) == (len(index.listed), len(index))
