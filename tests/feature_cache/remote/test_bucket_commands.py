"""The commands on a cache in a bucket, on machines that share nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cli
import layertap as lt
from feature_cache import FeatureCache, FeatureSpec
from feature_cache.maintenance.compact import compact
from feature_cache.maintenance.hdf5_view import write_view
from feature_cache.maintenance.merge import merge
from feature_cache.maintenance.prune import candidates, remove
from feature_cache.maintenance.shrink import shrink
from feature_cache.maintenance.verify import repair
from feature_cache.segments.layout import SEGMENTS

OnMachine = Callable[..., FeatureCache]
Run = Callable[..., Any]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve gray images of two classes."""
    for number in range(12):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (12, 12), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def run(store: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command on a machine; what it prints as JSON, or its error."""
    monkeypatch.chdir(tmp_path)

    def call(machine: str, *words: str, status: int = 0, url: str = "s3://bucket/features") -> Any:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / machine))
        capsys.readouterr()
        assert cli.main([*words, "--cache", url]) == status, capsys.readouterr().err
        out, err = capsys.readouterr()
        return err if status else json.loads(out) if "--json" in words else out

    return call


@pytest.mark.slow
def test_features_are_those_of_a_cache_on_disk_and_another_machine_computes_none(
    run: Run, on_machine: OnMachine, photos: Path, tmp_path: Path
) -> None:
    extract = ["extract", str(photos), "--layer", "block4_pool", "--json"]
    assert [run(machine, *extract)["rows_computed"] for machine in ("first", "second")] == [12, 0]
    on_machine("third")
    there = lt.extract(str(photos), "glyphnet", layers="block4_pool", cache="s3://bucket/features")
    here = lt.extract(str(photos), "glyphnet", layers="block4_pool", cache=tmp_path / "local")
    np.testing.assert_array_equal(np.asarray(there["block4_pool"]), np.asarray(here["block4_pool"]))
    assert "cache in" not in repr(there) and "s3://bucket/features" in repr(there)
    out = run("second", *extract[:-1])
    assert "  s3://bucket/features/glyphnet-" in out and "--cache s3://bucket/features" in out  # what to do next
    train = ["train-head", str(photos), "--layer", "block4_pool", "--head", "ridge", "--cv", "2", "--out", "run"]
    run("second", *train, "--quiet")
    assert 'cache: "s3://bucket/features"' in (tmp_path / "run" / "plan.yaml").read_text()
    assert "accuracy" in str(run("third", "evaluate", "run", str(photos), "--json"))
    assert run("third", "predict", "run", str(photos)).count(".png") == 12
    listed = run("third", "cache", "list", "--json")
    assert listed["cache"] == "s3://bucket/features" and [one["rows"] for one in listed["spaces"]] == [12]
    (space,) = (one["space"] for one in listed["spaces"])
    assert run("third", "cache", "info", space, "--json")["cited_by"] == [str(tmp_path / "run")]
    kept = run("third", "cache", "prune", space, "--yes", "--json")
    assert [one["name"] for one in kept["kept"]] == [space] and not kept["removed"]
    run("first", "cache", "export", space, str(photos), "--out", "rows.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), np.asarray(here["block4_pool"]))
    plan = run("first", "extract", str(photos), "--layer", "block3_pool", "--plan", "--json")
    assert plan["images_missing"] == 12
    run("third", "cache", "prune", space, "--cited", "--yes")
    assert run("second", "cache", "list", "--json")["spaces"] == []
    assert run("second", *extract)["rows_computed"] == 12


def test_errors_are_one_line(run: Run, monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    extract = ["extract", str(photos), "--layer", "block4_pool"]
    for url, message in (
        ("s3://none/features", "there is no 'none'; make it, or name another with --cache"),
        ("s3://forbidden/features", "access is denied; check the credentials, and whether they allow to list and read"),
        ("https://host/features", "is only read; give s3://BUCKET/FOLDER"),
    ):
        for words in (["cache", "list"], extract):
            error = run("first", *words, status=2, url=url)
            assert error.count("\n") == 1 and message in error
    assert "block4_pool" not in str(run("first", "cache", "list"))
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    error = run("first", "cache", "list", status=2)
    assert error.count("\n") == 1 and "pip install 'layertap[cloud]'" in error


def test_compaction_is_seen_by_readers_elsewhere(
    on_machine: OnMachine, store: Any, spec: FeatureSpec, made_rows: Callable, add: Callable
) -> None:
    digests, rows = made_rows(0, 12)
    for part in range(0, 12, 3):
        add(on_machine("first"), digests[part : part + 4], rows[part : part + 4])
    second = on_machine("second")
    mapped, located = second[spec].rows(digests), second[spec].rows(digests)
    np.testing.assert_array_equal(np.asarray(mapped), rows)
    done = compact(on_machine("third")[spec])
    assert (done.segments_before, done.segments_after, done.copies_dropped) == (4, 1, 3)
    assert len([name for name in store.find("bucket") if "segment-" in name]) == 1
    for copy in second.root.glob(f"*/{SEGMENTS}"):
        copy.unlink()
    for features in (mapped, located):  # of maps of what is gone, and looked up again
        np.testing.assert_array_equal(np.asarray(features), rows)
    np.testing.assert_array_equal(np.asarray(second[spec].rows(digests)), rows)


def test_caches_are_merged_into_a_bucket_and_out_of_it(
    on_machine: OnMachine, cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable, tmp_path: Path
) -> None:
    digests, rows = made_rows(0, 8)
    add(cache, digests, rows)
    merged = merge(on_machine("first"), cache)
    assert (merged.segments, merged.rows) == (1, 8)
    assert merge(on_machine("second"), cache).already_here == 1
    out = FeatureCache(tmp_path / "out")
    assert merge(out, on_machine("third")).rows == 8
    np.testing.assert_array_equal(np.asarray(out[spec].rows(digests)), rows)
    assert merge(on_machine("third", "s3://bucket/copy"), on_machine("third")).rows == 8
    assert len(on_machine("second", "s3://bucket/copy")[spec]) == 8


def test_a_damaged_object_is_set_aside_and_then_removed(
    on_machine: OnMachine, store: Any, spec: FeatureSpec, made_rows: Callable, add: Callable
) -> None:
    for part in (0, 1000):
        add(on_machine("first"), *made_rows(part, 1000))
    names = sorted(name for name in store.find("bucket") if "segment-" in name)
    content = bytearray(store.cat_file(names[0]))
    content[5000] ^= 1
    store.pipe_file(names[0], bytes(content))
    (verified,) = repair(on_machine("first"))  # which has a sound copy of its own
    assert [damage.file for damage in verified.damaged] == [names[0].rpartition("/")[2]] and verified.rows == 1000
    assert verified.damaged[0].reason.startswith("is damaged or not a segment of this cache (altered")
    second = on_machine("second")
    assert len(second[spec]) == 1000
    (removal,) = candidates(second)
    assert removal.reason == "damaged segments set aside" and removal.bytes == len(content)
    remove([removal])
    assert not [name for name in store.find("bucket") if "damaged" in name]


def test_spaces_are_removed_from_the_bucket_by_age_and_size(
    on_machine: OnMachine, store: Any, spec: FeatureSpec, made_rows: Callable, add: Callable
) -> None:
    first = on_machine("first")
    add(first, *made_rows(0, 1000))
    shrunk = shrink(first, first[spec], "float16").space
    second = on_machine("second")
    assert second.spaces() == sorted([spec.folder_name, shrunk])
    assert candidates(second, older_than=1) == []
    size = second.nbytes
    (removal,) = candidates(second, max_bytes=size - 1)
    assert removal.name == spec.folder_name and removal.bytes > 16_000
    remove([removal])
    assert second.spaces() == on_machine("third").spaces() == [shrunk]
    assert not [name for name in store.find("bucket") if f"/{spec.folder_name}/" in name]
    with pytest.raises(ValueError, match=r"^a view shows segments on disk, and s3://bucket/features/.* is elsewhere"):
        write_view(second.open(shrunk), second.root / "view.h5")


def test_quantised_nets_are_shared(on_machine: OnMachine, store: Any, tmp_path: Path) -> None:
    from feature_cache.files import quantised_nets

    made = tmp_path / "made"
    made.mkdir()
    (made / quantised_nets.NET).write_text("<net/>")
    (made / quantised_nets.WEIGHTS).write_bytes(b"weights")
    first = on_machine("first")
    digest = quantised_nets.file_digest(made / quantised_nets.WEIGHTS)[: quantised_nets.DIGITS]
    store.pipe_file(f"bucket/features/.nets/{digest}/{quantised_nets.NET}", b"<net/>")  # of an upload that was killed
    killed = f"8-0-{'0' * 16}-{digest}"
    assert not quantised_nets.kept(first.root, killed)
    calibration = str(quantised_nets.keep(first.root, made, {"losses": []}, count=8, seed=0, images="0" * 16))
    assert calibration == killed
    second = on_machine("second")
    assert quantised_nets.kept(second.root, calibration)
    file, content = quantised_nets.read(second.root, calibration)
    assert file.read_text() == "<net/>" and content["losses"] == []
    assert not quantised_nets.kept(second.root, calibration[:-1] + ("0" if calibration[-1] != "0" else "1"))
    (files,) = quantised_nets.files_of_others(on_machine("third").root, set())
    assert [path.name for path in files] == [quantised_nets.NET, quantised_nets.WEIGHTS, quantised_nets.DOCUMENT]
