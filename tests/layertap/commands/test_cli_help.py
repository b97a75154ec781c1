"""Help of every command, and the version."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

CACHE = ("list", "info", "verify", "compact", "prune", "view", "export", "merge", "shrink")
COMMANDS = (
    "nets",
    "layers",
    "explore",
    "extract",
    "train-head",
    "fine-tune",
    "sweep",
    "evaluate",
    "predict",
    "export",
    "cache",
    *(f"cache {n}" for n in CACHE),
    "ramp",
    "ramp kit",
    "ramp init",
)


def test_help_lists_every_command(layertap: Callable, tmp_path: Path) -> None:
    done = layertap("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    for command in COMMANDS:
        assert re.search(rf"^ +{command.split()[0]}\b", done.stdout, re.MULTILINE), command


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_exits_well_and_names_it(command: str, main: Callable) -> None:
    outcome = main(*command.split(), "--help")
    assert outcome.status == 0
    assert outcome.stdout.startswith(f"usage: layertap {command}")
    assert outcome.stderr == ""


def test_every_command_that_reports_takes_json(main: Callable) -> None:
    for command in COMMANDS:
        if command not in ("cache", "ramp"):
            assert "--json" in main(*command.split(), "--help").stdout


def test_version_is_one_line(main: Callable) -> None:
    outcome = main("--version")
    assert outcome.status == 0
    assert re.fullmatch(r"layertap (\d+\.\d+\.\d+\S*|unknown)\n", outcome.stdout)
