"""`layertap cache shrink`, and spaces named by `--space`: smaller copies are made, trained on and predicted with."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_cache.cache import FeatureCache

Main = Callable[..., Any]
KINDS = [("float16",), ("int8",), ("pca", "--components", "5")]


def said(outcome: Any) -> dict[str, Any]:
    """The one JSON object on stdout."""
    assert outcome.status == 0, outcome.stderr
    return json.loads(outcome.stdout)


def shrink(main: Main, extracted: Any, *kind: str) -> str:
    """The name of a shrunk copy of the first space."""
    return said(main("cache", "shrink", extracted.name, "--to", *kind, "--json"))["space"]


class TestShrink:
    @pytest.mark.parametrize(
        ("kind", "times"), list(zip(KINDS, ("2.0", "4.0", "6.4"), strict=True)), ids=lambda value: value[0]
    )
    def test_people_are_told_the_gain_and_the_error(
        self, main: Main, extracted: Any, kind: tuple[str, ...], times: str
    ) -> None:
        outcome = main("cache", "shrink", extracted.name, "--to", *kind)
        assert (outcome.status, outcome.stderr) == (0, "")
        first, second, third = outcome.stdout.splitlines()
        (name,) = set(extracted.cache.spaces()) - {*extracted.names}
        assert first == f"{name}: 12 rows, 12 of them new, {times} times smaller"
        assert re.fullmatch(r"error: largest [\d.e-]+, relative \d+\.\d\d% \(root mean square\)", second)
        assert third == "Name labelled images (DATA) to see what a linear head loses by it."
        assert "12 rows, 0 of them new" in main("cache", "shrink", extracted.name, "--to", *kind).stdout

    def test_programs_are_told_the_same(self, main: Main, extracted: Any) -> None:
        found = said(main("cache", "shrink", extracted.name, "--to", "int8", "--json"))
        assert (found["rows"], found["added"], found["row_bytes_before"], found["row_bytes_after"]) == (12, 12, 128, 32)
        assert found["linear_head"] is None
        full, copy = extracted.space, extracted.cache.open(found["space"])
        digests, views = full.keys()
        difference = np.abs(full.rows(digests, views)[:] - copy.rows(digests, views)[:])
        assert found["largest_error"] == pytest.approx(difference.max(), rel=1e-4)

    def test_what_a_linear_head_loses_is_told_for_labelled_images(self, main: Main, extracted: Any) -> None:
        outcome = main("cache", "shrink", extracted.name, "data", "--to", "pca", "--components", "3")
        assert (outcome.status, outcome.stderr) == (0, "")
        title, accuracy, loss = outcome.stdout.splitlines()[-3:]
        assert title == "a logistic head on data, in 5 folds:"
        assert re.fullmatch(r"  accuracy [01]\.\d{4} before, [01]\.\d{4} after", accuracy)
        assert re.fullmatch(r"  log-loss \d\.\d{4} before, \d\.\d{4} after", loss)
        found = said(main("cache", "shrink", extracted.name, "data", "--to", "float16", "--json"))["linear_head"]
        assert found["before"]["accuracy"] == found["after"]["accuracy"] == 1.0

    def test_list_and_verify_treat_copies_like_any_space(self, main: Main, extracted: Any) -> None:
        names = [shrink(main, extracted, *kind) for kind in KINDS]
        listed = {info["space"]: info for info in said(main("cache", "list", "--json"))["spaces"]}
        assert listed.keys() == {*names, *extracted.names}
        assert [listed[name]["row_shape"] for name in names] == [[32], [32], [5]]
        assert main("cache", "verify").status == 0
        outcome = main("cache", "verify", *names, "--recompute", "12", "--images", "data")
        assert outcome.status == 0, outcome.stdout
        assert outcome.stdout.count("12 rows computed again") == 3

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--to", "int4"), "invalid choice: 'int4'"),
            ((), "the following arguments are required: --to"),
            (("--to", "pca"), "pca keeps 1 to 12 components here; received None. Give --components."),
            (("--to", "pca", "--components", "13"), "pca keeps 1 to 12 components here; received 13."),
            (("--to", "pca", "--components", "0"), "'0' is not a whole number of at least 1"),
            (("nowhere", "--to", "int8"), "no data set, folder or file 'nowhere'"),
            (("data/dark", "--to", "int8"), "data/dark has no labels"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
    )
    def test_mistakes_are_found_before_anything_is_made(
        self, mistake: Callable, extracted: Any, arguments: tuple, message: str
    ) -> None:
        assert message in mistake("cache", "shrink", extracted.name, *arguments)

    def test_a_copy_is_not_shrunk(self, main: Main, mistake: Callable, extracted: Any) -> None:
        name = shrink(main, extracted, "int8")
        line = mistake("cache", "shrink", name, "--to", "float16")
        assert line == f"{name} is a shrunk copy already; shrink the space that it was made from."


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[0])
def test_a_head_trained_on_a_copy_predicts_new_images(
    main: Main, extracted: Any, make_classes: Callable, kind: tuple[str, ...]
) -> None:
    name = shrink(main, extracted, *kind)
    outcome = main("train-head", "data", "--space", name, "--cv", "2", "--out", "run")
    assert (outcome.status, outcome.stderr) == (0, "")
    config = json.loads(Path("run/config.json").read_text())
    assert [part["space"] for part in config["features"]] == [name]
    assert FeatureCache(Path("features")).open(name).spec.to_json() == json.dumps(
        {key: value for key, value in config["spec"].items() if value is not None or key != "coding"},
        sort_keys=True,
        separators=(",", ":"),
    )
    make_classes(extracted.folder / "new", per_class=3, seed=1)
    found = said(main("evaluate", "run", "new", "--json"))["test"]
    assert (found["n"], found["accuracy"]) == (6, 1.0)
    assert len(extracted.cache.open(name)) == 18
    predicted = said(main("predict", "run", "new", "--json"))["predictions"]
    assert [row["class"] for row in predicted] == ["bright"] * 3 + ["dark"] * 3
    assert main("cache", "verify").status == 0
    assert said(main("cache", "info", name, "--json"))["cited_by"] == [str(extracted.folder / "run")]


class TestSpaceOption:
    def test_extract_computes_the_rows_of_a_space(self, main: Main, extracted: Any, make_classes: Callable) -> None:
        make_classes(extracted.folder / "new", per_class=3, seed=1)
        report = said(main("extract", "new", "--space", extracted.name, "--json"))
        assert (report["rows_computed"], report["spaces"]) == (6, [str(Path("features") / extracted.name)])
        assert len(extracted.space) == 18

    def test_an_extraction_into_a_copy_fills_the_full_space_too(
        self, main: Main, extracted: Any, make_classes: Callable
    ) -> None:
        name = shrink(main, extracted, "int8")
        make_classes(extracted.folder / "new", per_class=3, seed=1)
        report = said(main("extract", "new", "--space", name, "--json"))
        assert (report["rows_total"], report["rows_computed"], report["rows_reused"]) == (6, 6, 0)
        assert report["spaces"] == [str(Path("features") / name)]
        assert len(extracted.space) == len(extracted.cache.open(name)) == 18
        assert said(main("extract", "new", "--space", name, "--json"))["rows_computed"] == 0

    @pytest.mark.parametrize("kind", [("float16",), ("int8",)], ids=lambda kind: kind[0])
    def test_the_plan_knows_what_a_row_of_a_copy_takes(
        self, main: Main, extracted: Any, make_classes: Callable, kind: tuple[str, ...]
    ) -> None:
        name = shrink(main, extracted, *kind)
        make_classes(extracted.folder / "new", per_class=3, seed=1)
        found = said(main("extract", "new", "--space", name, "--plan", "--json"))
        (part,) = found["spaces"]
        assert (part["rows_missing"], part["row_bytes"]) == (6, 64 if kind == ("float16",) else 32)

    @pytest.mark.parametrize(
        "option",
        [
            ("--net", "vgg16"),
            ("--layer", "block1_pool"),
            ("--pool", "max"),
            ("--size", "24"),
            ("--fit", "pad"),
            ("--dtype", "float16"),
            ("--weights", "none"),
        ],
        ids=lambda option: option[0],
    )
    def test_what_a_space_says_itself_is_not_said_again(
        self, mistake: Callable, extracted: Any, option: tuple[str, str]
    ) -> None:
        for command in (("extract", "data"), ("train-head", "data", "--out", "run")):
            line = mistake(*command, "--space", extracted.name, *option)
            assert line == f"--space {extracted.name} says it all; leave out {option[0]}."

    def test_rows_that_a_named_space_lacks_are_extracted(
        self, main: Main, extracted: Any, make_classes: Callable
    ) -> None:
        make_classes(extracted.folder / "new", per_class=3, seed=1)
        name = shrink(main, extracted, "int8")
        for space in (extracted.name, name):
            outcome = main("train-head", "new", "--space", space, "--cv", "2", "--out", f"run-{space}")
            assert outcome.status == 0, outcome.stderr
            assert ("Extracting the features of 6 images by " in outcome.stderr) == (space == extracted.name)

    def test_float16_rows_are_made_of_those_that_there_are(self, main: Main, extracted: Any) -> None:
        report = said(main("extract", "data", "--layer", "block1_pool", "--dtype", "float16", "--json"))
        assert (report["rows_computed"], report["rows_reused"]) == (0, 12)
        train = ("train-head", "data", "--layer", "block1_pool", "--dtype", "float16", "--cv", "2", "--out", "run")
        assert said(main(*train, "--json"))["spec"]["dtype"] == "float16"

    def test_a_copy_whose_rows_are_lost_says_so(self, main: Main, extracted: Any) -> None:
        name = shrink(main, extracted, "int8")
        for part in extracted.cache.open(name).segments:
            part.path.unlink()
        outcome = main("extract", "data", "--space", name)
        assert outcome.status == 2
        assert outcome.stderr.count("\n") == 1
        assert name in outcome.stderr


def test_the_whole_way_in_processes_of_its_own(layertap: Callable, extracted: Any) -> None:
    """As in this process, and with nothing on stderr that libraries might say."""
    for command in (("list",), ("verify",), ("shrink", extracted.name, "--to", "int8"), ("compact", "--compress")):
        done = layertap("cache", *command, cwd=extracted.folder)
        assert (done.returncode, done.stderr) == (0, ""), command
        assert done.stdout
    done = layertap("cache", "prune", extracted.name, cwd=extracted.folder)
    assert done.returncode == 2
    assert done.stderr == "layertap: nothing was removed; say --yes to remove what is listed.\n"
    assert len(extracted.cache.spaces()) == 3
