"""`layertap cache list`, `info` and `verify`: what there is, and whether it is as it was written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

Main = Callable[..., Any]
LAYERS = ("--layer", "block1_pool", "--layer", "block2_pool")


def said(outcome: Any) -> dict[str, Any]:
    """The one JSON object on stdout."""
    return json.loads(outcome.stdout)


class TestList:
    def test_people_are_shown_a_table_with_the_sum(self, main: Main, extracted: Any) -> None:
        outcome = main("cache", "list")
        assert (outcome.status, outcome.stderr) == (0, "")
        head, *rows, total = outcome.stdout.partition("\n\n")[0].splitlines()
        assert head.split() == ["space", "rows", "a", "row", "size", "last", "used"]
        assert [row.split()[:3] for row in rows] == [[extracted.names[0], "12", "32"], [extracted.names[1], "12", "64"]]
        assert all(re.search(r"\d kB +\d{4}-\d\d-\d\d$", row) for row in rows)
        assert total.strip().endswith("kB")

    def test_spaces_of_one_layer_say_in_what_they_differ(self, main: Main, data: Path) -> None:
        layer = ("--layer", "block1_pool", "--quiet")
        assert main("extract", data, *layer).status == 0
        assert main("extract", data, *layer, "--size", "16", "--fit", "pad").status == 0
        assert main("extract", data, "--layer", "block2_pool", "--quiet").status == 0
        head, *rows, _ = main("cache", "list").stdout.partition("\n\n")[0].splitlines()
        assert head.endswith("what tells it apart")
        told = {row.split()[0]: row.partition("20")[2].split("  ", 1)[1:] for row in rows}
        found = said(main("cache", "list", "--json"))["spaces"]
        assert [info["differs_in"] for info in found if "block2" in info["space"]] == [{}]
        first, second = (info["differs_in"] for info in found if "block1" in info["space"])
        assert {first["fit"], second["fit"]} == {"pad", "stretch"}
        assert [16, 16] in (first["size"], second["size"])
        texts = [text[0] for text in told.values() if text]
        assert any("fit pad" in text and "size 16x16" in text for text in texts)
        assert any("fit stretch" in text and "size 32x32" in text for text in texts)

    def test_programs_are_told_the_same(self, main: Main, extracted: Any) -> None:
        found = said(main("cache", "list", "--json"))
        assert [(info["space"], info["rows"], info["row_shape"], info["segments"]) for info in found["spaces"]] == [
            (extracted.names[0], 12, [32], 2),
            (extracted.names[1], 12, [64], 2),
        ]
        size = sum(path.stat().st_size for path in (extracted.folder / "features").glob("*/segment-*"))
        assert found["bytes"] == sum(info["bytes"] for info in found["spaces"]) == size
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", found["spaces"][0]["last_used"])

    def test_a_space_that_cannot_be_read_is_named_and_the_others_are_listed(self, main: Main, extracted: Any) -> None:
        (extracted.space.folder / "spec.json").write_text("{")
        outcome = main("cache", "list", "--json")
        assert [info["space"] for info in said(outcome)["spaces"]] == [extracted.names[1]]
        assert outcome.stderr.startswith("layertap: ")
        assert f"{extracted.name}/spec.json cannot be read" in outcome.stderr

    def test_looking_is_no_use(self, main: Main, extracted: Any, age: Callable) -> None:
        age(extracted.space, 100)
        before = extracted.space.last_used
        for command in ("list", "verify", "prune"):
            main("cache", command)
        main("cache", "info", extracted.name)
        assert extracted.space.last_used == before


class TestInfo:
    def test_people_are_shown_the_spec_and_the_segments(self, main: Main, extracted: Any) -> None:
        outcome = main("cache", "info", extracted.name)
        assert (outcome.status, outcome.stderr) == (0, "")
        first, second, *_ = outcome.stdout.splitlines()
        assert first.startswith("12 rows of 32, float32, last used 2")
        assert re.fullmatch(r"[\d.]+ kB on disk", second)
        assert re.search(r"^layer +block1_pool$", outcome.stdout, re.MULTILINE)
        for part in extracted.space.segments:
            assert re.search(rf"^{part.path.name} +{len(part)} +[\d.]+ kB", outcome.stdout, re.MULTILINE)

    def test_programs_are_told_more(self, main: Main, extracted: Any) -> None:
        found = said(main("cache", "info", extracted.name, "--json"))
        assert (found["rows"], found["copies"], found["row_shape"], found["cited_by"]) == (12, 0, [32], [])
        assert found["bytes_uncompressed"] == 12 * 32 * 4
        assert sorted(part["rows"] for part in found["segments"]) == [4, 8]
        assert {part["provenance"]["net"]["name"] for part in found["segments"]} == {"glyphnet"}

    def test_copies_are_counted(self, main: Main, extracted: Any) -> None:
        path = extracted.segment(4)
        shutil.copy(path, path.with_name("segment-copy.h5"))
        assert said(main("cache", "info", extracted.name, "--json"))["copies"] == 4
        assert "12 rows of 32, float32 and 4 copies of some" in main("cache", "info", extracted.name).stdout

    def test_compression_says_by_how_much(self, main: Main, extracted: Any) -> None:
        assert main("extract", "data", "--layer", "block1_conv1", "--pool", "none", "--compress").status == 0
        (name,) = set(extracted.cache.spaces()) - {*extracted.names}
        text = main("cache", "info", name).stdout
        assert re.search(r"kB on disk; 1 of 1 segments are compressed, [\d.]+ times smaller", text)
        assert re.search(r"segment +rows +size +shrunk", text)
        (part,) = said(main("cache", "info", name, "--json"))["segments"]
        assert part["compressed"]
        assert part["bytes_uncompressed"] == 12 * int(np.prod(extracted.cache.open(name).row_shape)) * 4

    def test_rounding_to_float16_is_told(self, main: Main, extracted: Any) -> None:
        main("extract", "data", "--layer", "block3_pool", "--dtype", "float16")
        (name,) = set(extracted.cache.spaces()) - {*extracted.names}
        (part,) = said(main("cache", "info", name, "--json"))["segments"]
        assert 0 < part["provenance"]["rounding"]["relative_rms"] < 1e-3
        assert 0 < part["provenance"]["rounding"]["largest"] < 0.1
        assert re.search(r"segment +rows +size +rounding", main("cache", "info", name).stdout)

    def test_a_space_without_rows_is_shown(self, main: Main, extracted: Any) -> None:
        for part in extracted.space.segments:
            part.path.unlink()
        outcome = main("cache", "info", extracted.name)
        assert outcome.status == 0
        assert outcome.stdout.startswith("0 rows of -")
        assert said(main("cache", "info", extracted.name, "--json"))["segments"] == []


@pytest.mark.parametrize(
    "command",
    [
        ("cache", "info", "{}"),
        ("cache", "verify", "{}"),
        ("cache", "compact", "{}"),
        ("cache", "prune", "{}", "--yes"),
        ("cache", "shrink", "{}", "--to", "int8"),
        ("cache", "view", "{}", "--out", "view.h5"),
        ("cache", "export", "{}", "--out", "out.npy"),
        ("extract", "data", "--space", "{}"),
        ("train-head", "data", "--space", "{}", "--out", "run"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_space_that_there_is_not_is_answered_with_the_nearest(
    mistake: Callable, extracted: Any, command: tuple[str, ...]
) -> None:
    wrong = extracted.name[:-1] + "x"
    line = mistake(*(word.format(wrong) for word in command))
    assert f"features has no space '{wrong}'; did you mean '{extracted.name}'" in line
    assert line.endswith("List them with: layertap cache list.")


class TestVerify:
    def test_what_is_sound_is_counted(self, main: Main, extracted: Any) -> None:
        outcome = main("cache", "verify")
        assert (outcome.status, outcome.stderr) == (0, "")
        head, *rows = outcome.stdout.splitlines()
        assert head.split() == ["space", "segments", "rows", "read", "damaged"]
        assert [row.split()[:3] + row.split()[-1:] for row in rows] == [[n, "2", "12", "-"] for n in extracted.names]
        found = said(main("cache", "verify", "--json"))
        assert [(each["space"], each["damaged"]) for each in found["spaces"]] == [(n, []) for n in extracted.names]
        assert found["recomputed"] == []

    def test_only_the_spaces_named_are_read(self, main: Main, extracted: Any, flip: Callable) -> None:
        flip(extracted.segment(4))
        assert main("cache", "verify", extracted.names[1]).status == 0
        assert main("cache", "verify", extracted.names[0]).status == 1

    def test_damage_is_named_and_a_failure(self, main: Main, extracted: Any, flip: Callable) -> None:
        bad = extracted.segment(4)
        flip(bad)
        outcome = main("cache", "verify")
        assert outcome.status == 1
        assert f"{extracted.name}/{bad.name} is damaged or not a segment of this cache (altered" in outcome.stdout
        assert "Set damaged segments aside with: layertap cache verify --repair" in outcome.stdout
        assert outcome.stdout.splitlines()[1].split()[-1] == "1"
        outcome = main("cache", "verify", "--json")
        assert outcome.status == 1
        (damage,) = said(outcome)["spaces"][0]["damaged"]
        assert damage["file"] == bad.name

    @pytest.mark.parametrize("how", ["flipped", "truncated", "empty", "text", "future"])
    def test_repair_sets_aside_and_the_next_extract_computes_just_these_rows(
        self, main: Main, extracted: Any, flip: Callable, how: str
    ) -> None:
        bad = extracted.segment(4)
        if how == "flipped":
            flip(bad)
        elif how == "future":
            with h5py.File(bad, "r+") as file:
                file.attrs["layertap_format"] = 99
        else:
            bad.write_bytes({"truncated": bad.read_bytes()[:-1000], "empty": b"", "text": b"hello\n"}[how])
        assert main("cache", "verify").status == 1
        outcome = main("cache", "verify", "--repair")
        assert outcome.status == 0
        assert bad.name in outcome.stdout
        assert "Set aside; the next extract computes their rows again." in outcome.stdout
        assert not bad.exists()
        assert bad.with_name(f"damaged-{bad.name}").exists()
        assert main("cache", "verify").status == 0
        assert len(extracted.space) == 8
        report = said(main("extract", "data", *LAYERS, "--json"))
        assert (report["rows_total"], report["rows_computed"], report["rows_reused"]) == (24, 4, 20)
        assert len(extracted.space) == 12

    def test_a_space_whose_spec_is_damaged_does_not_keep_the_others_from_being_read(
        self, main: Main, extracted: Any, flip: Callable
    ) -> None:
        (extracted.space.folder / "spec.json").write_text("{")
        outcome = main("cache", "verify")
        assert outcome.status == 1
        assert extracted.names[1] in outcome.stdout
        assert f"{extracted.name}/spec.json cannot be read" in outcome.stdout + outcome.stderr

    def test_an_empty_cache_is_sound(self, main: Main) -> None:
        assert main("cache", "verify").status == 0
        assert said(main("cache", "verify", "--json")) == {"spaces": [], "recomputed": []}


class TestRecompute:
    def test_right_rows_agree(self, main: Main, extracted: Any) -> None:
        outcome = main("cache", "verify", "--recompute", "5", "--images", "data")
        assert (outcome.status, outcome.stderr) == (0, "")
        for name in extracted.names:
            assert re.search(rf"^{name}: 5 rows computed again, largest deviation [\d.e-]+ \(", outcome.stdout, re.M)
        assert "DISAGREE" not in outcome.stdout
        found = said(main("cache", "verify", extracted.name, "--recompute", "99", "--images", "data", "--json"))
        (result,) = found["recomputed"]
        assert (result["space"], result["rows"], result["agrees"]) == (extracted.name, 12, True)
        assert result["deviation"] <= result["tolerance"]

    def test_a_changed_row_with_a_valid_check_is_found(self, main: Main, extracted: Any, alter: Callable) -> None:
        alter(extracted.space, lambda rows: rows * np.float32(1.1))
        assert main("cache", "verify").status == 0
        outcome = main("cache", "verify", "--recompute", "12", "--images", "data")
        assert outcome.status == 1
        first, second = outcome.stdout.splitlines()[-2:]
        assert first.startswith(f"{extracted.names[0]}: 12 rows computed again")
        assert first.endswith(": THEY DISAGREE")
        assert "DISAGREE" not in second
        outcome = main("cache", "verify", "--recompute", "12", "--images", "data", "--json")
        assert outcome.status == 1
        assert [result["agrees"] for result in said(outcome)["recomputed"]] == [False, True]

    @pytest.mark.parametrize("given", [("--recompute", "3"), ("--images", "data")])
    def test_one_without_the_other_is_a_mistake(self, mistake: Callable, extracted: Any, given: tuple) -> None:
        assert mistake("cache", "verify", *given) == "--recompute N and --images DATA go together."

    @pytest.mark.parametrize("number", ["0", "-1", "some"])
    def test_what_is_no_number_is_a_mistake(self, mistake: Callable, extracted: Any, number: str) -> None:
        line = mistake("cache", "verify", f"--recompute={number}", "--images", "data")
        assert f"'{number}' is not a whole number of at least 1" in line

    def test_images_without_rows_are_a_mistake(self, main: Main, extracted: Any, make_classes: Callable) -> None:
        make_classes(extracted.folder / "others", seed=5)
        outcome = main("cache", "verify", extracted.name, "--recompute", "3", "--images", "others")
        assert outcome.status == 2
        where = Path("features") / extracted.name
        assert outcome.stderr == f"layertap: none of the 12 images of others has a row in {where}.\n"

    def test_of_all_spaces_those_without_rows_of_the_images_are_passed_over(
        self, main: Main, extracted: Any, make_classes: Callable
    ) -> None:
        make_classes(extracted.folder / "others", seed=5)
        main("extract", "others", "--layer", "block3_pool")
        outcome = main("cache", "verify", "--recompute", "3", "--images", "data")
        assert outcome.status == 0, outcome.stderr
        for name in extracted.names:
            assert f"{name}: 3 rows computed again" in outcome.stdout

    def test_damage_is_told_all_the_same(self, main: Main, extracted: Any, flip: Callable) -> None:
        bad = extracted.segment(4)
        flip(bad)
        outcome = main("cache", "verify", "--recompute", "12", "--images", "data")
        assert outcome.status == 1
        assert f"{extracted.name}/{bad.name} is damaged" in outcome.stdout
        outcome = main("cache", "verify", "--repair", "--recompute", "12", "--images", "data")
        assert outcome.status == 0
        assert f"{extracted.name}: 8 rows computed again" in outcome.stdout
