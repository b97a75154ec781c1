"""Messages of the library name parameters; the command line shows the flags of the command that is running."""

from __future__ import annotations

import argparse

import pytest

from layertap.flags import use, with_flags


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--on-error")
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--layer", action="append")
    parser.add_argument("--range")
    use(parser)
    return parser


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("leave out `overwrite`.", "leave out --overwrite."),
        ("pass `overwrite=True`.", "pass --overwrite."),
        ("pass `on_error='skip'`.", "pass --on-error skip."),
        ("name one of `layers`, or `value_range=(-1, 1)`.", "name one of --layer, or --range=-1,1."),
        ("add `value_range=(0, 255)`.", "add --range 0,255."),
        ("`data` is no folder, and `unknown` no option.", "`data` is no folder, and `unknown` no option."),
        ("the file `a b` stays", "the file `a b` stays"),
        (
            "aside with: `feature_cache.maintenance.verify.repair('my cache')`; then",
            "aside with: layertap cache verify --repair --cache my cache; then",
        ),
    ],
)
def test_a_parameter_becomes_the_flag_of_the_command(
    parser: argparse.ArgumentParser, message: str, expected: str
) -> None:
    assert with_flags(message) == expected


def test_flags_are_those_of_the_command_that_is_running(parser: argparse.ArgumentParser) -> None:
    use(argparse.ArgumentParser())
    assert with_flags("pass `overwrite=True`.") == "pass `overwrite=True`."
