"""`--ray`: mistakes are one line, and Ray on this machine says nothing of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from feature_cache.cache import FeatureCache
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
    (tmp_path / "plan.yaml").write_text(
        "net: glyphnet\ndata: digits\nray: auto\nsteps:\n  - sweep: {layer: block2_pool, head: ridge, out: sweep}\n"
    )
    again = layertap("run", "plan.yaml", cwd=tmp_path, RAY_ADDRESS="local")
    assert again.returncode == 0, again.stderr
    assert "ray: auto" in (tmp_path / "sweep" / "plan.yaml").read_text()
    assert len(FeatureCache(tmp_path / "features").spaces()) == 2


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_one_line(
    layertap: Callable[..., subprocess.CompletedProcess[str]], data: Path
) -> None:
    pytest.importorskip("ray", reason="needs Ray")
    failed = layertap("extract", "data", *WHAT, "--ray", cwd=data.parent, RAY_ADDRESS="127.0.0.1:1")
    assert failed.returncode == 1
    assert failed.stderr == f"layertap: --ray: there is no Ray cluster at 127.0.0.1:1: {os.strerror(111)}.\n"
    assert not (data.parent / "features" / "skipped-data.csv").exists()
