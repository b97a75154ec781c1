"""`layertap ramp`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from layertap.commands.ramp import kit, test


def add(commands: argparse._SubParsersAction[Any], adding: Callable[..., argparse.ArgumentParser]) -> None:
    text = "make RAMP kits and submissions, and test them"
    ramp = commands.add_parser("ramp", help=text, description=f"{text[0].upper()}{text[1:]}.")
    inner = ramp.add_subparsers(title="commands", metavar="COMMAND", required=True)
    kit.add(inner, adding)
    test.add(inner, adding)
