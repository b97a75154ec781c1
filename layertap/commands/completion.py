"""`layertap completion`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import shtab

from layertap.commands.arguments.commands import parser

# What stands for a file or a folder in help is completed by the names of files or folders.
FILES = ("DATA", "DATA2", "FILE", "IMAGE", "NET", "W")
FOLDERS = ("DIR", "KIT", "OTHER", "OUT", "RUN")


def completion(args: argparse.Namespace) -> None:
    """Print a script that completes commands and options in a shell."""
    top = parser()
    for action in _actions(top):
        if action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(top, args.shell))


def _actions(command: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every argument of a command and of the commands below it."""
    for action in command._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)
