"""Lineage: a run says which rows it used by one digest, and the cache knows where the runs are."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from feature_cache import FeatureCache, FeatureSpec, Space
from feature_cache.lineage import Citation, Used, citations, cite, used
from feature_cache.maintenance.compact import compact


@pytest.fixture
def filled(cache: FeatureCache, spec: FeatureSpec, made_rows: Callable, add: Callable) -> Space:
    for first, number in ((0, 3), (3, 5), (8, 2)):
        add(cache, *made_rows(first, number))
    return cache[spec]


def keep(folder: Path, rows: list[Used]) -> Path:
    """The file that describes a run, as training leaves it behind."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.json"
    file.write_text(json.dumps({"features": [asdict(part) for part in rows]}, indent=2))
    return file


class TestWhatIsRecorded:
    def test_the_space_the_number_and_a_digest(self, filled: Space, made_rows: Callable):
        found = used(filled.rows(made_rows(0, 4)[0]))
        assert (found.space, found.rows) == (filled.folder.name, 4)
        assert len(found.digest) == 32
        assert set(found.digest) <= set("0123456789abcdef")

    def test_order_and_repeats_play_no_part(self, filled: Space, made_rows: Callable):
        digests, _ = made_rows(0, 10)
        same = {used(filled.rows(digests[order])).digest for order in ([0, 1, 2], [2, 0, 1], [1, 1, 0, 2, 2])}
        assert len(same) == 1

    def test_other_rows_views_or_specs_are_another_digest(
        self, cache: FeatureCache, filled: Space, spec: FeatureSpec, made_rows: Callable
    ):
        digests, rows = made_rows(0, 10)
        other = cache[replace(spec, layer="fc1")]
        views = np.array([0, 1, 2], np.uint32)
        with other.writer({}) as writer:
            writer.append(digests, rows)
            writer.append(np.repeat(digests[:1], 3, 0)[1:], rows[:2], views[1:])
        found = [
            filled.rows(digests[:3]),
            filled.rows(digests[:4]),
            filled.rows(digests[1:4]),
            filled.rows(digests[:0]),
            other.rows(digests[:3]),
            other.rows(digests[[0, 0, 0]], views),
            other.rows(digests[[0, 0]], views[:2]),
        ]
        assert len({used(features).digest for features in found}) == len(found)

    def test_segments_and_their_order_play_no_part(self, filled: Space, made_rows: Callable):
        digests, _ = made_rows(0, 10)
        before = used(filled.rows(digests))
        compact(filled)
        assert used(filled.again().rows(digests)) == before

    def test_a_second_cache_with_the_same_rows_gives_the_same(
        self, filled: Space, spec: FeatureSpec, made_rows: Callable, add: Callable, tmp_path: Path
    ):
        other = FeatureCache(tmp_path / "other")
        add(other, *made_rows(0, 10))
        digests, _ = made_rows(2, 5)
        assert used(other[spec].rows(digests)) == used(filled.rows(digests))


class TestCitations:
    def test_a_kept_run_is_cited_with_what_it_used(
        self, cache: FeatureCache, filled: Space, made_rows: Callable, tmp_path: Path
    ):
        rows = [used(filled.rows(made_rows(0, 4)[0]))]
        file = keep(tmp_path / "run é", rows)
        cite(cache.root, file, rows)
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        place = {"run": str(tmp_path / "run é"), "host": socket.gethostname(), "file": "config.json"}
        assert citations(cache.root) == [Citation(**asdict(rows[0]), **place, sha256=sha256)]

    def test_a_cache_without_runs_has_none(self, cache: FeatureCache):
        assert citations(cache.root) == []
        assert not cache.root.exists()

    def test_a_run_that_used_several_spaces_cites_each(self, cache: FeatureCache, tmp_path: Path):
        rows = [Used(f"space {number}", 3, f"{number:032x}") for number in range(3)]
        cite(cache.root, keep(tmp_path / "run", rows), rows)
        assert sorted(citation.space for citation in citations(cache.root)) == ["space 0", "space 1", "space 2"]

    def test_a_run_that_is_trained_again_cites_only_its_new_rows(self, cache: FeatureCache, tmp_path: Path):
        for digest in ("a" * 32, "b" * 32):
            rows = [Used("space", 3, digest)]
            cite(cache.root, keep(tmp_path / "run", rows), rows)
        assert [citation.digest for citation in citations(cache.root)] == ["b" * 32]
        other = [Used("another space", 3, "c" * 32)]
        cite(cache.root, keep(tmp_path / "run", other), other)
        assert [citation.space for citation in citations(cache.root)] == ["another space"]

    def test_a_relative_run_is_found_from_anywhere(
        self, cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.chdir(tmp_path)
        rows = [Used("space", 3, "a" * 32)]
        cite(cache.root, keep(Path("run"), rows), rows)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert [citation.run for citation in citations(cache.root)] == [str(tmp_path / "run")]

    @pytest.mark.parametrize("how", ["removed", "moved", "changed", "config removed", "replaced by a file"])
    def test_a_run_that_is_no_longer_there_is_not_cited(self, cache: FeatureCache, tmp_path: Path, how: str):
        rows = [Used("space", 3, "a" * 32)]
        run = tmp_path / "run"
        cite(cache.root, keep(run, rows), rows)
        if how == "changed":
            keep(run, [Used("space", 3, "b" * 32)])
        elif how == "config removed":
            (run / "config.json").unlink()
        elif how == "moved":
            run.rename(tmp_path / "moved")
        else:
            shutil.rmtree(run)
        if how == "replaced by a file":
            run.write_text("a" * 32)
        assert citations(cache.root) == []

    def test_a_run_on_another_machine_is_taken_to_be_kept(self, cache: FeatureCache, tmp_path: Path):
        (cache.root / ".runs").mkdir(parents=True)
        citation = Citation("space", 3, "a" * 32, "/nowhere/run", f"not-{socket.gethostname()}")
        (cache.root / ".runs" / "1.json").write_text(json.dumps(asdict(citation)))
        assert citations(cache.root) == [citation]

    def test_a_record_of_an_early_version_counts_while_the_run_mentions_its_rows(
        self, cache: FeatureCache, tmp_path: Path
    ):
        rows, run = [Used("space", 3, "a" * 32)], tmp_path / "run"
        cite(cache.root, keep(run, rows), rows)
        [record] = (cache.root / ".runs").glob("*.json")
        early = {key: value for key, value in json.loads(record.read_text()).items() if key not in ("file", "sha256")}
        record.write_text(json.dumps(early))
        assert citations(cache.root) == [Citation(**early)]
        (run / "config.json").write_text(json.dumps({"features": [asdict(rows[0])], "note": "written anew"}))
        assert citations(cache.root) == [Citation(**early)]
        keep(run, [Used("space", 3, "b" * 32)])
        assert citations(cache.root) == []

    def test_a_run_that_only_mentions_rows_does_not_use_them(self, cache: FeatureCache, tmp_path: Path):
        rows, run = [Used("space", 3, "a" * 32)], tmp_path / "run"
        cite(cache.root, keep(run, rows), rows)
        (run / "config.json").write_text(json.dumps({"other": "a" * 32}))
        assert citations(cache.root) == []

    def test_notes_survive_the_cache_being_moved(self, cache: FeatureCache, tmp_path: Path):
        rows = [Used("space", 3, "a" * 32)]
        cite(cache.root, keep(tmp_path / "run", rows), rows)
        moved = cache.root.rename(tmp_path / "moved")
        assert [citation.digest for citation in citations(moved)] == ["a" * 32]

    @pytest.mark.parametrize(
        "note", [b"", b"{", b"[]", b"null", b"7", b"\xff\xff", b'{"space": "s"}', b"[" * 100_000], ids=range(8)
    )
    def test_what_is_no_note_is_passed_over(self, cache: FeatureCache, tmp_path: Path, note: bytes):
        rows = [Used("space", 3, "a" * 32)]
        cite(cache.root, keep(tmp_path / "run", rows), rows)
        (cache.root / ".runs" / "0.json").write_bytes(note)
        (cache.root / ".runs" / "folder.json").mkdir()
        assert [citation.digest for citation in citations(cache.root)] == ["a" * 32]

    def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(self, tmp_path: Path):
        (tmp_path / "features").write_text("in the way")
        cite(tmp_path / "features", tmp_path / "run" / "config.json", [Used("space", 3, "a" * 32)])
        assert (tmp_path / "features").read_text() == "in the way"

    def test_the_folder_of_notes_is_no_space(self, cache: FeatureCache, filled: Space, tmp_path: Path):
        cite(cache.root, tmp_path / "run" / "config.json", [used(filled.all_rows())])
        assert cache.spaces() == [filled.folder.name]
