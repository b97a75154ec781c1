"""The parser of a command: help that fits a screen, help of every option, and mistakes in one line."""

from __future__ import annotations

import argparse
import difflib
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from feature_cache.errors import InvalidChoice
from layertap.commands.terminal.colours import styled

WIDEST = 100  # columns of help, also on wider terminals


class Parser(argparse.ArgumentParser):
    """A parser with two helps, whose errors are one line like all others.

    Attributes
    ----------
    everyday : sequence of str
        Names of the options that ``--help`` shows besides required ones, in this order. ``--help-all`` shows all of
        them. Empty for a command of few options, all of which are shown.
    raises : bool
        Whether a mistake raises InvalidChoice, instead of ending the program.
    examples : sequence of (str, str)
        Command lines without ``layertap``, and what each does.
    next_step : str
        What people do after this command.
    """

    everyday: Sequence[str] = ()
    raises: bool = False
    examples: Sequence[tuple[str, str]] = ()
    next_step: str = ""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": _Formatter, **options})

    def format_help(self) -> str:
        return self._short_help() if self.everyday else self.format_full_help()

    def format_full_help(self) -> str:
        """The help with every option."""
        return super().format_help() + self._after(0)

    def _short_help(self) -> str:
        """The help with the options of every day, without groups."""
        names = ["help", *self.everyday]
        named = {action.dest: action for action in self._actions if action.option_strings}
        required = [action for action in named.values() if action.required and action.dest not in names]
        options = [named["help"], *required, *(named[name] for name in self.everyday)]
        formatter = self._get_formatter()
        formatter.add_usage(self._short_usage(), self._actions, [])
        formatter.add_text(self.description)
        for actions in ([action for action in self._actions if not action.option_strings], options):
            formatter.start_section("options" if actions is options else "arguments")
            formatter.add_arguments(actions)
            formatter.end_section()
        return formatter.format_help() + self._after(len(named) - len(options))

    def _short_usage(self) -> str:
        """The program, its required options and its positional arguments; the other options as one word."""
        formatter = self._get_formatter()
        words = [self.prog.replace("%", "%%")]
        for action in sorted(self._actions, key=lambda action: bool(action.option_strings)):
            if not action.option_strings:
                words.append(formatter._format_args(action, str(action.metavar or action.dest)))
            elif action.required:
                words.append(f"{action.option_strings[-1]} {action.metavar or action.dest.upper()}")
        return " ".join([*words, "[OPTIONS]"])

    def _after(self, hidden: int) -> str:
        """Examples, the next step, and how to see the options that are hidden."""
        lines = [f"  # {text}\n  layertap {command}" for command, text in self.examples]
        out = "\nexamples:\n" + "\n".join(lines) + "\n" if lines else ""
        if self.next_step:
            out += f"\nnext: {self.next_step}\n"
        if hidden:
            out += f"\n{hidden} more options: {self.prog} --help-all\n"
        return out

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print, and let what is lost be an error; argparse passes over it."""
        (file or sys.stderr).write(message)

    def error(self, message: str) -> NoReturn:
        if self.raises:
            raise InvalidChoice(message)
        name = styled("layertap:", "error", sys.stderr)
        self.exit(2, f"{name} {message}{'' if message.endswith('?') else ';'} see {self.prog} --help\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a value that is none of the choices, and say which one may be meant."""
        choices = [str(choice) for choice in action.choices or ()]
        alike = difflib.get_close_matches(str(value), choices, 1)
        if alike and value not in (action.choices or ()):
            if isinstance(action, argparse._SubParsersAction):
                raise argparse.ArgumentError(None, f"there is no command {value!r}; did you mean {alike[0]}?")
            text = f"invalid choice: {value!r} (choose from {', '.join(map(repr, choices))}); did you mean {alike[0]}?"
            raise argparse.ArgumentError(action, text)
        super()._check_value(action, value)

    def refuse_unknown(self, words: Sequence[str]) -> NoReturn:
        """Say which words of a command line are no arguments of this command, and which option may be meant."""
        options = [option for action in self._actions for option in action.option_strings]
        unknown = next((word for word in words if word.startswith("-")), words[0])
        alike = difflib.get_close_matches(unknown.partition("=")[0], options, 1, 0.75)
        hint = f"; did you mean {alike[0]}?" if alike else ""
        self.error(f"unrecognized arguments: {' '.join(words)}{hint}")


class _Formatter(argparse.HelpFormatter):
    """Help in as many columns as the terminal has, up to `WIDEST`."""

    def __init__(self, prog: str) -> None:
        columns = min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST)
        super().__init__(prog, max_help_position=26, width=max(40, columns - 2))


class _FullHelp(argparse.Action):
    """Print the help with every option, and stop."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        assert isinstance(parser, Parser)
        parser._print_message(parser.format_full_help(), sys.stdout)
        parser.exit()


def add_command(
    subparsers: argparse._SubParsersAction[Parser],
    name: str,
    function: str,
    summary: str,
    *arguments: Callable[[argparse.ArgumentParser], object],
    everyday: str = "",
    examples: Sequence[tuple[str, str]] = (),
    next_step: str = "",
    json: bool = True,
) -> Parser:
    """Add a command.

    Parameters
    ----------
    function : str
        What runs it, as ``module:function``; it is imported when it runs.
    summary : str
        What it does, in a line that begins with a verb.
    *arguments : callable
        Each adds some of its arguments to the parser.
    everyday : str
        Names of the options that ``--help`` shows, separated by spaces (see `Parser`).
    json : bool
        Whether it can report in JSON.
    """
    sub = subparsers.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    sub.set_defaults(command=function, parser=sub)
    sub.everyday, sub.examples, sub.next_step = everyday.split(), examples, next_step
    for add in arguments:
        add(sub)
    if json:
        sub.add_argument("--json", action="store_true", help="print one JSON object on stdout, and nothing else there")
    text = "show every option and exit" if sub.everyday else argparse.SUPPRESS  # where --help shows every option, too
    sub.add_argument("--help-all", action=_FullHelp, nargs=0, default=argparse.SUPPRESS, help=text)
    return sub
