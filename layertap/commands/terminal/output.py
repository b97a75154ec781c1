"""What commands print: tables, sizes, lists of skipped images."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from feature_cache.errors import InvalidChoice, StorageFailure, printable
from feature_cache.files.atomic import replacement
from feature_cache.files.checked import real_path
from layertap.commands.terminal.colours import styled
from layertap.flags import with_flags
from layertap.units import size_text as size_text
from layertap.units import time_text as time_text

MOST_NOTES = 20  # lines of notes that a command prints
SENTENCES = ("reason", "refused", "remarks", "notes", "message")  # keys of JSON output whose texts may name parameters
READER_SECONDS = 10.0  # that a program may take to open the named pipe that is written to


def print_json(content: dict[str, Any], stream: IO[str] | None = None) -> None:
    print(json.dumps(_named_as_flags(content), indent=2), file=stream)


def _named_as_flags(value: Any, key: str = "") -> Any:
    """`value` with the flags of the command in those texts that are sentences of ours, by the key that they are at."""
    if isinstance(value, dict):
        return {name: _named_as_flags(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_named_as_flags(item, key) for item in value]
    return with_flags(value) if isinstance(value, str) and key in SENTENCES else value


def print_table(head: Sequence[str], rows: Sequence[Sequence[Any]], left: Sequence[int] = (0,)) -> None:
    """Print aligned columns; those numbered in `left` to the left, the others to the right."""
    lines = [[printable(str(cell)) for cell in row] for row in rows]
    if any(head):
        lines.insert(0, list(head))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for position, line in enumerate(lines):
        cells = [
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text = "  ".join(cells).rstrip()
        print(styled(text, "heading", sys.stdout) if any(head) and not position else text)


def print_next(*commands: str) -> None:
    """Print the commands that people run next, ready to be copied."""
    print(f"Next: {', or '.join(styled(command, 'command', sys.stdout) for command in commands)}")


def counted(images: int) -> str:
    """``1 image``, or ``1,234 images``."""
    return f"{images:,} image{'s' * (images != 1)}"


def shape_text(shape: Sequence[int | None]) -> str:
    return " x ".join("any" if side is None else str(side) for side in shape) or "-"


@contextlib.contextmanager
def output(file: str | None) -> Iterator[IO[str]]:
    """A text file to write, which appears whole or not at all; stdout for None."""
    if file is None:
        yield sys.stdout
        return
    path = real_path(Path(file))  # a link keeps pointing where it does
    if path.is_symlink():
        raise InvalidChoice(f"{file} is a link that leads in a circle; choose another file with --out.")
    try:
        if path.exists() and not path.is_file():  # a pipe or a device is written as it is
            with open(_writer(path), "w", newline="", encoding="utf-8", errors="backslashreplace") as stream:  # noqa: PTH123
                yield stream
            return
        with (
            replacement(path) as temporary,
            temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream,
        ):
            yield stream
    except OSError as error:
        raise StorageFailure(f"cannot write {path}: {error.strerror}.") from error


def _writer(path: Path) -> int:
    """A file descriptor of a pipe or a device; a pipe that nothing reads is given up after `READER_SECONDS`."""
    end = time.monotonic() + READER_SECONDS
    while True:
        try:
            handle = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
            break
        except OSError as error:
            if error.errno != errno.ENXIO or not path.is_fifo():
                raise
            if time.monotonic() > end:
                raise OSError(errno.ENXIO, "nothing reads this pipe") from error
            time.sleep(0.05)
    os.set_blocking(handle, True)
    return handle


def write_skipped(file: Path, skipped: Sequence[Any]) -> None:
    """Write ids and reasons of the images left out as a CSV; where there are none, no file is left from before."""
    with contextlib.suppress(OSError):
        file.unlink()
    if skipped:
        file.parent.mkdir(parents=True, exist_ok=True)
        with output(str(file)) as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["id", "reason"])
            writer.writerows((problem.id, with_flags(problem.reason)) for problem in skipped)


def print_skipped(skipped: Sequence[Any], file: Path | None) -> None:
    """Name the first images left out, on stderr."""
    if skipped:
        kept = f"; the list is in {file}" if file else ""
        print(f"left out {len(skipped)} unreadable image{'s' * (len(skipped) > 1)}{kept}:", file=sys.stderr)
        for problem in skipped[:5]:
            print(f"  {problem.id}: {with_flags(problem.reason)}", file=sys.stderr)


def print_notes(notes: Sequence[str]) -> None:
    """Say on stderr what was guessed, passed over, or read otherwise than its owner may mean."""
    for note in notes[:MOST_NOTES]:
        print(f"{styled('note:', 'note', sys.stderr)} {with_flags(note)}", file=sys.stderr)
    if len(notes) > MOST_NOTES:
        print(
            f"{styled('note:', 'note', sys.stderr)} {len(notes) - MOST_NOTES} more remarks like these are left out.",
            file=sys.stderr,
        )
