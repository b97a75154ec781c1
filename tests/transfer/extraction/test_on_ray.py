"""Workers of a Ray cluster compute what one process does, also where they are killed; their ends are told in a line."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from feature_cache.cache import FeatureCache, as_cache
from feature_cache.errors import BadImage, InvalidChoice, MissingDependency, StorageFailure, Unreachable
from tests.transfer.data.remote.packed import zip_of
from tests.transfer.data.remote.s3_server import Server
from transfer.data import datasets
from transfer.data.datasets import Dataset
from transfer.data.remote.parts import has_parts
from transfer.data.transforms import named
from transfer.extraction.extract import extract
from transfer.extraction.lookup import stored_features
from transfer.extraction.on_ray import cluster as connection
from transfer.extraction.on_ray.extract import address_of, extract_on_ray
from transfer.extraction.on_ray.tasks import divide
from transfer.extraction.on_ray.workers import Setting, Work, Worker, _require_files
from transfer.nets.catalogue import Net
from transfer.request import FeatureRequest

ROOT = Path(__file__).resolve().parents[3]
WANTED = FeatureRequest(Net("glyphnet"), ("block1_pool", "block4_pool"))


def test_tasks_divide_all_images_and_get_smaller() -> None:
    positions, jobs = np.arange(0, 60_000, 2), np.full(30_000, 3)
    tasks = divide(positions, jobs, 4)
    np.testing.assert_array_equal(np.concatenate([task.positions for task in tasks]), positions)
    sizes = [len(task.positions) for task in tasks]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) <= 4096
    assert all(task.jobs == 3 * len(task.positions) for task in tasks)
    assert divide(positions[:0], jobs[:0], 4) == []


def test_an_address_is_that_of_a_head_or_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [address_of(ray) for ray in (None, False, True, "auto", "head:6379", "[::1]:6379")] == [
        None, None, "auto", "auto", "head:6379", "[::1]:6379",
    ]  # fmt: skip
    for wrong in ("photos", "head:", "head:70000", ":6379", "ray://head:10001", "http://head:8265", "a b:1", ""):
        with pytest.raises(InvalidChoice, match="is no address of a Ray cluster"):
            address_of(wrong)
    monkeypatch.setattr(connection, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"pip install 'layertap\[ray\]'"):
        address_of(True)


class LocalCluster:
    """A head and another node on this machine, with a worker each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "object_store_memory": 10**8}
        self._cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        self._cluster.add_node(**node)
        self.address: str = self._cluster.address

    def workers(self, nodes: int = 2) -> list[int]:
        """The processes that are computing now on the first one or two nodes."""
        return self._children(b"ray::Worker.extract", nodes)

    def _children(self, name: bytes, nodes: int = 2) -> list[int]:
        chosen = self._cluster.list_all_nodes()[:nodes]
        raylets = [info.process.pid for node in chosen for info in node.all_processes["raylet"]]
        return [pid for pid in _processes(name) if _parent(pid) in raylets]

    def kill_head(self) -> None:
        self._cluster.head_node.kill_gcs_server(check_alive=False)

    def shutdown(self) -> None:
        children = self._children(b"ray::")
        self._cluster.shutdown()
        for pid in set(children) & set(_processes(b"ray::")):  # they stay where the head was killed
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _processes(name: bytes) -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if file.read_bytes().startswith(name):
                found.append(int(file.parent.name))
        except OSError:  # it has ended
            continue
    return found


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """The client of an S3 server, which all processes that are started from now on find, with a bucket ``bucket``."""
    boto3 = pytest.importorskip("boto3", reason="needs boto3")
    with pytest.MonkeyPatch.context() as patch:
        server = Server()
        for name, value in server.environment().items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        yield client
        server.close()


@pytest.fixture(scope="module")
def cluster(bucket: Any) -> Iterator[LocalCluster]:
    pytest.importorskip("ray", reason="needs Ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_task_actor_unavailable_retry_delay_base_ms", "100")
        started = LocalCluster()
        try:
            yield started
        finally:
            started.shutdown()


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in digits as PNGs in the folder ``photos``, and two copies of an image that cannot be decoded."""
    folder, images, labels = tmp_path_factory.mktemp("work"), *load_digits(return_X_y=True)
    for number, (image, label) in enumerate(zip(images.reshape(-1, 8, 8), labels, strict=True)):
        (folder / "photos" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(folder / "photos" / str(label) / f"{number}.png")
    whole = (folder / "photos" / "0" / "0.png").read_bytes()
    for name in ("broken", "copy"):
        (folder / "photos" / "7" / f"{name}.png").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture
def slow(tmp_path: Path) -> FeatureRequest:
    """Features that take long, and little of a processor: by code of the user's, which workers are given."""
    (tmp_path / "slow.py").write_text("import time\ndef transform(image):\n    time.sleep(0.3)\n    return image\n")
    return replace(WANTED, transform=named(tmp_path / "slow.py"))


def assert_same(dataset: Dataset, cache: FeatureCache, expected: FeatureCache) -> None:
    """Both caches have the same rows, and none twice."""
    found = stored_features(dataset, WANTED, cache, on_error="skip").features
    for layer, rows in stored_features(dataset, WANTED, expected, on_error="skip").features.items():
        exact = np.asarray(rows)
        np.testing.assert_allclose(np.asarray(found[layer]), exact, rtol=0, atol=1e-6 * np.abs(exact).max())
    for spec in WANTED.specs:
        keys = np.concatenate([part.digests for part in cache[spec].segments])
        assert len(np.unique(keys, axis=0)) == len(keys)


@contextlib.contextmanager
def one_killed(cluster: LocalCluster) -> Iterator[None]:
    """The worker on the first node is killed as soon as it has a task, again and again."""
    ended = threading.Event()

    def kill() -> None:
        while not ended.wait(0.2):
            for pid in cluster.workers(nodes=1):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_what_a_worker_has_fetched_its_report_tells_the_machine_of_the_command(
    digits: Path, tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {path.name: path.read_bytes() for path in sorted(digits.rglob("*.png"))[:12]}
    bucket.put_object(Bucket="bucket", Key="told.zip", Body=zip_of(members))
    dataset = datasets.load("s3://bucket/told.zip")
    stamps = [source.stamp() for source in dataset.sources]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "worker"))
    work = Work(dataset, WANTED, tmp_path / "mark", {}, "s3://bucket/told")
    dataset.identify(work.cache)
    worker = Worker([], None, Setting.here())
    worker._work = work
    known = worker._known(np.arange(2, 12))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "command"))
    work.cache.memo.remember(known)
    assert set(work.cache.memo.recall(filter(None, stamps))) == {stamp[0] for stamp in stamps[2:] if stamp}
    assert len(known) == 10


@pytest.mark.slow
def test_two_workers_compute_what_one_process_does_though_one_is_killed_twice(
    cluster: LocalCluster, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(digits)
    dataset, told = datasets.load("photos"), list[tuple[int, int]]()
    shared, alone = FeatureCache(tmp_path / "shared"), FeatureCache(tmp_path / "alone")
    killed: list[int] = []

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        if len(killed) < 2 and (fresh := [pid for pid in cluster.workers() if pid not in killed]):
            os.kill(fresh[0], signal.SIGKILL)
            killed.append(fresh[0])

    options: dict[str, Any] = {"batch_size": 2, "on_error": "skip"}
    report = extract_on_ray(cluster.address, dataset, WANTED, shared, progress=progress, **options)
    expected = extract(dataset, WANTED, alone, on_error="skip")
    assert_same(dataset, shared, alone)
    counts = ("rows_total", "rows_computed", "rows_reused", "rows_skipped", "engine", "skipped", "remarks")
    assert [getattr(report, name) for name in counts] == [getattr(expected, name) for name in counts]
    assert [Path(one).name for one in report.spaces] == [Path(one).name for one in expected.spaces]
    assert len(killed) == 2
    assert [image.id for image in report.skipped] == ["7/broken.png", "7/copy.png"]
    assert told[-1][0] <= told[-1][1] == len(dataset) - 1  # the copy is not tried
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert not list(shared.root.glob(".shared*"))


@pytest.mark.slow
def test_an_unreadable_image_stops_all(cluster: LocalCluster, digits: Path, tmp_path: Path) -> None:
    dataset, cache = datasets.load(str(digits / "photos")), FeatureCache(tmp_path / "cache")
    with pytest.raises(BadImage, match=r"(broken|copy)\.png.* What was computed is kept"):
        extract_on_ray(cluster.address, dataset, WANTED, cache)


def test_an_image_that_only_a_worker_lacks_is_no_unreadable_image(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits / "photos" / "7", tmp_path / "here" / "7")
    known = datasets.load(str(tmp_path / "here")).identify(cache := FeatureCache(tmp_path / "cache"))
    _require_files(known, extract(known, WANTED, cache, on_error="skip"))  # one that cannot be decoded is one
    (tmp_path / "here").rename(tmp_path / "elsewhere")
    report = extract(known, WANTED, FeatureCache(tmp_path / "other"), on_error="skip")
    assert report.rows_computed == 0
    with pytest.raises(InvalidChoice, match="has no file .*here/7/.*png, which the machine of the command has read"):
        _require_files(known, report)


@pytest.mark.parametrize(("address", "said"), [("http://127.0.0.1:8265", "no address"), ("auto", "")])
def test_an_address_in_the_environment(
    address: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(InvalidChoice, match=said) if said else contextlib.nullcontext():
        assert connection._running() is None


@pytest.mark.slow
def test_workers_read_parts_of_an_archive_in_a_bucket(
    cluster: LocalCluster, digits: Path, tmp_path: Path, bucket: Any
) -> None:
    members = {path.relative_to(digits).as_posix(): path.read_bytes() for path in sorted(digits.rglob("*.png"))}
    members = dict(list(members.items())[:400]) | {"photos/0/none.png": b"no image"}
    bucket.put_object(Bucket="bucket", Key="photos.zip", Body=zip_of(members))
    dataset = datasets.load("s3://bucket/photos.zip")
    assert has_parts(dataset)
    cache, alone = FeatureCache(tmp_path / "cache"), FeatureCache(tmp_path / "alone")
    told: list[tuple[int, int]] = []
    report = extract_on_ray(
        cluster.address, dataset, WANTED, cache, on_error="skip", progress=lambda *counts: told.append(counts)
    )
    expected = extract(dataset, WANTED, alone, on_error="skip")
    counts = ("rows_total", "rows_computed", "rows_reused", "rows_skipped", "engine", "skipped")
    assert [getattr(report, name) for name in counts] == [getattr(expected, name) for name in counts]
    assert report.rows_computed == 800
    assert told[-1][1] == 401
    assert_same(dataset, cache, alone)


@pytest.mark.slow
def test_a_cache_in_a_bucket_needs_no_folder_that_machines_share(
    cluster: LocalCluster, tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = datasets.load("digits")
    alone = FeatureCache(tmp_path / "alone")
    extract(dataset, WANTED, alone)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))  # not that of the workers
    cache = as_cache("s3://bucket/features")
    report = extract_on_ray(cluster.address, dataset, WANTED, cache)
    assert report.rows_computed == report.rows_total and report.spaces[0].startswith("s3://bucket/features/")
    assert_same(dataset, cache, alone)


@pytest.mark.slow
def test_a_worker_that_ends_again_and_again_is_told_in_one_line(
    cluster: LocalCluster, tmp_path: Path, slow: FeatureRequest
) -> None:
    cache = FeatureCache(tmp_path / "cache")
    said = r"a worker ended 4 times at the same images.* is kept; run the same"
    with one_killed(cluster), pytest.raises(StorageFailure, match=said):
        extract_on_ray(cluster.address, datasets.load("digits"), slow, cache, batch_size=8)


@pytest.mark.slow
def test_a_head_that_is_gone_or_was_never_there_is_told(
    cluster: LocalCluster, tmp_path: Path, slow: FeatureRequest
) -> None:
    dataset, cache = datasets.load("digits"), FeatureCache(tmp_path / "cache")
    with pytest.raises(Unreachable, match=r"there is no Ray cluster at 127\.0\.0\.1:1: Connection refused"):
        extract_on_ray("127.0.0.1:1", dataset, slow, cache)
    begun: list[float] = []

    def progress(done: int, total: int) -> None:
        if not begun:
            cluster.kill_head()
            begun.append(time.monotonic())

    with pytest.raises(StorageFailure, match=r"`ray`: .*What was computed is kept; run the same command again"):
        extract_on_ray(cluster.address, dataset, slow, cache, batch_size=8, progress=progress)
    assert time.monotonic() - begun[0] < 60
    assert not list(cache.root.glob(".shared*"))
