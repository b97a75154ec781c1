"""A cache in a bucket: what one machine writes, another reads; faults of the server; copies that come and go."""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_cache import FeatureCache, FeatureSpec, lineage
from feature_cache.errors import BadData, DamagedSegment, InvalidChoice, StorageFailure, Unreachable, Unsent
from feature_cache.remote import mirror, storage
from feature_cache.segments.layout import SEGMENTS
from tests.transfer.data.remote.s3_server import Faults

OnMachine = Callable[..., FeatureCache]


def _objects(store: Any, pattern: str = "") -> list[str]:
    return [name.rpartition("/")[2] for name in store.find("bucket") if pattern in name]


def _copies(cache: FeatureCache) -> list[Path]:
    return sorted(cache.root.glob(f"*/{SEGMENTS}"))


def test_what_one_machine_writes_another_reads(
    on_machine: OnMachine, store: Any, spec: FeatureSpec, made_rows: Callable, add: Callable
) -> None:
    digests, rows = made_rows(0, 10)
    first = on_machine("first")
    add(first, digests[:6], rows[:6])
    add(first, digests[6:], rows[6:], compress=True)
    assert len(_objects(store, "segment-")) == 2 and "spec.json" in _objects(store)
    second = on_machine("second")
    assert second.root != first.root and str(second) == "s3://bucket/features"
    assert second.spaces() == [spec.folder_name] and second.nbytes == first.nbytes > 0
    assert second.open(spec.folder_name).spec == spec
    assert second[spec].has(made_rows(5, 10)[0]).tolist() == [True] * 5 + [False] * 5
    np.testing.assert_array_equal(np.asarray(second[spec].rows(digests[::-1])), rows[::-1])
    assert second[spec].rows(digests)[2:4].base is not None  # a view of the memory map
    assert "s3://bucket/features" in repr(second) and "s3://bucket/features" in repr(second[spec])


def test_caches_in_one_bucket_are_apart(
    on_machine: OnMachine, spec: FeatureSpec, made_rows: Callable, add: Callable
) -> None:
    for number, name in enumerate(("features", "features2", "features/inner")):
        add(on_machine("first", f"s3://bucket/{name}"), *made_rows(10 * number, 3 + number))
    for number, name in enumerate(("features", "features2/", "features/inner")):
        cache = on_machine("second", f"s3://bucket/{name}")
        assert cache.spaces() == [spec.folder_name] and len(cache[spec]) == 3 + number
    assert on_machine("second", "s3://bucket").spaces() == []


def test_the_same_url_on_another_server_has_another_mirror(
    on_machine: OnMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    first = on_machine("first").root
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    assert on_machine("first").root != first


def test_a_listing_is_one_request_and_rows_are_fetched_once(
    on_machine: OnMachine, spec: FeatureSpec, made_rows: Callable, add: Callable, faults: Faults
) -> None:
    digests, rows = made_rows(0, 10)
    add(on_machine("first"), digests, rows)
    second = on_machine("second")
    assert second[spec].has(digests).all()
    faults.requests.clear()
    space = second[spec]
    assert space.has(digests).all() and space.has(digests[:3]).all()
    assert faults.requests == ["GET /bucket"]
    space.touch()
    faults.requests.clear()
    np.testing.assert_array_equal(np.asarray(space.rows(digests)), rows)
    np.testing.assert_array_equal(np.asarray(second[spec].rows(digests)), rows)
    assert faults.requests == ["GET /bucket"]


def test_keys_are_looked_up_without_the_rows(
    on_machine: OnMachine,
    spec: FeatureSpec,
    made_rows: Callable,
    add: Callable,
    compress: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mirror, "WHOLE_BYTES", 0)
    monkeypatch.setattr("feature_cache.remote.ranges.BLOCK", 4096)
    digests, rows = made_rows(0, 3000, (100,))
    add(on_machine("first"), digests[:2000], rows[:2000], compress=compress)
    add(on_machine("first"), digests[2000:], rows[2000:], compress=compress)
    second = on_machine("second")
    space = second[spec]
    assert space.has(made_rows(1000, 3000)[0]).sum() == 2000 and space.row_shape == (100,)
    assert not _copies(second)
    np.testing.assert_array_equal(space.rows(digests)[2500:2600], rows[2500:2600])
    assert len(_copies(second)) == 1
    np.testing.assert_array_equal(np.asarray(space.rows(digests)), rows)


def test_every_third_request_may_fail(
    on_machine: OnMachine, spec: FeatureSpec, made_rows: Callable, add: Callable, faults: Faults
) -> None:
    faults.every = 3
    digests, rows = made_rows(0, 12)
    for part in range(0, 12, 4):
        add(on_machine("first"), digests[part : part + 4], rows[part : part + 4])
    second = on_machine("second")
    np.testing.assert_array_equal(np.asarray(second.open(second.spaces()[0]).rows(digests)), rows)
    assert faults.failed > 5


def test_a_put_that_fails_loses_nothing(
    on_machine: OnMachine,
    store: Any,
    spec: FeatureSpec,
    made_rows: Callable,
    add: Callable,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digests, rows = made_rows(0, 10)
    cache = on_machine("first")
    add(cache, digests[:2], rows[:2])
    faults.every, faults.method = 1, "PUT"
    with pytest.raises(Unreachable, match="cannot write s3://bucket/features: .*; try again later: what was com"):
        add(cache, digests[2:], rows[2:])
    assert len(_objects(store, "segment-")) == 1
    with pytest.warns(Unsent, match="unsent-.* is not in s3://bucket/features yet, and is sent by a later command: "):
        assert cache[spec].has(digests).sum() == 2  # who reads does not need what this machine has not sent
    with warnings.catch_warnings(action="error"):
        assert cache.spaces() == [spec.folder_name] and cache[spec].has(digests).sum() == 2
    faults.every = 0
    monkeypatch.setattr(mirror, "AGAIN_SECONDS", 0.0)
    assert cache[spec].has(digests).all()
    np.testing.assert_array_equal(np.asarray(on_machine("second")[spec].rows(digests)), rows)


def test_what_another_machine_removes_meanwhile_is_written_again(
    on_machine: OnMachine, store: Any, spec: FeatureSpec, made_rows: Callable, add: Callable
) -> None:
    first = on_machine("first")
    add(first, *made_rows(0, 3))
    store.rm("bucket/features", recursive=True)
    add(first, *made_rows(3, 3))
    assert "spec.json" in _objects(store) and len(first[spec].again()) == 3
    bucket = mirror.mirror_of(first.root).bucket  # type: ignore[union-attr]
    put, removed = bucket._put, [False]

    def put_and_remove(name: str, *args: Any) -> None:
        put(name, *args)
        if always or not removed[0]:
            removed[0] = True
            store.rm(f"bucket/features/{name}")

    bucket._put = put_and_remove  # type: ignore[method-assign]
    always = False
    assert bucket.put("x/segment-1.h5", first.root / mirror.MARKER).size > 0
    always = True
    with pytest.raises(StorageFailure, match="segment-2.h5: others remove it; run the same command again"):
        bucket.put("x/segment-2.h5", first.root / mirror.MARKER)


def test_a_fault_of_some_minutes_does_not_stop_a_writer(
    on_machine: OnMachine, spec: FeatureSpec, made_rows: Callable, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feature_cache.writer.SEGMENT_SECONDS", 0.0)
    monkeypatch.setattr("feature_cache.writer.SEGMENT_SHARE", 0.0)
    digests, rows = made_rows(0, 10)
    cache = on_machine("first")
    with cache[spec].writer({}) as writer:
        writer.append(digests[:4], rows[:4])
        writer.commit()
        faults.every, faults.method = 1, "PUT"
        writer.append(digests[4:6], rows[4:6])
        writer.append(digests[6:8], rows[6:8])
        assert cache[spec].has(digests).sum() == 4  # what the writer will send is left to it
        faults.every = 0
        writer.append(digests[8:], rows[8:])
    assert len(writer.written) == 4 and on_machine("second")[spec].has(digests).all()


def _die_before_the_put(url: str, spec: FeatureSpec, digests: np.ndarray, rows: np.ndarray) -> None:
    from feature_cache.remote.bucket import Bucket

    put = Bucket.put

    def dying(self: Bucket, name: str, *args: Any, **options: Any) -> Any:
        if "segment-" in name:
            os.kill(os.getpid(), signal.SIGKILL)
        return put(self, name, *args, **options)

    Bucket.put = dying  # type: ignore[method-assign]
    with FeatureCache(url)[spec].writer({}) as writer:  # type: ignore[arg-type]
        writer.append(digests, rows)


@pytest.mark.slow
def test_what_a_killed_process_has_not_sent_the_next_one_sends(
    on_machine: OnMachine, store: Any, spec: FeatureSpec, made_rows: Callable
) -> None:
    digests, rows = made_rows(0, 5)
    cache = on_machine("first")
    child = multiprocessing.get_context("spawn").Process(
        target=_die_before_the_put, args=("s3://bucket/features", spec, digests, rows)
    )
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL and not _objects(store, "segment-")
    assert not on_machine("second")[spec].has(digests).any()
    assert on_machine("first").spaces() == cache.spaces() == [spec.folder_name]
    np.testing.assert_array_equal(np.asarray(on_machine("second")[spec].rows(digests)), rows)


def test_copies_are_no_larger_than_the_limit(
    on_machine: OnMachine, spec: FeatureSpec, made_rows: Callable, add: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests, rows = made_rows(0, 4000, (50,))  # in segments of 100 kB
    for part in range(0, 4000, 500):
        add(on_machine("first"), digests[part : part + 500], rows[part : part + 500], compress=part % 1000 == 0)
    second = on_machine("second")
    largest = max(one.size for one in mirror.mirror_of(second.root).all().values())  # type: ignore[union-attr]
    for limit in (1, 2 * largest + 1000):
        monkeypatch.setenv(mirror.VARIABLE, str(limit))
        order = np.random.default_rng(0).permutation(4000)[:1500]
        features = second[spec].rows(digests)
        np.testing.assert_array_equal(features[order], rows[order])
        np.testing.assert_array_equal(features[700:900], rows[700:900])
        assert sum(copy.stat().st_size for copy in _copies(second)) <= max(limit, largest)
    monkeypatch.setenv(mirror.VARIABLE, "many")
    with pytest.raises(InvalidChoice, match="is 'many', which is not a size"):
        on_machine("third")
    with pytest.raises(InvalidChoice, match=r"^\$LAYERTAP_MIRROR_SIZE is 'many', which is not a size; set it as 20GB"):
        second[spec].rows(digests)


def test_the_copy_that_was_not_used_for_longest_is_removed_first(
    on_machine: OnMachine, spec: FeatureSpec, made_rows: Callable, add: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = on_machine("first")
    for part in range(3):
        add(cache, *made_rows(100 * part, 100))
    first, *others = _copies(cache)
    size = first.stat().st_size
    monkeypatch.setenv(mirror.VARIABLE, str(int(3.5 * size)))
    for copy in others:
        os.utime(copy, ns=(1, copy.stat().st_mtime_ns))
    os.utime(first, ns=(0, first.stat().st_mtime_ns))
    storage.opened(first).close()
    left = first.with_name(".segment-1.h5.0.tmp")  # by a reader that was killed
    left.write_bytes(b"")
    os.utime(left, (0, 0))
    add(cache, *made_rows(900, 100))
    add(cache, *made_rows(1000, 100))
    assert first.exists() and sum(copy.exists() for copy in others) <= 1
    assert not left.exists()


def test_objects_that_are_damaged_are_refused_as_segments_on_disk_are(
    on_machine: OnMachine, store: Any, spec: FeatureSpec, made_rows: Callable, add: Callable
) -> None:
    digests, rows = made_rows(0, 1000)
    add(on_machine("first"), digests, rows)
    (name,) = (name for name in store.find("bucket") if "segment-" in name)
    content = bytearray(store.cat_file(name))
    content[4096 + 100] ^= 1
    store.pipe_file(name, bytes(content))
    second = on_machine("second")
    with pytest.raises(DamagedSegment, match=r"^s3://bucket/features/.*segment-.*altered since .*'s3://bucket/featu"):
        np.asarray(second[spec].rows(digests))
    with pytest.raises(DamagedSegment, match="altered"):  # where a sound copy was
        np.asarray(on_machine("first")[spec].rows(digests))
    store.pipe_file(name, bytes(content[:5000]))
    with pytest.raises(DamagedSegment, match="damaged or not a segment of this cache"):
        second[spec].has(digests)


@pytest.mark.parametrize("name", ["../../segment-1.h5", "a/../segment-2.h5", "a/../../spec.json", "../.used"])
def test_names_of_objects_that_leave_the_cache_are_refused(
    on_machine: OnMachine, store: Any, tmp_path: Path, name: str
) -> None:
    store.pipe_file(f"bucket/features/{name}", b"{}")
    cache = on_machine("first")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadData, match="^s3://bucket/features holds '.*', which is no path below it; remove that obje"):
        cache.spaces()
    assert sorted(tmp_path.rglob("*")) == before


def test_other_objects_are_not_looked_at(on_machine: OnMachine, store: Any) -> None:
    for name in ("photos//a.png", "a/b/segment-1.h5", "a/index.bin", ".x/segment-1.h5", "segment-1.h5", "../x.png"):
        store.pipe_file(f"bucket/features/{name}", b"")
    assert on_machine("first").spaces() == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://", r"'s3://' names no place for a cache; give s3://BUCKET/FOLDER\."),
        ("file://host/features", "'file://host/features' names no path on this machine; give a path, or file:///FOL"),
        (
            "s3://none/features",
            "cannot keep a cache in s3://none/features: there is no 'none'; make it, or name an",
        ),
        (
            "s3://forbidden/features",
            "cannot read the cache s3://forbidden/features: access is denied; check the ",
        ),
        ("https://host/features", "a cache is written to, and https:// is only read; give s3://BUCKET/FOLDER"),
        ("s3://me:secret@bucket/features", "a cache is a folder, and s3://bucket/features has more to its URL"),
        ("nowhere://bucket/features", "'nowhere://bucket/features' cannot be read"),
    ],
)
def test_what_is_no_place_for_a_cache_is_refused(
    on_machine: OnMachine, spec: FeatureSpec, made_rows: Callable, add: Callable, url: str, message: str
) -> None:
    with pytest.raises(InvalidChoice, match=f"^{message}"):
        on_machine("first", url).spaces()
    with pytest.raises(InvalidChoice):
        add(on_machine("first", url), *made_rows(0, 3))


def test_a_folder_is_the_mirror_of_what_its_marker_says_and_never_a_cache_on_disk(
    on_machine: OnMachine, tmp_path: Path
) -> None:
    root = on_machine("first").root
    mirror._mirrors.clear()  # as in another process
    assert str(FeatureCache(root)) == "s3://bucket/features"
    mirror._mirrors.clear()
    other = root.with_name("f" * 32)
    root.rename(other)
    for settings in ("of s3://bucket/features with other settings", "of a bucket that is not known"):
        with pytest.raises(InvalidChoice, match=f"is for copies of a cache {settings}; name the cache by its URL"):
            str(FeatureCache(other))
        (other / mirror.MARKER).unlink(missing_ok=True)


def test_a_cache_in_memory_or_in_a_folder_is_the_same(
    on_machine: OnMachine, spec: FeatureSpec, made_rows: Callable, add: Callable, tmp_path: Path
) -> None:
    add(on_machine("first", "memory://here/features"), *made_rows(0, 3))
    assert len(on_machine("second", "memory://here/features")[spec]) == 3
    for start in ("file://", "file://localhost"):
        assert FeatureCache(f"{start}{tmp_path}/features").root == tmp_path / "features"  # type: ignore[arg-type]


def test_a_note_of_a_run_that_the_bucket_did_not_take_is_sent_later(
    on_machine: OnMachine, spec: FeatureSpec, made_rows: Callable, add: Callable, faults: Faults, tmp_path: Path
) -> None:
    digests, rows = made_rows(0, 3)
    first = on_machine("first")
    add(first, digests, rows)
    (tmp_path / "run.json").write_text("{}")
    faults.every, faults.method = 1, "PUT"
    lineage.cite(first.root, tmp_path / "run.json", [lineage.used(first[spec].rows(digests))])
    faults.every = 0
    assert not lineage.citations(on_machine("second").root)
    assert first[spec].has(digests).all()  # any look at the cache sends it
    (citation,) = lineage.citations(on_machine("second").root)
    assert citation.space == spec.folder_name and citation.rows == 3
