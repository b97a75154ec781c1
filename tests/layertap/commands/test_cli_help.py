"""Help of every command, and the version."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layertap.commands.arguments import commands
from layertap.commands.arguments.parser import Parser

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
    "run",
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


def test_layertap_alone_shows_the_commands_of_the_main_path(main: Callable) -> None:
    outcome = main()
    assert (outcome.status, outcome.stderr) == (0, "")
    assert re.findall(r"^layertap (\S+)", outcome.stdout, re.MULTILINE) == ["extract", "train-head", "predict"]


@pytest.mark.parametrize("columns", ["80", "100"])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_of_every_command_fits_60_lines(
    command: str, columns: str, main: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert len(main(*command.split(), "--help").stdout.splitlines()) <= 60


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


LONG = ("explore", "extract", "train-head", "fine-tune", "sweep", "evaluate", "predict", "export")


@pytest.mark.parametrize("command", LONG)
def test_help_fits_a_screen_and_help_all_has_every_option(
    command: str, main: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    short, full = main(command, "--help").stdout, main(command, "--help-all").stdout
    assert len(short.splitlines()) <= 45
    assert "examples:\n  # " in short
    hidden = re.search(rf"^(\d+) more options: layertap {command} --help-all$", short, re.MULTILINE)
    assert hidden

    def options(text: str) -> set[str]:
        return set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", text, re.MULTILINE))

    assert options(short) < options(full)
    assert len(options(full)) - len(options(short)) == int(hidden[1])


def test_the_examples_of_help_are_commands_that_can_be_parsed() -> None:
    top = commands.parser()
    examples = [example for parser in _parsers(top) for example, _ in parser.examples]
    assert len(examples) >= 15
    for example in examples:
        top.parse_args(shlex.split(example.partition(">")[0]))


def _parsers(parser: Parser) -> Iterator[Parser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _parsers(sub)


def test_an_unknown_option_names_the_help_of_its_command(main: Callable) -> None:
    outcome = main("train-head", "digits", "--out", "run", "--overwrit3")
    assert outcome.status == 2
    assert outcome.stderr == (
        "layertap: unrecognized arguments: --overwrit3; did you mean --overwrite? see layertap train-head --help\n"
    )
    assert main("cache", "list", "--fast").stderr.endswith("see layertap cache list --help\n")


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_a_shell_completes_commands_and_options(main: Callable, tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(main("completion", "bash").stdout)

    def completed(*words: str) -> set[str]:
        script = (
            "source ./completion; COMP_WORDS=(layertap " + " ".join(f"'{word}'" for word in words) + "); "
            f"COMP_CWORD={len(words)}; COMPREPLY=(); $(complete -p layertap | sed 's/.*-F \\([^ ]*\\).*/\\1/'); "
            'echo "${COMPREPLY[@]}"'
        )
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    assert {"extract", "explore", "export"} == completed("ex")
    assert "--weights" in completed("extract", "digits", "--we")
    assert {"crop"} == completed("extract", "digits", "--fit", "cr")


def test_version_is_one_line(main: Callable) -> None:
    outcome = main("--version")
    assert outcome.status == 0
    assert re.fullmatch(r"layertap (\d+\.\d+\.\d+\S*|unknown)\n", outcome.stdout)
