"""Names of parameters in messages, as the flags of the command that is running.

Library code names a parameter in backticks, with a value if it proposes one: ``choose another `out` ``, ``pass
`on_error='skip'` ``. Users of the command line read ``choose another --out`` and ``pass --on-error skip`` instead.
"""

from __future__ import annotations

import argparse
import re

# Parameters of Python functions that the command line calls by another name.
OTHER_NAMES = {"layers": "layer", "pooling": "pool", "value_range": "range", "nets": "net", "augmentation": "augment"}
_PARAMETER = re.compile(r"`(\w+)(?:=([^`]*))?`")
# The function that sets damaged segments aside, for which the command line has a command.
_REPAIR = re.compile(r"`feature_cache\.maintenance\.verify\.repair\((['\"])(.*?)\1\)`")
_flags: dict[str, str] = {}


def use(parser: argparse.ArgumentParser) -> None:
    """Let messages name the options of `parser` from now on.

    Parameters
    ----------
    parser : ArgumentParser
        Of the command that is running.
    """
    _flags.clear()
    for action in parser._actions:
        if action.option_strings:
            _flags.setdefault(action.dest, action.option_strings[-1])


def mention(flag: str) -> None:
    """Let messages name an option that the running command lacks, and the next one has.

    Parameters
    ----------
    flag : str
        As it is typed: ``--preprocessing``.
    """
    _flags.setdefault(flag.lstrip("-").replace("-", "_"), flag)


def with_flags(message: str) -> str:
    """The message with a flag in place of each parameter that the running command has an option for.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> _ = parser.add_argument("--on-error"), parser.add_argument("--overwrite", action="store_true")
    >>> use(parser)
    >>> with_flags("pass `on_error='skip'`, or `overwrite=True`, not `other`.")
    'pass --on-error skip, or --overwrite, not `other`.'
    """
    message = _REPAIR.sub(r"layertap cache verify --repair --cache \2", message)
    return _PARAMETER.sub(_flag, message)


def _flag(match: re.Match[str]) -> str:
    name, value = match[1], match[2]
    if value == "False":
        return _flags.get(f"no_{name}", match[0])
    flag = _flags.get(name) or _flags.get(OTHER_NAMES.get(name, ""))
    if flag is None:
        return match[0]
    if value in (None, "True"):
        return flag
    text = value.strip("'\"")
    if text.startswith("("):  # a range: the command line has no brackets
        text = text.strip("()").replace(" ", "")
    return f"{flag}={text}" if text.startswith("-") else f"{flag} {text}"
