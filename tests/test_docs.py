"""The pages of the documentation are true: their commands, options, links and programs."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import layertap
from feature_cache import errors
from layertap.commands.arguments.commands import parser as command_parser

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
SETUP = 'layertap() { "$PYTHON" -P -m cli "$@"; }\n'  # as the installed program, but from this checkout


def blocks(page: str, language: str) -> list[str]:
    """The blocks of code of a page in one language."""
    return [text for name, text in BLOCK.findall(page) if name == language]


def commands_of(page: str) -> Iterator[list[str]]:
    """The words of each command line of a page that runs `layertap`, without ``layertap`` and without redirections."""
    text = "\n".join(blocks(page, "bash") + blocks(page, ""))
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.partition(" > ")[0], comments=True)
        if words[:1] == ["layertap"]:
            yield words[1:]


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of all commands that can be run."""
    nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not nested:
        yield parser
    for action in nested:
        for inner in action.choices.values():
            yield from leaves(inner)


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """The long options of one command, without its two helps."""
    return {option for option in parser._option_string_actions if option.startswith("--")} - {"--help", "--help-all"}


@pytest.fixture(scope="module")
def hooks() -> Any:
    """The module that MkDocs loads by its path."""
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    assert spec is not None and spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    return hooks


@pytest.fixture(scope="module")
def reference(hooks: Any) -> str:
    """The command reference of the site, as Markdown."""
    return str(hooks.on_page_markdown((DOCS / "reference" / "commands.md").read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_are_accepted(page: Path) -> None:
    assert_accepted(page.read_text(encoding="utf-8"))


def assert_accepted(page: str) -> int:
    """The number of commands on a page, all of which the parser takes."""
    commands = list(commands_of(page))
    for words in commands:
        try:
            command_parser().parse_args(words)
        except SystemExit as stopped:
            assert stopped.code == 0, f"layertap {shlex.join(words)}"
    return len(commands)


def test_many_commands_are_shown() -> None:
    assert sum(1 for page in PAGES for _ in commands_of(page.read_text(encoding="utf-8"))) > 40


def test_the_options_that_pages_name_exist() -> None:
    known = {option for parser in leaves(command_parser()) for option in options_of(parser)} | {
        "--help",
        "--help-all",
        "--version",
    }
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        text = re.sub(r"ramp-test [^`\n]*", "", text)  # another program
        for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)):
            assert option in known, f"{page.relative_to(ROOT)}: {option}"


def test_the_reference_has_every_option_of_every_command(reference: str) -> None:
    sections = {part.split(" {", 1)[0]: part for part in re.split(r"^## ", reference, flags=re.MULTILINE)[1:]}
    parsers = {parser.prog.removeprefix("layertap "): parser for parser in leaves(command_parser())}
    assert list(sections) == list(parsers)
    for name, parser in parsers.items():
        named = set(re.findall(r"`(--[a-z-]+)", sections[name]))
        assert options_of(parser) <= named, name


def test_a_page_that_loads_files_from_the_network_is_warned_of(caplog: pytest.LogCaptureFixture, hooks: Any) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="index.md"))
    fine = '<a href="https://keras.io"><img src="assets/a.png"><script src="../assets/b.js"></script>'
    hooks.on_post_page(fine, page)
    assert caplog.messages == []
    for source in ('<script src="https://x.org/a.js">', '<link rel="stylesheet" href="https://x.org/a.css">'):
        hooks.on_post_page(fine + source, page)
    assert caplog.messages == ["index.md loads https://x.org/a.js", "index.md loads https://x.org/a.css"]


def test_the_examples_of_the_reference_are_accepted(reference: str) -> None:
    assert assert_accepted(reference) > 10


def test_the_python_reference_has_every_public_name() -> None:
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    named = re.findall(r"^::: layertap\.(\w+)$", page, re.MULTILINE)
    assert sorted(named) == sorted(set(layertap.__all__) - {"__version__"})


def test_the_python_reference_has_every_error() -> None:
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    (members,) = re.findall(r"members: \[(.*?)\]", page, re.DOTALL)
    known = [
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    ]
    assert re.split(r",\s+", members) == [name for name in known if name != "LayertapError"]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_the_files_that_a_page_links_to_exist(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), target


def run_blocks(page: str, folder: Path, language: str = "bash") -> str:
    """Run all blocks of a page, in one shell or one program, in `folder`; what they print."""
    text = "\n".join(blocks((DOCS / page).read_text(encoding="utf-8"), language))
    command = [sys.executable, "-c", text] if language == "python" else ["bash", "-euc", SETUP + text]
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_tutorials_run_as_they_are(tmp_path: Path) -> None:
    run_blocks("tutorials/first-features.md", tmp_path, "python")
    assert len(list(tmp_path.glob("photos/*/*.png"))) == 595
    run_blocks("tutorials/first-features.md", tmp_path)
    predicted = [line.split(",")[1] for line in (tmp_path / "predictions.csv").read_text().splitlines()[1:]]
    assert predicted == ["0", "1", "2", "3", "4"]
    for name in ("report/report.html", "runs/first/report.html", "sweep/sweep.csv", "model.keras.json"):
        assert (tmp_path / name).is_file(), name

    run_blocks("tutorials/fine-tuning.md", tmp_path)
    tuned = [line.split(",")[1] for line in (tmp_path / "predictions-tuned.csv").read_text().splitlines()[1:]]
    assert tuned == predicted


@pytest.mark.slow
def test_the_tutorial_of_ramp_runs_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("rampwf")
    run_blocks("tutorials/first-features.md", tmp_path, "python")
    run_blocks("tutorials/ramp.md", tmp_path)
    ranked = [line.split(",")[1] for line in (tmp_path / "kit" / "leaderboard.csv").read_text().splitlines()[1:]]
    assert sorted(ranked) == ["logistic", "readout"]


@pytest.mark.slow
def test_the_python_of_the_tutorial_runs_as_it_is(tmp_path: Path) -> None:
    run_blocks("tutorials/python.md", tmp_path, "python")
