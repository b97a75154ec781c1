"""Colours in terminals, and there alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from terminals import on_a_terminal

MISTAKE = ("-m", "cli", "layers", "vgg61")
RED = "\033[1;31mlayertap:\033[0m there is no net 'vgg61'; did you mean "


def test_an_error_begins_in_red_on_a_terminal() -> None:
    status, written = on_a_terminal(MISTAKE, 80)
    assert (status, written[: len(RED)]) == (2, RED)
    assert on_a_terminal(("-m", "cli", "layerz"), 80)[1].startswith("\033[1;31mlayertap:\033[0m there is no command")


@pytest.mark.parametrize("plain", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_terminals_that_show_none_get_none(plain: dict[str, str]) -> None:
    assert "\033" not in on_a_terminal(MISTAKE, 80, **plain)[1]


def test_a_table_has_a_bold_heading_on_a_terminal_alone(layertap: Callable, tmp_path: Path) -> None:
    _, written = on_a_terminal(("-m", "cli", "nets"), 200)
    heading, first, *_ = written.splitlines()
    assert heading.startswith("\033[1mnet ")
    assert "\033" not in first
    assert "\033" not in layertap("nets", cwd=tmp_path).stdout


SCORES = """
from layertap.commands.terminal.scores import print_scores
mean = {"mean": 0.99, "std": 0.01}
print_scores([(part, {"accuracy": mean, "nll": mean, "n": 100}) for part in ("train", "valid")])
"""


def test_scores_fit_a_narrow_terminal() -> None:
    wide, narrow = (on_a_terminal(("-c", SCORES), columns, NO_COLOR="1")[1].splitlines() for columns in (80, 44))
    assert [line.split()[0] for line in wide] == ["accuracy", "train", "valid"]
    assert max(map(len, narrow)) <= 44
    assert [line.split()[0] for line in narrow] == ["train", "accuracy", "log-loss", "images"]
