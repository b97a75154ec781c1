"""Two caches in one bucket, written by four processes and compacted, while a fifth reads, and requests fail."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from feature_cache import FeatureCache, FeatureSpec
from feature_cache.keys import digest_bytes
from feature_cache.maintenance.compact import compact
from feature_cache.maintenance.verify import verify
from tests.transfer.data.remote.s3_server import Faults

SPEC = FeatureSpec(net="vgg16", weights="imagenet", layer="block5_pool", size=(32, 32))
URLS = ("s3://bucket/a", "s3://bucket/b")
ROWS, STEP = 240, 30
OnMachine = Callable[..., FeatureCache]


def _rows(url: str, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Digests and the only right rows, which differ between caches."""
    names = (digest_bytes(f"image {number}".encode()) for number in numbers.tolist())
    digests = np.frombuffer(b"".join(names), np.uint8).reshape(len(numbers), 16)
    return digests, (digests[:, :6].astype(np.float32) + 1000 * URLS.index(url))


def _cache(home: Path, url: str) -> FeatureCache:
    os.environ["XDG_CACHE_HOME"] = str(home)
    return FeatureCache(url)  # type: ignore[arg-type]


def _write(home: Path, url: str, seed: int) -> None:
    """Write what is missing in random order, as an extraction does; in the end, compact."""
    space = _cache(home, url)[SPEC]
    for part in np.array_split(np.random.default_rng(seed).permutation(ROWS), ROWS // STEP):
        digests, rows = _rows(url, part)
        lacking = ~space.again().has(digests)
        with space.writer({"writer": seed}, compress=bool(seed % 2)) as writer:
            writer.append(digests[lacking], rows[lacking])
    compact(space)


def _read(home: Path, seen: Path) -> None:
    """Read all rows that there are, of both caches, again and again; a row that was seen stays."""
    before = dict.fromkeys(URLS, 0)
    while True:
        for url in URLS:
            space = _cache(home, url)[SPEC]
            digests, rows = _rows(url, np.arange(ROWS))
            here = space.has(digests)
            if here.any():
                np.testing.assert_array_equal(np.asarray(space.rows(digests[here])), rows[here])
            assert here.sum() >= before[url]
            before[url] = int(here.sum())
        seen.write_text(str(min(before.values())))
        if min(before.values()) == ROWS:
            return


def _has_rows(seen: Path) -> bool:
    return seen.exists() and int(seen.read_text() or 0) > 0


@pytest.mark.slow
def test_no_row_is_wrong_and_none_is_lost(
    on_machine: OnMachine, store: object, faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults.every = 23
    monkeypatch.setenv("LAYERTAP_MIRROR_SIZE", "100kB")
    processes = multiprocessing.get_context("spawn")
    # Two of the writers are on one machine, and have one mirror.
    jobs = [(_write, (tmp_path / f"machine-{min(n, 2)}", URLS[n % 2], n)) for n in range(4)]
    jobs += [(_read, (tmp_path / "reader", tmp_path / "seen"))]
    children = [processes.Process(target=target, args=args) for target, args in jobs]
    killed = processes.Process(target=_write, args=(tmp_path / "machine-0", URLS[0], 9))
    for child in (*children, killed):
        child.start()
    deadline = time.monotonic() + 240
    while not _has_rows(tmp_path / "seen") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert killed.pid
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    assert killed.exitcode == -signal.SIGKILL  # it had not ended
    for child in (*children, killed):
        child.join(max(1.0, deadline - time.monotonic()))
    assert [child.exitcode for child in children] == [0] * 5
    faults.every = 0
    for machine in ("machine-0", "machine-2", "new"):
        for url in URLS:
            digests, rows = _rows(url, np.arange(ROWS))
            space = on_machine(machine, url)[SPEC]
            np.testing.assert_array_equal(np.asarray(space.rows(digests)), rows)
            assert not verify(space).damaged
            assert len(space) == ROWS
