"""`extract --shard`: parts of a data set by processes that share nothing but a cache folder; job files for clusters."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_cache.cache import FeatureCache
from layertap.commands.arguments.commands import parser

ROOT = Path(__file__).resolve().parents[3]
CLUSTER = ROOT / "examples" / "cluster"
WHAT = ("--net", "glyphnet", "--layer", "block1_pool", "--quiet")


def rows_of(cache: Path) -> dict[bytes, np.ndarray]:
    """All rows of the only space of a cache, by the digests of their images; none is stored twice."""
    store = FeatureCache(cache)
    (name,) = store.spaces()
    space = store.open(name)
    digests = np.concatenate([part.digests for part in space.segments])
    assert len(np.unique(digests, axis=0)) == len(digests), "a row is stored twice"
    rows = np.asarray(space.rows(digests)[:])
    return {digest.tobytes(): row for digest, row in zip(digests, rows, strict=True)}


def assert_same(found: dict[bytes, np.ndarray], expected: dict[bytes, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for digest, row in expected.items():
        np.testing.assert_allclose(found[digest], row, atol=1e-5 * np.abs(row).max())


def test_parts_are_together_what_one_process_computes(main: Callable, data: Path, tmp_path: Path) -> None:
    shutil.copyfile(data / "dark" / "0.png", data / "dark" / "copy.png")
    images = 0
    for number in range(3):
        outcome = main("extract", "data", *WHAT, "--shard", f"{number}/3", "--cache", "parts")
        assert outcome.status == 0, outcome.stderr
        said = re.match(rf"Part {number} of 3 \(the last is 2\): (\d+) images?\.\n(\d+) rows computed", outcome.stdout)
        assert said, outcome.stdout
        images += int(said[1])
        assert outcome.stdout.splitlines()[-1].startswith(
            "Once all parts are done, this computes nothing: layertap extract data"
        )
    assert images == 13
    main("extract", "data", *WHAT, "--cache", "alone")
    assert_same(rows_of(tmp_path / "parts"), rows_of(tmp_path / "alone"))
    assert main("extract", "data", *WHAT, "--cache", "parts").stdout.startswith("0 rows computed, 13 reused")


def test_a_part_is_planned_reported_in_json_and_may_be_empty(main: Callable, data: Path) -> None:
    planned = json.loads(main("extract", "data", *WHAT, "--shard", "1/3", "--plan", "--json").stdout)
    part = planned["shard"]
    assert (part["part"], part["parts"]) == (1, 3)
    assert planned["images_missing"] == part["images"] > 0
    report = json.loads(main("extract", "data", *WHAT, "--shard", "1/3", "--json").stdout)
    assert report["shard"] == part
    assert report["rows_computed"] == report["rows_total"] == part["images"]
    counts = [json.loads(main("extract", "data", *WHAT, "--shard", f"{i}/40", "--json").stdout) for i in (0, 1, 2, 3)]
    empty = [one for one in counts if one["shard"]["images"] == 0]
    assert empty, "of 12 images, no part of 40 is empty"
    assert all(one["rows_total"] == 0 for one in empty)
    assert main("extract", "data", *WHAT, "--shard", "40/41", "--plan").status == 0


def test_each_part_lists_what_it_skipped(main: Callable, data: Path, tmp_path: Path) -> None:
    (data / "dark" / "broken.png").write_text("no image")
    left_out = []
    for number in range(2):
        main("extract", "data", *WHAT, "--shard", f"{number}/2", "--on-error", "skip", "--cache", "features")
        left_out += (tmp_path / "features").glob("skipped-data-*-of-2.csv")
    assert len(set(left_out)) == 1
    assert left_out[0].read_text().splitlines()[1].startswith("dark/broken.png,")


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ("8/8", "there is no part 8 of 8: parts are counted from 0, as by Slurm and Kubernetes, and the last --shard"),
        ("0/0", "--shard divides the images into 0 parts"),
        ("3", "argument --shard: '3' is not a part; give its number, counted from 0"),
        ("-1/8", "argument --shard"),
        ("1/8/9", "argument --shard: '1/8/9' is not a part"),
        ("/8", "argument --shard: '/8' is not a part"),
        ("1" * 5000 + "/8", "argument --shard: '1111"),
        ("0/" + "9" * 30, "--shard divides the images into 9999"),
    ],
)
def test_a_wrong_part_is_one_line(mistake: Callable, data: Path, shard: str, message: str) -> None:
    assert message in mistake("extract", "data", *WHAT, "--shard", shard)


def test_parts_in_int8_need_a_net_that_is_quantised_already(mistake: Callable, data: Path) -> None:
    said = mistake("extract", "data", *WHAT, "--precision", "int8", "--shard", "0/2")
    assert said.startswith("each --shard would quantise a net of its own for int8")


@pytest.mark.slow
def test_processes_at_once_compute_what_one_does(main: Callable, data: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "cli", "extract", "data", *WHAT, "--cache", "parts", "--shard"]
    started = [subprocess.Popen([*command, f"{number}/3"], cwd=tmp_path, env=environment) for number in range(3)]
    assert [process.wait(timeout=120) for process in started] == [0, 0, 0]
    main("extract", "data", *WHAT, "--cache", "alone")
    assert_same(rows_of(tmp_path / "parts"), rows_of(tmp_path / "alone"))


@pytest.fixture
def path_with_layertap(tmp_path: Path) -> str:
    """A search path on which ``layertap`` is this checkout, and writes down its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "layertap"
    program.write_text(f'#!/bin/sh\necho "$@" >>commands\nexec {shlex.quote(sys.executable)} -P -m cli "$@"\n')
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def assert_covers_all(commands: list[list[str]], count: int) -> None:
    """Each part of `count` is computed by one of the command lines, all of which are accepted."""
    shards = [parser().parse_args(words).shard for words in commands]
    assert sorted(shards) == [(number, count) for number in range(count)]


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_the_slurm_script_computes_a_part_by_the_number_of_its_task(
    data: Path, tmp_path: Path, path_with_layertap: str
) -> None:
    script = CLUSTER / "slurm_array.sh"
    assert subprocess.run(["bash", "-n", script], check=True).returncode == 0
    first, last = map(int, re.findall(r"^#SBATCH --array=(\d+)-(\d+)$", script.read_text(), re.MULTILINE)[0])
    stub = (tmp_path / "bin" / "layertap").read_text().replace("exec ", "exit; exec ")
    (tmp_path / "bin" / "layertap").write_text(stub)
    for number in range(first, last + 1):
        environment = {**os.environ, "PATH": path_with_layertap, "SLURM_ARRAY_TASK_ID": str(number), "DATA": "data"}
        subprocess.run(["bash", script], cwd=tmp_path, env=environment, check=True)
    assert_covers_all([line.split() for line in (tmp_path / "commands").read_text().splitlines()], last + 1)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_a_task_of_the_slurm_script_fills_the_cache(data: Path, tmp_path: Path, path_with_layertap: str) -> None:
    environment = {**os.environ, "PATH": path_with_layertap, "PYTHONPATH": str(ROOT)}
    environment |= {"SLURM_ARRAY_TASK_ID": "3", "DATA": "data", "NET": "glyphnet"}
    environment.pop("LAYERTAP_CACHE", None)
    done = subprocess.run(
        ["bash", CLUSTER / "slurm_array.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Part 3 of 8 (the last is 7): ")
    assert (tmp_path / "features").is_dir()


def test_the_kubernetes_job_computes_each_part_in_a_pod(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    job: Any = yaml.safe_load((CLUSTER / "kubernetes_job.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["parallelism"] <= spec["completions"]
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] in ("Never", "OnFailure")  # what a job may have
    (container,) = pod["containers"]
    assert container["command"] == ["sh", "-c"]
    (line,) = container["args"]
    commands = [
        shlex.split(line.replace("$JOB_COMPLETION_INDEX", str(index)))[2:] for index in range(spec["completions"])
    ]
    assert_covers_all(commands, spec["completions"])
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
    (cache,) = [one["value"] for one in container["env"] if one["name"] == "LAYERTAP_CACHE"]
    assert any(Path(cache).is_relative_to(path) for path in mounts.values())  # all pods write to the volume
    assert container["workingDir"] in mounts.values()


def test_the_ray_cluster_is_one_that_ray_takes_and_its_command_is_one() -> None:
    util = pytest.importorskip("ray.autoscaler._private.util", reason="needs Ray")
    yaml = pytest.importorskip("yaml")
    text = (CLUSTER / "ray_cluster.yaml").read_text()
    util.validate_config(util.prepare_config(yaml.safe_load(text)))
    (command,) = re.findall(r"ray exec ray_cluster\.yaml '(?:.*&& )layertap (.*)'", text)
    assert parser().parse_args(shlex.split(command)).ray == "auto"
