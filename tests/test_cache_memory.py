"""A process reads a cache that is ten times as large as the memory it may still take."""

from __future__ import annotations

import mmap
import multiprocessing
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from feature_cache import FeatureCache, FeatureSpec

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not enforce these limits")

ALLOWED = 32 * 2**20
SPEC = FeatureSpec(net="vgg16", weights="imagenet", layer="block5_pool", size=(32, 32))
WIDTH = 16384
ROWS = 10 * ALLOWED // (WIDTH * 4)
SEGMENT_ROWS = 50
SPAWN = multiprocessing.get_context("spawn")


def _digests() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (ROWS, 16), dtype=np.uint8)


def _values(digests: np.ndarray) -> np.ndarray:
    """Rows that tell their key, quick to make and small when compressed."""
    return (digests.view("<u4")[:, :1] >> 12).astype(np.float32) + (np.arange(WIDTH) % 16).astype(np.float32)


@pytest.fixture(scope="module", params=["plain", pytest.param("compressed", marks=pytest.mark.slow)])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of ten times `ALLOWED`, removed after use."""
    folder = tmp_path_factory.mktemp(request.param)
    digests = _digests()
    with FeatureCache(folder)[SPEC].writer({}, compress=request.param == "compressed") as writer:
        for start in range(0, ROWS, SEGMENT_ROWS):
            part = digests[start : start + SEGMENT_ROWS]
            writer.append(part, _values(part))
            writer.commit()
    yield folder
    shutil.rmtree(folder)


def _read_shuffled(root: Path, limit: str, used: str, taken: int) -> None:
    import resource

    taken_before = mmap.mmap(-1, taken, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    most = int(status[used].split()[0]) * 1024 + ALLOWED
    resource.setrlimit(getattr(resource, limit), (most, most))
    digests = _digests()
    features = FeatureCache(root)[SPEC].rows(digests)
    assert features.nbytes >= 10 * ALLOWED
    seen = np.zeros(ROWS, int)
    for rows, places in features.batches(32, shuffle=True):
        assert (rows == _values(digests[places])).all()
        seen[places] += 1
    assert (seen == 1).all()
    taken_before.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "used", "taken"),
    [
        pytest.param("RLIMIT_AS", "VmSize", 4096, id="address space"),
        pytest.param("RLIMIT_AS", "VmSize", 2**31, id="address space of a large process"),
        pytest.param("RLIMIT_DATA", "VmData", 4096, id="data"),
    ],
)
def test_shuffled_batches_of_a_cache_ten_times_the_allowed_memory(root: Path, limit: str, used: str, taken: int):
    child = SPAWN.Process(target=_read_shuffled, args=(root, limit, used, taken))
    child.start()
    child.join(120)
    child.kill()
    assert child.exitcode == 0
