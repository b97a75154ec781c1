"""`layertap cache compact`, `prune`, `merge`, `view` and `export`: what they change, and what they ask before."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from feature_cache import FeatureCache
from transfer.engines import openvino_store
from transfer.engines.openvino_store import converted

Main = Callable[..., Any]
TRAIN = ("train-head", "data", "--layer", "block1_pool", "--cv", "2", "--out", "run")


def said(outcome: Any) -> dict[str, Any]:
    """The one JSON object on stdout."""
    return json.loads(outcome.stdout)


class Terminal(io.StringIO):
    """Someone at the keyboard."""

    def isatty(self) -> bool:
        return True


class TestCompact:
    def test_people_are_shown_before_and_after(self, main: Main, extracted: Any) -> None:
        outcome = main("cache", "compact")
        assert (outcome.status, outcome.stderr) == (0, "")
        head, *rows = outcome.stdout.splitlines()
        assert head.split() == ["space", "rows", "copies", "dropped", "segments", "size"]
        for name, row in zip(extracted.names, rows, strict=True):
            assert re.fullmatch(rf"{name} +12 +- +2 -> 1 +[\d.]+ kB -> [\d.]+ kB", row)
        assert json.loads(main(*TRAIN, "--json").stdout)["summary"]["valid"]["accuracy"]["mean"] == 1.0

    def test_programs_are_told_the_same(self, main: Main, extracted: Any) -> None:
        (done,) = said(main("cache", "compact", extracted.name, "--json"))["spaces"]
        assert (done["space"], done["rows"], done["copies_dropped"]) == (extracted.name, 12, 0)
        assert (done["segments_before"], done["segments_after"]) == (2, 1)
        assert len(extracted.cache.open(extracted.names[1]).segments) == 2

    def test_compressing_and_back(self, main: Main, extracted: Any) -> None:
        before = extracted.space.all_rows()[:]
        for option, compressed in (("--compress", True), ("--no-compress", False)):
            assert main("cache", "compact", extracted.name, option).status == 0
            assert [part.chunks is not None for part in extracted.space.segments] == [compressed]
            np.testing.assert_array_equal(np.sort(extracted.space.all_rows()[:], 0), np.sort(before, 0))
        assert "not allowed with" in main("cache", "compact", "--compress", "--no-compress").stderr

    def test_damage_is_a_failure_that_says_what_to_do(self, main: Main, extracted: Any, flip: Callable) -> None:
        flip(extracted.segment(4))
        outcome = main("cache", "compact", extracted.name)
        assert (outcome.status, outcome.stdout) == (1, "")
        assert "layertap cache verify --repair --cache features" in outcome.stderr
        assert outcome.stderr.count("\n") == 1
        assert len(list(extracted.space.folder.glob("segment-*"))) >= 2


@pytest.mark.usefixtures("own_conversions")
class TestPrune:
    def test_nothing_to_remove(self, main: Main, extracted: Any) -> None:
        outcome = main("cache", "prune")
        assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "Nothing to remove.\n", "")
        assert said(main("cache", "prune", "--json")) == {"removed": [], "would_remove": [], "kept": []}
        assert said(main("cache", "prune", "--json", "--yes")) == {"removed": [], "kept": []}

    def test_without_anyone_to_ask_it_lists_and_removes_nothing(
        self, main: Main, extracted: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
        outcome = main("cache", "prune", extracted.name)
        assert outcome.status == 2
        head, row = outcome.stdout.splitlines()
        assert head.split() == ["to", "remove", "size", "because", "used", "by", "the", "run"]
        assert re.fullmatch(rf"{extracted.name} +\d files +[\d.]+ kB +named", row)
        assert outcome.stderr == "layertap: nothing was removed; say --yes to remove what is listed.\n"
        assert len(extracted.space) == 12

    @pytest.mark.parametrize(
        ("answer", "removed"),
        [("y\n", True), ("YES\n", True), ("\n", False), ("n\n", False), ("yep\n", False), ("", False)],
    )
    def test_someone_is_asked(
        self, main: Main, extracted: Any, monkeypatch: pytest.MonkeyPatch, answer: str, removed: bool
    ) -> None:
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        outcome = main("cache", "prune", extracted.name)
        assert "Remove these? [y/N]" in outcome.stdout
        assert outcome.status == (0 if removed else 2)
        assert extracted.cache.spaces() == list(extracted.names[removed:])
        if not removed:
            assert outcome.stderr == "layertap: nothing was removed.\n"

    def test_yes_removes_what_is_listed(self, main: Main, extracted: Any) -> None:
        outcome = main("cache", "prune", extracted.name, "--yes")
        assert (outcome.status, outcome.stderr) == (0, "")
        assert re.fullmatch(r"Removed [\d.]+ kB\.", outcome.stdout.splitlines()[-1])
        assert extracted.cache.spaces() == [extracted.names[1]]
        assert not (extracted.cache.root / extracted.name).exists()

    def test_programs_are_told_first_and_then_obeyed(self, main: Main, extracted: Any) -> None:
        outcome = main("cache", "prune", extracted.name, "--json")
        assert outcome.status == 0
        found = said(outcome)
        assert (found["removed"], found["kept"]) == ([], [])
        (removal,) = found["would_remove"]
        assert (removal["name"], removal["reason"], removal["cited_by"]) == (extracted.name, "named", [])
        assert all(Path(file).exists() for file in removal["files"])
        assert removal["bytes"] == sum(Path(file).stat().st_size for file in removal["files"])
        assert said(main("cache", "prune", extracted.name, "--json", "--yes")) == {"removed": [removal], "kept": []}
        assert not any(Path(file).exists() for file in removal["files"])

    def test_converted_nets_are_listed_and_pruned_too(self, main: Main, extracted: Any) -> None:
        file = converted(
            {"net": "vgg16"}, lambda file: [file.with_suffix(end).write_text("net") for end in (".xml", ".bin")]
        )
        openvino_store._leave(file.parent)  # as when this process has ended
        listed = said(main("cache", "list", "--json"))["conversions"]
        assert (listed["folder"], listed["nets"]) == (str(file.parent.parent), 1)
        assert f"\n1 net converted for OpenVINO, {listed['bytes']} B, in " in main("cache", "list").stdout
        os.utime(file.parent, (time.time() - 40 * 86400 - 60,) * 2)
        (removal,) = said(main("cache", "prune", "--older-than", "30", "--json"))["would_remove"]
        assert (removal["name"], removal["reason"]) == ("converted vgg16", "not used for 40 days")
        assert said(main("cache", "prune", extracted.name, "--json"))["would_remove"][0]["name"] == extracted.name
        outcome = main("cache", "prune", "--older-than", "30", "--yes")
        assert f"Removed {listed['bytes']} B." in outcome.stdout
        assert not file.exists()
        assert "converted for OpenVINO" not in main("cache", "list").stdout

    def test_by_age_and_by_budget(self, main: Main, extracted: Any, age: Callable) -> None:
        age(extracted.cache.open(extracted.names[1]), 40)
        (removal,) = said(main("cache", "prune", "--older-than", "30d", "--json"))["would_remove"]
        assert (removal["name"], removal["reason"]) == (extracted.names[1], "not used for 40 days")
        size = sum(file.stat().st_size for file in extracted.cache.root.glob("*/*"))
        (removal,) = said(main("cache", "prune", "--max-size", f"{size - 1} B", "--json"))["would_remove"]
        assert removal["name"] == extracted.names[1]
        assert said(main("cache", "prune", "--older-than", "41", "--max-size", "1 GB", "--json"))["would_remove"] == []

    def test_what_a_kept_run_was_made_of_stays_unless_that_is_asked_for(self, main: Main, extracted: Any) -> None:
        assert main(*TRAIN).status == 0
        run = str(extracted.folder / "run")
        assert said(main("cache", "info", extracted.name, "--json"))["cited_by"] == [run]
        assert f"used by the run {run}" in main("cache", "info", extracted.name).stdout
        outcome = main("cache", "prune", "--max-size", "0", "--yes")
        assert outcome.status == 0
        assert (
            f"kept: {extracted.name} (over the budget, least recently used), used by the run {run};" in outcome.stdout
        )
        assert "--cited removes it too" in outcome.stdout
        assert extracted.cache.spaces() == [extracted.name]
        (removal,) = said(main("cache", "prune", extracted.name, "--json", "--yes"))["kept"]
        assert removal["cited_by"] == [run]
        assert extracted.cache.spaces() == [extracted.name]
        outcome = main("cache", "prune", extracted.name, "--cited", "--yes")
        assert run in outcome.stdout
        assert extracted.cache.spaces() == []

    def test_a_run_that_is_gone_keeps_nothing(self, main: Main, extracted: Any) -> None:
        main(*TRAIN)
        shutil.rmtree("run")
        outcome = main("cache", "prune", extracted.name, "--yes")
        assert "kept:" not in outcome.stdout
        assert extracted.cache.spaces() == [extracted.names[1]]

    def test_a_run_says_which_rows_it_used(self, main: Main, extracted: Any) -> None:
        main(*TRAIN)
        (used,) = json.loads(Path("run/config.json").read_text())["features"]
        assert (used["space"], used["rows"]) == (extracted.name, 12)
        assert used["digest"] == extracted.space.all_rows().digest

    @pytest.mark.parametrize("days", ["month", "-3", "", "nan", "inf", "30 days", "1h"])
    def test_ages_that_are_none(self, mistake: Callable, extracted: Any, days: str) -> None:
        line = mistake("cache", "prune", f"--older-than={days}", "--yes")
        assert f"{days!r} is not a number of days; give it as 30 or 30d" in line

    @pytest.mark.parametrize("size", ["big", "-3GB", "", "GB", "nan", "inf", "5 PB", "3XB", "5 bytes", "10GBGB"])
    def test_sizes_that_are_none(self, mistake: Callable, extracted: Any, size: str) -> None:
        line = mistake("cache", "prune", f"--max-size={size}", "--yes")
        assert f"{size!r} is not a size; give it as 20GB or 500MB" in line

    @pytest.mark.parametrize("size", ["20GB", "20gb", "1.5 TB", "500 MB", "1e9", "40000", "40000B", "40 kB"])
    def test_sizes_that_are_some(self, main: Main, extracted: Any, size: str) -> None:
        assert said(main("cache", "prune", "--max-size", size, "--json"))["would_remove"] == []


class TestMerge:
    def test_spaces_are_taken_over_once(self, main: Main, extracted: Any) -> None:
        outcome = main("cache", "merge", "features", "--cache", "mine")
        assert (outcome.status, outcome.stderr) == (0, "")
        first, *names = outcome.stdout.splitlines()
        assert re.fullmatch(r"24 rows in 4 segments taken over \([\d.]+ kB\), 0 segments were here already\.", first)
        assert sorted(name.strip() for name in names) == sorted(extracted.names)
        again = said(main("cache", "merge", "features", "--cache", "mine", "--json"))
        assert (again["segments"], again["rows"], again["already_here"], again["spaces"]) == (0, 0, 4, [])
        assert (
            said(main("extract", "data", "--layer", "block1_pool", "--cache", "mine", "--json"))["rows_computed"] == 0
        )

    def test_damage_is_not_taken_over_and_told(self, main: Main, extracted: Any, flip: Callable) -> None:
        bad = extracted.segment(4)
        flip(bad)
        outcome = main("cache", "merge", "features", "--cache", "mine")
        assert outcome.stderr.startswith("layertap: not taken over: ")
        assert bad.name in outcome.stderr
        assert outcome.stderr.count("\n") == 1
        assert "20 rows in 3 segments taken over" in outcome.stdout
        assert not list(Path("mine").rglob(bad.name))

    @pytest.mark.parametrize("other", ["nowhere", "data", "data/dark/0.png"])
    def test_what_is_no_cache_is_refused(self, mistake: Callable, extracted: Any, other: str) -> None:
        assert mistake("cache", "merge", other) == f"{other} is not a cache folder, or holds no features."


class TestView:
    def test_one_file_shows_all_segments(self, main: Main, extracted: Any) -> None:
        outcome = main("cache", "view", extracted.name, "--out", "view.h5")
        assert outcome.status == 0
        assert outcome.stdout.startswith(f"view.h5 shows 12 rows of {extracted.name}")
        with h5py.File("view.h5") as file:
            assert np.array_equal(np.sort(file["features"][:], 0), np.sort(extracted.space.all_rows()[:], 0))

    def test_programs_are_told_the_same(self, main: Main, extracted: Any) -> None:
        found = said(main("cache", "view", extracted.name, "--out", "view.h5", "--json"))
        assert found == {"file": "view.h5", "rows": 12}

    def test_what_is_no_view_is_never_replaced(self, main: Main, extracted: Any) -> None:
        precious = [extracted.segment(4), extracted.folder / "data" / "dark" / "0.png"]
        for file in precious:
            before = file.read_bytes()
            outcome = main("cache", "view", extracted.name, "--out", file)
            assert file.read_bytes() == before, "a file was replaced"
            assert outcome.status == 2


class TestExport:
    @pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet", ".h5"])
    def test_rows_of_a_data_set_come_with_ids_and_classes(self, main: Main, extracted: Any, suffix: str) -> None:
        outcome = main("cache", "export", extracted.name, "data", "--out", f"out{suffix}")
        assert (outcome.status, outcome.stderr) == (0, "")
        files = f"out{suffix}" + (" and out.csv" if suffix == ".npy" else "")
        assert outcome.stdout == f"12 rows of 32 in {files}\n"
        ids = [f"{name}/{number}.png" for name in ("bright", "dark") for number in range(6)]
        if suffix == ".npy":
            with Path("out.csv").open(newline="") as stream:
                table = list(csv.DictReader(stream))
            assert [row["id"] for row in table] == ids
            assert [row["class"] for row in table] == ["bright"] * 6 + ["dark"] * 6
            assert list(table[0]) == ["id", "class", "digest"]
            found = np.load("out.npy")
        elif suffix == ".npz":
            archive = np.load("out.npz")
            assert (archive["id"].tolist(), archive["class"].tolist()[5:7]) == (ids, ["bright", "dark"])
            found = archive["features"]
        elif suffix == ".parquet":
            import pyarrow.parquet

            table = pyarrow.parquet.read_table("out.parquet")
            assert table["id"].to_pylist() == ids
            found = np.array(table["features"].to_pylist(), np.float32)
        else:
            with h5py.File("out.h5") as file:
                assert file["id"].asstr()[:].tolist() == ids
                found = file["features"][:]
        main("cache", "export", extracted.name, "data", "--out", "again.npz")
        np.testing.assert_array_equal(found, np.load("again.npz")["features"])

    def test_without_a_data_set_all_rows_come_with_their_digests(self, main: Main, extracted: Any) -> None:
        found = said(main("cache", "export", extracted.name, "--out", "out.npz", "--json"))
        assert found == {"files": ["out.npz"], "rows": 12, "columns": ["digest"]}
        archive = np.load("out.npz")
        digests = np.array([list(bytes.fromhex(text)) for text in archive["digest"]], np.uint8)
        np.testing.assert_array_equal(archive["features"], extracted.space.rows(digests)[:])

    def test_a_file_that_is_there_is_replaced_only_when_asked(
        self, main: Main, mistake: Callable, extracted: Any
    ) -> None:
        Path("out.npz").write_text("precious")
        command = ("cache", "export", extracted.name, "--out", "out.npz")
        line = mistake(*command)
        assert line == "out.npz exists; choose another file with --out, or replace it with --overwrite."
        assert Path("out.npz").read_text() == "precious"
        assert main(*command, "--overwrite").status == 0
        assert len(np.load("out.npz")["features"]) == 12

    def test_nor_is_a_table_of_the_same_name(self, main: Main, extracted: Any) -> None:
        """The table beside an array must not replace the one that the data set is read from."""
        ids = [f"dark/{number}.png" for number in range(6)]
        text = "id,class\n" + "".join(f"{name},dark\n" for name in ids)
        Path("data/train.csv").write_text(text)
        outcome = main("cache", "export", extracted.name, "data/train.csv", "--out", "data/train.npy")
        assert Path("data/train.csv").read_text() == text
        assert outcome.status == 2
        assert "train.csv exists" in outcome.stderr

    def test_wrong_names_are_mistakes(self, mistake: Callable, extracted: Any) -> None:
        assert "there is no export to '.nzp'; did you mean" in mistake(
            "cache", "export", extracted.name, "--out", "out.nzp"
        )
        assert "the folder none does not exist; make it first" in mistake(
            "cache", "export", extracted.name, "--out", "none/out.npz"
        )

    def test_images_without_rows_are_a_mistake(self, mistake: Callable, extracted: Any, make_classes: Callable) -> None:
        make_classes(extracted.folder / "others", seed=5)
        line = mistake("cache", "export", extracted.name, "others", "--out", "out.npz")
        assert "12 of 12 rows" in line
        assert "are not in the cache features" in line

    @pytest.mark.parametrize("how", ["no image", "damaged"])
    def test_unreadable_images_are_left_out_and_named(self, main: Main, extracted: Any, how: str) -> None:
        file = extracted.folder / "data" / "dark" / "extra.png"
        whole = (extracted.folder / "data" / "dark" / "3.png").read_bytes()
        file.write_bytes(b"no image" if how == "no image" else whole[:-40])
        main("extract", "data", "--layer", "block1_pool", "--on-error", "skip")
        outcome = main("cache", "export", extracted.name, "data", "--out", "out.npz")
        assert outcome.status == 0, outcome.stderr
        assert outcome.stderr.startswith("left out dark/extra.png: ")
        assert len(np.load("out.npz")["features"]) == 12

    def test_a_damaged_row_is_a_failure_and_leaves_no_file(self, main: Main, extracted: Any, flip: Callable) -> None:
        bad = extracted.segment(4)
        flip(bad)
        for suffix in (".npy", ".npz", ".parquet", ".h5"):
            outcome = main("cache", "export", extracted.name, "--out", f"out{suffix}")
            assert outcome.status == 1
            assert outcome.stderr.startswith(f"layertap: {Path('features') / extracted.name / bad.name} is damaged")
        assert list(Path().glob("out*")) == []


def test_what_is_written_into_one_cache_is_read_from_python(main: Main, extracted: Any) -> None:
    main("cache", "merge", "features", "--cache", "mine")
    main("cache", "compact", "--cache", "mine", "--compress")
    digests, views = extracted.space.keys()
    mine = FeatureCache(Path("mine")).open(extracted.name)
    np.testing.assert_array_equal(mine.rows(digests, views)[:], extracted.space.rows(digests, views)[:])
