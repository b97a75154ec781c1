"""`--ray`: mistakes are one line, and Ray on this machine says nothing of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from transfer.extraction.on_ray import cluster

WHAT = ("--net", "glyphnet", "--layer", "block1_pool")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--ray", "data"), "argument --ray: 'data' is no address of a Ray cluster; give HOST:PORT of its head, or"),
        (("data", "--ray", "head:99999"), "--ray head:99999 is no address of a Ray cluster; give HOST:PORT"),
        (("data", "--ray", "ray://head:1"), "--ray ray://head:1 is no address of a Ray cluster"),
        (("data", "--ray", "--devices", "2"), "--devices divides the work on this machine, and --ray on those of a"),
    ],
)
def test_a_mistake_is_one_line(mistake: Callable, data: Path, words: tuple[str, ...], message: str) -> None:
    if "--devices" in words:
        pytest.importorskip("ray", reason="needs Ray")
    assert message in mistake("extract", *WHAT, *words)


def test_without_ray_the_extra_is_named(mistake: Callable, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    assert "--ray needs the package ray: pip install 'layertap[ray]'" in mistake("extract", *WHAT, "data", "--ray")


@pytest.mark.slow
def test_ray_on_this_machine_computes_and_says_nothing_of_its_own(
    layertap: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="needs Ray")
    done = layertap("extract", "digits", *WHAT, "--ray", "--json", cwd=tmp_path, RAY_ADDRESS="local")
    assert done.returncode == 0, done.stderr
    assert all(re.match(r"[\d,]+/1,797 images  ", line) for line in done.stderr.splitlines()), done.stderr
    report = json.loads(done.stdout)
    assert (report["rows_computed"], report["rows_reused"]) == (1797, 0)
    assert report["images_per_second"] > 0
    again = layertap("extract", "digits", *WHAT, "--ray", cwd=tmp_path, RAY_ADDRESS="127.0.0.1:1")
    assert again.stdout.startswith("0 rows computed, 1,797 reused"), again.stderr  # nothing to ask a cluster for


def test_a_plan_may_have_ray_for_its_steps(main: Callable, data: Path) -> None:
    pytest.importorskip("yaml", reason="needs PyYAML")
    steps = "[{extract: {}}, {sweep: {out: sweep}}, {train-head: {out: run}}]"
    (data.parent / "plan.yaml").write_text(f"data: data\nnet: glyphnet\nray: head:6379\nsteps: {steps}\n")
    lines = main("run", "plan.yaml", "--dry-run").stdout.splitlines()
    assert [("--ray head:6379" in line) for line in lines if "layertap " in line] == [True, True, False]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [("extract", "data"), ("sweep", "data", "--out", "sweep")], ids=("extract", "sweep")
)
def test_a_cluster_that_is_not_there_is_one_line(
    layertap: Callable[..., subprocess.CompletedProcess[str]], data: Path, command: tuple[str, ...]
) -> None:
    pytest.importorskip("ray", reason="needs Ray")
    failed = layertap(*command, *WHAT, "--ray", cwd=data.parent, RAY_ADDRESS="127.0.0.1:1")
    assert failed.returncode == 1
    assert failed.stderr == f"layertap: --ray: there is no Ray cluster at 127.0.0.1:1: {os.strerror(111)}.\n"
    assert not (data.parent / "features" / "skipped-data.csv").exists()
