"""Signals that end a command: one line on stderr and the status that shells expect, whatever was going on.

This is imported before all else, and imports little: a signal that comes while the rest is imported is answered here.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer, current_thread, main_thread
from typing import Any, NoReturn

# What is sent when somebody wants an end: by people, by the system, and by a terminal that goes away.
NUMBERS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
INTERRUPTED = int(signal.SIGINT)
_AGAIN_SECONDS = 0.1


class Stopped(BaseException):
    """SIGTERM or SIGHUP has come: all is left in order, as at Ctrl-C."""


class Received:
    """The number of the signal that has come, if one has."""

    number: int | None = None


def message(number: int) -> str:
    """The message for a command that this signal has ended."""
    cause = "interrupted" if number == signal.SIGINT else "stopped as asked"
    return f"{cause}; what was computed is kept."


@contextmanager
def raised() -> Iterator[Received]:
    """Raise KeyboardInterrupt or `Stopped` where a signal of `NUMBERS` comes; a second one of a kind ends at once.

    What is ignored (``nohup``, jobs in the background) stays ignored.
    """
    received = Received()
    if current_thread() is not main_thread():
        yield received
        return

    def end(number: int, frame: Any) -> NoReturn:
        received.number = number
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        raise KeyboardInterrupt if number == signal.SIGINT else Stopped

    def raise_later(unraisable: Any) -> None:
        """Send the signal again where it was raised in code whose exceptions Python drops, such as ``__del__``."""
        if received.number is None or not issubclass(unraisable.exc_type, KeyboardInterrupt | Stopped):
            hook(unraisable)
            return
        signal.signal(received.number, end)
        again = Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), received.number))
        again.daemon = True
        again.start()

    known = {number: signal.getsignal(number) for number in NUMBERS}
    before = {number: handler for number, handler in known.items() if handler not in (signal.SIG_IGN, None)}
    hook, sys.unraisablehook = sys.unraisablehook, raise_later
    for number in before:
        signal.signal(number, end)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook


def _is_program() -> bool:
    """Whether this process is the command line, and not a program that imports a part of it."""
    program = sys.modules.get("__main__")
    if getattr(getattr(program, "__spec__", None), "name", None) == "cli":
        return True
    return os.path.basename(getattr(program, "__file__", None) or "") in ("layertap", "cli.py")  # noqa: PTH119


def _end_early(number: int, frame: Any) -> NoReturn:
    try:
        os.write(2, f"layertap: {message(number).partition(';')[0]}.\n".encode())
    finally:
        os._exit(128 + number)


if _is_program():
    for _number in NUMBERS:
        if signal.getsignal(_number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(_number, _end_early)
