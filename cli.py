"""The command line: it parses the arguments and calls a command of `layertap.commands`. It imports nothing heavy."""

from __future__ import annotations

# Before all else: a signal during the other imports ends the program in one line.
from layertap.commands.terminal import signals

# isort: split
import importlib
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from feature_cache.errors import InvalidChoice, LayertapError, Unsent
from feature_cache.files.urls import require_path
from feature_cache.process.keras_import import missing_backend
from feature_cache.process.sklearn_import import light_imports
from feature_cache.process.trusted import trust
from layertap import flags
from layertap.commands.arguments import commands
from layertap.commands.terminal import colours, streams

WRITTEN = ("out", "csv", "page", "parquet", "heat_maps")  # options that name what a command writes


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 2 for a mistake that the user can mend, 1 for a failure."""
    stderr = streams.prepare()
    with signals.raised() as received:
        try:
            status = _run(argv)
            sys.stdout.flush()
        except SystemExit:  # of the parser: help, or a mistake
            if not (status := _flush()):
                raise
        except BaseException as error:
            status = _explained(error, received.number)
    streams.abandon_stdout()
    return status or int(stderr is not None and stderr.lost)


def _run(argv: Sequence[str] | None) -> int:
    words = _joined(sys.argv[1:] if argv is None else argv)
    if not words:
        print(commands.MAIN_PATH)
        return 0
    args, unknown = commands.parser().parse_known_args(words)
    args.words, args.call = words, _run
    args.has_process = argv is None  # it may choose how packages are imported: nothing follows
    if unknown:
        args.parser.refuse_unknown(unknown)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    for library in ("PIL", "tifffile"):  # our own messages say what is wrong with an image
        logging.getLogger(library).setLevel(logging.CRITICAL)
    if not sys.warnoptions:  # libraries warn of what is not the user's to mend; python -W default shows it
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", Unsent)
        warnings.showwarning = _show
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name need not be text
            stream.reconfigure(errors="backslashreplace")
    flags.use(args.parser)
    for name in WRITTEN:
        if isinstance(value := getattr(args, name, None), str):
            require_path(value, f"--{name.replace('_', '-')}")
    if str(getattr(args, "cache", None)).startswith("memory:"):
        raise InvalidChoice("a cache in memory ends with this command; let --cache be a folder or a bucket.")
    if getattr(args, "trust", None):
        trust(args.trust)
    module, function = args.command.split(":")
    with light_imports():
        return getattr(importlib.import_module(module), function)(args) or 0


def _show(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"{colours.styled('warning:', 'warning', sys.stderr)} {flags.with_flags(str(message))}", file=sys.stderr)


def _joined(words: Sequence[str]) -> list[str]:
    """The arguments, with ``--range -1,1`` as ``--range=-1,1``: the parser takes what begins with - for an option."""
    out: list[str] = []
    for word in words:
        if out and re.fullmatch(r"--[a-z-]+", out[-1]) and re.fullmatch(r"-[\d.][^,]*,.*", word):
            out[-1] += f"={word}"
        else:
            out.append(word)
    return out


def _explained(error: BaseException, number: int | None) -> int:
    """Say in a line what ended a command, an error or the signal `number`; the exit status."""
    if number is not None or isinstance(error, KeyboardInterrupt):
        number = signals.INTERRUPTED if number is None else number
        return _fail(signals.message(number), 128 + number)
    error = missing_backend(error) or error
    if isinstance(error, LayertapError):
        return _fail(str(error), error.exit_code)
    if isinstance(error, BrokenPipeError):  # whoever read our output, head for instance, has gone
        return 0
    if isinstance(error, MemoryError):
        return _fail("there is not enough memory; take fewer images, or features of a smaller layer.", 1)
    if isinstance(error, OSError):
        return _fail(f"{error.filename or 'the output'}: {error.strerror or error}.", 1)
    raise error


def _flush() -> int:
    """Write what stdout holds; the exit status for that."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return _explained(error, None)
    return 0


def _fail(message: str, status: int) -> int:
    name = colours.styled("layertap:", "error", sys.stderr)
    print(f"{name} {' '.join(flags.with_flags(message).split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
