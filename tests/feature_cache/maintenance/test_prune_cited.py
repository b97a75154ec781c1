"""Pruning and lineage: what a kept run was made of is told, and stays unless that is asked for."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from feature_cache import FeatureCache, FeatureSpec, Space
from feature_cache.lineage import cite, used
from feature_cache.maintenance.prune import candidates


@pytest.fixture
def filled(cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable) -> Space:
    add(cache, *made_rows(0, 6))
    return cache[spec]


@pytest.fixture
def run(cache: FeatureCache, filled: Space, tmp_path: Path) -> Path:
    """The folder of a run that cites the space."""
    folder = tmp_path / "run"
    rows = [used(filled.all_rows())]
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"features": [asdict(part) for part in rows]}))
    cite(cache.root, folder / "config.json", rows)
    return folder


def cited_by(cache: FeatureCache, filled: Space) -> list[str]:
    (removal,) = candidates(cache, spaces=[filled.folder.name])
    return removal.cited_by


def test_a_space_that_a_run_used_is_listed_with_the_run(cache: FeatureCache, filled: Space, run: Path):
    assert cited_by(cache, filled) == [str(run)]


def test_several_runs_are_all_told(cache: FeatureCache, filled: Space, run: Path, tmp_path: Path):
    other = shutil.copytree(run, tmp_path / "other")
    cite(cache.root, other / "config.json", [used(filled.all_rows())])
    assert sorted(cited_by(cache, filled)) == sorted([str(run), str(other)])


def test_a_run_that_was_removed_keeps_nothing(cache: FeatureCache, filled: Space, run: Path):
    shutil.rmtree(run)
    assert cited_by(cache, filled) == []


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"features": []}'])
def test_a_run_that_was_replaced_by_one_of_other_rows_keeps_nothing(
    cache: FeatureCache, filled: Space, run: Path, content: bytes
):
    (run / "config.json").write_bytes(content)
    assert cited_by(cache, filled) == []


def test_a_run_of_another_machine_counts_as_kept(cache: FeatureCache, filled: Space, run: Path):
    shutil.rmtree(run)
    (note,) = (cache.root / ".runs").glob("*.json")
    note.write_text(note.read_text().replace('"host": "', '"host": "another-'))
    assert cited_by(cache, filled) == [str(run)]


def test_a_space_that_no_run_used_is_not_cited(
    cache: FeatureCache, filled: Space, run: Path, spec: FeatureSpec, made_rows: Callable
):
    other = cache[replace(spec, layer="fc1")]
    with other.writer({}) as writer:
        writer.append(*made_rows(0, 1))
    assert cited_by(cache, other) == []


@pytest.mark.parametrize("cited", [False, True])
def test_a_budget_counts_cited_spaces_as_staying_unless_they_go_too(
    cache: FeatureCache, filled: Space, run: Path, spec: FeatureSpec, made_rows: Callable, cited: bool
):
    others = [cache[replace(spec, layer=layer)] for layer in ("fc1", "fc2")]
    for space in others:
        with space.writer({}) as writer:
            writer.append(*made_rows(0, 6))
    for number, space in enumerate([filled, *others]):  # the cited one is the least recently used
        os.utime(space.folder / ".used", (time.time() - 100 + number,) * 2)
    size = sum(path.stat().st_size for path in others[0].folder.iterdir())
    found = candidates(cache, max_bytes=2.5 * size, cited=cited)
    expected = [filled] if cited else [filled, others[0]]
    assert [removal.name for removal in found] == sorted(space.folder.name for space in expected)
    assert {removal.name: removal.cited_by for removal in found}[filled.folder.name] == [str(run)]


STRANGE = {"space": "SPACE", "rows": 1, "digest": "a", "run": "r", "host": "another"}


@pytest.mark.parametrize(
    "note",
    [
        *(b"", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000),
        json.dumps({**STRANGE, "space": ["SPACE"]}).encode(),
        json.dumps({**STRANGE, "run": {}}).encode(),
    ],
    ids=lambda note: note[:30].decode(errors="replace"),
)
def test_a_note_that_is_none_stops_nothing(cache: FeatureCache, filled: Space, run: Path, note: bytes):
    (cache.root / ".runs" / "0.json").write_bytes(note.replace(b"SPACE", filled.folder.name.encode()))
    assert cited_by(cache, filled) == [str(run)]
